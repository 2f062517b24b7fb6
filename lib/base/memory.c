#include "lib/base/memory.h"

#include <math.h>
#include <stdio.h>

double
memory_available(void)
{
    char line[128];
    unsigned long long kib = 0;
    double bytes = (double)INFINITY;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            bytes = 1024.0 * (double)kib;
    if (file)
        fclose(file);
    return bytes;
}

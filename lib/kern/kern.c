#include "lib/kern/kern.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum status
kern_open(const struct kern **out, const char *device, const char *where)
{
    *out = NULL;
    if (!strcmp(device, "auto") || !strcmp(device, "cpu"))
        *out = &kern_cpu;
    else if (!strcmp(device, "ref"))
        *out = &kern_ref;
    else if (!strncmp(device, "cuda", 4) && (device[4] == ':' || device[4] == '\0'))
        return FAIL(CONFIG, "%s: device is '%s', but this program was built without CUDA", where,
                    device);
    else
        return FAIL(CONFIG, "%s: device is '%s', wanted auto, ref, cpu or cuda:N", where, device);
    return STATUS_OK;
}

enum { LINE = 64, HUGE_PAGE = 2 << 20 };

size_t
kern_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && bytes > 0 ? (size_t)pages * (size_t)bytes : SIZE_MAX / 2;
}

void *
kern_take(size_t bytes)
{
    if (bytes > kern_memory()) // it would be granted, and the process killed while clearing it
        return NULL;
    size_t align = bytes >= 2 * (size_t)HUGE_PAGE ? HUGE_PAGE : LINE;
    size_t whole = (bytes + align - 1) / align * align;
    void *at = aligned_alloc(align, whole ? whole : align);
    if (!at)
        return NULL;
    if (align == HUGE_PAGE)
        (void)madvise(at, whole, MADV_HUGEPAGE); // a hint: small pages work too
    memset(at, 0, whole);                        // every page is ours now, not in the first step
    return at;
}

void
kern_give(void *at)
{
    free(at);
}

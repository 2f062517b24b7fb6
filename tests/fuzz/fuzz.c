#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64];

static void
remove_folder(void)
{
    if (path_remove(folder) != STATUS_OK)
        fprintf(stderr, "%s\n", status_words());
}

static void
make_folder(void)
{
    // In memory where there is such a place: it happens thousands of times a second.
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/osae-fuzz-XXXXXX", base);
    if (!mkdtemp(folder) || atexit(remove_folder) != 0)
        abort();
}

const char *
fuzz_file(const char *name, const uint8_t *data, size_t size)
{
    static char path[PATH_BYTES];
    if (!*folder)
        make_folder();
    if (path_join(path, folder, name) != STATUS_OK)
        abort();
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || file_write_all(fd, path, data, size) != STATUS_OK || close(fd) != 0)
        abort();
    return path;
}

void
fuzz_read(const void *at, size_t bytes)
{
    const volatile unsigned char *from = at;
    for (size_t i = 0; i < bytes; i++)
        (void)from[i];
}

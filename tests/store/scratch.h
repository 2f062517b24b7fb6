// scratch: a folder of a test's own, and whole files in one call.
#ifndef TESTS_STORE_SCRATCH_H
#define TESTS_STORE_SCRATCH_H

#include "lib/base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch[PATH_BYTES]; // made by scratch_make, a group setup

static inline int
scratch_make(void **unused)
{
    (void)unused;
    const char *base = getenv("TMPDIR"); // else in memory: thousands of small files
    if (!base || !*base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(scratch, sizeof scratch, "%s/osae-store-XXXXXX", base);
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int
scratch_remove(void **unused)
{
    (void)unused;
    return path_remove(scratch) == STATUS_OK ? 0 : -1;
}

// The path of a file in the folder; four may be in use at once.
static inline const char *
scratch_path(const char *name)
{
    static char paths[4][PATH_BYTES];
    static int turn;
    char *out = paths[turn++ % 4];
    if (path_join(out, scratch, name) != STATUS_OK)
        abort();
    return out;
}

static inline void
file_put(const char *path, const void *at, size_t bytes)
{
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || file_write_all(fd, path, at, bytes) != STATUS_OK || close(fd) != 0)
        abort();
}

// (Not inlined: gcc 12 then takes `text` itself for what it points to.)
__attribute__((noinline, unused)) static char *
file_get(const char *path, size_t *bytes)
{
    char *text;
    if (file_read(&text, bytes, path, (size_t)1 << 30) != STATUS_OK)
        abort();
    return text;
}

#endif

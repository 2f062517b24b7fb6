// folder: a temporary folder for the tests of this folder, and files in it.
#ifndef TESTS_LM_FOLDER_H
#define TESTS_LM_FOLDER_H

#include "lib/base/field.h"
#include "lib/base/file.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

static char folder[] = "/tmp/osae-lm-XXXXXX";

static inline int
make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int
remove_folder(void **state)
{
    (void)state;
    return path_remove(folder) == STATUS_OK ? 0 : -1;
}

// Writes a file (making its folders) and yields its path, good until the next call but seven.
static inline const char *
put_file(const char *name, const char *at, size_t bytes)
{
    static char paths[8][PATH_BYTES];
    static size_t next;
    char *path = paths[next++ % 8], parent[PATH_BYTES];
    snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(path, '/') - path), path);
    FILE *file = path_make(parent, 0700) == STATUS_OK ? fopen(path, "w") : NULL;
    if (!file || fwrite(at, 1, bytes, file) != bytes || fclose(file) != 0)
        abort();
    return path;
}

static inline const char *
put_text(const char *name, const char *text)
{
    return put_file(name, text, strlen(text));
}

// Compressed as `frames` zstd frames of like size.
static inline const char *
put_zstd(const char *name, const char *at, size_t bytes, size_t frames)
{
    size_t room = ZSTD_compressBound(bytes) + frames * 1024, used = 0;
    char *out = malloc(room);
    for (size_t i = 0; i < frames; i++) {
        size_t from = bytes * i / frames, to = bytes * (i + 1) / frames;
        used += ZSTD_compress(out + used, room - used, at + from, to - from, 3);
    }
    const char *path = put_file(name, out, used);
    free(out);
    return path;
}

// A list of paths, ended by NULL.
static inline const struct texts *
paths_of(const char *first, ...)
{
    static struct texts list;
    va_list args;
    va_start(args, first);
    list.count = 0;
    for (const char *path = first; path; path = va_arg(args, const char *))
        snprintf(list.at[list.count++], TEXT_BYTES, "%s", path);
    va_end(args);
    return &list;
}

#endif

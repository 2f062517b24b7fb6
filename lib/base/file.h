// file: reading whole files, mapping them, and replacing them so that a crash leaves the old one or
// the new one. Paths are NUL-terminated; every error names the path.
#ifndef LIB_BASE_FILE_H
#define LIB_BASE_FILE_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATH_BYTES = 4096 };

// "a/b" from parts; fails (CONFIG) when longer than PATH_BYTES - 1.
CHECKED enum status path_join(char out[PATH_BYTES], const char *folder, const char *name);
bool path_is_folder(const char *path);
bool path_exists(const char *path);
// mkdir -p; every folder made gets this mode.
CHECKED enum status path_make(const char *path, unsigned mode);
// Removes a folder and all in it, following no links. Missing is fine.
CHECKED enum status path_remove(const char *path);
// Bytes free for us on the file system that holds the path.
CHECKED enum status path_free_bytes(uint64_t *out, const char *path);

// The whole file, with a NUL behind it that `bytes` does not count. Larger than `most`: DAMAGED.
// The caller frees *out.
CHECKED enum status file_read(char **out, size_t *bytes, const char *path, size_t most);

// A read-only mapping of a whole file. A file cut short afterwards raises SIGBUS: map only what
// nobody writes (models, finished checkpoints).
struct file_map {
    const unsigned char *at;
    size_t bytes;
};
CHECKED enum status file_map_open(struct file_map *map, const char *path);
void file_map_close(struct file_map *map);

// All of it, through short writes and EINTR.
CHECKED enum status file_write_all(int fd, const char *path, const void *at, size_t bytes);
// Temporary in the same folder, write, fsync, rename, fsync of the folder.
CHECKED enum status file_replace(const char *path, const void *at, size_t bytes);
CHECKED enum status file_sync_folder(const char *folder);

#endif

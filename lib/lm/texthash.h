// texthash: what a file contains, as XXH3-128 of its bytes, remembered from start to start.
//
// The memory is CACHE/text-hashes.json: path -> size, times of change, hash. A file is hashed again
// when its size, mtime or ctime differs, and is not remembered while it is so young that it could
// change again within the resolution of its times. A damaged memory is forgotten, not an error.
#ifndef LIB_LM_TEXTHASH_H
#define LIB_LM_TEXTHASH_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"

#include <stddef.h>
#include <stdint.h>

struct texthash; // the memory, open

CHECKED enum status texthash_open(struct texthash **out, const char *cache);
// Writes what is new, if anything is; a failure to write is said, not returned. Frees in any case.
void texthash_close(struct texthash **memory);

// A file as it was looked at: to see later whether somebody changed it meanwhile.
struct texthash_file {
    uint64_t bytes;
    int64_t modified_ns, changed_ns;
    struct hash128 hash;
};
// `watch`, if not NULL, hears of each few megabytes read; a status of its own ends the work.
typedef enum status texthash_watch(void *context, size_t bytes);
CHECKED enum status texthash_of(struct texthash *memory, struct texthash_file *out,
                                const char *path, texthash_watch *watch, void *context);
// DAMAGED when the file is no longer the one that was looked at.
CHECKED enum status texthash_unchanged(const struct texthash_file *file, const char *path);

#endif

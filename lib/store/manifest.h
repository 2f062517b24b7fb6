// manifest: what a checkpoint folder says about itself. manifest.json, written last:
//     {"format":1,"run","step","incarnation","stream","next","chain","trajectory","environment",
//      "created","files":[{"name","bytes","xxh3"}, ...],"sum"}
// Hashes are texts of 16 or 32 hex digits; the whole is one sealed line (sealed.h).
#ifndef LIB_STORE_MANIFEST_H
#define LIB_STORE_MANIFEST_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { CHECKPOINT_FILES_MOST = 16, MANIFEST_BYTES_MOST = 1 << 20 };
#define MANIFEST_NAME "manifest.json"

// Where in the run, and of which run, a checkpoint is.
struct checkpoint_facts {
    uint64_t step;             // optimiser steps done
    struct hash128 stream;     // of the batches
    uint64_t next;             // the first batch not yet applied: the cursor is {stream, next}
    struct hash128 chain;      // over the batches applied
    struct hash128 trajectory; // of the settings that decide the numbers
    // checkpoint_write fills in what follows.
    uint32_t incarnation;
    char run[128];
    char environment[512];
    char created[32]; // 2025-01-31T12:00:00Z, a label
};

struct manifest_file {
    char name[64];
    uint64_t bytes, hash; // XXH3_64
};

struct manifest {
    struct checkpoint_facts facts;
    size_t count;
    struct manifest_file files[CHECKPOINT_FILES_MOST];
};

// The bytes of manifest.json; the caller frees *text. A text that is no UTF-8: CONFIG.
CHECKED enum status manifest_print(char **text, size_t *bytes, const struct manifest *manifest);
// `path` for messages. Every field must be there with its type, file names are plain and unique.
CHECKED enum status manifest_parse(struct manifest *out, const char *text, size_t bytes,
                                   const char *path);
// Of a checkpoint folder. *mh (may be NULL): XXH3_64 of the file's bytes, the name of this very
// checkpoint. Says nothing about the other files: checkpoint_verify does.
CHECKED enum status manifest_read(struct manifest *out, uint64_t *mh, const char *folder);

#endif

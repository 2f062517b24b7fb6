// What the files of weights share; nobody else includes it.
#ifndef LIB_LM_WEIGHTS_INSIDE_H
#define LIB_LM_WEIGHTS_INSIDE_H

#include "lib/lm/weights.h"
#include "lib/store/safetensors.h"

#include <jansson.h>

enum { SHARDS_MOST = 1024 };

struct held { // a tensor in a mapped file; all zero: this architecture has none
    enum dtype dtype;
    size_t rank, shape[2];
    const unsigned char *at;
    size_t bytes;
};

struct shard {
    struct safetensors *file;
    char *name;
};

struct weights {
    struct arch arch;
    char *path;
    const char *prefix;
    struct gguf *gguf; // this, or shards
    struct shard *shard;
    size_t shards;
    json_t *index;     // weight_map, or NULL
    struct held *held; // [layers x ROLE_COUNT]; roles outside the blocks in row 0
};

const struct held *weights_held(const struct weights *weights, enum role role, size_t layer);

#endif

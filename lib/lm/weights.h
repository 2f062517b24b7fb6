// weights: a model's files, opened and checked, as an architecture and tensors by role, in fp32 and
// in one convention, whatever the file's own:
//     matrices [out x in] row-major, y = x W^T       q, k, v apart, head-major, rope in halves
//     a norm is x / rms * w (Gemma's 1 + w is added here)
// Hugging Face folders (config.json with model.safetensors or its sharded index) and GGUF files;
// docs/models.md lists the names and what is undone.
//
// After weights_open every tensor that the graph needs is known to be in the files, whole, with
// its shape and a type that decodes; and there is no tensor that the graph would leave out.
#ifndef LIB_LM_WEIGHTS_H
#define LIB_LM_WEIGHTS_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"
#include "lib/lm/arch.h"

#include <stdbool.h>
#include <stddef.h>

// role, one per block?
#define ROLE_LIST(R)                                                                               \
    R(EMBED, false)                                                                                \
    R(POSITIONS, false)                                                                            \
    R(FINAL_NORM, false)                                                                           \
    R(FINAL_NORM_BIAS, false)                                                                      \
    R(HEAD, false)                                                                                 \
    R(ATTN_NORM, true)                                                                             \
    R(ATTN_NORM_BIAS, true)                                                                        \
    R(Q, true)                                                                                     \
    R(K, true)                                                                                     \
    R(V, true)                                                                                     \
    R(OUT, true)                                                                                   \
    R(Q_BIAS, true)                                                                                \
    R(K_BIAS, true)                                                                                \
    R(V_BIAS, true)                                                                                \
    R(OUT_BIAS, true)                                                                              \
    R(Q_NORM, true)                                                                                \
    R(K_NORM, true)                                                                                \
    R(ATTN_POST_NORM, true)                                                                        \
    R(MLP_NORM, true)                                                                              \
    R(MLP_NORM_BIAS, true)                                                                         \
    R(GATE, true)                                                                                  \
    R(UP, true)                                                                                    \
    R(DOWN, true)                                                                                  \
    R(GATE_BIAS, true)                                                                             \
    R(UP_BIAS, true)                                                                               \
    R(DOWN_BIAS, true)                                                                             \
    R(MLP_POST_NORM, true)

enum role {
#define R(name, per_block) ROLE_##name,
    ROLE_LIST(R)
#undef R
        ROLE_COUNT
};

struct weights;

CHECKED enum status weights_open(struct weights **out, const char *path);
void weights_close(struct weights **weights);
const char *weights_path(const struct weights *weights);
const struct arch *weights_arch(const struct weights *weights);

// Rows and columns of a role (a vector has one column), and whether this architecture has it.
void role_shape(size_t *rows, size_t *columns, const struct arch *arch, enum role role);
bool role_needed(const struct arch *arch, enum role role);

// rows x columns floats. `layer` is 0 for roles outside the blocks. Fails only for want of memory.
CHECKED enum status weights_read(float *out, const struct weights *weights, enum role role,
                                 size_t layer);
// One row [d] of EMBED, POSITIONS or HEAD, decoded from the mapped file: these tables are large.
void weights_row(float *out, const struct weights *weights, enum role role, size_t row);

// XXH3_128 of sizes, switches and every tensor the graph needs, as stored; the split into files and
// their names do not enter. The first time it reads everything; with a `cache` folder (else NULL)
// it is remembered there under the files' paths, sizes and times of change.
CHECKED enum status weights_hash(struct hash128 *out, const struct weights *weights,
                                 const char *cache);

#endif

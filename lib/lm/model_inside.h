// What the files of model share; nobody else includes it.
#ifndef LIB_LM_MODEL_INSIDE_H
#define LIB_LM_MODEL_INSIDE_H

#include "lib/lm/attention.h"
#include "lib/lm/model.h"
#include "lib/lm/weights.h"

// One block's weights. Vectors that an architecture lacks are NULL.
struct block {
    struct gemm_weight *qkv;  // [(H + 2K) D x d]
    struct gemm_weight *out;  // [d x H D]
    struct gemm_weight *up;   // [2F x d], gate above up; [F x d] when the MLP has no gate
    struct gemm_weight *down; // [d x F]
    float *attn_norm, *attn_norm_bias, *attn_post_norm, *mlp_norm, *mlp_norm_bias, *mlp_post_norm;
    float *q_norm, *k_norm, *qkv_bias, *out_bias, *up_bias, *down_bias;
    float *vectors; // what holds them all
};

// What one thread scribbles on.
struct bench {
    float *norm;   // [tile x d]
    float *wide;   // [tile x 2F or F]
    float *sum;    // [tile x d], what a branch adds
    float *heads;  // attention_scratch
    float *path;   // [C or ATTENTION_ROWS x 3D], q, k and v of a context whose rows are scattered
    void *product; // gemm_weight_scratch
};

// Where the rows of a context are that begins as the one before it: positions up to `shared` are
// where that one has them, the others are rows `row`, row + 1, ...
struct beginning {
    uint32_t shared, row;
};

// The head is cut into weights of so many rows of V, so that loading it needs no second copy and
// its products feed every core.
enum { HEAD_ROWS = 4096 };

struct model {
    struct model_settings set;
    struct weights *weights;
    const struct arch *arch;
    struct hash128 hash;
    size_t bytes;
    char memory[160];
    size_t loaded; // blocks
    struct block *blocks;
    float *final_norm, *final_norm_bias;
    struct gemm_weight **head; // [slices], or NULL
    size_t slices;
    float *cosine, *sine;         // [C x rotary / 2]
    float *positions;             // [C x d], or NULL
    float *qkv;                   // [rows x (H + 2K) D] of one call
    float *mixed;                 // [rows x H D], the heads' results
    struct beginning *beginnings; // [rows], of contexts that share their beginnings
    uint32_t *position;           // [rows], then: of each row
    size_t threads;
    struct bench *benches;
    float *arena; // what holds the buffers above
};

// x [n*C x d] through blocks from .. to - 1, in place.
void model_blocks(const struct model *model, float *x, size_t n, size_t from, size_t to);

// Widths that both loading and running need.
static inline size_t
width_qkv(const struct arch *a)
{
    return (a->heads + 2 * a->kv_heads) * a->head_dim;
}
static inline size_t
width_up(const struct arch *a)
{
    return a->gated ? 2 * a->ffn : a->ffn;
}

#endif

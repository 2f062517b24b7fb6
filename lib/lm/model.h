// model: the language model's forward pass, in fp32 or with bf16 products; docs/models.md has the
// equations. Opened once for one hook: the residual stream after block `layer`, counted from 0
// (blocks.L.hook_resid_post, Hugging Face's hidden_states[L + 1]).
//
//     ids [n x C] --model_below--> x [n*C x d] --model_above--> y [n*C x d] --model_logits--> [V]
//                                  ^ replace rows here to splice a reconstruction in
//
// Row t of context c is row c*C + t. Residual stream, norms, softmax and rope are always fp32.
// A context sees only itself, and its bits do not depend on the number of threads (nor, but for
// bf16 on CPUs that multiply it, on its neighbours). Everything is allocated by model_new.
#ifndef LIB_LM_MODEL_H
#define LIB_LM_MODEL_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"
#include "lib/kern/gemm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct model;

struct model_settings {
    const char *path;      // a .gguf file, or a folder with config.json and safetensors
    const char *cache;     // a folder where the weights' hash may be remembered, or NULL
    size_t layer;          // the hooked block
    size_t context;        // C, tokens of a context
    size_t batch_contexts; // the most contexts of one call
    enum gemm_precision precision;
    bool whole; // also the blocks above the hook and the head: model_above, model_logits
};

// Checks everything (files, shapes, layer, context, free memory) before it takes the memory that
// model_bytes states, and says what is wrong in one line. Call gemm_threads before.
CHECKED enum status model_new(struct model **out, const struct model_settings *set);
void model_free(struct model **model);

size_t model_width(const struct model *model);  // d
size_t model_vocab(const struct model *model);  // V
size_t model_layers(const struct model *model); // blocks of the file, loaded or not
size_t model_bytes(const struct model *model);  // memory held, the mapped file not counted
// The same with its parts: "0.31 GiB = blocks 0.13 + head 0.11 + buffers 0.07".
const char *model_memory(const struct model *model);
const char *model_family(const struct model *model); // "llama", "gemma2", ...
// Of everything that decides the stream: sizes and switches, and all tensors as stored.
struct hash128 model_hash(const struct model *model);
// True when a zero stream at the hook makes all logits zero (no biases, no LayerNorm, no learned
// positions): ablation then needs no forward pass, its CE is ln V everywhere.
bool model_is_bias_free(const struct model *model);

// x [n*C x d] of ids [n x C], 1 <= n <= batch_contexts. An id that the model lacks is DAMAGED.
CHECKED enum status model_below(struct model *model, const uint32_t *ids, size_t n, float *x);
// The same for contexts of `context` <= C tokens and only at one position of each: row i of x is
// the stream of context i at at[i] < context, with model_below's bits. What stands behind at[i] is
// not run, so prompts of unequal length are filled up with any id; nor is what a context has in
// common with the beginning of the one before it, so put them in order. As many contexts as make
// batch_contexts * C rows (model_fit_at); x has room for all rows that are run, [n x d] is told.
CHECKED enum status model_below_at(struct model *model, const uint32_t *ids, size_t n,
                                   size_t context, const uint32_t *at, float *x);
// How many of the first of n contexts make at most `rows` rows there.
size_t model_fit_at(size_t rows, const uint32_t *ids, size_t n, size_t context, const uint32_t *at);
// Every position of contexts of `context` <= C tokens, as many as fill the buffers, as above.
CHECKED enum status model_below_short(struct model *model, const uint32_t *ids, size_t n,
                                      size_t context, float *x);
// y [n*C x d]: what the head reads, from the stream at the hook. y may be x. Only when `whole`.
void model_above(struct model *model, const float *x, size_t n, float *y);
// logits [rows x V] of any rows of y, final softcap included. Only when `whole`. Callers choose
// `rows` so that rows x V floats stay bounded: V is 256,000 for Gemma.
void model_logits(struct model *model, const float *y, size_t rows, float *logits);

#endif

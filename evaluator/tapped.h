// tapped: the stream at the hook at one token of each of many prompts. The model reads them once:
// with a cache folder the rows lie in a file, hashed piece by piece, that a later process, or
// the one after a kill, goes on with. Several processes may fill one file at the same time.
//
//     tapped-KEY: head | hash of piece 0, 1, ... (0: not there) | rows [count x d] of fp32
//
// A piece is 128 prompts that follow each other when all are sorted by their ids: so the model
// runs what they have in common at their beginnings once. Rows stand as the prompts came.
//
// KEY is the hash of everything that decides the rows: model, layer, precision, ids, positions.
#ifndef EVALUATOR_TAPPED_H
#define EVALUATOR_TAPPED_H

#include "evaluator/score.h"

// Prompts of at most `context` tokens, filled up behind with any id; the position asked for.
struct prompts {
    size_t count, context;
    const uint32_t *ids; // [count x context]
    const uint32_t *at;  // [count], each < context
};

struct tapped_plan {
    size_t layer, context; // what the model was opened with
    size_t model_contexts; // and the most contexts of one call to it
    const char *precision; // "f32" or "bf16"
    const char *cache;     // folder, or NULL: rows are held in memory
    const char *what;      // for progress: "words"
};

struct tapped;

// AGAIN: `watch` (may be NULL) said stop; what was done until then is kept. CONFIG: a prompt is
// longer than the model's context. DAMAGED: an id that the model lacks, or a stream that is not
// finite. CREATE: no memory. A cache that cannot be written is said, then rows are held in memory.
CHECKED enum status tapped_open(struct tapped **out, const struct tapped_plan *plan,
                                struct model *model, const struct prompts *prompts,
                                const struct score_watch *watch);
void tapped_close(struct tapped **tapped);
const float *tapped_rows(const struct tapped *tapped); // [count x d]
struct hash128 tapped_key(const struct tapped *tapped);
size_t tapped_computed(const struct tapped *tapped); // rows that this call had to compute
size_t tapped_bytes(const struct tapped *tapped);    // of memory, a mapped file not counted

#endif

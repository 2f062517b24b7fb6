// score: the core evaluation of SAEs on one language model and one held-out text
// (docs/evaluation.md). What only the model and the text decide (its activations, its own
// predictions) is computed with the first SAE and kept for all that follow.
//
//     struct score *score;
//     TRY(score_new(&score, &plan, model, windows, count));
//     for each checkpoint: TRY(score_sae(&result, score, &sae, &watch)); ...
//
// The numbers depend neither on the number of threads nor on what is kept.
#ifndef EVALUATOR_SCORE_H
#define EVALUATOR_SCORE_H

#include "evaluator/spec.h"
#include "lib/interop/saebench_core.h"
#include "lib/interop/saelens.h"
#include "lib/lm/model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct score_plan {
    size_t layer, context;   // what the model was opened with: the hooked block, C
    size_t model_contexts;   // and the most contexts of one call to it
    const char *precision;   // "f32" or "bf16"
    size_t batch_contexts;   // B windows: a batch of SAEBench's averages
    size_t core_batches;     // NR of them for CE and KL,
    size_t variance_batches; // the next NV for everything else
    bool exclude_special;    // keep the stream as it is at special positions
    uint32_t special[8];     // tokens left out of every mean, ascending
    size_t specials;
    size_t keep_most;  // bytes that may be held for what SAEs share; the rest is computed again
    const char *cache; // folder where it may also be kept on disk, or NULL
};

// Now and then, at most some seconds apart: what is being done, and the share of the whole that
// is. True: stop.
struct score_watch {
    bool (*stop)(void *context, const char *what, double share);
    void *context;
};

struct score;

// windows [count x C] of ids below the model's vocabulary, and `model` (opened with `whole`) are
// borrowed. Batches are cut from the windows in order; where they run out they begin again, as in
// SAEBench. CONFIG: no windows. DAMAGED: an id that the model lacks. CREATE: no memory.
CHECKED enum status score_new(struct score **out, const struct score_plan *plan,
                              struct model *model, const uint32_t *windows, size_t count);
void score_free(struct score **score); // NULL is fine
// Memory it will hold, with its parts: "310.2 MiB = kept 200.1 + logits 60.0 + rows 50.1". The SAE
// and what is counted of it come on top.
const char *score_memory(const struct score *score);
size_t score_bytes(const struct score *score);
// Windows are used more than once: the text is shorter than the plan.
bool score_repeats(const struct score *score);
struct hash128 score_spec(const struct score *score);

struct score_result {
    struct core core;
    struct density_histogram histogram;
    struct latent_detail *details; // [latents], ours until score_result_release
    size_t latents;
    double seconds;
};
void score_result_release(struct score_result *result);

// AGAIN: `watch` (may be NULL) said stop. CONFIG: the SAE's width is not the model's. Weights that
// make NaN are no failure: what they touch is undefined.
CHECKED enum status score_sae(struct score_result *out, struct score *score, struct saelens *sae,
                              const struct score_watch *watch);

// Everything of a result file that score, SAE and result know: the caller adds head and dataset.
void score_file(struct core_file *file, const struct score *score, const struct saelens *sae,
                const struct score_result *result);

#endif

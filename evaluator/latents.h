// latents: how often each latent fires, and how much fires at once (docs/evaluation.md,
// "Sparsity and latents"). A latent fires on a token when its activation is above 0.
// Counts are whole numbers, sums of activations are in the order of the rows: nothing depends on
// the thread count, on how rows are cut into calls, or on the batch size.
#ifndef EVALUATOR_LATENTS_H
#define EVALUATOR_LATENTS_H

#include "lib/interop/saebench_core.h"

#include <stddef.h>
#include <stdint.h>

struct latents;

CHECKED enum status latents_new(struct latents **out, size_t count, size_t rows_most);
void latents_free(struct latents **latents);
void latents_reset(struct latents *latents);

// f [rows x count], kept tokens only; window[r] is the window row r is from: any numbering that
// never returns to an earlier window.
void latents_rows(struct latents *latents, const float *f, const uint64_t *window, size_t rows);

// Fills l0, l1, frac_alive, freq_*, dead_latents, dense_latents, the histogram, and density and
// consistency of each of details [count] (details may be NULL).
void latents_finish(struct core *core, struct density_histogram *histogram,
                    struct latent_detail *details, const struct latents *latents);

// The bin of a density > 0.
size_t density_bin(double density);

#endif

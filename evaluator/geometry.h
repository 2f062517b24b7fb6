// geometry: how the rows of an SAE's weights lie to each other (docs/evaluation.md, "Weights"). It
// needs no text. Cost 2 k^2 d multiplications, in tiles; never a k x k matrix.
#ifndef EVALUATOR_GEOMETRY_H
#define EVALUATOR_GEOMETRY_H

#include "lib/interop/saebench_core.h"

#include <stdbool.h>
#include <stddef.h>

// Asked now and then, from the calling thread, with the share done; true: stop.
struct geometry_watch {
    bool (*stop)(void *context, double share);
    void *context;
};

// encoder and decoder [k x d], bias [k] or NULL (0). Fills average_max_*_cosine_sim of `core` and
// the five weight fields of details [k]. With k = 1 there is no other latent: NaN.
// CREATE: no memory. AGAIN: `watch` (may be NULL) said stop.
CHECKED enum status geometry_measure(struct core *core, struct latent_detail *details,
                                     const float *encoder, const float *decoder, const float *bias,
                                     size_t k, size_t d, const struct geometry_watch *watch);

#endif

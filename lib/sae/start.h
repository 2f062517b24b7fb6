// start: the SAE before its first step. Weights from the only definition of randomness (Philox,
// lib/base/rng), so every backend and machine starts from the same bits; b_d from batch 0.
#ifndef LIB_SAE_START_H
#define LIB_SAE_START_H

#include "lib/sae/sae.h"

// Kaiming uniform: element n of the row-major [k x d] matrix is (2u - 1) sqrt(6 / d) with u from
// word n mod 4 of index n / 4, purpose RNG_ENCODER or RNG_DECODER, key sae.seed; then every row is
// divided by its norm, taken in fp64. tie_init: W_e = W_d. Biases 0, thresholds threshold_init.
void start_weights(struct sae *sae);

// b_d from batch 0, as b_dec_init says. x [B x d] is what the SAE trains on (scaled). `point` and
// `next` are scratch, [d] each, here and below.
void start_b_dec(struct sae *sae, double *point, double *next, struct mat x);

// Geometric median of the rows of x into out [d]: from the mean, Weiszfeld steps until the point
// moves less than 1e-5 or 100 are done.
void geometric_median(float *out, double *point, double *next, struct mat x);

#endif

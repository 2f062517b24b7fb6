// downstream: what becomes of the language model's predictions when the residual stream at the hook
// is replaced. From rows of logits to nats, and from nats to the scores (docs/evaluation.md,
// "Predictions").
//     p_i = softmax(z_i)      i = none (the model itself), sae (reconstruction), abl (zeros)
//     KL_m = sum_v p_none (log p_none - log p_m)          m = sae, abl
//     CE_i = -log p_i(next token)
// Sums are in double and in the order of the positions, whatever the thread count. A NaN among the
// logits makes the position's values NaN.
#ifndef EVALUATOR_DOWNSTREAM_H
#define EVALUATOR_DOWNSTREAM_H

#include "lib/interop/saebench_core.h"

#include <stddef.h>
#include <stdint.h>

enum { NO_NEXT = UINT32_MAX }; // the last position of a window predicts nothing we know

// log sum_v exp(z_v), z [vocab], vocab > 0
double logits_normaliser(const float *z, size_t vocab);
// Entropy of p in nats, from z and its normaliser.
double logits_entropy(const float *z, double normaliser, size_t vocab);
// KL(p || q) in nats, of logits z and y.
double logits_kl(const float *z, double z_normaliser, const float *y, double y_normaliser,
                 size_t vocab);

// What the model itself says at each position; the same for every SAE, so kept by the caller.
// One row of logits z [rows x vocab] each; next[r] < vocab, or NO_NEXT: then ce is 0.
struct plain_at {
    double normaliser, ce;
    double kl_zeros; // KL to the uniform distribution: zero logits, see downstream_add
};
void downstream_plain(struct plain_at *out, const float *z, const uint32_t *next, size_t rows,
                      size_t vocab);

// What a replaced stream says there: y are its logits, z the model's own.
struct moved_at {
    double kl, ce; // ce is 0 where there is no next token
};
void downstream_moved(struct moved_at *out, const float *y, const float *z,
                      const struct plain_at *plain, const uint32_t *next, size_t rows,
                      size_t vocab);

// The means over all positions told to it, each once.
struct downstream {
    double ce_none, ce_sae, ce_abl, kl_sae, kl_abl;
    uint64_t positions, predicting, windows_tokens;
};
// One position that counts. `abl` NULL: the ablated logits are all zero, which is exact for models
// without biases (a zero stream stays zero through RMSNorm), so CE_abl = ln vocab.
void downstream_add(struct downstream *sums, const struct plain_at *plain,
                    const struct moved_at *sae, const struct moved_at *abl, uint32_t next,
                    size_t vocab);
// Fills the KL, CE and token numbers of `core`; NaN where a mean is over nothing or a score divides
// by zero.
void downstream_finish(struct core *core, const struct downstream *sums);

#endif

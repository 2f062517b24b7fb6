// probe: one-vs-rest linear probes, trained as SAEBench trains its own (docs/evaluation.md,
// "Absorption"): the letter directions in the residual stream, and the sparse (L1) probe over SAE
// latents that ranks them.
//     z = W x + b                          W [classes x inputs]
//     loss = mean over rows and classes of BCE(z, y), positives weighted by (N - n_c) / n_c
//            + l1 / classes * sum |W|
// by Adam (0.9, 0.999, 1e-8), weight decay added to the gradient (biases too), the rate multiplied
// after each epoch by (lr_end / lr)^(1 / epochs).
#ifndef EVALUATOR_PROBE_H
#define EVALUATOR_PROBE_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The inputs: dense [rows x inputs], or rows of (index ascending, value): row r is the entries
// from start[r] to start[r + 1].
struct probe_data {
    size_t rows, inputs;
    const float *dense; // NULL: sparse
    const uint64_t *start;
    const uint32_t *index;
    const float *value;
    const uint8_t *label; // [rows], the class of each; NO_CLASS: belongs to none
};
enum { NO_CLASS = 255 };

struct probe_recipe {
    size_t classes; // at most 254
    size_t batch;   // rows of a step; the last of an epoch may be smaller
    size_t epochs;
    double lr, lr_end, weight_decay, l1;
    uint64_t seed; // of the start and of the order of the rows
    bool shuffle;  // else rows in order
};
// SAEBench's two: the ground-truth probe (batch 64, decay 1e-4) and the k-sparse one's L1 probe
// (batch 4096, decay 1e-6, l1 0.01); 26 classes, 50 epochs, 0.01 to 1e-5.
struct probe_recipe probe_recipe_truth(uint64_t seed);
struct probe_recipe probe_recipe_sparse(uint64_t seed);

// weights [classes x inputs] and bias [classes] uniform in +- 1/sqrt(inputs).
void probe_start(float *weights, float *bias, const struct probe_recipe *recipe, size_t inputs);

// Trains in place. Every class must have rows and every row a class among them, or be NO_CLASS (a
// negative for all); CONFIG for a class without rows. CREATE: no memory (about 3 times the
// weights). stop (may be NULL) is asked once an epoch with the share done; true: AGAIN.
CHECKED enum status probe_train(float *weights, float *bias, const struct probe_recipe *recipe,
                                const struct probe_data *data,
                                bool (*stop)(void *context, double share), void *context);

// z [rows x classes]
void probe_apply(float *z, const float *weights, const float *bias, size_t classes,
                 const struct probe_data *data);

// 2 TP / (2 TP + FP + FN) of predictions z > 0 for one class; 0 where it is undefined.
double probe_f1(const float *z, size_t classes, size_t which, const uint8_t *label, size_t rows);

#endif

// fidelity: how well xhat stands for x, over batches of token rows (docs/evaluation.md,
// "Reconstruction"). SAEBench's numbers keep its averaging, so `mse`, `explained_variance`,
// `explained_variance_legacy` and `relative_reconstruction_bias` depend on how rows are grouped in
// batches; ours (mse_sum, fvu, ...) are pooled over all rows and do not.
// Sums are in double, in the order of the rows, whatever the thread count.
#ifndef EVALUATOR_FIDELITY_H
#define EVALUATOR_FIDELITY_H

#include "lib/interop/saebench_core.h"

#include <stddef.h>

struct fidelity;

// Takes all its memory: for batches of at most rows_most rows, rows_total rows altogether.
CHECKED enum status fidelity_new(struct fidelity **out, size_t width, size_t rows_most,
                                 size_t rows_total);
void fidelity_free(struct fidelity **fidelity);
void fidelity_reset(struct fidelity *fidelity);

// One batch: x and xhat [rows x width], the kept tokens only. rows = 0 (all tokens special) leaves
// SAEBench's batch means undefined, as there, and ours untouched.
void fidelity_batch(struct fidelity *fidelity, const float *x, const float *xhat, size_t rows);

// Fills reconstruction_quality, l2_* and relative_reconstruction_bias, and ours; NaN: undefined.
void fidelity_finish(struct core *core, struct fidelity *fidelity);

#endif

// probing: sparse probing on pooled activations, as SAEBench does it (docs/evaluation.md, "Sparse
// probing"): which columns tell a class from the rest, and how well do the best K of them alone?
// Rows of `pooled` [.. x width] are texts. Nothing here depends on the number of threads.
#ifndef EVALUATOR_PROBING_H
#define EVALUATOR_PROBING_H

#include "evaluator/probing_set.h"
#include "evaluator/pyrandom.h"

// Mean, or largest value, of each column over `tokens` rows of x [tokens x width]; tokens > 0.
void probing_pool(float *out, const float *x, size_t tokens, size_t width, bool largest);

// One class against the rest, on one side of the split.
struct probing_task {
    uint32_t *rows; // of pooled
    bool *positive;
    size_t count;
};
// members[c] of counts[c]: the rows of each class. All of `which` that balance allows, and of the
// others as many as make the positives the given share (0.5: as many), evenly from each class, all
// shuffled. CREATE; CONFIG when a side of the task would be empty.
CHECKED enum status probing_draw(struct probing_task *out, uint32_t *const *members,
                                 const size_t *counts, size_t classes, size_t which, double share,
                                 struct pyrandom *random);
void probing_task_free(struct probing_task *task);

// The k columns (at most width) with the largest |mean over positives - mean over negatives|, the
// lower index first where two are equal; returns how many. scratch [width].
size_t probing_top(uint32_t *out, size_t k, const float *pooled, size_t width,
                   const struct probing_task *train, double *scratch);

// Share of the test rows that logistic regression (L2, C = 1) on these columns of the train rows
// gets right; at most LOGREG_COLUMNS columns.
CHECKED enum status probing_columns(double *accuracy, const float *pooled, size_t width,
                                    const struct probing_task *train,
                                    const struct probing_task *test, const uint32_t *columns,
                                    size_t count);

// The same for a linear probe on all columns as SAEBench trains it: AdamW (rate 0.01, decay 0.01),
// batches of 250, up to 100 epochs, until ten bring no better *test* accuracy, the best of which is
// returned: optimistic by construction, and kept so to be comparable.
CHECKED enum status probing_all(double *accuracy, const float *pooled, size_t width,
                                const struct probing_task *train, const struct probing_task *test,
                                uint64_t seed);

#endif

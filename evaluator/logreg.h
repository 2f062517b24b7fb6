// logreg: logistic regression on a few columns, to the exact minimum, which is what
// scikit-learn's LogisticRegression (L2, C = 1) approaches:
//     0.5 |w|^2 + sum_i s_i log(1 + exp(-y_i z_i)),   z = w . a + b, y = +-1, b free
// s_i = 1, or ("balanced") N / (2 n of its class).
#ifndef EVALUATOR_LOGREG_H
#define EVALUATOR_LOGREG_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { LOGREG_COLUMNS = 128 };

// a [rows x columns], positive[r]: y = +1. Newton steps, halved while they do not descend, until
// the gradient is below 1e-9 a row. CONFIG: one of the classes has no rows (b has no minimum), or
// values are not finite.
CHECKED enum status logreg_fit(double *w, double *b, const float *a, const bool *positive,
                               size_t rows, size_t columns, bool balanced);

#endif

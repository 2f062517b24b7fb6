#include "evaluator/logreg.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { SIDE = LOGREG_COLUMNS + 1 }; // the bias is the last

struct problem {
    const float *a;
    const bool *positive;
    size_t rows, columns;
    double weight[2]; // of a negative, of a positive
};

static double
score(const struct problem *p, const double *at, size_t row)
{
    double z = at[p->columns];
    for (size_t j = 0; j < p->columns; j++)
        z += at[j] * (double)p->a[row * p->columns + j];
    return z;
}

static double
loss(const struct problem *p, const double *at)
{
    double sum = 0;
    for (size_t j = 0; j < p->columns; j++)
        sum += 0.5 * at[j] * at[j];
    for (size_t r = 0; r < p->rows; r++) {
        double z = p->positive[r] ? score(p, at, r) : -score(p, at, r);
        sum += p->weight[p->positive[r]] * (z > 0 ? log1p(exp(-z)) : log1p(exp(z)) - z);
    }
    return sum;
}

// Gradient and Hessian (lower triangle, leading dimension SIDE).
static void
derivatives(const struct problem *p, const double *at, double *gradient, double *hessian)
{
    size_t n = p->columns;
    memset(gradient, 0, SIDE * sizeof *gradient);
    memset(hessian, 0, SIDE * SIDE * sizeof *hessian);
    for (size_t j = 0; j < n; j++) {
        gradient[j] = at[j];
        hessian[j * SIDE + j] = 1;
    }
    for (size_t r = 0; r < p->rows; r++) {
        const float *a = p->a + r * n;
        double weight = p->weight[p->positive[r]];
        double chance = 1 / (1 + exp(-score(p, at, r)));
        double slope = weight * (chance - (p->positive[r] ? 1 : 0));
        double bend = weight * chance * (1 - chance);
        gradient[n] += slope;
        hessian[n * SIDE + n] += bend;
        for (size_t j = 0; j < n; j++) {
            double value = (double)a[j];
            if (!(value < 0 || value > 0))
                continue; // latents are mostly silent
            gradient[j] += slope * value;
            hessian[n * SIDE + j] += bend * value;
            for (size_t i = 0; i <= j; i++)
                hessian[j * SIDE + i] += bend * value * (double)a[i];
        }
    }
}

// step = hessian^-1 gradient by Cholesky, in place. The Hessian is positive definite but for the
// bias where every chance is 0 or 1: a little is added there.
static void
solve(double *hessian, double *step, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        double pivot = hessian[j * SIDE + j] + 1e-12;
        for (size_t i = 0; i < j; i++)
            pivot -= hessian[j * SIDE + i] * hessian[j * SIDE + i];
        pivot = sqrt(pivot > 1e-12 ? pivot : 1e-12);
        hessian[j * SIDE + j] = pivot;
        for (size_t r = j + 1; r < n; r++) {
            double sum = hessian[r * SIDE + j];
            for (size_t i = 0; i < j; i++)
                sum -= hessian[r * SIDE + i] * hessian[j * SIDE + i];
            hessian[r * SIDE + j] = sum / pivot;
        }
    }
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < j; i++)
            step[j] -= hessian[j * SIDE + i] * step[i];
        step[j] /= hessian[j * SIDE + j];
    }
    for (size_t j = n; j-- > 0;) {
        for (size_t i = j + 1; i < n; i++)
            step[j] -= hessian[i * SIDE + j] * step[i];
        step[j] /= hessian[j * SIDE + j];
    }
}

enum status
logreg_fit(double *w, double *b, const float *a, const bool *positive, size_t rows, size_t columns,
           bool balanced)
{
    assert(columns > 0 && columns <= LOGREG_COLUMNS);
    size_t n = columns + 1, count[2] = {0, 0};
    for (size_t r = 0; r < rows; r++)
        count[positive[r]]++;
    if (count[0] == 0 || count[1] == 0)
        return FAIL(CONFIG, "a regression of %zu rows against %zu, wanted rows of both classes",
                    count[1], count[0]);
    struct problem p = {a, positive, rows, columns, {1, 1}};
    for (int side = 0; side < 2 && balanced; side++)
        p.weight[side] = (double)rows / (2 * (double)count[side]);
    double at[SIDE] = {0}, gradient[SIDE], next[SIDE], hessian[SIDE * SIDE];
    double now = loss(&p, at);
    for (int round = 0; round < 100; round++) {
        derivatives(&p, at, gradient, hessian);
        double largest = 0;
        for (size_t j = 0; j < n; j++)
            largest = fmax(largest, fabs(gradient[j]));
        if (!isfinite(now) || !isfinite(largest))
            return FAIL(CONFIG, "a regression on values that are not finite");
        if (largest < 1e-9 * (double)rows)
            break;
        solve(hessian, gradient, n);
        double length = 1, then = INFINITY;
        for (int half = 0; half < 40; half++, length /= 2) {
            for (size_t j = 0; j < n; j++)
                next[j] = at[j] - length * gradient[j];
            then = loss(&p, next);
            if (then <= now)
                break;
        }
        if (!(then < now))
            break; // as low as double goes
        memcpy(at, next, sizeof at);
        now = then;
    }
    memcpy(w, at, columns * sizeof *w);
    *b = at[columns];
    return STATUS_OK;
}

// cpu_update: what happens to the parameters after the gradient: its norm, Adam, unit rows. One
// pass each; Adam brings a row back to norm 1 while it is in cache.
#include "lib/kern/cpu_inside.h"
#include "lib/kern/vec.h"

#include <assert.h>
#include <math.h>

double
cpu_square_sum(struct mat g)
{
    double sums[PARTS], sum = 0;
    size_t count = mat_count(g);
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < PARTS; part++) {
        size_t from = part_from(part, PARTS, count), to = part_from(part + 1, PARTS, count);
        sums[part] = vec_square_sum(g.at + from, to - from);
    }
    for (size_t part = 0; part < PARTS; part++)
        sum += sums[part];
    return sum;
}

static void
unit_row(float *w, size_t d)
{
    double square = 0;
#pragma omp simd reduction(+ : square)
    for (size_t c = 0; c < d; c++)
        square += (double)w[c] * (double)w[c];
    if (!(square > 0))
        return; // a row of zeros has no direction
    float scale = (float)(1 / sqrt(square));
#pragma omp simd
    for (size_t c = 0; c < d; c++)
        w[c] *= scale;
}

void
cpu_unit_rows(struct mat w)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < w.rows; i++)
        unit_row(mat_row(w, i), w.cols);
}

// Adam's constants, rounded once. step = lr / correction1; the second moment's correction is moved
// out of the root: sqrt(v / c2) + eps = (sqrt(v) + eps sqrt(c2)) / sqrt(c2).
struct rates {
    float scale, keep1, take1, keep2, take2, step, eps;
};

static void
adam_run(float *restrict w, float *restrict v, const float *restrict g, size_t n, struct rates r)
{
#pragma omp simd
    for (size_t c = 0; c < n; c++) {
        float gc = g[c] * r.scale;
        v[c] = r.keep2 * v[c] + r.take2 * (gc * gc);
        w[c] -= r.step * gc / (sqrtf(v[c]) + r.eps);
    }
}

static void
adam_run_with_mean(float *restrict w, float *restrict m, float *restrict v, const float *restrict g,
                   size_t n, struct rates r)
{
#pragma omp simd
    for (size_t c = 0; c < n; c++) {
        float gc = g[c] * r.scale;
        m[c] = r.keep1 * m[c] + r.take1 * gc;
        v[c] = r.keep2 * v[c] + r.take2 * (gc * gc);
        w[c] -= r.step * m[c] / (sqrtf(v[c]) + r.eps);
    }
}

void
cpu_adam(struct mat w, struct mat m, struct mat v, struct mat g, struct adam_rates rates,
         bool unit_rows)
{
    assert(mat_same_shape(w, v) && mat_same_shape(w, g) && (!m.at || mat_same_shape(w, m)));
    double root = sqrt(rates.correction2);
    struct rates r = {
        .scale = (float)rates.scale,
        .keep1 = (float)rates.beta1,
        .take1 = (float)(1 - rates.beta1),
        .keep2 = (float)rates.beta2,
        .take2 = (float)(1 - rates.beta2),
        .step = (float)(rates.lr * root / (m.at ? rates.correction1 : 1)),
        .eps = (float)(rates.eps * root),
    };
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < w.rows; i++) {
        size_t d = w.cols;
        if (m.at)
            adam_run_with_mean(mat_row(w, i), mat_row(m, i), mat_row(v, i), mat_row(g, i), d, r);
        else
            adam_run(mat_row(w, i), mat_row(v, i), mat_row(g, i), d, r);
        if (unit_rows)
            unit_row(mat_row(w, i), d);
    }
}

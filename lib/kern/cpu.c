// cpu: the fast backend, dense kernels. The products are gemm's; what is left are passes over B x k
// or B x d that memory bounds, so each does all it can while the row is in cache.
#include "lib/kern/cpu_inside.h"
#include "lib/kern/gemm.h"
#include "lib/kern/vec.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

size_t
cpu_workers(struct scratch tmp, size_t bytes)
{
    size_t fit = bytes ? tmp.bytes / bytes : 1, threads = (size_t)omp_get_max_threads();
    assert(fit > 0);
    return fit < threads ? fit : threads;
}

void
cpu_shift(struct mat out, struct mat x, float scale, const float *bias)
{
    assert(mat_same_shape(out, x));
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < x.rows; b++) {
        const float *from = mat_row(x, b);
        float *to = mat_row(out, b);
        for (size_t c = 0; c < x.cols; c++)
            to[c] = scale * from[c] - (bias ? bias[c] : 0);
    }
}

// sum_b |x_b - m|^2 = sum_b |x_b|^2 - |sum_b x_b|^2 / B, in fp64 throughout.
double
cpu_spread(struct mat x, double *mean_norm)
{
    double squares[PARTS], norms[PARTS], means[PARTS];
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < PARTS; part++) {
        squares[part] = norms[part] = means[part] = 0;
        for (size_t b = part_from(part, PARTS, x.rows); b < part_from(part + 1, PARTS, x.rows);
             b++) {
            const float *row = mat_row(x, b);
            double square = 0;
#pragma omp simd reduction(+ : square)
            for (size_t c = 0; c < x.cols; c++)
                square += (double)row[c] * (double)row[c];
            squares[part] += square;
            norms[part] += sqrt(square);
        }
        enum { WIDTH = 64 };
        for (size_t from = part * WIDTH; from < x.cols; from += PARTS * WIDTH) {
            size_t width = x.cols - from < WIDTH ? x.cols - from : WIDTH;
            double sum[WIDTH] = {0};
            for (size_t b = 0; b < x.rows; b++)
                for (size_t c = 0; c < width; c++)
                    sum[c] += (double)mat_row(x, b)[from + c];
            for (size_t c = 0; c < width; c++)
                means[part] += sum[c] * sum[c];
        }
    }
    double square = 0, norm = 0, mean = 0, B = (double)x.rows;
    for (size_t part = 0; part < PARTS; part++) {
        square += squares[part];
        norm += norms[part];
        mean += means[part];
    }
    if (mean_norm)
        *mean_norm = norm / B;
    double spread = square - mean / B;
    return spread < 0 ? 0 : spread; // a NaN stays one
}

void
cpu_encode(struct mat z, struct mat x, struct mat w, const float *bias)
{
    assert(z.rows == x.rows && z.cols == w.rows && x.cols == w.cols);
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < z.rows; b++)
        memcpy(mat_row(z, b), bias, z.cols * sizeof(float));
    gemm_nt(z.at, x.at, w.at, x.rows, w.rows, x.cols, true);
}

void
cpu_relu(struct mat f, struct mat z)
{
    assert(mat_same_shape(f, z));
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < z.rows; b++) {
        const float *from = mat_row(z, b);
        float *to = mat_row(f, b);
#pragma omp simd
        for (size_t i = 0; i < z.cols; i++)
            to[i] = from[i] > 0 ? from[i] : 0;
    }
}

void
cpu_jumprelu(struct mat f, struct mat z, const float *tau)
{
    assert(mat_same_shape(f, z));
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < z.rows; b++) {
        const float *from = mat_row(z, b);
        float *to = mat_row(f, b);
#pragma omp simd
        for (size_t i = 0; i < z.cols; i++) {
            float floor = tau[i] > 0 ? tau[i] : 0;
            to[i] = from[i] > floor ? from[i] : 0;
        }
    }
}

static size_t
positive_count(struct mat f)
{
    size_t counts[PARTS], count = 0;
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < PARTS; part++) {
        counts[part] = 0;
        for (size_t b = part_from(part, PARTS, f.rows); b < part_from(part + 1, PARTS, f.rows);
             b++) {
            const float *row = mat_row(f, b);
            unsigned in_row = 0;
#pragma omp simd reduction(+ : in_row)
            for (size_t i = 0; i < f.cols; i++)
                in_row += row[i] > 0;
            counts[part] += in_row;
        }
    }
    for (size_t part = 0; part < PARTS; part++)
        count += counts[part];
    return count;
}

// One row of f w, visiting only what is not 0.
static void
decode_row(float *out, const float *f, struct mat w)
{
    const float *rows[4];
    float values[4];
    size_t held = 0, k = w.rows, d = w.cols;
    for (size_t from = 0; from < k; from += VEC_RUN_BITS)
        for (uint32_t on = vec_above(f + from, vec_run(from, k), 0); on; on &= on - 1) {
            size_t i = from + vec_first(on);
            values[held] = f[i];
            rows[held++] = mat_row(w, i);
            if (held == 4) {
                vec_add4(out, values, rows, d);
                held = 0;
            }
        }
    for (size_t n = 0; n < held; n++)
        vec_add(out, values[n], rows[n], d);
}

void
cpu_decode(struct mat xhat, struct mat f, struct mat w, const float *bias)
{
    assert(xhat.rows == f.rows && f.cols == w.rows && xhat.cols == w.cols);
    bool sparse = (double)positive_count(f) < CPU_LISTS_BELOW * (double)mat_count(f);
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t b = 0; b < f.rows; b++) {
        memcpy(mat_row(xhat, b), bias, xhat.cols * sizeof(float));
        if (sparse)
            decode_row(mat_row(xhat, b), mat_row(f, b), w);
    }
    if (!sparse)
        gemm_nn(xhat.at, f.at, w.at, f.rows, w.cols, w.rows, true);
}

void
cpu_column_sums(float *out, struct mat g)
{
    size_t width = stripe_cols(g.cols), stripes = (g.cols + width - 1) / width;
#pragma omp parallel for schedule(static)
    for (size_t stripe = 0; stripe < stripes; stripe++) {
        size_t from = stripe * width, cols = g.cols - from < width ? g.cols - from : width;
        double total[STRIPE_MOST] = {0};
        for (size_t b = 0; b < g.rows;) {
            float run[STRIPE_MOST] = {0};
            for (size_t end = b + 32 < g.rows ? b + 32 : g.rows; b < end; b++)
                vec_add(run, 1, mat_row(g, b) + from, cols);
            for (size_t c = 0; c < cols; c++)
                total[c] += (double)run[c];
        }
        for (size_t c = 0; c < cols; c++)
            out[from + c] = (float)total[c];
    }
}

double
cpu_residual(struct mat g, float *gbias, struct mat xhat, struct mat x, float weight)
{
    assert(mat_same_shape(g, x) && mat_same_shape(xhat, x));
    double sums[PARTS], sum = 0;
    float slope = 2 * weight / (float)x.rows;
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < PARTS; part++) {
        sums[part] = 0;
        for (size_t b = part_from(part, PARTS, x.rows); b < part_from(part + 1, PARTS, x.rows);
             b++) {
            float *to = mat_row(g, b);
            const float *got = mat_row(xhat, b), *want = mat_row(x, b);
#pragma omp simd
            for (size_t c = 0; c < x.cols; c++)
                to[c] = got[c] - want[c];
            sums[part] += vec_square_sum(to, x.cols);
#pragma omp simd
            for (size_t c = 0; c < x.cols; c++)
                to[c] *= slope;
        }
    }
    cpu_column_sums(gbias, g);
    for (size_t part = 0; part < PARTS; part++)
        sum += sums[part];
    return sum / (double)x.rows;
}

void
cpu_features_back(struct mat gf, struct mat g, struct mat w, bool add)
{
    assert(gf.rows == g.rows && gf.cols == w.rows && g.cols == w.cols);
    gemm_nt(gf.at, g.at, w.at, g.rows, w.rows, g.cols, add);
}

void
cpu_weights(struct mat gw, struct mat a, struct mat b, bool add)
{
    assert(gw.rows == a.cols && gw.cols == b.cols && a.rows == b.rows);
    gemm_tn(gw.at, a.at, b.at, gw.rows, gw.cols, a.rows, add);
}

// Adds to `tau` [cols] what the entries of one row near their thresholds say, eq. of kern.h.
static void
jump_row(float *tau_sum, const float *g, const struct jump *jump, size_t b, size_t from,
         size_t cols)
{
    const float *z = mat_row(jump->z, b) + from, *tau = jump->tau + from;
    float width = jump->width, step = jump->step;
#pragma omp simd
    for (size_t c = 0; c < cols; c++) {
        bool near = fabsf(z[c] - tau[c]) < 0.5f * width;
        tau_sum[c] -= near ? (tau[c] * g[c] + step) / width : 0;
    }
}

// The terms beside the reconstruction, for one row.
static void
pull_row(float *g, const float *f, const struct pull *pull, size_t b, size_t from, size_t cols)
{
    const float *was = NULL;
    if (pull->temporal > 0)
        was = cpu_row_before(pull->before, pull->follows, b);
    float temporal = pull->temporal, l1 = pull->l1;
    if (was) {
        was += from;
#pragma omp simd
        for (size_t c = 0; c < cols; c++)
            g[c] += l1 + temporal * (f[c] - was[c]);
    } else if (l1 > 0) {
#pragma omp simd
        for (size_t c = 0; c < cols; c++)
            g[c] += l1;
    }
    for (size_t c = 0; c < cols && pull->tanh > 0; c++) {
        float t = f[c] > 0 ? tanhf(4 * f[c]) : 0;
        g[c] += pull->tanh * 4 * (1 - t * t);
    }
}

void
cpu_gate(struct mat gf, float *gbias, struct mat f, struct pull pull, const struct jump *jump)
{
    assert(mat_same_shape(gf, f));
    size_t width = stripe_cols(f.cols), stripes = (f.cols + width - 1) / width;
#pragma omp parallel for schedule(static)
    for (size_t stripe = 0; stripe < stripes; stripe++) {
        size_t from = stripe * width, cols = f.cols - from < width ? f.cols - from : width;
        double total[STRIPE_MOST] = {0}, tau_total[STRIPE_MOST] = {0};
        for (size_t b = 0; b < f.rows;) {
            float run[STRIPE_MOST] = {0}, tau_run[STRIPE_MOST] = {0};
            for (size_t end = b + 32 < f.rows ? b + 32 : f.rows; b < end; b++) {
                float *g = mat_row(gf, b) + from;
                const float *fb = mat_row(f, b) + from;
                pull_row(g, fb, &pull, b, from, cols);
                if (jump)
                    jump_row(tau_run, g, jump, b, from, cols);
#pragma omp simd
                for (size_t c = 0; c < cols; c++) {
                    g[c] = fb[c] > 0 ? g[c] : 0;
                    run[c] += g[c];
                }
            }
            for (size_t c = 0; c < cols; c++) {
                total[c] += (double)run[c];
                tau_total[c] += (double)tau_run[c];
            }
        }
        for (size_t c = 0; c < cols; c++) {
            gbias[from + c] = (float)total[c];
            if (jump)
                jump->gtau[from + c] = (float)tau_total[c];
        }
    }
}

void
cpu_pre_bias_back(float *gbias, const float *coefficients, struct mat w)
{
    size_t width = stripe_cols(w.cols), stripes = (w.cols + width - 1) / width;
#pragma omp parallel for schedule(static)
    for (size_t stripe = 0; stripe < stripes; stripe++) {
        size_t from = stripe * width, cols = w.cols - from < width ? w.cols - from : width;
        double total[STRIPE_MOST] = {0};
        for (size_t i = 0; i < w.rows;) {
            float run[STRIPE_MOST] = {0};
            for (size_t end = i + 32 < w.rows ? i + 32 : w.rows; i < end; i++)
                vec_add(run, coefficients[i], mat_row(w, i) + from, cols);
            for (size_t c = 0; c < cols; c++)
                total[c] += (double)run[c];
        }
        for (size_t c = 0; c < cols; c++)
            gbias[from + c] = (float)((double)gbias[from + c] - total[c]);
    }
}

double
cpu_tanh_sum(struct mat f)
{
    double sums[PARTS], sum = 0;
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < PARTS; part++) {
        sums[part] = 0;
        for (size_t b = part_from(part, PARTS, f.rows); b < part_from(part + 1, PARTS, f.rows); b++)
            for (size_t i = 0; i < f.cols; i++)
                if (mat_row(f, b)[i] > 0)
                    sums[part] += (double)tanhf(4 * mat_row(f, b)[i]);
    }
    for (size_t part = 0; part < PARTS; part++)
        sum += sums[part];
    return sum;
}

// |a - b|^2
static double
distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t at = 0; at < n; at += VEC_RUN) {
        size_t end = n - at < VEC_RUN ? n : at + VEC_RUN;
        float run = 0;
#pragma omp simd reduction(+ : run)
        for (size_t c = at; c < end; c++)
            run += (a[c] - b[c]) * (a[c] - b[c]);
        sum += (double)run;
    }
    return sum;
}

double
cpu_temporal(struct mat f, struct mat before, const unsigned char *follows)
{
    assert(mat_same_shape(f, before));
    double sums[PARTS], sum = 0;
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < PARTS; part++) {
        sums[part] = 0;
        for (size_t b = part_from(part, PARTS, f.rows); b < part_from(part + 1, PARTS, f.rows);
             b++) {
            const float *was = cpu_row_before(before, follows, b);
            if (was)
                sums[part] += distance(mat_row(f, b), was, f.cols);
        }
    }
    for (size_t part = 0; part < PARTS; part++)
        sum += sums[part];
    return sum;
}

// clang-format off
const struct kern kern_cpu = {
    .name = "cpu",
    .scratch_bytes = cpu_scratch_bytes,
#define K(result, name, arguments) .name = cpu_##name,
    KERN_LIST(K)
#undef K
};

// cpu_active: the kernels along lists. Rows of W_d are gathered four at a time from the cache that
// the whole matrix fits in; a row's lists are short, so decode, residual and the gradient of the
// values happen while its rows of W_d are near.
#include "lib/kern/cpu_inside.h"
#include "lib/kern/vec.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static inline bool
near_the_jump(const struct jump *jump, const float *z, size_t i)
{
    return fabsf(z[i] - jump->tau[i]) < 0.5f * jump->width;
}

// Entries of one row: those with f > 0, and those of f = 0 near their threshold.
struct census {
    unsigned positive, entries;
    double sum;
};

static struct census
survey_row(const float *f, size_t k, const struct jump *jump, size_t b)
{
    unsigned positive = 0, near = 0;
    double sum = 0;
#pragma omp simd reduction(+ : positive, sum)
    for (size_t i = 0; i < k; i++) {
        positive += f[i] > 0;
        sum += (double)f[i];
    }
    if (jump) {
        const float *z = mat_row(jump->z, b), *tau = jump->tau;
        float half = 0.5f * jump->width;
#pragma omp simd reduction(+ : near)
        for (size_t i = 0; i < k; i++)
            near += (f[i] <= 0) & (fabsf(z[i] - tau[i]) < half);
    }
    return (struct census){positive, positive + near, sum};
}

static void
list_entry(struct active *a, size_t entry, size_t i, float value)
{
    a->col[entry] = (uint32_t)i;
    a->value[entry] = value;
    a->grad[entry] = 0;
}

static void
list_row(struct active *a, const float *f, const struct jump *jump, size_t b)
{
    size_t entry = a->row_at[b], k = a->cols;
    const float *z = jump ? mat_row(jump->z, b) : NULL;
    for (size_t i = 0; jump && i < k; i++)
        if (f[i] > 0 || near_the_jump(jump, z, i))
            list_entry(a, entry++, i, f[i]);
    for (size_t from = 0; !jump && from < k; from += VEC_RUN_BITS)
        for (uint32_t on = vec_above(f + from, vec_run(from, k), 0); on; on &= on - 1)
            list_entry(a, entry++, from + vec_first(on), f[from + vec_first(on)]);
    assert(entry == a->row_at[b + 1]);
}

// The lists by columns, by counting.
static void
list_columns(struct active *a)
{
    memset(a->col_at, 0, (a->cols + 1) * sizeof *a->col_at);
    memset(a->fired, 0, a->cols * sizeof *a->fired);
    for (size_t e = 0; e < a->count; e++) {
        a->col_at[a->col[e] + 1]++;
        a->fired[a->col[e]] += a->value[e] > 0;
    }
    for (size_t i = 0; i < a->cols; i++)
        a->col_at[i + 1] += a->col_at[i];
    for (size_t b = 0; b < a->rows; b++)
        for (uint32_t e = a->row_at[b]; e < a->row_at[b + 1]; e++) {
            uint32_t at = a->col_at[a->col[e]]++; // where the column's next entry goes
            a->place[at] = e;
            a->row[at] = (uint32_t)b;
        }
    memmove(a->col_at + 1, a->col_at, a->cols * sizeof *a->col_at);
    a->col_at[0] = 0;
}

static void
count_fired(struct active *a, struct mat f)
{
    size_t width = stripe_cols(f.cols), stripes = (f.cols + width - 1) / width;
#pragma omp parallel for schedule(static)
    for (size_t stripe = 0; stripe < stripes; stripe++) {
        size_t from = stripe * width, cols = f.cols - from < width ? f.cols - from : width;
        uint32_t *fired = a->fired + from;
        memset(fired, 0, cols * sizeof *fired);
        for (size_t b = 0; b < f.rows; b++) {
            const float *row = mat_row(f, b) + from;
#pragma omp simd
            for (size_t c = 0; c < cols; c++)
                fired[c] += row[c] > 0;
        }
    }
}

void
cpu_gather(struct active *a, struct mat f, const struct jump *jump)
{
    assert(f.rows == a->rows && f.cols == a->cols);
    size_t positives[PARTS], entries[PARTS];
    double pairings[PARTS];
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < PARTS; part++) {
        positives[part] = entries[part] = 0;
        pairings[part] = 0;
        for (size_t b = part_from(part, PARTS, f.rows); b < part_from(part + 1, PARTS, f.rows);
             b++) {
            struct census row = survey_row(mat_row(f, b), f.cols, jump, b);
            a->row_at[b + 1] = row.entries;
            a->row_sum[b] = row.sum;
            positives[part] += row.positive;
            entries[part] += row.entries;
            pairings[part] += (double)row.entries * (double)row.entries;
        }
    }
    a->count = a->positive = 0;
    a->sum = a->pairings = 0;
    for (size_t part = 0; part < PARTS; part++) {
        a->count += entries[part];
        a->positive += positives[part];
        a->pairings += pairings[part];
    }
    for (size_t b = 0; b < f.rows; b++)
        a->sum += a->row_sum[b];
    a->listed = a->count <= a->room;
    if (!a->listed) {
        count_fired(a, f);
        return;
    }
    a->row_at[0] = 0;
    for (size_t b = 0; b < f.rows; b++)
        a->row_at[b + 1] += a->row_at[b];
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < f.rows; b++)
        list_row(a, mat_row(f, b), jump, b);
    list_columns(a);
}

// out += sum over entries of value times row, four rows of w at a time; zeros are passed over.
static void
decode_entries(float *out, const struct active *a, size_t from, size_t to, struct mat w)
{
    const float *rows[4];
    float values[4];
    size_t held = 0;
    for (size_t e = from; e < to; e++) {
        if (e + 4 < to)
            vec_fetch(mat_row(w, a->col[e + 4]), w.cols);
        if (!(a->value[e] > 0))
            continue;
        values[held] = a->value[e];
        rows[held++] = mat_row(w, a->col[e]);
        if (held == 4) {
            vec_add4(out, values, rows, w.cols);
            held = 0;
        }
    }
    for (size_t n = 0; n < held; n++)
        vec_add(out, values[n], rows[n], w.cols);
}

double
cpu_reconstruct_active(struct active *a, struct mat g, float *gbias, struct mat x, struct mat w,
                       const float *bias, float weight)
{
    assert(a->listed && a->rows == x.rows && a->cols == w.rows && mat_same_shape(g, x));
    size_t d = x.cols;
    float slope = 2 * weight / (float)x.rows;
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t b = 0; b < x.rows; b++) {
        float *e = mat_row(g, b);
        const float *want = mat_row(x, b);
        memcpy(e, bias, d * sizeof *e);
        decode_entries(e, a, a->row_at[b], a->row_at[b + 1], w);
#pragma omp simd
        for (size_t c = 0; c < d; c++)
            e[c] -= want[c];
        a->row_sum[b] = vec_square_sum(e, d);
#pragma omp simd
        for (size_t c = 0; c < d; c++)
            e[c] *= slope;
        for (size_t n = a->row_at[b]; n < a->row_at[b + 1]; n++)
            a->grad[n] = vec_dot(e, mat_row(w, a->col[n]), d);
    }
    cpu_column_sums(gbias, g);
    double sum = 0;
    for (size_t b = 0; b < x.rows; b++)
        sum += a->row_sum[b];
    return sum / (double)x.rows;
}

// dL/df of one entry, with what pulls on it.
static float
pulled(const struct active *a, size_t at, size_t i, const struct pull *pull)
{
    size_t e = a->place[at];
    float g = a->grad[e] + pull->l1, f = a->value[e];
    if (pull->temporal > 0) {
        const float *was = cpu_row_before(pull->before, pull->follows, a->row[at]);
        if (was)
            g += pull->temporal * (f - was[i]);
    }
    if (pull->tanh > 0) {
        float t = tanhf(4 * f);
        g += pull->tanh * 4 * (1 - t * t);
    }
    return g;
}

void
cpu_gate_active(struct active *a, float *gbias, struct mat f, struct pull pull,
                const struct jump *jump)
{
    assert(a->listed && a->rows == f.rows && a->cols == f.cols);
#pragma omp parallel for schedule(dynamic, 64)
    for (size_t i = 0; i < a->cols; i++) {
        double sum = 0, tau_sum = 0;
        for (size_t at = a->col_at[i]; at < a->col_at[i + 1]; at++) {
            size_t e = a->place[at];
            float g = pulled(a, at, i, &pull);
            if (jump && near_the_jump(jump, mat_row(jump->z, a->row[at]), i))
                tau_sum -= (double)((jump->tau[i] * g + jump->step) / jump->width);
            a->grad[e] = a->value[e] > 0 ? g : 0;
            sum += (double)a->grad[e];
        }
        gbias[i] = (float)sum;
        if (jump)
            jump->gtau[i] = (float)tau_sum;
    }
}

void
cpu_weights_active(struct mat gw, const struct active *a, const float *of, struct mat b, bool add)
{
    assert(a->listed && gw.rows == a->cols && gw.cols == b.cols && a->rows == b.rows);
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < gw.rows; i++) {
        float *out = mat_row(gw, i);
        if (!add)
            memset(out, 0, gw.cols * sizeof *out);
        const float *rows[4];
        float values[4];
        size_t held = 0;
        for (size_t at = a->col_at[i]; at < a->col_at[i + 1]; at++) {
            if (at + 4 < a->count)
                vec_fetch(mat_row(b, a->row[at + 4]), b.cols);
            values[held] = of[a->place[at]];
            rows[held++] = mat_row(b, a->row[at]);
            if (held == 4) {
                vec_add4(out, values, rows, b.cols);
                held = 0;
            }
        }
        for (size_t n = 0; n < held; n++)
            vec_add(out, values[n], rows[n], b.cols);
    }
}

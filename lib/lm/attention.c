#include "lib/lm/attention.h"

#include "lib/kern/simd.h"
#include "lib/lm/maths.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

// A register tile is ROWS positions by two vectors: eight accumulators hide the latency of two FMA
// units.
enum { ROWS = ATTENTION_ROWS, STEP = 2 * SIMD_LANES };

static size_t
round_up(size_t value, size_t unit)
{
    return (value + unit - 1) / unit * unit;
}

// k transposed, D x (C, and zeros up to whole steps); v with its columns filled up to whole steps;
// scores ROWS x the same; the result of ROWS positions.
size_t
attention_scratch(const struct attention *how)
{
    size_t keys = round_up(how->context, STEP), dims = round_up(how->dim, STEP);
    return how->dim * keys + ROWS * keys + how->context * dims + ROWS * dims;
}

// out [ROWS x columns] = a [ROWS x n] b [n x columns]: `columns` a multiple of STEP. Row r of a is
// at a + r * lda.
static SIMD_UNCHECKED void
product(float *restrict out, size_t ldo, const float *restrict a, size_t lda,
        const float *restrict b, size_t ldb, size_t n, size_t columns)
{
    for (size_t j = 0; j < columns; j += STEP) {
        simd acc[ROWS][2];
#pragma GCC unroll 4
        for (size_t r = 0; r < ROWS; r++)
            acc[r][0] = acc[r][1] = SIMD_SET(0.0f);
        for (size_t i = 0; i < n; i++) {
            const float *row = b + i * ldb + j;
            simd b0 = SIMD_LOAD(row), b1 = SIMD_LOAD(row + SIMD_LANES);
            SIMD_KEEP(b0);
            SIMD_KEEP(b1);
#pragma GCC unroll 4
            for (size_t r = 0; r < ROWS; r++) {
                simd x = SIMD_SET(a[r * lda + i]);
                acc[r][0] = SIMD_FMA(x, b0, acc[r][0]);
                acc[r][1] = SIMD_FMA(x, b1, acc[r][1]);
            }
        }
#pragma GCC unroll 4
        for (size_t r = 0; r < ROWS; r++) {
            SIMD_STORE(out + r * ldo + j, acc[r][0]);
            SIMD_STORE(out + r * ldo + j + SIMD_LANES, acc[r][1]);
        }
    }
}

// Scores of keys first .. last (inclusive) in row s become weights that sum to 1 after division by
// the returned total; what lies around them, from `from` to `to`, becomes 0.
static float
weigh(float *s, size_t from, size_t first, size_t last, size_t to, float cap)
{
    size_t n = last - first + 1;
    float *at = s + first, total = 0, lanes[8] = {0}, peaks[8];
    if (cap > 0)
        maths_softcap(at, n, cap);
    for (size_t l = 0; l < 8; l++)
        peaks[l] = at[0];
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (size_t l = 0; l < 8; l++)
            peaks[l] = at[i + l] > peaks[l] ? at[i + l] : peaks[l];
    for (size_t i = n / 8 * 8; i < n; i++)
        peaks[0] = at[i] > peaks[0] ? at[i] : peaks[0];
    float most = peaks[0];
    for (size_t l = 1; l < 8; l++)
        most = peaks[l] > most ? peaks[l] : most;
    for (size_t j = 0; j < n; j++)
        at[j] -= most;
    maths_exp(at, n);
    size_t j = 0;
    for (; j + 8 <= n; j += 8)
        for (size_t l = 0; l < 8; l++)
            lanes[l] += at[j + l];
    for (; j < n; j++)
        total += at[j];
    total += ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
             ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
    memset(s + from, 0, (first - from) * sizeof *s);
    memset(s + last + 1, 0, (to - last - 1) * sizeof *s);
    return total;
}

void
attention_head(float *o, size_t o_stride, const float *q, const float *k, const float *v,
               size_t stride, const struct attention *how, float *scratch)
{
    size_t context = how->context, dim = how->dim;
    size_t keys = round_up(context, STEP), dims = round_up(dim, STEP);
    float *turned = scratch, *scores = turned + dim * keys;
    float *values = scores + ROWS * keys, *result = values + context * dims;
    for (size_t i = 0; i < dim; i++) {
        for (size_t j = 0; j < context; j++)
            turned[i * keys + j] = k[j * stride + i];
        memset(turned + i * keys + context, 0, (keys - context) * sizeof *turned);
    }
    bool packed = dims == dim; // whole steps: v can be read where it is
    for (size_t j = 0; j < context && !packed; j++) {
        memcpy(values + j * dims, v + j * stride, dim * sizeof *v);
        memset(values + j * dims + dim, 0, (dims - dim) * sizeof *v);
    }
    const float *vs = packed ? v : values;
    size_t v_stride = packed ? stride : dims;
    size_t stop = how->count ? how->first + how->count : context;
    assert(how->first < context && stop <= context);
    for (size_t t = how->first; t < stop; t += ROWS) {
        // The last tile of a context that is no multiple of ROWS repeats rows it has done, or that
        // are not wanted: they come out with the same bits.
        size_t row = t + ROWS <= context ? t : context < ROWS ? 0 : context - ROWS;
        size_t rows = context < ROWS ? context : ROWS, end = row + rows; // keys 0 .. end - 1
        size_t low = how->window && row + 1 > how->window ? row + 1 - how->window : 0;
        size_t from = low / STEP * STEP, to = round_up(end, STEP);
        const float *queries = q + row * stride;
        SIMD_PROBE(queries + (rows - 1) * stride + dim - 1);
        SIMD_PROBE(turned + (dim - 1) * keys + to - 1);
        SIMD_PROBE(scores + (ROWS - 1) * keys + to - 1);
        SIMD_PROBE(vs + (end - 1) * v_stride + dims - 1);
        SIMD_PROBE(result + (ROWS - 1) * dims + dims - 1);
        if (rows == ROWS)
            product(scores + from, keys, queries, stride, turned + from, keys, dim, to - from);
        else
            for (size_t r = 0; r < rows; r++) // a context of fewer than four
                for (size_t j = 0; j < end; j++) {
                    scores[r * keys + j] = 0;
                    for (size_t i = 0; i < dim; i++)
                        scores[r * keys + j] += queries[r * stride + i] * turned[i * keys + j];
                }
        float totals[ROWS];
        for (size_t r = 0; r < ROWS; r++) {
            size_t last = row + (r < rows ? r : rows - 1);
            size_t first = how->window && last + 1 > how->window ? last + 1 - how->window : 0;
            if (r >= rows)
                memset(scores + r * keys, 0, keys * sizeof *scores);
            totals[r] = weigh(scores + r * keys, from, first, last, to, how->cap);
        }
        product(result, dims, scores + from, keys, vs + from * v_stride, v_stride, end - from,
                dims);
        for (size_t r = row < how->first ? how->first - row : 0; r < rows && row + r < stop; r++) {
            float inverse = 1.0f / totals[r];
            for (size_t i = 0; i < dim; i++)
                o[(row + r - how->first) * o_stride + i] = result[r * dims + i] * inverse;
        }
    }
}

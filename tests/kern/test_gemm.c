// Products against naive double sums, and the promise of gemm.h: the same bits for any number of
// threads. Shapes straddle every tile edge.
#include "lib/base/rng.h"
#include "lib/kern/gemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const size_t sizes[] = {1, 2, 3, 7, 63, 64, 65, 130, 257, 600};
enum { SIZES = sizeof sizes / sizeof *sizes, FENCE = 16 };
static const float sentinel = 12345.0f;

static uint64_t draws;

static uint64_t
draw(uint64_t below)
{
    uint32_t words[4];
    rng_words(words, 17, 99, 0, draws++);
    return rng_below(words, below);
}

// A fenced matrix of numbers in [-1, 1); tests check that the fence stands.
static float *
matrix(size_t count, uint32_t which)
{
    float *at = malloc((count + FENCE) * sizeof *at);
    assert_non_null(at);
    for (size_t i = 0; i < count + FENCE; i++) {
        uint32_t words[4];
        rng_words(words, 23, which, 0, i);
        at[i] = i < count ? 2 * rng_uniform(words[0]) - 1 : sentinel;
    }
    return at;
}

static void
fence_stands(const float *at, size_t count)
{
    for (size_t i = 0; i < FENCE; i++)
        assert_true(at[count + i] == sentinel);
}

static float
rounded(float value, bool bf16)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = bf16 ? (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u : bits;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// c[i][j] (+)= sum over l of a(i, l) b(l, j) in double; each factor by its own strides.
struct factor {
    const float *at;
    size_t row, column;
};

static void
check(const float *c, const float *before, struct factor a, struct factor b, size_t m, size_t n,
      size_t k, bool bf16)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = before ? (double)before[i * n + j] : 0, size = fabs(sum);
            for (size_t l = 0; l < k; l++) {
                double term = (double)rounded(a.at[i * a.row + l * a.column], bf16) *
                              (double)rounded(b.at[l * b.row + j * b.column], bf16);
                sum += term;
                size += fabs(term);
            }
            if (!(fabs((double)c[i * n + j] - sum) <= 1e-6 * (1 + size)))
                fail_msg("%zu x %zu x %zu at %zu, %zu: %g, wanted %g", m, n, k, i, j,
                         (double)c[i * n + j], sum);
        }
}

enum form { NT, NN, TN };

static void
plain(enum form form, size_t m, size_t n, size_t k, bool add)
{
    float *a = matrix(m * k, 1), *b = matrix(k * n, 2), *before = matrix(m * n, 3);
    float *one = matrix(m * n, 3), *two = matrix(m * n, 3);
    void (*const products[])(float *, const float *, const float *, size_t, size_t, size_t,
                             bool) = {gemm_nt, gemm_nn, gemm_tn};
    gemm_threads(1);
    products[form](one, a, b, m, n, k, add);
    gemm_threads(2);
    products[form](two, a, b, m, n, k, add);
    assert_memory_equal(one, two, (m * n + FENCE) * sizeof *one);
    struct factor fa = form == TN ? (struct factor){a, 1, m} : (struct factor){a, k, 1};
    struct factor fb = form == NT ? (struct factor){b, 1, k} : (struct factor){b, n, 1};
    check(one, add ? before : NULL, fa, fb, m, n, k, false);
    fence_stands(one, m * n);
    free(a);
    free(b);
    free(before);
    free(one);
    free(two);
}

static void
plain_products_equal_naive_sums_and_ignore_threads(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < 60; i++)
        plain((enum form)(i % 3), sizes[draw(SIZES)], sizes[draw(SIZES - 1)], sizes[draw(SIZES)],
              draw(2) == 1);
    plain(NT, 1100, 700, 33, false); // several tiles both ways
    plain(TN, 1100, 700, 33, true);
    plain(NN, 1100, 700, 33, true);
}

static void
an_empty_product_clears_or_leaves_c(void **unused)
{
    (void)unused;
    float c[6] = {1, 2, 3, 4, 5, 6};
    const float none[1] = {0};
    gemm_nt(c, none, none, 2, 3, 0, true);
    assert_true(c[0] == 1 && c[5] == 6);
    gemm_nn(c, none, none, 2, 2, 0, false);
    assert_true(c[0] == 0 && c[3] == 0 && c[4] == 5);
    gemm_tn(c, none, none, 0, 3, 5, false);
    gemm_tn(c, none, none, 2, 0, 5, false);
    assert_true(c[4] == 5 && c[5] == 6);
}

static void
weighted(size_t m, size_t n, size_t k, enum gemm_precision precision)
{
    float *a = matrix(m * k, 4), *w = matrix(n * k, 5);
    float *one = matrix(m * n, 6), *two = matrix(m * n, 7), *rows = matrix(m * n, 8);
    struct gemm_weight *weight;
    gemm_threads(2);
    assert_int_equal(gemm_weight_new(&weight, w, n, k, precision), STATUS_OK);
    assert_true(gemm_weight_bytes(weight) >= n * k * (precision == GEMM_BF16 ? 2 : 4));
    gemm_weight_apply(two, a, weight, m);
    gemm_threads(1);
    gemm_weight_apply(one, a, weight, m);
    void *scratch = aligned_alloc(64, gemm_weight_scratch(weight) + 64);
    gemm_weight_rows(rows, n, a, k, weight, m, scratch);
    free(scratch);
    assert_memory_equal(one, two, m * n * sizeof *one);
    assert_memory_equal(one, rows, m * n * sizeof *one);
    check(one, NULL, (struct factor){a, k, 1}, (struct factor){w, 1, k}, m, n, k,
          precision == GEMM_BF16);
    fence_stands(one, m * n);
    fence_stands(two, m * n);
    gemm_weight_free(&weight);
    assert_null(weight);
    free(a);
    free(w);
    free(one);
    free(two);
    free(rows);
}

static void
weights_equal_naive_sums_and_ignore_threads(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < 60; i++)
        weighted(sizes[draw(SIZES)], sizes[draw(SIZES - 1)], sizes[draw(SIZES)],
                 i % 2 ? GEMM_BF16 : GEMM_F32);
    weighted(5, 3000, 40, GEMM_F32); // a head: few rows, many columns
    weighted(5, 3000, 40, GEMM_BF16);
}

// The promise of gemm.h: a row's bits depend neither on how many rows there are, nor on where it
// stands, nor on its strides.
static void
row_alone(size_t n, size_t k, enum gemm_precision precision)
{
    static const size_t counts[] = {1, 7, 16, 17, 63, 64, 65, 128, 200, 2048};
    enum { MOST = 2048 };
    size_t ldc = n + draw(3), lda = k + draw(3);
    float *a = matrix(MOST * lda, 9), *w = matrix(n * k, 10);
    float *all = matrix(MOST * ldc, 11), *some = matrix(MOST * ldc, 11);
    struct gemm_weight *weight;
    gemm_threads(2);
    assert_int_equal(gemm_weight_new(&weight, w, n, k, precision), STATUS_OK);
    void *scratch = aligned_alloc(64, gemm_weight_scratch(weight) + 64);
    gemm_weight_rows(all, ldc, a, lda, weight, MOST, scratch);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t m = counts[i], first = draw(MOST - m + 1);
        gemm_weight_rows(some, ldc, a + first * lda, lda, weight, m, scratch);
        for (size_t r = 0; r < m; r++)
            assert_memory_equal(some + r * ldc, all + (first + r) * ldc, n * sizeof *all);
    }
    for (size_t r = 0; r < MOST; r++) // what lies between the rows of C is not ours
        for (size_t j = n; j < ldc; j++)
            assert_true(all[r * ldc + j] == some[r * ldc + j]);
    fence_stands(all, MOST * ldc);
    fence_stands(some, MOST * ldc);
    free(scratch);
    gemm_weight_free(&weight);
    free(a);
    free(w);
    free(all);
    free(some);
}

static void
a_row_depends_on_that_row_alone(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < 10; i++)
        row_alone(1 + draw(200), 1 + draw(700), i % 2 ? GEMM_BF16 : GEMM_F32);
    row_alone(192, 576, GEMM_F32);
    row_alone(1105, 96, GEMM_F32);
}

static void
nan_passes_through_a_weight(void **unused)
{
    (void)unused;
    float w[6] = {1, 2, 3, 4, 5, 6}, a[6] = {1, 1, (float)NAN, 1, 1, 1}, c[4];
    for (int precision = GEMM_F32; precision <= GEMM_BF16; precision++) {
        struct gemm_weight *weight;
        assert_int_equal(gemm_weight_new(&weight, w, 2, 3, (enum gemm_precision)precision),
                         STATUS_OK);
        gemm_weight_apply(c, a, weight, 2);
        assert_true(isnan(c[0]) && isnan(c[1]) && c[2] == 6 && c[3] == 15);
        gemm_weight_free(&weight);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_products_equal_naive_sums_and_ignore_threads),
        cmocka_unit_test(an_empty_product_clears_or_leaves_c),
        cmocka_unit_test(weights_equal_naive_sums_and_ignore_threads),
        cmocka_unit_test(a_row_depends_on_that_row_alone),
        cmocka_unit_test(nan_passes_through_a_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

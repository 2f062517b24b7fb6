// The functions on rows against the C library's in fp64, and attention against naive sums.
#include "lib/base/rng.h"
#include "lib/lm/attention.h"
#include "lib/lm/maths.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float
uniform(uint32_t which, size_t i)
{
    uint32_t words[4];
    rng_words(words, 5, which, 0, i);
    return 2 * rng_uniform(words[0]) - 1;
}

static double
exact(enum activation activation, double x)
{
    switch (activation) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU_TANH: // the usual form loses all digits far left; this is the same function
        return x / (1 + exp(-2 * sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case ACT_GELU_ERF:
        return 0.5 * x * erfc(-x / sqrt(2));
    }
    return NAN;
}

static void
check(double x, double got, double want, double relative, double absolute, const char *what)
{
    if (!(fabs(got - want) <= relative * fabs(want) + absolute))
        fail_msg("%s(%.9g) = %.9g, wanted %.9g", what, x, got, want);
}

static void
functions_are_accurate_everywhere(void **unused)
{
    (void)unused;
    enum { N = 100003 }; // not a multiple of any vector: tails are checked too
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y), *up = malloc(N * sizeof *up);
    for (size_t i = 0; i < N; i++) { // half near 0, half up to 87
        x[i] = uniform(1, i) * (i % 2 ? 3 : 87);
        up[i] = uniform(2, i);
    }
    memcpy(y, x, N * sizeof *x);
    maths_exp(y, N);
    for (size_t i = 0; i < N; i++)
        check((double)x[i], (double)y[i], exp((double)x[i]), 2e-7, 0, "exp");
    static const float caps[] = {1, 30, 50};
    for (size_t c = 0; c < 3; c++) {
        memcpy(y, x, N * sizeof *x);
        maths_softcap(y, N, caps[c]);
        for (size_t i = 0; i < N; i++)
            check((double)x[i], (double)y[i],
                  (double)caps[c] * tanh((double)x[i] / (double)caps[c]), 4e-7, 0, "softcap");
    }
    static const char *const names[] = {"silu", "gelu_tanh", "gelu_erf"};
    for (int a = ACT_SILU; a <= ACT_GELU_ERF; a++) {
        // Far left a float's own rounding of the exponent decides: compared in absolute terms.
        memcpy(y, x, N * sizeof *x);
        maths_activate(y, N, (enum activation)a);
        for (size_t i = 0; i < N; i++)
            check((double)x[i], (double)y[i], exact((enum activation)a, (double)x[i]), 4e-7,
                  x[i] < -1 ? 3e-7 : 0, names[a]);
        float *gated = malloc(N * sizeof *gated);
        maths_gate(gated, x, up, N, (enum activation)a);
        for (size_t i = 0; i < N; i++)
            check((double)x[i], (double)gated[i], (double)y[i] * (double)up[i], 1e-7, 1e-37,
                  "gate of a number");
        memcpy(y, x, N * sizeof *x);
        maths_gate(y, y, up, N, (enum activation)a);
        assert_memory_equal(y, gated, N * sizeof *y);
        free(gated);
    }
    free(x);
    free(y);
    free(up);
}

static void
the_ends_of_the_range_are_sane(void **unused)
{
    (void)unused;
    float e[6] = {-INFINITY, -1e30f, 0, 1e30f, INFINITY, NAN};
    maths_exp(e, 6);
    assert_true(e[0] >= 0 && e[0] < 2e-38f && e[1] < 2e-38f && e[2] == 1);
    assert_true(e[3] > 2e38f && isfinite(e[3]) && isfinite(e[4]) && isnan(e[5]));
    for (int a = ACT_SILU; a <= ACT_GELU_ERF; a++) {
        float h[5] = {-1e4f, -0.0f, 0, 1e4f, NAN};
        maths_activate(h, 5, (enum activation)a);
        assert_true(fabsf(h[0]) < 1e-30f && h[1] == 0 && h[2] == 0 && h[3] == 1e4f && isnan(h[4]));
    }
    float cap[4] = {-1e30f, 0, 1e30f, NAN};
    maths_softcap(cap, 4, 30);
    assert_true(cap[0] == -30 && cap[1] == 0 && cap[2] == 30 && isnan(cap[3]));
}

static void
norms_and_rope_equal_their_definitions(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {1, 2, 7, 8, 9, 63, 64, 576};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        float x[576], w[576], b[576], y[576];
        double sum = 0, squares = 0, var = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = uniform(3, i) * 5 + 1;
            w[i] = uniform(4, i);
            b[i] = uniform(5, i);
            sum += (double)x[i];
            squares += (double)x[i] * (double)x[i];
        }
        double mean = sum / (double)n;
        for (size_t i = 0; i < n; i++)
            var += pow((double)x[i] - mean, 2) / (double)n;
        maths_rms(y, x, w, n, 1e-3);
        for (size_t i = 0; i < n; i++)
            check((double)n, (double)y[i],
                  (double)x[i] / sqrt(squares / (double)n + 1e-3) * (double)w[i], 3e-7, 1e-7,
                  "rms");
        maths_layer_norm(y, x, w, b, n, 1e-3);
        for (size_t i = 0; i < n; i++)
            check((double)n, (double)y[i],
                  ((double)x[i] - mean) / sqrt(var + 1e-3) * (double)w[i] + (double)b[i], 1e-6,
                  1e-6, "layer_norm");
    }
    float x[6] = {1, 2, 3, 4, 5, 6}, cosine[2] = {0, 1}, sine[2] = {1, 0};
    maths_rope(x, cosine, sine, 2); // pairs (0, 2) by a right angle, (1, 3) not at all
    assert_true(x[0] == -3 && x[1] == 2 && x[2] == 1 && x[3] == 4 && x[4] == 5 && x[5] == 6);
}

static void
attention_once(size_t context, size_t dim, size_t window, float cap)
{
    struct attention how = {.context = context, .dim = dim, .window = window, .cap = cap};
    size_t stride = 3 * dim + 1, o_stride = dim + 2, count = context * o_stride;
    float *qkv = malloc(context * stride * sizeof *qkv), *o = malloc(count * sizeof *o);
    float *scratch = aligned_alloc(64, (attention_scratch(&how) * sizeof *scratch + 63) / 64 * 64);
    double *s = malloc(context * sizeof *s);
    for (size_t i = 0; i < context * stride; i++)
        qkv[i] = 3 * uniform(6, i);
    for (size_t i = 0; i < count; i++)
        o[i] = 777;
    attention_head(o, o_stride, qkv, qkv + dim, qkv + 2 * dim, stride, &how, scratch);
    for (size_t t = 0; t < context; t++) {
        size_t first = window && t + 1 > window ? t + 1 - window : 0;
        double total = 0, most = -INFINITY;
        for (size_t j = first; j <= t; j++) {
            s[j] = 0;
            for (size_t i = 0; i < dim; i++)
                s[j] += (double)qkv[t * stride + i] * (double)qkv[j * stride + dim + i];
            s[j] = cap > 0 ? (double)cap * tanh(s[j] / (double)cap) : s[j];
            most = fmax(most, s[j]);
        }
        for (size_t j = first; j <= t; j++)
            total += s[j] = exp(s[j] - most);
        for (size_t i = 0; i < dim; i++) {
            double want = 0;
            for (size_t j = first; j <= t; j++)
                want += s[j] / total * (double)qkv[j * stride + 2 * dim + i];
            check((double)t, (double)o[t * o_stride + i], want, 0, 4e-5, "attention");
        }
        assert_true(o[t * o_stride + dim] == 777 && o[t * o_stride + dim + 1] == 777);
    }
    // Some positions alone have the same bits, and nothing beyond them is written.
    float *some = malloc((count + 1) * sizeof *some);
    for (how.first = context / 3; how.first < context; how.first += 1 + context / 5) {
        how.count = 1 + (context - how.first - 1) / 2;
        for (size_t i = 0; i <= count; i++)
            some[i] = 777;
        attention_head(some, o_stride, qkv, qkv + dim, qkv + 2 * dim, stride, &how, scratch);
        assert_memory_equal(some, o + how.first * o_stride, how.count * o_stride * sizeof *o);
        assert_true(some[how.count * o_stride] == 777);
    }
    free(some);
    free(qkv);
    free(o);
    free(scratch);
    free(s);
}

static void
attention_equals_naive_sums(void **unused)
{
    (void)unused;
    static const size_t contexts[] = {1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 64, 65, 130};
    static const size_t dims[] = {1, 8, 16, 20, 32, 64, 80};
    static const size_t windows[] = {0, 1, 2, 16, 17, 64, 1000};
    size_t i = 0;
    for (size_t c = 0; c < sizeof contexts / sizeof *contexts; c++)
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++, i++)
            attention_once(contexts[c], dims[d], windows[i % 7], i % 2 ? 0 : 20);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_accurate_everywhere),
        cmocka_unit_test(the_ends_of_the_range_are_sane),
        cmocka_unit_test(norms_and_rope_equal_their_definitions),
        cmocka_unit_test(attention_equals_naive_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// What tests of kernels share: three runs (the oracle, and the fast one with one thread and with
// two), memory between fences, random data, and what "the same" means.
#ifndef TESTS_KERN_FENCED_H
#define TESTS_KERN_FENCED_H

#include "lib/kern/gemm.h"
#include "lib/kern/kern.h"

#include "lib/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// The three runs of a check: the oracle, and the fast one twice.
enum { REF, ONE, TWO, RUNS };
static const struct kern *kern;

static inline bool
begin(size_t run)
{
    kern = run == REF ? &kern_ref : &kern_cpu;
    gemm_threads(run == TWO ? 2 : 1);
    return true;
}
#define EACH(run) for (size_t run = 0; run < RUNS && begin(run); run++)

// Memory between fences; one check's worth, checked and given back by `fences_hold`.
enum { FENCE = 16, FENCED = 96 };
static struct {
    float *memory;
    size_t count;
} fenced[FENCED];
static size_t fenced_count;
static uint64_t drawn;

static inline float *
floats(size_t count)
{
    assert_true(fenced_count < FENCED);
    float *memory = aligned_alloc(64, ((count + 2 * FENCE) * sizeof(float) + 63) / 64 * 64);
    assert_non_null(memory);
    fenced[fenced_count].memory = memory;
    fenced[fenced_count++].count = count;
    for (size_t i = 0; i < count + 2 * FENCE; i++)
        memory[i] = -77777.0f;
    return memory + FENCE;
}

static inline void
fences_hold(void)
{
    for (size_t n = 0; n < fenced_count; n++) {
        const float *memory = fenced[n].memory, *end = memory + FENCE + fenced[n].count;
        for (size_t i = 0; i < FENCE; i++)
            assert_true(memory[i] <= -77777.0f && end[i] <= -77777.0f);
        free(fenced[n].memory);
    }
    fenced_count = 0;
}

static inline struct mat
fresh(size_t rows, size_t cols)
{
    return (struct mat){floats(rows * cols), rows, cols};
}

static inline float
uniform(void)
{
    uint32_t words[4];
    rng_words(words, 2024, 99, 0, drawn++);
    return rng_uniform(words[0]);
}

static inline float
normal(void)
{
    float sum = 0;
    for (int i = 0; i < 6; i++)
        sum += uniform();
    return (sum - 3) * 1.4f;
}

static inline struct mat
given(size_t rows, size_t cols)
{
    struct mat m = fresh(rows, cols);
    for (size_t i = 0; i < rows * cols; i++)
        m.at[i] = normal();
    return m;
}

// Features: a share of them on; some latents sleep, some are twins.
static inline struct mat
features(size_t B, size_t k, float share)
{
    struct mat f = fresh(B, k);
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < k; i++)
            f.at[b * k + i] = uniform() < share && i % 11 != 5 ? 0.1f + uniform() : 0;
    for (size_t b = 0; b < B && k > 3; b++)
        f.at[b * k + 3] = f.at[b * k] * 2;
    return f;
}

static inline struct mat
copy(struct mat m)
{
    struct mat other = fresh(m.rows, m.cols);
    memcpy(other.at, m.at, mat_count(m) * sizeof(float));
    return other;
}

static inline struct scratch
scratch(size_t B, size_t d, size_t k)
{
    size_t bytes = kern->scratch_bytes(B, d, k);
    struct scratch tmp = {floats(bytes / sizeof(float)), bytes / sizeof(float) * sizeof(float)};
    return tmp;
}

static inline void
near(double got, double want, double eps, const char *what)
{
    if (!(fabs(got - want) <= eps * (1 + fabs(want))))
        fail_msg("%s: got %.9g, wanted %.9g", what, got, want);
}

static inline void
agree(const struct mat *m, double eps, const char *what)
{
    for (size_t i = 0; i < mat_count(m[REF]); i++)
        near((double)m[ONE].at[i], (double)m[REF].at[i], eps, what);
    assert_memory_equal(m[ONE].at, m[TWO].at, mat_count(m[ONE]) * sizeof(float));
}

static inline void
agree_numbers(const double *value, double eps, const char *what)
{
    near(value[ONE], value[REF], eps, what);
    assert_memory_equal(&value[ONE], &value[TWO], sizeof *value);
}

// Values with many ties.
static inline struct mat
coarse(size_t B, size_t k)
{
    struct mat z = given(B, k);
    for (size_t i = 0; i < mat_count(z); i++)
        z.at[i] = roundf(z.at[i] * 4) / 4;
    return z;
}

static inline struct mat
unit_directions(size_t k, size_t d)
{
    struct mat w = given(k, d);
    kern_ref.unit_rows(w);
    return w;
}

#endif

// GFLOP/s of the matrix products beside what one core can do at all in the same seconds: a loop of
// FMAs that touches no memory. Ratios of processor time are what to compare; wall-clock figures
// move with whatever else the machine does. Set OMP_WAIT_POLICY=passive, or waiting counts as work.
//     bench_gemm [threads] [seconds a line]
#include "lib/kern/gemm.h"
#include "lib/base/tick.h"

#include <immintrin.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined __AVX512F__
typedef __m512 lanes;
#define SET(x) _mm512_set1_ps(x)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#elif defined __AVX2__ && defined __FMA__
typedef __m256 lanes;
#define SET(x) _mm256_set1_ps(x)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#else
typedef __m128 lanes;
#define SET(x) _mm_set1_ps(x)
#define FMA(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
#endif

// Seconds of processor time of all our threads: on a shared machine the only fair clock.
static double
cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// GFLOP per second of one core: twelve independent chains of multiply-adds.
static double
peak(void)
{
    enum { ROUNDS = 500000 };
    lanes x = SET(0.999999f), y = SET(1e-7f), c0 = y, c1 = y, c2 = y, c3 = y, c4 = y, c5 = y;
    lanes c6 = y, c7 = y, c8 = y, c9 = y, c10 = y, c11 = y;
    // Nothing may be known beforehand, or chains that are alike would be computed once.
    __asm__ volatile("" : "+v"(x), "+v"(y), "+v"(c0), "+v"(c1), "+v"(c2), "+v"(c3), "+v"(c4));
    __asm__ volatile("" : "+v"(c5), "+v"(c6), "+v"(c7), "+v"(c8), "+v"(c9), "+v"(c10), "+v"(c11));
    double start = cpu_seconds();
    for (int round = 0; round < ROUNDS; round++) {
        c0 = FMA(c0, x, y), c1 = FMA(c1, x, y), c2 = FMA(c2, x, y), c3 = FMA(c3, x, y);
        c4 = FMA(c4, x, y), c5 = FMA(c5, x, y), c6 = FMA(c6, x, y), c7 = FMA(c7, x, y);
        c8 = FMA(c8, x, y), c9 = FMA(c9, x, y), c10 = FMA(c10, x, y), c11 = FMA(c11, x, y);
    }
    double seconds = cpu_seconds() - start;
    __asm__ volatile("" ::"v"(c0), "v"(c1), "v"(c2), "v"(c3), "v"(c4), "v"(c5));
    __asm__ volatile("" ::"v"(c6), "v"(c7), "v"(c8), "v"(c9), "v"(c10), "v"(c11));
    return 2.0 * (double)(sizeof(lanes) / sizeof(float)) * 12 * ROUNDS / seconds / 1e9;
}

enum form { NT, NN, TN, WEIGHT_F32, WEIGHT_BF16 };
static const char *const names[] = {"nt", "nn", "tn", "weight f32", "weight bf16"};

static float *
numbers(size_t count)
{
    float *at = malloc(count * sizeof *at);
    for (size_t i = 0; at && i < count; i++)
        at[i] = (float)(i * 2654435761u % 1000) / 500 - 1;
    return at;
}

static int
measure(enum form form, size_t m, size_t n, size_t k, double limit)
{
    float *a = numbers(m * k), *b = numbers(n * k), *c = numbers(m * n);
    struct gemm_weight *weight = NULL;
    int bad = !a || !b || !c ||
              (form >= WEIGHT_F32 &&
               gemm_weight_new(&weight, b, n, k, form == WEIGHT_F32 ? GEMM_F32 : GEMM_BF16) != 0);
    double best = 1e9, least = 1e9, top = 0, end = tick_seconds() + limit;
    for (int round = 0; !bad && (round < 3 || tick_seconds() < end); round++) {
        double before = peak(), start = tick_seconds(), cpu = cpu_seconds();
        if (form == NT)
            gemm_nt(c, a, b, m, n, k, false);
        else if (form == NN)
            gemm_nn(c, a, b, m, n, k, false);
        else if (form == TN)
            gemm_tn(c, a, b, m, n, k, false);
        else
            gemm_weight_apply(c, a, weight, m);
        double seconds = tick_seconds() - start;
        cpu = cpu_seconds() - cpu;
        least = cpu < least ? cpu : least;
        best = seconds < best ? seconds : best;
        top = before > top ? before : top;
    }
    double work = 2.0 * (double)m * (double)n * (double)k / 1e9;
    if (!bad)
        printf("%-11s %5zu x %5zu x %4zu  wall %6.1f GFLOP/s  a core %6.1f of %6.1f, %5.1f %%\n",
               names[form], m, n, k, work / best, work / least, top, 100 * work / least / top);
    gemm_weight_free(&weight);
    free(a);
    free(b);
    free(c);
    return bad;
}

int
main(int count, char **words)
{
    size_t threads = count > 1 ? strtoul(words[1], NULL, 10) : 0;
    double limit = count > 2 ? strtod(words[2], NULL) : 1;
    gemm_threads(threads);
    printf("%d threads\n", omp_get_max_threads());
    int bad = measure(NT, 2048, 1536, 576, limit) | measure(NT, 2048, 4608, 576, limit) |
              measure(NN, 2048, 576, 4608, limit) | measure(TN, 4096, 576, 2048, limit);
    for (int form = WEIGHT_F32; form <= WEIGHT_BF16; form++)
        bad |= measure((enum form)form, 2048, 1536, 576, limit) |
               measure((enum form)form, 2048, 3072, 576, limit) |
               measure((enum form)form, 2048, 576, 1536, limit) |
               measure((enum form)form, 2048, 576, 576, limit) |
               measure((enum form)form, 2048, 9216, 2304, limit) |
               measure((enum form)form, 64, 49152, 576, limit);
    return bad;
}

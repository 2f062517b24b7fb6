// vec: the inner loops of the cpu backend on rows of fp32. Eight lanes by definition, whatever the
// machine has, so a sum has the same order everywhere.
#ifndef LIB_KERN_VEC_H
#define LIB_KERN_VEC_H

#include <stddef.h>
#include <stdint.h>

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
enum { LANES = 8 };

static inline lanes
lanes_at(const float *at)
{
    return *(const lanes *)at;
}

static inline float
lanes_sum(lanes v)
{
    return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

static inline float
vec_dot(const float *a, const float *b, size_t n)
{
    lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    size_t c = 0;
    for (; c + 4 * LANES <= n; c += 4 * LANES) {
        s0 += lanes_at(a + c) * lanes_at(b + c);
        s1 += lanes_at(a + c + LANES) * lanes_at(b + c + LANES);
        s2 += lanes_at(a + c + 2 * LANES) * lanes_at(b + c + 2 * LANES);
        s3 += lanes_at(a + c + 3 * LANES) * lanes_at(b + c + 3 * LANES);
    }
    for (; c + LANES <= n; c += LANES)
        s0 += lanes_at(a + c) * lanes_at(b + c);
    float tail = 0;
    for (; c < n; c++)
        tail += a[c] * b[c];
    return lanes_sum((s0 + s1) + (s2 + s3)) + tail;
}

// The largest of n, a multiple of LANES, at least LANES.
static inline float
vec_max(const float *a, size_t n)
{
    float most[LANES];
    for (size_t l = 0; l < LANES; l++)
        most[l] = a[l];
    for (size_t c = LANES; c < n; c += LANES)
        for (size_t l = 0; l < LANES; l++)
            most[l] = a[c + l] > most[l] ? a[c + l] : most[l];
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++)
            most[l] = most[l + half] > most[l] ? most[l + half] : most[l];
    return most[0];
}

// out += v a. `out` overlaps nothing, here and below.
static inline void
vec_add(float *restrict out, float v, const float *a, size_t n)
{
    size_t c = 0;
    for (; c + LANES <= n; c += LANES)
        *(lanes *)(out + c) += v * lanes_at(a + c);
    for (; c < n; c++)
        out[c] += v * a[c];
}

// out += v[0] a[0] + ... + v[3] a[3]: one visit of `out` for four rows
static inline void
vec_add4(float *restrict out, const float v[4], const float *const a[4], size_t n)
{
    const float v0 = v[0], v1 = v[1], v2 = v[2], v3 = v[3];
    const float *a0 = a[0], *a1 = a[1], *a2 = a[2], *a3 = a[3];
    size_t c = 0;
    for (; c + LANES <= n; c += LANES)
        *(lanes *)(out + c) += (v0 * lanes_at(a0 + c) + v1 * lanes_at(a1 + c)) +
                               (v2 * lanes_at(a2 + c) + v3 * lanes_at(a3 + c));
    for (; c < n; c++)
        out[c] += (v0 * a0[c] + v1 * a1[c]) + (v2 * a2[c] + v3 * a3[c]);
}

// Starts to fetch a row that will be used soon: enough of it for the hardware to go on.
static inline void
vec_fetch(const float *a, size_t n)
{
    size_t lines = n / 16 < 8 ? n / 16 : 8;
    for (size_t line = 0; line < lines; line++)
        __builtin_prefetch(a + 16 * line);
}

// Sums of squares and of products in fp64, from short fp32 runs.
enum { VEC_RUN = 256 };

static inline double
vec_square_sum(const float *a, size_t n)
{
    double sum = 0;
    for (size_t at = 0; at < n; at += VEC_RUN) {
        size_t run = n - at < VEC_RUN ? n - at : VEC_RUN;
        sum += (double)vec_dot(a + at, a + at, run);
    }
    return sum;
}

// Bit c says whether a[c] > floor, for n <= VEC_RUN_BITS of them: how sparse rows are walked,
//     for (uint32_t on = vec_above(a, n, floor); on; on &= on - 1)
//         ... a[vec_first(on)] ...
enum { VEC_RUN_BITS = 32 };
static inline uint32_t
vec_above(const float *a, size_t n, float floor)
{
    uint32_t on = 0;
#ifdef __AVX__
    if (n == VEC_RUN_BITS) {
        for (unsigned part = 0; part < 4; part++) {
            int eight = __builtin_ia32_movmskps256((lanes)(lanes_at(a + part * LANES) > floor));
            on |= (uint32_t)eight << part * LANES;
        }
        return on;
    }
#endif
    for (size_t c = 0; c < n; c++)
        on |= (uint32_t)(a[c] > floor) << c;
    return on;
}

static inline size_t
vec_first(uint32_t on)
{
    return (size_t)__builtin_ctz(on);
}

// How many of n elements are left for a run.
static inline size_t
vec_run(size_t from, size_t n)
{
    return n - from < VEC_RUN_BITS ? n - from : VEC_RUN_BITS;
}

// Row i of `count` begins part i of `parts`: a division of the work by the shape alone.
static inline size_t
part_from(size_t part, size_t parts, size_t count)
{
    size_t each = count / parts, rest = count % parts;
    return part * each + (part < rest ? part : rest);
}

#endif

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

// out += v a
static inline void
vec_add(float *out, float v, const float *a, size_t n)
{
    size_t c = 0;
    for (; c + LANES <= n; c += LANES)
        *(lanes *)(out + c) += v * lanes_at(a + c);
    for (; c < n; c++)
        out[c] += v * a[c];
}

// out += v[0] a[0] + ... + v[3] a[3]: one visit of `out` for four rows
static inline void
vec_add4(float *out, const float v[4], const float *const a[4], size_t n)
{
    size_t c = 0;
    for (; c + LANES <= n; c += LANES)
        *(lanes *)(out + c) += (v[0] * lanes_at(a[0] + c) + v[1] * lanes_at(a[1] + c)) +
                               (v[2] * lanes_at(a[2] + c) + v[3] * lanes_at(a[3] + c));
    for (; c < n; c++)
        out[c] += (v[0] * a[0][c] + v[1] * a[1][c]) + (v[2] * a[2][c] + v[3] * a[3][c]);
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

// Is any of these (at most VEC_SKIP) greater than `floor`? How sparse rows are walked: run by run,
// passing over runs with nothing in them.
enum { VEC_SKIP = 16 };
static inline int
vec_any_above(const float *a, size_t n, float floor)
{
    int any = 0;
    if (n == VEC_SKIP) {
#pragma omp simd reduction(| : any)
        for (size_t c = 0; c < VEC_SKIP; c++)
            any |= a[c] > floor;
        return any;
    }
    for (size_t c = 0; c < n; c++)
        any |= a[c] > floor;
    return any;
}

// Row i of `count` begins part i of `parts`: a division of the work by the shape alone.
static inline size_t
part_from(size_t part, size_t parts, size_t count)
{
    size_t each = count / parts, rest = count % parts;
    return part * each + (part < rest ? part : rest);
}

#endif

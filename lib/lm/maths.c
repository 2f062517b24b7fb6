#include "lib/lm/maths.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined __FMA__ || defined __ARM_FEATURE_FMA
#define FMA(a, b, c) fmaf(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c)) // fmaf would be a call
#endif

// 2^k e^r with x = k ln 2 + r, |r| <= ln 2 / 2; the polynomial is that of Cephes' expf.
static inline float
exp_of(float x)
{
    const float most = 88.3762626f, least = -87.3365479f, whole = 12582912.0f; // 1.5 * 2^23
    x = x > most ? most : x;
    x = x < least ? least : x;
    float shifted = FMA(x, 1.44269504f, whole), k = shifted - whole; // rounds to nearest
    float r = FMA(k, 2.12194440e-4f, FMA(k, -0.693359375f, x));
    float p = 1.9875691500e-4f;
    p = FMA(p, r, 1.3981999507e-3f);
    p = FMA(p, r, 8.3334519073e-3f);
    p = FMA(p, r, 4.1665795894e-2f);
    p = FMA(p, r, 1.6666665459e-1f);
    p = FMA(p, r, 5.0000001201e-1f);
    float y = FMA(p, r * r, r) + 1.0f, power;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23; // the low bits of `shifted` are k
    memcpy(&power, &bits, sizeof power);
    return y * power; // a NaN stays one whatever the bits were
}

// Near 0 a polynomial (Cephes' tanhf), elsewhere 1 - 2 / (e^2|x| + 1).
static inline float
tanh_of(float x)
{
    float a = fabsf(x), z = x * x, p = -5.70498872745e-3f;
    p = FMA(p, z, 2.06390887954e-2f);
    p = FMA(p, z, -5.37397155531e-2f);
    p = FMA(p, z, 1.33314422036e-1f);
    p = FMA(p, z, -3.33332819422e-1f);
    float near = FMA(p * z, x, x);
    float far = copysignf(1.0f - 2.0f / (exp_of(2.0f * a) + 1.0f), x);
    return a < 0.625f ? near : far;
}

static inline float
silu_of(float x)
{
    return x / (1.0f + exp_of(-x));
}

static inline float
gelu_tanh_of(float x)
{
    float u = 0.797884561f * FMA(0.044715f * x * x, x, x);
    return x / (1.0f + exp_of(-2.0f * u));
}

static inline float
gelu_erf_of(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.707106781f));
}

void
maths_exp(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = exp_of(x[i]);
}

void
maths_softcap(float *x, size_t n, float cap)
{
    for (size_t i = 0; i < n; i++)
        x[i] = cap * tanh_of(x[i] / cap);
}

void
maths_activate(float *h, size_t n, enum activation activation)
{
    switch (activation) {
    case ACT_SILU:
        for (size_t i = 0; i < n; i++)
            h[i] = silu_of(h[i]);
        return;
    case ACT_GELU_TANH:
        for (size_t i = 0; i < n; i++)
            h[i] = gelu_tanh_of(h[i]);
        return;
    case ACT_GELU_ERF:
        for (size_t i = 0; i < n; i++)
            h[i] = gelu_erf_of(h[i]);
        return;
    }
}

// y may be h, so the compiler is told that rounds do not touch each other.
void
maths_gate(float *y, const float *h, const float *up, size_t n, enum activation activation)
{
    switch (activation) {
    case ACT_SILU:
#pragma omp simd
        for (size_t i = 0; i < n; i++)
            y[i] = silu_of(h[i]) * up[i];
        return;
    case ACT_GELU_TANH:
#pragma omp simd
        for (size_t i = 0; i < n; i++)
            y[i] = gelu_tanh_of(h[i]) * up[i];
        return;
    case ACT_GELU_ERF:
        for (size_t i = 0; i < n; i++)
            y[i] = gelu_erf_of(h[i]) * up[i];
        return;
    }
}

// Sums in fp64 along eight lanes: the one order whatever the machine's vectors.
enum { LANES = 8 };

static double
total(const double lanes[LANES])
{
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
           ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

static double
square_sum(const float *x, size_t n, double less)
{
    double lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) {
            double v = (double)x[i + l] - less;
            lanes[l] += v * v;
        }
    for (size_t l = 0; i < n; i++, l++) {
        double v = (double)x[i] - less;
        lanes[l] += v * v;
    }
    return total(lanes);
}

static double
sum(const float *x, size_t n)
{
    double lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lanes[l] += (double)x[i + l];
    for (size_t l = 0; i < n; i++, l++)
        lanes[l] += (double)x[i];
    return total(lanes);
}

void
maths_rms(float *y, const float *x, const float *w, size_t n, double eps)
{
    float scale = (float)(1 / sqrt(square_sum(x, n, 0) / (double)n + eps));
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

void
maths_layer_norm(float *y, const float *x, const float *w, const float *b, size_t n, double eps)
{
    double mean = sum(x, n) / (double)n;
    float scale = (float)(1 / sqrt(square_sum(x, n, mean) / (double)n + eps));
    float less = (float)mean;
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - less) * scale * w[i] + b[i];
}

void
maths_rope(float *x, const float *cosine, const float *sine, size_t half)
{
    float *upper = x + half;
    for (size_t i = 0; i < half; i++) {
        float a = x[i], b = upper[i];
        x[i] = a * cosine[i] - b * sine[i];
        upper[i] = b * cosine[i] + a * sine[i];
    }
}

// simd: the widest vectors of floats this build may use, for kernels that no compiler writes well
// from plain loops. One spelling for AVX-512, AVX2 and whatever else gcc and clang lower.
#ifndef LIB_KERN_SIMD_H
#define LIB_KERN_SIMD_H

#include <string.h>

#if defined __AVX512F__
#include <immintrin.h>
typedef __m512 simd;
enum { SIMD_LANES = 16 };
#define SIMD_SET(x) _mm512_set1_ps(x)
#define SIMD_LOAD(p) _mm512_loadu_ps(p)
#define SIMD_STORE(p, v) _mm512_storeu_ps(p, v)
#define SIMD_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#elif defined __AVX2__ && defined __FMA__
#include <immintrin.h>
typedef __m256 simd;
enum { SIMD_LANES = 8 };
#define SIMD_SET(x) _mm256_set1_ps(x)
#define SIMD_LOAD(p) _mm256_loadu_ps(p)
#define SIMD_STORE(p, v) _mm256_storeu_ps(p, v)
#define SIMD_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#else
typedef float simd __attribute__((vector_size(16)));
enum { SIMD_LANES = 4 };
static inline simd
simd_set(float x)
{
    return (simd){x, x, x, x};
}
static inline simd
simd_load(const float *p)
{
    simd v;
    memcpy(&v, p, sizeof v);
    return v;
}
#define SIMD_SET(x) simd_set(x)
#define SIMD_LOAD(p) simd_load(p)
#define SIMD_STORE(p, v) memcpy(p, &(v), sizeof(simd))
#define SIMD_FMA(a, b, c) ((a) * (b) + (c))
#endif

// For the innermost loops only: address checks there make the dev build fifteen times slower, and
// tests on real models impossible. Whoever calls such a function touches the corners of what it
// will touch first (SIMD_PROBE), where checks are on.
#define SIMD_UNCHECKED __attribute__((noinline, no_sanitize("address", "undefined", "thread")))
#if defined __SANITIZE_ADDRESS__
#define SIMD_PROBE(p) ((void)*(const volatile float *)(p))
#else
#define SIMD_PROBE(p) ((void)0)
#endif

// Holds a vector in a register. gcc would rather load it again for every use, and two loads a cycle
// then bound a product at 65 % of the peak.
#if defined __AVX2__ || defined __AVX512F__
#define SIMD_KEEP(x) __asm__("" : "+v"(x))
#else
#define SIMD_KEEP(x) ((void)(x))
#endif

#endif

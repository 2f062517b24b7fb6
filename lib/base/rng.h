// rng: Philox4x32-10, the only source of random numbers. No hidden state: a number is a function of
// (seed, purpose, instance, index), so any part of a run can be computed alone. method.md, Random
// numbers; check vectors in tests/base/test_rng.c.
#ifndef LIB_BASE_RNG_H
#define LIB_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

enum rng_purpose {
    RNG_ENCODER = 1,  // initial W_e: word n mod 4 of index n / 4 is element n of [k x d]
    RNG_DECODER = 2,  // initial W_d
    RNG_SHUFFLE = 3,  // instance = block number, index = position of Fisher-Yates
    RNG_RESAMPLE = 4, // instance = step, index = draw
};

// The four words at one place.
void rng_words(uint32_t out[4], uint64_t seed, uint32_t purpose, uint32_t instance, uint64_t index);

// Uniform in [0, 1), a multiple of 2^-24, exact in fp32.
float rng_uniform(uint32_t word);

// Uniform in 0 .. n-1, n > 0: floor((w0 + 2^32 w1) n / 2^64).
uint64_t rng_below(const uint32_t words[4], uint64_t n);

// order[0..n) becomes the permutation of 0..n-1 of (seed, RNG_SHUFFLE, instance).
void rng_shuffle(uint32_t *order, size_t n, uint64_t seed, uint32_t instance);

#endif

#include "lib/base/rng.h"

#include <assert.h>

void
rng_words(uint32_t out[4], uint64_t seed, uint32_t purpose, uint32_t instance, uint64_t index)
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = instance, c3 = purpose;
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xD2511F53u * c0;
        uint64_t product1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t next0 = (uint32_t)(product1 >> 32) ^ c1 ^ key0;
        uint32_t next2 = (uint32_t)(product0 >> 32) ^ c3 ^ key1;
        c1 = (uint32_t)product1;
        c3 = (uint32_t)product0;
        c0 = next0;
        c2 = next2;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

float
rng_uniform(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

uint64_t
rng_below(const uint32_t words[4], uint64_t n)
{
    assert(n > 0);
    uint64_t wide = (uint64_t)words[0] | (uint64_t)words[1] << 32;
    __extension__ typedef unsigned __int128 u128;
    return (uint64_t)(((u128)wide * n) >> 64);
}

void
rng_shuffle(uint32_t *order, size_t n, uint64_t seed, uint32_t instance)
{
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    for (size_t i = n; i-- > 0;) {
        uint32_t words[4];
        rng_words(words, seed, RNG_SHUFFLE, instance, i);
        size_t j = (size_t)rng_below(words, i + 1);
        uint32_t held = order[i];
        order[i] = order[j];
        order[j] = held;
    }
}

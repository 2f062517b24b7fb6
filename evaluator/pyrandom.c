#include "evaluator/pyrandom.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

enum { N = 624, M = 397 };

static void
init(struct pyrandom *random, uint32_t seed)
{
    uint32_t *s = random->state;
    s[0] = seed;
    for (uint32_t i = 1; i < N; i++)
        s[i] = 1812433253u * (s[i - 1] ^ (s[i - 1] >> 30)) + i;
    random->at = N;
}

void
pyrandom_seed(struct pyrandom *random, uint64_t seed)
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    size_t length = key[1] ? 2 : 1, j = 0;
    uint32_t *s = random->state;
    init(random, 19650218u);
    size_t i = 1;
    for (size_t n = N; n > 0; n--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + key[j] + (uint32_t)j;
        j = (j + 1) % length;
        if (++i == N) {
            s[0] = s[N - 1];
            i = 1;
        }
    }
    for (size_t n = N - 1; n > 0; n--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - (uint32_t)i;
        if (++i == N) {
            s[0] = s[N - 1];
            i = 1;
        }
    }
    s[0] = 0x80000000u;
}

static void
refill(struct pyrandom *random)
{
    uint32_t *s = random->state;
    for (size_t i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    random->at = 0;
}

uint32_t
pyrandom_u32(struct pyrandom *random)
{
    if (random->at == N)
        refill(random);
    uint32_t y = random->state[random->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

// random.randrange(n), n > 0
static uint32_t
below(struct pyrandom *random, uint32_t n)
{
    assert(n > 0);
    unsigned bits = 32 - (unsigned)__builtin_clz(n);
    uint32_t r;
    do
        r = pyrandom_u32(random) >> (32 - bits);
    while (r >= n);
    return r;
}

// Of a long list few are taken: draw again what was drawn before. `scratch` remembers them as bits.
static void
sample_few(struct pyrandom *random, uint32_t *out, uint32_t *scratch, uint32_t n, uint32_t k)
{
    memset(scratch, 0, ((size_t)n + 31) / 32 * sizeof *scratch);
    for (uint32_t i = 0; i < k; i++) {
        uint32_t j;
        do
            j = below(random, n);
        while (scratch[j / 32] >> (j % 32) & 1);
        scratch[j / 32] |= 1u << (j % 32);
        out[i] = j;
    }
}

void
pyrandom_sample(struct pyrandom *random, uint32_t *out, uint32_t *scratch, uint32_t n, uint32_t k)
{
    assert(k <= n);
    uint64_t table = 21; // bytes of a set of k against bytes of a list of n, as CPython weighs them
    if (k > 5) {
        uint64_t power = 1;
        while (power < 3 * (uint64_t)k)
            power *= 4;
        table += power;
    }
    if (n > table) {
        sample_few(random, out, scratch, n, k);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        scratch[i] = i;
    for (uint32_t i = 0; i < k; i++) {
        uint32_t j = below(random, n - i);
        out[i] = scratch[j];
        scratch[j] = scratch[n - i - 1];
    }
}

void
pyrandom_shuffle(struct pyrandom *random, uint32_t *list, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = below(random, i), kept = list[i - 1];
        list[i - 1] = list[j];
        list[j] = kept;
    }
}

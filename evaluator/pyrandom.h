// pyrandom: Python's random.Random(seed), so that word lists and prompts can be those of SAEBench.
// Nothing else uses it: our own random numbers are lib/base/rng.h. MT19937 (Matsumoto, Nishimura
// 1998) seeded by init_by_array as CPython does; sample and shuffle are CPython 3.11's.
#ifndef EVALUATOR_PYRANDOM_H
#define EVALUATOR_PYRANDOM_H

#include <stddef.h>
#include <stdint.h>

struct pyrandom {
    uint32_t state[624];
    size_t at;
};

void pyrandom_seed(struct pyrandom *random, uint64_t seed); // random.seed(seed)
uint32_t pyrandom_u32(struct pyrandom *random);             // random.getrandbits(32)
// out[0..k) = random.sample(range(n), k), k <= n; scratch [n].
void pyrandom_sample(struct pyrandom *random, uint32_t *out, uint32_t *scratch, uint32_t n,
                     uint32_t k);
void pyrandom_shuffle(struct pyrandom *random, uint32_t *list, uint32_t n); // random.shuffle

#endif

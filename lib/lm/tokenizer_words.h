// tokenizer_words: a bounded cache of short words, word bytes -> ids. Inside the tokenizer only.
//
// Two ways a set, the younger one first; a slot is one cache line and holds the whole key, so a hit
// is never a guess. Longer words and words of more ids are not kept: prose has about 1 % of them.
#ifndef LIB_LM_TOKENIZER_WORDS_H
#define LIB_LM_TOKENIZER_WORDS_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { WORD_BYTES = 24, WORD_IDS = 8, WORD_SETS = 1 << 15 };

struct word {
    uint64_t key[WORD_BYTES / 8]; // zeros behind the word
    uint8_t bytes, count;         // bytes 0: free
    uint8_t unused[6];
    uint32_t ids[WORD_IDS];
};
_Static_assert(sizeof(struct word) == 64, "a word is one cache line");

struct words {
    struct word (*sets)[2];
};

CHECKED enum status words_init(struct words *words);
void words_release(struct words *words);

// The word as a key: `bytes` from 1 to WORD_BYTES; `left` bytes of text may be read at `at`.
static inline void
word_key(uint64_t key[WORD_BYTES / 8], const char *at, size_t bytes, size_t left)
{
    // Reading all 24 bytes and masking is much quicker than a copy of unknown length.
    static const uint64_t zeros[3] = {0, 0, 0};
    if (left < WORD_BYTES) {
        memcpy(key, zeros, sizeof zeros);
        memcpy(key, at, bytes);
        return;
    }
    memcpy(key, at, WORD_BYTES);
    for (size_t i = 0; i < WORD_BYTES / 8; i++) {
        size_t here = bytes > i * 8 ? bytes - i * 8 : 0;
        key[i] &= here >= 8 ? UINT64_MAX : (UINT64_C(1) << here * 8) - 1;
    }
}

static inline struct word *
words_set(const struct words *words, const uint64_t key[WORD_BYTES / 8])
{
    uint64_t hash = key[0] * 0x9E3779B97F4A7C15u;
    hash = (hash ^ hash >> 32 ^ key[1]) * 0xD6E8FEB86659FD93u;
    hash = (hash ^ hash >> 32 ^ key[2]) * 0xA0761D6478BD642Fu;
    return words->sets[hash >> 49];
}
_Static_assert(WORD_SETS == 1 << (64 - 49), "the hash gives as many bits as there are sets");

static inline bool
word_is(const struct word *word, const uint64_t key[WORD_BYTES / 8], size_t bytes)
{
    return word->bytes == bytes && word->key[0] == key[0] && word->key[1] == key[1] &&
           word->key[2] == key[2];
}

#endif

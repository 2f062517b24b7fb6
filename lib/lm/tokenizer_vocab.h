// tokenizer_vocab: the pieces of a vocabulary, by id and by spelling. Inside the tokenizer only.
#ifndef LIB_LM_TOKENIZER_VOCAB_H
#define LIB_LM_TOKENIZER_VOCAB_H

#include "lib/lm/grow.h"
#include "lib/lm/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The numbers of SentencePiece's ModelProto, which GGUF shares.
enum piece_kind {
    PIECE_ABSENT = 0, // a hole between ids
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER = 4,
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6,
};

enum {
    VOCAB_MOST = 1 << 22, // ids; the largest vocabularies in use have a twentieth
    PIECE_BYTES = 4096,   // of one spelling
};

struct piece {
    size_t spelling_at, text_at; // in the vocabulary's two pools
    uint32_t spelling_bytes, text_bytes;
    uint8_t kind;
    bool added, special;
    float score;
};

struct vocab {
    const char *path; // for messages, borrowed
    struct piece *pieces;
    size_t count, room;         // count: one more than the highest id
    struct text_list spellings; // as in the file
    struct text_list texts;     // what they stand for
    uint32_t *slots;            // spelling -> id, open addressing, TOKEN_ABSENT where free
    size_t mask;
};

void vocab_release(struct vocab *v);
// DAMAGED: an id twice or beyond VOCAB_MOST, a spelling that is too long or not UTF-8.
CHECKED enum status vocab_put(struct vocab *v, uint64_t id, const char *spelling, size_t bytes,
                              enum piece_kind kind);
// After the last vocab_put. DAMAGED: two ids with the same spelling.
CHECKED enum status vocab_index(struct vocab *v);
uint32_t vocab_find(const struct vocab *v, const char *spelling, size_t bytes); // or TOKEN_ABSENT

static inline struct tokenizer_text
vocab_spelling(const struct vocab *v, uint32_t id)
{
    const struct piece *p = &v->pieces[id];
    return (struct tokenizer_text){v->spellings.at + p->spelling_at, p->spelling_bytes};
}

// The value of `<0x41>`, or -1.
int byte_spelling(struct tokenizer_text spelling);

// How much of a spelling a message shows.
static inline int
shown(size_t bytes)
{
    return bytes < 60 ? (int)bytes : 60;
}

// Of bytes, for tables. Incremental: text_hash_step over each byte from TEXT_HASH_BEGIN, then
// text_hash_end.
#define TEXT_HASH_BEGIN 0xCBF29CE484222325u
static inline uint64_t
text_hash_step(uint64_t hash, char byte)
{
    return (hash ^ (unsigned char)byte) * 0x100000001B3u;
}
static inline uint64_t
text_hash_end(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}
// vocab_find with the hash already known.
uint32_t vocab_find_hashed(const struct vocab *v, const char *spelling, size_t bytes,
                           uint64_t hash);

#endif

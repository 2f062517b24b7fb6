// tokenizer_merges: the merge table of byte pair encoding and the merging of one word.
//
// A word is a list of symbols (ids). While some adjacent pair is in the table, the pair of lowest
// rank is replaced by its result, ties to the leftmost. Inside the tokenizer only.
#ifndef LIB_LM_TOKENIZER_MERGES_H
#define LIB_LM_TOKENIZER_MERGES_H

#include "lib/base/bytes.h"
#include "lib/lm/tokenizer_vocab.h"

struct merge {
    uint32_t left, right; // left TOKEN_ABSENT: a free slot
    uint32_t rank, merged;
};

struct merges {
    struct merge *slots; // (left, right) -> (rank, merged), open addressing
    size_t mask;
    // In order of rank; a pair that comes twice counts where it comes last.
    struct merge *list;
    size_t count, room;
};

void merges_release(struct merges *m);
// The next merge: two pieces of the vocabulary by their spelling. DAMAGED, naming merge number
// `count`, when a part or the result is not a piece, or a part is empty.
CHECKED enum status merges_put(struct merges *m, const struct vocab *v, const char *left,
                               size_t left_bytes, const char *right, size_t right_bytes);
// A SentencePiece vocabulary lists no merges: every cut of a normal or user-defined piece into two
// pieces is one, in the order (score descending, piece, left part). Scores are those of the pieces.
CHECKED enum status merges_rebuild(struct merges *m, const struct vocab *v);
// After the last merge: the table.
CHECKED enum status merges_index(struct merges *m, const char *path);

static inline const struct merge *
merges_find(const struct merges *m, uint32_t left, uint32_t right)
{
    uint64_t hash = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    for (size_t at = (size_t)(hash >> 20) & m->mask; m->slots[at].left != TOKEN_ABSENT;
         at = (at + 1) & m->mask)
        if (m->slots[at].left == left && m->slots[at].right == right)
            return &m->slots[at];
    return NULL;
}

// Scratch of one thread; begins as {0}.
struct merge_symbol {
    uint32_t id;            // TOKEN_ABSENT: swallowed by its left neighbour
    uint32_t before, after; // neighbours still alive, UINT32_MAX at the ends
};
struct merge_entry {
    uint32_t rank, at, merged;
};
struct merge_scratch {
    struct merge_symbol *symbols;
    size_t symbol_room;
    struct merge_entry *heap;
    size_t heap_room;
};
void merge_scratch_release(struct merge_scratch *scratch);

// Merges ids[0..count) in place and stores the new count. The two ways agree on every word;
// merge_word takes the quicker one. count < 2^31.
CHECKED enum status merge_word(const struct merges *m, struct merge_scratch *scratch, uint32_t *ids,
                               size_t *count);
void merge_by_scan(const struct merges *m, uint32_t *ids, size_t *count); // quadratic, at most 64
CHECKED enum status merge_by_heap(const struct merges *m, struct merge_scratch *scratch,
                                  uint32_t *ids, size_t *count);

#endif

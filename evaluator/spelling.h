// spelling: what the first-letter evaluation asks about: every token whose text is one optional
// space and then ASCII letters only, in the order of the ids (docs/evaluation.md, "Absorption");
// and the prompts it asks with.
#ifndef EVALUATOR_SPELLING_H
#define EVALUATOR_SPELLING_H

#include "evaluator/pyrandom.h"
#include "lib/lm/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Borrowed from the tokenizer, without NUL. Tokens of equal text (byte tokens of SentencePiece
// repeat the single letters) are words of their own.
struct spelled {
    const char *at;
    size_t bytes;
    uint32_t id;
    uint8_t letter; // 0 .. 25, the first letter whatever its case
};
struct spelling {
    struct spelled *at;
    size_t count;
};
// Is this text a word? Then *out is it, without an id.
bool spelling_word(struct spelled *out, const char *text, size_t bytes);

// All of the vocabulary. Begin as {0}; release also after a failure.
CHECKED enum status spelling_find(struct spelling *list, const struct tokenizer *t);
void spelling_release(struct spelling *list);

// `most` of them, drawn by random.sample of the seed and kept in the order of the ids; all when
// there are not more.
CHECKED enum status spelling_thin(struct spelling *list, size_t most, uint64_t seed);

// Keeps those that are one token where a prompt asks about them (behind a line's end), which is all
// of SmolLM2's and Gemma's: the others can be looked at nowhere.
CHECKED enum status spelling_fit(struct spelling *list, const struct tokenizer *t,
                                 struct tokenizer_cache *cache, uint32_t bos);

// Draws `count` examples for a word: random.sample(from, count), again until the word's text is not
// among them. scratch [from count]. CONFIG after 1000 tries.
CHECKED enum status spelling_examples(struct pyrandom *random, uint32_t *out, size_t count,
                                      const struct spelled *from, size_t from_count,
                                      const struct spelled *word, uint32_t *scratch);

// The prompt below as text, behind what `text` holds.
CHECKED enum status spelling_text(struct text_list *text, const struct spelled *word,
                                  const struct spelled *const *examples, size_t count);

// "\n" + lines "EXAMPLE has the first letter: X" + "\nWORD has the first letter:", as tokens behind
// `bos` (TOKEN_ABSENT: none). `out` begins empty or is emptied. The word's own token is the sixth
// from the end: *place is its position, and the tokens behind it are cut off, as they change
// nothing before them. CONFIG if the tokenizer does not make the word one token there.
CHECKED enum status spelling_prompt(struct token_list *out, size_t *place,
                                    const struct tokenizer *t, struct tokenizer_cache *cache,
                                    uint32_t bos, const struct spelled *word,
                                    const struct spelled *const *examples, size_t count);

// The same for any text that ends as such a prompt does.
CHECKED enum status spelling_place(struct token_list *out, size_t *place, const struct tokenizer *t,
                                   struct tokenizer_cache *cache, uint32_t bos,
                                   const struct spelled *word, const char *text, size_t bytes);

#endif

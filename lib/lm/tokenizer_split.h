// tokenizer_split: where the words of a gap end. Inside the tokenizer only.
#ifndef LIB_LM_TOKENIZER_SPLIT_H
#define LIB_LM_TOKENIZER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

// The end of the word that begins at `at` < bytes, by the pattern of GPT-2:
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// With `digits`, every code point of the DIGIT class is a word of its own, and the text ends there
// as far as looking ahead is concerned: "x\n\n3" keeps both newlines together.
size_t split_gpt2(const char *text, size_t bytes, size_t at, bool digits);

// The same for SentencePiece: a word is a run of U+0020 and U+2581 and what follows up to the next
// of them.
size_t split_spaces(const char *text, size_t bytes, size_t at);

#endif

// tokenizer_inside: what the files of the tokenizer share. Nobody else includes it.
//
//     tokenizer_from_{gguf,json,proto}   fill kind, digits, vocab, merges.list, roles, front
//     tokenizer_open                     checks them and builds the tables
#ifndef LIB_LM_TOKENIZER_INSIDE_H
#define LIB_LM_TOKENIZER_INSIDE_H

#include "lib/base/file.h"
#include "lib/lm/tokenizer.h"
#include "lib/lm/tokenizer_added.h"
#include "lib/lm/tokenizer_merges.h"
#include "lib/lm/tokenizer_vocab.h"
#include "lib/lm/tokenizer_words.h"

enum tokenizer_kind {
    TOKENIZER_BYTE_LEVEL,    // symbols are bytes; words by the pattern of GPT-2
    TOKENIZER_SENTENCEPIECE, // symbols are code points, or bytes for those without a piece
};

struct tokenizer {
    char path[PATH_BYTES];
    enum tokenizer_kind kind;
    bool digits;   // byte level: every digit is a word of its own
    bool spaces;   // SentencePiece: words may be cut before spaces
    bool newlines; // no id depends on both sides of the beginning of a newline run
    struct vocab vocab;
    struct merges merges;
    struct added added;
    struct tokenizer_roles roles;
    uint32_t front;      // what the files say is put in front of a text, or TOKEN_ABSENT
    uint32_t byte[256];  // byte -> symbol; TOKEN_ABSENT: the byte vanishes
    uint32_t ascii[128]; // SentencePiece: code point -> symbol, U+0020 being U+2581
};

// `t` is zero but for path and the ids, which are TOKEN_ABSENT.
CHECKED enum status tokenizer_from_gguf(struct tokenizer *t);
CHECKED enum status tokenizer_from_json(struct tokenizer *t);
CHECKED enum status tokenizer_from_proto(struct tokenizer *t);

// The id of a role, checked to be in the vocabulary. DAMAGED; `what` names the field.
CHECKED enum status tokenizer_role(uint32_t *out, const struct tokenizer *t, uint64_t id,
                                   const char *what);

#endif

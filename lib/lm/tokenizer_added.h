// tokenizer_added: the added tokens of a vocabulary, found in raw text: leftmost, then longest.
// Inside the tokenizer only.
#ifndef LIB_LM_TOKENIZER_ADDED_H
#define LIB_LM_TOKENIZER_ADDED_H

#include "lib/lm/tokenizer_vocab.h"

// A trie in breadth-first order: the children of a node are consecutive, ascending by byte.
struct added_node {
    uint32_t child, children; // first child and how many
    uint32_t id;              // of the token that ends here, or TOKEN_ABSENT
    unsigned char byte;       // that leads here
};
struct added {
    struct added_node *nodes; // [0] is the root
    size_t count, room;
    bool first[256]; // bytes that begin some token
    size_t tokens;
    bool newline_inside; // some token has a newline after another byte than a newline
};

void added_release(struct added *added);
CHECKED enum status added_build(struct added *added, const struct vocab *v);
// The token at the beginning of `text`, its length in *length; TOKEN_ABSENT when there is none.
uint32_t added_match(const struct added *added, size_t *length, const char *text, size_t bytes);

#endif

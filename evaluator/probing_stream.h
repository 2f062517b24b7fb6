// probing_stream: the residual stream of labelled texts, text by text: BOS and the text's tokens,
// cut to C, the stream of all but special tokens. What the model makes of the texts of a set is the
// same for every SAE, so it is kept on disk under the hash of all that decides it:
//
//     CACHE/probing-KEY.f32    the rows of text after text, fp32, and 16 bytes: their XXH3-128
//
// Texts go through the model by length, so that short ones do not pay for long ones.
#ifndef EVALUATOR_PROBING_STREAM_H
#define EVALUATOR_PROBING_STREAM_H

#include "evaluator/score.h"
#include "lib/lm/tokenizer.h"

struct probing_plan {
    size_t layer, context, model_contexts; // of the model
    const char *precision;
    uint32_t bos; // TOKEN_ABSENT: none
    uint32_t special[8];
    size_t specials;
    enum tokenizer_special split;
    const char *cache; // a folder, or NULL
};

struct probing_stream;

// texts [count], borrowed for the call. A text without one token that counts is DAMAGED by number.
CHECKED enum status probing_stream_new(struct probing_stream **out, const struct probing_plan *plan,
                                       struct model *model, const struct tokenizer *tokenizer,
                                       const char *const *texts, const size_t *bytes, size_t count);
void probing_stream_free(struct probing_stream **stream); // NULL is fine
// Of all ids and of what the model makes of them.
struct hash128 probing_stream_key(const struct probing_stream *stream);

// Some texts at a time: text[i] has the rows from start[i] to start[i + 1] of x [.. x d].
struct probing_piece {
    size_t count, rows;
    const uint32_t *text;
    const size_t *start;
    const float *x;
};
typedef enum status probing_visit(void *context, const struct probing_piece *piece);
// Each text once, in an order that never changes. From the file if there is one; else through the
// model, and into it. AGAIN: `watch` said stop; or whatever visit returned.
CHECKED enum status probing_stream_visit(struct probing_stream *stream, probing_visit *visit,
                                         void *context, const struct score_watch *watch);
// The most rows of a piece.
size_t probing_stream_most(const struct probing_stream *stream);

#endif

// letters: what all SAEs of one model share in the first-letter evaluation (docs/evaluation.md,
// "Absorption"): words, their split, the stream at each word's own token, the truth probe on it,
// and the stream of the words it gets right in new prompts. Computed once; the streams and the
// probe are kept in the cache folder, so that neither another checkpoint nor a killed process
// does it again.
//
//     vocabulary > words > split 80:20 > prompts > x [words x d] > probe W [classes x d], F1
//                                                                   | test words it gets right
//                                                                   v
//                                                  new prompts > x [asked x d]
#ifndef EVALUATOR_LETTERS_H
#define EVALUATOR_LETTERS_H

#include "evaluator/probe.h"
#include "evaluator/spelling.h"
#include "evaluator/tapped.h"

enum { LETTERS = 26, LETTERS_EXAMPLES = 64 };

struct letters_plan {
    size_t layer, context, model_contexts; // as the model was opened
    const char *precision;                 // "f32" or "bf16"
    uint32_t bos;                          // in front of every prompt; TOKEN_ABSENT: none
    const char *profile;                   // "full" or "quick", as it will be said
    uint64_t seed;
    size_t most_words;    // drawn from the vocabulary; 0: all
    size_t examples;      // lines in front of the word
    double least_f1;      // a letter counts when the truth probe's F1 is above this
    size_t least_letters; // fewer such letters: no score
    const char *cache;    // folder, or NULL
};
// SAEBench's settings, or 8000 words and 3 examples instead of all and 10; the caller fills in what
// comes before `profile`, and the cache.
struct letters_plan letters_profile(bool quick);

// Everything is ours; read only. A class is a letter that has words in the training part; labels
// are classes, or NO_CLASS.
struct letters {
    struct letters_plan plan;
    struct spelling words; // in the order of the ids
    size_t unfit;          // words of the vocabulary that are not one token in a prompt: left out
    size_t width;          // d
    size_t train, test;    // words in each part
    struct spelled *split; // [train + test], in the order drawn: the training part, then the rest
    uint8_t *label;        // [train + test], in that order
    const float *x;        // [train + test x d], the stream at the word
    size_t classes;
    uint8_t letter[LETTERS];   // of a class, ascending
    float *weights, *bias;     // [classes x d], [classes]: the truth probe
    double f1[LETTERS];        // of each class, on the test words
    size_t used;               // classes whose F1 is above least_f1
    size_t asked;              // test words that the truth probe gets right
    size_t start[LETTERS + 1]; // of each class among them
    uint32_t *asked_test;      // [asked]: which test word, ascending within a class
    const float *asked_x;      // [asked x d]
    uint32_t *drawn;           // [train + test + asked x examples]: of each prompt, from its words
    size_t computed;           // prompts that the model had to read now
    bool trained;              // the truth probe was trained now
    struct tapped *tapped[2];
};

// Begin as {0}; release also after a failure. The tokenizer is borrowed as long as `out` lives.
// CONFIG: a tokenizer without usable words, or fewer letters than the plan wants (with the F1 of
// each). AGAIN: `watch` (may be NULL) said stop. DAMAGED: the model's stream is not finite.
CHECKED enum status letters_open(struct letters *out, const struct letters_plan *plan,
                                 struct model *model, const struct tokenizer *tokenizer,
                                 const struct score_watch *watch);
void letters_close(struct letters *letters);
size_t letters_bytes(const struct letters *letters); // of memory; mapped files not counted

// The prompt, as text, that asked for word `i` of the split; or `again` for the i-th asked again.
// `text` is emptied first.
CHECKED enum status letters_prompt(struct text_list *text, const struct letters *letters,
                                   bool again, size_t i);

// Of all that decides the numbers but the SAE; known before any of it is computed.
struct hash128 letters_spec(const struct letters_plan *plan, const struct model *model,
                            const struct tokenizer *tokenizer);

// The stream at the last token of each of `count` prompts, whose tokens stand one behind another in
// `ids`; prompt i has at[i] + 1 of them. For absorbing_given.c too.
CHECKED enum status letters_read(struct tapped **out, const struct letters_plan *plan,
                                 const uint32_t *ids, const uint32_t *at, size_t count,
                                 struct model *model, const char *what,
                                 const struct score_watch *watch);

// For letters.c alone: trains the truth probe, or finds it in the cache.
CHECKED enum status letters_truth(struct letters *letters, const struct score_watch *watch);

#endif

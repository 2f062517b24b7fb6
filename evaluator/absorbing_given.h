// absorbing_given: the words of a state folder (absorbing_state.h), whoever wrote it, scored again:
// with its truth probe, main latents and prompts, but this model and this SAE. So two programs are
// compared word by word, without the chance that is in the training of either's probes
// (docs/evaluation.md, "Word by word").
#ifndef EVALUATOR_ABSORBING_GIVEN_H
#define EVALUATOR_ABSORBING_GIVEN_H

#include "evaluator/absorbing.h"

struct given;

// What the scores of the folder are, beside ours. A word without a score is not compared.
struct given_agreement {
    size_t words, fractions, fulls; // all; of them with a fraction, with full
    double fraction;                // the largest difference, 0 without any
    size_t full;                    // words where full differs
    char word[64];                  // the one of the largest difference
};

// Reads the folder and lets the model read its prompts; of the plan what comes before `profile`,
// the seed, least_f1 and the cache are used. DAMAGED with file, field, found and expected; CONFIG:
// a probe of another width, or a prompt whose word is not one token; AGAIN: `watch` said stop.
CHECKED enum status given_open(struct given **out, const char *folder,
                               const struct letters_plan *plan, struct model *model,
                               const struct tokenizer *tokenizer, const struct score_watch *watch);
void given_close(struct given **given);

// As absorbing_measure, with the folder's main latents; out->missed is undefined, as the folder
// does not say which words a k-sparse probe hears. CONFIG: a main latent that the SAE lacks.
CHECKED enum status given_measure(struct absorption *out, struct given_agreement *agreement,
                                  struct given *given, const struct absorbing_plan *plan,
                                  struct saelens *sae, const struct score_watch *watch);

// The folder again, with our scores of the words: after given_measure.
CHECKED enum status given_write(const char *folder, struct given *given);

#endif

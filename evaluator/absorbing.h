// absorbing: the first-letter evaluation of one SAE (docs/evaluation.md, "Absorption"), on what all
// SAEs of a model share (letters.h):
//
//     x of the words > latents > L1 probe > each letter's best k > regression, F1_k > main latents
//     x of the words asked again > latents > absorption_word with them > means over letters
//
// The numbers depend neither on the number of threads nor on how many rows are held at a time, and
// permuted latents change them only where two of them tie.
#ifndef EVALUATOR_ABSORBING_H
#define EVALUATOR_ABSORBING_H

#include "evaluator/letters.h"
#include "lib/interop/saebench_absorption.h"
#include "lib/interop/saelens.h"

struct absorbing_plan {
    double jump;         // of F1 that one more main latent must bring: 0.03
    size_t most_latents; // k at most: 10 (ABSORPTION_MAINS)
    size_t most_bytes;   // for the words' active latents
    size_t rows;         // encoded at a time at most
};
struct absorbing_plan absorbing_defaults(void);

// The latents that stand for a letter, the best first.
struct absorbing_choice {
    uint32_t main[ABSORPTION_MAINS];
    size_t count;
};

// What became of a word asked again.
struct absorbed_word {
    double fraction;
    bool full, missed;
    uint32_t top; // the latent that carries most of the letter
    double share; // how much: its part of the word's projection; 0 where that is not above 0
};

// out->letters and its four means are filled in; words [letters->asked]. given [letters->classes]:
// main latents that are known (then `missed` counts all of `full`); NULL: they are found. CONFIG:
// the SAE's width is not the model's, or it is too dense for most_bytes. DAMAGED: activations that
// are not finite. AGAIN: `watch` (may be NULL) said stop. CREATE: no memory.
CHECKED enum status absorbing_measure(struct absorption *out, struct absorbed_word *words,
                                      const struct absorbing_plan *plan,
                                      const struct letters *letters,
                                      const struct absorbing_choice *given, struct saelens *sae,
                                      const struct score_watch *watch);

#endif

// absorbing_state: what an absorption score was made of, word by word, as a folder that others can
// read and check (docs/evaluation.md, "Word by word"):
//
//     probe.safetensors   probe.weight [26 x d], probe.bias [26], float32: the truth probe, letter
//                         by letter; zeros for a letter that has no words
//     state.json          words and prompts of both parts of the split; by letter: F1 of the truth
//                         probe, the k best latents and their F1 for k = 1, 2, ...; by letter and
//                         word that was asked again: prompt, fraction, full, and the latent that
//                         carries most of the letter
#ifndef EVALUATOR_ABSORBING_STATE_H
#define EVALUATOR_ABSORBING_STATE_H

#include "evaluator/absorbing.h"

#include <jansson.h>

// Makes the folder; each file is replaced whole, state.json last. words [letters->asked], as
// absorbing_measure filled them with `absorption`.
CHECKED enum status absorbing_state_write(const char *folder, const struct letters *letters,
                                          const struct absorption *absorption,
                                          const struct absorbed_word *words);

// The parts of it, for a state that was read (absorbing_given.h). A word's scores into its object,
// false without memory; and the folder from the probe, [26 x d] and then [26], and a whole state.
bool absorbing_state_word(json_t *object, const struct absorbed_word *word);
CHECKED enum status absorbing_state_save(const char *folder, const float *probe, size_t width,
                                         const json_t *state);

#endif

// trajectory: the settings that decide a run's numbers, as one hash. A run is continued only by the
// same trajectory; every checkpoint carries it.
//
// Hashed: `sae`, `loss`, `curriculum`, `competition`, `temporal`, `optimiser`, trainer.precision,
// and the stream's id in place of `text`, `model` and `stream`. trainer.steps may be raised while a
// run lasts, except with optimiser.decay, whose last steps are counted back from the end: then it
// is hashed too.
#ifndef CONFIG_TRAJECTORY_H
#define CONFIG_TRAJECTORY_H

#include "config/settings.h"

// XXH3_128 of the lines "key=value\n", sorted by key, and the 16 bytes of the stream's id.
struct hash128 trajectory_hash(const struct settings *set, struct hash128 stream);

// What is hashed before the stream's id, for people and tests. At most TRAJECTORY_BYTES with NUL.
enum { TRAJECTORY_BYTES = 4096 };
void trajectory_text(char out[TRAJECTORY_BYTES], const struct settings *set);

// "loss.lambda_s 0.04 -> 0.05, sae.seed 0 -> 1" (old, new), cut to fit; "" when nothing differs.
// Returns how many keys differ.
size_t trajectory_differences(char *out, size_t room, const struct settings *before,
                              const struct settings *after);

#endif

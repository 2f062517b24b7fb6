// packing: how the settings turn text into contexts of ids. The producer and the evaluators must
// agree on it, whatever text they read.
#ifndef CONFIG_PACKING_H
#define CONFIG_PACKING_H

#include "config/settings.h"
#include "lib/lm/packed.h"

// Fills in everything but what is the caller's own: files, tokens (0: all), threads (0: OpenMP's).
// What `out` points to is borrowed from `set`. CONFIG: model.bos or model.separator name a token
// that the tokenizer lacks.
CHECKED enum status packing(struct packed_settings *out, const struct settings *set,
                            const struct tokenizer *tokenizer);

#endif

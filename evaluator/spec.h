// spec: the identity of an evaluation: a hash of everything that decides its numbers but the SAE.
// Two evaluations of one checkpoint with the same spec give the same result, so the second is not
// made (docs/protocol.md, "Checkpoints to evaluators").
#ifndef EVALUATOR_SPEC_H
#define EVALUATOR_SPEC_H

#include "lib/base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// To be raised whenever a formula, or what it is fed, changes: then everything is scored anew.
enum { SPEC_FORMULAS = 1 };

struct spec {
    const char *kind;      // "core"
    struct hash128 model;  // weights and architecture
    struct hash128 tokens; // the windows [windows x context], as fed
    uint64_t windows, context, layer;
    uint64_t batch_contexts, core_batches, variance_batches;
    bool exclude_special;
    uint32_t special[8]; // ascending
    size_t specials;
    const char *precision; // of the model's products: "f32", "bf16"
};

// XXH3_128 of its canonical text, one "key=value" a line in a fixed order.
struct hash128 spec_hash(const struct spec *spec);

#endif

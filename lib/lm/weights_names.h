// weights_names: what each file format calls each role, and how it stores it; weights.c only.
#ifndef LIB_LM_WEIGHTS_NAMES_H
#define LIB_LM_WEIGHTS_NAMES_H

#include "lib/lm/weights.h"

// How the rows of a role [n x m] lie in the stored tensor.
enum stored {
    STORED_PLAIN,      // [n x m]
    STORED_TRANSPOSED, // [m x n]: GPT-2's Conv1D
    STORED_THIRDS,     // q, k and v in one [3n x m], after each other
    STORED_THIRDS_T,   // the same transposed, [m x 3n]
    STORED_BY_HEAD,    // q, k and v in one [3n x m], for each head q, k, v: GPT-NeoX
    STORED_ROPE_PAIRS, // [n x m], each head's rows i and i + D/2 side by side: GGUF's llama
};

struct place {
    char name[128];
    enum stored stored;
    bool one_plus; // a norm stored as w where the graph uses 1 + w
};

// False when the format has no such role. `prefix` is what some GPT-2 files put before every name.
bool place_of(struct place *out, const struct arch *arch, bool gguf, const char *prefix,
              enum role role, size_t layer);

#endif

// state: the complete state of a training run as a list of named tensors, to be written to a
// checkpoint and read back. Pointers are into the live objects: valid until the next step.
#ifndef LIB_SAE_STATE_H
#define LIB_SAE_STATE_H

#include "lib/base/status.h"

#include <stddef.h>
#include <stdint.h>

enum state_type { STATE_F32, STATE_F64, STATE_I64 };

struct state_tensor {
    const char *name; // as in the file; lives as long as the train
    enum state_type type;
    size_t rank, shape[2]; // row-major; rank 0 is a scalar
    void *at;              // read it to save, write it to restore
};

enum { STATE_TENSORS = 32 }; // no list is longer

size_t state_bytes(const struct state_tensor *tensor);
const struct state_tensor *state_find(const struct state_tensor *list, size_t count,
                                      const char *name); // or NULL

#endif

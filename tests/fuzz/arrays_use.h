// What a file of arrays that opened must be able to give.
#ifndef TESTS_FUZZ_ARRAYS_USE_H
#define TESTS_FUZZ_ARRAYS_USE_H

#include "lib/interop/arrays.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// size: bytes of the file at path
static inline void
arrays_use(const char *path, size_t size)
{
    struct arrays arrays = {0};
    if (arrays_open(&arrays, path) != STATUS_OK)
        return;
    for (size_t i = 0; i < arrays.count; i++) {
        const struct array *array = &arrays.at[i];
        double scalar;
        (void)array_scalar(&scalar, array);
        if (array->text) {
            fuzz_read(array->text, strlen(array->text));
            continue;
        }
        assert(array->count <= 64 * size + 64); // bits of memory that the file does not have
        float *values = malloc(array->count * sizeof *values + 1);
        assert(values);
        if (arrays_f32(values, &arrays, array, array->rank == 2) == STATUS_OK)
            fuzz_read(values, array->count * sizeof *values);
        free(values);
    }
    arrays_close(&arrays);
}

#endif

// torch's .pt: a zip with a pickle, run by our own small machine.
#include "lib/interop/arrays.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arrays arrays = {0};
    if (arrays_open(&arrays, fuzz_file("sae.pt", data, size)) != STATUS_OK)
        return 0;
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
    return 0;
}

// A safetensors file: every tensor lies in it whole and decodes.
#include "lib/store/safetensors.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *file;
    if (safetensors_open(&file, fuzz_file("model.safetensors", data, size)) != STATUS_OK)
        return 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct tensor *tensor = safetensors_at(file, i);
        assert(tensor->bytes <= size && tensor->count <= 8 * size + 1);
        fuzz_read(tensor->at, tensor->bytes);
        float *values = malloc(tensor->count * sizeof *values + 1);
        assert(values);
        if (tensor_to_f32(values, tensor, "fuzz") == STATUS_OK)
            fuzz_read(values, tensor->count * sizeof *values);
        free(values);
        double real;
        int64_t whole;
        (void)!tensor_scalar_f64(&real, file, tensor->name);
        (void)!tensor_scalar_i64(&whole, file, tensor->name);
        assert(safetensors_find(file, tensor->name));
    }
    const char *format = safetensors_metadata(file, "format");
    fuzz_read(format, format ? strlen(format) : 0);
    safetensors_close(&file);
    return 0;
}

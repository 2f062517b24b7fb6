// A GGUF file: its tensors and keys, the architecture and the tokenizer it describes.
#include "lib/lm/arch.h"
#include "lib/lm/weights.h"
#include "tests/fuzz/tokenizer_use.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("model.gguf", data, size);
    struct gguf *file;
    if (gguf_open(&file, path) != STATUS_OK)
        return 0;
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(file, i);
        assert(tensor->bytes <= size);
        fuzz_read(tensor->at, tensor->bytes);
        assert(gguf_find(file, tensor->name));
    }
    static struct arch arch;
    (void)!arch_from_gguf(&arch, file);
    gguf_close(&file);
    tokenizer_use(path);
    struct weights *weights;
    if (weights_open(&weights, path) == STATUS_OK)
        weights_close(&weights);
    return 0;
}

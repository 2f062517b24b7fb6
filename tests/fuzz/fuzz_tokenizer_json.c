// A tokenizer.json.
#include "tests/fuzz/tokenizer_use.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tokenizer_use(fuzz_file("tokenizer.json", data, size));
    return 0;
}

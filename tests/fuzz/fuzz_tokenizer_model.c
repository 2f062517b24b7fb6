// SentencePiece's tokenizer.model, a protobuf.
#include "tests/fuzz/tokenizer_use.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tokenizer_use(fuzz_file("tokenizer.model", data, size));
    return 0;
}

// torch's .pt: a zip with a pickle, run by our own small machine.
#include "tests/fuzz/arrays_use.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    arrays_use(fuzz_file("sae.pt", data, size), size);
    return 0;
}

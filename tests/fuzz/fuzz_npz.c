// numpy's .npz: a zip of .npy files.
#include "tests/fuzz/arrays_use.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    arrays_use(fuzz_file("sae.npz", data, size), size);
    return 0;
}

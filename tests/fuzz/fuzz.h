// fuzz: what the targets share. A target is one function of some bytes, which must come back, as
// libFuzzer calls it; whatever the bytes are, nothing crashes, hangs or leaks, and what a reader
// accepts keeps its promises (asserted).
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "lib/base/file.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The bytes as a file of this name, alone in a folder of this process, for readers that want a
// path. Returns the path, good until the next call.
const char *fuzz_file(const char *name, const uint8_t *data, size_t size);

// Touches every byte, so that the sanitizers see memory that is not ours.
void fuzz_read(const void *at, size_t bytes);

#endif

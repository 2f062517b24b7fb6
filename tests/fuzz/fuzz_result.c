// A core result in SAEBench's form: what is accepted is written and accepted again.
#include "lib/interop/saebench.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdlib.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct core_file file;
    if (saebench_core_read(&file, fuzz_file("eval_results.json", data, size)) == STATUS_OK)
        for (size_t i = 0; i < CORE_COUNT; i++)
            (void)core_number(&file.core, i);
    return 0;
}

// A model's config.json: what is accepted passes its own checks.
#include "lib/lm/arch.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arch arch;
    if (arch_from_config(&arch, "config.json", (const char *)data, size) == STATUS_OK)
        assert(arch_check(&arch, "config.json") == STATUS_OK);
    return 0;
}

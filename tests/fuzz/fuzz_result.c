// A result of any kind in SAEBench's form: what is accepted is written, and accepted again.
#include "lib/interop/saebench_absorption.h"
#include "lib/interop/saebench_core.h"
#include "lib/interop/saebench_probing.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>

static void
absorption_use(const char *path)
{
    static struct absorption_file file, again;
    if (saebench_absorption_read(&file, path) != STATUS_OK)
        return;
    assert(saebench_absorption_write(path, &file) == STATUS_OK);
    assert(saebench_absorption_read(&again, path) == STATUS_OK);
    assert(again.absorption.count == file.absorption.count);
}

static void
probing_use(const char *path)
{
    struct probing_file file, again;
    if (saebench_probing_read(&file, path) != STATUS_OK)
        return;
    assert(saebench_probing_write(path, &file) == STATUS_OK);
    assert(saebench_probing_read(&again, path) == STATUS_OK);
    assert(again.count == file.count);
    probing_file_release(&again);
    probing_file_release(&file);
}

static void
core_use(const char *path)
{
    static struct core_file file, again;
    if (saebench_core_read(&file, path) != STATUS_OK)
        return;
    assert(saebench_core_write(path, &file, NULL) == STATUS_OK);
    assert(saebench_core_read(&again, path) == STATUS_OK);
    for (size_t i = 0; i < CORE_COUNT; i++)
        assert(isnan(core_number(&again.core, i)) == isnan(core_number(&file.core, i)));
}

// Each may replace the file by its own.
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    core_use(fuzz_file("eval_results.json", data, size));
    absorption_use(fuzz_file("eval_results.json", data, size));
    probing_use(fuzz_file("eval_results.json", data, size));
    return 0;
}

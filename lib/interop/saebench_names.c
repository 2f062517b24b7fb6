#include "lib/interop/saebench_names.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 600 };

static enum status
name_in(char out[PATH_BYTES], const char *folder, const char *run, uint64_t step,
        const char *suffix)
{
    char name[NAME_BYTES];
    int length = snprintf(name, sizeof name, "%s_step-%012llu%s_eval_results.json", run,
                          (unsigned long long)step, suffix);
    if (length < 0 || (size_t)length >= sizeof name)
        return FAIL(CONFIG, "'%.100s...': too long for a run's name", run);
    for (char *c = name; *c; c++)
        if (*c == '/')
            *c = '_';
    TRY(path_join(out, folder, name));
    return STATUS_OK;
}

// The two names a result may have.
static enum status
names(char first[PATH_BYTES], char second[PATH_BYTES], const char *folder, const char *run,
      uint64_t step, struct hash128 spec)
{
    char hex[33], suffix[32];
    hex128(hex, spec);
    snprintf(suffix, sizeof suffix, "_spec-%.8s", hex);
    TRY(name_in(first, folder, run, step, ""));
    TRY(name_in(second, folder, run, step, suffix));
    return STATUS_OK;
}

enum status
saebench_names_path(char out[PATH_BYTES], const char *folder, const char *run, uint64_t step,
                    uint64_t mh, struct hash128 spec, saebench_owner *owner)
{
    char second[PATH_BYTES];
    uint64_t whose;
    struct hash128 under;
    TRY(names(out, second, folder, run, step, spec));
    if (owner(out, &whose, &under) && whose == mh && !hash128_same(under, spec))
        memcpy(out, second, PATH_BYTES);
    return STATUS_OK;
}

enum status
saebench_names_find(bool *found, char path[PATH_BYTES], const char *folder, const char *run,
                    uint64_t step, uint64_t mh, struct hash128 spec, saebench_owner *owner)
{
    char second[PATH_BYTES];
    uint64_t whose;
    struct hash128 under;
    TRY(names(path, second, folder, run, step, spec));
    *found = owner(path, &whose, &under) && whose == mh && hash128_same(under, spec);
    if (!*found && owner(second, &whose, &under) && whose == mh && hash128_same(under, spec)) {
        memcpy(path, second, PATH_BYTES);
        *found = true;
    }
    return STATUS_OK;
}

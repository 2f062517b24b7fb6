#include "evaluator/spec.h"

#include <assert.h>
#include <stdio.h>

struct hash128
spec_hash(const struct spec *spec)
{
    char text[1024], model[33], tokens[33], special[8 * 12] = "";
    hex128(model, spec->model);
    hex128(tokens, spec->tokens);
    assert(spec->specials <= 8);
    size_t at = 0;
    for (size_t i = 0; i < spec->specials; i++)
        at +=
            (size_t)snprintf(special + at, sizeof special - at, i ? ",%u" : "%u", spec->special[i]);
    int length = snprintf(
        text, sizeof text,
        "kind=%s\nformulas=%d\nmodel=%s\nprecision=%s\nlayer=%llu\ntokens=%s\nwindows=%llu\n"
        "context=%llu\nbatch_contexts=%llu\ncore_batches=%llu\nvariance_batches=%llu\n"
        "exclude_special=%d\nspecial=%s\n",
        spec->kind, SPEC_FORMULAS, model, spec->precision, (unsigned long long)spec->layer, tokens,
        (unsigned long long)spec->windows, (unsigned long long)spec->context,
        (unsigned long long)spec->batch_contexts, (unsigned long long)spec->core_batches,
        (unsigned long long)spec->variance_batches, spec->exclude_special, special);
    assert(length > 0 && (size_t)length < sizeof text);
    return hash128(text, (size_t)length);
}

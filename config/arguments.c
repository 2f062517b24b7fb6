#include "config/arguments.h"

#include "lib/base/say.h"

#include <assert.h>

enum { OWN = 2, MORE_MOST = 8 };

enum status
arguments_read(struct arguments *out, const char *program, const char *manual,
               const struct flag *more, size_t more_count, int argc, char *const *argv)
{
    *out = (struct arguments){0};
    bool verbose = false;
    struct words sets = {0}, rest = {0};
    struct flag flags[OWN + MORE_MOST] = {
        {"--set", "KEY=VALUE", "a setting, over the file's and the environment's", .words = &sets},
        {"--verbose", NULL, "say more on stderr", .on = &verbose},
    };
    assert(more_count <= MORE_MOST);
    for (size_t i = 0; i < more_count; i++)
        flags[OWN + i] = more[i];
    if (flags_help_wanted(argc, argv)) {
        printf("usage: %s CONFIG [--set KEY=VALUE]...\n\n%s\n", program, manual);
        flags_print(stdout, flags, OWN + more_count);
        out->help = true;
        return STATUS_OK;
    }
    TRY(flags_read(flags, OWN + more_count, program, argc, argv, &rest));
    if (rest.count != 1)
        return FAIL(USAGE, "%s: wanted one config file, got %zu (%s --help)", program, rest.count,
                    program);
    if (verbose)
        say_level(SAY_DEBUG);
    return config_load(&out->config, rest.at[0], sets.at, sets.count);
}

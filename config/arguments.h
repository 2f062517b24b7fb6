// arguments: the command line of the three daemons: one config, settings over it, a few switches.
#ifndef CONFIG_ARGUMENTS_H
#define CONFIG_ARGUMENTS_H

#include "config/config.h"
#include "lib/base/flags.h"

struct arguments {
    struct config *config; // config_free
    bool help;             // --help was asked and printed: leave with 0
};
// `more` (may be NULL): further switches of this program. The config's own name begins every
// message about it. --verbose sets the level of `say`.
CHECKED enum status arguments_read(struct arguments *out, const char *program, const char *manual,
                                   const struct flag *more, size_t more_count, int argc,
                                   char *const *argv);

#endif

// rules: what must hold between settings, beyond each one's own range.
#ifndef CONFIG_RULES_H
#define CONFIG_RULES_H

#include "config/config.h"

// The first rule that is broken, as one line that names the value at fault (of two, the one that
// was set last). CONFIG.
CHECKED enum status rules_check(const struct config *config);

// What is allowed but hardly meant: a curriculum longer than the run, a value given that nothing
// will read. One line each, for people.
void rules_advise(const struct config *config, struct texts *out);

#endif

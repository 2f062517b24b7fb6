// render: settings as text: YAML that reads back to the same settings, and the list of `osae
// config`.
#ifndef CONFIG_RENDER_H
#define CONFIG_RENDER_H

#include "config/config.h"

#include <stdio.h>

enum render {
    RENDER_COMMENTED, // what each key is for, as `osae init` writes it
    RENDER_FROZEN,    // where each value that is no default came from: the copy in a run's folder
};

// Every section and key; the caller frees *out. CREATE when there is no memory.
CHECKED enum status render_yaml(char **out, size_t *bytes, const struct config *config,
                                enum render style);
// The frozen YAML into a file that is there whole or not at all.
CHECKED enum status render_freeze(const struct config *config, const char *path);

// A value as YAML writes it, lists as [a, b]; auto where the row says so.
void render_value(FILE *out, const struct settings *set, const struct field *row);

// "loss.lambda_s   1.7   run.yaml:3", one line a key; `changed`: only what is not the default.
void render_list(FILE *out, const struct config *config, bool changed);

#endif

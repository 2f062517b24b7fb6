// A run's YAML file: what is accepted is written out and accepted again, with the same settings.
#include "config/render.h"
#include "config/rules.h"
#include "config/yaml.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
write_and_read(const struct config *config)
{
    static char before[1 << 17], after[1 << 17];
    struct config *again;
    char *text;
    size_t bytes;
    if (render_yaml(&text, &bytes, config, RENDER_FROZEN) != STATUS_OK ||
        config_new(&again) != STATUS_OK)
        abort();
    if (yaml_read_bytes(again, "/nowhere/frozen.yaml", text, bytes) != STATUS_OK) {
        fprintf(stderr, "%s\n%s\n", status_words(), text);
        abort();
    }
    for (size_t i = 0; i < settings_count; i++) {
        field_print(before, sizeof before, &config->set, &settings_rows[i]);
        field_print(after, sizeof after, &again->set, &settings_rows[i]);
        assert(strcmp(before, after) == 0);
    }
    config_free(&again);
    free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config;
    if (config_new(&config) != STATUS_OK)
        abort();
    // (Files that it includes are not followed: there are none of that name.)
    if (yaml_read_bytes(config, "/nowhere/run.yaml", (const char *)data, size) == STATUS_OK) {
        (void)!rules_check(config);
        write_and_read(config);
    }
    config_free(&config);
    return 0;
}

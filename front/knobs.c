// osae config: what the settings come to, where each is from, what one means.
#include "config/explain.h"
#include "config/render.h"
#include "config/rules.h"
#include "front/commands.h"
#include "lib/base/flags.h"
#include "lib/base/say.h"

#include <stdlib.h>

static const char manual[] =
    "usage: osae config [FILE] [--set KEY=VALUE]... [--changed | --yaml]\n"
    "       osae config [FILE] --explain KEY\n"
    "       osae config --markdown\n\n"
    "Shows every setting with its value and where that is from: the default, a line of a file, "
    "the\n"
    "environment (OSAE_LOSS__LAMBDA_S) or --set. Checks all of it, so it also says whether a file\n"
    "is fit to run.\n\n";

static enum status
explain_named(const struct config *config, const char *key)
{
    const struct field *row = settings_row(key);
    bool any = false;
    if (row) {
        explain_key(stdout, config, row);
        return STATUS_OK;
    }
    // A section, or a key without its section.
    for (size_t i = 0; i < settings_count; i++) {
        row = &settings_rows[i];
        if (strcmp(settings_section(row)->name, key) != 0 && strcmp(settings_key(row), key) != 0)
            continue;
        fputs(any ? "\n" : "", stdout);
        explain_key(stdout, config, row);
        any = true;
    }
    if (any)
        return STATUS_OK;
    const char *dot = strchr(key, '.');
    char section[64] = "";
    if (dot && (size_t)(dot - key) < sizeof section)
        memcpy(section, key, (size_t)(dot - key));
    return config_unknown("osae config", section, section[0] ? dot + 1 : key);
}

static enum status
show_yaml(const struct config *config)
{
    char *text;
    size_t bytes;
    TRY(render_yaml(&text, &bytes, config, RENDER_FROZEN));
    fwrite(text, 1, bytes, stdout);
    free(text);
    return STATUS_OK;
}

static enum status
show_advice(const struct config *config)
{
    struct texts *advice = calloc(1, sizeof *advice);
    if (!advice)
        return FAIL(CREATE, "no memory for advice");
    rules_advise(config, advice);
    for (size_t i = 0; i < advice->count; i++)
        say(SAY_WARN, "%s", advice->at[i]);
    free(advice);
    return STATUS_OK;
}

enum status
config_command(int argc, char *const *argv)
{
    bool markdown = false, changed = false, yaml = false;
    const char *key = NULL;
    struct words sets = {0}, rest = {0};
    const struct flag flags[] = {
        {"--explain", "KEY", "what a key (or section) is for, its range, its equation",
         .text = &key},
        {"--set", "KEY=VALUE", "a setting, over the file's", .words = &sets},
        {"--changed", NULL, "only what is not the default", .on = &changed},
        {"--yaml", NULL, "as a config that can be read again", .on = &yaml},
        {"--markdown", NULL, "the page docs/config.md", .on = &markdown},
    };
    if (flags_help_wanted(argc, argv)) {
        fputs(manual, stdout);
        flags_print(stdout, flags, FLAGS_COUNT(flags));
        return STATUS_OK;
    }
    TRY(flags_read(flags, FLAGS_COUNT(flags), "osae config", argc, argv, &rest));
    if (rest.count > 1)
        return FAIL(USAGE, "osae config: one file at a time, and '%.80s' is a second", rest.at[1]);
    if (markdown) {
        explain_page(stdout);
        return STATUS_OK;
    }
    struct config *config = NULL;
    enum status status;
    GOTRY(config_load(&config, rest.count ? rest.at[0] : NULL, sets.at, sets.count));
    if (key) {
        GOTRY(explain_named(config, key));
        goto done;
    }
    if (yaml)
        GOTRY(show_yaml(config));
    else
        render_list(stdout, config, changed);
    GOTRY(show_advice(config));
done:
    config_free(&config);
    return status;
}

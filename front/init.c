// osae init: a commented config on stdout.
#include "config/render.h"
#include "config/rules.h"
#include "front/commands.h"
#include "lib/base/flags.h"
#include "lib/base/say.h"

#include <stdlib.h>

static const char manual[] =
    "usage: osae init [--model PATH] [--layer N] [--text FILE]... [--eval-text FILE]...\n"
    "                 [--set KEY=VALUE]... > run.yaml\n\n"
    "Prints a config with every setting, its default and what it is for. Nothing is read or\n"
    "written; `osae run run.yaml` starts the run.\n\n";

static enum status
put_words(struct config *config, const char *key, const struct words *words)
{
    const struct field *row = settings_row(key);
    for (size_t i = 0; i < words->count; i++)
        TRY(field_parse(&config->set, row, words->at[i], "osae init"));
    if (words->count)
        config_note(config, row, SOURCE_FLAG, "osae init");
    return STATUS_OK;
}

static enum status
put_word(struct config *config, const char *key, const char *flag, const char *word)
{
    if (!word)
        return STATUS_OK;
    return config_put(config, settings_row(key), word, SOURCE_FLAG, flag);
}

enum status
init_command(int argc, char *const *argv)
{
    const char *model = NULL, *layer = NULL;
    struct words texts = {0}, eval_texts = {0}, sets = {0}, rest = {0};
    const struct flag flags[] = {
        {"--model", "PATH", "model.path: a .gguf file or a folder", .text = &model},
        {"--layer", "N", "model.layer: tap after this block, from 0", .text = &layer},
        {"--text", "FILE", "text.files: what to train on", .words = &texts},
        {"--eval-text", "FILE", "eval.text: held-out text", .words = &eval_texts},
        {"--set", "KEY=VALUE", "any other setting", .words = &sets},
    };
    if (flags_help_wanted(argc, argv)) {
        fputs(manual, stdout);
        flags_print(stdout, flags, FLAGS_COUNT(flags));
        return STATUS_OK;
    }
    TRY(flags_read(flags, FLAGS_COUNT(flags), "osae init", argc, argv, &rest));
    if (rest.count)
        return FAIL(USAGE, "osae init: takes no '%.80s' (osae init --help)", rest.at[0]);

    enum status status;
    struct config *config = NULL;
    struct texts *advice = NULL;
    char *text = NULL;
    size_t bytes = 0;
    GOTRY(config_new(&config));
    GOTRY(put_word(config, "model.path", "--model", model));
    GOTRY(put_word(config, "model.layer", "--layer", layer));
    GOTRY(put_words(config, "text.files", &texts));
    GOTRY(put_words(config, "eval.text", &eval_texts));
    for (size_t i = 0; i < sets.count; i++)
        GOTRY(config_flag(config, sets.at[i]));
    GOTRY(rules_check(config));
    GOTRY(render_yaml(&text, &bytes, config, RENDER_COMMENTED));
    fwrite(text, 1, bytes, stdout);
    advice = calloc(1, sizeof *advice);
    if (!advice)
        GOTRY(FAIL(CREATE, "no memory for advice"));
    rules_advise(config, advice);
    for (size_t i = 0; i < advice->count; i++)
        say(SAY_WARN, "%s", advice->at[i]);
done:
    free(advice);
    free(text);
    config_free(&config);
    return status;
}

// osae eval: the numbers of any SAE on any model and text. The evaluator's program computes them;
// this turns a command line into its settings and becomes it, so that its exit code, progress and
// Ctrl-C are those of this command.
#include "front/commands.h"
#include "lib/base/field.h"
#include "lib/base/file.h"
#include "lib/base/flags.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char manual[] =
    "usage: osae eval SAE... [--model PATH] [--text FILE]... [--tokens N|FILE] [--layer N]\n"
    "                 [--only LIST] [--out DIR] [--set KEY=VALUE]...\n\n"
    "Scores SAEs as SAEBench does, prints every number and writes them as JSON in its shape\n"
    "(DIR/core/). An SAE is a folder (docs/formats.md names the formats) or a run, which means "
    "its\n"
    "newest checkpoint; for those, model and text are the run's unless they are given. What was\n"
    "computed before, here or by a run's evaluator, is read and not computed again.\n\n";

enum { ARGS_MOST = 6 * WORDS_MOST + 24, VALUE_BYTES = TEXT_BYTES * 8 };
struct args {
    size_t count;
    const char *at[ARGS_MOST + 1]; // NULL-terminated
    char values[16][VALUE_BYTES];  // of settings made here
    size_t made;
};

static void
add(struct args *args, const char *word)
{
    assert(args->count < ARGS_MOST);
    args->at[args->count++] = word;
    args->at[args->count] = NULL;
}

static enum status
add_set(struct args *args, const char *key, const char *value)
{
    if (!value)
        return STATUS_OK;
    char *at = args->values[args->made++];
    int length = snprintf(at, VALUE_BYTES, "%s=%s", key, value);
    if (length < 0 || length >= VALUE_BYTES)
        return FAIL(USAGE, "osae eval: %.60s...: too long", value);
    add(args, "--set");
    add(args, at);
    return STATUS_OK;
}

// ["a", "b"], as YAML reads it.
static enum status
add_list(struct args *args, const char *key, const struct words *words)
{
    if (words->count == 0)
        return STATUS_OK;
    char list[VALUE_BYTES];
    size_t at = 0;
    list[at++] = '[';
    for (size_t i = 0; i < words->count; i++) {
        if (at + 2 * strlen(words->at[i]) + 8 > sizeof list)
            return FAIL(USAGE, "osae eval: the names after --text are too long together");
        at += (size_t)snprintf(list + at, sizeof list - at, "%s\"", i ? ", " : "");
        for (const char *c = words->at[i]; *c; c++) {
            if (*c == '"' || *c == '\\')
                list[at++] = '\\';
            list[at++] = *c;
        }
        list[at++] = '"';
    }
    list[at++] = ']';
    list[at] = '\0';
    return add_set(args, key, list);
}

// Does not return when it succeeds.
static enum status
become(const struct args *args)
{
    char program[PATH_BYTES];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    char *slash = length > 0 ? (program[length] = '\0', strrchr(program, '/')) : NULL;
    static const char name[] = "osae-evaluator";
    if (!slash || (size_t)(slash - program) + sizeof name + 1 > sizeof program)
        return FAIL(INTERNAL, "cannot find the folder of this program: %s", strerror(errno));
    memcpy(slash + 1, name, sizeof name);
    char *argv[ARGS_MOST + 3];
    static char eval[] = "eval";
    argv[0] = program;
    argv[1] = eval;
    // execv takes char *const[] but changes nothing of it.
    memcpy(argv + 2, args->at, (args->count + 1) * sizeof args->at[0]);
    TRY(commands_flush(stdout));
    setenv("OMP_WAIT_POLICY", "passive", 0); // a trainer may be on the same cores
    execv(program, argv);
    return FAIL(MISSING, "%s: the program is not there: %s", program, strerror(errno));
}

enum status
eval_command(int argc, char *const *argv)
{
    const char *config = NULL, *model = NULL, *tokens = NULL, *layer = NULL, *only = NULL,
               *out = NULL, *state = NULL, *given = NULL;
    struct words text = {0}, probe = {0}, sets = {0}, saes = {0}, named = {0};
    const struct flag flags[] = {
        {"--sae", "SAE", "the same as naming it alone", .words = &named},
        {"--model", "PATH", "the language model: a folder, or a .gguf file", .text = &model},
        {"--layer", "N", "the block whose output the SAE is of (default: as the SAE says)",
         .text = &layer},
        {"--text", "FILE", "held-out text: .jsonl, .txt, a folder", .words = &text},
        {"--tokens", "N|FILE",
         "so many tokens of it; or, not text, rows of ids: {\"input_ids\": [...]}",
         .text = &tokens},
        {"--only", "LIST", "which evaluations: core, absorption, probing (default: core)",
         .text = &only},
        {"--probe", "FILE", "labelled texts to probe: .jsonl, or folders of them", .words = &probe},
        {"--out", "DIR", "where the results go (default: eval/ of the run, or here)", .text = &out},
        {"--state", "DIR", "with --only absorption: words, prompts, probes, and every word's score",
         .text = &state},
        {"--given", "DIR", "such a folder, anybody's: its words and main latents, scored again",
         .text = &given},
        {"--config", "FILE", "settings of a run", .text = &config},
        {"--set", "KEY=VALUE", "a setting, as eval.core_batches=200", .words = &sets},
    };
    if (flags_help_wanted(argc, argv)) {
        fputs(manual, stdout);
        flags_print(stdout, flags, FLAGS_COUNT(flags));
        return STATUS_OK;
    }
    TRY(flags_read(flags, FLAGS_COUNT(flags), "osae eval", argc, argv, &saes));
    if (saes.count + named.count == 0)
        return FAIL(USAGE, "osae eval: which SAE? (osae eval --help)");
    struct args *args = calloc(1, sizeof *args);
    if (!args)
        return FAIL(CREATE, "no memory for a command line");
    enum status status;
    const char *const plain[][2] = {
        {"--config", config}, {"--tokens", tokens}, {"--only", only}, {"--state", state}, {"--given", given}};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (plain[i][1]) {
            add(args, plain[i][0]);
            add(args, plain[i][1]);
        }
    GOTRY(add_set(args, "model.path", model));
    GOTRY(add_set(args, "model.layer", layer));
    GOTRY(add_set(args, "eval.out", out));
    GOTRY(add_list(args, "eval.text", &text));
    GOTRY(add_list(args, "eval.probe_sets", &probe));
    for (size_t i = 0; i < sets.count; i++) {
        add(args, "--set");
        add(args, sets.at[i]);
    }
    add(args, "--");
    for (size_t i = 0; i < named.count; i++)
        add(args, named.at[i]);
    for (size_t i = 0; i < saes.count; i++)
        add(args, saes.at[i]);
    status = become(args);
done:
    free(args);
    return status;
}

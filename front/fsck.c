// osae fsck: is every file of a run's folder what it was when it was written? Touches nothing.
#include "config/config.h"
#include "front/commands.h"
#include "front/report_table.h"
#include "lib/base/flags.h"
#include "lib/interop/saebench_absorption.h"
#include "lib/interop/saebench_core.h"
#include "lib/interop/saebench_probing.h"
#include "lib/store/checkpoint.h"
#include "lib/store/failure.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>

static const char manual[] =
    "usage: osae fsck RUN...\n\n"
    "Reads every byte of a run's folder: checkpoints against the hashes in their manifests, the\n"
    "journal, the settings, metrics and results. One line a problem, with what the trainer will "
    "do\n"
    "about it when the run goes on; `note:` is what a crash may leave, and needs nothing. Touches\n"
    "nothing, and may be used while the run goes on. Exit code 0: sound, 65: damaged.\n\n";

enum { METRICS_MOST = 1 << 30 };

struct check {
    const char *run;
    size_t problems, notes;
    size_t sound, records, lines, results; // what is well
    size_t given_up, begun;                // records of evaluations without a result
    uint64_t newest;                       // sound checkpoint; valid when sound > 0
};

static void problem(struct check *check, const char *what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void note(struct check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// "WHAT; what happens then". `what` is mostly status_words().
static void
problem(struct check *check, const char *what, const char *format, ...)
{
    char text[2048], then[512];
    va_list args;
    va_start(args, format);
    vsnprintf(then, sizeof then, format, args);
    va_end(args);
    snprintf(text, sizeof text, "%.1000s; %s", what, then);
    words_clean(text); // names of files may be anything
    puts(text);
    check->problems++;
}

static void
note(struct check *check, const char *format, ...)
{
    char text[1400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    words_clean(text);
    printf("note: %s\n", text);
    check->notes++;
}

// ---------------------------------------------------------------- checkpoints

struct bad {
    uint64_t step;
    char flaw[16], words[1024];
};

static void
tell_bad(struct check *check, const struct bad *bad)
{
    if (check->sound > 0 && bad->step > check->newest)
        problem(check, bad->words,
                "recovery puts it aside as .bad-%s and goes on from step %" PRIu64, bad->flaw,
                check->newest);
    else if (check->sound > 0)
        problem(check, bad->words, "recovery goes on from step %" PRIu64 " and leaves it alone",
                check->newest);
    else
        problem(check, bad->words,
                "recovery puts it aside as .bad-%s, finds no sound one and refuses to start over "
                "without --from-scratch",
                bad->flaw);
}

static enum status
check_checkpoints(struct check *check)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct checkpoint_list list;
    TRY(path_join(folder, check->run, "checkpoints"));
    if (!path_is_folder(folder))
        return STATUS_OK;
    TRY(checkpoint_list(&list, folder));
    struct bad *bad = calloc(list.count + 1, sizeof *bad);
    size_t count = 0;
    enum status status = STATUS_OK;
    if (!bad)
        GOTRY(FAIL(CREATE, "no memory for %zu checkpoints", list.count));
    for (size_t i = 0; i < list.count; i++) { // newest first
        const char *flaw = NULL;
        GOTRY(checkpoint_path(path, folder, list.steps[i]));
        status = checkpoint_verify(path, NULL, NULL, &flaw);
        if (status == STATUS_OK) {
            check->newest = check->sound++ ? check->newest : list.steps[i];
            continue;
        }
        if (!path_exists(path)) { // deleted by retention while we looked
            status = STATUS_OK;
            continue;
        }
        if (!flaw)
            goto done; // no memory, no permission: says nothing about the checkpoint
        bad[count].step = list.steps[i];
        snprintf(bad[count].flaw, sizeof bad[count].flaw, "%s", flaw);
        snprintf(bad[count++].words, sizeof bad[0].words, "%s", status_words());
        status = STATUS_OK;
    }
    for (size_t i = 0; i < count; i++)
        tell_bad(check, &bad[i]);
    if (list.quarantined)
        note(check, "%s: %zu put aside before (.bad-*)", folder, list.quarantined);
    if (list.unfinished)
        note(check, "%s: %zu being written or left by a crash (.tmp-*); the next start sweeps them",
             folder, list.unfinished);
done:
    free(bad);
    checkpoint_list_release(&list);
    return status;
}

static enum status
check_journal(struct check *check)
{
    char path[PATH_BYTES];
    bool torn = false;
    TRY(path_join(path, check->run, "journal.jsonl"));
    if (!path_exists(path)) {
        if (check->sound)
            note(check, "%s: is missing; a new one is begun, the history is lost", path);
        return STATUS_OK;
    }
    enum status status = journal_check(&check->records, &torn, path);
    if (status == STATUS_DAMAGED) {
        problem(check, status_words(),
                "the trainer refuses to start without --salvage, which keeps the sound lines");
        return STATUS_OK;
    }
    TRY(status);
    if (torn)
        note(check, "%s: its last line is torn by a crash; the next start cuts it", path);
    return STATUS_OK;
}

// ---------------------------------------------------------------- settings, metrics, results

static void
check_settings(struct check *check)
{
    char path[PATH_BYTES];
    struct config *config = NULL;
    if (path_join(path, check->run, "config.yaml") != STATUS_OK || !path_exists(path)) {
        if (check->sound)
            note(check, "%s/config.yaml: is missing; the next start writes it anew", check->run);
        return;
    }
    if (config_frozen(&config, path) != STATUS_OK)
        problem(check, status_words(),
                "nothing reads it while the run goes on, but `osae report` shows less");
    config_free(&config);
}

// An object on a line, `step` in it. What a crash tore has lost its end, the '}'.
static void
check_lines(struct check *check, const char *path, const char *text, size_t bytes)
{
    size_t number = 0, torn = 0;
    for (const char *at = text, *end; at < text + bytes; at = end + 1) {
        end = memchr(at, '\n', (size_t)(text + bytes - at));
        bool last = !end;
        end = end ? end : text + bytes;
        number++;
        if (end == at || end[-1] != '}') {
            torn++;
            continue;
        }
        json_error_t error;
        json_t *line = json_loadb(at, (size_t)(end - at), JSON_REJECT_DUPLICATES, &error);
        if (json_is_integer(json_object_get(line, "step"))) {
            check->lines += !last;
        } else {
            char what[PATH_BYTES + 256];
            snprintf(what, sizeof what, "%s:%zu: is no line of metrics (%s)", path, number,
                     line ? "no whole number `step`" : error.text);
            problem(check, what, "readers skip it");
        }
        json_decref(line);
    }
    if (torn)
        note(check, "%s: %zu of %zu lines torn by a crash; readers skip them", path, torn, number);
}

static int
is_metrics(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return strncmp(entry->d_name, "m-", 2) == 0 && length > 6 &&
           strcmp(entry->d_name + length - 6, ".jsonl") == 0;
}

static int
is_result(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

static void
check_metrics(struct check *check, const char *path)
{
    char *text;
    size_t bytes;
    if (file_read(&text, &bytes, path, METRICS_MOST) != STATUS_OK) {
        problem(check, status_words(), "its steps are missing in every report");
        return;
    }
    check_lines(check, path, text, bytes);
    free(text);
}

// A result or a record of failure is read whole, and kept nowhere.
union result {
    struct core_file core;
    struct absorption_file absorption;
    struct probing_file probing;
    struct failure failure;
};

static enum status
read_core(union result *to, const char *path)
{
    return saebench_core_read(&to->core, path);
}

static enum status
read_absorption(union result *to, const char *path)
{
    return saebench_absorption_read(&to->absorption, path);
}

static enum status
read_probing(union result *to, const char *path)
{
    TRY(saebench_probing_read(&to->probing, path));
    probing_file_release(&to->probing);
    return STATUS_OK;
}

static const struct {
    const char *folder;
    enum status (*read)(union result *to, const char *path);
} kinds[] = {
    {"/eval/core", read_core},
    {"/eval/absorption", read_absorption},
    {"/eval/sparse_probing", read_probing},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static bool
ends(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length > tail && strcmp(text + length - tail, end) == 0;
}

static void
check_result(struct check *check, const char *path)
{
    bool begun = ends(path, "_begun.json"), given_up = !begun && failure_name(path);
    union result *to = malloc(sizeof *to);
    enum status status = to ? STATUS_OK : FAIL(CREATE, "no memory");
    if (to && (begun || given_up))
        status = failure_read(&to->failure, path);
    for (size_t i = 0; to && !begun && !given_up && i < KINDS; i++)
        if (strstr(path, kinds[i].folder))
            status = kinds[i].read(to, path);
    free(to);
    if (status == STATUS_MISSING) // done with while we looked
        return;
    if (status != STATUS_OK) {
        problem(check, status_words(),
                begun || given_up ? "it counts as none: the evaluator tries that checkpoint again"
                                  : "it counts as none: the evaluator scores that checkpoint "
                                    "again");
        return;
    }
    check->given_up += given_up;
    check->begun += begun;
    check->results += !begun && !given_up;
}

static enum status
each_file(struct check *check, const char *part, int (*is)(const struct dirent *),
          void (*look)(struct check *, const char *))
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct dirent **names;
    TRY(path_join(folder, check->run, part));
    int count = scandir(folder, &names, is, alphasort);
    if (count < 0 && errno != ENOENT)
        return FAIL(IO, "%s: cannot list: %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        if (path_join(path, folder, names[i]->d_name) == STATUS_OK)
            look(check, path);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    return STATUS_OK;
}

// ---------------------------------------------------------------- the command

static enum status
check_run(struct check *check)
{
    if (!path_is_folder(check->run))
        return FAIL(MISSING, "%s: is no folder of a run", check->run);
    TRY(check_checkpoints(check));
    TRY(check_journal(check));
    check_settings(check);
    TRY(each_file(check, "metrics", is_metrics, check_metrics));
    for (size_t i = 0; i < KINDS; i++)
        TRY(each_file(check, kinds[i].folder + 1, is_result, check_result));
    if (check->given_up)
        note(check, "%s/eval: %zu given up; `osae report` shows why", check->run, check->given_up);
    if (check->begun)
        note(check,
             "%s/eval: %zu going on, or cut off by a crash; the next attempt "
             "counts them",
             check->run, check->begun);
    if (check->records == 0 && !check->sound && !check->problems && !check->notes &&
        !check->lines && !check->results)
        return FAIL(MISSING,
                    "%s: is no folder of a run: it has neither journal.jsonl nor "
                    "checkpoints",
                    check->run);
    char newest[64] = "";
    if (check->sound)
        snprintf(newest, sizeof newest, ", the newest of step %" PRIu64, check->newest);
    printf("%s: %s: %zu sound checkpoint%s%s, %zu journal records, %zu lines of metrics, "
           "%zu results\n",
           check->run, check->problems ? "DAMAGED" : "sound", check->sound,
           check->sound == 1 ? "" : "s", newest, check->records, check->lines, check->results);
    return STATUS_OK;
}

enum status
fsck_command(int argc, char *const *argv)
{
    struct words names = {0};
    if (flags_help_wanted(argc, argv)) {
        fputs(manual, stdout);
        return STATUS_OK;
    }
    TRY(flags_read(NULL, 0, "osae fsck", argc, argv, &names));
    if (names.count == 0)
        return FAIL(USAGE, "osae fsck: a run is missing (osae fsck --help)");
    size_t problems = 0, damaged = 0;
    const char *last = NULL;
    for (size_t i = 0; i < names.count; i++) {
        struct check check = {.run = names.at[i]};
        TRY(check_run(&check));
        problems += check.problems;
        damaged += check.problems > 0;
        last = check.problems ? check.run : last;
    }
    TRY(commands_flush(stdout));
    if (damaged == 0)
        return STATUS_OK;
    if (damaged > 1)
        return FAIL(DAMAGED, "%zu runs are damaged, in %zu places", damaged, problems);
    return FAIL(DAMAGED, "%s: is damaged in %zu place%s", last, problems, problems == 1 ? "" : "s");
}

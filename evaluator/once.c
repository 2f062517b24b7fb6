#include "evaluator/once.h"

#include "config/config.h"
#include "evaluator/evaluation.h"
#include "evaluator/once_table.h"
#include "lib/base/flags.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/interop/sae_folder.h"
#include "lib/store/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MS = 100 };

struct asked {
    const char *config, *tokens, *only, *state, *given;
    struct words sets, saes;
    // what --tokens means
    const char *rows; // a file of ids
    uint64_t budget;  // or so many tokens of the text; 0: as eval.* says
};

// One SAE of the command line.
struct named_sae {
    struct sae_folder sae;
    struct card card;
    char run[CARD_TEXT], ck[SAEBENCH_TEXT]; // what the result file calls it
    char home[PATH_BYTES];                  // the folder of the run it is a checkpoint of, or ""
    uint64_t step, mh;
};

// ---------------------------------------------------------------- what is asked

static enum status
read_asked(struct asked *asked, int argc, char *const *argv)
{
    const struct flag flags[] = {
        {"--config", "FILE", "settings of a run", .text = &asked->config},
        {"--set", "KEY=VALUE", "a setting, over the file's", .words = &asked->sets},
        {"--tokens", "N|FILE", "so many tokens of the text, or a JSONL file of ids",
         .text = &asked->tokens},
        {"--only", "LIST", "core, absorption", .text = &asked->only},
        {"--state", "DIR", "what the score was made of", .text = &asked->state},
        {"--given", "DIR", "such a folder to be scored again", .text = &asked->given},
    };
    TRY(flags_read(flags, FLAGS_COUNT(flags), "osae eval", argc, argv, &asked->saes));
    if (asked->saes.count == 0)
        return FAIL(USAGE, "osae eval: which SAE? (osae eval --help)");
    if (asked->state && asked->saes.count > 1)
        return FAIL(USAGE, "osae eval: --state %.200s is of one SAE, found %zu", asked->state,
                    asked->saes.count);
    if (asked->state && !(asked->only && strstr(asked->only, "absorption")))
        return FAIL(USAGE, "osae eval: --state is of --only absorption");
    if (asked->given && !(asked->only && strcmp(asked->only, "absorption") == 0))
        return FAIL(USAGE, "osae eval: --given is of --only absorption");
    if (asked->tokens) {
        size_t digits = strspn(asked->tokens, "0123456789");
        if (asked->tokens[0] && !asked->tokens[digits])
            asked->budget = strtoull(asked->tokens, NULL, 10);
        else
            asked->rows = asked->tokens;
        if (!asked->rows && asked->budget == 0)
            return FAIL(USAGE, "osae eval: --tokens %s: wanted a number above 0, or a file",
                        asked->tokens);
    }
    return STATUS_OK;
}

// A run's folder stands for its newest checkpoint.
static enum status
newest(char out[PATH_BYTES], const char *path)
{
    char checkpoints[PATH_BYTES];
    TRY(path_join(checkpoints, path, "checkpoints"));
    if (!path_is_folder(checkpoints)) {
        TRY(path_join(out, path, "."));
        snprintf(out, PATH_BYTES, "%s", path);
        return STATUS_OK;
    }
    struct checkpoint_list list;
    TRY(checkpoint_list(&list, checkpoints));
    enum status status = list.count ? checkpoint_path(out, checkpoints, list.steps[0])
                                    : FAIL(MISSING, "%s: no checkpoint in it yet", path);
    checkpoint_list_release(&list);
    return status;
}

// A checkpoint of ours is known by its manifest, as the daemon knows it; any other SAE by the bytes
// of its files.
static enum status
identify(struct named_sae *subject)
{
    const char *folder = subject->sae.path, *parent, *slash;
    char manifest[PATH_BYTES];
    TRY(path_join(manifest, folder, MANIFEST_NAME));
    if (path_exists(manifest)) {
        struct checkpoint_facts *facts = malloc(sizeof *facts);
        if (!facts)
            return FAIL(CREATE, "no memory to verify a checkpoint");
        enum status status = checkpoint_verify(folder, facts, &subject->mh, NULL);
        if (status == STATUS_OK) {
            subject->step = facts->step;
            snprintf(subject->run, sizeof subject->run, "%s", facts->run);
            snprintf(subject->ck, sizeof subject->ck, "%s/%" PRIu64 "-%u", facts->run, facts->step,
                     facts->incarnation);
        }
        free(facts);
        TRY(status);
        slash = strrchr(folder, '/');
        parent = "checkpoints";
        size_t length = slash ? (size_t)(slash - folder) : 0, tail = strlen(parent);
        if (length > tail && folder[length - tail - 1] == '/' &&
            strncmp(folder + length - tail, parent, tail) == 0)
            snprintf(subject->home, sizeof subject->home, "%.*s", (int)(length - tail - 1), folder);
        return STATUS_OK;
    }
    TRY(sae_folder_hash(&subject->mh, &subject->sae));
    char hex[17], whole[PATH_BYTES];
    hex64(hex, subject->mh);
    if (!realpath(folder, whole))
        memcpy(whole, folder, strlen(folder) + 1);
    slash = strrchr(whole, '/');
    // Two SAEs of one name must not share a file.
    snprintf(subject->run, sizeof subject->run, "%.200s-%.8s", slash ? slash + 1 : whole, hex);
    snprintf(subject->ck, sizeof subject->ck, "%.400s", folder);
    subject->step = subject->card.step;
    return STATUS_OK;
}

static enum status
find_subject(struct named_sae *subject, const char *path)
{
    char folder[PATH_BYTES];
    memset(subject, 0, sizeof *subject);
    TRY(newest(folder, path));
    TRY(sae_folder_find(&subject->sae, folder));
    TRY(sae_folder_card(&subject->card, &subject->sae));
    return identify(subject);
}

// ---------------------------------------------------------------- settings

static bool
is_set(const struct config *config, const char *key)
{
    return config_origin(config, settings_row(key))->source != SOURCE_PRESET;
}

// About `tokens` of them, split between predictions and everything else as the settings do.
static void
budget(struct settings *set, uint64_t tokens)
{
    uint64_t batch = (uint64_t)set->eval.batch_contexts * set->model.context;
    uint64_t batches = tokens / batch;
    uint64_t all = set->eval.core_batches + (uint64_t)set->eval.core_variance_batches;
    uint64_t core = batches * set->eval.core_batches / all;
    core = core < 1 ? 1 : core > 1000000 ? 1000000 : core;
    uint64_t rest = batches > core ? batches - core : 1;
    set->eval.core_batches = (uint32_t)core;
    set->eval.core_variance_batches = rest > 1000000 ? 1000000 : (uint32_t)rest;
}

// Who names an evaluation wants it, whatever the schedule of a run says.
static void
switch_on(struct settings *set, const char *only)
{
    if (only && strstr(only, "probing") && strcmp(set->eval.probing, "off") == 0)
        snprintf(set->eval.probing, sizeof set->eval.probing, "all");
    if (only && strstr(only, "absorption") && strcmp(set->eval.absorption, "off") == 0)
        snprintf(set->eval.absorption, sizeof set->eval.absorption, "all");
}

// The file that is named; else the settings of the run that the first SAE is a checkpoint of, when
// the command names no model; what is missing comes from the SAE.
static enum status
settings_of(struct config **out, const struct asked *asked, const struct named_sae *first)
{
    char own[PATH_BYTES];
    const char *path = asked->config;
    bool model = false;
    for (size_t i = 0; i < asked->sets.count; i++)
        model |= strncmp(asked->sets.at[i], "model.path=", 11) == 0;
    if (!path && !model && first->home[0]) {
        TRY(path_join(own, first->home, "config.yaml"));
        path = path_exists(own) ? own : NULL;
    }
    TRY(config_load(out, path, asked->sets.at, asked->sets.count));
    struct settings *set = &(*out)->set;
    if (!set->model.path[0])
        return FAIL(CONFIG, "osae eval: --model is missing: a folder or .gguf file");
    bool reads = !asked->only || strstr(asked->only, evaluations[0]->kind); // absorption does not
    if (reads && !asked->rows && set->eval.text.count == 0)
        return FAIL(CONFIG, "osae eval: --text is missing: held-out text, or --tokens FILE with "
                            "rows of ids");
    if (!is_set(*out, "model.layer")) {
        if (first->card.layer < 0)
            return FAIL(CONFIG,
                        "%s does not say which block's output it reads (hook '%.60s'): --layer is "
                        "missing",
                        first->sae.path, first->card.hook_name);
        set->model.layer = (uint32_t)first->card.layer;
    }
    if (asked->budget)
        budget(set, asked->budget);
    switch_on(set, asked->only);
    return STATUS_OK;
}

// ---------------------------------------------------------------- one SAE after the other

struct line { // of progress, on a terminal
    bool terminal;
    int64_t shown_at;
};

static bool
show(void *context, const char *what, double share)
{
    struct line *line = context;
    int64_t now = tick_ms();
    if (line->terminal && now >= line->shown_at + LINE_MS) {
        line->shown_at = now;
        if (share >= 0)
            fprintf(stderr, "\r\033[K%s %.0f %%", what, 100 * share);
        else
            fprintf(stderr, "\r\033[K%s", what);
        fflush(stderr);
    }
    return false;
}

static void
clear(const struct line *line)
{
    if (line->terminal)
        fputs("\r\033[K", stderr);
}

static enum status
results_folder(char out[PATH_BYTES], const struct settings *set, const struct named_sae *subject)
{
    if (!set->eval.out[0])
        return path_join(out, subject->home[0] ? subject->home : ".", "eval");
    snprintf(out, PATH_BYTES, "%s", set->eval.out);
    return STATUS_OK;
}

static enum status
examine(struct named *values, const struct desk *desk, size_t row, void *state,
        const struct named_sae *sae, struct line *line)
{
    char folder[PATH_BYTES];
    TRY(results_folder(folder, desk->set, sae));
    const struct subject subject = {.folder = sae->sae.path,
                                    .run = sae->run,
                                    .ck = sae->ck,
                                    .step = sae->step,
                                    .mh = sae->mh,
                                    .last = true,
                                    .results = folder};
    const struct evaluation *evaluation = evaluations[row];
    struct finding finding = {.values = values};
    named_clear(values);
    bool known = false;
    // Of an earlier time there is only the score, not what it was made of.
    if (!desk->given && !(desk->state && evaluation->states))
        TRY(evaluation_find(&known, evaluation, state, &subject, &finding));
    if (!known) {
        const struct score_watch watch = {show, line};
        enum status status = evaluation->run(state, &subject, &finding, &watch);
        clear(line);
        TRY(status);
    }
    if (desk->given) { // no result file: it is not this evaluator that asked
        say(SAY_INFO, "%s: %s: %s, %.1f s", sae->ck, evaluation->kind, finding.line,
            finding.seconds);
        return STATUS_OK;
    }
    const char *misleading = saebench_misleading(folder, evaluation->kind);
    if (misleading)
        say(SAY_WARN, "%s: SAEBench's plots will take it for '%s', which its path holds", folder,
            misleading);
    say(SAY_INFO, "%s: %s: %s, %.1f s%s, in %s/%s", sae->ck, evaluation->kind, finding.line,
        finding.seconds, known ? " (computed before)" : "", folder, evaluation->kind);
    return STATUS_OK;
}

// "probing" is short for sparse_probing.
static bool
names(const char *kind, const char *word)
{
    size_t length = strlen(kind), tail = strlen(word);
    return strcmp(kind, word) == 0 || (length > tail && kind[length - tail - 1] == '_' &&
                                       strcmp(kind + length - tail, word) == 0);
}

// Which rows are asked for: --only, else the first, which is cheap and always there.
static enum status
pick_rows(bool asked[EVALUATIONS], const char *only)
{
    char copy[256], *left = copy;
    if (snprintf(copy, sizeof copy, "%s", only ? only : evaluations[0]->kind) >= (int)sizeof copy)
        return FAIL(USAGE, "osae eval: --only %.40s...: too long", only);
    for (char *word; (word = strsep(&left, ",")) != NULL;) {
        size_t row = 0;
        while (row < EVALUATIONS && !names(evaluations[row]->kind, word))
            row++;
        if (row < EVALUATIONS) {
            asked[row] = true;
            continue;
        }
        char known[256];
        size_t at = 0;
        for (size_t i = 0; i < EVALUATIONS; i++)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "",
                                   evaluations[i]->kind);
        return FAIL(USAGE, "osae eval: --only %.40s: wanted some of: %s", word, known);
    }
    return STATUS_OK;
}

// Keeps the first, which is what the program ends with; of several SAEs says each where it stands.
static void
failed(struct status_note *first, enum status status, bool several)
{
    bool another = first->code != STATUS_OK;
    if (!another)
        status_note_take(first, status);
    if (several || another)
        say(SAY_ERROR, "%s", status_words());
}

// One kind of evaluation of every SAE, and its table.
static enum status
examine_row(struct status_note *first, const struct desk *desk, size_t row,
            const struct named_sae *saes, size_t count, struct line *line)
{
    enum status status = STATUS_OK;
    void *state = NULL;
    const struct score_watch watch = {show, line};
    size_t done = 0;
    struct once_column *columns = calloc(count, sizeof *columns);
    struct named *values = calloc(count, sizeof *values);
    if (!columns || !values)
        GOTRY(FAIL(CREATE, "no memory for %zu results", count));
    status = evaluation_open(&state, evaluations[row], desk, &watch);
    clear(line);
    GOTRY(status);
    if (!state)
        GOTRY(FAIL(CONFIG, "the settings switch the %s evaluation off: --set eval.%s=...",
                   evaluations[row]->kind, evaluations[row]->kind));
    for (size_t i = 0; i < count; i++) {
        columns[done] = (struct once_column){saes[i].ck, &values[done]};
        status = examine(&values[done], desk, row, state, &saes[i], line);
        if (status == STATUS_OK)
            done++;
        else
            failed(first, status, count > 1);
    }
    status = STATUS_OK;
    once_table(stdout, evaluations[row]->kind, columns, done);
done:
    if (state)
        evaluations[row]->close(&state);
    free(values);
    free(columns);
    return status;
}

static enum status
examine_all(const struct asked *asked)
{
    enum status status = STATUS_OK;
    size_t count = asked->saes.count, good = 0;
    bool rows[EVALUATIONS] = {false};
    struct status_note first = {.code = STATUS_OK};
    struct config *config = NULL;
    struct desk desk = {0};
    struct line line = {.terminal = isatty(STDERR_FILENO) == 1};
    struct named_sae *saes = calloc(count, sizeof *saes);
    if (!saes)
        return FAIL(CREATE, "no memory for %zu SAEs", count);
    GOTRY(pick_rows(rows, asked->only));
    for (size_t i = 0; i < count; i++) {
        status = find_subject(&saes[good], asked->saes.at[i]);
        if (status == STATUS_OK)
            good++;
        else if (count == 1)
            goto done;
        else
            failed(&first, status, count > 1);
    }
    if (good == 0)
        GOTRY(status_note_give(&first));
    GOTRY(settings_of(&config, asked, &saes[0]));
    GOTRY(desk_open(&desk, &config->set, asked->rows));
    desk.state = asked->state;
    desk.given = asked->given;
    for (size_t row = 0; row < EVALUATIONS; row++)
        if (rows[row])
            GOTRY(examine_row(&first, &desk, row, saes, good, &line));
    status = first.code == STATUS_OK ? STATUS_OK : status_note_give(&first);
done:
    desk_close(&desk);
    config_free(&config);
    free(saes);
    return status;
}

enum status
once_run(int argc, char *const *argv)
{
    struct asked asked = {0};
    TRY(read_asked(&asked, argc, argv));
    TRY(examine_all(&asked));
    if (fflush(stdout) != 0 || ferror(stdout))
        return FAIL(IO, "cannot write the output");
    return STATUS_OK;
}

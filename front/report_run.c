#include "front/report_run.h"

#include "front/report_table.h"
#include "lib/base/say.h"
#include "lib/host/meter.h"
#include "lib/interop/card.h"
#include "lib/store/checkpoint.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

enum { CURVE_MOST = 50 << 20, CARD_MOST = 1 << 20 };

void
report_run_leave_out(struct report_run *run)
{
    say(SAY_WARN, "%s; left out", status_words());
    run->unreadable++;
}

// ---------------------------------------------------------------- metrics

// clang-format off
const struct curve_row curve_rows[CURVE_ROWS] = {
    [CURVE_LOSS] = {"loss", "training loss, all terms", offsetof(struct curve_point, loss), -1},
    [CURVE_FVU]  = {"FVU",  "share of the variance not explained", offsetof(struct curve_point, fvu), 4},
    [CURVE_L0]   = {"L0",   "active latents a token", offsetof(struct curve_point, l0), 1},
    [CURVE_DEAD] = {"dead", "latents long silent in training", offsetof(struct curve_point, dead), 0},
};
// clang-format on

double
curve_number(const struct curve_point *point, size_t row)
{
    double value;
    memcpy(&value, (const char *)point + curve_rows[row].offset, sizeof value);
    return value;
}

struct taking {
    struct report_run *run;
    bool failed;
};

static void
take_reading(struct curve_point *point, const struct reading *reading)
{
    const struct {
        const char *name;
        double *to;
    } names[] = {
        {"loss", &point->loss},
        {"mse_sum", &point->mse_sum},
        {"fvu", &point->fvu},
        {"l0", &point->l0},
        {"dead_latents", &point->dead},
        {"tokens_trained", &point->tokens},
        {"step_seconds", &point->step_seconds},
        {"wait_seconds", &point->wait_seconds},
        {"lambda_s", &point->lambda_s},
        {"lambda_o", &point->lambda_o},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(reading->name, names[i].name) == 0)
            *names[i].to = reading->value;
}

static void
take_line(void *to, double t, uint64_t step, const struct reading *readings, size_t count)
{
    struct taking *taking = to;
    struct report_run *run = taking->run;
    if (taking->failed || step > INT64_MAX)
        return;
    if (run->curve_count == run->curve_room) {
        size_t room = run->curve_room ? 2 * run->curve_room : 256;
        struct curve_point *grown =
            room <= CURVE_MOST ? realloc(run->curve, room * sizeof *grown) : NULL;
        taking->failed = !grown;
        if (!grown)
            return;
        run->curve = grown;
        run->curve_room = room;
    }
    const double none = (double)NAN;
    struct curve_point point = {step, t,    none, none, none, none,
                                none, none, none, none, none, none};
    for (size_t i = 0; i < count; i++)
        take_reading(&point, &readings[i]);
    run->curve[run->curve_count++] = point;
}

static int
by_step(const void *a, const void *b)
{
    const struct curve_point *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return (x->t > y->t) - (x->t < y->t);
}

static enum status
read_metrics(struct report_run *run)
{
    char folder[PATH_BYTES];
    struct taking taking = {.run = run};
    TRY(path_join(folder, run->path, "metrics"));
    if (!path_is_folder(folder))
        return STATUS_OK;
    if (meter_read(folder, take_line, &taking) != STATUS_OK)
        report_run_leave_out(run);
    if (taking.failed)
        return FAIL(CREATE, "%s: no memory for %zu readings", folder, run->curve_count);
    if (run->curve_count == 0)
        return STATUS_OK;
    qsort(run->curve, run->curve_count, sizeof *run->curve, by_step);
    size_t kept = 0;
    for (size_t i = 0; i < run->curve_count; i++)
        if (i + 1 == run->curve_count || run->curve[i + 1].step != run->curve[i].step)
            run->curve[kept++] = run->curve[i];
    run->curve_count = kept;
    // Only every so-manieth step is measured: it stands for those since the one before.
    uint64_t before = 0;
    for (size_t i = 0; i < kept; i++) {
        const struct curve_point *point = &run->curve[i];
        double steps = (double)(point->step - before);
        if (isfinite(point->wait_seconds))
            run->waiting += steps * point->wait_seconds;
        if (isfinite(point->step_seconds))
            run->seconds += steps * point->step_seconds;
        before = point->step;
    }
    run->seconds += run->waiting;
    return STATUS_OK;
}

// ---------------------------------------------------------------- who it is

static void
take_config(struct report_run *run)
{
    char path[PATH_BYTES];
    if (path_join(path, run->path, "config.yaml") != STATUS_OK || !path_exists(path))
        return;
    if (config_frozen(&run->config, path) != STATUS_OK) {
        report_run_leave_out(run);
        return;
    }
    const struct settings *set = &run->config->set;
    snprintf(run->name, sizeof run->name, "%s", set->run.name);
    snprintf(run->arch, sizeof run->arch, "%s",
             card_true_name((enum arch)set->sae.arch, set->loss.lambda_o));
    run->latents = set->sae.latents;
    run->steps_planned = set->trainer.steps;
}

// cfg.json of the newest checkpoint: the names as they go out with the weights.
static enum status
take_card(struct report_run *run)
{
    char folder[PATH_BYTES], path[PATH_BYTES], *text;
    size_t bytes;
    struct checkpoint_list list;
    TRY(path_join(folder, run->path, "checkpoints"));
    if (!path_is_folder(folder))
        return STATUS_OK;
    TRY(checkpoint_list(&list, folder));
    uint64_t newest = list.count ? list.steps[0] : 0;
    bool any = list.count > 0;
    checkpoint_list_release(&list);
    if (!any)
        return STATUS_OK;
    run->steps = newest > run->steps ? newest : run->steps;
    TRY(checkpoint_path(path, folder, newest));
    TRY(path_join(folder, path, "cfg.json"));
    struct card card;
    enum status status = file_read(&text, &bytes, folder, CARD_MOST);
    if (status == STATUS_OK) {
        status = card_read(&card, text, bytes, folder);
        free(text);
    }
    if (status != STATUS_OK) {
        report_run_leave_out(run);
        return STATUS_OK;
    }
    snprintf(run->model, sizeof run->model, "%s", card.model_name);
    snprintf(run->hook, sizeof run->hook, "%s", card.hook_name);
    if (!run->arch[0])
        snprintf(run->arch, sizeof run->arch, "%s", card.architecture);
    run->latents = card.latents;
    run->width = card.width;
    return STATUS_OK;
}

static void
take_score_names(struct report_run *run)
{
    const struct report_score *last = report_run_last(run);
    if (!last)
        return;
    const struct core_file *file = &last->file;
    if (!run->model[0])
        snprintf(run->model, sizeof run->model, "%s", file->head.model_name);
    if (!run->hook[0])
        snprintf(run->hook, sizeof run->hook, "%s", file->head.hook_name);
    if (!run->arch[0])
        snprintf(run->arch, sizeof run->arch, "%s", file->head.architecture);
    run->latents = run->latents ? run->latents : file->head.latents;
    run->width = run->width ? run->width : file->head.width;
    run->steps = file->head.step > run->steps ? file->head.step : run->steps;
}

static void
take_last_name(struct report_run *run, const char *path)
{
    size_t length = strlen(path), first;
    while (length > 1 && path[length - 1] == '/')
        length--;
    for (first = length; first > 0 && path[first - 1] != '/';)
        first--;
    snprintf(run->name, sizeof run->name, "%.*s", (int)(length - first), path + first);
}

static enum status
find_folder(struct report_run *run, const char *path)
{
    if (strlen(path) >= sizeof run->path)
        return FAIL(CONFIG, "%.80s...: the path is too long", path);
    snprintf(run->path, sizeof run->path, "%s", path);
    if (path_is_folder(run->path))
        return STATUS_OK;
    if (strchr(path, '/'))
        return FAIL(MISSING, "%s: is no folder of a run", path);
    TRY(path_join(run->path, "runs", path));
    if (path_is_folder(run->path))
        return STATUS_OK;
    return FAIL(MISSING, "%s: is no folder of a run, and there is no runs/%s", path, path);
}

static enum status
read_all(struct report_run *run)
{
    take_config(run);
    TRY(read_metrics(run));
    TRY(report_results_read(run));
    if (run->curve_count)
        run->steps = run->curve[run->curve_count - 1].step;
    TRY(take_card(run));
    take_score_names(run);
    words_clean(run->name);
    words_clean(run->model);
    words_clean(run->hook);
    words_clean(run->arch);
    run->tokens = (double)NAN;
    if (run->config)
        run->tokens = (double)run->steps * run->config->set.stream.rows;
    else if (run->curve_count)
        run->tokens = run->curve[run->curve_count - 1].tokens;
    if (!run->config && !run->curve_count && !run->score_count && !run->width)
        return FAIL(MISSING,
                    "%s: is no folder of a run: no config.yaml, metrics/, eval/ or "
                    "checkpoints/ with anything in it",
                    run->path);
    return STATUS_OK;
}

enum status
report_run_read(struct report_run *out, const char *path)
{
    memset(out, 0, sizeof *out);
    TRY(find_folder(out, path));
    take_last_name(out, out->path);
    enum status status = read_all(out);
    if (status != STATUS_OK)
        report_run_release(out);
    return status;
}

void
report_run_release(struct report_run *run)
{
    config_free(&run->config);
    free(run->curve);
    free(run->scores);
    free(run->absorptions);
    if (run->probing)
        probing_file_release(run->probing);
    free(run->probing);
    run->probing = NULL;
    run->curve = NULL;
    run->scores = NULL;
    run->absorptions = NULL;
    run->curve_count = run->score_count = run->absorption_count = 0;
}

const struct report_score *
report_run_last(const struct report_run *run)
{
    return run->score_count ? &run->scores[run->score_count - 1] : NULL;
}

const struct absorption_file *
report_run_absorption(const struct report_run *run, uint64_t step)
{
    const struct absorption_file *best = NULL;
    for (size_t i = 0; i < run->absorption_count; i++) {
        const struct absorption_file *file = &run->absorptions[i];
        bool quick = strcmp(file->head.profile, "quick") == 0;
        if (file->head.step == step &&
            (!best || !quick || strcmp(best->head.profile, "quick") == 0))
            best = file;
    }
    return best;
}

#include "evaluator/evaluation.h"

#include "config/schedule.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/interop/sae_folder.h"

#include <stdio.h>
#include <string.h>

const struct evaluation *const evaluations[EVALUATIONS] = {
    &evaluation_core,
    &evaluation_probing,
    &evaluation_absorption,
};

enum status
subject_open(struct saelens *out, const struct subject *subject, const struct desk *desk,
             size_t rows_most)
{
    struct sae_folder folder;
    TRY(sae_folder_find(&folder, subject->folder));
    TRY(sae_folder_open(out, &folder, rows_most, desk->kern));
    enum status status =
        saelens_fits(out, subject->folder, desk->set->model.layer, model_width(desk->model));
    if (status != STATUS_OK)
        saelens_close(out);
    return status;
}

enum status
evaluation_open(void **state, const struct evaluation *evaluation, const struct desk *desk,
                const struct score_watch *watch)
{
    *state = NULL;
    if (evaluation->schedule) {
        const char *value = evaluation->schedule(&desk->set->eval);
        struct schedule schedule;
        if (!schedule_parse(&schedule, value))
            return FAIL(CONFIG, "%s is '%s', wanted " SCHEDULE_WANTED, evaluation->key, value);
        if (schedule_off(&schedule))
            return STATUS_OK;
    }
    enum status status = evaluation->open(state, desk, watch);
    if (status != STATUS_OK)
        evaluation->close(state);
    return status;
}

bool
evaluation_due(const struct evaluation *evaluation, const struct desk *desk,
               const struct subject *subject)
{
    struct schedule schedule;
    if (!evaluation->schedule)
        return true;
    return schedule_parse(&schedule, evaluation->schedule(&desk->set->eval)) &&
           schedule_due(&schedule, subject->step, subject->last);
}

enum status
evaluation_find(bool *found, const struct evaluation *evaluation, void *state,
                const struct subject *subject, struct finding *finding)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct saebench_head head = {
        .mh = subject->mh, .step = subject->step, .spec = evaluation->spec(state)};
    snprintf(head.run, sizeof head.run, "%s", subject->run);
    *found = false;
    TRY(path_join(folder, subject->results, evaluation->kind));
    if (path_is_folder(folder))
        TRY(saebench_find(found, path, folder, &head));
    if (!*found)
        return STATUS_OK;
    enum status status = evaluation->tell(finding, path);
    if (status == STATUS_DAMAGED) {
        *found = false;
        return STATUS_OK;
    }
    return status;
}

enum status
subject_head(struct saebench_head *out, char path[PATH_BYTES], const char *kind,
             const struct subject *subject, const struct desk *desk, const struct saelens *sae,
             struct hash128 spec, const char *profile)
{
    const struct settings *set = desk->set;
    char folder[PATH_BYTES];
    *out = (struct saebench_head){.mh = subject->mh,
                                  .step = subject->step,
                                  .spec = spec,
                                  .width = sae->card.width,
                                  .latents = sae->card.latents,
                                  .layer = set->model.layer,
                                  .training_tokens = sae->card.tokens,
                                  .created_ms = tick_label_ns() / 1000000};
    snprintf(out->model_name, sizeof out->model_name, "%s", desk->model_name);
    snprintf(out->dtype, sizeof out->dtype, "%s",
             set->model.dtype == SET_DTYPE_BF16 ? "bfloat16" : "float32");
    snprintf(out->ck, sizeof out->ck, "%s", subject->ck);
    snprintf(out->run, sizeof out->run, "%s", subject->run);
    snprintf(out->profile, sizeof out->profile, "%s", profile);
    snprintf(out->architecture, sizeof out->architecture, "%s", sae->card.architecture);
    snprintf(out->hook_name, sizeof out->hook_name, "blocks.%u.hook_resid_post", set->model.layer);
    snprintf(out->eval_id, sizeof out->eval_id, "%s", desk->eval_id);
    snprintf(out->version, sizeof out->version, "%s", OSAE_VERSION);
    TRY(path_join(folder, subject->results, kind));
    return saebench_path(path, folder, out);
}

// A folder's or file's own name, without .gguf.
static void
name_model(struct desk *desk)
{
    char path[FOLDER_BYTES];
    snprintf(path, sizeof path, "%s", desk->set->model.path);
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        path[--length] = '\0';
    const char *slash = strrchr(path, '/');
    snprintf(desk->model_name, sizeof desk->model_name, "%.511s",
             slash && slash[1] ? slash + 1 : path);
    length = strlen(desk->model_name);
    if (length > 5 && strcmp(desk->model_name + length - 5, ".gguf") == 0)
        desk->model_name[length - 5] = '\0';
}

enum status
desk_open(struct desk *desk, const struct settings *set, const char *rows)
{
    *desk = (struct desk){.set = set, .rows = rows};
    TRY(path_make(set->storage.cache, 0700));
    gemm_threads(set->evaluator.threads);
    TRY(kern_open(&desk->kern, set->evaluator.device, "evaluator.device"));
    TRY(saebench_eval_id(desk->eval_id));
    const bool bf16 = set->model.dtype == SET_DTYPE_BF16;
    struct model_settings model = {.path = set->model.path,
                                   .cache = set->storage.cache,
                                   .layer = set->model.layer,
                                   .context = set->model.context,
                                   .batch_contexts = set->model.batch_contexts,
                                   .precision = bf16 ? GEMM_BF16 : GEMM_F32,
                                   .whole = true};
    TRY(model_new(&desk->model, &model));
    say(SAY_INFO, "memory: model %s", model_memory(desk->model));
    name_model(desk);
    return STATUS_OK;
}

void
desk_close(struct desk *desk)
{
    model_free(&desk->model);
}

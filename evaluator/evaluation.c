#include "evaluator/evaluation.h"

#include "lib/base/say.h"
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

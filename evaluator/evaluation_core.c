// The core evaluation (score.h) as a row of evaluation.h: held-out text, and every checkpoint.
#include "evaluator/evaluation.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/lm/packed.h"
#include "lib/lm/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct core_state {
    const struct desk *desk;
    struct packed *windows;
    struct score *score;
};

static enum status
packing_progress(void *context, const struct packed_progress *progress)
{
    const struct score_watch *watch = context;
    double share =
        progress->bytes_total ? (double)progress->bytes_done / (double)progress->bytes_total : -1;
    return watch->stop(watch->context, "reading the held-out text", share)
               ? FAIL(AGAIN, "stopped while reading the text")
               : STATUS_OK;
}

static enum status
prepare_text(struct core_state *c, struct score_plan *plan, const struct score_watch *watch)
{
    const struct settings *set = c->desk->set;
    enum status status;
    struct tokenizer *tokenizer = NULL;
    struct score_watch watching = *watch;
    uint32_t bos, separator;
    GOTRY(tokenizer_open(&tokenizer, set->model.path));
    const char *word = set->model.bos[0] ? set->model.bos : "auto";
    GOTRY(tokenizer_pick(&bos, tokenizer, word, tokenizer_bos(tokenizer), "model.bos"));
    word = set->model.separator[0] ? set->model.separator : "auto";
    GOTRY(tokenizer_pick(&separator, tokenizer, word, bos, "model.separator"));
    uint64_t windows = (uint64_t)set->eval.batch_contexts *
                       (set->eval.core_batches + set->eval.core_variance_batches);
    struct packed_settings packing = {
        .files = &set->eval.text,
        .field = set->text.field,
        .special = set->text.special == SET_SPECIAL_SPLIT ? TOKENIZER_SPLIT : TOKENIZER_TEXT,
        .context = set->model.context,
        .bos = bos,
        .separator = separator,
        .tokens = windows * set->model.context,
        .threads = (int)set->evaluator.threads,
        .cache = set->storage.cache};
    GOTRY(packed_open(&c->windows, tokenizer, &packing, packing_progress, &watching));
    plan->specials = tokenizer_special_ids(plan->special, tokenizer, bos);
done:
    tokenizer_free(&tokenizer);
    return status;
}

static void
core_close(void **state)
{
    struct core_state *c = *state;
    if (!c)
        return;
    score_free(&c->score);
    packed_close(&c->windows);
    free(c);
    *state = NULL;
}

static enum status
core_open(void **state, const struct desk *desk, const struct score_watch *watch)
{
    const struct settings *set = desk->set;
    struct score_plan plan = {.layer = set->model.layer,
                              .context = set->model.context,
                              .model_contexts = set->model.batch_contexts,
                              .precision = set->model.dtype == SET_DTYPE_BF16 ? "bf16" : "f32",
                              .batch_contexts = set->eval.batch_contexts,
                              .core_batches = set->eval.core_batches,
                              .variance_batches = set->eval.core_variance_batches,
                              .exclude_special = set->eval.exclude_special,
                              .keep_most = (size_t)1 << 30,
                              .cache = set->storage.cache};
    struct core_state *c = calloc(1, sizeof *c);
    if (!c)
        return FAIL(CREATE, "no memory for the core evaluation");
    *state = c;
    c->desk = desk;
    enum status status = prepare_text(c, &plan, watch);
    if (status == STATUS_OK)
        status = score_new(&c->score, &plan, desk->model, packed_ids(c->windows),
                           packed_contexts(c->windows));
    if (status != STATUS_OK) {
        core_close(state);
        return status;
    }
    say(SAY_INFO, "memory: scoring %s", score_memory(c->score));
    if (score_repeats(c->score))
        say(SAY_WARN, "eval.text has %zu windows, fewer than eval asks for: they are used again",
            packed_contexts(c->windows));
    return STATUS_OK;
}

static bool
core_due(void *state, const struct subject *subject)
{
    (void)state, (void)subject;
    return true;
}

static struct hash128
core_spec(void *state)
{
    const struct core_state *c = state;
    return score_spec(c->score);
}

static void
tell(struct finding *finding, const struct core_file *file)
{
    for (size_t i = 0; i < CORE_COUNT; i++)
        named_real(finding->values, core_rows[i].key, core_number(&file->core, i));
    finding->seconds = file->seconds;
    snprintf(finding->line, sizeof finding->line,
             "CE score %.4f, KL score %.4f, L0 %.1f, FVU %.4f, dead %.0f", file->core.ce_loss_score,
             file->core.kl_div_score, file->core.l0, file->core.fvu, file->core.dead_latents);
}

static enum status
core_find(bool *found, void *state, const struct subject *subject, struct finding *finding)
{
    const struct core_state *c = state;
    char folder[PATH_BYTES], path[PATH_BYTES];
    *found = false;
    TRY(path_join(folder, subject->results, "core"));
    if (path_is_folder(folder))
        TRY(saebench_core_find(found, path, folder, subject->run, subject->step, subject->mh,
                               score_spec(c->score)));
    if (!*found)
        return STATUS_OK;
    struct core_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    enum status status = saebench_core_read(file, path);
    if (status == STATUS_OK)
        tell(finding, file);
    free(file);
    return status;
}

static enum status
write_result(const struct core_state *c, const struct subject *subject, const struct saelens *sae,
             const struct score_result *scored, struct finding *finding)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    TRY(path_join(folder, subject->results, "core"));
    TRY(saebench_core_path(path, folder, subject->run, subject->step, subject->mh,
                           score_spec(c->score)));
    struct core_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    score_file(file, c->score, sae, scored);
    snprintf(file->model_name, sizeof file->model_name, "%s", c->desk->model_name);
    snprintf(file->dataset, sizeof file->dataset, "%s", c->desk->set->eval.text.at[0]);
    snprintf(file->ck, sizeof file->ck, "%s", subject->ck);
    snprintf(file->run, sizeof file->run, "%s", subject->run);
    snprintf(file->eval_id, sizeof file->eval_id, "%s", c->desk->eval_id);
    snprintf(file->version, sizeof file->version, "%s", OSAE_VERSION);
    file->mh = subject->mh;
    file->step = subject->step;
    file->created_ms = tick_label_ns() / 1000000;
    enum status status = saebench_core_write(path, file, scored->details);
    if (status == STATUS_OK)
        tell(finding, file);
    free(file);
    return status;
}

static enum status
core_run(void *state, const struct subject *subject, struct finding *finding,
         const struct score_watch *watch)
{
    struct core_state *c = state;
    const struct settings *set = c->desk->set;
    struct saelens sae = {0};
    struct score_result scored = {0};
    size_t rows = (size_t)set->eval.batch_contexts * set->model.context;
    enum status status;
    GOTRY(saelens_open(&sae, subject->folder, rows, c->desk->kern));
    GOTRY(saelens_fits(&sae, subject->folder, set->model.layer, model_width(c->desk->model)));
    GOTRY(score_sae(&scored, c->score, &sae, watch));
    GOTRY(write_result(c, subject, &sae, &scored, finding));
done:
    score_result_release(&scored);
    saelens_close(&sae);
    return status;
}

const struct evaluation evaluation_core = {
    .kind = "core",
    .open = core_open,
    .close = core_close,
    .due = core_due,
    .spec = core_spec,
    .find = core_find,
    .run = core_run,
};

// The core evaluation (score.h) as a row of evaluation.h: held-out text, and every checkpoint.
#include "config/packing.h"
#include "evaluator/evaluation.h"
#include "lib/base/say.h"
#include "lib/lm/packed.h"
#include "lib/lm/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct core_state {
    const struct desk *desk;
    struct packed *packed; // of eval.text, or
    uint32_t *rows;        // from the desk's file of ids
    const uint32_t *windows;
    size_t count;
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

// As SAEBench takes pre-tokenised rows: the first C ids of each, nothing added.
static enum status
read_rows(struct core_state *c, const char *path)
{
    const struct settings *set = c->desk->set;
    size_t context = set->model.context;
    size_t most = (size_t)set->eval.batch_contexts *
                  (set->eval.core_batches + set->eval.core_variance_batches);
    struct texts files = {.count = 1};
    struct token_list ids = {0};
    struct corpus *corpus = NULL;
    enum status status;
    if (strlen(path) >= TEXT_BYTES)
        return FAIL(CONFIG, "%.100s...: too long for a path", path);
    snprintf(files.at[0], TEXT_BYTES, "%s", path);
    GOTRY(corpus_open(&corpus, &files, NULL));
    for (bool more = true; c->count < most;) {
        struct corpus_row row;
        GOTRY(corpus_next_row(corpus, &row, context, &more));
        if (!more)
            break;
        if (row.count < context)
            GOTRY(FAIL(DAMAGED, "%s:%llu: a row of %zu ids, wanted at least %zu (model.context)",
                       row.path, (unsigned long long)row.line, row.count, context));
        GOTRY(token_list_append(&ids, row.ids, context));
        c->count++;
    }
    if (c->count == 0)
        GOTRY(FAIL(CONFIG, "%s: not one row of ids", path));
    c->rows = ids.ids;
    c->windows = ids.ids;
    ids = (struct token_list){0};
done:
    token_list_release(&ids);
    corpus_close(&corpus);
    return status;
}

static enum status
prepare_text(struct core_state *c, struct score_plan *plan, const struct score_watch *watch)
{
    const struct settings *set = c->desk->set;
    enum status status;
    struct tokenizer *tokenizer = NULL;
    struct score_watch watching = *watch;
    struct packed_settings how;
    GOTRY(tokenizer_open(&tokenizer, set->model.path));
    GOTRY(packing(&how, set, tokenizer));
    uint64_t windows = (uint64_t)set->eval.batch_contexts *
                       (set->eval.core_batches + set->eval.core_variance_batches);
    how.files = &set->eval.text;
    how.tokens = windows * set->model.context;
    how.threads = (int)set->evaluator.threads;
    if (c->desk->rows) {
        GOTRY(read_rows(c, c->desk->rows));
    } else {
        GOTRY(packed_open(&c->packed, tokenizer, &how, packing_progress, &watching));
        c->windows = packed_ids(c->packed);
        c->count = packed_contexts(c->packed);
    }
    plan->specials = tokenizer_special_ids(plan->special, tokenizer, how.bos);
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
    packed_close(&c->packed);
    free(c->rows);
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
    TRY(prepare_text(c, &plan, watch));
    TRY(score_new(&c->score, &plan, desk->model, c->windows, c->count));
    say(SAY_INFO, "memory: scoring %s", score_memory(c->score));
    if (score_repeats(c->score))
        say(SAY_WARN, "eval.text has %zu windows, fewer than eval asks for: they are used again",
            c->count);
    return STATUS_OK;
}

static struct hash128
core_spec(void *state)
{
    const struct core_state *c = state;
    return score_spec(c->score);
}

static void
sum_up(struct finding *finding, const struct core_file *file)
{
    for (size_t i = 0; i < CORE_COUNT; i++)
        named_real(finding->values, core_rows[i].key, core_number(&file->core, i));
    finding->seconds = file->head.seconds;
    snprintf(finding->line, sizeof finding->line,
             "CE score %.4f, KL score %.4f, L0 %.1f, FVU %.4f, dead %.0f", file->core.ce_loss_score,
             file->core.kl_div_score, file->core.l0, file->core.fvu, file->core.dead_latents);
}

static enum status
core_tell(struct finding *finding, const char *path)
{
    struct core_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    enum status status = saebench_core_read(file, path);
    if (status == STATUS_OK)
        sum_up(finding, file);
    free(file);
    return status;
}

static enum status
write_result(const struct core_state *c, const struct subject *subject, const struct saelens *sae,
             const struct score_result *scored, struct finding *finding)
{
    char path[PATH_BYTES];
    struct core_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    score_file(file, c->score, sae, scored);
    snprintf(file->dataset, sizeof file->dataset, "%s",
             c->desk->rows ? c->desk->rows : c->desk->set->eval.text.at[0]);
    enum status status = subject_head(&file->head, path, evaluation_core.kind, subject, c->desk,
                                      sae, score_spec(c->score), "full");
    file->head.seconds = scored->seconds;
    if (status == STATUS_OK)
        status = saebench_core_write(path, file, scored->details);
    if (status == STATUS_OK)
        sum_up(finding, file);
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
    GOTRY(subject_open(&sae, subject, c->desk, rows));
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
    .spec = core_spec,
    .tell = core_tell,
    .run = core_run,
};

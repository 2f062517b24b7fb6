// Sparse probing (probing.h) as a row of evaluation.h. The sets are read, and the model's stream of
// their texts computed, with the first checkpoint that is due.
#include "evaluator/evaluation.h"
#include "evaluator/logreg.h"
#include "evaluator/probing_chosen.h"
#include "evaluator/score_inside.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct probing_state {
    const struct desk *desk;
    struct tokenizer *tokenizer;
    struct probing_plan plan;
    struct hash128 spec;
    bool ks[PROBING_KS];
    struct probing_chosen *sets;
    size_t count;
};

static void
close_state(void **state)
{
    struct probing_state *p = *state;
    if (!p)
        return;
    for (size_t i = 0; i < p->count; i++)
        probing_chosen_close(&p->sets[i]);
    free(p->sets);
    tokenizer_free(&p->tokenizer);
    free(p);
    *state = NULL;
}

// ---------------------------------------------------------------- settings

static enum status
read_ks(bool ks[PROBING_KS], const struct texts *list)
{
    for (size_t i = 0; i < list->count; i++) {
        char *end;
        unsigned long value = strtoul(list->at[i], &end, 10);
        size_t k = 0;
        while (k < PROBING_KS && probing_ks[k] != value)
            k++;
        if (*end || k == PROBING_KS)
            return FAIL(CONFIG,
                        "eval.probing_k is '%.40s', wanted some of 1, 2, 5, 10, 20, 50, 100",
                        list->at[i]);
        ks[k] = true;
    }
    return STATUS_OK;
}

// Of everything that decides the numbers but the SAE.
static enum status
make_spec(struct probing_state *p)
{
    const struct settings *set = p->desk->set;
    struct hasher *hasher = hasher_new();
    if (!hasher)
        return FAIL(CREATE, "no memory to hash the sets");
    char head[512];
    int length = snprintf(head, sizeof head,
                          "sparse_probing 1\npool=%d\nshare=%.17g\nks=", set->eval.probing_pool,
                          set->eval.probing_share);
    hasher_add(hasher, head, (size_t)length);
    hasher_add(hasher, p->ks, sizeof p->ks);
    for (size_t i = 0; i < p->count; i++)
        probing_chosen_hash(&p->sets[i], hasher);
    p->spec = hasher_128(hasher);
    hasher_free(&hasher);
    return STATUS_OK;
}

static enum status
prepare(struct probing_state *p)
{
    const struct settings *set = p->desk->set;
    char *paths[PROBING_SETS] = {NULL};
    size_t count = 0;
    enum status status = STATUS_OK;
    GOTRY(read_ks(p->ks, &set->eval.probing_k));
    GOTRY(probing_chosen_paths(paths, &count, &set->eval.probe_sets));
    GOTRY(tokenizer_open(&p->tokenizer, set->model.path));
    uint32_t bos;
    const char *word = set->model.bos[0] ? set->model.bos : "auto";
    GOTRY(tokenizer_pick(&bos, p->tokenizer, word, tokenizer_bos(p->tokenizer), "model.bos"));
    p->plan = (struct probing_plan){
        .layer = set->model.layer,
        .context = set->model.context,
        .model_contexts = set->model.batch_contexts,
        .precision = set->model.dtype == SET_DTYPE_BF16 ? "bf16" : "f32",
        .bos = bos,
        .split = set->text.special == SET_SPECIAL_SPLIT ? TOKENIZER_SPLIT : TOKENIZER_TEXT,
        .cache = set->storage.cache};
    p->plan.specials = tokenizer_special_ids(p->plan.special, p->tokenizer, bos);
    p->sets = calloc(count, sizeof *p->sets);
    if (!p->sets)
        GOTRY(FAIL(CREATE, "no memory for %zu sets", count));
    for (size_t i = 0; i < count; i++) {
        p->count = i + 1;
        GOTRY(probing_chosen_open(&p->sets[i], paths[i], set, &p->plan, p->desk->model,
                                  p->tokenizer));
        for (size_t j = 0; j < i; j++)
            if (strcmp(p->sets[j].set.name, p->sets[i].set.name) == 0)
                GOTRY(
                    FAIL(CONFIG, "eval.probe_sets: two sets are named '%s'", p->sets[i].set.name));
    }
    GOTRY(make_spec(p));
done:
    for (size_t i = 0; i < PROBING_SETS; i++)
        free(paths[i]);
    return status;
}

static enum status
open_state(void **state, const struct desk *desk, const struct score_watch *watch)
{
    if (watch && watch->stop(watch->context, "reading the texts to probe", -1))
        return FAIL(AGAIN, "stopped before the texts were read");
    struct probing_state *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(CREATE, "no memory for sparse probing");
    p->desk = desk;
    *state = p;
    return prepare(p);
}

static const char *
schedule(const struct settings_eval *of)
{
    return of->probing;
}

static struct hash128
spec(void *state)
{
    return ((const struct probing_state *)state)->spec;
}

// ---------------------------------------------------------------- pooling

struct pooling {
    float *pooled; // [texts x width]
    size_t width;  // of the stream, or latents
    bool largest;
    struct saelens *sae; // NULL: the stream itself
    size_t slice;
    float *f; // [slice x latents]
    size_t d;
};

static enum status
pool_stream(void *context, const struct probing_piece *piece)
{
    const struct pooling *p = context;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < piece->count; i++)
        probing_pool(p->pooled + piece->text[i] * p->width, piece->x + piece->start[i] * p->width,
                     piece->start[i + 1] - piece->start[i], p->width, p->largest);
    return STATUS_OK;
}

// Whole texts at a time, as many as a slice holds: the longest fits (it has at most C rows).
static enum status
pool_latents(void *context, const struct probing_piece *piece)
{
    const struct pooling *p = context;
    for (size_t first = 0; first < piece->count;) {
        size_t next = first + 1, row = piece->start[first];
        while (next < piece->count && piece->start[next + 1] - row <= p->slice)
            next++;
        size_t n = piece->start[next] - row;
        union { // encoding changes nothing of x, which may be a mapped file
            const float *from;
            float *to;
        } x = {.from = piece->x + row * p->d};
        saelens_encode(p->sae, (struct mat){p->f, n, p->width}, (struct mat){x.to, n, p->d});
#pragma omp parallel for schedule(static)
        for (size_t i = first; i < next; i++)
            probing_pool(p->pooled + piece->text[i] * p->width,
                         p->f + (piece->start[i] - row) * p->width,
                         piece->start[i + 1] - piece->start[i], p->width, p->largest);
        first = next;
    }
    return STATUS_OK;
}

// ---------------------------------------------------------------- accuracies

static enum status
measure(struct probing_scores *out, const struct probing_state *p, const struct probing_chosen *set,
        size_t class, const float *pooled, size_t width, double *scratch)
{
    const struct probing_task *train = &set->tasks[class][PROBING_TRAIN],
                              *test = &set->tasks[class][PROBING_TEST];
    uint32_t top[LOGREG_COLUMNS];
    out->all = UNDEFINED;
    TRY(probing_all(&out->all, pooled, width, train, test, PROBING_SEED));
    for (size_t k = 0; k < PROBING_KS; k++) {
        out->top[k] = UNDEFINED;
        if (!p->ks[k])
            continue;
        size_t n = probing_top(top, probing_ks[k], pooled, width, train, scratch);
        TRY(probing_columns(&out->top[k], pooled, width, train, test, top, n));
    }
    return STATUS_OK;
}

// Of the stream's channels (sae NULL: kept in the set) or of latents.
static enum status
measure_set(struct probing_set_result *result, struct probing_state *p, struct probing_chosen *set,
            struct saelens *sae, const struct score_watch *watch)
{
    enum status status = STATUS_OK;
    size_t d = model_width(p->desk->model), k = sae ? (size_t)sae->card.latents : d, taken = 0;
    struct pooling pooling = {.width = k,
                              .largest = p->desk->set->eval.probing_pool == SET_POOL_MAX,
                              .sae = sae,
                              .d = d,
                              .slice = p->plan.context};
    double *scratch = NULL;
    GOTRY(score_take(&pooling.pooled, set->count * k, sizeof(float), &taken));
    GOTRY(score_take(&scratch, k, sizeof *scratch, &taken));
    if (sae) {
        size_t most = score_latent_rows(k, probing_stream_most(set->stream));
        pooling.slice = most > pooling.slice ? most : pooling.slice;
        GOTRY(score_take(&pooling.f, pooling.slice * k, sizeof(float), &taken));
    }
    GOTRY(probing_stream_visit(set->stream, sae ? pool_latents : pool_stream, &pooling, watch));
    for (size_t c = 0; c < set->set.class_count; c++) {
        struct probing_scores *to = sae ? &result->classes[c].of[PROBING_SAE] : &set->llm[c];
        GOTRY(measure(to, p, set, c, pooling.pooled, k, scratch));
        if (watch &&
            watch->stop(watch->context, "probing", (double)(c + 1) / (double)set->set.class_count))
            GOTRY(FAIL(AGAIN, "stopped while probing"));
    }
done:
    free(pooling.pooled);
    free(pooling.f);
    free(scratch);
    return status;
}

static enum status
probe_sets(struct probing_file *file, struct probing_state *p, struct saelens *sae,
           const struct score_watch *watch)
{
    file->sets = calloc(p->count, sizeof *file->sets);
    if (!file->sets)
        return FAIL(CREATE, "no memory for a result");
    for (size_t i = 0; i < p->count; i++) {
        struct probing_chosen *set = &p->sets[i];
        struct probing_set_result *result = &file->sets[file->count++];
        memcpy(result->name, set->set.name, sizeof result->name);
        result->count = set->set.class_count;
        result->classes = calloc(result->count, sizeof *result->classes);
        if (!result->classes)
            return FAIL(CREATE, "no memory for a result");
        if (!set->compared)
            TRY(measure_set(NULL, p, set, NULL, watch));
        set->compared = true;
        for (size_t c = 0; c < result->count; c++) {
            struct probing_class_result *to = &result->classes[c];
            memcpy(to->name, set->set.classes[c], sizeof to->name);
            to->of[PROBING_LLM] = set->llm[c];
            to->train = set->tasks[c][PROBING_TRAIN].count;
            to->test = set->tasks[c][PROBING_TEST].count;
        }
        TRY(measure_set(result, p, set, sae, watch));
    }
    probing_file_means(file);
    return STATUS_OK;
}

// ---------------------------------------------------------------- results

static void
sum_up(struct finding *finding, const struct probing_file *file)
{
    static const char *const sides[PROBING_OF] = {"llm", "sae"};
    char key[NAMED_NAME];
    size_t at = 0;
    for (size_t of = 0; of < PROBING_OF; of++) {
        snprintf(key, sizeof key, "%s_test_accuracy", sides[of]);
        named_real(finding->values, key, file->of[of].all);
        for (size_t k = 0; k < PROBING_KS; k++) {
            if (!isfinite(file->of[of].top[k]))
                continue;
            snprintf(key, sizeof key, "%s_top_%u_test_accuracy", sides[of], probing_ks[k]);
            named_real(finding->values, key, file->of[of].top[k]);
            if (of == PROBING_SAE && at + 24 < sizeof finding->line)
                at +=
                    (size_t)snprintf(finding->line + at, sizeof finding->line - at, "%stop %u %.4f",
                                     at ? ", " : "", probing_ks[k], file->of[of].top[k]);
        }
    }
    for (size_t s = 0; s < file->count && s < 32; s++)
        for (size_t of = 0; of < PROBING_OF; of++) {
            snprintf(key, sizeof key, "%.30s/%s_top_1", file->sets[s].name, sides[of]);
            if (isfinite(file->sets[s].of[of].top[0]))
                named_real(finding->values, key, file->sets[s].of[of].top[0]);
        }
    finding->seconds = file->head.seconds;
}

static enum status
tell(struct finding *finding, const char *path)
{
    struct probing_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    enum status status = saebench_probing_read(file, path);
    if (status == STATUS_OK) {
        sum_up(finding, file);
        probing_file_release(file);
    }
    free(file);
    return status;
}

// SAEBench's own settings, or others?
static const char *
profile(const struct settings_eval *eval)
{
    bool usual = eval->probing_train == 4000 && eval->probing_test == 1000 &&
                 eval->probing_pool == SET_POOL_MEAN && fabs(eval->probing_share - 0.5) < 1e-9;
    return usual ? "full" : "custom";
}

static enum status
run(void *state, const struct subject *subject, struct finding *finding,
    const struct score_watch *watch)
{
    struct probing_state *p = state;
    const struct settings *set = p->desk->set;
    char path[PATH_BYTES];
    struct saelens sae = {0};
    double from = tick_seconds();
    enum status status = STATUS_OK;
    struct probing_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    GOTRY(subject_open(&sae, subject, p->desk, p->plan.context * p->plan.model_contexts));
    GOTRY(probe_sets(file, p, &sae, watch));
    GOTRY(subject_head(&file->head, path, evaluation_probing.kind, subject, p->desk, &sae, p->spec,
                       profile(&set->eval)));
    file->head.seconds = tick_seconds() - from;
    snprintf(file->pool, sizeof file->pool, "%s",
             set->eval.probing_pool == SET_POOL_MAX ? "max" : "mean");
    file->seed = PROBING_SEED;
    file->context = set->model.context;
    file->batch = set->model.batch_contexts;
    file->train = set->eval.probing_train;
    file->test = set->eval.probing_test;
    file->share = set->eval.probing_share;
    GOTRY(saebench_probing_write(path, file));
    sum_up(finding, file);
done:
    saelens_close(&sae);
    probing_file_release(file);
    free(file);
    return status;
}

const struct evaluation evaluation_probing = {
    .kind = "sparse_probing",
    .key = "eval.probing",
    .schedule = schedule,
    .open = open_state,
    .close = close_state,
    .spec = spec,
    .tell = tell,
    .run = run,
};

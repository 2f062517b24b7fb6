// Sparse probing (probing.h) as a row of evaluation.h. The sets are read, and the model's stream of
// their texts computed, with the first checkpoint that is due.
#include "config/schedule.h"
#include "evaluator/evaluation.h"
#include "evaluator/logreg.h"
#include "evaluator/probing.h"
#include "evaluator/probing_stream.h"
#include "evaluator/score_inside.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/interop/saebench_probing.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 42, SETS_MOST = 64 };

// A set with its tasks: chosen texts, their streams, and what all SAEs are compared with.
struct chosen {
    struct probing_set set;
    uint32_t *texts; // [count], of set.texts; rows of pooled are places here
    size_t count;
    struct probing_stream *stream;
    struct probing_task tasks[PROBING_CLASSES][PROBING_SIDES];
    struct probing_scores llm[PROBING_CLASSES]; // once known
    bool compared;
};

struct probing_state {
    const struct desk *desk;
    struct schedule schedule;
    struct tokenizer *tokenizer;
    struct probing_plan plan;
    struct hash128 spec;
    bool ks[PROBING_KS];
    struct chosen *sets;
    size_t count;
};

static void
close_set(struct chosen *set)
{
    probing_set_close(&set->set);
    probing_stream_free(&set->stream);
    for (size_t c = 0; c < PROBING_CLASSES; c++)
        for (size_t side = 0; side < PROBING_SIDES; side++)
            probing_task_free(&set->tasks[c][side]);
    free(set->texts);
}

static void
close_state(void **state)
{
    struct probing_state *p = *state;
    if (!p)
        return;
    for (size_t i = 0; i < p->count; i++)
        close_set(&p->sets[i]);
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

static int
by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

// The .jsonl files of a folder, by name; or the file itself.
static enum status
add_paths(char **paths, size_t *count, const char *path)
{
    if (!path_is_folder(path)) {
        if (*count == SETS_MOST)
            return FAIL(CONFIG, "eval.probe_sets: more than %d sets", SETS_MOST);
        if (!(paths[*count] = strdup(path)))
            return FAIL(CREATE, "no memory for the names of the sets");
        ++*count;
        return STATUS_OK;
    }
    DIR *folder = opendir(path);
    size_t first = *count;
    enum status status = STATUS_OK;
    if (!folder)
        return FAIL(DENIED, "%s: cannot be read", path);
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        char file[PATH_BYTES];
        if (entry->d_name[0] == '.' || length < 7 ||
            strcmp(entry->d_name + length - 6, ".jsonl") != 0)
            continue;
        status = path_join(file, path, entry->d_name);
        if (status == STATUS_OK)
            status = add_paths(paths, count, file);
    }
    closedir(folder);
    TRY(status);
    if (*count == first)
        return FAIL(MISSING, "%s: no .jsonl files in it (eval.probe_sets)", path);
    qsort(paths + first, *count - first, sizeof *paths, by_name);
    return STATUS_OK;
}

// ---------------------------------------------------------------- sets

// At most so many rows of each class and side, drawn; members[class][side] are places in texts.
static enum status
choose(struct chosen *set, uint32_t *members[PROBING_CLASSES][PROBING_SIDES],
       size_t counts[PROBING_CLASSES][PROBING_SIDES], const size_t most[PROBING_SIDES])
{
    const struct probing_set *from = &set->set;
    uint32_t *all = calloc(from->count + 1, sizeof *all);
    set->texts = calloc(from->count + 1, sizeof *set->texts);
    if (!all || !set->texts) {
        free(all);
        return FAIL(CREATE, "no memory for %zu texts", from->count);
    }
    struct pyrandom *random = malloc(sizeof *random);
    enum status status = random ? STATUS_OK : FAIL(CREATE, "no memory for a generator");
    if (random)
        pyrandom_seed(random, SEED);
    for (size_t c = 0; c < from->class_count && status == STATUS_OK; c++)
        for (size_t side = 0; side < PROBING_SIDES; side++) {
            size_t n = 0;
            for (size_t i = 0; i < from->count; i++)
                if (from->texts[i].class == c && from->texts[i].side == side)
                    all[n++] = (uint32_t)i;
            if (n > 1)
                pyrandom_shuffle(random, all, (uint32_t)n);
            n = n < most[side] ? n : most[side];
            members[c][side] = calloc(n + 1, sizeof *members[c][side]);
            if (!members[c][side]) {
                status = FAIL(CREATE, "no memory for %zu texts", n);
                break;
            }
            counts[c][side] = n;
            for (size_t i = 0; i < n; i++) {
                members[c][side][i] = (uint32_t)set->count;
                set->texts[set->count++] = all[i];
            }
        }
    free(random);
    free(all);
    return status;
}

static enum status
draw_tasks(struct chosen *set, const struct settings_eval *eval)
{
    uint32_t *members[PROBING_CLASSES][PROBING_SIDES] = {{NULL}};
    size_t counts[PROBING_CLASSES][PROBING_SIDES] = {{0}};
    const size_t most[PROBING_SIDES] = {eval->probing_train / 2, eval->probing_test / 2};
    struct pyrandom *random = malloc(sizeof *random);
    enum status status = STATUS_OK;
    if (!random)
        return FAIL(CREATE, "no memory for a generator");
    GOTRY(choose(set, members, counts, most));
    for (size_t c = 0; c < set->set.class_count; c++) {
        // Each task draws for itself, so that a class more or less changes no other.
        pyrandom_seed(random, SEED ^ hash64(set->set.classes[c], strlen(set->set.classes[c])));
        for (size_t side = 0; side < PROBING_SIDES; side++) {
            uint32_t *lists[PROBING_CLASSES];
            size_t sizes[PROBING_CLASSES];
            for (size_t i = 0; i < set->set.class_count; i++) {
                lists[i] = members[i][side];
                sizes[i] = counts[i][side];
            }
            GOTRY(probing_draw(&set->tasks[c][side], lists, sizes, set->set.class_count, c,
                               eval->probing_share, random));
        }
    }
done:
    for (size_t c = 0; c < PROBING_CLASSES; c++)
        for (size_t side = 0; side < PROBING_SIDES; side++)
            free(members[c][side]);
    free(random);
    return status;
}

static enum status
open_stream(struct chosen *set, const struct probing_state *p)
{
    const char **at = calloc(set->count + 1, sizeof *at);
    size_t *bytes = calloc(set->count + 1, sizeof *bytes);
    enum status status = STATUS_OK;
    if (!at || !bytes)
        GOTRY(FAIL(CREATE, "no memory for %zu texts", set->count));
    for (size_t i = 0; i < set->count; i++) {
        at[i] = set->set.texts[set->texts[i]].at;
        bytes[i] = set->set.texts[set->texts[i]].bytes;
    }
    status = probing_stream_new(&set->stream, &p->plan, p->desk->model, p->tokenizer, at, bytes,
                                set->count);
    if (status == STATUS_DAMAGED) {
        char why[256];
        snprintf(why, sizeof why, "%.200s", status_words());
        status = FAIL(DAMAGED, "%s: %s", set->set.name, why);
    }
done:
    free(at);
    free(bytes);
    return status;
}

static enum status
open_set(struct chosen *set, const struct probing_state *p, const char *path)
{
    const struct settings *from = p->desk->set;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct probing_choice choice = {.classes = from->eval.probing_classes};
    if (strncmp(name, "code", 4) == 0)
        choice.skip = from->eval.probing_skip;
    TRY(probing_set_open(&set->set, path, &choice));
    TRY(draw_tasks(set, &from->eval));
    return open_stream(set, p);
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
    for (size_t i = 0; i < p->count; i++) {
        const struct chosen *at = &p->sets[i];
        struct hash128 key = probing_stream_key(at->stream);
        hasher_add(hasher, &key, sizeof key);
        hasher_add(hasher, at->set.name, sizeof at->set.name);
        for (size_t c = 0; c < at->set.class_count; c++) {
            hasher_add(hasher, at->set.classes[c], PROBING_NAME);
            for (size_t side = 0; side < PROBING_SIDES; side++) {
                const struct probing_task *task = &at->tasks[c][side];
                hasher_add(hasher, task->rows, task->count * sizeof *task->rows);
                hasher_add(hasher, task->positive, task->count * sizeof *task->positive);
            }
        }
    }
    p->spec = hasher_128(hasher);
    hasher_free(&hasher);
    return STATUS_OK;
}

static enum status
prepare(struct probing_state *p)
{
    const struct settings *set = p->desk->set;
    char *paths[SETS_MOST] = {NULL};
    size_t count = 0;
    enum status status = STATUS_OK;
    GOTRY(read_ks(p->ks, &set->eval.probing_k));
    if (set->eval.probe_sets.count == 0)
        GOTRY(FAIL(CONFIG, "eval.probe_sets: no labelled sets (osae data --probe fetches some)"));
    for (size_t i = 0; i < set->eval.probe_sets.count; i++)
        GOTRY(add_paths(paths, &count, set->eval.probe_sets.at[i]));
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
        GOTRY(open_set(&p->sets[i], p, paths[i]));
        for (size_t j = 0; j < i; j++)
            if (strcmp(p->sets[j].set.name, p->sets[i].set.name) == 0)
                GOTRY(
                    FAIL(CONFIG, "eval.probe_sets: two sets are named '%s'", p->sets[i].set.name));
    }
    GOTRY(make_spec(p));
done:
    for (size_t i = 0; i < SETS_MOST; i++)
        free(paths[i]);
    return status;
}

static enum status
open_state(void **state, const struct desk *desk, const struct score_watch *watch)
{
    struct schedule schedule;
    *state = NULL;
    if (!schedule_parse(&schedule, desk->set->eval.probing))
        return FAIL(CONFIG, "eval.probing is '%s', wanted " SCHEDULE_WANTED,
                    desk->set->eval.probing);
    if (schedule_off(&schedule))
        return STATUS_OK;
    if (watch && watch->stop(watch->context, "reading the texts to probe", -1))
        return FAIL(AGAIN, "stopped before the texts were read");
    struct probing_state *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(CREATE, "no memory for sparse probing");
    p->desk = desk;
    p->schedule = schedule;
    *state = p;
    enum status status = prepare(p);
    if (status != STATUS_OK)
        close_state(state);
    return status;
}

static bool
due(void *state, const struct subject *subject)
{
    const struct probing_state *p = state;
    return schedule_due(&p->schedule, subject->step, subject->last);
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
measure(struct probing_scores *out, const struct probing_state *p, const struct chosen *set,
        size_t class, const float *pooled, size_t width, double *scratch)
{
    const struct probing_task *train = &set->tasks[class][PROBING_TRAIN],
                              *test = &set->tasks[class][PROBING_TEST];
    uint32_t top[LOGREG_COLUMNS];
    out->all = UNDEFINED;
    TRY(probing_all(&out->all, pooled, width, train, test, SEED));
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
measure_set(struct probing_set_result *result, struct probing_state *p, struct chosen *set,
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
        struct chosen *set = &p->sets[i];
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
tell(struct finding *finding, const struct probing_file *file)
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
    finding->seconds = file->seconds;
}

static enum status
find(bool *found, void *state, const struct subject *subject, struct finding *finding)
{
    const struct probing_state *p = state;
    char folder[PATH_BYTES], path[PATH_BYTES];
    *found = false;
    TRY(path_join(folder, subject->results, "sparse_probing"));
    if (path_is_folder(folder))
        TRY(saebench_probing_find(found, path, folder, subject->run, subject->step, subject->mh,
                                  p->spec));
    if (!*found)
        return STATUS_OK;
    struct probing_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    enum status status = saebench_probing_read(file, path);
    if (status == STATUS_OK) {
        tell(finding, file);
        probing_file_release(file);
    }
    free(file);
    return status;
}

static void
describe(struct probing_file *file, const struct probing_state *p, const struct subject *subject,
         const struct saelens *sae)
{
    const struct settings *set = p->desk->set;
    bool usual = set->eval.probing_train == 4000 && set->eval.probing_test == 1000 &&
                 set->eval.probing_pool == SET_POOL_MEAN &&
                 fabs(set->eval.probing_share - 0.5) < 1e-9;
    snprintf(file->model_name, sizeof file->model_name, "%s", p->desk->model_name);
    snprintf(file->dtype, sizeof file->dtype, "%s",
             set->model.dtype == SET_DTYPE_BF16 ? "bfloat16" : "float32");
    snprintf(file->pool, sizeof file->pool, "%s",
             set->eval.probing_pool == SET_POOL_MAX ? "max" : "mean");
    snprintf(file->profile, sizeof file->profile, "%s", usual ? "full" : "custom");
    file->seed = SEED;
    file->context = set->model.context;
    file->batch = set->model.batch_contexts;
    file->train = set->eval.probing_train;
    file->test = set->eval.probing_test;
    file->share = set->eval.probing_share;
    snprintf(file->ck, sizeof file->ck, "%s", subject->ck);
    snprintf(file->run, sizeof file->run, "%s", subject->run);
    file->mh = subject->mh;
    file->step = subject->step;
    file->spec = p->spec;
    snprintf(file->architecture, sizeof file->architecture, "%s", sae->card.architecture);
    snprintf(file->hook_name, sizeof file->hook_name, "blocks.%u.hook_resid_post",
             set->model.layer);
    file->width = sae->card.width;
    file->latents = sae->card.latents;
    file->layer = set->model.layer;
    file->training_tokens = sae->card.tokens;
    snprintf(file->eval_id, sizeof file->eval_id, "%s", p->desk->eval_id);
    snprintf(file->version, sizeof file->version, "%s", OSAE_VERSION);
    file->created_ms = tick_label_ns() / 1000000;
}

static enum status
run(void *state, const struct subject *subject, struct finding *finding,
    const struct score_watch *watch)
{
    struct probing_state *p = state;
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct saelens sae = {0};
    double from = tick_seconds();
    enum status status = STATUS_OK;
    struct probing_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    GOTRY(subject_open(&sae, subject, p->desk, p->plan.context * p->plan.model_contexts));
    GOTRY(probe_sets(file, p, &sae, watch));
    describe(file, p, subject, &sae);
    file->seconds = tick_seconds() - from;
    GOTRY(path_join(folder, subject->results, "sparse_probing"));
    GOTRY(saebench_probing_path(path, folder, subject->run, subject->step, subject->mh, p->spec));
    GOTRY(saebench_probing_write(path, file));
    tell(finding, file);
done:
    saelens_close(&sae);
    probing_file_release(file);
    free(file);
    return status;
}

const struct evaluation evaluation_probing = {
    .kind = "sparse_probing",
    .open = open_state,
    .close = close_state,
    .due = due,
    .spec = spec,
    .find = find,
    .run = run,
};

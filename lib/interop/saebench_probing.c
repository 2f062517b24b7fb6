#include "lib/interop/saebench_probing.h"

#include "lib/interop/saebench_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SETS_MOST = 1024, CLASSES_MOST = 1024 };
const unsigned probing_ks[PROBING_KS] = {1, 2, 5, 10, 20, 50, 100};
static const char *const sides[PROBING_OF] = {"llm", "sae"};
static const char type_id[] = "sparse_probing", suffix[] = "_results";

void
probing_file_release(struct probing_file *file)
{
    for (size_t i = 0; i < file->count; i++)
        free(file->sets[i].classes);
    free(file->sets);
    file->sets = NULL;
    file->count = 0;
}

// "sae_top_5_test_accuracy"; k = 0: of all columns
static void
key_of(char out[48], size_t of, unsigned k)
{
    if (k)
        snprintf(out, 48, "%s_top_%u_test_accuracy", sides[of], k);
    else
        snprintf(out, 48, "%s_test_accuracy", sides[of]);
}

static double *
score_at(struct probing_scores *scores, size_t i)
{
    return i ? &scores->top[i - 1] : &scores->all;
}
static unsigned
k_at(size_t i)
{
    return i ? probing_ks[i - 1] : 0;
}

// One not asked for stays so: NaN wherever a class has none.
void
probing_file_means(struct probing_file *file)
{
    for (size_t of = 0; of < PROBING_OF; of++)
        for (size_t i = 0; i <= PROBING_KS; i++) {
            double all = 0;
            for (size_t s = 0; s < file->count; s++) {
                struct probing_set_result *set = &file->sets[s];
                double sum = 0;
                for (size_t c = 0; c < set->count; c++)
                    sum += *score_at(&set->classes[c].of[of], i);
                *score_at(&set->of[of], i) = set->count ? sum / (double)set->count : UNDEFINED;
                all += *score_at(&set->of[of], i);
            }
            *score_at(&file->of[of], i) = file->count ? all / (double)file->count : UNDEFINED;
        }
}

// ---------------------------------------------------------------- writing

// Here an undefined number is null.
static json_t *
share(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static void
scores_json(json_t *to, const struct probing_scores *scores, size_t of)
{
    struct probing_scores copy = *scores;
    char key[48];
    for (size_t i = 0; i <= PROBING_KS; i++) {
        key_of(key, of, k_at(i));
        double value = *score_at(&copy, i);
        // Of all columns is no option in the format: -1 where it was not asked for.
        json_object_set_new(to, key, i == 0 && !isfinite(value) ? json_real(-1) : share(value));
    }
}

static json_t *
unstructured_json(const struct probing_file *file)
{
    json_t *all = json_object();
    for (size_t s = 0; s < file->count; s++) {
        const struct probing_set_result *set = &file->sets[s];
        json_t *one = json_object();
        for (size_t of = 0; of < PROBING_OF; of++)
            for (size_t i = 0; i <= PROBING_KS; i++) {
                char key[48];
                json_t *by_class = json_object();
                key_of(key, of, k_at(i));
                for (size_t c = 0; c < set->count; c++) {
                    struct probing_scores scores = set->classes[c].of[of];
                    double value = *score_at(&scores, i);
                    if (isfinite(value))
                        json_object_set_new(by_class, set->classes[c].name, json_real(value));
                }
                if (json_object_size(by_class))
                    json_object_set_new(one, key, by_class);
                else
                    json_decref(by_class);
            }
        char name[80];
        snprintf(name, sizeof name, "%s%s", set->name, suffix);
        json_object_set_new(all, name, one);
    }
    return all;
}

static json_t *
ours_json(const struct probing_file *file)
{
    json_t *rows = json_object();
    for (size_t s = 0; s < file->count; s++) {
        json_t *classes = json_object();
        for (size_t c = 0; c < file->sets[s].count; c++) {
            const struct probing_class_result *at = &file->sets[s].classes[c];
            json_object_set_new(
                classes, at->name,
                json_pack("[o, o]", saebench_count(at->train), saebench_count(at->test)));
        }
        json_object_set_new(rows, file->sets[s].name, classes);
    }
    return json_pack("{s:s, s:f, s:o}", "pooling", file->pool, "positive_share", file->share,
                     "rows", rows);
}

static json_t *
config_json(const struct probing_file *file)
{
    json_t *names = json_array(), *ks = json_array();
    for (size_t s = 0; s < file->count; s++)
        json_array_append_new(names, json_string(file->sets[s].name));
    for (size_t i = 0; i < PROBING_KS; i++)
        if (isfinite(file->of[PROBING_SAE].top[i]))
            json_array_append_new(ks, saebench_count(probing_ks[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:i, s:o, s:o, s:b}", "random_seed",
                     saebench_count(file->seed), "dataset_names", names, "probe_train_set_size",
                     saebench_count(file->train), "probe_test_set_size", saebench_count(file->test),
                     "context_length", saebench_count(file->context), "sae_batch_size", 125,
                     "llm_batch_size", saebench_count(file->batch), "k_values", ks,
                     "lower_vram_usage", 0);
}

static json_t *
metrics_json(const struct probing_file *file)
{
    json_t *metrics = json_object();
    for (size_t of = 0; of < PROBING_OF; of++) {
        json_t *one = json_object();
        scores_json(one, &file->of[of], of);
        json_object_set_new(metrics, sides[of], one);
    }
    return metrics;
}

static json_t *
details_json(const struct probing_file *file)
{
    json_t *details = json_array();
    for (size_t s = 0; s < file->count; s++) {
        char name[80];
        json_t *one = json_object();
        snprintf(name, sizeof name, "%s%s", file->sets[s].name, suffix);
        json_object_set_new(one, "dataset_name", json_string(name));
        for (size_t of = 0; of < PROBING_OF; of++)
            scores_json(one, &file->sets[s].of[of], of);
        json_array_append_new(details, one);
    }
    return details;
}

enum status
saebench_probing_write(const char *path, const struct probing_file *file)
{
    return saebench_write(path, type_id, &file->head,
                          (struct saebench_parts){.config = config_json(file),
                                                  .metrics = metrics_json(file),
                                                  .details = details_json(file),
                                                  .sae = json_object(),
                                                  .unstructured = unstructured_json(file),
                                                  .ours = ours_json(file)});
}

// ---------------------------------------------------------------- reading

// Accuracies are shares: anything else was not asked for.
static double
share_of(const json_t *at)
{
    double value = json_is_number(at) ? json_number_value(at) : -1;
    return value >= 0 && value <= 1 ? value : UNDEFINED;
}

static void
scores_of(struct probing_scores out[PROBING_OF], const json_t *llm, const json_t *sae)
{
    for (size_t of = 0; of < PROBING_OF; of++)
        for (size_t i = 0; i <= PROBING_KS; i++) {
            char key[48];
            key_of(key, of, k_at(i));
            *score_at(&out[of], i) = share_of(json_object_get(of == PROBING_LLM ? llm : sae, key));
        }
}

// The classes stand only among what has no schema.
static enum status
classes_of(struct probing_set_result *set, const json_t *from, const json_t *rows, const char *path)
{
    char key[48];
    const json_t *names = NULL;
    for (size_t i = 0; i <= PROBING_KS && !names; i++) {
        key_of(key, PROBING_SAE, k_at(i));
        names = json_object_get(from, key);
    }
    size_t count = json_object_size(names);
    if (count > CLASSES_MOST)
        return FAIL(DAMAGED, "%s: %zu classes of %s", path, count, set->name);
    set->classes = calloc(count + 1, sizeof *set->classes);
    if (!set->classes)
        return FAIL(CREATE, "%s: no memory", path);
    const json_t *own = json_object_get(rows, set->name);
    union { // jansson walks objects that are not const
        const json_t *from;
        json_t *to;
    } walk = {.from = names};
    for (void *at = json_object_iter(walk.to); at; at = json_object_iter_next(walk.to, at)) {
        struct probing_class_result *to = &set->classes[set->count++];
        const char *name = json_object_iter_key(at);
        snprintf(to->name, sizeof to->name, "%.63s", name);
        for (size_t of = 0; of < PROBING_OF; of++)
            for (size_t i = 0; i <= PROBING_KS; i++) {
                key_of(key, of, k_at(i));
                *score_at(&to->of[of], i) =
                    share_of(json_object_get(json_object_get(from, key), name));
            }
        const json_t *pair = json_object_get(own, name);
        json_int_t train = json_integer_value(json_array_get(pair, 0));
        json_int_t test = json_integer_value(json_array_get(pair, 1));
        to->train = train > 0 ? (uint64_t)train : 0;
        to->test = test > 0 ? (uint64_t)test : 0;
    }
    return STATUS_OK;
}

static enum status
sets_of(struct probing_file *file, const struct saebench_tree *tree, const char *path)
{
    const json_t *details = tree->details, *rows = json_object_get(tree->ours, "rows");
    size_t count = json_array_size(details);
    if (!json_is_array(details) || count > SETS_MOST)
        return FAIL(DAMAGED, "%s: eval_result_details is no list of at most %d", path, SETS_MOST);
    file->sets = calloc(count + 1, sizeof *file->sets);
    if (!file->sets)
        return FAIL(CREATE, "%s: no memory", path);
    for (size_t s = 0; s < count; s++) {
        const json_t *at = json_array_get(details, s);
        struct probing_set_result *set = &file->sets[file->count++];
        const char *name = json_string_value(json_object_get(at, "dataset_name"));
        if (!name || !name[0])
            return FAIL(DAMAGED, "%s: a set without dataset_name", path);
        size_t length = strlen(name), tail = sizeof suffix - 1;
        if (length > tail && strcmp(name + length - tail, suffix) == 0)
            length -= tail;
        snprintf(set->name, sizeof set->name, "%.*s", (int)(length < 63 ? length : 63), name);
        scores_of(set->of, at, at);
        TRY(classes_of(set, json_object_get(tree->unstructured, name), rows, path));
    }
    return STATUS_OK;
}

static enum status
file_of(struct probing_file *file, const struct saebench_tree *tree, const char *path)
{
    const json_t *config = tree->config;
    const json_t *sae = json_object_get(tree->metrics, "sae");
    if (!json_is_object(sae))
        return FAIL(DAMAGED, "%s: eval_result_metrics.sae must be there", path);
    scores_of(file->of, json_object_get(tree->metrics, "llm"), sae);
    TRY(sets_of(file, tree, path));
    file->seed = saebench_count_of(config, "random_seed");
    file->context = saebench_count_of(config, "context_length");
    file->batch = saebench_count_of(config, "llm_batch_size");
    file->train = saebench_count_of(config, "probe_train_set_size");
    file->test = saebench_count_of(config, "probe_test_set_size");
    saebench_text_of(file->pool, sizeof file->pool, tree->ours, "pooling");
    file->share = json_number_value(json_object_get(tree->ours, "positive_share"));
    return STATUS_OK;
}

enum status
saebench_probing_read(struct probing_file *out, const char *path)
{
    struct saebench_tree tree;
    memset(out, 0, sizeof *out);
    TRY(saebench_open(&tree, &out->head, path, type_id));
    enum status status = file_of(out, &tree, path);
    saebench_close(&tree);
    if (status != STATUS_OK)
        probing_file_release(out);
    return status;
}

#include "lib/interop/saebench_probing.h"

#include "lib/interop/saebench_names.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 10, SETS_MOST = 1024, CLASSES_MOST = 1024 };
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

static json_t *
count(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *
real(double value)
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
        json_object_set_new(to, key, i == 0 && !isfinite(value) ? json_real(-1) : real(value));
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
    char mh[17], spec[33];
    json_t *rows = json_object();
    hex64(mh, file->mh);
    hex128(spec, file->spec);
    for (size_t s = 0; s < file->count; s++) {
        json_t *classes = json_object();
        for (size_t c = 0; c < file->sets[s].count; c++) {
            const struct probing_class_result *at = &file->sets[s].classes[c];
            json_object_set_new(classes, at->name,
                                json_pack("[o, o]", count(at->train), count(at->test)));
        }
        json_object_set_new(rows, file->sets[s].name, classes);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:f, s:o, s:o}", "ck", file->ck, "mh", mh,
                     "spec", spec, "profile", file->profile, "run", file->run, "step",
                     count(file->step), "pooling", file->pool, "positive_share", file->share,
                     "rows", rows, "seconds", json_real(file->seconds));
}

static json_t *
config_json(const struct probing_file *file)
{
    json_t *names = json_array(), *ks = json_array();
    for (size_t s = 0; s < file->count; s++)
        json_array_append_new(names, json_string(file->sets[s].name));
    for (size_t i = 0; i < PROBING_KS; i++)
        if (isfinite(file->of[PROBING_SAE].top[i]))
            json_array_append_new(ks, count(probing_ks[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:i, s:o, s:s, s:s, s:o, s:b}", "random_seed",
                     count(file->seed), "dataset_names", names, "probe_train_set_size",
                     count(file->train), "probe_test_set_size", count(file->test), "context_length",
                     count(file->context), "sae_batch_size", 125, "llm_batch_size",
                     count(file->batch), "llm_dtype", file->dtype, "model_name", file->model_name,
                     "k_values", ks, "lower_vram_usage", 0);
}

static json_t *
sae_json(const struct probing_file *file)
{
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:s, s:o}", "architecture", file->architecture,
                     "d_sae", count(file->latents), "d_in", count(file->width), "model_name",
                     file->model_name, "hook_layer", count(file->layer), "hook_name",
                     file->hook_name, "training_tokens", count(file->training_tokens));
}

enum status
saebench_probing_write(const char *path, const struct probing_file *file)
{
    char folder[PATH_BYTES], commit[80], release[SAEBENCH_TEXT + 32], *text = NULL;
    const char *slash = strrchr(path, '/');
    if (slash && slash != path) {
        int length = snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        if (length < 0 || (size_t)length >= sizeof folder)
            return FAIL(CONFIG, "%.100s...: too long for a path", path);
        TRY(path_make(folder, 0755));
    }
    snprintf(commit, sizeof commit, "osae %s", file->version);
    snprintf(release, sizeof release, "osae_%s_step%llu", file->run,
             (unsigned long long)file->step);
    json_t *metrics = json_object(), *details = json_array();
    for (size_t of = 0; of < PROBING_OF; of++) {
        json_t *one = json_object();
        scores_json(one, &file->of[of], of);
        json_object_set_new(metrics, sides[of], one);
    }
    for (size_t s = 0; s < file->count; s++) {
        char name[80];
        json_t *one = json_object();
        snprintf(name, sizeof name, "%s%s", file->sets[s].name, suffix);
        json_object_set_new(one, "dataset_name", json_string(name));
        for (size_t of = 0; of < PROBING_OF; of++)
            scores_json(one, &file->sets[s].of[of], of);
        json_array_append_new(details, one);
    }
    json_t *unstructured = unstructured_json(file), *ours = ours_json(file);
    if (ours)
        json_object_set_new(unstructured, "osae", ours);
    // Any of the parts may be NULL (no memory, text that is not UTF-8): then the whole is.
    json_t *whole =
        json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:o, s:o}", "eval_type_id",
                  type_id, "eval_config", config_json(file), "eval_id", file->eval_id,
                  "datetime_epoch_millis", count(file->created_ms), "eval_result_metrics", metrics,
                  "eval_result_details", details, "sae_bench_commit_hash", commit, "sae_lens_id",
                  "custom_sae", "sae_lens_release_id", release, "sae_lens_version", "Unknown",
                  "sae_cfg_dict", sae_json(file), "eval_result_unstructured", unstructured);
    if (whole && ours)
        text = json_dumps(whole, JSON_INDENT(2) | JSON_REAL_PRECISION(DIGITS));
    json_decref(whole);
    if (!text)
        return FAIL(CREATE, "%s: no memory for the result, or a name in it is not UTF-8", path);
    enum status status = file_replace(path, text, strlen(text));
    free(text);
    return status;
}

// ---------------------------------------------------------------- reading

static void
text_of(char *out, size_t room, const json_t *from, const char *key)
{
    const char *text = json_string_value(json_object_get(from, key));
    snprintf(out, room, "%s", text ? text : "");
}

static uint64_t
count_of(const json_t *from, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(from, key));
    return value > 0 ? (uint64_t)value : 0;
}

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
sets_of(struct probing_file *file, const json_t *whole, const json_t *rows, const char *path)
{
    const json_t *details = json_object_get(whole, "eval_result_details");
    const json_t *more = json_object_get(whole, "eval_result_unstructured");
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
        TRY(classes_of(set, json_object_get(more, name), rows, path));
    }
    return STATUS_OK;
}

static enum status
file_of(struct probing_file *file, const json_t *whole, const char *path)
{
    const char *kind = json_string_value(json_object_get(whole, "eval_type_id"));
    const json_t *metrics = json_object_get(whole, "eval_result_metrics");
    const json_t *config = json_object_get(whole, "eval_config");
    const json_t *sae = json_object_get(whole, "sae_cfg_dict");
    const json_t *ours =
        json_object_get(json_object_get(whole, "eval_result_unstructured"), "osae");
    if (kind && strcmp(kind, type_id) != 0)
        return FAIL(DAMAGED, "%s: eval_type_id is '%.40s', wanted %s", path, kind, type_id);
    if (!json_is_object(json_object_get(metrics, "sae")) || !json_is_object(config))
        return FAIL(DAMAGED, "%s: eval_result_metrics.sae and eval_config must be there", path);
    scores_of(file->of, json_object_get(metrics, "llm"), json_object_get(metrics, "sae"));
    TRY(sets_of(file, whole, json_object_get(ours, "rows"), path));
    text_of(file->model_name, sizeof file->model_name, config, "model_name");
    text_of(file->dtype, sizeof file->dtype, config, "llm_dtype");
    file->seed = count_of(config, "random_seed");
    file->context = count_of(config, "context_length");
    file->batch = count_of(config, "llm_batch_size");
    file->train = count_of(config, "probe_train_set_size");
    file->test = count_of(config, "probe_test_set_size");
    text_of(file->architecture, sizeof file->architecture, sae, "architecture");
    text_of(file->hook_name, sizeof file->hook_name, sae, "hook_name");
    file->width = count_of(sae, "d_in");
    file->latents = count_of(sae, "d_sae");
    file->layer = count_of(sae, "hook_layer");
    file->training_tokens = count_of(sae, "training_tokens");
    text_of(file->eval_id, sizeof file->eval_id, whole, "eval_id");
    text_of(file->version, sizeof file->version, whole, "sae_bench_commit_hash");
    if (strncmp(file->version, "osae ", 5) == 0)
        memmove(file->version, file->version + 5, strlen(file->version + 5) + 1);
    file->created_ms = count_of(whole, "datetime_epoch_millis");
    text_of(file->ck, sizeof file->ck, ours, "ck");
    text_of(file->profile, sizeof file->profile, ours, "profile");
    text_of(file->run, sizeof file->run, ours, "run");
    text_of(file->pool, sizeof file->pool, ours, "pooling");
    file->share = json_number_value(json_object_get(ours, "positive_share"));
    file->step = count_of(ours, "step");
    file->seconds = json_number_value(json_object_get(ours, "seconds"));
    const char *mh = json_string_value(json_object_get(ours, "mh"));
    const char *spec = json_string_value(json_object_get(ours, "spec"));
    if (ours && (!mh || !hex64_parse(&file->mh, mh) || !spec || !hex128_parse(&file->spec, spec)))
        return FAIL(DAMAGED, "%s: osae.mh and osae.spec must be 16 and 32 hex digits", path);
    return STATUS_OK;
}

enum status
saebench_probing_read(struct probing_file *out, const char *path)
{
    enum { MOST = 1 << 28 };
    char *text = NULL;
    size_t bytes;
    memset(out, 0, sizeof *out);
    TRY(file_read(&text, &bytes, path, MOST));
    json_error_t error;
    json_t *whole = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!whole)
        return FAIL(DAMAGED, "%s:%d: not JSON: %s", path, error.line, error.text);
    enum status status = file_of(out, whole, path);
    json_decref(whole);
    if (status != STATUS_OK)
        probing_file_release(out);
    return status;
}

// ---------------------------------------------------------------- names

static bool
owner(const char *path, uint64_t *mh, struct hash128 *spec)
{
    struct probing_file *file = calloc(1, sizeof *file);
    bool read = file && path_exists(path) && saebench_probing_read(file, path) == STATUS_OK;
    if (read) {
        *mh = file->mh;
        *spec = file->spec;
        probing_file_release(file);
    }
    free(file);
    return read;
}

enum status
saebench_probing_path(char out[PATH_BYTES], const char *folder, const char *run, uint64_t step,
                      uint64_t mh, struct hash128 spec)
{
    return saebench_names_path(out, folder, run, step, mh, spec, owner);
}

enum status
saebench_probing_find(bool *found, char path[PATH_BYTES], const char *folder, const char *run,
                      uint64_t step, uint64_t mh, struct hash128 spec)
{
    return saebench_names_find(found, path, folder, run, step, mh, spec, owner);
}

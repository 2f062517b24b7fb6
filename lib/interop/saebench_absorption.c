#include "lib/interop/saebench_absorption.h"

#include "lib/interop/saebench_names.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 15, MOST_BYTES = 1 << 26 };
static const char type_id[] = "absorption_first_letter";

// The means: SAEBench's three, under eval_result_metrics.mean, and the one of its first months
// under osae. Name of the mean and of its standard deviation.
static const struct mean_row {
    const char *mean, *std_dev;
    size_t offset;
    bool ours;
} rows[] = {
    {"mean_absorption_fraction_score", "std_dev_absorption_fraction_score",
     offsetof(struct absorption, fraction), false},
    {"mean_full_absorption_score", "std_dev_full_absorption_score",
     offsetof(struct absorption, full), false},
    {"mean_num_split_features", "std_dev_num_split_features", offsetof(struct absorption, splits),
     false},
    {"mean_absorption_score", "std_dev_absorption_score", offsetof(struct absorption, missed),
     true},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static struct absorption_mean
mean_at(const struct absorption *absorption, size_t row)
{
    struct absorption_mean mean;
    memcpy(&mean, (const char *)absorption + rows[row].offset, sizeof mean);
    return mean;
}

// ---------------------------------------------------------------- writing

static json_t *
real(double value)
{
    return isfinite(value) ? json_real(value) : json_integer(-1);
}

static json_t *
count(uint64_t value)
{
    return json_integer((json_int_t)(value > INT64_MAX ? INT64_MAX : value));
}

// Into `to`, and its path into `undefined` where it is not finite.
static void
put(json_t *to, json_t *undefined, const char *category, const char *key, double value)
{
    json_object_set_new(to, key, real(value));
    if (!isfinite(value))
        json_array_append_new(undefined, json_sprintf("%s.%s", category, key));
}

static json_t *
config_json(const struct absorption_file *file)
{
    return json_pack("{s:s, s:o, s:f, s:o, s:s, s:i, s:o, s:s, s:f, s:i, s:i, s:f, s:o, s:i, s:b}",
                     "model_name", file->model_name, "random_seed", count(file->seed),
                     "f1_jump_threshold", file->jump, "max_k_value", count(file->most_latents),
                     "prompt_template", "{word} has the first letter:", "prompt_token_pos", -6,
                     "llm_batch_size", count(file->batch), "llm_dtype", file->dtype,
                     "k_sparse_probe_l1_decay", 0.01, "k_sparse_probe_batch_size", 4096,
                     "k_sparse_probe_num_epochs", 50, "min_GT_probe_f1", file->least_f1,
                     "min_feats_for_eval", count(file->least_letters),
                     "eval_k_sparse_probe_batch_size", 24, "precalc_k_sparse_probe_sae_acts", 1);
}

static json_t *
sae_json(const struct absorption_file *file)
{
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:s, s:o}", "architecture", file->architecture,
                     "d_sae", count(file->latents), "d_in", count(file->width), "model_name",
                     file->model_name, "hook_layer", count(file->layer), "hook_name",
                     file->hook_name, "training_tokens", count(file->training_tokens));
}

static double
rate(const struct absorption_letter *letter, uint64_t words)
{
    return letter->true_positives ? (double)words / (double)letter->true_positives : UNDEFINED;
}

static json_t *
details_json(const struct absorption *absorption)
{
    json_t *all = json_array();
    for (size_t i = 0; i < absorption->count; i++) {
        const struct absorption_letter *l = &absorption->letters[i];
        const char letter[2] = {l->letter, 0};
        if (l->used)
            json_array_append_new(
                all, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "first_letter", letter,
                               "mean_absorption_fraction", real(l->fraction),
                               "full_absorption_rate", real(rate(l, l->full)),
                               "num_full_absorption", count(l->full), "num_probe_true_positives",
                               count(l->true_positives), "num_split_features", count(l->mains)));
    }
    return all;
}

static json_t *
letter_json(const struct absorption_letter *l)
{
    const char letter[2] = {l->letter, 0};
    json_t *mains = json_array(), *f1 = json_array();
    for (size_t i = 0; i < l->mains && i < ABSORPTION_MAINS; i++)
        json_array_append_new(mains, count(l->main[i]));
    for (size_t i = 0; i < l->tried && i < ABSORPTION_MAINS; i++)
        json_array_append_new(f1, real(l->k_f1[i]));
    return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "first_letter", letter,
                     "used", (int)l->used, "probe_f1", real(l->f1), "num_probe_true_positives",
                     count(l->true_positives), "mean_absorption_fraction", real(l->fraction),
                     "num_full_absorption", count(l->full), "num_full_absorption_missed",
                     count(l->missed), "main_latents", mains, "k_sparse_f1", f1);
}

static void
identity_json(json_t *ours, const struct absorption_file *file)
{
    char mh[17], spec[33];
    hex64(mh, file->mh);
    hex128(spec, file->spec);
    json_object_set_new(ours, "ck", json_string(file->ck));
    json_object_set_new(ours, "mh", json_string(mh));
    json_object_set_new(ours, "spec", json_string(spec));
    json_object_set_new(ours, "profile", json_string(file->profile));
    json_object_set_new(ours, "run", json_string(file->run));
    json_object_set_new(ours, "step", count(file->step));
    json_object_set_new(ours, "seconds", real(file->seconds));
}

static void
means_json(json_t *metrics, json_t *ours, const struct absorption *absorption)
{
    json_t *intervals = json_object(), *undefined = json_array(), *mean = json_object();
    for (size_t i = 0; i < ROWS; i++) {
        struct absorption_mean of = mean_at(absorption, i);
        json_t *to = rows[i].ours ? ours : mean;
        const char *category = rows[i].ours ? "osae" : "eval_result_metrics.mean";
        put(to, undefined, category, rows[i].mean, of.value);
        put(to, undefined, category, rows[i].std_dev, of.std_dev);
        if (isfinite(of.low) && isfinite(of.high))
            json_object_set_new(intervals, rows[i].mean, json_pack("[f, f]", of.low, of.high));
    }
    json_object_set_new(metrics, "mean", mean);
    put(ours, undefined, "osae", "mean_probe_f1", absorption->mean_f1);
    json_object_set_new(ours, "interval_95", intervals);
    json_object_set_new(ours, "undefined", undefined);
}

static json_t *
ours_json(json_t *metrics, const struct absorption_file *file)
{
    const struct absorption *a = &file->absorption;
    json_t *ours = json_object(), *letters = json_array();
    char used[ABSORPTION_LETTERS + 1] = "";
    size_t n = 0;
    for (size_t i = 0; i < a->count; i++) {
        if (a->letters[i].used)
            used[n++] = a->letters[i].letter;
        json_array_append_new(letters, letter_json(&a->letters[i]));
    }
    means_json(metrics, ours, a);
    json_object_set_new(ours, "letters_used", json_string(used));
    json_object_set_new(ours, "words", count(a->words));
    json_object_set_new(ours, "words_train", count(a->train));
    json_object_set_new(ours, "words_test", count(a->test));
    json_object_set_new(ours, "words_unfit", count(a->unfit));
    json_object_set_new(ours, "examples", count(a->examples));
    json_object_set_new(ours, "resamples", count(a->resamples));
    json_object_set_new(ours, "letters", letters);
    identity_json(ours, file);
    return ours;
}

enum status
saebench_absorption_write(const char *path, const struct absorption_file *file)
{
    char folder[PATH_BYTES], commit[80], release[SAEBENCH_TEXT + 32];
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
    char *text = NULL;
    json_t *metrics = json_object(), *ours = ours_json(metrics, file);
    // Any of the parts may be NULL (no memory, text that is not UTF-8): then the whole is.
    json_t *whole = json_pack(
        "{s:s, s:o, s:s, s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:o, s:{s:o}}", "eval_type_id", type_id,
        "eval_config", config_json(file), "eval_id", file->eval_id, "datetime_epoch_millis",
        count(file->created_ms), "eval_result_metrics", metrics, "eval_result_details",
        details_json(&file->absorption), "sae_bench_commit_hash", commit, "sae_lens_id",
        "custom_sae", "sae_lens_release_id", release, "sae_lens_version", "Unknown", "sae_cfg_dict",
        sae_json(file), "eval_result_unstructured", "osae", ours);
    if (whole)
        text = json_dumps(whole, JSON_INDENT(2) | JSON_REAL_PRECISION(DIGITS));
    json_decref(whole);
    if (!text)
        return FAIL(CREATE, "%s: no memory for the result, or a name in it is not UTF-8", path);
    enum status status = file_replace(path, text, strlen(text));
    free(text);
    TRY(status);
    return STATUS_OK;
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

// Every number of these files is at least 0: -1 is an undefined one.
static double
real_of(const json_t *from, const char *key)
{
    const json_t *at = json_object_get(from, key);
    double value = json_is_number(at) ? json_number_value(at) : -1;
    return value >= 0 ? value : UNDEFINED;
}

static enum status
means_of(struct absorption *out, const json_t *whole, const json_t *ours, const char *path)
{
    const json_t *mean = json_object_get(json_object_get(whole, "eval_result_metrics"), "mean");
    const json_t *intervals = json_object_get(ours, "interval_95");
    for (size_t i = 0; i < ROWS; i++) {
        const json_t *from = rows[i].ours ? ours : mean;
        if (!rows[i].ours && !json_is_number(json_object_get(from, rows[i].mean)))
            return FAIL(DAMAGED, "%s: eval_result_metrics.mean.%s is no number", path,
                        rows[i].mean);
        const json_t *interval = json_object_get(intervals, rows[i].mean);
        const json_t *low = json_array_get(interval, 0), *high = json_array_get(interval, 1);
        struct absorption_mean of = {real_of(from, rows[i].mean), real_of(from, rows[i].std_dev),
                                     json_is_number(low) ? json_number_value(low) : UNDEFINED,
                                     json_is_number(high) ? json_number_value(high) : UNDEFINED};
        memcpy((char *)out + rows[i].offset, &of, sizeof of);
    }
    return STATUS_OK;
}

static size_t
list_of(const json_t *list, double *numbers, uint32_t *indexes)
{
    size_t n = json_array_size(list) < ABSORPTION_MAINS ? json_array_size(list) : ABSORPTION_MAINS;
    for (size_t i = 0; i < n; i++) {
        const json_t *at = json_array_get(list, i);
        json_int_t whole = json_integer_value(at);
        if (indexes)
            indexes[i] = whole > 0 && whole < UINT32_MAX ? (uint32_t)whole : 0;
        else
            numbers[i] = json_is_number(at) ? json_number_value(at) : UNDEFINED;
    }
    return n;
}

static enum status
letters_of(struct absorption *out, const json_t *whole, const json_t *ours, const char *path)
{
    const json_t *list = json_object_get(ours, "letters");
    bool mine = json_is_array(list);
    if (!mine)
        list = json_object_get(whole, "eval_result_details");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *at = json_array_get(list, i);
        const char *letter = json_string_value(json_object_get(at, "first_letter"));
        if (!letter || letter[0] < 'a' || letter[0] > 'z' || letter[1] ||
            (out->count > 0 && letter[0] <= out->letters[out->count - 1].letter))
            return FAIL(DAMAGED, "%s: '%.20s' is not the next letter", path, letter ? letter : "");
        struct absorption_letter *to = &out->letters[out->count++];
        to->letter = letter[0];
        to->used = !mine || json_is_true(json_object_get(at, "used"));
        to->f1 = real_of(at, "probe_f1");
        to->true_positives = count_of(at, "num_probe_true_positives");
        to->fraction = real_of(at, "mean_absorption_fraction");
        to->full = count_of(at, "num_full_absorption");
        to->missed = count_of(at, "num_full_absorption_missed");
        to->mains = mine ? list_of(json_object_get(at, "main_latents"), NULL, to->main)
                         : count_of(at, "num_split_features");
        to->tried = list_of(json_object_get(at, "k_sparse_f1"), to->k_f1, NULL);
        out->used += to->used;
    }
    return STATUS_OK;
}

static enum status
file_of(struct absorption_file *file, const json_t *whole, const char *path)
{
    const char *kind = json_string_value(json_object_get(whole, "eval_type_id"));
    const json_t *config = json_object_get(whole, "eval_config");
    const json_t *sae = json_object_get(whole, "sae_cfg_dict");
    const json_t *ours =
        json_object_get(json_object_get(whole, "eval_result_unstructured"), "osae");
    struct absorption *a = &file->absorption;
    if (kind && strcmp(kind, type_id) != 0)
        return FAIL(DAMAGED, "%s: eval_type_id is '%.40s', wanted %s", path, kind, type_id);
    TRY(means_of(a, whole, ours, path));
    TRY(letters_of(a, whole, ours, path));
    a->words = count_of(ours, "words");
    a->train = count_of(ours, "words_train");
    a->test = count_of(ours, "words_test");
    a->unfit = count_of(ours, "words_unfit");
    a->examples = count_of(ours, "examples");
    a->resamples = count_of(ours, "resamples");
    a->mean_f1 = real_of(ours, "mean_probe_f1");
    text_of(file->model_name, sizeof file->model_name, config, "model_name");
    text_of(file->dtype, sizeof file->dtype, config, "llm_dtype");
    file->seed = count_of(config, "random_seed");
    file->batch = count_of(config, "llm_batch_size");
    file->jump = real_of(config, "f1_jump_threshold");
    file->least_f1 = real_of(config, "min_GT_probe_f1");
    file->most_latents = count_of(config, "max_k_value");
    file->least_letters = count_of(config, "min_feats_for_eval");
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
    file->step = count_of(ours, "step");
    file->seconds = real_of(ours, "seconds");
    const char *mh = json_string_value(json_object_get(ours, "mh"));
    const char *spec = json_string_value(json_object_get(ours, "spec"));
    if (ours && (!mh || !hex64_parse(&file->mh, mh) || !spec || !hex128_parse(&file->spec, spec)))
        return FAIL(DAMAGED, "%s: osae.mh and osae.spec must be 16 and 32 hex digits", path);
    return STATUS_OK;
}

enum status
saebench_absorption_read(struct absorption_file *out, const char *path)
{
    char *text = NULL;
    size_t bytes;
    TRY(file_read(&text, &bytes, path, MOST_BYTES));
    json_error_t error;
    json_t *whole = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!whole)
        return FAIL(DAMAGED, "%s:%d: not JSON: %s", path, error.line, error.text);
    struct absorption_file *file = calloc(1, sizeof *file);
    enum status status = file ? file_of(file, whole, path) : FAIL(CREATE, "%s: no memory", path);
    json_decref(whole);
    if (status == STATUS_OK)
        *out = *file;
    free(file);
    TRY(status);
    return STATUS_OK;
}

// ---------------------------------------------------------------- names

static bool
owner(const char *path, uint64_t *mh, struct hash128 *spec)
{
    struct absorption_file *file = calloc(1, sizeof *file);
    bool read = file && path_exists(path) && saebench_absorption_read(file, path) == STATUS_OK;
    if (read) {
        *mh = file->mh;
        *spec = file->spec;
    }
    free(file);
    return read;
}

enum status
saebench_absorption_path(char out[PATH_BYTES], const char *folder, const char *run, uint64_t step,
                         uint64_t mh, struct hash128 spec)
{
    return saebench_names_path(out, folder, run, step, mh, spec, owner);
}

enum status
saebench_absorption_find(bool *found, char path[PATH_BYTES], const char *folder, const char *run,
                         uint64_t step, uint64_t mh, struct hash128 spec)
{
    return saebench_names_find(found, path, folder, run, step, mh, spec, owner);
}

#include "lib/interop/saebench.h"

#include "lib/interop/saebench_names.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

const struct core_row core_rows[CORE_COUNT] = {
#define N(category, key, unit, better, doc)                                                        \
    {#category, #key, unit, CORE_##better, doc, offsetof(struct core, key)},
    CORE_LIST(N)
#undef N
};

static double *
number_at(struct core *core, size_t row)
{
    return (double *)(void *)((char *)core + core_rows[row].offset);
}

double
core_number(const struct core *core, size_t row)
{
    double value;
    memcpy(&value, (const char *)core + core_rows[row].offset, sizeof value);
    return value;
}

void
core_undefined(struct core *core)
{
    for (size_t i = 0; i < CORE_COUNT; i++)
        *number_at(core, i) = UNDEFINED;
}

enum status
saebench_eval_id(char out[37])
{
    unsigned char b[16];
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        return FAIL(IO, "no random bytes from the system: %s", strerror(errno));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40); // version 4
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80); // variant of RFC 4122
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
    return STATUS_OK;
}

const char *
saebench_misleading(const char *path, const char *kind)
{
    static const char *const kinds[] = {
        "tpp", "scr", "absorption", "autointerp", "sparse_probing", "unlearning", "core", NULL};
    for (size_t i = 0; kinds[i]; i++)
        if (strstr(path, kinds[i]))
            return strcmp(kinds[i], kind) == 0 ? NULL : kinds[i];
    return NULL;
}

// Writing

// Ten decimals, as SAEBench rounds its details; of metrics 15 digits are printed.
enum { DIGITS = 15 };

static json_t *
real(double value)
{
    return isfinite(value) ? json_real(value) : json_integer(-1);
}

static json_t *
detail(double value)
{
    if (!isfinite(value))
        return json_integer(-1);
    return json_real(fabs(value) < 1e5 ? round(value * 1e10) / 1e10 : value);
}

static json_t *
count(uint64_t value)
{
    return json_integer((json_int_t)(value > INT64_MAX ? INT64_MAX : value));
}

static bool
is_count(size_t row)
{
    const char *unit = core_rows[row].unit;
    return strcmp(unit, "tokens") == 0 ||
           (strcmp(unit, "latents") == 0 && strcmp(core_rows[row].category, "osae") == 0);
}

static json_t *
number(const struct core *core, size_t row)
{
    double value = core_number(core, row);
    return isfinite(value) && is_count(row) ? json_integer((json_int_t)value) : real(value);
}

// {"model_behavior_preservation": {...}, ...}
static json_t *
metrics_json(const struct core *core)
{
    json_t *all = json_object();
    for (size_t i = 0; i < CORE_COUNT; i++) {
        const struct core_row *row = &core_rows[i];
        if (strcmp(row->category, "osae") == 0)
            continue;
        if (!json_object_get(all, row->category))
            json_object_set_new(all, row->category, json_object());
        json_object_set_new(json_object_get(all, row->category), row->key, number(core, i));
    }
    return all;
}

static json_t *
config_json(const struct core_file *file)
{
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}",
        "model_name", file->model_name, "llm_dtype", file->dtype, "batch_size_prompts",
        count(file->batch_contexts), "n_eval_reconstruction_batches", count(file->core_batches),
        "n_eval_sparsity_variance_batches", count(file->variance_batches), "dataset", file->dataset,
        "context_size", count(file->context), "compute_kl", 1, "compute_ce_loss", 1,
        "compute_l2_norms", 1, "compute_sparsity_metrics", 1, "compute_variance_metrics", 1,
        "compute_featurewise_density_statistics", 1, "compute_featurewise_weight_based_metrics", 1,
        "exclude_special_tokens_from_reconstruction", (int)file->exclude_special, "verbose", 0);
}

static json_t *
sae_json(const struct core_file *file)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:s, s:o, s:n, s:s, s:b, s:b, s:s, s:s, s:s, s:s, s:b, "
                     "s:[n], s:o, s:n}",
                     "model_name", file->model_name, "d_in", count(file->width), "d_sae",
                     count(file->latents), "hook_layer", count(file->layer), "hook_name",
                     file->hook_name, "context_size", count(file->context), "hook_head_index",
                     "architecture", file->architecture, "apply_b_dec_to_input",
                     (int)file->apply_b_dec_to_input, "prepend_bos", (int)file->prepend_bos,
                     "normalize_activations", "none", "dtype", "float32", "device", "",
                     "dataset_path", file->dataset, "dataset_trust_remote_code", 1, "seqpos_slice",
                     "training_tokens", count(file->training_tokens), "neuronpedia_id");
}

static json_t *
details_json(const struct latent_detail *details, size_t latents)
{
    json_t *all = json_array();
    for (size_t j = 0; details && j < latents; j++) {
        const struct latent_detail *d = &details[j];
        json_array_append_new(
            all, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "index", count(j),
                           "feature_density", detail(d->feature_density),
                           "consistent_activation_heuristic",
                           detail(d->consistent_activation_heuristic), "encoder_bias",
                           detail(d->encoder_bias), "encoder_norm", detail(d->encoder_norm),
                           "encoder_decoder_cosine_sim", detail(d->encoder_decoder_cosine_sim),
                           "max_decoder_cosine_sim", detail(d->max_decoder_cosine_sim),
                           "max_encoder_cosine_sim", detail(d->max_encoder_cosine_sim)));
    }
    return all;
}

// What the table calls `osae`, what SAEBench has no place for, and whose result it is.
static json_t *
ours_json(const struct core_file *file)
{
    json_t *ours = json_object(), *undefined = json_array(), *bins = json_array();
    for (size_t i = 0; i < CORE_COUNT; i++) {
        const struct core_row *row = &core_rows[i];
        bool own = strcmp(row->category, "osae") == 0;
        if (own)
            json_object_set_new(ours, row->key, number(&file->core, i));
        if (!isfinite(core_number(&file->core, i)))
            json_array_append_new(undefined,
                                  json_sprintf("%s%s.%s", own ? "" : "eval_result_metrics.",
                                               row->category, row->key));
    }
    for (size_t b = 0; b < DENSITY_BINS; b++)
        json_array_append_new(bins, count(file->histogram.counts[b]));
    json_object_set_new(ours, "density_histogram",
                        json_pack("{s:o, s:i, s:i, s:o}", "dead", count(file->histogram.dead),
                                  "log10_min", -6, "log10_max", 0, "counts", bins));
    json_object_set_new(ours, "undefined", undefined);
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
    return ours;
}

enum status
saebench_core_write(const char *path, const struct core_file *file,
                    const struct latent_detail *details)
{
    enum status status = STATUS_OK;
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
    // Any of the parts may be NULL (no memory, text that is not UTF-8): then the whole is.
    json_t *whole = json_pack(
        "{s:s, s:o, s:s, s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:o, s:{s:o}}", "eval_type_id", "core",
        "eval_config", config_json(file), "eval_id", file->eval_id, "datetime_epoch_millis",
        count(file->created_ms), "eval_result_metrics", metrics_json(&file->core),
        "eval_result_details", details_json(details, file->latents), "sae_bench_commit_hash",
        commit, "sae_lens_id", "custom_sae", "sae_lens_release_id", release, "sae_lens_version",
        "Unknown", "sae_cfg_dict", sae_json(file), "eval_result_unstructured", "osae",
        ours_json(file));
    if (whole)
        text = json_dumps(whole, JSON_INDENT(2) | JSON_REAL_PRECISION(DIGITS));
    json_decref(whole);
    if (!text)
        return FAIL(CREATE, "%s: no memory for the result, or a name in it is not UTF-8", path);
    status = file_replace(path, text, strlen(text));
    free(text);
    TRY(status);
    return STATUS_OK;
}

// Reading

// A text member; absent, null or another type: "".
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

static bool
listed(const json_t *undefined, const char *category, const char *key)
{
    char name[128];
    size_t i;
    json_t *at;
    bool own = strcmp(category, "osae") == 0;
    snprintf(name, sizeof name, "%s%s.%s", own ? "" : "eval_result_metrics.", category, key);
    json_array_foreach(undefined, i, at)
    {
        const char *text = json_string_value(at);
        if (text && strcmp(text, name) == 0)
            return true;
    }
    return false;
}

static enum status
core_of(struct core *core, const json_t *metrics, const json_t *ours, const char *path)
{
    const json_t *undefined = json_object_get(ours, "undefined");
    for (size_t i = 0; i < CORE_COUNT; i++) {
        const struct core_row *row = &core_rows[i];
        bool own = strcmp(row->category, "osae") == 0;
        json_t *at =
            json_object_get(own ? ours : json_object_get(metrics, row->category), row->key);
        if (!at && own) {
            *number_at(core, i) = UNDEFINED;
            continue;
        }
        if (!json_is_number(at))
            return FAIL(DAMAGED, "%s: %s.%s is %s, wanted a number", path, row->category, row->key,
                        at ? "no number" : "missing");
        // A file of SAEBench's own tells an undefined number from -1 in no way.
        *number_at(core, i) =
            listed(undefined, row->category, row->key) ? UNDEFINED : json_number_value(at);
    }
    return STATUS_OK;
}

static enum status
file_of(struct core_file *file, const json_t *whole, const char *path)
{
    const char *kind = json_string_value(json_object_get(whole, "eval_type_id"));
    if (kind && strcmp(kind, "core") != 0)
        return FAIL(DAMAGED, "%s: eval_type_id is '%.40s', wanted 'core'", path, kind);
    const json_t *metrics = json_object_get(whole, "eval_result_metrics");
    const json_t *config = json_object_get(whole, "eval_config");
    const json_t *sae = json_object_get(whole, "sae_cfg_dict");
    const json_t *ours =
        json_object_get(json_object_get(whole, "eval_result_unstructured"), "osae");
    if (!json_is_object(metrics) || !json_is_object(config) || !json_is_object(sae))
        return FAIL(DAMAGED,
                    "%s: no result of SAEBench's shape: eval_result_metrics, eval_config "
                    "and sae_cfg_dict must be there",
                    path);
    TRY(core_of(&file->core, metrics, ours, path));
    text_of(file->model_name, sizeof file->model_name, config, "model_name");
    text_of(file->dataset, sizeof file->dataset, config, "dataset");
    text_of(file->dtype, sizeof file->dtype, config, "llm_dtype");
    file->batch_contexts = count_of(config, "batch_size_prompts");
    file->core_batches = count_of(config, "n_eval_reconstruction_batches");
    file->variance_batches = count_of(config, "n_eval_sparsity_variance_batches");
    file->context = count_of(config, "context_size");
    file->exclude_special =
        json_is_true(json_object_get(config, "exclude_special_tokens_from_reconstruction"));
    text_of(file->architecture, sizeof file->architecture, sae, "architecture");
    text_of(file->hook_name, sizeof file->hook_name, sae, "hook_name");
    file->width = count_of(sae, "d_in");
    file->latents = count_of(sae, "d_sae");
    file->layer = count_of(sae, "hook_layer");
    file->training_tokens = count_of(sae, "training_tokens");
    file->apply_b_dec_to_input = json_is_true(json_object_get(sae, "apply_b_dec_to_input"));
    file->prepend_bos = json_is_true(json_object_get(sae, "prepend_bos"));
    text_of(file->eval_id, sizeof file->eval_id, whole, "eval_id");
    text_of(file->version, sizeof file->version, whole, "sae_bench_commit_hash");
    if (strncmp(file->version, "osae ", 5) == 0)
        memmove(file->version, file->version + 5, strlen(file->version + 5) + 1);
    file->created_ms = count_of(whole, "datetime_epoch_millis");
    text_of(file->ck, sizeof file->ck, ours, "ck");
    text_of(file->profile, sizeof file->profile, ours, "profile");
    text_of(file->run, sizeof file->run, ours, "run");
    file->step = count_of(ours, "step");
    file->seconds = json_number_value(json_object_get(ours, "seconds"));
    const char *mh = json_string_value(json_object_get(ours, "mh"));
    const char *spec = json_string_value(json_object_get(ours, "spec"));
    if (ours && (!mh || !hex64_parse(&file->mh, mh) || !spec || !hex128_parse(&file->spec, spec)))
        return FAIL(DAMAGED, "%s: osae.mh and osae.spec must be 16 and 32 hex digits", path);
    const json_t *histogram = json_object_get(ours, "density_histogram");
    const json_t *bins = json_object_get(histogram, "counts");
    file->histogram.dead = count_of(histogram, "dead");
    for (size_t b = 0; b < DENSITY_BINS; b++) {
        json_int_t value = json_integer_value(json_array_get(bins, b));
        file->histogram.counts[b] = value > 0 ? (uint64_t)value : 0;
    }
    return STATUS_OK;
}

enum status
saebench_core_read(struct core_file *out, const char *path)
{
    enum { MOST = 1 << 30 };
    char *text = NULL;
    size_t bytes;
    TRY(file_read(&text, &bytes, path, MOST));
    json_error_t error;
    json_t *whole = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!whole)
        return FAIL(DAMAGED, "%s:%d: not JSON: %s", path, error.line, error.text);
    struct core_file *file = calloc(1, sizeof *file);
    enum status status = file ? file_of(file, whole, path) : FAIL(CREATE, "%s: no memory", path);
    json_decref(whole);
    if (status == STATUS_OK)
        *out = *file;
    free(file);
    TRY(status);
    return STATUS_OK;
}

// Names

static bool
owner(const char *path, uint64_t *mh, struct hash128 *spec)
{
    struct core_file file;
    if (!path_exists(path) || saebench_core_read(&file, path) != STATUS_OK)
        return false;
    *mh = file.mh;
    *spec = file.spec;
    return true;
}

enum status
saebench_core_path(char out[PATH_BYTES], const char *folder, const char *run, uint64_t step,
                   uint64_t mh, struct hash128 spec)
{
    return saebench_names_path(out, folder, run, step, mh, spec, owner);
}

enum status
saebench_core_find(bool *found, char path[PATH_BYTES], const char *folder, const char *run,
                   uint64_t step, uint64_t mh, struct hash128 spec)
{
    return saebench_names_find(found, path, folder, run, step, mh, spec, owner);
}

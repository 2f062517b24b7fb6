#include "lib/interop/saebench_core.h"

#include "lib/interop/saebench_inside.h"

#include <stdio.h>
#include <string.h>

static const char type_id[] = "core";

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

// ---------------------------------------------------------------- writing

// Ten decimals, as SAEBench rounds its details.
static json_t *
detail(double value)
{
    if (!isfinite(value))
        return json_integer(-1);
    return json_real(fabs(value) < 1e5 ? round(value * 1e10) / 1e10 : value);
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
    return isfinite(value) && is_count(row) ? json_integer((json_int_t)value)
                                            : saebench_real(value);
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
        "{s:o, s:o, s:o, s:s, s:o, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}",
        "batch_size_prompts", saebench_count(file->batch_contexts), "n_eval_reconstruction_batches",
        saebench_count(file->core_batches), "n_eval_sparsity_variance_batches",
        saebench_count(file->variance_batches), "dataset", file->dataset, "context_size",
        saebench_count(file->context), "compute_kl", 1, "compute_ce_loss", 1, "compute_l2_norms", 1,
        "compute_sparsity_metrics", 1, "compute_variance_metrics", 1,
        "compute_featurewise_density_statistics", 1, "compute_featurewise_weight_based_metrics", 1,
        "exclude_special_tokens_from_reconstruction", (int)file->exclude_special, "verbose", 0);
}

static json_t *
sae_json(const struct core_file *file)
{
    return json_pack("{s:o, s:n, s:b, s:b, s:s, s:s, s:s, s:s, s:b, s:[n], s:n}", "context_size",
                     saebench_count(file->context), "hook_head_index", "apply_b_dec_to_input",
                     (int)file->apply_b_dec_to_input, "prepend_bos", (int)file->prepend_bos,
                     "normalize_activations", "none", "dtype", "float32", "device", "",
                     "dataset_path", file->dataset, "dataset_trust_remote_code", 1, "seqpos_slice",
                     "neuronpedia_id");
}

static json_t *
details_json(const struct latent_detail *details, size_t latents)
{
    json_t *all = json_array();
    for (size_t j = 0; details && j < latents; j++) {
        const struct latent_detail *d = &details[j];
        json_array_append_new(
            all, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "index", saebench_count(j),
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

// What the table calls `osae`, and what SAEBench has no place for.
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
        json_array_append_new(bins, saebench_count(file->histogram.counts[b]));
    json_object_set_new(ours, "density_histogram",
                        json_pack("{s:o, s:i, s:i, s:o}", "dead",
                                  saebench_count(file->histogram.dead), "log10_min", -6,
                                  "log10_max", 0, "counts", bins));
    json_object_set_new(ours, "undefined", undefined);
    return ours;
}

enum status
saebench_core_write(const char *path, const struct core_file *file,
                    const struct latent_detail *details)
{
    return saebench_write(
        path, type_id, &file->head,
        (struct saebench_parts){.config = config_json(file),
                                .metrics = metrics_json(&file->core),
                                .details = details_json(details, file->head.latents),
                                .sae = sae_json(file),
                                .unstructured = json_object(),
                                .ours = ours_json(file)});
}

// ---------------------------------------------------------------- reading

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
file_of(struct core_file *file, const struct saebench_tree *tree, const char *path)
{
    TRY(core_of(&file->core, tree->metrics, tree->ours, path));
    saebench_text_of(file->dataset, sizeof file->dataset, tree->config, "dataset");
    file->batch_contexts = saebench_count_of(tree->config, "batch_size_prompts");
    file->core_batches = saebench_count_of(tree->config, "n_eval_reconstruction_batches");
    file->variance_batches = saebench_count_of(tree->config, "n_eval_sparsity_variance_batches");
    file->context = saebench_count_of(tree->config, "context_size");
    file->exclude_special =
        json_is_true(json_object_get(tree->config, "exclude_special_tokens_from_reconstruction"));
    file->apply_b_dec_to_input = json_is_true(json_object_get(tree->sae, "apply_b_dec_to_input"));
    file->prepend_bos = json_is_true(json_object_get(tree->sae, "prepend_bos"));
    const json_t *histogram = json_object_get(tree->ours, "density_histogram");
    const json_t *bins = json_object_get(histogram, "counts");
    file->histogram.dead = saebench_count_of(histogram, "dead");
    for (size_t b = 0; b < DENSITY_BINS; b++) {
        json_int_t value = json_integer_value(json_array_get(bins, b));
        file->histogram.counts[b] = value > 0 ? (uint64_t)value : 0;
    }
    return STATUS_OK;
}

enum status
saebench_core_read(struct core_file *out, const char *path)
{
    struct saebench_tree tree;
    memset(out, 0, sizeof *out);
    TRY(saebench_open(&tree, &out->head, path, type_id));
    enum status status = file_of(out, &tree, path);
    saebench_close(&tree);
    return status;
}

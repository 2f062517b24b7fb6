#include "lib/interop/card.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH_MOST = 1 << 20, LATENTS_MOST = 1 << 26 };

const char *
card_true_name(enum arch arch, double lambda_o)
{
    bool competing = lambda_o > 0;
    switch (arch) {
    case ARCH_RELU:
        return competing ? "orthogonal" : "standard";
    case ARCH_TOPK:
        return competing ? "topk-orthogonal" : "topk";
    case ARCH_BATCHTOPK:
        return competing ? "batchtopk-orthogonal" : "batchtopk";
    case ARCH_JUMPRELU:
        return competing ? "jumprelu-orthogonal" : "jumprelu";
    }
    assert(false);
    return "";
}

void
card_hook(struct card *card, uint64_t layer, bool transformer_lens)
{
    card->layer = (int64_t)layer;
    snprintf(card->model_class_name, sizeof card->model_class_name, "%s",
             transformer_lens ? "HookedTransformer" : "AutoModelForCausalLM");
    snprintf(card->hook_name, sizeof card->hook_name,
             transformer_lens ? "blocks.%llu.hook_resid_post" : "model.layers.%llu",
             (unsigned long long)layer);
}

// Writing

static json_t *
count(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *
ours(const struct card *card)
{
    json_t *osae = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:f, s:f, s:f}", "version", card->version,
        "architecture", card->architecture, "run", card->run, "stream", card->stream, "config",
        card->config, "step", count(card->step), "tokens", count(card->tokens), "lambda_s",
        card->lambda_s, "lambda_o", card->lambda_o, "lambda_t", card->lambda_t);
    if (card->arch == ARCH_BATCHTOPK) {
        json_object_set_new(osae, "k", count(card->topk));
        json_object_set_new(osae, "threshold", json_real(card->threshold));
    }
    return osae;
}

enum status
card_write(char **text, const struct card *card)
{
    static const char *const names[] = {
        [ARCH_RELU] = "standard",
        [ARCH_TOPK] = "topk",
        [ARCH_BATCHTOPK] = "jumprelu",
        [ARCH_JUMPRELU] = "jumprelu",
    };
    char hf[64];
    snprintf(hf, sizeof hf, "model.layers.%lld", (long long)card->layer);
    json_t *whole =
        json_pack("{s:o, s:o, s:s, s:s, s:b, s:s, s:s, s:s}", "d_in", count(card->width), "d_sae",
                  count(card->latents), "dtype", "float32", "device", "cpu", "apply_b_dec_to_input",
                  (int)card->apply_b_dec_to_input, "normalize_activations", "none",
                  "reshape_activations", "none", "architecture", names[card->arch]);
    if (card->arch == ARCH_TOPK) { // SAELens' default k is 100, silently
        json_object_set_new(whole, "k", count(card->topk));
        json_object_set_new(whole, "rescale_acts_by_decoder_norm", json_false());
    }
    json_t *metadata = json_pack(
        "{s:s, s:n, s:s, s:s, s:s, s:s, s:n, s:o, s:b, s:[n], s:{}, s:s, s:b, s:o}",
        "sae_lens_version", "6.0.0", "sae_lens_training_version", "model_name", card->model_name,
        "model_class_name", card->model_class_name, "hook_name", card->hook_name, "hf_hook_name",
        hf, "hook_head_index", "context_size", card->context ? count(card->context) : json_null(),
        "prepend_bos", (int)card->prepend_bos, "seqpos_slice", "model_from_pretrained_kwargs",
        "dataset_path", card->dataset_path, "exclude_special_tokens", 0, "osae", ours(card));
    int failed = metadata && whole ? json_object_set_new(whole, "metadata", metadata) : -1;
    *text = failed ? NULL : json_dumps(whole, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(whole);
    if (!*text)
        return FAIL(CREATE, "cfg.json: no memory, or a name in it is not UTF-8");
    return STATUS_OK;
}

// Reading

// A positive integer up to `most`.
static enum status
size_of(uint64_t *out, const json_t *from, const char *key, uint64_t most, const char *path)
{
    const json_t *at = json_object_get(from, key);
    if (!json_is_integer(at))
        return FAIL(DAMAGED, "%s: %s is %s, wanted an integer from 1 to %llu", path, key,
                    at ? "no integer" : "missing", (unsigned long long)most);
    json_int_t value = json_integer_value(at);
    if (value < 1 || (uint64_t)value > most)
        return FAIL(DAMAGED, "%s: %s is %lld, wanted an integer from 1 to %llu", path, key,
                    (long long)value, (unsigned long long)most);
    *out = (uint64_t)value;
    return STATUS_OK;
}

// A boolean; absent or null: the preset.
static enum status
bool_of(bool *out, const json_t *from, const char *key, bool preset, const char *path)
{
    const json_t *at = json_object_get(from, key);
    if (at && !json_is_null(at) && !json_is_boolean(at))
        return FAIL(DAMAGED, "%s: %s is no boolean, wanted true or false", path, key);
    *out = json_is_boolean(at) ? json_is_true(at) : preset;
    return STATUS_OK;
}

// A text; absent, null: the preset. Cut to its room: these are names to show and compare.
static enum status
text_of(char *out, size_t room, const json_t *from, const char *key, const char *preset,
        const char *path)
{
    const json_t *at = json_object_get(from, key);
    if (at && !json_is_null(at) && !json_is_string(at))
        return FAIL(DAMAGED, "%s: %s is no text", path, key);
    const char *text = json_is_string(at) ? json_string_value(at) : preset;
    if (strlen(text) >= room)
        return FAIL(DAMAGED, "%s: %s has %zu bytes, wanted at most %zu", path, key, strlen(text),
                    room - 1);
    snprintf(out, room, "%s", text);
    return STATUS_OK;
}

// Version "6.54.12" -> is it 6 or later?
static bool
nested_format(const json_t *whole)
{
    const char *version =
        json_string_value(json_object_get(json_object_get(whole, "metadata"), "sae_lens_version"));
    if (!version)
        version = json_string_value(json_object_get(whole, "sae_lens_version"));
    return version && strtol(version, NULL, 10) >= 6;
}

// The output of which block? -1: another place.
static int64_t
layer_of(const char *hook)
{
    static const struct {
        const char *before, *after;
        int shift;
    } forms[] = {
        {"blocks.", ".hook_resid_post", 0},
        {"blocks.", ".hook_resid_pre", -1}, // what goes in came out of the block below
        {"model.layers.", "", 0},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        size_t skip = strlen(forms[i].before);
        if (strncmp(hook, forms[i].before, skip) != 0 || hook[skip] < '0' || hook[skip] > '9')
            continue;
        char *end;
        unsigned long layer = strtoul(hook + skip, &end, 10);
        if (strcmp(end, forms[i].after) == 0 && layer < 100000)
            return (int64_t)layer + forms[i].shift;
    }
    return -1;
}

// What the inference switches say: nothing, something we can run, or something we cannot.
static enum status
switches(struct card *card, const json_t *whole, bool nested, const char *path)
{
    const json_t *scaling = json_object_get(whole, "normalize_activations");
    if (!nested && json_is_boolean(scaling))
        card->normalised = json_is_true(scaling);
    else if (scaling && !(json_is_null(scaling) && !nested)) {
        const char *name = json_string_value(scaling);
        if (!name)
            return FAIL(DAMAGED, "%s: normalize_activations is no text, wanted 'none'", path);
        card->normalised = strcmp(name, "expected_average_only_in") == 0;
        if (!card->normalised && strcmp(name, "none") != 0)
            return FAIL(CONFIG,
                        "%s: normalize_activations is '%.40s', which osae cannot run; wanted "
                        "'none' or 'expected_average_only_in'",
                        path, name);
    }
    char reshape[64];
    TRY(text_of(reshape, sizeof reshape, whole, "reshape_activations", "none", path));
    if (strcmp(reshape, "none") != 0)
        return FAIL(CONFIG, "%s: reshape_activations is '%s', which osae cannot run; wanted 'none'",
                    path, reshape);
    char dtype[32];
    if (nested && !json_object_get(whole, "dtype"))
        return FAIL(DAMAGED, "%s: dtype is missing, wanted 'float32' or alike", path);
    TRY(text_of(dtype, sizeof dtype, whole, "dtype", "float32", path));
    const char *bare = strncmp(dtype, "torch.", 6) == 0 ? dtype + 6 : dtype;
    if (strcmp(bare, "float32") != 0 && strcmp(bare, "float64") != 0 &&
        strcmp(bare, "float16") != 0 && strcmp(bare, "bfloat16") != 0)
        return FAIL(DAMAGED, "%s: dtype is '%s', wanted float32, float64, float16 or bfloat16",
                    path, dtype);
    TRY(bool_of(&card->apply_b_dec_to_input, whole, "apply_b_dec_to_input", true, path));
    return STATUS_OK;
}

static enum status
architecture(struct card *card, const json_t *whole, bool nested, const char *path)
{
    char name[64];
    if (nested && !json_object_get(whole, "architecture"))
        return FAIL(DAMAGED, "%s: architecture is missing, wanted 'standard', 'topk' or 'jumprelu'",
                    path);
    TRY(text_of(name, sizeof name, whole, "architecture", "standard", path));
    const json_t *from = whole;
    if (!nested) { // topk was an activation function of `standard`
        char function[64];
        const char *key =
            json_object_get(whole, "activation_fn") ? "activation_fn" : "activation_fn_str";
        TRY(text_of(function, sizeof function, whole, key, "relu", path));
        if (strcmp(function, "topk") == 0) {
            snprintf(name, sizeof name, "topk");
            from = json_object_get(whole, "activation_fn_kwargs");
        } else if (strcmp(function, "relu") != 0)
            return FAIL(CONFIG,
                        "%s: activation_fn is '%s', which osae cannot run; wanted 'relu' or "
                        "'topk'",
                        path, function);
    }
    if (strcmp(name, "standard") == 0)
        card->arch = ARCH_RELU;
    else if (strcmp(name, "jumprelu") == 0)
        card->arch = ARCH_JUMPRELU;
    else if (strcmp(name, "topk") == 0)
        card->arch = ARCH_TOPK;
    else
        return FAIL(CONFIG,
                    "%s: architecture is '%s', which osae cannot run; wanted 'standard', "
                    "'topk' or 'jumprelu'",
                    path, name);
    snprintf(card->architecture, sizeof card->architecture, "%s", name);
    if (card->arch == ARCH_TOPK) {
        TRY(size_of(&card->topk, from, "k", card->latents, path));
        TRY(bool_of(&card->rescale_by_decoder, whole, "rescale_acts_by_decoder_norm", false, path));
    }
    return STATUS_OK;
}

// The first object that has the key: metadata in the new format, the top level in the old one.
// SAELens drops the metadata of a file without version; we keep what it says.
static const json_t *
home_of(const json_t *whole, const char *key)
{
    const json_t *metadata = json_object_get(whole, "metadata");
    return json_object_get(metadata, key) ? metadata : whole;
}

static enum status
origin(struct card *card, const json_t *whole, const char *path)
{
    TRY(text_of(card->model_name, sizeof card->model_name, home_of(whole, "model_name"),
                "model_name", "", path));
    TRY(text_of(card->model_class_name, sizeof card->model_class_name,
                home_of(whole, "model_class_name"), "model_class_name", "HookedTransformer", path));
    const json_t *home = home_of(whole, "hook_name");
    bool renamed = !json_object_get(home, "hook_name");
    TRY(text_of(card->hook_name, sizeof card->hook_name, home, renamed ? "hook_point" : "hook_name",
                "", path));
    card->layer = layer_of(card->hook_name);
    TRY(text_of(card->dataset_path, sizeof card->dataset_path, home_of(whole, "dataset_path"),
                "dataset_path", "", path));
    home = home_of(whole, "context_size");
    if (json_is_integer(json_object_get(home, "context_size")))
        TRY(size_of(&card->context, home, "context_size", 1 << 24, path));
    TRY(bool_of(&card->prepend_bos, home_of(whole, "prepend_bos"), "prepend_bos", true, path));
    return STATUS_OK;
}

static double
real_of(const json_t *from, const char *key)
{
    double value = json_number_value(json_object_get(from, key));
    return isfinite(value) ? value : 0;
}

static enum status
ours_of(struct card *card, const json_t *osae, const char *path)
{
    if (!json_is_object(osae))
        return STATUS_OK;
    card->ours = true;
    TRY(text_of(card->version, sizeof card->version, osae, "version", "", path));
    TRY(text_of(card->architecture, sizeof card->architecture, osae, "architecture",
                card->architecture, path));
    TRY(text_of(card->run, sizeof card->run, osae, "run", "", path));
    TRY(text_of(card->stream, sizeof card->stream, osae, "stream", "", path));
    TRY(text_of(card->config, sizeof card->config, osae, "config", "", path));
    json_int_t step = json_integer_value(json_object_get(osae, "step"));
    json_int_t tokens = json_integer_value(json_object_get(osae, "tokens"));
    json_int_t k = json_integer_value(json_object_get(osae, "k"));
    card->step = step > 0 ? (uint64_t)step : 0;
    card->tokens = tokens > 0 ? (uint64_t)tokens : 0;
    if (card->topk == 0 && k > 0)
        card->topk = (uint64_t)k;
    card->lambda_s = real_of(osae, "lambda_s");
    card->lambda_o = real_of(osae, "lambda_o");
    card->lambda_t = real_of(osae, "lambda_t");
    card->threshold = real_of(osae, "threshold");
    return STATUS_OK;
}

static enum status
card_of(struct card *card, const json_t *whole, const char *path)
{
    if (!json_is_object(whole))
        return FAIL(DAMAGED, "%s: wanted a JSON object", path);
    bool nested = nested_format(whole);
    TRY(size_of(&card->width, whole, "d_in", WIDTH_MOST, path));
    TRY(size_of(&card->latents, whole, "d_sae", LATENTS_MOST, path));
    TRY(architecture(card, whole, nested, path));
    TRY(switches(card, whole, nested, path));
    TRY(origin(card, whole, path));
    TRY(ours_of(card, json_object_get(json_object_get(whole, "metadata"), "osae"), path));
    return STATUS_OK;
}

enum status
card_read(struct card *out, const char *text, size_t bytes, const char *path)
{
    json_error_t error;
    json_t *whole = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!whole)
        return FAIL(DAMAGED, "%s:%d: not JSON: %s", path, error.line, error.text);
    struct card card = {.layer = -1};
    enum status status = card_of(&card, whole, path);
    json_decref(whole);
    TRY(status);
    *out = card;
    return STATUS_OK;
}

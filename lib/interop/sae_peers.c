#include "lib/interop/sae_peers.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- small readers

static const char *
words_at(const json_t *from, const char *key)
{
    const char *text = json_string_value(json_object_get(from, key));
    return text ? text : "";
}

// A number of the card's file that must be what the weights say, where it is given.
static enum status
agrees(const json_t *from, const char *key, uint64_t value, const char *path)
{
    const json_t *at = json_object_get(from, key);
    if (at && !json_is_null(at) &&
        (!json_is_integer(at) || json_integer_value(at) != (json_int_t)value))
        return FAIL(DAMAGED, "%s: %s does not fit the weights, whose is %" PRIu64, path, key,
                    value);
    return STATUS_OK;
}

static void
hook(struct card *card, const char *name, int64_t layer)
{
    snprintf(card->hook_name, sizeof card->hook_name, "%s", name);
    card->layer = layer;
}

// "prefix" + digits + "suffix" -> the digits; -1 for anything else.
static int64_t
number_in(const char *text, const char *prefix, const char *suffix)
{
    size_t skip = strlen(prefix);
    if (strncmp(text, prefix, skip) != 0 || !isdigit((unsigned char)text[skip]))
        return -1;
    char *end;
    unsigned long value = strtoul(text + skip, &end, 10);
    return strcmp(end, suffix) == 0 && value < 100000 ? (int64_t)value : -1;
}

// The last component of a path that is a number between these; -1.
static int64_t
component(const char *path, const char *prefix, const char *suffix)
{
    char copy[PATH_BYTES], *left = copy;
    int64_t found = -1;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *part; (part = strsep(&left, "/")) != NULL;) {
        int64_t value = number_in(part, prefix, suffix);
        found = value >= 0 ? value : found;
    }
    return found;
}

// The four arrays by name; sizes from the encoder.
static enum status
take(struct sae_parts *parts, const char *w_enc, bool enc_turned, const char *b_enc,
     const char *w_dec, bool dec_turned, const char *b_dec)
{
    size_t shape[2] = {0, 0}, *d = &shape[enc_turned ? 0 : 1], *k = &shape[enc_turned ? 1 : 0];
    parts->enc_turned = enc_turned;
    parts->dec_turned = dec_turned;
    TRY(arrays_need(&parts->w_enc, &parts->arrays, w_enc, 2, shape));
    size_t turned[2] = {dec_turned ? *d : *k, dec_turned ? *k : *d};
    TRY(arrays_need(&parts->w_dec, &parts->arrays, w_dec, 2, turned));
    TRY(arrays_need(&parts->b_enc, &parts->arrays, b_enc, 1, (size_t[]){*k}));
    TRY(arrays_need(&parts->b_dec, &parts->arrays, b_dec, 1, (size_t[]){*d}));
    parts->card.latents = *k;
    parts->card.width = *d;
    return STATUS_OK;
}

static enum status
thresholds(struct sae_parts *parts, const char *name)
{
    return arrays_need(&parts->threshold, &parts->arrays, name, 1,
                       (size_t[]){(size_t)parts->card.latents});
}

static enum status
top(struct sae_parts *parts, double k, const char *path)
{
    if (!(k >= 1 && k <= (double)parts->card.latents) || k != floor(k))
        return FAIL(DAMAGED, "%s: k is %g, wanted 1 to %" PRIu64, path, k, parts->card.latents);
    parts->card.topk = (uint64_t)k;
    return STATUS_OK;
}

// ---------------------------------------------------------------- dictionary_learning

enum form { FORM_AUTOENCODER, FORM_NEW, FORM_TOPK, FORM_BATCHTOPK, FORM_MATRYOSHKA, FORM_JUMPRELU };

static const struct form_row {
    const char *name;
    enum arch arch;
    bool linear; // torch's: encoder.weight [k x d], decoder.weight [d x k]; else W_enc [d x k]
    const char *b_dec; // its decoder bias
    bool pre_bias;     // the encoder sees x - b_dec
} forms[] = {
    [FORM_AUTOENCODER] = {"AutoEncoder", ARCH_RELU, true, "bias", true},
    [FORM_NEW] = {"AutoEncoderNew", ARCH_RELU, true, "decoder.bias", false},
    [FORM_TOPK] = {"AutoEncoderTopK", ARCH_TOPK, true, "b_dec", true},
    [FORM_BATCHTOPK] = {"BatchTopKSAE", ARCH_JUMPRELU, true, "b_dec", true},
    [FORM_MATRYOSHKA] = {"MatryoshkaBatchTopKSAE", ARCH_JUMPRELU, false, "b_dec", true},
    [FORM_JUMPRELU] = {"JumpReluAutoEncoder", ARCH_JUMPRELU, false, "b_dec", false},
};
enum { FORMS = sizeof forms / sizeof forms[0] };

enum status
sae_peer_dictionary_learning(struct sae_parts *parts, const struct sae_folder *folder)
{
    const json_t *trainer = json_object_get(parts->json, "trainer");
    const char *name = words_at(trainer, "dict_class");
    struct card *card = &parts->card;
    size_t form = 0;
    while (form < FORMS && strcmp(forms[form].name, name) != 0)
        form++;
    if (form == FORMS)
        return FAIL(CONFIG,
                    "%s: trainer.dict_class is '%.60s', which osae cannot run; wanted AutoEncoder, "
                    "AutoEncoderNew, AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE or "
                    "JumpReluAutoEncoder",
                    folder->card, name);
    const struct form_row *row = &forms[form];
    if (row->linear)
        TRY(take(parts, "encoder.weight", false, "encoder.bias", "decoder.weight", true,
                 row->b_dec));
    else
        TRY(take(parts, "W_enc", true, "b_enc", "W_dec", false, row->b_dec));
    TRY(agrees(trainer, "activation_dim", card->width, folder->card));
    TRY(agrees(trainer, "dict_size", card->latents, folder->card));
    card->arch = row->arch;
    card->apply_b_dec_to_input = row->pre_bias;
    snprintf(card->architecture, sizeof card->architecture, "%s",
             form == FORM_BATCHTOPK || form == FORM_MATRYOSHKA ? "batchtopk"
                                                               : card_true_name(row->arch, 0));
    double value;
    if (form == FORM_TOPK) {
        if (!array_scalar(&value, arrays_find(&parts->arrays, "k")))
            value = json_number_value(json_object_get(trainer, "k"));
        TRY(top(parts, value, folder->weights));
    } else if (form == FORM_JUMPRELU) {
        TRY(thresholds(parts, "threshold"));
    } else if (row->arch == ARCH_JUMPRELU) {
        if (!array_scalar(&value, arrays_find(&parts->arrays, "threshold")) || !isfinite(value))
            return FAIL(DAMAGED, "%s: threshold is missing, wanted one number", folder->weights);
        parts->running = value; // -1: not set, all that is above 0 fires
        if (array_scalar(&value, arrays_find(&parts->arrays, "k")) && value >= 1 &&
            value <= (double)card->latents)
            card->topk = (uint64_t)value;
    }
    snprintf(card->model_name, sizeof card->model_name, "%s", words_at(trainer, "lm_name"));
    // "resid_post_layer_12"; where it is not said it is the residual stream
    const char *module = words_at(trainer, "submodule_name");
    const json_t *layer = json_object_get(trainer, "layer");
    bool stream = !module[0] || strstr(module, "resid_post");
    hook(card, module,
         stream && json_is_integer(layer) && json_integer_value(layer) >= 0
             ? json_integer_value(layer)
             : -1);
    json_int_t context =
        json_integer_value(json_object_get(json_object_get(parts->json, "buffer"), "ctx_len"));
    card->context = context > 0 ? (uint64_t)context : 0;
    return STATUS_OK;
}

// ---------------------------------------------------------------- sparsify

enum status
sae_peer_sparsify(struct sae_parts *parts, const struct sae_folder *folder)
{
    struct card *card = &parts->card;
    const char *activation = words_at(parts->json, "activation");
    if (activation[0] && strcmp(activation, "topk") != 0)
        return FAIL(CONFIG, "%s: activation is '%.40s', which osae cannot run; wanted 'topk'",
                    folder->card, activation);
    static const char *const switches[] = {"transcode", "skip_connection"};
    for (size_t i = 0; i < 2; i++)
        if (json_is_true(json_object_get(parts->json, switches[i])))
            return FAIL(CONFIG, "%s: %s is true: a transcoder is no SAE", folder->card,
                        switches[i]);
    TRY(take(parts, "encoder.weight", false, "encoder.bias", "W_dec", false, "b_dec"));
    TRY(agrees(parts->json, "d_in", card->width, folder->card));
    if (json_integer_value(json_object_get(parts->json, "num_latents")) > 0)
        TRY(agrees(parts->json, "num_latents", card->latents, folder->card));
    card->arch = ARCH_TOPK;
    card->apply_b_dec_to_input = true;
    snprintf(card->architecture, sizeof card->architecture, "topk");
    TRY(top(parts, json_number_value(json_object_get(parts->json, "k")), folder->card));
    // The folder is called after the module: layers.12, also layers.12/seed0 and model.layers.12
    char whole[PATH_BYTES];
    if (!realpath(folder->path, whole))
        snprintf(whole, sizeof whole, "%s", folder->path);
    int64_t layer = component(whole, "layers.", "");
    layer = layer >= 0 ? layer : component(whole, "model.layers.", "");
    char name[64] = "";
    if (layer >= 0)
        snprintf(name, sizeof name, "layers.%" PRId64, layer);
    hook(card, name, layer);
    return STATUS_OK;
}

// ---------------------------------------------------------------- Gemma Scope

static enum status
gemma(struct sae_parts *parts, const char *b_enc)
{
    bool small = arrays_find(&parts->arrays, "w_enc") != NULL;
    parts->card.arch = ARCH_JUMPRELU;
    parts->card.apply_b_dec_to_input = false;
    snprintf(parts->card.architecture, sizeof parts->card.architecture, "jumprelu");
    TRY(take(parts, small ? "w_enc" : "W_enc", true, b_enc, small ? "w_dec" : "W_dec", false,
             "b_dec"));
    return thresholds(parts, "threshold");
}

// .../gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82/params.npz; the -mlp and -att ones are
// of other places.
enum status
sae_peer_gemma_scope(struct sae_parts *parts, const struct sae_folder *folder)
{
    TRY(gemma(parts, "b_enc"));
    char whole[PATH_BYTES], name[64] = "";
    if (!realpath(folder->path, whole))
        snprintf(whole, sizeof whole, "%s", folder->path);
    bool elsewhere = strstr(whole, "-mlp") || strstr(whole, "-att");
    int64_t layer = elsewhere ? -1 : component(whole, "layer_", "");
    if (layer >= 0)
        snprintf(name, sizeof name, "blocks.%" PRId64 ".hook_resid_post", layer);
    hook(&parts->card, elsewhere ? "no residual stream" : name, layer);
    parts->card.context = 1024;
    return STATUS_OK;
}

enum status
sae_peer_gemma_scope_2(struct sae_parts *parts, const struct sae_folder *folder)
{
    const char *architecture = words_at(parts->json, "architecture");
    if (strcmp(architecture, "jump_relu") != 0)
        return FAIL(CONFIG,
                    "%s: architecture is '%.40s', which osae cannot run; wanted 'jump_relu'",
                    folder->card, architecture);
    const char *in = words_at(parts->json, "hf_hook_point_in"),
               *out = words_at(parts->json, "hf_hook_point_out");
    if (json_is_true(json_object_get(parts->json, "affine_connection")) ||
        (out[0] && strcmp(in, out) != 0))
        return FAIL(CONFIG, "%s: from '%.60s' to '%.60s': a transcoder is no SAE", folder->card, in,
                    out);
    TRY(gemma(parts, "b_enc"));
    int64_t layer = number_in(in, "model.layers.", ".output");
    layer = layer >= 0 ? layer : number_in(in, "model.layers.", "");
    hook(&parts->card, in, layer);
    snprintf(parts->card.model_name, sizeof parts->card.model_name, "%s",
             words_at(parts->json, "model_name"));
    return STATUS_OK;
}

// ---------------------------------------------------------------- parts and whole

enum status
sae_parts_open(struct sae_parts *out, sae_peer_read *read, const struct sae_folder *folder)
{
    enum { MOST = 16 << 20 };
    struct sae_parts parts = {.card = {.layer = -1, .prepend_bos = true}, .running = -1};
    enum status status;
    char *text = NULL;
    if (folder->card[0]) {
        size_t bytes;
        json_error_t error;
        GOTRY(file_read(&text, &bytes, folder->card, MOST));
        parts.json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
        if (!parts.json)
            GOTRY(FAIL(DAMAGED, "%s:%d: not JSON: %s", folder->card, error.line, error.text));
        if (!json_is_object(parts.json))
            GOTRY(FAIL(DAMAGED, "%s: wanted a JSON object", folder->card));
    }
    GOTRY(arrays_open(&parts.arrays, folder->weights));
    GOTRY(read(&parts, folder));
done:
    free(text);
    if (status != STATUS_OK)
        sae_parts_close(&parts);
    else
        *out = parts;
    return status;
}

void
sae_parts_close(struct sae_parts *parts)
{
    arrays_close(&parts->arrays);
    json_decref(parts->json);
    parts->json = NULL;
}

enum status
sae_parts_build(struct saelens *out, const struct sae_parts *parts, const char *where,
                size_t rows_most, const struct kern *kern)
{
    enum status status;
    struct saelens saelens = {.card = parts->card};
    size_t k = (size_t)parts->card.latents;
    const struct recipe_sae set = {
        .arch = parts->card.arch,
        .latents = k,
        .topk = parts->card.arch == ARCH_TOPK ? (size_t)parts->card.topk : 1,
        .bandwidth = 0.001,
        .pre_bias = parts->card.apply_b_dec_to_input,
    };
    // The weights are in the file, so what this takes is in proportion to it.
    GOTRY(sae_new(&saelens.sae, &set, (size_t)parts->card.width, rows_most, kern));
    GOTRY(arrays_f32(sae_param(saelens.sae, SAE_W_ENC).at, &parts->arrays, parts->w_enc,
                     parts->enc_turned));
    GOTRY(arrays_f32(sae_param(saelens.sae, SAE_B_ENC).at, &parts->arrays, parts->b_enc, false));
    GOTRY(arrays_f32(sae_param(saelens.sae, SAE_W_DEC).at, &parts->arrays, parts->w_dec,
                     parts->dec_turned));
    GOTRY(arrays_f32(sae_param(saelens.sae, SAE_B_DEC).at, &parts->arrays, parts->b_dec, false));
    float *tau = sae_param(saelens.sae, SAE_THRESHOLD).at;
    if (parts->threshold)
        GOTRY(arrays_f32(tau, &parts->arrays, parts->threshold, false));
    for (size_t i = 0; parts->card.arch == ARCH_JUMPRELU && i < k; i++) {
        float value = parts->threshold ? tau[i] : (float)parts->running;
        tau[i] = value > 0 ? value : 0; // as relu has it
    }
    GOTRY(saelens_unit_rows(&saelens, where));
done:
    if (status != STATUS_OK)
        saelens_close(&saelens);
    else
        *out = saelens;
    return status;
}

// The architecture of a Hugging Face folder: config.json. A key that is absent has the default of
// its family's class in transformers, because that is what writing the file left out.
#include "lib/lm/arch.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

struct config {
    const char *path;
    json_t *root;
};

static enum status
number(double *out, const struct config *c, const json_t *of, const char *key)
{
    const json_t *value = json_object_get(of, key);
    if (!json_is_number(value) || !isfinite(json_number_value(value)))
        return FAIL(DAMAGED, "%s: %s is not a number", c->path, key);
    *out = json_number_value(value);
    return STATUS_OK;
}

static bool
given(const json_t *of, const char *key)
{
    const json_t *value = json_object_get(of, key);
    return value && !json_is_null(value);
}

static enum status
number_or(double *out, const struct config *c, const char *key, double absent)
{
    *out = absent;
    return given(c->root, key) ? number(out, c, c->root, key) : STATUS_OK;
}

static enum status
size(size_t *out, const struct config *c, const char *key)
{
    const json_t *value = json_object_get(c->root, key);
    if (!value)
        return FAIL(DAMAGED, "%s: has no %s", c->path, key);
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > ARCH_SIZE_MOST)
        return FAIL(DAMAGED, "%s: %s is %.15g, wanted a whole number from 1 to %d", c->path, key,
                    json_number_value(value), ARCH_SIZE_MOST);
    *out = (size_t)json_integer_value(value);
    return STATUS_OK;
}

static enum status
size_or(size_t *out, const struct config *c, const char *key, size_t absent)
{
    *out = absent;
    return given(c->root, key) ? size(out, c, key) : STATUS_OK;
}

static enum status
flag_or(bool *out, const struct config *c, const char *key, bool absent)
{
    *out = absent;
    if (!given(c->root, key))
        return STATUS_OK;
    const json_t *value = json_object_get(c->root, key);
    if (!json_is_boolean(value))
        return FAIL(DAMAGED, "%s: %s is neither true nor false", c->path, key);
    *out = json_is_true(value);
    return STATUS_OK;
}

static enum status
activation(enum activation *out, const struct config *c, const char *key, const char *absent)
{
    static const struct {
        const char *name;
        enum activation is;
    } known[] = {
        {"silu", ACT_SILU},          {"swish", ACT_SILU},    {"gelu_pytorch_tanh", ACT_GELU_TANH},
        {"gelu_new", ACT_GELU_TANH}, {"gelu", ACT_GELU_ERF},
    };
    const json_t *value = json_object_get(c->root, key);
    const char *name = given(c->root, key) ? json_string_value(value) : absent;
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].is;
            return STATUS_OK;
        }
    return FAIL(DAMAGED, "%s: %s is '%.60s', wanted silu, gelu_pytorch_tanh, gelu_new or gelu",
                c->path, key, name ? name : "no text");
}

// theta and the share of each head that turns: at the top of older files, in rope_parameters since
// transformers 5. Scaled rope is refused by name, wherever it stands.
static enum status
rope(struct arch *a, const struct config *c, const char *theta_key, const char *share_key,
     double share_absent)
{
    static const char *const holders[] = {"rope_scaling", "rope_parameters"};
    const json_t *parameters = json_object_get(c->root, "rope_parameters");
    double share = share_absent;
    for (size_t i = 0; i < 2; i++) {
        if (!given(c->root, holders[i]))
            continue;
        const json_t *holder = json_object_get(c->root, holders[i]);
        if (!json_is_object(holder))
            return FAIL(DAMAGED, "%s: %s is not an object", c->path, holders[i]);
        const json_t *type = json_object_get(holder, "rope_type");
        type = type ? type : json_object_get(holder, "type");
        const char *name = json_string_value(type);
        if (!name || strcmp(name, "default") != 0)
            return FAIL(DAMAGED, "%s: %s of type '%.60s' is not supported, only 'default'", c->path,
                        holders[i], name ? name : "none");
    }
    if (share_key)
        TRY(number_or(&share, c, share_key, share));
    TRY(number_or(&a->theta, c, theta_key, 10000));
    if (given(c->root, "rope_parameters")) {
        if (given(parameters, "rope_theta"))
            TRY(number(&a->theta, c, parameters, "rope_theta"));
        if (given(parameters, "partial_rotary_factor"))
            TRY(number(&share, c, parameters, "partial_rotary_factor"));
    }
    if (!(share > 0 && share <= 1))
        return FAIL(DAMAGED, "%s: rope turns %g of a head, wanted above 0 and at most 1", c->path,
                    share);
    a->rotary = (size_t)((double)a->head_dim * share);
    return STATUS_OK;
}

// Which blocks have the sliding window: layer_types, or what `absent` says of block i.
static enum status
sliding(struct arch *a, const struct config *c, size_t first, size_t every)
{
    const json_t *types = json_object_get(c->root, "layer_types");
    if (!given(c->root, "layer_types")) {
        for (size_t i = 0; i < a->layers; i++)
            a->sliding[i] = i >= first && (i - first) % every == 0;
        return STATUS_OK;
    }
    if (json_array_size(types) != a->layers)
        return FAIL(DAMAGED, "%s: layer_types has %zu entries, wanted %zu", c->path,
                    json_array_size(types), a->layers);
    for (size_t i = 0; i < a->layers; i++) {
        const char *name = json_string_value(json_array_get(types, i));
        bool slides = name && strcmp(name, "sliding_attention") == 0;
        if (!slides && !(name && strcmp(name, "full_attention") == 0))
            return FAIL(DAMAGED,
                        "%s: layer_types[%zu] is '%.60s', wanted sliding_attention or "
                        "full_attention",
                        c->path, i, name ? name : "no text");
        a->sliding[i] = slides;
    }
    return STATUS_OK;
}

static enum status
sizes(struct arch *a, const struct config *c)
{
    TRY(size(&a->width, c, "hidden_size"));
    TRY(size(&a->layers, c, "num_hidden_layers"));
    if (a->layers > ARCH_LAYERS_MOST)
        return FAIL(DAMAGED, "%s: num_hidden_layers is %zu, wanted at most %d", c->path, a->layers,
                    ARCH_LAYERS_MOST);
    TRY(size(&a->heads, c, "num_attention_heads"));
    TRY(size(&a->ffn, c, "intermediate_size"));
    TRY(size(&a->vocab, c, "vocab_size"));
    return size_or(&a->positions, c, "max_position_embeddings", 2048);
}

// llama, qwen2, qwen3, gemma2.
static enum status
rms_family(struct arch *a, const struct config *c)
{
    bool gemma = a->family == FAMILY_GEMMA2, qwen2 = a->family == FAMILY_QWEN2;
    bool qwen3 = a->family == FAMILY_QWEN3;
    TRY(sizes(a, c));
    TRY(size_or(&a->kv_heads, c, "num_key_value_heads", a->heads));
    TRY(size_or(&a->head_dim, c, "head_dim", gemma ? 256 : qwen3 ? 128 : a->width / a->heads));
    TRY(number_or(&a->eps, c, "rms_norm_eps", 1e-6));
    TRY(rope(a, c, "rope_theta", NULL, 1));
    TRY(flag_or(&a->tied, c, "tie_word_embeddings", gemma));
    bool bias = qwen2;
    if (!qwen2)
        TRY(flag_or(&bias, c, "attention_bias", false));
    a->bias_qkv = bias;
    a->bias_out = bias && !qwen2;
    if (a->family == FAMILY_LLAMA)
        TRY(flag_or(&a->bias_mlp, c, "mlp_bias", false));
    a->gated = true;
    a->qk_norm = qwen3;
    a->attention_scale = 1 / sqrt((double)a->head_dim);
    if (gemma) {
        double scalar;
        TRY(number_or(&scalar, c, "query_pre_attn_scalar", 256));
        a->attention_scale = scalar > 0 ? 1 / sqrt(scalar) : 0;
        a->post_norms = true;
        a->embed_scale = sqrt((double)a->width);
        // null switches a cap off; absent is the family's default
        a->attention_cap = json_object_get(c->root, "attn_logit_softcapping") ? 0 : 50;
        a->final_cap = json_object_get(c->root, "final_logit_softcapping") ? 0 : 30;
        TRY(number_or(&a->attention_cap, c, "attn_logit_softcapping", a->attention_cap));
        TRY(number_or(&a->final_cap, c, "final_logit_softcapping", a->final_cap));
        TRY(size_or(&a->window, c, "sliding_window", 4096));
        TRY(sliding(a, c, 0, 2));
        bool both_ways;
        TRY(flag_or(&both_ways, c, "use_bidirectional_attention", false));
        if (both_ways)
            return FAIL(DAMAGED, "%s: use_bidirectional_attention is not supported", c->path);
        const char *key = given(c->root, "hidden_activation") ? "hidden_activation" : "hidden_act";
        return activation(&a->activation, c, key, "gelu_pytorch_tanh");
    }
    if (qwen2 || qwen3) {
        bool slides;
        TRY(flag_or(&slides, c, "use_sliding_window", false));
        if (slides) {
            size_t first;
            TRY(size_or(&a->window, c, "sliding_window", 4096));
            TRY(size_or(&first, c, "max_window_layers", 28));
            TRY(sliding(a, c, first, 1));
        }
    }
    return activation(&a->activation, c, "hidden_act", "silu");
}

static enum status
gpt2(struct arch *a, const struct config *c)
{
    TRY(size(&a->width, c, "n_embd"));
    TRY(size(&a->layers, c, "n_layer"));
    TRY(size(&a->heads, c, "n_head"));
    TRY(size(&a->vocab, c, "vocab_size"));
    TRY(size_or(&a->positions, c, "n_positions", 1024));
    TRY(size_or(&a->ffn, c, "n_inner", 4 * a->width));
    TRY(number_or(&a->eps, c, "layer_norm_epsilon", 1e-5));
    TRY(activation(&a->activation, c, "activation_function", "gelu_new"));
    TRY(flag_or(&a->tied, c, "tie_word_embeddings", true));
    bool scaled, by_layer;
    TRY(flag_or(&scaled, c, "scale_attn_weights", true));
    TRY(flag_or(&by_layer, c, "scale_attn_by_inverse_layer_idx", false));
    if (!scaled || by_layer)
        return FAIL(DAMAGED, "%s: %s is not supported", c->path,
                    scaled ? "scale_attn_by_inverse_layer_idx" : "scale_attn_weights: false");
    a->kv_heads = a->heads;
    a->head_dim = a->width / a->heads;
    a->attention_scale = 1 / sqrt((double)a->head_dim);
    a->layer_norm = a->learned_positions = true;
    a->bias_qkv = a->bias_out = a->bias_mlp = true;
    return STATUS_OK;
}

static enum status
neox(struct arch *a, const struct config *c)
{
    TRY(sizes(a, c));
    a->kv_heads = a->heads;
    a->head_dim = a->width / a->heads;
    TRY(number_or(&a->eps, c, "layer_norm_eps", 1e-5));
    TRY(rope(a, c, "rotary_emb_base", "rotary_pct", 0.25));
    TRY(activation(&a->activation, c, "hidden_act", "gelu"));
    TRY(flag_or(&a->parallel, c, "use_parallel_residual", true));
    TRY(flag_or(&a->tied, c, "tie_word_embeddings", false));
    bool bias;
    TRY(flag_or(&bias, c, "attention_bias", true));
    a->attention_scale = 1 / sqrt((double)a->head_dim);
    a->layer_norm = a->bias_mlp = true;
    a->bias_qkv = a->bias_out = bias;
    return STATUS_OK;
}

static enum status
family(struct arch *a, const struct config *c)
{
    static const char *const names[] = {
#define F(name, hf, gguf) hf,
        FAMILY_LIST(F)
#undef F
    };
    const char *type = json_string_value(json_object_get(c->root, "model_type"));
    if (!type)
        return FAIL(DAMAGED, "%s: has no model_type", c->path);
    for (size_t i = 0; i < FAMILY_COUNT; i++)
        if (strcmp(type, names[i]) == 0) {
            a->family = (enum family)i;
            if (given(c->root, "quantization_config"))
                return FAIL(DAMAGED, "%s: quantization_config is not supported", c->path);
            return STATUS_OK;
        }
    return FAIL(DAMAGED,
                "%s: model_type '%.60s' is not supported; these are: llama, gemma2, qwen2, qwen3, "
                "gpt2, gpt_neox",
                c->path, type);
}

enum status
arch_from_config(struct arch *out, const char *path, const char *text, size_t bytes)
{
    json_error_t error;
    struct config c = {path, json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error)};
    *out = (struct arch){.embed_scale = 1};
    if (!json_is_object(c.root)) {
        json_decref(c.root);
        return FAIL(DAMAGED, "%s: line %d: %s", path, error.line,
                    c.root ? "not an object" : error.text);
    }
    enum status status = family(out, &c);
    if (status == STATUS_OK)
        status = out->family == FAMILY_GPT2   ? gpt2(out, &c)
                 : out->family == FAMILY_NEOX ? neox(out, &c)
                                              : rms_family(out, &c);
    if (status == STATUS_OK)
        status = arch_check(out, path);
    json_decref(c.root);
    return status;
}

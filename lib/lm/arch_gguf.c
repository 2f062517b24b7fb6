// The architecture of a GGUF: its metadata, keys `A.name` with A = general.architecture.
#include "lib/lm/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct source {
    const struct gguf *file;
    const char *prefix; // A
};

static const char *
key_of(char out[96], const struct source *s, const char *name)
{
    snprintf(out, 96, "%s.%s", s->prefix, name);
    return out;
}

// Absent: *out stays as it is, *found says so.
static enum status
size_if(bool *found, size_t *out, const struct source *s, const char *name)
{
    char key[96];
    uint64_t value = 0;
    TRY(gguf_u64(found, &value, s->file, key_of(key, s, name)));
    if (!*found)
        return STATUS_OK;
    if (value > ARCH_SIZE_MOST)
        return FAIL(DAMAGED, "%s: %s is %llu, wanted at most %d", gguf_path(s->file), key,
                    (unsigned long long)value, ARCH_SIZE_MOST);
    *out = (size_t)value;
    return STATUS_OK;
}

static enum status
size(size_t *out, const struct source *s, const char *name)
{
    bool found;
    TRY(size_if(&found, out, s, name));
    if (!found)
        return FAIL(DAMAGED, "%s: has no %s.%s", gguf_path(s->file), s->prefix, name);
    return STATUS_OK;
}

static enum status
number_if(bool *found, double *out, const struct source *s, const char *name)
{
    char key[96];
    double value = 0;
    TRY(gguf_f64(found, &value, s->file, key_of(key, s, name)));
    if (*found && !isfinite(value))
        return FAIL(DAMAGED, "%s: %s is not finite", gguf_path(s->file), key);
    if (*found)
        *out = value;
    return STATUS_OK;
}

static enum status
refuse_extras(const struct source *s)
{
    static const char *const counts[] = {"expert_count", "expert_used_count",
                                         "rope.scaling.original_context_length"};
    const char *path = gguf_path(s->file);
    char key[96];
    bool found;
    struct gguf_text type;
    TRY(gguf_string(&found, &type, s->file, key_of(key, s, "rope.scaling.type")));
    if (found && !(type.bytes == 4 && memcmp(type.at, "none", 4) == 0))
        return FAIL(DAMAGED, "%s: %s is '%.*s', wanted none", path, key,
                    (int)(type.bytes < 60 ? type.bytes : 60), type.at);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t value = 0;
        TRY(size_if(&found, &value, s, counts[i]));
        if (value > 0)
            return FAIL(DAMAGED, "%s: %s.%s is not supported", path, s->prefix, counts[i]);
    }
    double factor = 0;
    TRY(number_if(&found, &factor, s, "rope.scaling.factor"));
    if (found && factor != 0 && factor != 1)
        return FAIL(DAMAGED, "%s: %s.rope.scaling.factor is %g: scaled rope is not supported", path,
                    s->prefix, factor);
    if (gguf_find(s->file, "rope_freqs.weight"))
        return FAIL(DAMAGED, "%s: tensor 'rope_freqs.weight': scaled rope is not supported", path);
    return STATUS_OK;
}

static enum status
gemma2(struct arch *a, const struct source *s)
{
    bool found;
    double scalar = 0;
    a->post_norms = true;
    a->activation = ACT_GELU_TANH;
    a->embed_scale = sqrt((double)a->width);
    a->attention_cap = 50;
    a->final_cap = 30;
    a->window = 4096;
    TRY(number_if(&found, &a->attention_cap, s, "attn_logit_softcapping"));
    TRY(number_if(&found, &a->final_cap, s, "final_logit_softcapping"));
    TRY(size_if(&found, &a->window, s, "attention.sliding_window"));
    // The format has no key for the scale; llama.cpp goes by the size. A file of our own may say.
    TRY(number_if(&found, &scalar, s, "query_pre_attn_scalar"));
    if (!found)
        scalar = (double)(a->layers == 46 ? a->width / a->heads : a->head_dim);
    a->attention_scale = scalar > 0 ? 1 / sqrt(scalar) : 0;
    for (size_t i = 0; i < a->layers && i < ARCH_LAYERS_MOST; i++)
        a->sliding[i] = i % 2 == 0 && a->window > 0;
    return STATUS_OK;
}

static enum status
family(struct arch *a, struct source *s)
{
    static const char *const names[] = {
#define F(name, hf, gguf) gguf,
        FAMILY_LIST(F)
#undef F
    };
    struct gguf_text type;
    bool found;
    TRY(gguf_string(&found, &type, s->file, "general.architecture"));
    if (!found)
        return FAIL(DAMAGED, "%s: has no general.architecture", gguf_path(s->file));
    for (size_t i = 0; i < FAMILY_COUNT; i++)
        if (type.bytes == strlen(names[i]) && memcmp(type.at, names[i], type.bytes) == 0) {
            a->family = (enum family)i;
            s->prefix = names[i];
            return STATUS_OK;
        }
    return FAIL(DAMAGED,
                "%s: general.architecture '%.*s' is not supported; these are: llama, gemma2, "
                "qwen2, qwen3, gpt2, gptneox",
                gguf_path(s->file), (int)(type.bytes < 60 ? type.bytes : 60), type.at);
}

enum status
arch_from_gguf(struct arch *out, const struct gguf *file)
{
    struct arch *a = out;
    struct source s = {file, NULL};
    bool found;
    *a = (struct arch){.embed_scale = 1, .theta = 10000};
    TRY(family(a, &s));
    TRY(refuse_extras(&s));
    TRY(size(&a->layers, &s, "block_count"));
    TRY(size(&a->positions, &s, "context_length"));
    TRY(size(&a->width, &s, "embedding_length"));
    TRY(size(&a->ffn, &s, "feed_forward_length"));
    TRY(size(&a->heads, &s, "attention.head_count"));
    if (a->heads == 0 || a->layers > ARCH_LAYERS_MOST)
        return FAIL(DAMAGED, "%s: %zu heads and %zu blocks, wanted 1 or more and at most %d",
                    gguf_path(file), a->heads, a->layers, ARCH_LAYERS_MOST);
    a->kv_heads = a->heads;
    TRY(size_if(&found, &a->kv_heads, &s, "attention.head_count_kv"));
    a->head_dim = a->width / a->heads;
    TRY(size_if(&found, &a->head_dim, &s, "attention.key_length"));
    size_t value_length = a->head_dim;
    TRY(size_if(&found, &value_length, &s, "attention.value_length"));
    if (value_length != a->head_dim)
        return FAIL(DAMAGED, "%s: keys of %zu and values of %zu, wanted one width", gguf_path(file),
                    a->head_dim, value_length);
    // The vocabulary is the embedding's rows: a converter may pad them beyond the tokens.
    const struct gguf_tensor *embed = gguf_find(file, "token_embd.weight");
    if (!embed || embed->rank != 2)
        return FAIL(DAMAGED, "%s: has no matrix 'token_embd.weight'", gguf_path(file));
    a->vocab = embed->shape[0];

    a->layer_norm = a->family == FAMILY_GPT2 || a->family == FAMILY_NEOX;
    a->learned_positions = a->family == FAMILY_GPT2;
    a->qk_norm = a->family == FAMILY_QWEN3;
    a->gated = !a->layer_norm;
    a->activation = a->family == FAMILY_GPT2   ? ACT_GELU_TANH
                    : a->family == FAMILY_NEOX ? ACT_GELU_ERF
                                               : ACT_SILU;
    const char *eps =
        a->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    TRY(number_if(&found, &a->eps, &s, eps));
    if (!found)
        return FAIL(DAMAGED, "%s: has no %s.%s", gguf_path(file), s.prefix, eps);
    TRY(number_if(&found, &a->theta, &s, "rope.freq_base"));
    a->rotary = a->learned_positions ? 0 : a->head_dim;
    if (!a->learned_positions)
        TRY(size_if(&found, &a->rotary, &s, "rope.dimension_count"));
    if (a->family == FAMILY_NEOX) {
        char key[96];
        a->parallel = true;
        bool parallel = true;
        TRY(gguf_bool(&found, &parallel, file, key_of(key, &s, "use_parallel_residual")));
        a->parallel = !found || parallel;
    }
    a->attention_scale = a->head_dim ? 1 / sqrt((double)a->head_dim) : 0;
    if (a->family == FAMILY_GEMMA2)
        TRY(gemma2(a, &s));
    return arch_check(a, gguf_path(file));
}

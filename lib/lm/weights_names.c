#include "lib/lm/weights_names.h"

#include <stdio.h>
#include <string.h>

enum naming { NAMING_LLAMA, NAMING_GEMMA, NAMING_GPT2, NAMING_NEOX, NAMING_GGUF, NAMING_COUNT };

static const char *const block_prefix[NAMING_COUNT] = {
    "model.layers.", "model.layers.", "h.", "gpt_neox.layers.", "blk.",
};

#define SAME "=" // as in the column of llama

// clang-format off
static const char *const names[ROLE_COUNT][NAMING_COUNT] = {
    //                       llama, qwen2, qwen3               gemma2                              gpt2                gpt_neox                              GGUF
    [ROLE_EMBED]           = {"model.embed_tokens.weight",     SAME,                               "wte.weight",       "gpt_neox.embed_in.weight",           "token_embd.weight"},
    [ROLE_POSITIONS]       = {NULL,                            NULL,                               "wpe.weight",       NULL,                                 "position_embd.weight"},
    [ROLE_FINAL_NORM]      = {"model.norm.weight",             SAME,                               "ln_f.weight",      "gpt_neox.final_layer_norm.weight",   "output_norm.weight"},
    [ROLE_FINAL_NORM_BIAS] = {NULL,                            NULL,                               "ln_f.bias",        "gpt_neox.final_layer_norm.bias",     "output_norm.bias"},
    [ROLE_HEAD]            = {"lm_head.weight",                SAME,                               "lm_head.weight",   "embed_out.weight",                   "output.weight"},
    [ROLE_ATTN_NORM]       = {"input_layernorm.weight",        SAME,                               "ln_1.weight",      "input_layernorm.weight",             "attn_norm.weight"},
    [ROLE_ATTN_NORM_BIAS]  = {NULL,                            NULL,                               "ln_1.bias",        "input_layernorm.bias",               "attn_norm.bias"},
    [ROLE_Q]               = {"self_attn.q_proj.weight",       SAME,                               "attn.c_attn.weight", "attention.query_key_value.weight", "attn_q.weight"},
    [ROLE_K]               = {"self_attn.k_proj.weight",       SAME,                               "attn.c_attn.weight", "attention.query_key_value.weight", "attn_k.weight"},
    [ROLE_V]               = {"self_attn.v_proj.weight",       SAME,                               "attn.c_attn.weight", "attention.query_key_value.weight", "attn_v.weight"},
    [ROLE_OUT]             = {"self_attn.o_proj.weight",       SAME,                               "attn.c_proj.weight", "attention.dense.weight",           "attn_output.weight"},
    [ROLE_Q_BIAS]          = {"self_attn.q_proj.bias",         SAME,                               "attn.c_attn.bias", "attention.query_key_value.bias",     "attn_q.bias"},
    [ROLE_K_BIAS]          = {"self_attn.k_proj.bias",         SAME,                               "attn.c_attn.bias", "attention.query_key_value.bias",     "attn_k.bias"},
    [ROLE_V_BIAS]          = {"self_attn.v_proj.bias",         SAME,                               "attn.c_attn.bias", "attention.query_key_value.bias",     "attn_v.bias"},
    [ROLE_OUT_BIAS]        = {"self_attn.o_proj.bias",         SAME,                               "attn.c_proj.bias", "attention.dense.bias",               "attn_output.bias"},
    [ROLE_Q_NORM]          = {"self_attn.q_norm.weight",       NULL,                               NULL,               NULL,                                 "attn_q_norm.weight"},
    [ROLE_K_NORM]          = {"self_attn.k_norm.weight",       NULL,                               NULL,               NULL,                                 "attn_k_norm.weight"},
    [ROLE_ATTN_POST_NORM]  = {NULL,                            "post_attention_layernorm.weight",  NULL,               NULL,                                 "post_attention_norm.weight"},
    [ROLE_MLP_NORM]        = {"post_attention_layernorm.weight", "pre_feedforward_layernorm.weight", "ln_2.weight",    "post_attention_layernorm.weight",    "ffn_norm.weight"},
    [ROLE_MLP_NORM_BIAS]   = {NULL,                            NULL,                               "ln_2.bias",        "post_attention_layernorm.bias",      "ffn_norm.bias"},
    [ROLE_GATE]            = {"mlp.gate_proj.weight",          SAME,                               NULL,               NULL,                                 "ffn_gate.weight"},
    [ROLE_UP]              = {"mlp.up_proj.weight",            SAME,                               "mlp.c_fc.weight",  "mlp.dense_h_to_4h.weight",           "ffn_up.weight"},
    [ROLE_DOWN]            = {"mlp.down_proj.weight",          SAME,                               "mlp.c_proj.weight", "mlp.dense_4h_to_h.weight",          "ffn_down.weight"},
    [ROLE_GATE_BIAS]       = {"mlp.gate_proj.bias",            SAME,                               NULL,               NULL,                                 "ffn_gate.bias"},
    [ROLE_UP_BIAS]         = {"mlp.up_proj.bias",              SAME,                               "mlp.c_fc.bias",    "mlp.dense_h_to_4h.bias",             "ffn_up.bias"},
    [ROLE_DOWN_BIAS]       = {"mlp.down_proj.bias",            SAME,                               "mlp.c_proj.bias",  "mlp.dense_4h_to_h.bias",             "ffn_down.bias"},
    [ROLE_MLP_POST_NORM]   = {NULL,                            "post_feedforward_layernorm.weight", NULL,              NULL,                                 "post_ffw_norm.weight"},
};
// clang-format on

static const bool per_block[ROLE_COUNT] = {
#define R(name, in_block) in_block,
    ROLE_LIST(R)
#undef R
};

static bool
is_qkv(enum role role)
{
    return (role >= ROLE_Q && role <= ROLE_V) || (role >= ROLE_Q_BIAS && role <= ROLE_V_BIAS);
}

static enum stored
stored_as(enum naming naming, enum family family, enum role role)
{
    bool fused = family == FAMILY_GPT2 || family == FAMILY_NEOX;
    bool matrix = (role >= ROLE_Q && role <= ROLE_OUT) || (role >= ROLE_GATE && role <= ROLE_DOWN);
    if (naming == NAMING_GPT2)
        return is_qkv(role) ? (matrix ? STORED_THIRDS_T : STORED_THIRDS)
               : matrix     ? STORED_TRANSPOSED
                            : STORED_PLAIN;
    if (naming == NAMING_NEOX && is_qkv(role))
        return STORED_BY_HEAD;
    if (naming == NAMING_GGUF && fused && is_qkv(role))
        return STORED_THIRDS;
    bool turned = role == ROLE_Q || role == ROLE_K || role == ROLE_Q_BIAS || role == ROLE_K_BIAS;
    if (naming == NAMING_GGUF && family == FAMILY_LLAMA && turned)
        return STORED_ROPE_PAIRS;
    return STORED_PLAIN;
}

static bool
is_norm(enum role role)
{
    return role == ROLE_FINAL_NORM || role == ROLE_ATTN_NORM || role == ROLE_ATTN_POST_NORM ||
           role == ROLE_MLP_NORM || role == ROLE_MLP_POST_NORM;
}

bool
place_of(struct place *out, const struct arch *arch, bool gguf, const char *prefix, enum role role,
         size_t layer)
{
    enum naming naming = gguf                            ? NAMING_GGUF
                         : arch->family == FAMILY_GEMMA2 ? NAMING_GEMMA
                         : arch->family == FAMILY_GPT2   ? NAMING_GPT2
                         : arch->family == FAMILY_NEOX   ? NAMING_NEOX
                                                         : NAMING_LLAMA;
    const char *name = names[role][naming];
    if (name && strcmp(name, SAME) == 0)
        name = names[role][NAMING_LLAMA];
    if (!name)
        return false;
    *out = (struct place){.stored = stored_as(naming, arch->family, role),
                          .one_plus = naming == NAMING_GEMMA && is_norm(role)};
    if (naming == NAMING_GGUF && out->stored == STORED_THIRDS)
        name = role >= ROLE_Q_BIAS ? "attn_qkv.bias" : "attn_qkv.weight";
    if (per_block[role])
        snprintf(out->name, sizeof out->name, "%s%s%zu.%s", prefix, block_prefix[naming], layer,
                 name);
    else // GPT-2's head stands outside the prefix
        snprintf(out->name, sizeof out->name, "%s%s", role == ROLE_HEAD ? "" : prefix, name);
    return true;
}

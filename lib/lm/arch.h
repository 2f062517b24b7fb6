// arch: an architecture as numbers and switches, read from a model's own description and checked.
// One graph serves all families (docs/models.md): what differs between them is here, and nothing
// else may.
#ifndef LIB_LM_ARCH_H
#define LIB_LM_ARCH_H

#include "lib/base/status.h"
#include "lib/store/gguf.h"

#include <stdbool.h>
#include <stddef.h>

// What config.json or a GGUF may ask for at most. The real bound is the file's tensors: each must
// be there in full before anything is allocated.
enum { ARCH_LAYERS_MOST = 1024, ARCH_SIZE_MOST = 1 << 24 };

// model_type of config.json, general.architecture of GGUF
#define FAMILY_LIST(F)                                                                             \
    F(LLAMA, "llama", "llama")                                                                     \
    F(GEMMA2, "gemma2", "gemma2")                                                                  \
    F(QWEN2, "qwen2", "qwen2")                                                                     \
    F(QWEN3, "qwen3", "qwen3")                                                                     \
    F(GPT2, "gpt2", "gpt2")                                                                        \
    F(NEOX, "gpt_neox", "gptneox")

enum family {
#define F(name, hf, gguf) FAMILY_##name,
    FAMILY_LIST(F)
#undef F
        FAMILY_COUNT
};

enum activation { ACT_SILU, ACT_GELU_TANH, ACT_GELU_ERF };

struct arch {
    enum family family;
    size_t layers, width, heads, kv_heads, head_dim, ffn, vocab;
    size_t positions;       // the longest context; of the learned table when there is one
    bool layer_norm;        // LayerNorm with weight and bias, else RMSNorm
    double eps;             // of every norm
    bool post_norms;        // each branch is normalised again before the residual add
    bool parallel;          // both branches read the same residual
    bool qk_norm;           // RMSNorm over head_dim on q and k before rope
    bool learned_positions; // a table added to the embedding; then rotary is 0
    size_t rotary;          // leading dimensions of each head that rotate, even
    double theta;
    double attention_scale;
    double attention_cap, final_cap; // softcaps, 0: none
    size_t window;                   // of sliding blocks: keys t - window < j <= t
    bool gated;                      // down(act(gate) * up), else down(act(up))
    enum activation activation;
    double embed_scale;
    bool tied; // the head is the embedding
    bool bias_qkv, bias_out, bias_mlp;
    bool sliding[ARCH_LAYERS_MOST];
};

// From the text of config.json; `path` is its file, for messages. Families other than those of
// FAMILY_LIST, scaled rope, quantised weights and unknown switches are refused by name.
CHECKED enum status arch_from_config(struct arch *out, const char *path, const char *text,
                                     size_t bytes);
// From the metadata of a GGUF. Biases are not there: the caller knows them from the tensors.
CHECKED enum status arch_from_gguf(struct arch *out, const struct gguf *file);

const char *family_name(enum family family); // as config.json has it

// Sizes that must agree with each other, whatever the source.
CHECKED enum status arch_check(const struct arch *arch, const char *path);

#endif

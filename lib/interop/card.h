// card: the cfg.json of a SAELens folder, out and in: what an SAE is, which model and hook it is
// of, and, under metadata.osae, what our own run knows. Knows no tensors (saelens.h).
// SAELens 6 takes a file without metadata.sae_lens_version >= 6.0.0 for the old flat format and
// drops its metadata in silence; we always write one, and read both formats.
#ifndef LIB_INTEROP_CARD_H
#define LIB_INTEROP_CARD_H

#include "lib/base/status.h"
#include "lib/sae/recipe.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CARD_TEXT = 512 };

struct card {
    // the SAE
    enum arch arch;            // as computed at inference: BatchTopK's is jumprelu there
    uint64_t width, latents;   // d, k
    uint64_t topk;             // topk; batchtopk: what it was trained with; else 0
    bool apply_b_dec_to_input; // pre_bias
    bool rescale_by_decoder;   // topk: select by z |w_i| and decode f / |w_i|; reading only
    bool normalised;           // reading: says expected_average_only_in, so may be unfolded
    // what it is of
    char model_name[CARD_TEXT];
    char model_class_name[64]; // "HookedTransformer", or "AutoModelForCausalLM"
    char hook_name[CARD_TEXT]; // "blocks.12.hook_resid_post", or the module's path in HF
    int64_t layer;             // the block whose output it reads; -1: another place, or unknown
    char dataset_path[CARD_TEXT];
    uint64_t context; // 0: unknown
    bool prepend_bos;
    // metadata.osae; empty or 0 in others' files
    bool ours;
    char version[32];      // of osae
    char architecture[64]; // the true name: "orthogonal", "batchtopk", ...
    char run[CARD_TEXT], stream[33], config[33];
    uint64_t step, tokens;
    double lambda_s, lambda_o, lambda_t, threshold; // threshold: batchtopk's running one
};

// "standard", "topk", "batchtopk", "jumprelu", and with lambda_o > 0 "orthogonal",
// "topk-orthogonal", ...: what card.architecture should say.
const char *card_true_name(enum arch arch, double lambda_o);

// Fills model_class_name, hook_name and layer for the output of block `layer`. Models that
// TransformerLens does not know (SmolLM2) are AutoModelForCausalLM, and their hooks module paths.
void card_hook(struct card *card, uint64_t layer, bool transformer_lens);

// The JSON text, NUL-terminated, strict, with the keys in SAELens' order; the caller frees it.
// card->arch may be any: batchtopk is written as jumprelu.
CHECKED enum status card_write(char **text, const struct card *card);

// Reads the text of a cfg.json; `path` is for messages. DAMAGED: not JSON, a key missing or out of
// range. CONFIG: well-formed, but an architecture or switch we cannot run (named).
CHECKED enum status card_read(struct card *out, const char *text, size_t bytes, const char *path);

#endif

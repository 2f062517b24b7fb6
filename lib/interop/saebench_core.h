// saebench_core: result files of the core evaluation, out and in, and the one table of the numbers
// in them: SAEBench's numbers under SAEBench's names, and beside them the ones of ours that repair
// them.
#ifndef LIB_INTEROP_SAEBENCH_CORE_H
#define LIB_INTEROP_SAEBENCH_CORE_H

#include "lib/interop/saebench.h"

#include <stddef.h>

// Every number of the core evaluation, once, in the order of the file. A number that is undefined
// (a mean over nothing, a division by zero) is NaN here, -1 and a line of `undefined` in the file.
// N(category, key, unit, better, doc)
// clang-format off
#define CORE_LIST(N)                                                                               \
    N(model_behavior_preservation, kl_div_score, "share", HIGHER,                                  \
      "(KL_abl - KL_sae) / KL_abl: how much of the predictions survives the SAE")                  \
    N(model_behavior_preservation, kl_div_with_ablation, "nats", CONTEXT,                          \
      "mean KL(original | stream zeroed at the hook)")                                             \
    N(model_behavior_preservation, kl_div_with_sae, "nats", LOWER,                                 \
      "mean KL(original | stream replaced by the reconstruction)")                                 \
    N(model_performance_preservation, ce_loss_score, "share", HIGHER,                              \
      "(CE_abl - CE_sae) / (CE_abl - CE_none): how much of the model's skill survives")            \
    N(model_performance_preservation, ce_loss_with_ablation, "nats", CONTEXT,                      \
      "mean next-token loss with the stream zeroed at the hook")                                   \
    N(model_performance_preservation, ce_loss_with_sae, "nats", LOWER,                             \
      "mean next-token loss with the reconstruction at the hook")                                  \
    N(model_performance_preservation, ce_loss_without_sae, "nats", CONTEXT,                        \
      "mean next-token loss of the model itself")                                                  \
    N(reconstruction_quality, explained_variance, "share", HIGHER,                                 \
      "SAEBench's formula, neither centred nor of one unit; see explained_variance_centered")      \
    N(reconstruction_quality, explained_variance_legacy, "share", HIGHER,                          \
      "mean over tokens of 1 - |x - xhat|^2 / |x - batch mean|^2; the one SAEBench's paper shows") \
    N(reconstruction_quality, mse, "squared norm / tokens", LOWER,                                 \
      "SAEBench's: mean squared error norm divided once more by the batch's tokens; see mse_sum")  \
    N(reconstruction_quality, cossim, "share", HIGHER, "mean cosine of x and xhat")                \
    N(shrinkage, l2_norm_in, "norm", CONTEXT, "mean |x|")                                          \
    N(shrinkage, l2_norm_out, "norm", CONTEXT, "mean |xhat|")                                      \
    N(shrinkage, l2_ratio, "ratio", TO_ONE, "mean |xhat| / |x|")                                   \
    N(shrinkage, relative_reconstruction_bias, "ratio", TO_ONE,                                    \
      "mean over batches of mean |xhat|^2 / mean x.xhat")                                          \
    N(sparsity, l0, "latents", CONTEXT, "mean number of latents that are not zero on a token")     \
    N(sparsity, l1, "activation", CONTEXT, "mean sum of the activations of a token")               \
    N(token_stats, total_tokens_eval_reconstruction, "tokens", CONTEXT,                            \
      "tokens of the windows behind the KL and CE numbers, special ones included")                 \
    N(token_stats, total_tokens_eval_sparsity_variance, "tokens", CONTEXT,                         \
      "tokens of the windows behind all other numbers, special ones included")                     \
    N(misc_metrics, freq_over_1_percent, "share", CONTEXT,                                         \
      "share of the latents that fire on more than 1 % of the tokens")                             \
    N(misc_metrics, freq_over_10_percent, "share", LOWER,                                          \
      "share of the latents that fire on more than 10 % of the tokens")                            \
    N(misc_metrics, normalized_freq_over_1_percent, "share", CONTEXT,                              \
      "share of all firings that belong to latents above 1 %")                                     \
    N(misc_metrics, normalized_freq_over_10_percent, "share", LOWER,                               \
      "share of all firings that belong to latents above 10 %")                                    \
    N(misc_metrics, average_max_encoder_cosine_sim, "cosine", LOWER,                               \
      "mean over latents of the largest cosine of its encoder row with another's")                 \
    N(misc_metrics, average_max_decoder_cosine_sim, "cosine", LOWER,                               \
      "mean over latents of the largest cosine of its decoder row with another's")                 \
    N(misc_metrics, frac_alive, "share", HIGHER, "share of the latents that fired at all")         \
    N(osae, mse_sum, "squared norm", LOWER, "mean |x - xhat|^2: the paper's eq. (2)")              \
    N(osae, mse_mean, "squared activation", LOWER, "mse_sum / d: mean over the elements")          \
    N(osae, fvu, "share", LOWER, "sum |x - xhat|^2 / sum |x - mean|^2 over all tokens at once")    \
    N(osae, explained_variance_centered, "share", HIGHER, "1 - fvu")                               \
    N(osae, error_norm_mean, "norm", LOWER, "mean |x - xhat|")                                     \
    N(osae, error_norm_median, "norm", LOWER, "median |x - xhat|: what a few huge tokens leave alone") \
    N(osae, dead_latents, "latents", LOWER, "latents that never fired on the tokens looked at")    \
    N(osae, dense_latents, "latents", LOWER, "latents that fired on more than 10 % of them")       \
    N(osae, tokens_kl, "tokens", CONTEXT, "tokens in the means of the KL numbers")                 \
    N(osae, tokens_ce, "tokens", CONTEXT, "tokens in the means of the CE numbers")                 \
    N(osae, tokens_variance, "tokens", CONTEXT,                                                    \
      "tokens behind all other numbers; `dead` means silent on these")
// clang-format on

enum core_better { CORE_LOWER, CORE_HIGHER, CORE_TO_ONE, CORE_CONTEXT };

struct core {
#define N(category, key, unit, better, doc) double key;
    CORE_LIST(N)
#undef N
};

struct core_row {
    const char *category, *key, *unit;
    enum core_better better;
    const char *doc;
    size_t offset;
};
enum {
#define N(category, key, unit, better, doc) CORE_AT_##key,
    CORE_LIST(N)
#undef N
        CORE_COUNT
};
extern const struct core_row core_rows[CORE_COUNT];
double core_number(const struct core *core, size_t row);
void core_undefined(struct core *core); // every number NaN

// What is told of each latent, SAEBench's eval_result_details. NaN: undefined.
struct latent_detail {
    double feature_density;                 // firings / tokens
    double consistent_activation_heuristic; // firings / windows in which it fired
    double encoder_bias, encoder_norm;
    double encoder_decoder_cosine_sim;
    double max_decoder_cosine_sim, max_encoder_cosine_sim; // with any other latent
};

// Latents by density: `dead` never fired, counts[b] have log10(density) in
// [-6 + b/10, -6 + (b+1)/10); rarer ones are in the first bin, density 1 in the last.
enum { DENSITY_BINS = 60 };
struct density_histogram {
    uint64_t dead, counts[DENSITY_BINS];
};

// All of a core file but the details.
struct core_file {
    struct saebench_head head;
    struct core core;
    struct density_histogram histogram;
    // eval_config
    char dataset[SAEBENCH_TEXT];
    uint64_t batch_contexts, core_batches, variance_batches, context;
    bool exclude_special;
    // sae_cfg_dict
    bool apply_b_dec_to_input, prepend_bos;
};

// Makes the folder, replaces the file in one rename. details [head.latents], or NULL: an empty
// list.
CHECKED enum status saebench_core_write(const char *path, const struct core_file *file,
                                        const struct latent_detail *details);
// DAMAGED unless it is a whole core file; ours or SAEBench's own (then what only ours has is NaN,
// 0 or empty). The details are not read. On failure *out is undefined.
CHECKED enum status saebench_core_read(struct core_file *out, const char *path);

#endif

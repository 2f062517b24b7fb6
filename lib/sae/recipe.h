// recipe: everything that decides the numbers of a training run, except the stream of batches.
// Plain structs, one per section of the configuration, with its key names. Reals are doubles here
// and rounded to fp32 once, at the start. docs/maths.md says what each option means and why its
// default is what it is; recipe_paper() holds the paper's values.
//
// Choices are ints that hold the enum named beside them; NAME_names are their words, in the order
// of the enum, NULL at the end.
#ifndef LIB_SAE_RECIPE_H
#define LIB_SAE_RECIPE_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// sigma of eq. (1).
enum arch {
    ARCH_RELU,      // max(z, 0)
    ARCH_TOPK,      // the topk largest of relu(z) in each row
    ARCH_BATCHTOPK, // the B topk largest of relu(z) in the batch; at inference z > a running
                    // threshold
    ARCH_JUMPRELU,  // z where z > tau_i, a threshold per latent
};
enum threshold {     // how JumpReLU's threshold is kept
    THRESHOLD_VALUE, // tau itself, clamped at 0 after each step
    THRESHOLD_LOG,   // log tau
};
enum normalize {
    NORMALIZE_NONE,
    NORMALIZE_MEAN_NORM_SQRT_D, // train on s x with s = sqrt(d) / mean_b |x_b| of batch 0
};
enum unit_norm {       // rows brought back to norm 1 after each step
    UNIT_NORM_BOTH,    // of W_e and W_d
    UNIT_NORM_DECODER, // of W_d
    UNIT_NORM_OFF,     // none after the start
};
enum b_dec_init { // b_d before step 0, from batch 0 (as scaled by `normalize`)
    B_DEC_ZERO,
    B_DEC_MEAN,
    B_DEC_MEDIAN, // geometric median
};
struct recipe_sae {
    int arch;              // enum arch
    size_t latents;        // k, 1 ..
    size_t topk;           // 1 .. latents
    double bandwidth;      // jumprelu: of the straight-through estimators, > 0
    int threshold;         // enum threshold
    double threshold_init; // jumprelu: tau at the start; 0: 0.01
    bool pre_bias;         // encode x - b_d instead of x
    int normalize;         // enum normalize
    int unit_norm;         // enum unit_norm
    bool tie_init;         // W_e = W_d at the start
    int b_dec_init;        // enum b_dec_init
    uint64_t seed;         // of the initial weights
};

enum sparsity {         // the second term of eq. (4), times alpha(t) lambda_s
    SPARSITY_AUTO,      // relu: l1; jumprelu: l0; topk and batchtopk: no such term
    SPARSITY_L1,        // mean_b |f_b|_1
    SPARSITY_L0,        // mean_b |f_b|_0, jumprelu only (straight-through)
    SPARSITY_TARGET_L0, // (L0 / target_l0 - 1)^2, jumprelu only
    SPARSITY_TANH,      // mean_b sum_i tanh(4 f_bi); rows of W_d must be unit
};
struct recipe_loss {
    double lambda_s; // >= 0
    double lambda_o; // >= 0; 0: no competition term
    double lambda_t; // >= 0; 0: no temporal term
    int sparsity;    // enum sparsity
    double target_l0;
};

struct recipe_curriculum {
    bool enabled;                  // false: alpha 1, theta = theta_end, every term on from step 0
    uint64_t recon_end;            // t1, steps
    uint64_t sparsity_end;         // t2 >= t1, steps
    double theta_start, theta_end; // cosines, 0 .. 1
    uint64_t theta_steps;          // T
};

enum gradient {
    GRADIENT_DETACHED, // c_ij is a constant of the step
    GRADIENT_THROUGH,  // c_ij is differentiated as well
};
struct recipe_competition {
    int gradient; // enum gradient
    uint64_t
        every; // the term enters every so many steps (0 reads as 1), then `every` times as heavy
};

enum pairing {
    PAIRING_STEP,     // t - 1 is the training step before: row b with row b
    PAIRING_POSITION, // t - 1 is the token before, in the row above, where the batch says so
};
struct recipe_temporal {
    int pairing; // enum pairing
};

struct recipe_optimiser {
    double lr;           // > 0
    double threshold_lr; // of JumpReLU's thresholds; 0: max(lr, 1e-3), see docs/maths.md
    double beta1, beta2, eps;
    double clip;            // global gradient norm; 0: off
    uint64_t warmup, decay; // steps
};

enum precision {
    PRECISION_F32,
};

struct recipe {
    struct recipe_sae sae;
    struct recipe_loss loss;
    struct recipe_curriculum curriculum;
    struct recipe_competition competition;
    struct recipe_temporal temporal;
    struct recipe_optimiser optimiser;
    size_t width;        // d
    size_t rows;         // B, of every batch
    uint64_t steps;      // of the whole run
    int precision;       // enum precision
    uint64_t dead_after; // tokens; 0: a tenth of the run, at most 10 M

    // Densities (share of f that is active) below which lists are faster than products.
    // 0: the break-even measured by bench/step; above 1: always; negative: never. Both sides of
    // the border compute the same thing up to rounding; the bits of a run depend on them.
    double lists_below;  // decode and gradients
    double rivals_below; // competition
};

extern const char *const arch_names[], *const threshold_names[], *const normalize_names[];
extern const char *const unit_norm_names[], *const b_dec_init_names[], *const sparsity_names[];
extern const char *const gradient_names[], *const pairing_names[], *const precision_names[];

// The paper's setting: d 2304, k 16384, B 2048, 2441 steps and its coefficients.
struct recipe recipe_paper(void);

// Every range, and what must fit together. CONFIG with "where: sae.topk is 50, ...".
CHECKED enum status recipe_check(const struct recipe *recipe, const char *where);

// `sparsity: auto`, `threshold_lr: auto`, `dead_after: auto` made definite.
enum sparsity recipe_sparsity(const struct recipe *recipe); // SPARSITY_AUTO: no such term
double recipe_threshold_lr(const struct recipe *recipe);
uint64_t recipe_dead_after(const struct recipe *recipe);

#endif

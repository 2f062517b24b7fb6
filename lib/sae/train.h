// train: one run of training, step by step: the paper's algorithm box. Everything it needs is taken
// by train_new; a step allocates nothing.
//
//     struct train *train;
//     TRY(train_new(&train, &recipe, kern));
//     while (train_steps(train) < recipe.steps)
//         TRY(train_step(train, &log, x, NULL));
//
// A run is a function of (recipe, batches, backend): the same bits whatever the threads, and the
// same after train_state was saved, restored and train_restored.
#ifndef LIB_SAE_TRAIN_H
#define LIB_SAE_TRAIN_H

#include "lib/sae/curriculum.h"
#include "lib/sae/sae.h"
#include "lib/sae/state.h"

// What a step found, before its update. Sums over features are means over the batch.
struct step_log {
    uint64_t step;      // t, from 0
    double loss;        // all terms
    double mse_sum;     // mean_b |x_b - xhat_b|^2 (of the scaled x): eq. (2)
    double sparsity;    // second term of eq. (4) as it enters the loss, with alpha lambda_s
    double competition; // third term of eq. (4) as it enters the loss, with lambda_o
    double temporal;    // eq. (7), with lambda_t
    double l1, l0;      // mean_b |f_b|_1 and |f_b|_0
    double pairs;       // unordered pairs with c_ij > theta; 0 when the term was not computed
    double alpha, theta;
    double grad_norm;          // of all parameters, before clipping
    double lr;                 // of this step
    double lambda_s, lambda_o; // as train_set may have changed them
    double spread;             // sum_b |x_b - mean x|^2, of the scaled x
    double fvu;                // sum_b |x_b - xhat_b|^2 / spread
    double least;              // batchtopk: the least value kept; else 0
    uint64_t dead;             // latents silent for dead_after tokens, this batch counted
    bool competing;
    bool listed;        // decode and gradients went along lists
    bool rivals_listed; // the competition term too
};

struct train;

// Checks the recipe (CONFIG), takes all memory (CREATE when there is none) and starts the weights.
// `kern` is borrowed and must outlive the train.
CHECKED enum status train_new(struct train **out, const struct recipe *recipe,
                              const struct kern *kern);
void train_free(struct train **train); // NULL is fine

// The memory train_new takes: one line per holder, and their sum (SIZE_MAX on overflow).
struct holding {
    const char *name; // "weights", "moments", ...
    size_t bytes;
};
enum { TRAIN_HOLDINGS = 12 };
size_t train_memory(struct holding out[TRAIN_HOLDINGS], size_t *count, const struct recipe *recipe,
                    const struct kern *kern);

// One step on batch number train_steps(): x [B x d], raw, borrowed for the call and not changed.
// `follows`: with temporal.pairing position, bit b (byte b / 8, low bit first) says that row b - 1
// is the token just before row b in the same context; NULL otherwise.
// A batch with a NaN or infinity is DAMAGED, a loss or gradient that is not finite is INTERNAL;
// both name step and term, leave weights, moments and counters as they were, and the same step may
// be tried again. `log` (may be NULL) is filled as far as it was known.
CHECKED enum status train_step(struct train *train, struct step_log *log, struct mat x,
                               const unsigned char *follows);

uint64_t train_steps(const struct train *train); // done so far: the number of the next batch
struct sae *train_sae(struct train *train);      // the weights; ours
const struct recipe *train_recipe(const struct train *train);
// s of `normalize`: the SAE is of s x. 1 when off or before step 0.
double train_scale(const struct train *train);
// Tokens since each latent last fired, [k].
const int64_t *train_silence(const struct train *train);

// The gradient of the last step, before clipping, in the shape of sae_param. For tests and curious
// subscribers; valid until the next step.
struct mat train_gradient(const struct train *train, enum sae_param param);
// The features of the last step, [B x k].
struct mat train_features(const struct train *train);

// The hot settings, from the next step on. CONFIG when out of range.
CHECKED enum status train_set(struct train *train, double lr, double lambda_s, double lambda_o);

// The complete state in two groups, at most STATE_TENSORS each; the number of tensors comes back.
//     train_weights: the parameters, sae_param_name, in our layout [k x d]
//     train_rest:    all else: "adam.v.NAME" (and "adam.m.NAME" unless beta1 = 0), "f_prev" when
//                    the next step needs it, "silence", "steps", "scale", "batchtopk_threshold",
//                    and again those parameters that a SAELens folder holds in another form:
//                    biases and threshold under `normalize`, "log_threshold"
// Restoring: train_new with the same recipe; set train_restore_steps first (the list depends on
// it), fill every tensor of both lists through `at`, then train_restored. DAMAGED when a value
// cannot be (not finite, negative counters).
size_t train_weights(struct train *train, struct state_tensor out[STATE_TENSORS]);
size_t train_rest(struct train *train, struct state_tensor out[STATE_TENSORS]);
void train_restore_steps(struct train *train, uint64_t steps);
CHECKED enum status train_restored(struct train *train, const char *where);

#endif

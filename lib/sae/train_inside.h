// train_inside: a run's memory, for the files that make up one step. Only lib/sae's own .c files
// include it.
#ifndef LIB_SAE_TRAIN_INSIDE_H
#define LIB_SAE_TRAIN_INSIDE_H

#include "lib/sae/train.h"

// Who holds memory. `train_memory` prints these lines, `train_new` takes exactly them.
#define SHELF_LIST(S)                                                                              \
    S(WEIGHTS, "weights")                                                                          \
    S(GRADIENTS, "gradients")                                                                      \
    S(MOMENTS, "moments of Adam")                                                                  \
    S(FEATURES, "features and their gradient")                                                     \
    S(BEFORE, "features of the step before")                                                       \
    S(BATCHES, "batch, residual")                                                                  \
    S(LISTS, "lists of active features")                                                           \
    S(COUNTERS, "counters")                                                                        \
    S(SCRATCH, "scratch of the kernels")
enum shelf {
#define S(shelf, name) SHELF_##shelf,
    SHELF_LIST(S)
#undef S
        SHELVES
};

struct train {
    struct recipe recipe;
    const struct kern *kern;

    // The complete state, with f_before: what train_weights and train_rest list.
    struct sae *sae;
    struct mat mean[SAE_PARAMS], square[SAE_PARAMS]; // Adam's moments m (beta1 > 0 only) and v
    int64_t steps;                                   // done
    double scale;                                    // s of `normalize`
    int64_t *silence;                                // [k] tokens since the latent last fired

    // What a step computes. B, d, k as everywhere.
    struct mat grad[SAE_PARAMS];
    struct mat target;   // [B x d] what is to be reconstructed: x, or s x
    struct mat input;    // [B x d] what the encoder sees: the target, or target - b_d
    struct mat scaled;   // memory of `target` with normalize
    struct mat centred;  // memory of `input` with pre_bias
    struct mat residual; // [B x d] xhat, then dL/dxhat
    struct mat z;        // [B x k] before sigma; jumprelu only, else f's memory
    struct mat f;        // [B x k]
    struct mat f_before; // [B x k] f of the step before; temporal term by step only
    struct mat gf;       // [B x k] dL/df, then dL/dz; scratch of the dense competition term
    struct mat spare;    // [k x B] competition through c only
    struct active active;
    const float *tau;     // jumprelu: thresholds of this step, [k]
    double *point, *next; // [d] scratch of start_b_dec
    struct scratch tmp;

    void *shelf[SHELVES];
};

// loss.c: everything of a step between the batch and the update. Fills `log` and t->grad.
void loss_measure(struct train *t, struct step_log *log, const unsigned char *follows);
// INTERNAL, naming the term, unless all of the loss is finite.
CHECKED enum status loss_sane(const struct step_log *log);

// competition.c: the third term of eq. (4). Decides before the gradient which way it will go, so
// that the gradient can go along.
enum way { WAY_NONE, WAY_DENSE, WAY_LISTS };
enum way competition_way(const struct train *t, const struct step_log *log);
// Adds dL/dW_d; with `through`, dL/df goes to gf (dense) or is added to the lists.
void competition_measure(struct train *t, struct step_log *log, enum way way);

// optimiser.c
void optimiser_norm(struct train *t, struct step_log *log);
void optimiser_step(struct train *t, const struct step_log *log);
double optimiser_lr(const struct recipe *recipe, uint64_t step, double lr);

// Does the step numbered `step` look at f of the step before?
bool train_needs_before(const struct train *t, uint64_t step);

#endif

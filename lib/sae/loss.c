// loss: eq. (2) and (4) as phased in by (5) and (6), plus (7), and the gradient of all of it.
//
// Two ways lead through: dense products, or lists of the active features where those are few. Both
// compute the same sums. dL/dx is never needed, and nothing is computed twice.
#include "lib/sae/train_inside.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

// Eq. (1): f = sigma(W_e x + b_e).
static void
encode(struct train *t, double *least)
{
    const struct kern *kern = t->kern;
    size_t topk = t->recipe.sae.topk;
    kern->encode(t->z, t->input, sae_param(t->sae, SAE_W_ENC), sae_param(t->sae, SAE_B_ENC).at);
    switch ((enum arch)t->recipe.sae.arch) {
    case ARCH_RELU:
        kern->relu(t->f, t->z);
        return;
    case ARCH_TOPK:
        kern->topk(t->f, t->z, topk, t->tmp);
        return;
    case ARCH_BATCHTOPK:
        *least = (double)kern->batchtopk(t->f, t->z, topk * t->f.rows, t->tmp);
        return;
    case ARCH_JUMPRELU:
        t->tau = sae_tau(t->sae);
        kern->jumprelu(t->f, t->z, t->tau);
        return;
    }
    assert(!"an architecture");
}

// The second term of eq. (4) in its forms: its value, and what it adds to dL/df or to the step.
static void
sparsity_measure(const struct train *t, struct step_log *log, struct pull *pull, struct jump *jump)
{
    double weight = log->alpha * t->recipe.loss.lambda_s, B = (double)t->f.rows;
    switch (recipe_sparsity(&t->recipe)) {
    case SPARSITY_AUTO:
        return;
    case SPARSITY_L1:
        log->sparsity = weight * log->l1;
        pull->l1 = (float)(weight / B);
        return;
    case SPARSITY_L0:
        log->sparsity = weight * log->l0;
        jump->step = (float)(weight / B);
        return;
    case SPARSITY_TARGET_L0: {
        double target = t->recipe.loss.target_l0, off = log->l0 / target - 1;
        log->sparsity = weight * off * off;
        jump->step = (float)(weight * 2 * off / target / B);
        return;
    }
    case SPARSITY_TANH:
        log->sparsity = weight > 0 ? weight * t->kern->tanh_sum(t->f) / B : 0;
        pull->tanh = (float)(weight / B);
        return;
    }
}

// Eq. (7), in either reading of t - 1.
static void
temporal_measure(const struct train *t, struct step_log *log, struct pull *pull,
                 const unsigned char *follows)
{
    double lambda = t->recipe.loss.lambda_t, B = (double)t->f.rows;
    bool by_step = t->recipe.temporal.pairing == PAIRING_STEP;
    if (!(lambda > 0) || !log->competing || (by_step && !train_needs_before(t, log->step)))
        return;
    assert(by_step || follows);
    pull->temporal = (float)(2 * lambda / B);
    pull->before = by_step ? t->f_before : t->f;
    pull->follows = by_step ? NULL : follows;
    log->temporal = lambda / B * t->kern->temporal(t->f, pull->before, pull->follows);
}

// Eq. (2) and dL/dW_d, dL/df of it, by products.
static void
dense_backward(struct train *t, struct step_log *log, const struct pull *pull,
               const struct jump *jump, enum way way)
{
    const struct kern *kern = t->kern;
    struct mat w_dec = sae_param(t->sae, SAE_W_DEC), e = t->residual, *grad = t->grad;
    kern->decode(e, t->f, w_dec, sae_param(t->sae, SAE_B_DEC).at);
    log->mse_sum = kern->residual(e, grad[SAE_B_DEC].at, e, t->target, 1);
    kern->weights(grad[SAE_W_DEC], t->f, e, false);
    competition_measure(t, log, way);
    bool through = way == WAY_DENSE && t->recipe.competition.gradient == GRADIENT_THROUGH;
    kern->features_back(t->gf, e, w_dec, through); // onto what came through c, if anything did
    kern->gate(t->gf, grad[SAE_B_ENC].at, t->f, *pull, jump);
    kern->weights(grad[SAE_W_ENC], t->gf, t->input, false);
}

// The same along lists.
static void
listed_backward(struct train *t, struct step_log *log, const struct pull *pull,
                const struct jump *jump, enum way way)
{
    const struct kern *kern = t->kern;
    struct mat w_dec = sae_param(t->sae, SAE_W_DEC), e = t->residual, *grad = t->grad;
    log->mse_sum = kern->reconstruct_active(&t->active, e, grad[SAE_B_DEC].at, t->target, w_dec,
                                            sae_param(t->sae, SAE_B_DEC).at, 1);
    kern->weights_active(grad[SAE_W_DEC], &t->active, t->active.value, e, false);
    competition_measure(t, log, way);
    kern->gate_active(&t->active, grad[SAE_B_ENC].at, t->f, *pull, jump);
    kern->weights_active(grad[SAE_W_ENC], &t->active, t->active.grad, t->input, false);
}

void
loss_measure(struct train *t, struct step_log *log, const unsigned char *follows)
{
    size_t B = t->f.rows;
    encode(t, &log->least);
    bool jumps = t->recipe.sae.arch == ARCH_JUMPRELU;
    struct jump jump = {.z = t->z,
                        .tau = t->tau,
                        .width = (float)t->recipe.sae.bandwidth,
                        .gtau = t->grad[SAE_THRESHOLD].at};
    t->kern->gather(&t->active, t->f, jumps ? &jump : NULL);
    log->l0 = (double)t->active.positive / (double)B;
    log->l1 = t->active.sum / (double)B;

    struct pull pull = {0};
    sparsity_measure(t, log, &pull, &jump);
    temporal_measure(t, log, &pull, follows);
    enum way way = competition_way(t, log);
    // What comes dense through c needs a dense dL/df to be added to.
    bool through = t->recipe.competition.gradient == GRADIENT_THROUGH && way == WAY_DENSE;
    log->listed = t->active.listed && !through;
    log->rivals_listed = way == WAY_LISTS;
    if (log->listed)
        listed_backward(t, log, &pull, jumps ? &jump : NULL, way);
    else
        dense_backward(t, log, &pull, jumps ? &jump : NULL, way);

    if (t->recipe.sae.pre_bias)
        t->kern->pre_bias_back(t->grad[SAE_B_DEC].at, t->grad[SAE_B_ENC].at,
                               sae_param(t->sae, SAE_W_ENC));
    if (jumps && t->recipe.sae.threshold == THRESHOLD_LOG)
        for (size_t i = 0; i < t->f.cols; i++)
            t->grad[SAE_THRESHOLD].at[i] *= t->tau[i];
    log->loss = log->mse_sum + log->sparsity + log->competition + log->temporal;
}

enum status
loss_sane(const struct step_log *log)
{
    const struct {
        const char *name;
        double value;
    } terms[] = {
        {"reconstruction", log->mse_sum},
        {"sparsity", log->sparsity},
        {"competition", log->competition},
        {"temporal", log->temporal},
        {"whole", log->loss},
        {"gradient", log->grad_norm},
    };
    for (size_t i = 0; i < sizeof terms / sizeof terms[0]; i++)
        if (!isfinite(terms[i].value))
            return FAIL(INTERNAL, "step %llu: the %s term is %g, wanted a finite number",
                        (unsigned long long)log->step, terms[i].name, terms[i].value);
    return STATUS_OK;
}

// optimiser: the global clip, Adam, the learning rate's schedule, unit rows.
#include "lib/sae/train_inside.h"

#include <math.h>

void
optimiser_norm(struct train *t, struct step_log *log)
{
    double square = 0;
    for (enum sae_param p = 0; p < SAE_PARAMS; p++)
        if (t->grad[p].rows)
            square += t->kern->square_sum(t->grad[p]);
    log->grad_norm = sqrt(square);
}

// lr (t + 1) / warmup while warming up; over the last `decay` steps lr times 1, 1 - 1/decay, ...
double
optimiser_lr(const struct recipe *r, uint64_t step, double lr)
{
    uint64_t warmup = r->optimiser.warmup, decay = r->optimiser.decay;
    double factor = 1;
    if (step < warmup)
        factor = (double)(step + 1) / (double)warmup;
    decay = decay < r->steps ? decay : r->steps;
    uint64_t from = r->steps - decay;
    if (decay && step >= from) {
        double share = (double)(step - from) / (double)decay;
        factor *= share < 1 ? 1 - share : 0;
    }
    return lr * factor;
}

void
optimiser_step(struct train *t, const struct step_log *log)
{
    const struct recipe_optimiser *set = &t->recipe.optimiser;
    double count = (double)(t->steps + 1);
    struct adam_rates rates = {
        .beta1 = set->beta1,
        .beta2 = set->beta2,
        .eps = set->eps,
        .scale = set->clip > 0 && log->grad_norm > set->clip ? set->clip / log->grad_norm : 1,
        .correction1 = 1 - pow(set->beta1, count),
        .correction2 = 1 - pow(set->beta2, count),
    };
    int unit = t->recipe.sae.unit_norm;
    for (enum sae_param p = 0; p < SAE_PARAMS; p++) {
        struct mat w = sae_param(t->sae, p);
        if (!w.rows)
            continue;
        rates.lr = p == SAE_THRESHOLD
                       ? optimiser_lr(&t->recipe, log->step, recipe_threshold_lr(&t->recipe))
                       : log->lr;
        bool unit_rows =
            (p == SAE_W_ENC && unit == UNIT_NORM_BOTH) || (p == SAE_W_DEC && unit != UNIT_NORM_OFF);
        t->kern->adam(w, t->mean[p], t->square[p], t->grad[p], rates, unit_rows);
    }
    struct mat threshold = sae_param(t->sae, SAE_THRESHOLD);
    if (t->recipe.sae.threshold == THRESHOLD_VALUE)
        for (size_t i = 0; i < threshold.cols; i++)
            threshold.at[i] = threshold.at[i] > 0 ? threshold.at[i] : 0;
}

// competition: when the third term of eq. (4) enters, and which way its kernel goes.
#include "lib/sae/train_inside.h"

#include <math.h>

// Co-activations cost the sum over rows of (active features)^2, tiles cost B k^2 whatever is
// active; this is the root of their ratio below which co-activations are faster. Measured (2 cores
// AVX2, d 576, k 4096, B 2048, TopK n): the term takes 0.37 s by lists and 0.95 s by tiles at
// n 400, 1.36 and 1.06 s at n 600; where every other pair is a rival the two meet earlier.
static const double measured_break_even = 0.08;

enum way
competition_way(const struct train *t, const struct step_log *log)
{
    uint64_t every = t->recipe.competition.every ? t->recipe.competition.every : 1;
    uint64_t begun = t->recipe.curriculum.enabled ? t->recipe.curriculum.sparsity_end : 0;
    if (!log->competing || !(t->recipe.loss.lambda_o > 0) || (log->step - begun) % every != 0)
        return WAY_NONE;
    double below = t->recipe.rivals_below;
    if (!(below < 0 || below > 0))
        below = measured_break_even;
    double density = sqrt(t->active.pairings / (double)t->f.rows) / (double)t->f.cols;
    return t->active.listed && density < below ? WAY_LISTS : WAY_DENSE;
}

void
competition_measure(struct train *t, struct step_log *log, enum way way)
{
    if (way == WAY_NONE)
        return;
    uint64_t every = t->recipe.competition.every ? t->recipe.competition.every : 1;
    const struct rivals rivals = {
        .f = t->f,
        .w = sae_param(t->sae, SAE_W_DEC),
        .theta = (float)log->theta,
        .weight = (float)(t->recipe.loss.lambda_o * (double)every),
        .through = t->recipe.competition.gradient == GRADIENT_THROUGH,
    };
    struct mat gw = t->grad[SAE_W_DEC];
    struct rivalry found = way == WAY_LISTS
                               ? t->kern->compete_active(gw, &t->active, &rivals, t->tmp)
                               : t->kern->compete(gw, t->gf, t->spare, &rivals, t->tmp);
    log->competition = found.loss;
    log->pairs = found.pairs;
}

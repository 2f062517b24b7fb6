#include "lib/sae/curriculum.h"

struct phase
curriculum_at(const struct recipe_curriculum *c, uint64_t t)
{
    if (!c->enabled)
        return (struct phase){.alpha = 1, .theta = c->theta_end, .competing = true};
    uint64_t t1 = c->recon_end, t2 = c->sparsity_end;
    struct phase now = {.theta = c->theta_start, .competing = t >= t2};
    if (t >= t2)
        now.alpha = 1;
    else if (t >= t1)
        now.alpha = (double)(t - t1) / (double)(t2 - t1);
    if (t >= t2) {
        bool settled = t - t2 >= c->theta_steps;
        double share = settled ? 1 : (double)(t - t2) / (double)c->theta_steps;
        now.theta = c->theta_start - (c->theta_start - c->theta_end) * share;
    }
    return now;
}

const char *
curriculum_name(const struct recipe_curriculum *c, uint64_t t)
{
    if (!c->enabled || t >= c->sparsity_end)
        return "competition";
    return t >= c->recon_end ? "sparsity" : "reconstruction";
}

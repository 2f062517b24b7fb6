#include "lib/sae/recipe.h"

#include "lib/base/bytes.h"

#include <math.h>

const char *const arch_names[] = {"relu", "topk", "batchtopk", "jumprelu", NULL};
const char *const threshold_names[] = {"value", "log", NULL};
const char *const normalize_names[] = {"none", "mean_norm_sqrt_d", NULL};
const char *const unit_norm_names[] = {"both", "decoder", "off", NULL};
const char *const b_dec_init_names[] = {"zero", "mean", "median", NULL};
const char *const sparsity_names[] = {"auto", "l1", "l0", "target_l0", "tanh", NULL};
const char *const gradient_names[] = {"detached", "through", NULL};
const char *const pairing_names[] = {"step", "position", NULL};
const char *const precision_names[] = {"f32", NULL};

struct recipe
recipe_paper(void)
{
    return (struct recipe){
        .sae = {.arch = ARCH_RELU,
                .latents = 16384,
                .topk = 40,
                .bandwidth = 0.001,
                .threshold = THRESHOLD_VALUE,
                .threshold_init = 0.01,
                .unit_norm = UNIT_NORM_BOTH},
        .loss = {.lambda_s = 0.04, .lambda_o = 0.01, .lambda_t = 0.001, .target_l0 = 40},
        .curriculum = {.enabled = true,
                       .recon_end = 1200,
                       .sparsity_end = 2000,
                       .theta_start = 0.7,
                       .theta_end = 0.3,
                       .theta_steps = 400},
        .competition = {.every = 1},
        .optimiser = {.lr = 7e-6, .beta2 = 0.999, .eps = 1e-8, .clip = 1},
        .width = 2304,
        .rows = 2048,
        .steps = 2441,
    };
}

static enum status
check_number(const char *where, const char *key, double value, double low, double high)
{
    if (!(value >= low && value <= high))
        return FAIL(CONFIG, "%s: %s is %g, wanted a number from %g to %g", where, key, value, low,
                    high);
    return STATUS_OK;
}

static enum status
check_choice(const char *where, const char *key, int value, const char *const *names)
{
    int count = 0;
    while (names[count])
        count++;
    if (value < 0 || value >= count)
        return FAIL(CONFIG, "%s: %s is choice %d, wanted one of %d", where, key, value, count);
    return STATUS_OK;
}

static enum status
check_ranges(const struct recipe *r, const char *where)
{
    struct {
        const char *key;
        double value, low, high;
    } numbers[] = {
        {"sae.latents", (double)r->sae.latents, 1, 0x1p31},
        {"the model's width", (double)r->width, 1, 0x1p24},
        {"stream.rows", (double)r->rows, 1, 0x1p24},
        {"sae.bandwidth", r->sae.bandwidth, 1e-9, 1e6},
        {"sae.threshold_init", r->sae.threshold_init, 0, 1e6},
        {"loss.lambda_s", r->loss.lambda_s, 0, 1e6},
        {"loss.lambda_o", r->loss.lambda_o, 0, 1e6},
        {"loss.lambda_t", r->loss.lambda_t, 0, 1e6},
        {"curriculum.theta_start", r->curriculum.theta_start, 0, 1},
        {"curriculum.theta_end", r->curriculum.theta_end, 0, 1},
        {"optimiser.lr", r->optimiser.lr, 0, 1e3},
        {"optimiser.threshold_lr", r->optimiser.threshold_lr, 0, 1e3},
        {"optimiser.beta1", r->optimiser.beta1, 0, 1 - 0x1p-24},
        {"optimiser.beta2", r->optimiser.beta2, 0, 1 - 0x1p-24},
        {"optimiser.eps", r->optimiser.eps, 1e-30, 1},
        {"optimiser.clip", r->optimiser.clip, 0, 1e30},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        TRY(check_number(where, numbers[i].key, numbers[i].value, numbers[i].low, numbers[i].high));
    TRY(check_choice(where, "sae.arch", r->sae.arch, arch_names));
    TRY(check_choice(where, "sae.threshold", r->sae.threshold, threshold_names));
    TRY(check_choice(where, "sae.normalize", r->sae.normalize, normalize_names));
    TRY(check_choice(where, "sae.unit_norm", r->sae.unit_norm, unit_norm_names));
    TRY(check_choice(where, "sae.b_dec_init", r->sae.b_dec_init, b_dec_init_names));
    TRY(check_choice(where, "loss.sparsity", r->loss.sparsity, sparsity_names));
    TRY(check_choice(where, "competition.gradient", r->competition.gradient, gradient_names));
    TRY(check_choice(where, "temporal.pairing", r->temporal.pairing, pairing_names));
    TRY(check_choice(where, "trainer.precision", r->precision, precision_names));
    return STATUS_OK;
}

enum status
recipe_check(const struct recipe *r, const char *where)
{
    TRY(check_ranges(r, where));
    bool picks = r->sae.arch == ARCH_TOPK || r->sae.arch == ARCH_BATCHTOPK;
    if (picks && (r->sae.topk < 1 || r->sae.topk > r->sae.latents))
        return FAIL(CONFIG, "%s: sae.topk is %zu, wanted 1 to sae.latents (%zu)", where,
                    r->sae.topk, r->sae.latents);
    enum sparsity form = recipe_sparsity(r);
    if ((form == SPARSITY_L0 || form == SPARSITY_TARGET_L0) && r->sae.arch != ARCH_JUMPRELU)
        return FAIL(CONFIG,
                    "%s: loss.sparsity is %s, which needs sae.arch jumprelu; sae.arch is %s", where,
                    sparsity_names[form], arch_names[r->sae.arch]);
    if (form == SPARSITY_TARGET_L0 && !(r->loss.target_l0 > 0 && r->loss.target_l0 <= 0x1p31))
        return FAIL(CONFIG, "%s: loss.target_l0 is %g, wanted more than 0", where,
                    r->loss.target_l0);
    if (form == SPARSITY_TANH && r->sae.unit_norm == UNIT_NORM_OFF)
        return FAIL(CONFIG,
                    "%s: loss.sparsity is tanh, which needs unit rows; sae.unit_norm is off",
                    where);
    if (r->curriculum.enabled && r->curriculum.sparsity_end < r->curriculum.recon_end)
        return FAIL(CONFIG, "%s: curriculum.sparsity_end is %llu, wanted at least recon_end (%llu)",
                    where, (unsigned long long)r->curriculum.sparsity_end,
                    (unsigned long long)r->curriculum.recon_end);
    size_t cells;
    if (!times(&cells, r->sae.latents, r->width) || !times(&cells, cells, 8 * sizeof(double)) ||
        !times(&cells, r->sae.latents, r->rows) || !times(&cells, cells, 8 * sizeof(double)))
        return FAIL(CONFIG, "%s: sae.latents %zu times width %zu or rows %zu is too large", where,
                    r->sae.latents, r->width, r->rows);
    return STATUS_OK;
}

enum sparsity
recipe_sparsity(const struct recipe *r)
{
    if (r->loss.sparsity != SPARSITY_AUTO)
        return (enum sparsity)r->loss.sparsity;
    switch ((enum arch)r->sae.arch) {
    case ARCH_RELU:
        return SPARSITY_L1;
    case ARCH_JUMPRELU:
        return SPARSITY_L0;
    case ARCH_TOPK:
    case ARCH_BATCHTOPK:
        break;
    }
    return SPARSITY_AUTO;
}

// Adam moves a parameter by about its rate a step, so at the paper's 7e-6 a threshold would travel
// 0.017 in the whole run. 1e-3 lets it cross the activations of unit scale in a thousand steps.
double
recipe_threshold_lr(const struct recipe *r)
{
    return r->optimiser.threshold_lr > 0 ? r->optimiser.threshold_lr : fmax(r->optimiser.lr, 1e-3);
}

uint64_t
recipe_dead_after(const struct recipe *r)
{
    if (r->dead_after)
        return r->dead_after;
    double tenth = (double)r->steps * (double)r->rows / 10;
    return tenth < 1 ? 1 : tenth < 1e7 ? (uint64_t)tenth : 10000000;
}

// train_state: what of a run is kept in a checkpoint, looked at, or set from outside.
#include "lib/sae/train_inside.h"

#include <assert.h>
#include <math.h>
#include <string.h>

uint64_t
train_steps(const struct train *t)
{
    return (uint64_t)t->steps;
}

struct sae *
train_sae(struct train *t)
{
    return t->sae;
}

const struct recipe *
train_recipe(const struct train *t)
{
    return &t->recipe;
}

double
train_scale(const struct train *t)
{
    return t->scale;
}

const int64_t *
train_silence(const struct train *t)
{
    return t->silence;
}

struct mat
train_gradient(const struct train *t, enum sae_param param)
{
    assert((unsigned)param < SAE_PARAMS);
    return t->grad[param];
}

struct mat
train_features(const struct train *t)
{
    return t->f_before.rows && t->steps > 0 ? t->f_before : t->f; // they were swapped at the end
}

enum status
train_set(struct train *t, double lr, double lambda_s, double lambda_o)
{
    struct recipe next = t->recipe;
    next.optimiser.lr = lr;
    next.loss.lambda_s = lambda_s;
    next.loss.lambda_o = lambda_o;
    TRY(recipe_check(&next, "set"));
    if (lambda_o > 0 && !(t->recipe.loss.lambda_o > 0) &&
        t->recipe.competition.gradient == GRADIENT_THROUGH && t->spare.rows == 0)
        return FAIL(CONFIG,
                    "set: loss.lambda_o is %g, but the settings have 0, and so no memory was taken "
                    "for competition.gradient through",
                    lambda_o);
    t->recipe = next;
    return STATUS_OK;
}

struct list {
    struct state_tensor *out;
    size_t count;
};

static void
add(struct list *list, const char *name, enum state_type type, size_t rank, size_t rows,
    size_t cols, void *at)
{
    assert(list->count < STATE_TENSORS && at);
    list->out[list->count++] = (struct state_tensor){
        .name = name,
        .type = type,
        .rank = rank,
        .shape = {rank == 1 ? cols : rows, cols},
        .at = at,
    };
}

// A parameter, or a moment in its shape; nothing where the architecture has none.
static void
add_like(struct list *list, const char *name, enum sae_param p, struct mat m)
{
    bool matrix = p == SAE_W_ENC || p == SAE_W_DEC;
    if (m.rows)
        add(list, name, STATE_F32, matrix ? 2 : 1, m.rows, m.cols, m.at);
}

size_t
train_weights(struct train *t, struct state_tensor out[STATE_TENSORS])
{
    struct list list = {.out = out};
    for (enum sae_param p = 0; p < SAE_PARAMS; p++)
        add_like(&list, sae_param_name(&t->recipe.sae, p), p, sae_param(t->sae, p));
    return list.count;
}

size_t
train_rest(struct train *t, struct state_tensor out[STATE_TENSORS])
{
    static const char *const moments[2][SAE_PARAMS] = {
        {"adam.m.W_enc", "adam.m.b_enc", "adam.m.W_dec", "adam.m.b_dec", "adam.m.threshold"},
        {"adam.v.W_enc", "adam.v.b_enc", "adam.v.W_dec", "adam.v.b_dec", "adam.v.threshold"},
    };
    const struct recipe_sae *set = &t->recipe.sae;
    struct list list = {.out = out};
    for (enum sae_param p = 0; p < SAE_PARAMS; p++) {
        bool log = p == SAE_THRESHOLD && set->threshold == THRESHOLD_LOG;
        add_like(&list, log ? "adam.m.log_threshold" : moments[0][p], p, t->mean[p]);
        add_like(&list, log ? "adam.v.log_threshold" : moments[1][p], p, t->square[p]);
        bool bias = p == SAE_B_ENC || p == SAE_B_DEC || p == SAE_THRESHOLD;
        if (log || (bias && set->normalize != NORMALIZE_NONE)) // elsewhere in another form
            add_like(&list, sae_param_name(set, p), p, sae_param(t->sae, p));
    }
    if (train_needs_before(t, (uint64_t)t->steps))
        add(&list, "f_prev", STATE_F32, 2, t->f.rows, t->f.cols, t->f_before.at);
    add(&list, "silence", STATE_I64, 1, 1, t->f.cols, t->silence);
    add(&list, "steps", STATE_I64, 0, 1, 1, &t->steps);
    add(&list, "scale", STATE_F64, 0, 1, 1, &t->scale);
    if (set->arch == ARCH_BATCHTOPK)
        add(&list, "batchtopk_threshold", STATE_F64, 0, 1, 1, sae_running_threshold(t->sae));
    return list.count;
}

void
train_restore_steps(struct train *t, uint64_t steps)
{
    assert(steps <= INT64_MAX);
    t->steps = (int64_t)steps;
}

static enum status
check_tensor(const struct state_tensor *tensor, const char *where)
{
    size_t count = state_bytes(tensor) / (tensor->type == STATE_F32 ? 4 : 8);
    bool counts = tensor->type == STATE_I64, sizes = !strncmp(tensor->name, "adam.v.", 7);
    for (size_t n = 0; n < count; n++) {
        double value = tensor->type == STATE_F32   ? (double)((const float *)tensor->at)[n]
                       : tensor->type == STATE_F64 ? ((const double *)tensor->at)[n]
                                                   : (double)((const int64_t *)tensor->at)[n];
        if (!isfinite(value) || ((counts || sizes) && value < 0))
            return FAIL(DAMAGED, "%s: %s[%zu] is %g, wanted a finite number%s", where, tensor->name,
                        n, value, counts || sizes ? " of at least 0" : "");
    }
    return STATUS_OK;
}

enum status
train_restored(struct train *t, const char *where)
{
    struct state_tensor tensors[STATE_TENSORS];
    size_t count = train_weights(t, tensors);
    for (size_t n = 0; n < count; n++)
        TRY(check_tensor(&tensors[n], where));
    count = train_rest(t, tensors);
    for (size_t n = 0; n < count; n++)
        TRY(check_tensor(&tensors[n], where));
    if (!(t->scale > 0))
        return FAIL(DAMAGED, "%s: scale is %g, wanted more than 0", where, t->scale);
    return STATUS_OK;
}

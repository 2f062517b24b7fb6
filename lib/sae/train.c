#include "lib/base/bytes.h"
#include "lib/sae/start.h"
#include "lib/sae/train_inside.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// Density of f below which lists beat products. Measured (2 cores AVX2, d 576, B 2048): at k 4096
// they meet at 0.14, at k 16384, where W_d no longer fits the cache, at about 0.09.
static const double measured_lists_below = 0.10;

// One shelf while it is laid out: with no memory yet, it only adds up.
struct space {
    char *memory;
    size_t bytes; // SIZE_MAX: too much
};

static void *
cut(struct space *space, size_t count, size_t each)
{
    size_t bytes, from = space->bytes;
    if (from == SIZE_MAX || !times(&bytes, count, each) || bytes > SIZE_MAX / 4 - from)
        space->bytes = SIZE_MAX;
    else
        space->bytes = from + (bytes + 63) / 64 * 64;
    return space->memory && space->bytes != SIZE_MAX ? space->memory + from : NULL;
}

static struct mat
cut_mat(struct space *space, size_t rows, size_t cols)
{
    size_t count;
    if (!times(&count, rows, cols)) {
        space->bytes = SIZE_MAX;
        count = 0;
    }
    return (struct mat){cut(space, count, sizeof(float)), rows, cols};
}

static void
lay_out_lists(struct train *t, struct space *space)
{
    size_t B = t->recipe.rows, k = t->recipe.sae.latents, room, bytes;
    double below = t->recipe.lists_below;
    if (!(below < 0 || below > 0))
        below = measured_lists_below;
    double most = below * (double)B * (double)k;
    room = most < 0 ? 0 : most > (double)(UINT32_MAX - 1) ? UINT32_MAX - 1 : (size_t)most;
    if (!active_bytes(&bytes, B, k, room)) {
        space->bytes = SIZE_MAX;
        return;
    }
    void *memory = cut(space, bytes, 1);
    if (memory)
        active_init(&t->active, memory, B, k, room);
}

// Every array of a run, on its shelf. Called twice: to add up, and to place.
static void
lay_out(struct train *t, struct space space[SHELVES])
{
    const struct recipe *r = &t->recipe;
    size_t B = r->rows, d = r->width, k = r->sae.latents;
    for (enum sae_param p = 0; p < SAE_PARAMS; p++) {
        size_t rows, cols;
        sae_param_shape(&rows, &cols, &r->sae, d, p);
        t->grad[p] = cut_mat(&space[SHELF_GRADIENTS], rows, cols);
        t->square[p] = cut_mat(&space[SHELF_MOMENTS], rows, cols);
        if (r->optimiser.beta1 > 0)
            t->mean[p] = cut_mat(&space[SHELF_MOMENTS], rows, cols);
    }
    bool rivals = r->loss.lambda_o > 0, through = r->competition.gradient == GRADIENT_THROUGH;
    bool before = r->loss.lambda_t > 0 && r->temporal.pairing == PAIRING_STEP;
    t->f = cut_mat(&space[SHELF_FEATURES], B, k);
    t->gf = cut_mat(&space[SHELF_FEATURES], B, k);
    t->z = r->sae.arch == ARCH_JUMPRELU ? cut_mat(&space[SHELF_FEATURES], B, k) : t->f;
    t->spare = cut_mat(&space[SHELF_FEATURES], rivals && through ? k : 0, B);
    t->f_before = cut_mat(&space[SHELF_BEFORE], before ? B : 0, k);
    t->residual = cut_mat(&space[SHELF_BATCHES], B, d);
    t->scaled = cut_mat(&space[SHELF_BATCHES], r->sae.normalize ? B : 0, d);
    t->centred = cut_mat(&space[SHELF_BATCHES], r->sae.pre_bias ? B : 0, d);
    t->point = cut(&space[SHELF_BATCHES], d, sizeof(double));
    t->next = cut(&space[SHELF_BATCHES], d, sizeof(double));
    lay_out_lists(t, &space[SHELF_LISTS]);
    t->silence = cut(&space[SHELF_COUNTERS], k, sizeof *t->silence);
    size_t tmp = t->kern->scratch_bytes(B, d, k);
    t->tmp = (struct scratch){cut(&space[SHELF_SCRATCH], tmp, 1), tmp};
}

static size_t
measure(struct train *t, size_t bytes[SHELVES])
{
    struct space space[SHELVES] = {{0}};
    lay_out(t, space);
    // The weights are the sae's own; a training run encodes without its scratch rows.
    space[SHELF_WEIGHTS].bytes = sae_bytes(&t->recipe.sae, t->recipe.width, 1);
    size_t sum = 0;
    for (size_t n = 0; n < SHELVES; n++) {
        bytes[n] = space[n].bytes;
        sum = sum == SIZE_MAX || bytes[n] >= SIZE_MAX / 2 - sum ? SIZE_MAX : sum + bytes[n];
    }
    return sum;
}

size_t
train_memory(struct holding out[TRAIN_HOLDINGS], size_t *count, const struct recipe *recipe,
             const struct kern *kern)
{
    static const char *const names[] = {
#define S(shelf, name) name,
        SHELF_LIST(S)
#undef S
    };
    _Static_assert((int)SHELVES <= (int)TRAIN_HOLDINGS, "room for every shelf");
    struct train t = {.recipe = *recipe, .kern = kern};
    size_t bytes[SHELVES], sum = measure(&t, bytes);
    *count = SHELVES;
    for (size_t n = 0; n < SHELVES; n++)
        out[n] = (struct holding){names[n], bytes[n]};
    return sum;
}

static enum status
take_memory(struct train *t)
{
    size_t bytes[SHELVES], sum = measure(t, bytes);
    struct space space[SHELVES] = {{0}};
    bool enough = sum <= kern_memory();
    for (size_t n = 0; n < SHELVES && enough; n++) {
        if (n == SHELF_WEIGHTS)
            continue;
        t->shelf[n] = space[n].memory = kern_take(bytes[n]);
        enough = t->shelf[n] != NULL;
    }
    if (!enough)
        return FAIL(CREATE,
                    "training %zu latents of width %zu on batches of %zu rows needs %.1f GiB, more "
                    "than there is (this machine has %.1f)",
                    t->recipe.sae.latents, t->recipe.width, t->recipe.rows, (double)sum / (1 << 30),
                    (double)kern_memory() / (1 << 30));
    lay_out(t, space);
    return STATUS_OK;
}

enum status
train_new(struct train **out, const struct recipe *recipe, const struct kern *kern)
{
    enum status status = STATUS_OK;
    *out = NULL;
    TRY(recipe_check(recipe, "training"));
    struct train *t = calloc(1, sizeof *t);
    if (!t)
        return FAIL(CREATE, "no memory for a training run");
    *t = (struct train){.recipe = *recipe, .kern = kern, .scale = 1};
    GOTRY(take_memory(t));
    GOTRY(sae_new(&t->sae, &t->recipe.sae, recipe->width, 1, kern));
    start_weights(t->sae);
    *out = t;
    return STATUS_OK;
done:
    train_free(&t);
    return status;
}

void
train_free(struct train **train)
{
    if (!*train)
        return;
    for (size_t n = 0; n < SHELVES; n++)
        kern_give((*train)->shelf[n]);
    sae_free(&(*train)->sae);
    free(*train);
    *train = NULL;
}

bool
train_needs_before(const struct train *t, uint64_t step)
{
    return t->f_before.rows && step > 0 && curriculum_at(&t->recipe.curriculum, step).competing;
}

// What the step sees of batch x: the target (scaled), and what the encoder gets. Batch 0 decides
// the scale and, by the recipe, b_d.
static enum status
take_batch(struct train *t, struct step_log *log, struct mat x)
{
    const struct kern *kern = t->kern;
    double mean_norm;
    log->spread = kern->spread(x, &mean_norm);
    if (!isfinite(log->spread) || !isfinite(mean_norm))
        return FAIL(DAMAGED, "step %llu: the batch has a value that is not finite",
                    (unsigned long long)log->step);
    t->target = x;
    if (t->recipe.sae.normalize == NORMALIZE_MEAN_NORM_SQRT_D) {
        if (t->steps == 0) {
            if (!(mean_norm > 0))
                return FAIL(DAMAGED, "step 0: every row of the batch is 0, so inputs cannot be "
                                     "scaled by their mean norm");
            t->scale = sqrt((double)x.cols) / mean_norm;
        }
        kern->shift(t->scaled, x, (float)t->scale, NULL);
        t->target = t->scaled;
        log->spread *= t->scale * t->scale;
    }
    if (t->steps == 0)
        start_b_dec(t->sae, t->point, t->next, t->target);
    t->input = t->target;
    if (t->recipe.sae.pre_bias) {
        kern->shift(t->centred, t->target, 1, sae_param(t->sae, SAE_B_DEC).at);
        t->input = t->centred;
    }
    return STATUS_OK;
}

// Tokens since each latent last fired, and who has been silent too long.
static void
note_activity(struct train *t, struct step_log *log)
{
    int64_t patience = (int64_t)recipe_dead_after(&t->recipe), B = (int64_t)t->f.rows;
    log->dead = 0;
    for (size_t i = 0; i < t->f.cols; i++) {
        t->silence[i] = t->active.fired[i] ? 0 : t->silence[i] + B;
        log->dead += t->silence[i] >= patience;
    }
}

// BatchTopK at inference: what a value must exceed, averaged over the batches of training.
static void
note_least_kept(struct train *t, double least)
{
    double *running = sae_running_threshold(t->sae);
    if (least > 0)
        *running = *running < 0 ? least : 0.99 * *running + 0.01 * least;
}

enum status
train_step(struct train *t, struct step_log *out, struct mat x, const unsigned char *follows)
{
    assert(x.rows == t->recipe.rows && x.cols == t->recipe.width);
    struct phase now = curriculum_at(&t->recipe.curriculum, (uint64_t)t->steps); // (5), (6)
    struct step_log log = {
        .step = (uint64_t)t->steps,
        .alpha = now.alpha,
        .theta = now.theta,
        .competing = now.competing,
        .lr = optimiser_lr(&t->recipe, (uint64_t)t->steps, t->recipe.optimiser.lr),
        .lambda_s = t->recipe.loss.lambda_s,
        .lambda_o = t->recipe.loss.lambda_o,
    };
    enum status status = STATUS_OK;
    GOTRY(take_batch(t, &log, x)); // x [B x d]; batch 0 decides scale and b_d

    loss_measure(t, &log, follows); // f, eq. (1); eq. (2), (4) to (7); dL/d everything
    optimiser_norm(t, &log);
    GOTRY(loss_sane(&log)); // a NaN stops here, before it can reach the weights

    optimiser_step(t, &log); // clip, Adam, rows of W_e and W_d back to norm 1

    note_activity(t, &log);
    note_least_kept(t, log.least);
    log.fvu = log.spread > 0 ? log.mse_sum * (double)x.rows / log.spread : 0;
    if (t->f_before.rows) { // E(x_t) becomes E(x_{t-1})
        bool same = t->z.at == t->f.at;
        mat_swap(&t->f, &t->f_before);
        t->z = same ? t->f : t->z;
    }
    t->steps++;
done:
    if (out)
        *out = log;
    return status;
}

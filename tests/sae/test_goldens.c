// Whole training runs against an independent implementation (PyTorch autograd in float64,
// tests/golden/sae-goldens/make_sae_goldens.py): every variant of the paper, every backend, by
// products and by lists. 40 steps each: every column of the log, the gradients at the first step of
// the competition phase, the parameters at the end.
#include "lib/kern/gemm.h"
#include "lib/sae/train.h"
#include "lib/store/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double eps = 1e-5;

struct golden {
    char name[64];
    struct safetensors *file;
    struct recipe recipe;
    size_t steps, context;
};

static void
needs(enum status status)
{
    if (status != STATUS_OK)
        fail_msg("%s", status_words());
}

static double
number(const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);
    if (!json_is_number(value) && !json_is_boolean(value))
        fail_msg("the golden's config has no number '%s'", key);
    return json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
}

static int
choice(const char *word, const char *const *names)
{
    for (int n = 0; names[n]; n++)
        if (!strcmp(word, names[n]))
            return n;
    fail_msg("no choice '%s'", word);
    return 0;
}

static void
read_recipe(struct golden *golden)
{
    const char *text = safetensors_metadata(golden->file, "config");
    assert_non_null(text);
    json_t *c = json_loads(text, 0, NULL);
    assert_non_null(c);
    struct recipe *r = &golden->recipe;
    *r = recipe_paper();
    r->sae.arch = choice(json_string_value(json_object_get(c, "arch")), arch_names);
    r->sae.latents = (size_t)number(c, "k");
    r->sae.topk = (size_t)number(c, "topk");
    r->sae.bandwidth = number(c, "bandwidth");
    r->sae.threshold = THRESHOLD_LOG;
    const char *temporal = json_string_value(json_object_get(c, "temporal"));
    bool rivals = number(c, "competition") > 0, before = strcmp(temporal, "off") != 0;
    r->loss.lambda_s = number(c, "lambda_s");
    r->loss.lambda_o = rivals ? number(c, "lambda_o") : 0;
    r->loss.lambda_t = before ? number(c, "lambda_t") : 0;
    r->temporal.pairing = before ? choice(temporal, pairing_names) : PAIRING_STEP;
    r->curriculum.enabled = number(c, "curriculum") > 0;
    r->curriculum.recon_end = (uint64_t)number(c, "recon_end");
    r->curriculum.sparsity_end = (uint64_t)number(c, "sparsity_end");
    r->curriculum.theta_start = number(c, "theta_start");
    r->curriculum.theta_end = number(c, "theta_end");
    r->curriculum.theta_steps = (uint64_t)number(c, "theta_steps");
    r->competition.gradient =
        choice(json_string_value(json_object_get(c, "competition_gradient")), gradient_names);
    r->optimiser.lr = r->optimiser.threshold_lr = number(c, "lr");
    r->optimiser.beta1 = number(c, "beta1");
    r->optimiser.beta2 = number(c, "beta2");
    r->optimiser.eps = number(c, "eps");
    r->optimiser.clip = number(c, "clip");
    r->width = (size_t)number(c, "d");
    r->rows = (size_t)number(c, "batch");
    r->steps = golden->steps = (size_t)number(c, "steps");
    golden->context = (size_t)number(c, "context");
    json_decref(c);
}

static void
golden_open(struct golden *golden, const char *name)
{
    char path[512];
    *golden = (struct golden){.file = NULL};
    snprintf(golden->name, sizeof golden->name, "%s", name);
    snprintf(path, sizeof path, OSAE_TESTS "/golden/sae-goldens/%s.safetensors", name);
    needs(safetensors_open(&golden->file, path));
    read_recipe(golden);
}

static const struct tensor *
tensor(const struct golden *golden, const char *group, const char *name)
{
    char full[96];
    snprintf(full, sizeof full, "%s%s", group, name);
    const struct tensor *found = safetensors_find(golden->file, full);
    if (!found)
        fail_msg("%s has no %s", golden->name, full);
    return found;
}

static double
f64_at(const struct tensor *t, size_t i)
{
    assert_true(t->dtype == DTYPE_F64 && i < t->count);
    double value;
    memcpy(&value, t->at + 8 * i, sizeof value);
    return value;
}

static void
start_as(struct train *train, const struct golden *golden)
{
    struct state_tensor list[STATE_TENSORS];
    size_t count = train_weights(train, list);
    for (size_t n = 0; n < count; n++) {
        const struct tensor *init = tensor(golden, "init.", list[n].name);
        assert_int_equal(init->count * sizeof(float), state_bytes(&list[n]));
        needs(tensor_to_f32(list[n].at, init, golden->name));
    }
}

static void
near(const struct golden *golden, const char *what, size_t step, double got, double want,
     double within)
{
    if (!(fabs(got - want) <= within))
        fail_msg("%s, step %zu: %s is %.12g, wanted %.12g (within %.3g)", golden->name, step, what,
                 got, want, within);
}

static void
same_log(const struct golden *golden, const struct step_log *log)
{
    size_t t = (size_t)log->step;
    const struct {
        const char *name;
        double got, floor;
    } columns[] = {
        {"loss", log->loss, 0},
        {"mse", log->mse_sum, 0},
        {"l1", log->l1, 0},
        {"l0", log->l0, 0},
        {"competition", log->competition, 1e-9},
        {"temporal", log->temporal, 1e-12},
        {"pairs", log->pairs, 0},
        {"alpha", log->alpha, 0},
        {"theta", log->theta, 0},
        {"grad_norm", log->grad_norm, 0},
    };
    for (size_t n = 0; n < sizeof columns / sizeof columns[0]; n++) {
        double want = f64_at(tensor(golden, "log.", columns[n].name), t);
        near(golden, columns[n].name, t, columns[n].got, want, eps * fabs(want) + columns[n].floor);
    }
}

// |got - want| <= eps |want|, as vectors.
static void
same_vector(const struct golden *golden, const char *group, const char *name, const float *got)
{
    const struct tensor *want = tensor(golden, group, name);
    double off = 0, size = 0;
    for (size_t i = 0; i < want->count; i++) {
        off += pow((double)got[i] - f64_at(want, i), 2);
        size += pow(f64_at(want, i), 2);
    }
    char what[96];
    snprintf(what, sizeof what, "distance of %s%s", group, name);
    near(golden, what, 0, sqrt(off), 0, eps * sqrt(size));
}

static void
same_gradients(const struct golden *golden, struct train *train)
{
    for (enum sae_param p = 0; p < SAE_PARAMS; p++)
        if (train_gradient(train, p).rows)
            same_vector(golden, "grad.", sae_param_name(&golden->recipe.sae, p),
                        train_gradient(train, p).at);
    same_vector(golden, "at.", "f", train_features(train).at);
}

// Bit b: row b - 1 is the token before row b; rows are whole contexts.
static void
mark_contexts(unsigned char *follows, size_t rows, size_t context)
{
    memset(follows, 0, (rows + 7) / 8);
    for (size_t b = 0; b < rows; b++)
        if (b % context != 0)
            follows[b / 8] |= (unsigned char)(1u << b % 8);
}

static void
replay(const struct golden *golden, const struct kern *kern, double lists, double rivals)
{
    struct recipe recipe = golden->recipe;
    recipe.lists_below = lists;
    recipe.rivals_below = rivals;
    struct train *train;
    needs(train_new(&train, &recipe, kern));
    start_as(train, golden);
    size_t cells = recipe.rows * recipe.width, listed = 0;
    const struct tensor *x = tensor(golden, "x", "");
    assert_int_equal(x->count, golden->steps * cells);
    float *all = malloc(x->count * sizeof *all);
    assert_non_null(all);
    needs(tensor_to_f32(all, x, golden->name));
    unsigned char follows[64];
    assert_true(recipe.rows <= 8 * sizeof follows);
    mark_contexts(follows, recipe.rows, golden->context);
    int64_t first;
    assert_int_equal(tensor(golden, "first_competition_step", "")->bytes, sizeof first);
    memcpy(&first, tensor(golden, "first_competition_step", "")->at, sizeof first);
    bool by_position = recipe.temporal.pairing == PAIRING_POSITION;
    for (size_t t = 0; t < golden->steps; t++) {
        struct step_log log;
        struct mat batch = {all + t * cells, recipe.rows, recipe.width};
        needs(train_step(train, &log, batch, by_position ? follows : NULL));
        same_log(golden, &log);
        listed += log.listed;
        if ((int64_t)t == first)
            same_gradients(golden, train);
    }
    assert_int_equal(train_steps(train), golden->steps);
    if (lists < 0)
        assert_int_equal(listed, 0);
    if (lists > 1 && rivals > 1)
        assert_int_equal(listed, golden->steps);
    struct state_tensor list[STATE_TENSORS];
    size_t count = train_weights(train, list);
    for (size_t n = 0; n < count; n++)
        same_vector(golden, "final.", list[n].name, list[n].at);
    free(all);
    train_free(&train);
}

static void
run_follows_its_golden(void **state)
{
    struct golden golden;
    golden_open(&golden, *state);
    replay(&golden, &kern_ref, -1, -1); // products
    replay(&golden, &kern_ref, 2, 2);   // lists
    gemm_threads(1);
    replay(&golden, &kern_cpu, 0, 0); // whichever is faster
    gemm_threads(2);
    replay(&golden, &kern_cpu, -1, -1);
    replay(&golden, &kern_cpu, 2, 2);
    replay(&golden, &kern_cpu, 2, -1); // lists, the competition by tiles
    safetensors_close(&golden.file);
}

int
main(void)
{
    static char names[][40] = {
        "orthogonal",
        "orthogonal-through",
        "orthogonal-position",
        "orthogonal-no-curriculum",
        "orthogonal-fixed-threshold",
        "orthogonal-no-temporal",
        "standard",
        "topk",
        "batchtopk",
        "jumprelu",
        "topk-orthogonal",
    };
    enum { COUNT = sizeof names / sizeof names[0] };
    struct CMUnitTest tests[COUNT];
    for (size_t n = 0; n < COUNT; n++)
        tests[n] = (struct CMUnitTest){names[n], run_follows_its_golden, NULL, NULL, names[n]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

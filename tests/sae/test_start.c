// Before the first step: recipes that cannot be, the curriculum, learning rates, initial weights.
#include "lib/sae/start.h"
#include "lib/sae/train_inside.h"
#include "tests/sae/small.h"

#include <math.h>
#include <stdio.h>

static void
recipes_that_cannot_be_are_refused_in_words(void **unused)
{
    (void)unused;
    struct recipe paper = recipe_paper();
    needs(recipe_check(&paper, "run.yaml"));
#define REFUSE(change, words)                                                                      \
    do {                                                                                           \
        struct recipe r = recipe_paper();                                                          \
        change;                                                                                    \
        assert_int_equal(recipe_check(&r, "run.yaml"), STATUS_CONFIG);                             \
        assert_string_equal(status_words(), words);                                                \
    } while (0)
    REFUSE(r.sae.latents = 0, "run.yaml: sae.latents is 0, wanted a number from 1 to 2.14748e+09");
    REFUSE((r.sae.arch = ARCH_TOPK, r.sae.topk = 16385),
           "run.yaml: sae.topk is 16385, wanted 1 to sae.latents (16384)");
    REFUSE(r.loss.lambda_o = -0.5,
           "run.yaml: loss.lambda_o is -0.5, wanted a number from 0 to 1e+06");
    REFUSE(r.optimiser.lr = NAN, "run.yaml: optimiser.lr is nan, wanted a number from 0 to 1000");
    REFUSE(r.sae.arch = 9, "run.yaml: sae.arch is choice 9, wanted one of 4");
    REFUSE(r.loss.sparsity = SPARSITY_L0,
           "run.yaml: loss.sparsity is l0, which needs sae.arch jumprelu; sae.arch is relu");
    REFUSE((r.loss.sparsity = SPARSITY_TANH, r.sae.unit_norm = UNIT_NORM_OFF),
           "run.yaml: loss.sparsity is tanh, which needs unit rows; sae.unit_norm is off");
    REFUSE(r.curriculum.sparsity_end = 7,
           "run.yaml: curriculum.sparsity_end is 7, wanted at least recon_end (1200)");
    REFUSE((r.sae.arch = ARCH_JUMPRELU, r.loss.sparsity = SPARSITY_TARGET_L0, r.loss.target_l0 = 0),
           "run.yaml: loss.target_l0 is 0, wanted more than 0");
#undef REFUSE
}

static void
near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12))
        fail_msg("got %.15g, wanted %.15g", got, want);
}

static void
the_curriculum_is_the_papers(void **unused)
{
    (void)unused;
    struct recipe r = recipe_paper();
    const struct {
        uint64_t step;
        double alpha, theta;
        bool competing;
        const char *name;
    } rows[] = {
        {0, 0, 0.7, false, "reconstruction"},      {1199, 0, 0.7, false, "reconstruction"},
        {1200, 0, 0.7, false, "sparsity"},         {1600, 0.5, 0.7, false, "sparsity"},
        {1999, 0.99875, 0.7, false, "sparsity"},   {2000, 1, 0.7, true, "competition"},
        {2100, 1, 0.6, true, "competition"},       {2400, 1, 0.3, true, "competition"},
        {UINT64_MAX, 1, 0.3, true, "competition"},
    };
    for (size_t n = 0; n < sizeof rows / sizeof rows[0]; n++) {
        struct phase now = curriculum_at(&r.curriculum, rows[n].step);
        near(now.alpha, rows[n].alpha);
        near(now.theta, rows[n].theta);
        assert_int_equal(now.competing, rows[n].competing);
        assert_string_equal(curriculum_name(&r.curriculum, rows[n].step), rows[n].name);
    }
    r.curriculum.enabled = false;
    struct phase now = curriculum_at(&r.curriculum, 0);
    near(now.alpha, 1);
    near(now.theta, 0.3);
    assert_true(now.competing);
    r.curriculum =
        (struct recipe_curriculum){.enabled = true, .theta_start = 0.7, .theta_end = 0.5};
    now = curriculum_at(&r.curriculum, 0); // phases of no length
    near(now.alpha, 1);
    near(now.theta, 0.5);
}

static void
learning_rates_warm_up_and_decay(void **unused)
{
    (void)unused;
    struct recipe r = recipe_paper();
    r.steps = 20;
    r.optimiser.warmup = 5;
    r.optimiser.decay = 4;
    const double want[20] = {.2, .4, .6, .8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, .75, .5, .25};
    for (uint64_t t = 0; t < 20; t++)
        near(optimiser_lr(&r, t, 2), 2 * want[t]);
    near(optimiser_lr(&r, 25, 2), 0); // beyond the end
    r.optimiser.decay = 100;          // longer than the run: all of it
    r.optimiser.warmup = 0;
    near(optimiser_lr(&r, 0, 1), 1);
    near(optimiser_lr(&r, 10, 1), 0.5);
    near(recipe_threshold_lr(&r), 1e-3);
    r.optimiser.threshold_lr = 2e-5;
    near(recipe_threshold_lr(&r), 2e-5);
}

static void
dead_after_is_a_tenth_of_the_run(void **unused)
{
    (void)unused;
    struct recipe r = recipe_paper();
    assert_int_equal(recipe_dead_after(&r), 499916);
    r.steps = 1 << 20;
    assert_int_equal(recipe_dead_after(&r), 10000000);
    r.steps = 0;
    assert_int_equal(recipe_dead_after(&r), 1);
    r.dead_after = 77;
    assert_int_equal(recipe_dead_after(&r), 77);
}

// The weights of seed 42 by hand: words, bound, row norm.
static void
weights_are_drawn_as_defined(void **unused)
{
    (void)unused;
    enum { K = 3, D = 5 };
    for (int purpose = RNG_ENCODER; purpose <= RNG_DECODER; purpose++) {
        struct recipe_sae set = {.arch = ARCH_RELU, .latents = K, .topk = 1, .seed = 42};
        struct sae *sae;
        needs(sae_new(&sae, &set, D, 1, &kern_cpu));
        start_weights(sae);
        struct mat w = sae_param(sae, purpose == RNG_ENCODER ? SAE_W_ENC : SAE_W_DEC);
        for (size_t i = 0; i < K; i++) {
            double row[D], norm = 0, length = 0;
            for (size_t c = 0; c < D; c++) {
                uint32_t words[4];
                size_t n = i * D + c;
                rng_words(words, 42, (uint32_t)purpose, 0, n / 4);
                row[c] = (2.0 * (words[n % 4] >> 8) * 0x1p-24 - 1) * sqrt(6.0 / D);
                norm += row[c] * row[c];
            }
            for (size_t c = 0; c < D; c++) {
                double got = (double)mat_row(w, i)[c];
                length += got * got;
                assert_true(fabs(got - row[c] / sqrt(norm)) < 1e-7);
            }
            assert_true(fabs(sqrt(length) - 1) < 1e-6);
        }
        sae_free(&sae);
        assert_null(sae);
    }
    // The first word of (seed 42, purpose 1) is published: 20439b04.
    uint32_t words[4];
    rng_words(words, 42, RNG_ENCODER, 0, 0);
    assert_int_equal(words[0], 0x20439b04);
}

static void
weights_can_start_tied(void **unused)
{
    (void)unused;
    struct recipe_sae set = {.arch = ARCH_JUMPRELU,
                             .latents = 9,
                             .tie_init = true,
                             .threshold = THRESHOLD_LOG,
                             .threshold_init = 0.25};
    struct sae *sae;
    needs(sae_new(&sae, &set, 4, 1, &kern_cpu));
    start_weights(sae);
    assert_memory_equal(sae_param(sae, SAE_W_ENC).at, sae_param(sae, SAE_W_DEC).at,
                        9 * 4 * sizeof(float));
    assert_string_equal(sae_param_name(&set, SAE_THRESHOLD), "log_threshold");
    for (size_t i = 0; i < 9; i++)
        assert_true(fabsf(sae_tau(sae)[i] - 0.25f) < 1e-6f);
    sae_free(&sae);
}

// Wanted: dictionary_learning's geometric median of these rows.
static void
the_geometric_median_is_the_peers(void **unused)
{
    (void)unused;
    float x[5][6] = {{-0.078125f, -0.421875f, -2.875f, 3.25f, 0.140625f, 1.3125f},
                     {0.34375f, -0.71875f, 0.8125f, -2.125f, 0.296875f, 0.5625f},
                     {-0.984375f, -1.0f, 0.578125f, 0.59375f, -1.140625f, -1.4375f},
                     {2.09375f, 0.515625f, 0.03125f, -1.171875f, -0.890625f, -0.5625f},
                     {-0.5625f, -0.578125f, 2.0625f, 0.578125f, -1.421875f, 0.46875f}};
    const double want[6] = {0.05174050833,  -0.4965308209, 0.560473708,
                            -0.01996084042, -0.7535151819, -0.1209192915};
    float got[6];
    double point[6], next[6];
    geometric_median(got, point, next, (struct mat){x[0], 5, 6});
    for (size_t c = 0; c < 6; c++)
        assert_true(fabs((double)got[c] - want[c]) < 2e-5);
    float same[3][2] = {{1, 2}, {1, 2}, {1, 2}}; // every distance is 0
    geometric_median(got, point, next, (struct mat){same[0], 3, 2});
    assert_true(fabsf(got[0] - 1) < 1e-6f && fabsf(got[1] - 2) < 1e-6f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipes_that_cannot_be_are_refused_in_words),
        cmocka_unit_test(the_curriculum_is_the_papers),
        cmocka_unit_test(learning_rates_warm_up_and_decay),
        cmocka_unit_test(dead_after_is_a_tenth_of_the_run),
        cmocka_unit_test(weights_are_drawn_as_defined),
        cmocka_unit_test(weights_can_start_tied),
        cmocka_unit_test(the_geometric_median_is_the_peers),
    };
    return cmocka_run_group_tests_name("start", tests, NULL, NULL);
}

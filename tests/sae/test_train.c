// A run as a whole: the same bits resumed or never stopped, with one thread or two; what cannot be
// is refused and changes nothing; permuting latents changes nothing that matters.
#include "lib/kern/gemm.h"
#include "tests/sae/small.h"

#include <math.h>
#include <stdio.h>

// Every kind of state there is.
enum { VARIANTS = 9 };
static struct recipe
variant(int n, char name[64])
{
    static const char *const names[VARIANTS] = {"relu",         "topk",     "batchtopk",
                                                "jumprelu log", "momentum", "scaled",
                                                "through",      "position", "every third"};
    struct recipe r = small_recipe();
    snprintf(name, 64, "%s", names[n]);
    r.sae.arch = n < 4 ? n : ARCH_RELU;
    r.sae.threshold = n == 3 ? THRESHOLD_LOG : THRESHOLD_VALUE;
    if (n == 4) {
        r.optimiser.beta1 = 0.9;
        r.optimiser.warmup = 3;
        r.optimiser.decay = 30;
    }
    if (n == 5) {
        r.sae.arch = ARCH_JUMPRELU;
        r.sae.normalize = NORMALIZE_MEAN_NORM_SQRT_D;
        r.sae.pre_bias = true;
        r.sae.b_dec_init = B_DEC_MEAN;
        r.sae.unit_norm = UNIT_NORM_DECODER;
    }
    if (n == 6)
        r.competition.gradient = GRADIENT_THROUGH;
    if (n == 7)
        r.temporal.pairing = PAIRING_POSITION;
    if (n == 8)
        r.competition.every = 3;
    return r;
}

static void
same_bytes(const unsigned char *a, size_t a_bytes, const unsigned char *b, size_t b_bytes,
           const char *name, const char *what)
{
    if (a_bytes != b_bytes || memcmp(a, b, a_bytes) != 0)
        fail_msg("%s: %s", name, what);
}

// From a running train into a fresh one, as a checkpoint would carry it.
static struct train *
carried_over(struct train *from)
{
    struct train *to;
    needs(train_new(&to, train_recipe(from), &kern_cpu));
    struct state_tensor source[STATE_TENSORS], target[STATE_TENSORS];
    for (int group = 0; group < 2; group++) {
        size_t count = group ? train_rest(from, source) : train_weights(from, source);
        train_restore_steps(to, train_steps(from));
        size_t wanted = group ? train_rest(to, target) : train_weights(to, target);
        assert_int_equal(count, wanted);
        for (size_t n = 0; n < wanted; n++) {
            const struct state_tensor *found = state_find(source, count, target[n].name);
            assert_non_null(found);
            assert_int_equal(found->type, target[n].type);
            assert_int_equal(found->rank, target[n].rank);
            assert_int_equal(state_bytes(found), state_bytes(&target[n]));
            memcpy(target[n].at, found->at, state_bytes(found));
        }
    }
    needs(train_restored(to, "test"));
    assert_int_equal(train_steps(to), train_steps(from));
    return to;
}

static void
a_resumed_run_has_the_bits_of_one_never_stopped(void **unused)
{
    (void)unused;
    const uint64_t stops[] = {1, 5, 8, 20};
    for (int n = 0; n < VARIANTS; n++) {
        char name[64];
        struct recipe r = variant(n, name);
        struct train *whole;
        size_t bytes, other;
        needs(train_new(&whole, &r, &kern_cpu));
        while (train_steps(whole) < 40)
            small_step(whole);
        unsigned char *want = small_state(whole, &bytes);
        struct train *train;
        needs(train_new(&train, &r, &kern_cpu));
        for (size_t stop = 0; train_steps(train) < 40;) {
            if (stop < 4 && train_steps(train) == stops[stop]) {
                struct train *next = carried_over(train);
                train_free(&train);
                train = next;
                stop++;
            }
            small_step(train);
        }
        unsigned char *got = small_state(train, &other);
        same_bytes(got, other, want, bytes, name, "resumed differs from never stopped");
        free(want);
        free(got);
        train_free(&whole);
        train_free(&train);
    }
}

static void
one_thread_and_two_give_the_same_bits(void **unused)
{
    (void)unused;
    for (int n = 0; n < VARIANTS; n++) {
        char name[64];
        struct recipe r = variant(n, name);
        unsigned char *state[2];
        size_t bytes[2];
        for (size_t threads = 1; threads <= 2; threads++) {
            gemm_threads(threads);
            struct train *train;
            needs(train_new(&train, &r, &kern_cpu));
            while (train_steps(train) < 16)
                small_step(train);
            state[threads - 1] = small_state(train, &bytes[threads - 1]);
            train_free(&train);
        }
        same_bytes(state[0], bytes[0], state[1], bytes[1], name, "threads change the bits");
        free(state[0]);
        free(state[1]);
    }
    gemm_threads(1);
}

static void
a_bad_batch_is_refused_and_changes_nothing(void **unused)
{
    (void)unused;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int n = 0; n < VARIANTS; n++) {
        char name[64];
        struct recipe r = variant(n, name);
        struct train *clean, *tried;
        needs(train_new(&clean, &r, &kern_cpu));
        needs(train_new(&tried, &r, &kern_cpu));
        for (size_t step = 0; step < 12; step++) {
            if (step % 4 == 0) {
                float x[SMALL_B * SMALL_D];
                unsigned char follows[SMALL_B / 8];
                struct step_log log;
                small_batch(x, step);
                small_follows(follows);
                x[7 * SMALL_D + 3] = bad[step / 4];
                struct mat batch = {x, SMALL_B, SMALL_D};
                assert_int_equal(train_step(tried, &log, batch, follows), STATUS_DAMAGED);
                char want[80];
                snprintf(want, sizeof want, "step %zu: the batch has a value that is not finite",
                         step);
                assert_string_equal(status_words(), want);
            }
            small_step(clean);
            small_step(tried);
        }
        size_t bytes, other;
        unsigned char *want = small_state(clean, &bytes), *got = small_state(tried, &other);
        same_bytes(got, other, want, bytes, name, "a refused batch left a trace");
        free(want);
        free(got);
        train_free(&clean);
        train_free(&tried);
    }
}

static void
a_loss_that_is_not_finite_stops_before_the_weights(void **unused)
{
    (void)unused;
    struct recipe r = small_recipe();
    struct train *train;
    needs(train_new(&train, &r, &kern_cpu));
    for (int n = 0; n < 10; n++)
        small_step(train);
    sae_param(train_sae(train), SAE_W_DEC).at[5] = 3e38f;
    sae_param(train_sae(train), SAE_B_ENC).at[0] = 1e30f;
    size_t bytes, other;
    unsigned char *was = small_state(train, &bytes);
    float x[SMALL_B * SMALL_D];
    small_batch(x, 10);
    struct step_log log;
    assert_int_equal(train_step(train, &log, (struct mat){x, SMALL_B, SMALL_D}, NULL),
                     STATUS_INTERNAL);
    assert_string_equal(status_words(),
                        "step 10: the reconstruction term is inf, wanted a finite number");
    unsigned char *is = small_state(train, &other);
    same_bytes(is, other, was, bytes, "overflow", "the state changed");
    free(was);
    free(is);
    train_free(&train);
}

// The same run with latents in another order, and what must not depend on it.
static void
permuting_latents_moves_no_loss(void **unused)
{
    (void)unused;
    uint32_t order[SMALL_K];
    rng_shuffle(order, SMALL_K, 3, 0);
    for (int n = 0; n < VARIANTS; n++) {
        char name[64];
        struct recipe r = variant(n, name);
        struct train *plain, *permuted;
        needs(train_new(&plain, &r, &kern_cpu));
        needs(train_new(&permuted, &r, &kern_cpu));
        for (enum sae_param p = 0; p < SAE_PARAMS; p++) {
            struct mat from = sae_param(train_sae(plain), p);
            struct mat to = sae_param(train_sae(permuted), p);
            size_t width = p == SAE_W_ENC || p == SAE_W_DEC ? SMALL_D : 1;
            for (size_t i = 0; i < SMALL_K && p != SAE_B_DEC && from.rows; i++)
                memcpy(to.at + i * width, from.at + order[i] * width, width * sizeof(float));
        }
        for (size_t step = 0; step < 20; step++) {
            struct step_log a = small_step(plain), b = small_step(permuted);
            const double pairs[][2] = {{a.loss, b.loss},
                                       {a.mse_sum, b.mse_sum},
                                       {a.competition, b.competition},
                                       {a.temporal, b.temporal},
                                       {a.l1, b.l1},
                                       {a.l0, b.l0},
                                       {a.pairs, b.pairs},
                                       {a.grad_norm, b.grad_norm}};
            for (size_t c = 0; c < sizeof pairs / sizeof pairs[0]; c++)
                if (!(fabs(pairs[c][0] - pairs[c][1]) <= 1e-5 * (1e-3 + fabs(pairs[c][0]))))
                    fail_msg("%s, step %zu: column %zu is %.9g, permuted %.9g", name, step, c,
                             pairs[c][0], pairs[c][1]);
        }
        train_free(&plain);
        train_free(&permuted);
    }
}

static void
what_training_saw_is_what_inference_sees(void **unused)
{
    (void)unused;
    for (int arch = 0; arch_names[arch]; arch++)
        for (int pre_bias = 0; pre_bias < 2; pre_bias++) {
            struct recipe r = small_recipe();
            r.sae.arch = arch;
            r.sae.pre_bias = pre_bias;
            r.sae.b_dec_init = B_DEC_MEAN;
            r.sae.unit_norm = UNIT_NORM_OFF;
            r.optimiser.lr = 0; // the weights stay those of the step
            r.optimiser.threshold_lr = 1e-30;
            struct train *train;
            needs(train_new(&train, &r, &kern_cpu));
            struct step_log log = small_step(train);
            float x[SMALL_B * SMALL_D];
            static float f[SMALL_B * SMALL_K], xhat[SMALL_B * SMALL_D];
            small_batch(x, 0);
            struct mat batch = {x, SMALL_B, SMALL_D}, features = {f, SMALL_B, SMALL_K};
            sae_encode(train_sae(train), features, batch);
            struct mat seen = train_features(train);
            double error = 0;
            for (size_t n = 0; n < mat_count(seen); n++) {
                bool at_the_edge = arch == ARCH_BATCHTOPK && (double)seen.at[n] <= log.least;
                if (!at_the_edge && !(fabsf(seen.at[n] - f[n]) <= 1e-5f))
                    fail_msg("%s: f is %.9g in training, %.9g at inference", arch_names[arch],
                             (double)seen.at[n], (double)f[n]);
            }
            sae_decode(train_sae(train), (struct mat){xhat, SMALL_B, SMALL_D}, seen);
            for (size_t n = 0; n < SMALL_B * SMALL_D; n++)
                error += pow((double)xhat[n] - (double)x[n], 2) / SMALL_B;
            assert_true(fabs(error - log.mse_sum) <= 1e-5 * error);
            train_free(&train);
        }
}

static void
batchtopk_keeps_a_running_threshold(void **unused)
{
    (void)unused;
    struct recipe r = small_recipe();
    r.sae.arch = ARCH_BATCHTOPK;
    struct train *train;
    needs(train_new(&train, &r, &kern_cpu));
    double *running = sae_running_threshold(train_sae(train)), want = 0;
    assert_true(*running < 0);
    for (int n = 0; n < 5; n++) {
        struct step_log log = small_step(train);
        assert_true(log.least > 0 && log.l0 <= 5.0);
        want = n ? 0.99 * want + 0.01 * log.least : log.least;
        assert_true(fabs(*running - want) <= 1e-12);
    }
    train_free(&train);
}

static void
inputs_are_scaled_by_batch_zero(void **unused)
{
    (void)unused;
    struct recipe r = small_recipe();
    r.sae.normalize = NORMALIZE_MEAN_NORM_SQRT_D;
    struct train *scaled, *plain;
    needs(train_new(&scaled, &r, &kern_cpu));
    r.sae.normalize = NORMALIZE_NONE;
    needs(train_new(&plain, &r, &kern_cpu));
    assert_true(train_scale(scaled) >= 1 && train_scale(scaled) <= 1);
    float x[SMALL_B * SMALL_D], by_hand[SMALL_B * SMALL_D];
    double norms = 0, s = 0;
    for (uint64_t t = 0; t < 3; t++) {
        small_batch(x, t);
        for (size_t n = 0; n < SMALL_B * SMALL_D; n++)
            x[n] *= 40;
        for (size_t b = 0; b < SMALL_B && t == 0; b++) {
            double square = 0;
            for (size_t c = 0; c < SMALL_D; c++)
                square += (double)x[b * SMALL_D + c] * (double)x[b * SMALL_D + c];
            norms += sqrt(square) / SMALL_B;
        }
        s = sqrt(SMALL_D) / norms;
        for (size_t n = 0; n < SMALL_B * SMALL_D; n++)
            by_hand[n] = (float)s * x[n];
        struct step_log a, b;
        needs(train_step(scaled, &a, (struct mat){x, SMALL_B, SMALL_D}, NULL));
        needs(train_step(plain, &b, (struct mat){by_hand, SMALL_B, SMALL_D}, NULL));
        assert_true(fabs(train_scale(scaled) - s) <= 1e-9 * s);
        assert_true(fabs(a.loss - b.loss) <= 1e-6 * b.loss);
        assert_true(fabs(a.fvu - b.fvu) <= 1e-6 * b.fvu);
    }
    train_free(&scaled);
    train_free(&plain);
    r.sae.normalize = NORMALIZE_MEAN_NORM_SQRT_D;
    needs(train_new(&scaled, &r, &kern_cpu));
    memset(x, 0, sizeof x);
    assert_int_equal(train_step(scaled, NULL, (struct mat){x, SMALL_B, SMALL_D}, NULL),
                     STATUS_DAMAGED);
    train_free(&scaled);
}

static void
silent_latents_are_counted_in_tokens(void **unused)
{
    (void)unused;
    struct recipe r = small_recipe();
    r.dead_after = 3 * SMALL_B;
    r.optimiser.lr = 0;
    struct train *train;
    needs(train_new(&train, &r, &kern_cpu));
    sae_param(train_sae(train), SAE_B_ENC).at[7] = -1e6f; // will never fire
    for (int n = 0; n < 5; n++) {
        struct step_log log = small_step(train);
        assert_int_equal(train_silence(train)[7], (n + 1) * SMALL_B);
        assert_true(n < 2 ? log.dead == 0 : log.dead >= 1);
    }
    train_free(&train);
}

static void
competition_every_third_step_weighs_three_times(void **unused)
{
    (void)unused;
    char name[64];
    struct recipe r = variant(8, name);
    r.optimiser.lr = 0;
    struct train *third, *all;
    needs(train_new(&third, &r, &kern_cpu));
    r.competition.every = 1;
    needs(train_new(&all, &r, &kern_cpu));
    for (size_t t = 0; t < 18; t++) {
        struct step_log a = small_step(third), b = small_step(all);
        double want = t >= 8 && (t - 8) % 3 == 0 ? 3 * b.competition : 0;
        assert_true(fabs(a.competition - want) <= 1e-6 * want);
        assert_true(t < 8 || b.competition > 0);
    }
    train_free(&third);
    train_free(&all);
}

static void
memory_is_stated_as_a_sum(void **unused)
{
    (void)unused;
    struct holding lines[TRAIN_HOLDINGS];
    size_t count, sum = 0;
    struct recipe r = recipe_paper();
    size_t all = train_memory(lines, &count, &r, &kern_cpu);
    for (size_t n = 0; n < count; n++)
        sum += lines[n].bytes;
    assert_int_equal(all, sum);
    size_t weights = 2u * 16384 * 2304 * 4;
    assert_true(lines[0].bytes >= weights && lines[0].bytes < weights + (1 << 20));
    assert_string_equal(lines[0].name, "weights");
    assert_true(all > 3 * weights && all < 4 * weights + 5u * 2048 * 16384 * 4);
    struct recipe momentum = r, through = r;
    momentum.optimiser.beta1 = 0.9;
    through.competition.gradient = GRADIENT_THROUGH;
    size_t more = train_memory(lines, &count, &momentum, &kern_cpu);
    assert_true(more >= all + weights && more < all + weights + (1 << 20));
    assert_true(train_memory(lines, &count, &through, &kern_cpu) >= all + 2048u * 16384 * 4);
    r.sae.latents = SIZE_MAX / 8;
    assert_int_equal(train_memory(lines, &count, &r, &kern_cpu), SIZE_MAX);
}

static void
too_much_memory_is_refused(void **unused)
{
    (void)unused;
    struct recipe r = small_recipe();
    r.sae.latents = 1u << 31;
    r.rows = 1 << 20;
    r.width = 1 << 14;
    struct train *train;
    assert_int_equal(train_new(&train, &r, &kern_cpu), STATUS_CREATE);
    assert_null(train);
    assert_non_null(strstr(status_words(), "GiB, more than there is (this machine has "));
}

static void
hot_settings_take_effect_or_are_refused(void **unused)
{
    (void)unused;
    struct recipe r = small_recipe();
    r.loss.lambda_o = 0;
    r.competition.gradient = GRADIENT_THROUGH;
    struct train *train;
    needs(train_new(&train, &r, &kern_cpu));
    for (int n = 0; n < 10; n++)
        small_step(train);
    assert_int_equal(train_set(train, -1, 0.1, 0), STATUS_CONFIG);
    assert_int_equal(train_set(train, NAN, 0.1, 0), STATUS_CONFIG);
    assert_int_equal(train_set(train, 1e-3, 0.1, 0.5), STATUS_CONFIG); // no memory was taken for it
    assert_non_null(strstr(status_words(), "loss.lambda_o is 0.5"));
    needs(train_set(train, 1e-4, 0.5, 0));
    struct step_log log = small_step(train);
    assert_true(log.lr >= 1e-4 && log.lr <= 1e-4);
    assert_true(fabs(log.sparsity - 0.5 * log.l1) <= 1e-9);
    train_free(&train);
}

static void
damaged_state_is_noticed(void **unused)
{
    (void)unused;
    struct recipe r = small_recipe();
    struct train *train;
    needs(train_new(&train, &r, &kern_cpu));
    small_step(train);
    needs(train_restored(train, "ck"));
    struct state_tensor list[STATE_TENSORS];
    size_t count = train_rest(train, list);
    float *v = state_find(list, count, "adam.v.W_dec")->at, was = v[3];
    v[3] = -1;
    assert_int_equal(train_restored(train, "ck"), STATUS_DAMAGED);
    assert_string_equal(status_words(), "ck: adam.v.W_dec[3] is -1, wanted a finite number of at "
                                        "least 0");
    v[3] = was;
    int64_t *silence = state_find(list, count, "silence")->at;
    silence[0] = -5;
    assert_int_equal(train_restored(train, "ck"), STATUS_DAMAGED);
    silence[0] = 0;
    double *scale = state_find(list, count, "scale")->at;
    *scale = 0;
    assert_int_equal(train_restored(train, "ck"), STATUS_DAMAGED);
    *scale = 1;
    sae_param(train_sae(train), SAE_B_DEC).at[0] = NAN;
    assert_int_equal(train_restored(train, "ck"), STATUS_DAMAGED);
    train_free(&train);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resumed_run_has_the_bits_of_one_never_stopped),
        cmocka_unit_test(one_thread_and_two_give_the_same_bits),
        cmocka_unit_test(a_bad_batch_is_refused_and_changes_nothing),
        cmocka_unit_test(a_loss_that_is_not_finite_stops_before_the_weights),
        cmocka_unit_test(permuting_latents_moves_no_loss),
        cmocka_unit_test(what_training_saw_is_what_inference_sees),
        cmocka_unit_test(batchtopk_keeps_a_running_threshold),
        cmocka_unit_test(inputs_are_scaled_by_batch_zero),
        cmocka_unit_test(silent_latents_are_counted_in_tokens),
        cmocka_unit_test(competition_every_third_step_weighs_three_times),
        cmocka_unit_test(memory_is_stated_as_a_sum),
        cmocka_unit_test(too_much_memory_is_refused),
        cmocka_unit_test(hot_settings_take_effect_or_are_refused),
        cmocka_unit_test(damaged_state_is_noticed),
    };
    gemm_threads(1); // small arrays: a second thread costs more than it does
    return cmocka_run_group_tests_name("train", tests, NULL, NULL);
}

// The pure parts of the first-letter absorption evaluation against SAEBench's own outputs.
#include "evaluator/absorption.h"
#include "evaluator/logreg.h"
#include "evaluator/probe.h"
#include "evaluator/pyrandom.h"
#include "tests/evaluator/golden.h"

#include <omp.h>
#include <string.h>

static void
equal_list(const uint32_t *got, const json_t *want, size_t from)
{
    for (size_t i = 0; i < json_array_size(want); i++)
        assert_int_equal(got[from + i], json_integer_value(json_array_get(want, i)));
}

static void
python_random(void **unused)
{
    (void)unused;
    json_t *golden = golden_open();
    const json_t *want = golden_at(golden, "python_random");
    struct pyrandom random;
    static uint32_t out[1000], scratch[47078];
    pyrandom_seed(&random, 42);
    for (size_t i = 0; i < 4; i++)
        out[i] = pyrandom_u32(&random);
    equal_list(out, golden_at(want, "u32"), 0);
    pyrandom_seed(&random, 42);
    pyrandom_sample(&random, out, scratch, 100, 10);
    equal_list(out, golden_at(want, "sample_100_10"), 0);
    pyrandom_seed(&random, 42);
    pyrandom_sample(&random, out, scratch, 47078, 10);
    equal_list(out, golden_at(want, "sample_47078_10"), 0);
    pyrandom_seed(&random, 42);
    pyrandom_sample(&random, out, scratch, 1000, 1000);
    equal_list(out, golden_at(want, "sample_1000_1000.first"), 0);
    equal_list(out, golden_at(want, "sample_1000_1000.last"), 996);
    pyrandom_seed(&random, 42);
    pyrandom_sample(&random, out, scratch, 20, 20);
    equal_list(out, golden_at(want, "sample_20_20"), 0);
    // one stream through several samples: python -c 'import random; r = random.Random(42); ...'
    static const uint32_t second[] = {35741, 5697, 38698, 27651, 2082,
                                      1952,  6140, 14328, 15247, 33118};
    static const uint32_t third[] = {616, 27, 574, 203, 733, 665, 718, 558};
    pyrandom_seed(&random, 42);
    pyrandom_sample(&random, out, scratch, 100, 10);
    pyrandom_sample(&random, out, scratch, 47078, 10);
    assert_memory_equal(out, second, sizeof second);
    pyrandom_sample(&random, out, scratch, 1000, 1000);
    assert_memory_equal(out, third, sizeof third);
    // random.Random(2**40 + 5).getrandbits(32), and shuffle(list(range(10))) of seed 7
    static const uint32_t shuffled[] = {8, 3, 1, 4, 7, 0, 9, 6, 2, 5};
    pyrandom_seed(&random, ((uint64_t)1 << 40) + 5);
    assert_int_equal(pyrandom_u32(&random), 2166296868u);
    pyrandom_seed(&random, 7);
    for (uint32_t i = 0; i < 10; i++)
        out[i] = i;
    pyrandom_shuffle(&random, out, 10);
    assert_memory_equal(out, shuffled, sizeof shuffled);
    json_decref(golden);
}

static void
feature_splits(void **unused)
{
    (void)unused;
    json_t *golden = golden_open(), *at;
    size_t i;
    double jump = json_number_value(golden_at(golden, "feature_splits.f1_jump_threshold"));
    json_array_foreach((json_t *)(uintptr_t)golden_at(golden, "feature_splits.cases"), i, at)
    {
        double f1[10];
        assert_int_equal(golden_numbers(f1, 10, golden_at(at, "f1_by_k")), 10);
        assert_int_equal(absorption_split(f1, 10, jump),
                         json_integer_value(golden_at(at, "num_split_features")));
    }
    assert_int_equal(i, 5);
    json_decref(golden);
}

static void
words(void **unused)
{
    (void)unused;
    enum { LATENTS = 12, D = 4, WORDS = 9 };
    json_t *golden = golden_open(), *at;
    const json_t *want = golden_at(golden, "absorption_words");
    float decoder[LATENTS * D], probe[D], acts[WORDS * D], feats[WORDS * LATENTS];
    assert_int_equal(golden_floats(decoder, LATENTS * D, golden_at(want, "W_dec")), LATENTS * D);
    assert_int_equal(golden_floats(probe, D, golden_at(want, "probe")), D);
    assert_int_equal(golden_floats(acts, WORDS * D, golden_at(want, "acts")), WORDS * D);
    assert_int_equal(golden_floats(feats, WORDS * LATENTS, golden_at(want, "feats")),
                     WORDS * LATENTS);
    double cosines[LATENTS], norm = absorption_cosines(cosines, probe, decoder, LATENTS, D);
    size_t c, seen = 0;
    json_array_foreach((json_t *)(uintptr_t)golden_at(want, "cases"), c, at)
    {
        double listed[LATENTS];
        size_t mains = golden_numbers(listed, LATENTS, golden_at(at, "main_latents"));
        uint32_t main[LATENTS];
        for (size_t i = 0; i < mains; i++)
            main[i] = (uint32_t)listed[i];
        for (size_t w = 0; w < WORDS; w++) {
            const json_t *word = json_array_get(golden_at(at, "words"), w);
            uint32_t index[LATENTS];
            float value[LATENTS];
            size_t active = 0;
            double p = 0;
            for (size_t i = 0; i < D; i++)
                p += (double)acts[w * D + i] * (double)probe[i] / norm;
            for (uint32_t j = 0; j < LATENTS; j++)
                if (feats[w * LATENTS + j] > 0) {
                    index[active] = j;
                    value[active++] = feats[w * LATENTS + j];
                }
            struct absorbed got =
                absorption_word(p, cosines, LATENTS, index, value, active, main, mains);
            near(got.projection, json_number_value(golden_at(word, "probe_projection")), 1e-5);
            near(got.fraction, json_number_value(golden_at(word, "absorption_fraction")), 1e-5);
            near(got.top_projection, json_number_value(golden_at(word, "top_projection")), 1e-5);
            assert_int_equal(got.top, json_integer_value(golden_at(word, "top_latent")));
            assert_int_equal(got.full, json_is_true(golden_at(word, "is_full_absorption")));
            seen++;
        }
    }
    assert_int_equal(seen, 18);
    json_decref(golden);
}

// Where SAEBench divides by zero, and where every activation points away.
static void
word_edges(void **unused)
{
    (void)unused;
    const double cosines[4] = {-0.5, 0.9, -0.9, 0.3};
    const uint32_t index[2] = {0, 2}, main[1] = {1};
    const float value[2] = {1, 2};
    struct absorbed got = absorption_word(0, cosines, 4, index, value, 2, main, 1);
    assert_true(got.fraction == 0 && !got.full);
    assert_true(got.top == 1 && got.top_projection == 0); // the first silent one beats q < 0
    got = absorption_word(1, cosines, 4, NULL, NULL, 0, main, 1);
    assert_true(got.top == 0 && got.fraction == 0 && !got.full);
    const uint32_t all[4] = {0, 1, 2, 3};
    const float ones[4] = {1, 1, 1, 1};
    got = absorption_word(1, cosines, 4, all, ones, 4, main, 1);
    assert_true(got.top == 1 && got.fraction == 0); // 0.3 of others is under 0.4
    const float strong[4] = {1, 0.1f, 1, 2};
    got = absorption_word(1, cosines, 4, all, strong, 4, main, 1);
    near(got.fraction, 0.6 / 0.69, 1e-6);
    assert_false(got.full); // the main latent speaks
}

enum { ROWS = 10, IN = 3, CLASSES = 3 };

static void
train_golden(const char *name, bool sparse)
{
    json_t *golden = golden_open();
    const json_t *want = golden_at(golden, name);
    float x[ROWS * IN], w[CLASSES * IN], b[CLASSES];
    double y[ROWS], wanted_w[CLASSES * IN], wanted_b[CLASSES];
    golden_floats(x, ROWS * IN, golden_at(want, "x"));
    golden_floats(w, CLASSES * IN, golden_at(want, "W0"));
    golden_floats(b, CLASSES, golden_at(want, "b0"));
    golden_numbers(y, ROWS, golden_at(want, "y"));
    golden_numbers(wanted_w, CLASSES * IN, golden_at(want, "W"));
    golden_numbers(wanted_b, CLASSES, golden_at(want, "b"));
    uint8_t label[ROWS];
    uint64_t start[ROWS + 1];
    uint32_t index[ROWS * IN];
    for (size_t r = 0; r < ROWS; r++)
        label[r] = (uint8_t)y[r];
    for (size_t r = 0; r <= ROWS; r++)
        start[r] = r * IN;
    for (size_t i = 0; i < ROWS * IN; i++)
        index[i] = (uint32_t)(i % IN);
    const json_t *l1 = golden_at(want, "l1_decay");
    struct probe_recipe recipe = {
        .classes = CLASSES,
        .batch = ROWS,
        .epochs = (size_t)json_integer_value(golden_at(want, "epochs")),
        .lr = json_number_value(golden_at(want, "lr")),
        .lr_end = json_number_value(golden_at(want, "end_lr")),
        .weight_decay = json_number_value(golden_at(want, "weight_decay")),
        .l1 = json_is_number(l1) ? json_number_value(l1) : 0,
    };
    struct probe_data data = {
        .rows = ROWS,
        .inputs = IN,
        .dense = sparse ? NULL : x,
        .start = start,
        .index = index,
        .value = x,
        .label = label,
    };
    assert_int_equal(probe_train(w, b, &recipe, &data, NULL, NULL), STATUS_OK);
    for (size_t i = 0; i < CLASSES * IN; i++)
        near((double)w[i], wanted_w[i], 1e-4);
    for (size_t c = 0; c < CLASSES; c++)
        near((double)b[c], wanted_b[c], 1e-4);
    json_decref(golden);
}

static void
probes(void **unused)
{
    (void)unused;
    for (int sparse = 0; sparse < 2; sparse++) {
        train_golden("train_gt_probe", sparse);
        train_golden("train_sparse_l1_probe", sparse);
    }
    struct probe_recipe truth = probe_recipe_truth(1), l1 = probe_recipe_sparse(1);
    assert_true(truth.batch == 64 && l1.batch == 4096 && truth.l1 == 0 && l1.l1 == 0.01);
}

static bool
stop_at_once(void *context, double share)
{
    *(double *)context = share;
    return true;
}

// Classes that a plane divides are learned; the bits depend on no thread count; dense and sparse
// rows give the same; a class without rows is refused.
static void
probe_learns(void **unused)
{
    (void)unused;
    enum { N = 500, D = 70, K = 3 };
    float *x = calloc(N * D, sizeof *x), *value = calloc(N * D, sizeof *value),
          *z = calloc(N * K, sizeof *z);
    uint32_t *index = calloc(N * D, sizeof *index);
    uint64_t *start = calloc(N + 1, sizeof *start);
    uint8_t label[N];
    float w[3][K * D], b[3][K];
    assert_true(x && value && z && index && start);
    uint64_t state = 5;
    for (size_t r = 0; r < N; r++) {
        label[r] = r % 7 == 0 ? NO_CLASS : (uint8_t)(r % K);
        start[r + 1] = start[r];
        for (size_t j = 0; j < D; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            float noise = (float)(state >> 40) / (1 << 24) - 0.5f;
            x[r * D + j] = noise > 0 ? noise : 0;
            if (j == label[r] * 20u)
                x[r * D + j] += 6;
            if (x[r * D + j] > 0) {
                index[start[r + 1]] = (uint32_t)j;
                value[start[r + 1]++] = x[r * D + j];
            }
        }
    }
    struct probe_recipe recipe = probe_recipe_truth(3);
    recipe.classes = K;
    for (int i = 0; i < 3; i++) {
        struct probe_data data = {.rows = N,
                                  .inputs = D,
                                  .dense = i == 2 ? NULL : x,
                                  .start = start,
                                  .index = index,
                                  .value = value,
                                  .label = label};
        omp_set_num_threads(i == 1 ? 3 : 2);
        probe_start(w[i], b[i], &recipe, D);
        assert_int_equal(probe_train(w[i], b[i], &recipe, &data, NULL, NULL), STATUS_OK);
        probe_apply(z, w[i], b[i], K, &data);
        for (size_t c = 0; c < K; c++)
            assert_true(probe_f1(z, K, c, label, N) > 0.98);
    }
    omp_set_num_threads(2);
    assert_memory_equal(w[0], w[1], sizeof w[0]);
    for (size_t i = 0; i < K * D; i++)
        near((double)w[2][i], (double)w[0][i], 1e-3);
    struct probe_data data = {.rows = N, .inputs = D, .dense = x, .label = label};
    double share = 0;
    assert_int_equal(probe_train(w[0], b[0], &recipe, &data, stop_at_once, &share), STATUS_AGAIN);
    assert_true(share > 0 && share < 0.1);
    recipe.classes = K + 1;
    float wide[(K + 1) * D], wide_b[K + 1];
    probe_start(wide, wide_b, &recipe, D);
    assert_int_equal(probe_train(wide, wide_b, &recipe, &data, NULL, NULL), STATUS_CONFIG);
    free(start);
    free(index);
    free(z);
    free(value);
    free(x);
}

static void
f1(void **unused)
{
    (void)unused;
    const float z[5] = {1, 1, -1, -1, 0};
    const uint8_t label[5] = {0, 1, 0, 1, 0};
    near(probe_f1(z, 1, 0, label, 5), 2.0 / 5, 1e-12); // TP 1, FP 1, FN 2
    const uint8_t none[5] = {1, 1, 1, 1, 1};
    assert_true(probe_f1(z + 2, 1, 0, none, 3) == 0); // 0/0
}

static void
regression(void **unused)
{
    (void)unused;
    enum { N = 14 };
    json_t *golden = golden_open();
    const json_t *want = golden_at(golden, "logreg");
    float a[N * 2];
    double y[N];
    bool positive[N];
    golden_floats(a, N * 2, golden_at(want, "x"));
    golden_numbers(y, N, golden_at(want, "y"));
    for (size_t r = 0; r < N; r++)
        positive[r] = y[r] > 0;
    for (int balanced = 0; balanced < 2; balanced++) {
        const json_t *answer = golden_at(want, balanced ? "balanced" : "plain");
        double w[2], b, exact[2];
        assert_int_equal(logreg_fit(w, &b, a, positive, N, 2, balanced), STATUS_OK);
        golden_numbers(exact, 2, golden_at(answer, "coef_exact"));
        near(w[0], exact[0], 1e-4);
        near(w[1], exact[1], 1e-4);
        near(b, json_number_value(golden_at(answer, "intercept_exact")), 1e-4);
    }
    json_decref(golden);
}

// At the minimum the gradient is zero, also where the classes are divided and values are huge.
static void
regression_edges(void **unused)
{
    (void)unused;
    const float divided[6] = {-1e4f, -2, -1, 1, 2, 3e4f};
    const bool positive[6] = {0, 0, 0, 1, 1, 1};
    double w, b;
    assert_int_equal(logreg_fit(&w, &b, divided, positive, 6, 1, false), STATUS_OK);
    double slope_w = w, slope_b = 0;
    for (size_t r = 0; r < 6; r++) {
        double chance = 1 / (1 + exp(-(w * (double)divided[r] + b))) - positive[r];
        slope_w += chance * (double)divided[r];
        slope_b += chance;
    }
    assert_true(fabs(slope_w) < 1e-6 && fabs(slope_b) < 1e-6);
    const float zeros[4] = {0, 0, 0, 0};
    assert_int_equal(logreg_fit(&w, &b, zeros, positive + 1, 4, 1, false), STATUS_OK);
    assert_true(w == 0);
    near(b, 0, 0);
    assert_int_equal(logreg_fit(&w, &b, zeros, positive, 3, 1, false), STATUS_CONFIG);
    const float bad[2] = {NAN, 1};
    assert_int_equal(logreg_fit(&w, &b, bad, positive + 2, 2, 1, false), STATUS_CONFIG);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_random),
        cmocka_unit_test(feature_splits),
        cmocka_unit_test(words),
        cmocka_unit_test(word_edges),
        cmocka_unit_test(probes),
        cmocka_unit_test(probe_learns),
        cmocka_unit_test(f1),
        cmocka_unit_test(regression),
        cmocka_unit_test(regression_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

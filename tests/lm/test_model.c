// The forward pass against goldens of independent implementations (tests/golden/README.md), and
// the promises of model.h.
#include "lib/base/file.h"
#include "lib/lm/model.h"
#include "lib/lm/model_inside.h"
#include "tests/lm/golden_file.h"
#include "tests/store/scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char *
golden_path(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/golden/%s", OSAE_TESTS, name);
    return path;
}

static struct model *
open_model(const char *name, size_t layer, size_t context, size_t contexts,
           enum gemm_precision precision, bool whole)
{
    struct model *m;
    struct model_settings set = {.path = golden_path(name),
                                 .layer = layer,
                                 .context = context,
                                 .batch_contexts = contexts,
                                 .precision = precision,
                                 .whole = whole};
    if (model_new(&m, &set) != STATUS_OK)
        fail_msg("%s", status_words());
    return m;
}

static void
same_within(const float *got, const float *want, size_t n, double most, const char *what)
{
    double worst = worst_difference(got, want, n);
    if (!(worst <= most))
        fail_msg("%s differs by %g, wanted at most %g", what, worst, most);
}

// One golden file: tokens, hidden states, logits, losses and splices.
struct golden {
    struct safetensors *file;
    uint32_t *ids;
    size_t rows, n, context, width, vocab, hook;
    float *logits;
};

static struct golden
golden_take(const char *name)
{
    struct golden g = {.file = golden_open(name)};
    g.ids = golden_ids(g.file, "input_ids", &g.rows);
    g.n = safetensors_find(g.file, "input_ids")->shape[0];
    g.context = g.rows / g.n;
    g.width = safetensors_find(g.file, "hidden.0")->shape[2];
    g.vocab = safetensors_find(g.file, "logits")->shape[2];
    g.hook = strtoul(safetensors_metadata(g.file, "hook_block"), NULL, 10);
    g.logits = golden_floats(g.file, "logits", NULL);
    return g;
}

static void
golden_drop(struct golden *g)
{
    safetensors_close(&g->file);
    free(g->ids);
    free(g->logits);
}

static void
check_losses(const struct golden *g, const char *name, const float *logits)
{
    char key[64];
    snprintf(key, sizeof key, "%sce", name);
    float *ce = golden_floats(g->file, key, NULL), *kl = NULL;
    if (*name) {
        snprintf(key, sizeof key, "%skl", name);
        kl = golden_floats(g->file, key, NULL);
    }
    for (size_t r = 0, at = 0; r < g->rows; r++) {
        const float *row = logits + r * g->vocab;
        if (kl)
            assert_true(fabs(divergence(g->logits + r * g->vocab, row, g->vocab) - (double)kl[r]) <=
                        2e-4);
        if (r % g->context == g->context - 1)
            continue; // nothing follows
        assert_true(fabs(cross_entropy(row, g->vocab, g->ids[r + 1]) - (double)ce[at++]) <= 2e-4);
    }
    free(ce);
    free(kl);
}

static void
check_family(const char *model_name, const char *golden_name)
{
    struct golden g = golden_take(golden_name);
    size_t count = g.rows * g.width;
    float *x = malloc(count * sizeof *x), *y = malloc(count * sizeof *y);
    float *logits = malloc(g.rows * g.vocab * sizeof *logits);
    struct model *m = open_model(model_name, g.hook, g.context, g.n, GEMM_F32, true);
    assert_int_equal(model_width(m), g.width);
    assert_int_equal(model_vocab(m), g.vocab);

    // every block, one after the other; and the hook of model_below in its own model
    float *stream = golden_floats(g.file, "hidden.0", NULL);
    for (size_t i = 0; i < model_layers(m); i++) {
        char key[32];
        snprintf(key, sizeof key, "hidden.%zu", i + 1);
        float *want = golden_floats(g.file, key, NULL);
        model_blocks(m, stream, g.n, i, i + 1);
        same_within(stream, want, count, 2e-4, key);
        struct model *part = open_model(model_name, i, g.context, g.n, GEMM_F32, false);
        assert_int_equal(model_below(part, g.ids, g.n, x), STATUS_OK);
        same_within(x, want, count, 2e-4, key);
        model_free(&part);
        free(want);
    }
    free(stream);

    float *final = golden_floats(g.file, "final_norm", NULL);
    assert_int_equal(model_below(m, g.ids, g.n, x), STATUS_OK);
    model_above(m, x, g.n, y);
    same_within(y, final, count, 2e-4, "final_norm");
    free(final);
    model_logits(m, y, g.rows, logits);
    same_within(logits, g.logits, g.rows * g.vocab, 2e-4, "logits");
    check_losses(&g, "", logits);

    if (safetensors_find(g.file, "splice.x0.9.ce")) {
        for (size_t i = 0; i < count; i++)
            y[i] = 0.9f * x[i];
        model_above(m, y, g.n, y);
        model_logits(m, y, g.rows, logits);
        check_losses(&g, "splice.x0.9.", logits);
        memset(y, 0, count * sizeof *y);
        model_above(m, y, g.n, y);
        model_logits(m, y, g.rows, logits);
        check_losses(&g, "splice.zero.", logits);
    }
    memset(y, 0, count * sizeof *y);
    model_above(m, y, g.n, y);
    model_logits(m, y, g.rows, logits);
    bool zero = true;
    for (size_t i = 0; i < g.rows * g.vocab; i++)
        zero = zero && logits[i] == 0;
    assert_int_equal(zero, model_is_bias_free(m));
    model_free(&m);
    free(x);
    free(y);
    free(logits);
    golden_drop(&g);
}

static void
gemma2_from_a_folder(void **unused)
{
    (void)unused;
    check_family("tiny-gemma2", "tiny-gemma2/golden.safetensors");
}

static void
gemma2_from_a_gguf(void **unused)
{
    (void)unused;
    check_family("tiny-gemma2/tiny-gemma2.gguf", "tiny-gemma2/golden.safetensors");
}

static void
llama_from_shards(void **unused)
{
    (void)unused;
    check_family("tiny-llama", "tiny-llama/golden.safetensors");
}

static void
llama_from_a_quantised_gguf(void **unused)
{
    (void)unused;
    check_family("tiny-llama/tiny-llama-q4_1.gguf", "tiny-llama/golden-q4_1.safetensors");
}

static void
the_other_families(void **unused)
{
    (void)unused;
    static const char *const names[] = {"tiny-qwen2", "tiny-qwen3", "tiny-gpt2", "tiny-gpt_neox",
                                        "tiny-gpt_neox-sequential"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char golden[64];
        snprintf(golden, sizeof golden, "%s/golden.safetensors", names[i]);
        check_family(names[i], golden);
    }
}

// Contexts of every length up to 40 against the whole: what follows a position never matters, and
// tiles of attention that hang over the end repeat the right rows.
static void
short_contexts_are_the_beginning_of_long_ones(void **unused)
{
    (void)unused;
    struct golden g = golden_take("tiny-gemma2/golden.safetensors");
    size_t d = g.width;
    float *want = golden_floats(g.file, "hidden.4", NULL), *x = malloc(g.rows * d * sizeof *x);
    static const size_t lengths[] = {1, 2, 3, 4, 5, 7, 15, 16, 17, 18, 33, 39};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct model *m = open_model("tiny-gemma2", 3, lengths[i], 1, GEMM_F32, false);
        assert_int_equal(model_below(m, g.ids, 1, x), STATUS_OK);
        same_within(x, want, lengths[i] * d, 2e-4, "a short context");
        model_free(&m);
    }
    free(want);
    free(x);
    golden_drop(&g);
}

// Single positions of short contexts, filled up with other ids behind them, have the bits that a
// whole pass gives them.
static void
one_position_of_each_context(void **unused)
{
    (void)unused;
    static const char *const names[] = {"tiny-gemma2", "tiny-llama/tiny-llama-q4_1.gguf"};
    enum { SHORT = 19, MANY = 7 };
    for (size_t i = 0; i < 2; i++) {
        struct golden g =
            golden_take(i % 2 ? "tiny-llama/golden.safetensors" : "tiny-gemma2/golden.safetensors");
        size_t d = g.width, n = 4 * g.context / SHORT;
        assert_true(n >= MANY && g.context > SHORT);
        float *whole = malloc(g.context * d * sizeof *whole),
              *x = malloc(n * SHORT * d * sizeof *x);
        uint32_t *ids = malloc(n * SHORT * sizeof *ids), *at = malloc(n * sizeof *at);
        uint32_t *row = malloc(g.context * sizeof *row);
        struct model *m = open_model(names[i], 2, g.context, 4, GEMM_F32, false);
        for (size_t j = 0; j < n; j++) {
            at[j] = (uint32_t)(j * 5 % SHORT);
            for (size_t t = 0; t < SHORT; t++)
                ids[j * SHORT + t] = t <= at[j] ? g.ids[t] : (uint32_t)(7 * j + t);
        }
        assert_int_equal(model_below_at(m, ids, n, SHORT, at, x), STATUS_OK);
        assert_int_equal(model_below(m, g.ids, 1, whole), STATUS_OK);
        for (size_t j = 0; j < n; j++)
            assert_memory_equal(x + j * d, whole + at[j] * d, d * sizeof *x);
        assert_int_equal(model_below_at(m, ids + SHORT, 1, SHORT, at + 1, x), STATUS_OK);
        assert_memory_equal(x, whole + at[1] * d, d * sizeof *x);
        // In order, so that each begins as the one before: all that one has, all but the last,
        // none.
        for (size_t j = 0; j < n; j++) {
            at[j] = (uint32_t)(j * j % SHORT);
            for (size_t t = 0; t < SHORT; t++)
                ids[j * SHORT + t] = t < at[j] || j % 3 ? g.ids[t] : g.ids[t + 1];
        }
        size_t fit = model_fit_at(4 * g.context, ids, n, SHORT, at);
        assert_int_equal(fit, n);
        assert_int_equal(model_below_at(m, ids, n, SHORT, at, x), STATUS_OK);
        for (size_t j = 0; j < n; j++) {
            memcpy(row, g.ids, g.context * sizeof *row);
            memcpy(row, ids + j * SHORT, SHORT * sizeof *row);
            assert_int_equal(model_below(m, row, 1, whole), STATUS_OK);
            assert_memory_equal(x + j * d, whole + at[j] * d, d * sizeof *x);
        }
        ids[3] = UINT32_MAX;
        assert_int_equal(model_below_at(m, ids, 1, SHORT, at, x), STATUS_DAMAGED);
        model_free(&m);
        free(whole);
        free(x);
        free(row);
        free(ids);
        free(at);
        golden_drop(&g);
    }
}

// Rows are what fills a call: prompts that are all alike cost one each, unlike ones all of theirs.
static void
what_prompts_share_makes_room_for_more(void **unused)
{
    (void)unused;
    enum { C = 6, B = 2, MANY = 40 };
    struct golden g = golden_take("tiny-gemma2/golden.safetensors");
    uint32_t ids[MANY * C], at[MANY];
    float *x = malloc(B * C * g.width * sizeof *x);
    struct model *m = open_model("tiny-gemma2", 2, C, B, GEMM_F32, false);
    for (size_t i = 0; i < MANY; i++) {
        at[i] = C - 1;
        memcpy(ids + i * C, g.ids, C * sizeof *ids);
    }
    assert_int_equal(model_fit_at(B * C, ids, MANY, C, at), 1 + C); // C rows, then one each
    assert_int_equal(model_below_at(m, ids, 1 + C, C, at, x), STATUS_OK);
    for (size_t i = 1; i <= C; i++)
        assert_memory_equal(x, x + i * g.width, g.width * sizeof *x);
    for (size_t i = 0; i < MANY; i++)
        ids[i * C] = (uint32_t)(i + 1);
    assert_int_equal(model_fit_at(B * C, ids, MANY, C, at), B);
    at[0] = C - 2; // does not help the third
    assert_int_equal(model_fit_at(B * C, ids, MANY, C, at), B);
    at[1] = 0; // this does: five, one, six
    assert_int_equal(model_fit_at(B * C, ids, MANY, C, at), 3);
    model_free(&m);
    free(x);
    golden_drop(&g);
}

static void
bits_do_not_depend_on_threads_or_neighbours(void **unused)
{
    (void)unused;
    static const char *const names[] = {"tiny-gemma2", "tiny-llama/tiny-llama-q4_1.gguf"};
    for (size_t i = 0; i < 4; i++) {
        struct golden g =
            golden_take(i % 2 ? "tiny-llama/golden.safetensors" : "tiny-gemma2/golden.safetensors");
        enum gemm_precision precision = i < 2 ? GEMM_F32 : GEMM_BF16;
        size_t count = g.rows * g.width, cells = g.rows * g.vocab, many = 5;
        uint32_t *ids = malloc(many * g.rows * sizeof *ids);
        float *one = malloc(many * count * sizeof *one), *two = malloc(many * count * sizeof *two);
        float *a = malloc(cells * sizeof *a), *b = malloc(cells * sizeof *b);
        for (size_t j = 0; j < many * g.rows; j++)
            ids[j] = g.ids[j % g.rows];
        gemm_threads(2);
        struct model *m = open_model(names[i % 2], 1, g.context, many * g.n, precision, true);
        assert_int_equal(model_below(m, ids, many * g.n, two), STATUS_OK);
        model_logits(m, two, g.rows, b);
        gemm_threads(1);
        assert_int_equal(model_below(m, ids, many * g.n, one), STATUS_OK);
        model_logits(m, one, g.rows, a);
        assert_memory_equal(one, two, many * count * sizeof *one);
        assert_memory_equal(a, b, cells * sizeof *a);
        if (precision == GEMM_F32) { // the same two contexts, five times over and alone
            for (size_t j = 1; j < many; j++)
                assert_memory_equal(one, one + j * count, count * sizeof *one);
            assert_int_equal(model_below(m, g.ids + g.context, 1, two), STATUS_OK);
            assert_memory_equal(two, one + count / 2, count / 2 * sizeof *one);
        }
        gemm_threads(2);
        model_free(&m);
        free(ids);
        free(one);
        free(two);
        free(a);
        free(b);
        golden_drop(&g);
    }
}

static int
by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void
bf16_products_stay_near(void **unused)
{
    (void)unused;
    struct golden g = golden_take("tiny-llama/golden.safetensors");
    struct model *m = open_model("tiny-llama", 3, g.context, g.n, GEMM_BF16, false);
    float *want = golden_floats(g.file, "hidden.4", NULL);
    float *x = malloc(g.rows * g.width * sizeof *x);
    double *errors = malloc(g.rows * sizeof *errors);
    assert_int_equal(model_below(m, g.ids, g.n, x), STATUS_OK);
    for (size_t r = 0; r < g.rows; r++) {
        double off = 0, size = 0;
        for (size_t i = r * g.width; i < (r + 1) * g.width; i++) {
            off += pow((double)x[i] - (double)want[i], 2);
            size += pow((double)want[i], 2);
        }
        errors[r] = sqrt(off / size);
    }
    qsort(errors, g.rows, sizeof *errors, by_size);
    double median = errors[g.rows / 2];
    if (!(median > 1e-4 && median < 3e-2)) // rounded, but not wrong
        fail_msg("the median error is %g", median);
    model_free(&m);
    free(want);
    free(x);
    free(errors);
    golden_drop(&g);
}

static void
refused(struct model_settings set, enum status code, const char *words)
{
    struct model *m = NULL;
    assert_int_equal(model_new(&m, &set), code);
    assert_null(m);
    if (!strstr(status_words(), words))
        fail_msg("said '%s', wanted '%s' in it", status_words(), words);
}

static void
settings_that_do_not_fit_are_refused(void **unused)
{
    (void)unused;
    struct model_settings good = {
        .path = golden_path("tiny-llama"), .layer = 3, .context = 128, .batch_contexts = 1};
    struct model_settings set = good;
    set.layer = 4;
    refused(set, STATUS_CONFIG, "block 4 is hooked, but the model's blocks are 0 to 3");
    set = good;
    set.context = 129;
    refused(set, STATUS_CONFIG, "contexts of 129 tokens, but the model reads at most 128");
    set = good;
    set.batch_contexts = (size_t)1 << 40;
    refused(set, STATUS_CREATE, "GiB are available");
    set.batch_contexts = SIZE_MAX / 2;
    refused(set, STATUS_CONFIG, "at a time are too many");
    set = good;
    set.path = "/nowhere/at/all.gguf";
    refused(set, STATUS_MISSING, "/nowhere/at/all.gguf");
}

static void
ids_out_of_range_are_refused(void **unused)
{
    (void)unused;
    struct model *m = open_model("tiny-llama", 0, 4, 1, GEMM_F32, false);
    float x[4 * 64];
    uint32_t ids[4] = {0, 511, 512, 3};
    assert_int_equal(model_below(m, ids, 1, x), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "token 512 at position 2"));
    ids[2] = UINT32_MAX;
    assert_int_equal(model_below(m, ids, 1, x), STATUS_DAMAGED);
    ids[2] = 0;
    assert_int_equal(model_below(m, ids, 1, x), STATUS_OK);
    model_free(&m);
}

static void
memory_is_stated_with_its_parts(void **unused)
{
    (void)unused;
    struct model *part = open_model("tiny-llama", 0, 128, 4, GEMM_F32, false);
    struct model *whole = open_model("tiny-llama", 0, 128, 4, GEMM_F32, true);
    size_t block = 4 * (64 * 128 + 64 * 64 + 3 * 64 * 160), head = 4 * 64 * 512;
    assert_true(model_bytes(part) > block);
    assert_true(model_bytes(whole) >= model_bytes(part) + 3 * block + head);
    assert_non_null(strstr(model_memory(part), "GiB = blocks "));
    assert_string_equal(model_family(part), "llama");
    assert_int_equal(model_layers(part), 4);
    assert_true(hash128_same(model_hash(part), model_hash(whole)));
    model_free(&part);
    model_free(&whole);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemma2_from_a_folder),
        cmocka_unit_test(gemma2_from_a_gguf),
        cmocka_unit_test(llama_from_shards),
        cmocka_unit_test(llama_from_a_quantised_gguf),
        cmocka_unit_test(the_other_families),
        cmocka_unit_test(short_contexts_are_the_beginning_of_long_ones),
        cmocka_unit_test(one_position_of_each_context),
        cmocka_unit_test(what_prompts_share_makes_room_for_more),
        cmocka_unit_test(bits_do_not_depend_on_threads_or_neighbours),
        cmocka_unit_test(bf16_products_stay_near),
        cmocka_unit_test(settings_that_do_not_fit_are_refused),
        cmocka_unit_test(ids_out_of_range_are_refused),
        cmocka_unit_test(memory_is_stated_with_its_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

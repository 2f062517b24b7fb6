// The forward pass on a real model: SmolLM2-135M-Instruct (Q4_1) against float32 numbers of
// transformers. Skips without the file: OSAE_SMOLLM2, or cache/models/ beside this tree.
#include "lib/base/file.h"
#include "lib/lm/maths.h"
#include "lib/lm/model.h"
#include "lib/lm/model_inside.h"
#include "tests/lm/golden_file.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

// All four paragraphs take half a minute where every access is checked: one there.
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { PARAGRAPHS = 1 };
#else
enum { PARAGRAPHS = 4 };
#endif
enum { SENTENCES = 4, N = SENTENCES + PARAGRAPHS, C = 128, D = 576, V = 49152 };
static const char *const paragraphs[] = {"harbour", "cells", "code", "mixed"};

static struct {
    struct model *model;
    struct safetensors *golden;
    json_t *facts;
    uint32_t ids[N * C]; // sentences, then paragraphs; what is behind a text does not matter to it
    size_t tokens[N];
    float *x;      // [N*C x D], the stream after block 12
    float *logits; // [PARAGRAPHS*C x V], unspliced
} it;

static const char *
model_path(void)
{
    const char *path = getenv("OSAE_SMOLLM2");
    return path && *path ? path : OSAE_TESTS "/../cache/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

static const json_t *
paragraph(size_t i)
{
    return json_object_get(json_object_get(it.facts, "paragraphs"), paragraphs[i]);
}

static int
load(void **unused)
{
    (void)unused;
    struct model_settings set = {
        .path = model_path(), .layer = 12, .context = C, .batch_contexts = N, .whole = true};
    it.golden = golden_open("smollm2-golden/golden.safetensors");
    it.facts = json_load_file(OSAE_TESTS "/golden/smollm2-golden/golden.json", 0, NULL);
    it.x = malloc((size_t)N * C * D * sizeof *it.x);
    it.logits = malloc((size_t)PARAGRAPHS * C * V * sizeof *it.logits);
    if (!it.facts || !it.x || !it.logits || model_new(&it.model, &set) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_words());
        return -1;
    }
    for (size_t n = 0; n < N; n++) {
        uint32_t *ids = it.ids + n * C;
        if (n < SENTENCES) {
            char key[16];
            snprintf(key, sizeof key, "s%zu.ids", n);
            uint32_t *from = golden_ids(it.golden, key, &it.tokens[n]);
            memcpy(ids, from, it.tokens[n] * sizeof *ids);
            free(from);
            continue;
        }
        const json_t *from = json_object_get(paragraph(n - SENTENCES), "ids");
        it.tokens[n] = 1; // a 0 in front
        for (size_t i = 0; i < json_array_size(from) && it.tokens[n] < C; i++)
            ids[it.tokens[n]++] = (uint32_t)json_integer_value(json_array_get(from, i));
    }
    return 0;
}

static int
unload(void **unused)
{
    (void)unused;
    model_free(&it.model);
    safetensors_close(&it.golden);
    json_decref(it.facts);
    free(it.x);
    free(it.logits);
    return 0;
}

static void
rows_near(const float *got, const float *want, size_t rows, double most, const char *key)
{
    for (size_t r = 0; r < rows; r++) {
        double off = 0, size = 0;
        for (size_t i = r * D; i < (r + 1) * D; i++) {
            off += pow((double)got[i] - (double)want[i], 2);
            size += pow((double)want[i], 2);
        }
        if (!(sqrt(off) <= most * sqrt(size)))
            fail_msg("%s, row %zu: off by %g of its length, wanted at most %g", key, r,
                     sqrt(off / size), most);
    }
}

// Steps the sentences through all blocks, checking where the golden file has the stream; then the
// head.
static void
sentences_match_block_by_block(void **unused)
{
    (void)unused;
    static const size_t layers[] = {0, 5, 12, 15, 20, 28, 29};
    float *x = calloc((size_t)SENTENCES * C * D, sizeof *x);
    float *logits = malloc((size_t)C * V * sizeof *logits);
    char key[32];
    for (size_t n = 0; n < SENTENCES; n++) {
        snprintf(key, sizeof key, "s%zu.embed", n);
        float *embed = golden_floats(it.golden, key, NULL);
        memcpy(x + n * C * D, embed, it.tokens[n] * D * sizeof *x);
        free(embed);
    }
    for (size_t l = 0, from = 0; l < sizeof layers / sizeof *layers; l++) {
        model_blocks(it.model, x, SENTENCES, from, layers[l] + 1);
        from = layers[l] + 1;
        for (size_t n = 0; n < SENTENCES; n++) {
            snprintf(key, sizeof key, "s%zu.resid_post.%zu", n, layers[l]);
            float *want = golden_floats(it.golden, key, NULL);
            rows_near(x + n * C * D, want, it.tokens[n], 1e-4, key);
            free(want);
        }
    }
    struct model *m = it.model;
    for (size_t n = 0; n < SENTENCES; n++) {
        size_t count, rows = it.tokens[n];
        float *y = x + n * C * D;
        for (size_t r = 0; r < rows; r++)
            maths_rms(y + r * D, y + r * D, m->final_norm, D, m->arch->eps);
        model_logits(m, y, rows, logits);
        snprintf(key, sizeof key, "s%zu.top.ids", n);
        uint32_t *ids = golden_ids(it.golden, key, &count);
        snprintf(key, sizeof key, "s%zu.top.logits", n);
        float *top = golden_floats(it.golden, key, NULL);
        snprintf(key, sizeof key, "s%zu.logsumexp", n);
        float *sums = golden_floats(it.golden, key, NULL);
        double ce = 0;
        for (size_t i = 0; i < count; i++)
            if (!(fabs((double)logits[i / 10 * V + ids[i]] - (double)top[i]) <= 2e-3))
                fail_msg("sentence %zu, position %zu: logit of %u is %g, wanted %g", n, i / 10,
                         ids[i], (double)logits[i / 10 * V + ids[i]], (double)top[i]);
        for (size_t r = 0; r < rows; r++) {
            assert_true(fabs(log_sum(logits + r * V, V) - (double)sums[r]) <= 2e-3);
            if (r + 1 < rows)
                ce += cross_entropy(logits + r * V, V, it.ids[n * C + r + 1]);
        }
        double want = json_real_value(
            json_object_get(json_array_get(json_object_get(it.facts, "sentences"), n), "ce"));
        if (!(fabs(ce / (double)(rows - 1) - want) <= 1e-4))
            fail_msg("sentence %zu: CE %.6f, wanted %.6f", n, ce / (double)(rows - 1), want);
        free(ids);
        free(top);
        free(sums);
    }
    free(x);
    free(logits);
}

static void
near(double got, double want, double most, const char *what, size_t i)
{
    if (!(fabs(got - want) <= most))
        fail_msg("%s, %s: %.7f, wanted %.7f", paragraphs[i], what, got, want);
}

static double
fact(size_t i, const char *splice, const char *what)
{
    const json_t *from = json_object_get(paragraph(i), "bos0");
    if (splice)
        from = json_object_get(from, splice);
    const json_t *value = json_object_get(from, what);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

// Losses of each paragraph against the golden numbers; KL against it.logits.
static void
check_paragraphs(const float *logits, const char *splice)
{
    for (size_t i = 0; i < PARAGRAPHS; i++) {
        const float *own = logits + i * C * V, *base = it.logits + i * C * V;
        const uint32_t *ids = it.ids + (SENTENCES + i) * C;
        size_t tokens = it.tokens[SENTENCES + i];
        double ce = 0, kl = 0;
        for (size_t t = 0; t < tokens; t++) {
            if (t + 1 < tokens)
                ce += cross_entropy(own + t * V, V, ids[t + 1]);
            if (splice)
                kl += divergence(base + t * V, own + t * V, V);
        }
        near(ce / (double)(tokens - 1), fact(i, splice, "ce"), 1e-4, splice ? splice : "CE", i);
        if (splice)
            near(kl / (double)tokens, fact(i, splice, "kl"), 1e-5, splice, i);
    }
}

static void
paragraphs_match_with_and_without_a_splice(void **unused)
{
    (void)unused;
    size_t rows = (size_t)PARAGRAPHS * C;
    float *y = malloc(rows * D * sizeof *y), *logits = malloc(rows * V * sizeof *logits);
    float *hooked = it.x;
    assert_int_equal(model_below(it.model, it.ids + SENTENCES * C, PARAGRAPHS, hooked), STATUS_OK);
    model_above(it.model, hooked, PARAGRAPHS, y);
    model_logits(it.model, y, rows, it.logits);
    check_paragraphs(it.logits, NULL);

    for (size_t i = 0; i < rows * D; i++)
        y[i] = 0.9f * hooked[i];
    model_above(it.model, y, PARAGRAPHS, y);
    model_logits(it.model, y, rows, logits);
    check_paragraphs(logits, "splice12.x0.9");

    for (size_t i = 0; i < rows * D; i++) // the first position of every context stays
        y[i] = i / D % C == 0 ? hooked[i] : 0.9f * hooked[i];
    model_above(it.model, y, PARAGRAPHS, y);
    model_logits(it.model, y, rows, logits);
    check_paragraphs(logits, "splice12.x0.9_keep0");

    // Zero ablation of a model without biases needs no pass: all logits are 0.
    assert_true(model_is_bias_free(it.model));
    memset(logits, 0, rows * V * sizeof *logits);
    check_paragraphs(logits, "splice12.zero");
    free(y);
    free(logits);
}

int
main(void)
{
    if (!path_exists(model_path())) {
        fprintf(stderr, "skipped: no %s (OSAE_SMOLLM2 names the file)\n", model_path());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentences_match_block_by_block),
        cmocka_unit_test(paragraphs_match_with_and_without_a_splice),
    };
    return cmocka_run_group_tests(tests, load, unload);
}

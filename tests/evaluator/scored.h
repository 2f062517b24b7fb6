// scored: two tiny models, windows of random ids and SAEs to be scored on them (score.h). Ids BOS
// and SPECIAL are special; two windows have one SPECIAL each.
#ifndef TESTS_EVALUATOR_SCORED_H
#define TESTS_EVALUATOR_SCORED_H

#include "evaluator/score.h"
#include "lib/base/file.h"
#include "tests/evaluator/golden.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { C = 16, B = 3, NR = 2, NV = 3, WINDOWS = B * (NR + NV), LAYER = 1, D = 64, K = 2 * D };
enum { SPECIAL = 2, BOS = 1 };

static char root[40];
static struct model *models[2]; // tiny-llama, tiny-gemma2
static uint32_t windows[WINDOWS * C];

static inline struct model *
model_of(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, OSAE_TESTS "/golden/%s", name);
    struct model *model = NULL;
    struct model_settings set = {
        .path = path, .layer = LAYER, .context = C, .batch_contexts = 2, .whole = true};
    if (model_new(&model, &set) != STATUS_OK)
        fail_msg("%s", status_words());
    return model;
}

static inline uint32_t
random_word(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static inline int
scored_start(void **unused)
{
    (void)unused;
    snprintf(root, sizeof root, "/tmp/osae-score-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    models[0] = model_of("tiny-llama");
    models[1] = model_of("tiny-gemma2");
    uint64_t state = 1;
    for (size_t i = 0; i < WINDOWS * C; i++)
        windows[i] = i % C == 0 ? BOS : 3 + random_word(&state) % 500;
    windows[2 * C + 7] = SPECIAL;
    windows[9 * C + 3] = SPECIAL;
    return 0;
}

static inline int
scored_finish(void **unused)
{
    (void)unused;
    model_free(&models[0]);
    model_free(&models[1]);
    return path_remove(root) == STATUS_OK ? 0 : -1;
}

static inline struct score_plan
plan(void)
{
    return (struct score_plan){
        .layer = LAYER,
        .context = C,
        .model_contexts = 2,
        .precision = "f32",
        .batch_contexts = B,
        .core_batches = NR,
        .variance_batches = NV,
        .exclude_special = true,
        .special = {BOS, SPECIAL},
        .specials = 2,
        .keep_most = 1 << 24,
    };
}

static inline struct score *
score_of(const struct score_plan *how, struct model *model)
{
    struct score *score = NULL;
    if (score_new(&score, how, model, windows, WINDOWS) != STATUS_OK)
        fail_msg("%s", status_words());
    return score;
}

struct weights {
    float w_enc[K * D], b_enc[K], w_dec[K * D], b_dec[D];
};

static inline void
random_sae(struct weights *w, uint64_t seed)
{
    uint64_t state = seed;
    for (size_t i = 0; i < K * D; i++) {
        w->w_enc[i] = (float)(random_word(&state) % 2001) / 4000 - 0.25f;
        w->w_dec[i] = (float)(random_word(&state) % 2001) / 4000 - 0.25f;
    }
    for (size_t i = 0; i < K; i++) {
        float sum = 0;
        for (size_t c = 0; c < D; c++)
            sum += w->w_dec[i * D + c] * w->w_dec[i * D + c];
        for (size_t c = 0; c < D; c++)
            w->w_dec[i * D + c] /= sqrtf(sum);
        w->b_enc[i] = -0.5f;
    }
    for (size_t c = 0; c < D; c++)
        w->b_dec[c] = 0.1f;
}

static inline struct saelens
sae_of(const struct weights *w)
{
    struct card card = {.arch = ARCH_RELU, .width = D, .latents = K, .context = C};
    struct saelens_source from = {
        .arch = ARCH_RELU,
        .k = K,
        .d = D,
        .w_enc = w->w_enc,
        .b_enc = w->b_enc,
        .w_dec = w->w_dec,
        .b_dec = w->b_dec,
        .scale = 1,
    };
    struct saelens sae;
    char folder[PATH_BYTES];
    card_hook(&card, LAYER, true);
    card.tokens = 1000;
    snprintf(card.architecture, sizeof card.architecture, "orthogonal");
    assert_int_equal(path_join(folder, root, "sae"), STATUS_OK);
    assert_int_equal(saelens_write(folder, &card, &from), STATUS_OK);
    assert_int_equal(saelens_open(&sae, folder, 64, &kern_cpu), STATUS_OK);
    return sae;
}

static inline struct core
core_of(struct score *score, const struct weights *w)
{
    struct saelens sae = sae_of(w);
    struct score_result result;
    if (score_sae(&result, score, &sae, NULL) != STATUS_OK)
        fail_msg("%s", status_words());
    struct core core = result.core;
    score_result_release(&result);
    saelens_close(&sae);
    return core;
}

#endif

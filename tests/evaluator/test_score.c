// The core evaluation on whole (tiny) models: truths in closed form, a slow telling of the same,
// and that nothing depends on what must not matter.
#include "evaluator/downstream.h"
#include "evaluator/score.h"
#include "lib/base/file.h"
#include "tests/evaluator/golden.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { C = 16, B = 3, NR = 2, NV = 3, WINDOWS = B * (NR + NV), LAYER = 1, D = 64, K = 2 * D };
enum { SPECIAL = 2, BOS = 1 };

static char root[40];
static struct model *models[2]; // tiny-llama, tiny-gemma2
static uint32_t windows[WINDOWS * C];

static struct model *
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

static uint32_t
random_word(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static int
set_up(void **unused)
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

static int
tear_down(void **unused)
{
    (void)unused;
    model_free(&models[0]);
    model_free(&models[1]);
    return path_remove(root) == STATUS_OK ? 0 : -1;
}

static struct score_plan
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

static struct score *
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

// f = (relu(x), relu(-x)), so xhat = x.
static void
identity(struct weights *w)
{
    *w = (struct weights){{0}, {0}, {0}, {0}};
    for (size_t i = 0; i < D; i++) {
        w->w_enc[i * D + i] = w->w_dec[i * D + i] = 1;
        w->w_enc[(D + i) * D + i] = w->w_dec[(D + i) * D + i] = -1;
    }
}

// Nothing ever fires.
static void
silent(struct weights *w)
{
    identity(w);
    for (size_t i = 0; i < K; i++)
        w->b_enc[i] = -1e6f;
}

static void
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

static struct saelens
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

static struct core
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

static void
identity_is_perfect(void **unused)
{
    (void)unused;
    struct weights w;
    identity(&w);
    for (int m = 0; m < 2; m++)
        for (int exclude = 0; exclude < 2; exclude++) {
            struct score_plan how = plan();
            how.exclude_special = exclude;
            struct score *score = score_of(&how, models[m]);
            struct core core = core_of(score, &w);
            near(core.ce_loss_score, 1, 1e-9);
            near(core.kl_div_score, 1, 1e-9);
            assert_true(core.kl_div_with_sae >= 0 && core.kl_div_with_sae < 1e-9);
            near(core.ce_loss_with_sae, core.ce_loss_without_sae, 1e-9);
            assert_true(core.fvu < 1e-12 && core.mse < 1e-9);
            near(core.explained_variance_legacy, 1, 1e-9);
            near(core.cossim, 1, 1e-9);
            near(core.l0, D, 1e-9);
            near(core.frac_alive, 1, 1e-9);
            near(core.average_max_decoder_cosine_sim, 0, 1e-6);
            assert_true(core.tokens_kl == B * NR * C - 7 && core.tokens_ce == B * NR * C - 13);
            assert_true(core.tokens_variance == B * NV * C - 10);
            assert_true(core.total_tokens_eval_reconstruction == B * NR * C);
            assert_true(core.total_tokens_eval_sparsity_variance == B * NV * C);
            score_free(&score);
        }
}

static void
silence_is_ablation(void **unused)
{
    (void)unused;
    struct weights w;
    silent(&w);
    for (int m = 0; m < 2; m++) {
        struct score_plan how = plan();
        how.exclude_special = false; // else bos keeps its own stream
        struct score *score = score_of(&how, models[m]);
        struct core core = core_of(score, &w);
        double ln_v = log((double)model_vocab(models[m]));
        assert_true(model_is_bias_free(models[m]));
        near(core.ce_loss_with_ablation, ln_v, 1e-12);
        near(core.ce_loss_with_sae, ln_v, 1e-6);
        near(core.kl_div_with_sae, core.kl_div_with_ablation, 1e-6);
        near(core.ce_loss_score, 0, 1e-3);
        near(core.kl_div_score, 0, 1e-3);
        assert_true(core.kl_div_with_ablation > 0);
        assert_true(core.dead_latents == K && core.frac_alive == 0 && core.l0 == 0);
        assert_true(isnan(core.cossim) && core.l2_norm_out == 0);
        assert_true(core.explained_variance_centered < 0 || core.fvu > 0.99);
        score_free(&score);
    }
}

// x of the kept tokens of all windows from `from` on, one context at a time.
static size_t
streams(float *x, struct model *model, size_t from, size_t upto)
{
    float one[C * D];
    size_t n = 0;
    for (size_t w = from; w < upto; w++) {
        assert_int_equal(model_below(model, windows + w * C, 1, one), STATUS_OK);
        for (size_t t = 0; t < C; t++)
            if (windows[w * C + t] != BOS && windows[w * C + t] != SPECIAL)
                memcpy(x + n++ * D, one + t * D, D * sizeof *x);
    }
    return n;
}

static void
the_mean_explains_nothing(void **unused)
{
    (void)unused;
    static float x[WINDOWS * C * D];
    struct weights w;
    silent(&w);
    for (int m = 0; m < 2; m++) {
        double mean[D] = {0};
        size_t n = streams(x, models[m], B * NR, WINDOWS);
        for (size_t i = 0; i < n * D; i++)
            mean[i % D] += (double)x[i] / (double)n;
        for (size_t c = 0; c < D; c++)
            w.b_dec[c] = (float)mean[c];
        struct score_plan how = plan();
        struct score *score = score_of(&how, models[m]);
        struct core core = core_of(score, &w);
        near(core.fvu, 1, 1e-6);
        near(core.explained_variance_centered, 0, 1e-3);
        score_free(&score);
    }
}

// KL and CE of a random SAE, position by position with libm, and the errors with them.
static void
slow_telling(void **unused)
{
    (void)unused;
    struct weights w;
    random_sae(&w, 9);
    struct saelens sae = sae_of(&w);
    for (int m = 0; m < 2; m++) {
        struct model *model = models[m];
        size_t vocab = model_vocab(model);
        float *z = calloc(C * vocab, sizeof *z), *y = calloc(C * vocab, sizeof *y);
        assert_true(z && y);
        double kl = 0, ce = 0, ce_plain = 0, entropy = 0;
        size_t positions = 0, predicting = 0;
        for (size_t i = 0; i < B * NR; i++) {
            const uint32_t *ids = windows + i * C;
            float x[C * D], f[C * K], xhat[C * D], head[C * D];
            assert_int_equal(model_below(model, ids, 1, x), STATUS_OK);
            saelens_encode(&sae, (struct mat){f, C, K}, (struct mat){x, C, D});
            saelens_decode(&sae, (struct mat){xhat, C, D}, (struct mat){f, C, K});
            for (size_t t = 0; t < C; t++)
                if (ids[t] == BOS || ids[t] == SPECIAL)
                    memcpy(xhat + t * D, x + t * D, D * sizeof *x);
            model_above(model, x, 1, head);
            model_logits(model, head, C, z);
            model_above(model, xhat, 1, head);
            model_logits(model, head, C, y);
            for (size_t t = 0; t < C; t++) {
                if (ids[t] == BOS || ids[t] == SPECIAL)
                    continue;
                double sum_z = 0, sum_y = 0;
                for (size_t v = 0; v < vocab; v++) {
                    sum_z += exp((double)z[t * vocab + v]);
                    sum_y += exp((double)y[t * vocab + v]);
                }
                for (size_t v = 0; v < vocab; v++) {
                    double p = exp((double)z[t * vocab + v]) / sum_z;
                    double q = exp((double)y[t * vocab + v]) / sum_y;
                    kl += p * log(p / q);
                    entropy -= p * log(p);
                }
                positions++;
                if (t == C - 1)
                    continue;
                predicting++;
                ce += log(sum_y) - (double)y[t * vocab + ids[t + 1]];
                ce_plain += log(sum_z) - (double)z[t * vocab + ids[t + 1]];
            }
        }
        struct score_plan how = plan();
        struct score *score = score_of(&how, model);
        struct core core = core_of(score, &w);
        near(core.kl_div_with_sae, kl / (double)positions, 1e-5);
        near(core.kl_div_with_ablation, log((double)vocab) - entropy / (double)positions, 1e-5);
        near(core.ce_loss_with_sae, ce / (double)predicting, 1e-6);
        near(core.ce_loss_without_sae, ce_plain / (double)predicting, 1e-6);
        assert_true(core.kl_div_with_sae > 1e-4 && core.fvu > 0.01 && core.l0 > 1);
        score_free(&score);
        free(y);
        free(z);
    }
    saelens_close(&sae);
}

// All but the four of SAEBench's numbers that depend on the batch.
static void
same_but_for_batches(const struct core *a, const struct core *b, double relative)
{
    for (size_t i = 0; i < CORE_COUNT; i++) {
        const char *key = core_rows[i].key;
        if (strcmp(key, "mse") == 0 || strncmp(key, "explained_variance", 18) == 0 ||
            strcmp(key, "relative_reconstruction_bias") == 0)
            continue;
        near_(core_number(a, i), core_number(b, i), relative, key, __FILE__, __LINE__);
    }
    near(a->explained_variance_centered, b->explained_variance_centered, relative);
}

static void
batch_sizes(void **unused)
{
    (void)unused;
    struct weights w;
    random_sae(&w, 3);
    for (int m = 0; m < 2; m++) {
        struct score_plan how = plan();
        struct score *score = score_of(&how, models[m]);
        struct core a = core_of(score, &w);
        score_free(&score);
        how.batch_contexts = 1;
        how.core_batches = B * NR;
        how.variance_batches = B * NV;
        how.model_contexts = 1;
        score = score_of(&how, models[m]);
        struct core b = core_of(score, &w);
        score_free(&score);
        same_but_for_batches(&a, &b, 1e-6);
        assert_true(b.mse > 2 * a.mse);
    }
}

static void
permuted(void **unused)
{
    (void)unused;
    struct weights w, v;
    random_sae(&w, 4);
    v = w;
    for (size_t i = 0; i < K; i++) {
        size_t to = i * 37 % K;
        memcpy(v.w_enc + to * D, w.w_enc + i * D, D * sizeof *w.w_enc);
        memcpy(v.w_dec + to * D, w.w_dec + i * D, D * sizeof *w.w_dec);
        v.b_enc[to] = w.b_enc[i];
    }
    struct score_plan how = plan();
    struct score *score = score_of(&how, models[0]);
    struct core a = core_of(score, &w), b = core_of(score, &v);
    score_free(&score);
    same_but_for_batches(&a, &b, 1e-5);
    near(a.mse, b.mse, 1e-5);
}

// Bit for bit the same: again, with nothing kept, from the cache on disk, from a damaged cache,
// and on another number of threads.
static void
nothing_else_matters(void **unused)
{
    (void)unused;
    struct weights w;
    random_sae(&w, 5);
    struct score_plan how = plan();
    struct score *score = score_of(&how, models[1]);
    struct core first = core_of(score, &w), other;
    struct hash128 spec = score_spec(score);
    other = core_of(score, &w);
    assert_memory_equal(&first, &other, sizeof first);
    size_t kept = score_bytes(score);
    score_free(&score);

    how.keep_most = 0;
    score = score_of(&how, models[1]);
    other = core_of(score, &w);
    assert_memory_equal(&first, &other, sizeof first);
    assert_true(score_bytes(score) < kept);
    score_free(&score);
    how.keep_most = B * NR * C * D * sizeof(float); // room for one part
    score = score_of(&how, models[1]);
    other = core_of(score, &w);
    other = core_of(score, &w);
    assert_memory_equal(&first, &other, sizeof first);
    score_free(&score);

    char cache[PATH_BYTES], path[PATH_BYTES] = "";
    assert_int_equal(path_join(cache, root, "cache"), STATUS_OK);
    how.keep_most = 1 << 24;
    how.cache = cache;
    for (int round = 0; round < 4; round++) {
        score = score_of(&how, models[1]);
        assert_true((score_bytes(score) < kept) == (round == 1 || round == 3)); // mapped
        other = core_of(score, &w);
        assert_memory_equal(&first, &other, sizeof first);
        assert_true(hash128_same(spec, score_spec(score)));
        score_free(&score);
        if (round == 0 || round == 1) {
            char command[PATH_BYTES + 64];
            snprintf(command, sizeof command, "ls %s/baseline-*.safetensors", cache);
            FILE *list = popen(command, "r");
            assert_true(list && fgets(path, sizeof path, list));
            pclose(list);
            path[strcspn(path, "\n")] = 0;
        }
        if (round == 1) { // one bit, in the middle
            char *text;
            size_t bytes;
            assert_int_equal(file_read(&text, &bytes, path, 1 << 24), STATUS_OK);
            text[bytes / 2] ^= 1;
            assert_int_equal(file_replace(path, text, bytes), STATUS_OK);
            free(text);
        }
    }
    how.cache = NULL;
    for (int threads = 1; threads < 3; threads++) {
        omp_set_num_threads(threads);
        score = score_of(&how, models[1]);
        other = core_of(score, &w);
        assert_memory_equal(&first, &other, sizeof first);
        score_free(&score);
    }
    omp_set_num_threads(2);
}

struct counter {
    int calls, stop_at;
    double last;
};

static bool
count_down(void *context, const char *what, double share)
{
    struct counter *counter = context;
    assert_non_null(what);
    assert_true(share >= 0 && share <= 1 + 1e-9);
    counter->last = share;
    return ++counter->calls == counter->stop_at;
}

// Stopped at every place it can be; what was begun spoils nothing.
static void
stops(void **unused)
{
    (void)unused;
    struct weights w;
    random_sae(&w, 6);
    struct saelens sae = sae_of(&w);
    struct score_plan how = plan();
    struct score *fresh = score_of(&how, models[0]), *score = score_of(&how, models[0]);
    struct core want = core_of(fresh, &w);
    score_free(&fresh);
    struct score_result result;
    int stopped = 0;
    for (int at = 1;; at++) {
        struct counter counter = {.stop_at = at};
        const struct score_watch watch = {count_down, &counter};
        enum status status = score_sae(&result, score, &sae, &watch);
        if (status == STATUS_OK) {
            near(counter.last, 1, 1e-9);
            break;
        }
        assert_int_equal(status, STATUS_AGAIN);
        stopped++;
    }
    assert_true(stopped > NR + NV);
    assert_memory_equal(&result.core, &want, sizeof want);
    score_result_release(&result);
    score_free(&score);
    saelens_close(&sae);
}

static void
short_texts(void **unused)
{
    (void)unused;
    struct weights w;
    random_sae(&w, 7);
    struct saelens sae = sae_of(&w);
    struct score_plan how = plan();
    struct score *score = NULL;
    struct score_result result;
    assert_int_equal(score_new(&score, &how, models[0], windows, 4), STATUS_OK);
    assert_true(score_repeats(score));
    assert_int_equal(score_sae(&result, score, &sae, NULL), STATUS_OK);
    assert_true(result.core.total_tokens_eval_reconstruction == B * NR * C);
    score_result_release(&result);
    score_free(&score);
    score = score_of(&how, models[0]);
    assert_false(score_repeats(score));
    score_free(&score);
    assert_int_equal(score_new(&score, &how, models[0], windows, 0), STATUS_CONFIG);
    uint32_t ids[C] = {0};
    ids[5] = (uint32_t)model_vocab(models[0]);
    assert_int_equal(score_new(&score, &how, models[0], ids, 1), STATUS_DAMAGED);
    saelens_close(&sae);
}

// Weights that overflow: undefined numbers, a file without NaN, no failure.
static void
overflow(void **unused)
{
    (void)unused;
    struct weights w;
    random_sae(&w, 8);
    for (size_t i = 0; i < K * D; i++)
        w.w_enc[i] *= 1e38f;
    struct saelens sae = sae_of(&w);
    struct score_plan how = plan();
    struct score *score = score_of(&how, models[0]);
    struct score_result result;
    assert_int_equal(score_sae(&result, score, &sae, NULL), STATUS_OK);
    assert_true(isnan(result.core.mse_sum) && isnan(result.core.kl_div_with_sae));
    assert_true(isfinite(result.core.ce_loss_without_sae));
    struct core_file *file = calloc(1, sizeof *file), *read = calloc(1, sizeof *read);
    assert_true(file && read);
    score_file(file, score, &sae, &result);
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, root, "overflow.json"), STATUS_OK);
    assert_int_equal(saebench_core_write(path, file, result.details), STATUS_OK);
    assert_int_equal(saebench_core_read(read, path), STATUS_OK);
    assert_true(isnan(read->core.mse_sum) && isfinite(read->core.ce_loss_without_sae));
    assert_int_equal(read->context, how.context);
    free(read);
    free(file);
    score_result_release(&result);
    score_free(&score);
    saelens_close(&sae);
}

// Everything that decides the numbers is in the spec, nothing else is.
static void
specs(void **unused)
{
    (void)unused;
    struct score_plan plans[8];
    struct hash128 seen[9];
    for (size_t i = 0; i < 8; i++)
        plans[i] = plan();
    plans[1].core_batches++;
    plans[2].variance_batches--;
    plans[3].batch_contexts++;
    plans[4].exclude_special = false;
    plans[5].specials = 1;
    plans[6].precision = "bf16";
    plans[7].special[1] = 5;
    for (size_t i = 0; i < 9; i++) {
        struct score *score = score_of(&plans[i % 8], models[i == 8]);
        seen[i] = score_spec(score);
        for (size_t j = 0; j < i; j++)
            assert_false(hash128_same(seen[i], seen[j]));
        score_free(&score);
    }
    struct score_plan same = plan();
    same.keep_most = 5;
    same.model_contexts = 1;
    struct score *score = score_of(&same, models[0]);
    assert_true(hash128_same(score_spec(score), seen[0]));
    score_free(&score);
    windows[3]++;
    score = score_of(&same, models[0]);
    windows[3]--;
    assert_false(hash128_same(score_spec(score), seen[0]));
    score_free(&score);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identity_is_perfect),
        cmocka_unit_test(silence_is_ablation),
        cmocka_unit_test(the_mean_explains_nothing),
        cmocka_unit_test(slow_telling),
        cmocka_unit_test(batch_sizes),
        cmocka_unit_test(permuted),
        cmocka_unit_test(nothing_else_matters),
        cmocka_unit_test(stops),
        cmocka_unit_test(short_texts),
        cmocka_unit_test(overflow),
        cmocka_unit_test(specs),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

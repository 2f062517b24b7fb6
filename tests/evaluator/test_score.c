// The core evaluation on whole (tiny) models: truths in closed form, a slow telling of the same,
// and what has no numbers.
#include "tests/evaluator/scored.h"

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identity_is_perfect),
        cmocka_unit_test(silence_is_ablation),
        cmocka_unit_test(the_mean_explains_nothing),
        cmocka_unit_test(slow_telling),
        cmocka_unit_test(short_texts),
        cmocka_unit_test(overflow),
    };
    return cmocka_run_group_tests(tests, scored_start, scored_finish);
}

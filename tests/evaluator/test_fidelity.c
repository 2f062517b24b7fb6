// The core numbers against SAEBench's own functions on its golden inputs, and closed-form truths.
#include "evaluator/downstream.h"
#include "evaluator/fidelity.h"
#include "evaluator/geometry.h"
#include "evaluator/latents.h"
#include "tests/evaluator/golden.h"

#include <omp.h>
#include <string.h>

enum { BATCHES = 2, WINDOWS = 2, C = 5, D = 3, F = 4, V = 6, ROWS = BATCHES * WINDOWS * C };

struct input {
    double tokens[ROWS], special[3];
    float x[ROWS * D], f[ROWS * F], xhat[ROWS * D];
    float encoder[F * D], decoder[F * D], b_enc[F], b_dec[D];
};

static void
load(struct input *in, const json_t *golden)
{
    float w_enc[D * F];
    assert_int_equal(golden_numbers(in->tokens, ROWS, golden_at(golden, "core_input.tokens")),
                     ROWS);
    assert_int_equal(golden_numbers(in->special, 3, golden_at(golden, "core_input.special_ids")),
                     3);
    assert_int_equal(golden_floats(in->x, ROWS * D, golden_at(golden, "core_input.x")), ROWS * D);
    assert_int_equal(golden_floats(w_enc, D * F, golden_at(golden, "core_input.W_enc")), D * F);
    assert_int_equal(golden_floats(in->decoder, F * D, golden_at(golden, "core_input.W_dec")),
                     F * D);
    assert_int_equal(golden_floats(in->b_enc, F, golden_at(golden, "core_input.b_enc")), F);
    assert_int_equal(golden_floats(in->b_dec, D, golden_at(golden, "core_input.b_dec")), D);
    for (size_t i = 0; i < F; i++)
        for (size_t c = 0; c < D; c++)
            in->encoder[i * D + c] = w_enc[c * F + i];
    for (size_t r = 0; r < ROWS; r++) {
        memcpy(in->xhat + r * D, in->b_dec, sizeof in->b_dec);
        for (size_t i = 0; i < F; i++) {
            float z = in->b_enc[i];
            for (size_t c = 0; c < D; c++)
                z += (in->x[r * D + c] - in->b_dec[c]) * in->encoder[i * D + c];
            in->f[r * F + i] = z > 0 ? z : 0;
            for (size_t c = 0; c < D; c++)
                in->xhat[r * D + c] += in->f[r * F + i] * in->decoder[i * D + c];
        }
    }
}

static bool
kept(const struct input *in, size_t row, bool masked)
{
    for (size_t s = 0; masked && s < 3; s++)
        if (in->tokens[row] == in->special[s])
            return false;
    return true;
}

// Feeds the golden batches with or without the special tokens.
static void
measure(struct core *core, struct density_histogram *histogram, struct latent_detail *details,
        const struct input *in, bool masked)
{
    struct fidelity *fidelity = NULL;
    struct latents *latents = NULL;
    assert_int_equal(fidelity_new(&fidelity, D, WINDOWS * C, ROWS), STATUS_OK);
    assert_int_equal(latents_new(&latents, F, WINDOWS * C), STATUS_OK);
    for (size_t b = 0; b < BATCHES; b++) {
        float x[WINDOWS * C * D], xhat[WINDOWS * C * D], f[WINDOWS * C * F];
        uint64_t window[WINDOWS * C];
        size_t n = 0;
        for (size_t t = 0; t < WINDOWS * C; t++) {
            size_t row = b * WINDOWS * C + t;
            if (!kept(in, row, masked))
                continue;
            memcpy(x + n * D, in->x + row * D, D * sizeof *x);
            memcpy(xhat + n * D, in->xhat + row * D, D * sizeof *x);
            memcpy(f + n * F, in->f + row * F, F * sizeof *f);
            window[n++] = b * WINDOWS + t / C;
        }
        fidelity_batch(fidelity, x, xhat, n);
        size_t half = n / 2; // how calls are cut must not matter
        latents_rows(latents, f, window, half);
        latents_rows(latents, f + half * F, window + half, n - half);
    }
    core_undefined(core);
    fidelity_finish(core, fidelity);
    latents_finish(core, histogram, details, latents);
    fidelity_free(&fidelity);
    latents_free(&latents);
}

static void
check_against(const struct core *core, const json_t *want)
{
    const char *key;
    json_t *value;
    size_t checked = 0;
    json_object_foreach((json_t *)(uintptr_t)want, key, value)
    {
        for (size_t i = 0; i < CORE_COUNT; i++)
            if (strcmp(core_rows[i].key, key) == 0) {
                double wanted = json_is_number(value) ? json_number_value(value) : (double)NAN;
                near_(core_number(core, i), wanted, 1e-5, key, __FILE__, __LINE__);
                checked++;
            }
    }
    assert_int_equal(checked, json_object_size(want));
}

static void
golden_variance(void **unused)
{
    (void)unused;
    json_t *golden = golden_open();
    struct input in;
    load(&in, golden);
    for (int masked = 0; masked < 2; masked++) {
        const json_t *want =
            golden_at(golden, masked ? "core_variance_masked" : "core_variance_all");
        struct core core;
        struct density_histogram histogram;
        struct latent_detail details[F];
        measure(&core, &histogram, details, &in, masked);
        check_against(&core, golden_at(want, "out"));
        double density[F], steady[F];
        golden_numbers(density, F, golden_at(want, "feature.feature_density"));
        golden_numbers(steady, F, golden_at(want, "feature.consistent_activation_heuristic"));
        for (size_t j = 0; j < F; j++) {
            near(details[j].feature_density, density[j], 1e-5);
            near(details[j].consistent_activation_heuristic, steady[j], 1e-5);
        }
        assert_true(core.dead_latents == 1 && histogram.dead == 1);
        assert_true(core.dense_latents == 3);
        // densities 0.25 .. 0.7 are in the bins of log10 from -0.7 to -0.1
        uint64_t upper = 0;
        for (size_t b = 53; b < DENSITY_BINS; b++)
            upper += histogram.counts[b];
        assert_int_equal(upper, 3);
        if (!masked)
            continue;
        assert_int_equal(
            geometry_measure(&core, details, in.encoder, in.decoder, in.b_enc, F, D, NULL),
            STATUS_OK);
        check_against(&core, golden_at(want, "misc"));
        const struct {
            const char *key;
            size_t offset;
        } weights[] = {
            {"encoder_bias", offsetof(struct latent_detail, encoder_bias)},
            {"encoder_norm", offsetof(struct latent_detail, encoder_norm)},
            {"encoder_decoder_cosine_sim",
             offsetof(struct latent_detail, encoder_decoder_cosine_sim)},
            {"max_encoder_cosine_sim", offsetof(struct latent_detail, max_encoder_cosine_sim)},
            {"max_decoder_cosine_sim", offsetof(struct latent_detail, max_decoder_cosine_sim)},
        };
        for (size_t w = 0; w < sizeof weights / sizeof weights[0]; w++) {
            double wanted[F], got;
            golden_numbers(wanted, F, golden_at(golden_at(want, "weights"), weights[w].key));
            for (size_t j = 0; j < F; j++) {
                memcpy(&got, (char *)&details[j] + weights[w].offset, sizeof got);
                near_(got, wanted[j], 1e-5, weights[w].key, __FILE__, __LINE__);
            }
        }
    }
    json_decref(golden);
}

// Through logits of the zero stream as given, and through the closed form.
static void
golden_downstream(void **unused)
{
    (void)unused;
    json_t *golden = golden_open();
    struct input in;
    load(&in, golden);
    float none[ROWS * V], sae[ROWS * V], abl[ROWS * V];
    assert_int_equal(golden_floats(none, ROWS * V, golden_at(golden, "core_logits.orig")),
                     ROWS * V);
    golden_floats(sae, ROWS * V, golden_at(golden, "core_logits.sae"));
    golden_floats(abl, ROWS * V, golden_at(golden, "core_logits.abl"));
    uint32_t next[ROWS];
    for (size_t r = 0; r < ROWS; r++)
        next[r] = r % C == C - 1 ? NO_NEXT : (uint32_t)in.tokens[r + 1];
    struct plain_at plain[ROWS];
    struct moved_at with_sae[ROWS], with_zeros[ROWS];
    downstream_plain(plain, none, next, ROWS, V);
    downstream_moved(with_sae, sae, none, plain, next, ROWS, V);
    downstream_moved(with_zeros, abl, none, plain, next, ROWS, V);
    for (int masked = 0; masked < 2; masked++)
        for (int closed = 0; closed < 2; closed++) {
            struct downstream sums = {.windows_tokens = ROWS};
            for (size_t r = 0; r < ROWS; r++)
                if (kept(&in, r, masked))
                    downstream_add(&sums, &plain[r], &with_sae[r], closed ? NULL : &with_zeros[r],
                                   next[r], V);
            struct core core;
            core_undefined(&core);
            downstream_finish(&core, &sums);
            check_against(&core, golden_at(golden, masked ? "core_downstream_masked"
                                                          : "core_downstream_all"));
            near(core.ce_loss_with_ablation, log(V), 1e-12);
            assert_true(core.total_tokens_eval_reconstruction == ROWS);
        }
    json_decref(golden);
}

// Where SAEBench's log(softmax) gives NaN the stable form does not; where there is a NaN it shows.
static void
extreme_logits(void **unused)
{
    (void)unused;
    float z[8] = {500, 0, -200, 100, 3, 2, 1, 0}, y[8] = {0, 500, 0, 0, 0, 0, 0, 0};
    near(logits_normaliser(z, 8), 500, 1e-12);
    near(logits_kl(z, 500, y, 500, 8), 500, 1e-9);
    near(logits_kl(z, logits_normaliser(z, 8), z, logits_normaliser(z, 8), 8), 0, 0);
    near(logits_entropy(z, logits_normaliser(z, 8), 8), 0, 1e-12);
    float flat[1000] = {0};
    near(logits_entropy(flat, logits_normaliser(flat, 1000), 1000), log(1000), 1e-12);
    z[3] = NAN;
    assert_true(isnan(logits_normaliser(z, 8)));
    struct plain_at plain;
    struct moved_at moved;
    uint32_t next = 1;
    downstream_plain(&plain, y, &next, 1, 8);
    downstream_moved(&moved, z, y, &plain, &next, 1, 8);
    assert_true(isnan(moved.kl) && isnan(moved.ce));
    struct downstream sums = {0};
    downstream_add(&sums, &plain, &moved, NULL, next, 8);
    struct core core;
    downstream_finish(&core, &sums);
    assert_true(isnan(core.kl_div_score) && isnan(core.ce_loss_with_sae));
    assert_true(isfinite(core.ce_loss_without_sae));
    downstream_finish(&core, &(struct downstream){0});
    assert_true(isnan(core.kl_div_with_sae) && isnan(core.ce_loss_score));
    assert_true(core.tokens_ce == 0);
}

// Accuracy over the whole range against libm, at lengths around each unrolling.
static void
normaliser_is_exact(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {1, 2, 3, 7, 63, 64, 65, 130};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        float z[130];
        double sum = 0, entropy = 0;
        for (size_t v = 0; v < sizes[s]; v++) {
            z[v] = (float)((double)(v * 2654435761u % 100000) / 1500.0 - 40);
            sum += exp((double)z[v]);
        }
        for (size_t v = 0; v < sizes[s]; v++)
            entropy -= exp((double)z[v]) / sum * ((double)z[v] - log(sum));
        near(logits_normaliser(z, sizes[s]), log(sum), 1e-13);
        near(logits_entropy(z, log(sum), sizes[s]), entropy, 1e-12);
    }
}

enum { N = 400, W = 24 };

static void
fill(float *at, size_t count, uint32_t seed)
{
    uint64_t state = seed;
    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        at[i] = (float)((double)(state >> 40) / (1 << 24) * 4 - 1);
    }
}

static void
reconstruct(struct core *core, const float *x, const float *xhat, size_t rows, size_t batch)
{
    struct fidelity *fidelity = NULL;
    assert_int_equal(fidelity_new(&fidelity, W, batch, rows), STATUS_OK);
    for (int again = 0; again < 2; again++) { // reset leaves nothing behind
        fidelity_reset(fidelity);
        for (size_t r = 0; r < rows; r += batch)
            fidelity_batch(fidelity, x + r * W, xhat + r * W, rows - r < batch ? rows - r : batch);
    }
    core_undefined(core);
    fidelity_finish(core, fidelity);
    fidelity_free(&fidelity);
}

static void
truths(void **unused)
{
    (void)unused;
    static float x[N * W], xhat[N * W];
    struct core core;
    fill(x, N * W, 1);
    // identity
    reconstruct(&core, x, x, N, 100);
    assert_true(core.fvu == 0 && core.explained_variance_centered == 1 && core.mse == 0);
    assert_true(core.explained_variance == 1 && core.explained_variance_legacy == 1);
    assert_true(core.error_norm_median == 0 && core.relative_reconstruction_bias == 1);
    near(core.cossim, 1, 1e-12);
    near(core.l2_ratio, 1, 1e-12);
    // the mean of all rows explains nothing, and no less
    double mean[W] = {0};
    for (size_t r = 0; r < N; r++)
        for (size_t c = 0; c < W; c++)
            mean[c] += (double)x[r * W + c] / N;
    for (size_t r = 0; r < N; r++)
        for (size_t c = 0; c < W; c++)
            xhat[r * W + c] = (float)mean[c];
    reconstruct(&core, x, xhat, N, 100);
    near(core.explained_variance_centered, 0, 1e-6);
    reconstruct(&core, x, xhat, N, N); // the batch mean is this mean
    near(core.explained_variance_legacy, 0, 1e-4);
    // zeros: no direction, hence no cosine; the error is the input
    memset(xhat, 0, sizeof xhat);
    reconstruct(&core, x, xhat, N, 100);
    assert_true(isnan(core.cossim) && isnan(core.relative_reconstruction_bias));
    near(core.error_norm_mean, core.l2_norm_in, 1e-12);
    assert_true(core.l2_ratio == 0 && core.l2_norm_out == 0);
    near(core.mse_mean * W, core.mse_sum, 1e-12);
    // half as long: closed forms
    for (size_t i = 0; i < N * W; i++)
        xhat[i] = x[i] / 2;
    reconstruct(&core, x, xhat, N, 100);
    near(core.l2_ratio, 0.5, 1e-12);
    near(core.relative_reconstruction_bias, 0.5, 1e-12);
    near(core.mse * 100, core.mse_sum, 1e-9); // theirs is divided by the batch's tokens once more
    // all rows alike: nothing to explain
    float same[2 * W];
    for (size_t c = 0; c < W; c++)
        same[c] = same[W + c] = 0.5f;
    reconstruct(&core, same, same, 2, 2);
    assert_true(core.fvu == 0);
    reconstruct(&core, same, x, 2, 2);
    assert_true(core.fvu == 1);
}

// What is ours does not depend on the batch size; four of SAEBench's do.
static void
batch_size(void **unused)
{
    (void)unused;
    static float x[N * W], xhat[N * W];
    fill(x, N * W, 2);
    fill(xhat, N * W, 3);
    struct core a, b;
    reconstruct(&a, x, xhat, N, 80);
    reconstruct(&b, x, xhat, N, 7);
    near(b.mse_sum, a.mse_sum, 1e-12);
    near(b.fvu, a.fvu, 1e-12);
    near(b.error_norm_mean, a.error_norm_mean, 1e-12);
    near(b.error_norm_median, a.error_norm_median, 0);
    near(b.cossim, a.cossim, 1e-12);
    near(b.l2_norm_in, a.l2_norm_in, 1e-12);
    assert_true(b.mse > 5 * a.mse);
    // A batch without a kept token: theirs undefined, ours unmoved.
    struct fidelity *fidelity = NULL;
    assert_int_equal(fidelity_new(&fidelity, W, N, N), STATUS_OK);
    fidelity_batch(fidelity, x, xhat, N);
    fidelity_batch(fidelity, x, xhat, 0);
    fidelity_finish(&b, fidelity);
    assert_true(isnan(b.explained_variance) && isnan(b.relative_reconstruction_bias));
    near(b.mse_sum, a.mse_sum, 1e-12);
    assert_true(b.tokens_variance == N);
    fidelity_free(&fidelity);
    // NaN in, undefined out, no matter where
    xhat[5] = NAN;
    reconstruct(&a, x, xhat, N, 80);
    assert_true(isnan(a.mse_sum) && isnan(a.fvu) && isnan(a.error_norm_median) && isnan(a.cossim));
    assert_true(isfinite(a.l2_norm_in));
}

static void
bins(void **unused)
{
    (void)unused;
    assert_int_equal(density_bin(1), 59);
    assert_int_equal(density_bin(0.9999), 59);
    assert_int_equal(density_bin(0.1), 50); // left-closed
    assert_int_equal(density_bin(0.0999), 49);
    assert_int_equal(density_bin(1e-3), 30);
    assert_int_equal(density_bin(1e-6), 0);
    assert_int_equal(density_bin(1e-9), 0);
}

// Permuting the latents permutes the details and changes no mean; a duplicate latent has cosine 1;
// tiles and blocks are crossed (k > 1024).
static void
permuted_latents(void **unused)
{
    (void)unused;
    enum { K = 1100, ROWS_F = 60 };
    float *w = calloc(K * W, sizeof *w), *v = calloc(K * W, sizeof *v);
    float *f = calloc(ROWS_F * K, sizeof *f), *g = calloc(ROWS_F * K, sizeof *g);
    struct latent_detail *a = calloc(K, sizeof *a), *b = calloc(K, sizeof *b);
    assert_true(w && v && f && g && a && b);
    fill(w, K * W, 4);
    memcpy(w + 1050 * W, w + 3 * W, W * sizeof *w);
    fill(f, ROWS_F * K, 5);
    for (size_t i = 0; i < ROWS_F * K; i++)
        f[i] = f[i] > 2.5f ? f[i] : 0;
    uint64_t window[ROWS_F];
    for (size_t r = 0; r < ROWS_F; r++)
        window[r] = r / 10;
    for (size_t i = 0; i < K; i++) {
        size_t to = i * 7 % K;
        memcpy(v + to * W, w + i * W, W * sizeof *w);
        for (size_t r = 0; r < ROWS_F; r++)
            g[r * K + to] = f[r * K + i];
    }
    struct core p, q;
    struct density_histogram h1, h2;
    struct latents *latents = NULL;
    assert_int_equal(latents_new(&latents, K, ROWS_F), STATUS_OK);
    core_undefined(&p);
    core_undefined(&q);
    latents_rows(latents, f, window, ROWS_F);
    latents_finish(&p, &h1, a, latents);
    latents_reset(latents);
    for (size_t r = 0; r < ROWS_F; r++)
        latents_rows(latents, g + r * K, window + r, 1);
    latents_finish(&q, &h2, b, latents);
    assert_int_equal(geometry_measure(&p, a, w, w, NULL, K, W, NULL), STATUS_OK);
    assert_int_equal(geometry_measure(&q, b, v, v, NULL, K, W, NULL), STATUS_OK);
    assert_true(p.l0 == q.l0 && p.frac_alive == q.frac_alive && p.l0 > 1);
    near(p.l1, q.l1, 1e-12);
    near(p.average_max_decoder_cosine_sim, q.average_max_decoder_cosine_sim, 1e-6);
    assert_memory_equal(&h1, &h2, sizeof h1);
    for (size_t i = 0; i < K; i++) {
        size_t to = i * 7 % K;
        assert_true(a[i].feature_density == b[to].feature_density);
        near(a[i].max_encoder_cosine_sim, b[to].max_encoder_cosine_sim, 1e-6);
        near(a[i].encoder_decoder_cosine_sim, 1, 1e-6);
    }
    near(a[3].max_decoder_cosine_sim, 1, 1e-6);
    near(a[1050].max_decoder_cosine_sim, 1, 1e-6);
    // the same by the definition, for a few
    for (size_t i = 0; i < K; i += 137) {
        double most = -2;
        for (size_t j = 0; j < K; j++) {
            double ij = 0, ii = 0, jj = 0;
            for (size_t c = 0; c < W; c++) {
                ij += (double)w[i * W + c] * (double)w[j * W + c];
                ii += (double)w[i * W + c] * (double)w[i * W + c];
                jj += (double)w[j * W + c] * (double)w[j * W + c];
            }
            if (j != i && ij / sqrt(ii * jj) > most)
                most = ij / sqrt(ii * jj);
        }
        near(a[i].max_decoder_cosine_sim, most, 1e-6);
    }
    latents_free(&latents);
    free(b);
    free(a);
    free(g);
    free(f);
    free(v);
    free(w);
}

static void
lonely_latent(void **unused)
{
    (void)unused;
    float w[3] = {0, 0, 0};
    struct latent_detail detail;
    struct core core;
    assert_int_equal(geometry_measure(&core, &detail, w, w, NULL, 1, 3, NULL), STATUS_OK);
    assert_true(isnan(core.average_max_decoder_cosine_sim));
    assert_true(isnan(detail.max_encoder_cosine_sim) && detail.encoder_norm == 0);
    assert_true(detail.encoder_decoder_cosine_sim == 0);
}

static bool
at_once(void *context, double share)
{
    *(double *)context = share;
    return true;
}

static void
geometry_stops(void **unused)
{
    (void)unused;
    float w[2 * W];
    fill(w, 2 * W, 6);
    struct latent_detail details[2];
    struct core core;
    double share = 0;
    struct geometry_watch watch = {at_once, &share};
    assert_int_equal(geometry_measure(&core, details, w, w, NULL, 2, W, &watch), STATUS_AGAIN);
    assert_true(share > 0 && share <= 1);
}

// The same bits from one thread as from three.
static void
thread_count(void **unused)
{
    (void)unused;
    enum { K = 700, R = 200, VOCAB = 3000 };
    float *x = calloc(N * W, sizeof *x), *y = calloc(N * W, sizeof *y);
    float *z = calloc(R * VOCAB, sizeof *z), *f = calloc(R * K, sizeof *f);
    struct latent_detail *details = calloc(K, sizeof *details);
    assert_true(x && y && z && f && details);
    fill(x, N * W, 7);
    fill(y, N * W, 8);
    fill(z, R * VOCAB, 9);
    fill(f, R * K, 10);
    struct core core[2];
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(i ? 3 : 1);
        reconstruct(&core[i], x, y, N, 90);
        struct latents *latents = NULL;
        struct density_histogram histogram;
        uint64_t window[R] = {0};
        assert_int_equal(latents_new(&latents, K, R), STATUS_OK);
        latents_rows(latents, f, window, R);
        latents_finish(&core[i], &histogram, NULL, latents);
        latents_free(&latents);
        assert_int_equal(geometry_measure(&core[i], details, f, f, NULL, R, K, NULL), STATUS_OK);
        struct downstream sums = {0};
        struct plain_at plain[R];
        struct moved_at moved[R];
        uint32_t next[R] = {0};
        downstream_plain(plain, z, next, R, VOCAB);
        downstream_moved(moved, z + 1, z, plain, next, R - 1, VOCAB);
        for (size_t r = 0; r < R - 1; r++)
            downstream_add(&sums, &plain[r], &moved[r], NULL, next[r], VOCAB);
        downstream_finish(&core[i], &sums);
    }
    omp_set_num_threads(2);
    assert_memory_equal(&core[0], &core[1], sizeof core[0]);
    free(details);
    free(f);
    free(z);
    free(y);
    free(x);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_variance),
        cmocka_unit_test(golden_downstream),
        cmocka_unit_test(extreme_logits),
        cmocka_unit_test(normaliser_is_exact),
        cmocka_unit_test(truths),
        cmocka_unit_test(batch_size),
        cmocka_unit_test(bins),
        cmocka_unit_test(permuted_latents),
        cmocka_unit_test(lonely_latent),
        cmocka_unit_test(geometry_stops),
        cmocka_unit_test(thread_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

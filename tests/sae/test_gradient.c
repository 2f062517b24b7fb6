// The gradient of every parameter against finite differences of the loss, which this file computes
// on its own, in fp64, straight from the equations. Terms that the method holds constant (c when
// detached, f(t-1), which latents TopK picked) are held constant here.
#include "lib/kern/gemm.h"
#include "tests/sae/small.h"

#include <math.h>
#include <stdio.h>

enum { B = SMALL_B, D = SMALL_D, K = SMALL_K };

struct oracle {
    const struct recipe *r;
    double alpha, theta;
    bool competing;
    const float *x;
    unsigned char follows[B / 8];
    double w_enc[K][D], b_enc[K], w_dec[K][D], b_dec[D], tau[K];
    bool picked[B][K];   // topk, batchtopk: held
    double before[B][K]; // f(t-1): held
    bool has_before;
    double c[K][K]; // held when detached
    double f[B][K];
};

static double
pre_activation(const struct oracle *o, size_t b, size_t i)
{
    double z = o->b_enc[i];
    for (size_t c = 0; c < D; c++)
        z += ((double)o->x[b * D + c] - (o->r->sae.pre_bias ? o->b_dec[c] : 0)) * o->w_enc[i][c];
    return z;
}

static void
encode(struct oracle *o)
{
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < K; i++) {
            double z = pre_activation(o, b, i);
            bool open = o->r->sae.arch == ARCH_RELU       ? z > 0
                        : o->r->sae.arch == ARCH_JUMPRELU ? z > o->tau[i]
                                                          : o->picked[b][i];
            o->f[b][i] = open ? z : 0;
        }
}

static double
cosine(const struct oracle *o, size_t i, size_t j)
{
    double dot = 0, ii = 0, jj = 0;
    for (size_t b = 0; b < B; b++) {
        dot += o->f[b][i] * o->f[b][j];
        ii += o->f[b][i] * o->f[b][i];
        jj += o->f[b][j] * o->f[b][j];
    }
    return i == j || !(ii > 0) || !(jj > 0) ? 0 : dot / sqrt(ii * jj);
}

static double
reconstruction(const struct oracle *o)
{
    double sum = 0;
    for (size_t b = 0; b < B; b++)
        for (size_t c = 0; c < D; c++) {
            double xhat = o->b_dec[c];
            for (size_t i = 0; i < K; i++)
                xhat += o->f[b][i] * o->w_dec[i][c];
            sum += pow(xhat - (double)o->x[b * D + c], 2);
        }
    return sum / B;
}

static double
sparsity(const struct oracle *o)
{
    double l1 = 0, squashed = 0;
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < K; i++) {
            l1 += o->f[b][i] / B;
            squashed += tanh(4 * o->f[b][i]) / B;
        }
    switch (recipe_sparsity(o->r)) {
    case SPARSITY_L1:
        return o->alpha * o->r->loss.lambda_s * l1;
    case SPARSITY_TANH:
        return o->alpha * o->r->loss.lambda_s * squashed;
    default:
        return 0; // none, or no gradient but to the threshold
    }
}

static double
competition(const struct oracle *o)
{
    double sum = 0;
    bool through = o->r->competition.gradient == GRADIENT_THROUGH;
    for (size_t i = 0; i < K && o->competing; i++)
        for (size_t j = 0; j < K; j++) {
            double cij = through ? cosine(o, i, j) : o->c[i][j], dot = 0;
            if (!(cij > o->theta))
                continue;
            for (size_t c = 0; c < D; c++)
                dot += o->w_dec[i][c] * o->w_dec[j][c];
            sum += cij * dot * dot;
        }
    return o->r->loss.lambda_o * sum;
}

static double
temporal(const struct oracle *o)
{
    double sum = 0;
    bool by_position = o->r->temporal.pairing == PAIRING_POSITION;
    for (size_t b = 0; b < B && o->competing && o->has_before; b++)
        for (size_t i = 0; i < K; i++)
            if (!by_position || (b > 0 && (o->follows[b / 8] >> (b % 8) & 1)))
                sum += pow(o->f[b][i] - o->before[b][i], 2);
    return o->r->loss.lambda_t * sum / B;
}

static double
loss(struct oracle *o)
{
    encode(o);
    return reconstruction(o) + sparsity(o) + competition(o) + temporal(o);
}

static void
copy_params(struct oracle *o, struct train *train)
{
    struct sae *sae = train_sae(train);
    for (size_t i = 0; i < K; i++) {
        for (size_t c = 0; c < D; c++) {
            o->w_enc[i][c] = (double)mat_row(sae_param(sae, SAE_W_ENC), i)[c];
            o->w_dec[i][c] = (double)mat_row(sae_param(sae, SAE_W_DEC), i)[c];
        }
        o->b_enc[i] = (double)sae_param(sae, SAE_B_ENC).at[i];
        o->tau[i] = sae_tau(sae) ? (double)sae_tau(sae)[i] : 0;
    }
    for (size_t c = 0; c < D; c++)
        o->b_dec[c] = (double)sae_param(sae, SAE_B_DEC).at[c];
}

// What is held constant, from the step just made.
static void
hold(struct oracle *o, struct train *train, const float *before)
{
    struct mat f = train_features(train);
    bool by_position = o->r->temporal.pairing == PAIRING_POSITION;
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < K; i++)
            o->picked[b][i] = mat_row(f, b)[i] > 0;
    encode(o);
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < K; i++)
            o->before[b][i] = !by_position ? (double)before[b * K + i] : b ? o->f[b - 1][i] : 0;
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j < K; j++)
            o->c[i][j] = cosine(o, i, j);
}

static void
check_coordinate(struct oracle *o, double *value, double got, double size, const char *what)
{
    double was = *value, h = 1e-5;
    *value = was + h;
    double up = loss(o);
    *value = was - h;
    double down = loss(o);
    *value = was;
    double want = (up - down) / (2 * h);
    if (!(fabs(got - want) <= 2e-4 * fabs(want) + 2e-4 * size))
        fail_msg("dL/d%s is %.9g, finite differences give %.9g", what, got, want);
}

static double
rms(struct mat m)
{
    double sum = 0;
    for (size_t n = 0; n < mat_count(m); n++)
        sum += (double)m.at[n] * (double)m.at[n];
    return sqrt(sum / (double)mat_count(m));
}

// Nothing may sit so near a jump that a step of 1e-5 crosses it.
static bool
smooth_here(struct oracle *o)
{
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < K; i++) {
            double edge = o->r->sae.arch == ARCH_JUMPRELU ? o->tau[i] : 0;
            bool picks = o->r->sae.arch == ARCH_TOPK || o->r->sae.arch == ARCH_BATCHTOPK;
            if (!picks && fabs(pre_activation(o, b, i) - edge) < 2e-4)
                return false;
        }
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j < K; j++)
            if (fabs(o->c[i][j] - o->theta) < 2e-4)
                return false;
    return true;
}

// A parameter's gradient on the way that was compared with the slopes, for the other ways.
static struct {
    uint64_t step;
    float of[SAE_PARAMS][K * D];
} proven;

static void
check_slopes(struct recipe r, const char *name)
{
    static struct oracle o;
    static float before[B * K], x[B * D];
    struct train *train;
    needs(train_new(&train, &r, &kern_ref));
    struct step_log log;
    bool checked = false;
    while (train_steps(train) < 30 && !checked) {
        uint64_t t = train_steps(train);
        o = (struct oracle){.r = &r, .x = x, .has_before = t > 0};
        small_batch(x, t);
        small_follows(o.follows);
        copy_params(&o, train);
        memcpy(before, train_features(train).at, sizeof before);
        log = small_step(train);
        o.alpha = log.alpha;
        o.theta = log.theta;
        o.competing = log.competing;
        if (!log.competing || t <= 8)
            continue;
        hold(&o, train, before);
        checked = smooth_here(&o);
    }
    if (!checked)
        fail_msg("%s: no step was smooth enough to look at", name);
    double whole = loss(&o), forms = log.mse_sum + log.competition + log.temporal;
    enum sparsity form = recipe_sparsity(&r);
    if (form != SPARSITY_L0 && form != SPARSITY_TARGET_L0)
        forms += log.sparsity;
    if (!(fabs(forms - whole) <= 1e-5 * whole))
        fail_msg("%s: the loss is %.9g, wanted %.9g", name, forms, whole);
    struct mat g[SAE_PARAMS];
    proven.step = log.step;
    for (enum sae_param p = 0; p < SAE_PARAMS; p++) {
        g[p] = train_gradient(train, p);
        if (g[p].rows)
            memcpy(proven.of[p], g[p].at, mat_count(g[p]) * sizeof(float));
    }
    for (size_t i = 0; i < K; i++) {
        size_t c = i % D;
        check_coordinate(&o, &o.w_enc[i][c], (double)mat_row(g[SAE_W_ENC], i)[c], rms(g[SAE_W_ENC]),
                         "W_enc");
        check_coordinate(&o, &o.w_dec[i][c], (double)mat_row(g[SAE_W_DEC], i)[c], rms(g[SAE_W_DEC]),
                         "W_dec");
        if (i % 4 == 0)
            check_coordinate(&o, &o.b_enc[i], (double)g[SAE_B_ENC].at[i], rms(g[SAE_B_ENC]),
                             "b_enc");
    }
    for (size_t c = 0; c < D; c += 2)
        check_coordinate(&o, &o.b_dec[c], (double)g[SAE_B_DEC].at[c], rms(g[SAE_B_DEC]), "b_dec");
    train_free(&train);
}

static void
check_same(struct recipe r, const char *name)
{
    struct train *train;
    needs(train_new(&train, &r, &kern_cpu));
    while (train_steps(train) <= proven.step)
        small_step(train);
    for (enum sae_param p = 0; p < SAE_PARAMS; p++) {
        struct mat g = train_gradient(train, p);
        double off = 0, size = 0;
        for (size_t n = 0; n < mat_count(g); n++) {
            off += pow((double)g.at[n] - (double)proven.of[p][n], 2);
            size += pow((double)proven.of[p][n], 2);
        }
        if (!(sqrt(off) <= 1e-4 * sqrt(size)))
            fail_msg("%s: dL/d%s is %.3g away from the proven one of %.3g", name,
                     sae_param_name(&r.sae, p), sqrt(off), sqrt(size));
    }
    train_free(&train);
}

static void
check_everywhere(struct recipe r, const char *name)
{
    r.optimiser.lr = 5e-3;
    r.lists_below = r.rivals_below = -1;
    check_slopes(r, name);
    for (int way = 0; way < 3; way++) { // products, lists, lists but the competition by tiles
        r.lists_below = way == 0 ? -1 : 2;
        r.rivals_below = way == 1 ? 2 : -1;
        check_same(r, name);
    }
}

static void
of_every_architecture_is_the_slope_of_the_loss(void **unused)
{
    (void)unused;
    for (int arch = 0; arch_names[arch]; arch++) {
        struct recipe r = small_recipe();
        r.sae.arch = arch;
        check_everywhere(r, arch_names[arch]);
    }
}

static void
through_the_cosines_is_the_slope_of_the_loss(void **unused)
{
    (void)unused;
    for (int arch = 0; arch_names[arch]; arch++) {
        struct recipe r = small_recipe();
        r.sae.arch = arch;
        r.loss.lambda_o = 0.3; // enough to be seen beside the reconstruction
        r.competition.gradient = GRADIENT_THROUGH;
        check_everywhere(r, arch_names[arch]);
    }
}

static void
of_the_options_is_the_slope_of_the_loss(void **unused)
{
    (void)unused;
    struct recipe r = small_recipe();
    r.temporal.pairing = PAIRING_POSITION;
    r.loss.lambda_t = 0.2;
    check_everywhere(r, "position");
    r = small_recipe();
    r.loss.lambda_t = 0.2;
    r.sae.pre_bias = true;
    r.sae.b_dec_init = B_DEC_MEDIAN;
    check_everywhere(r, "pre_bias");
    r = small_recipe();
    r.loss.sparsity = SPARSITY_TANH;
    check_everywhere(r, "tanh");
    r.sae.arch = ARCH_JUMPRELU;
    check_everywhere(r, "tanh of jumprelu");
    r.sae.threshold = THRESHOLD_LOG;
    r.loss.sparsity = SPARSITY_L1;
    check_everywhere(r, "l1 of jumprelu");
}

// The straight-through estimators have no slope to compare with: their definition, over all
// entries.
static void
of_thresholds_is_the_estimator(void **unused)
{
    (void)unused;
    static float x[B * D], z_before[B * K];
    for (int form = SPARSITY_L0; form <= SPARSITY_TARGET_L0; form++)
        for (int way = 0; way < 2; way++) {
            struct recipe r = small_recipe();
            r.sae.arch = ARCH_JUMPRELU;
            r.loss.sparsity = form;
            r.loss.target_l0 = 3;
            r.loss.lambda_o = r.loss.lambda_t = 0;
            r.curriculum.enabled = false;
            r.lists_below = way ? 2 : -1;
            struct train *train;
            needs(train_new(&train, &r, &kern_cpu));
            struct sae *sae = train_sae(train);
            small_batch(x, 0);
            struct mat z = {z_before, B, K};
            kern_ref.encode(z, (struct mat){x, B, D}, sae_param(sae, SAE_W_ENC),
                            sae_param(sae, SAE_B_ENC).at);
            static float w_dec[K * D];
            memcpy(w_dec, sae_param(sae, SAE_W_DEC).at, sizeof w_dec);
            double tau = (double)sae_tau(sae)[0], width = r.sae.bandwidth;
            struct step_log log = small_step(train);
            double l0 = log.l0, lambda = r.loss.lambda_s;
            double step = form == SPARSITY_L0 ? lambda / B : lambda * 2 * (l0 / 3 - 1) / 3 / B;
            double value = form == SPARSITY_L0 ? lambda * l0 : lambda * pow(l0 / 3 - 1, 2);
            assert_true(fabs(log.sparsity - value) <= 1e-6 * value);
            for (size_t i = 0; i < K; i++) {
                double want = 0;
                for (size_t b = 0; b < B; b++) {
                    if (!(fabs((double)z_before[b * K + i] - tau) < width / 2))
                        continue;
                    double slope = 0; // dL/df_bi, of the reconstruction
                    for (size_t c = 0; c < D; c++) {
                        double xhat = 0;
                        for (size_t j = 0; j < K; j++)
                            xhat += (double)mat_row(train_features(train), b)[j] *
                                    (double)w_dec[j * D + c];
                        slope += 2.0 / B * (xhat - (double)x[b * D + c]) * (double)w_dec[i * D + c];
                    }
                    want -= (tau * slope + step) / width;
                }
                double got = (double)train_gradient(train, SAE_THRESHOLD).at[i];
                if (!(fabs(got - want) <= 1e-5 * (1 + fabs(want))))
                    fail_msg("dL/dtau of latent %zu is %.9g, wanted %.9g", i, got, want);
            }
            train_free(&train);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_every_architecture_is_the_slope_of_the_loss),
        cmocka_unit_test(through_the_cosines_is_the_slope_of_the_loss),
        cmocka_unit_test(of_the_options_is_the_slope_of_the_loss),
        cmocka_unit_test(of_thresholds_is_the_estimator),
    };
    gemm_threads(1); // small arrays: a second thread costs more than it does
    return cmocka_run_group_tests_name("gradient", tests, NULL, NULL);
}

#include "evaluator/downstream.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static inline double
mul_add(double a, double b, double c)
{
#ifdef __FMA__
    return fma(a, b, c); // one instruction here, a library call elsewhere
#else
    return a * b + c;
#endif
}

// exp(x) for x <= 0 to 2 units in the last place, written so that the compiler can do several at
// once: the loops over a vocabulary are where an evaluation's own time goes. Below e^-708 it stays
// at 3e-308 rather than reaching 0; NaN stays NaN.
static inline double
exp_down(double x)
{
    const double log2_e = 0x1.71547652b82fep0, magic = 0x1.8p52;
    const double ln2_high = 0x1.62e42fefa39efp-1, ln2_low = 0x1.abc9e3b39803fp-56;
    x = x < -708 ? -708 : x;
    double shifted = mul_add(x, log2_e, magic); // its low bits are now round(x / ln 2)
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    double whole = shifted - magic;
    double r = mul_add(-whole, ln2_low, mul_add(-whole, ln2_high, x)); // |r| <= ln 2 / 2
    // sum of r^i / i!, i <= 12, paired up so that the steps need not wait for each other
    double r2 = r * r, r4 = r2 * r2;
    double p01 = 1.0 + r;
    double p23 = mul_add(r, 1.0 / 6, 0.5);
    double p45 = mul_add(r, 1.0 / 120, 1.0 / 24);
    double p67 = mul_add(r, 1.0 / 5040, 1.0 / 720);
    double p89 = mul_add(r, 1.0 / 362880, 1.0 / 40320);
    double pab = mul_add(r, 1.0 / 39916800, 1.0 / 3628800);
    double p03 = mul_add(r2, p23, p01), p47 = mul_add(r2, p67, p45);
    double p8c = mul_add(r4, 1.0 / 479001600, mul_add(r2, pab, p89));
    double p = mul_add(r4, mul_add(r4, p8c, p47), p03);
    uint64_t scale_bits = (bits + 1023) << 52; // 2^whole
    double scale;
    memcpy(&scale, &scale_bits, sizeof scale);
    return p * scale;
}

double
logits_normaliser(const float *z, size_t vocab)
{
    assert(vocab > 0);
    float top = z[0];
#pragma omp simd reduction(max : top)
    for (size_t v = 0; v < vocab; v++)
        top = z[v] > top ? z[v] : top;
    double sum = 0, most = (double)top;
#pragma omp simd reduction(+ : sum)
    for (size_t v = 0; v < vocab; v++)
        sum += exp_down((double)z[v] - most);
    return most + log(sum);
}

double
logits_entropy(const float *z, double normaliser, size_t vocab)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t v = 0; v < vocab; v++) {
        double log_p = (double)z[v] - normaliser;
        sum += exp_down(log_p) * log_p;
    }
    return -sum;
}

double
logits_kl(const float *z, double z_normaliser, const float *y, double y_normaliser, size_t vocab)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t v = 0; v < vocab; v++) {
        double log_p = (double)z[v] - z_normaliser, log_q = (double)y[v] - y_normaliser;
        sum += exp_down(log_p) * (log_p - log_q);
    }
    return sum;
}

void
downstream_plain(struct plain_at *out, const float *z, const uint32_t *next, size_t rows,
                 size_t vocab)
{
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t r = 0; r < rows; r++) {
        const float *row = z + r * vocab;
        double normaliser = logits_normaliser(row, vocab);
        assert(next[r] == NO_NEXT || next[r] < vocab);
        out[r] = (struct plain_at){
            .normaliser = normaliser,
            .ce = next[r] == NO_NEXT ? 0 : normaliser - (double)row[next[r]],
            .kl_zeros = log((double)vocab) - logits_entropy(row, normaliser, vocab),
        };
    }
}

void
downstream_moved(struct moved_at *out, const float *y, const float *z, const struct plain_at *plain,
                 const uint32_t *next, size_t rows, size_t vocab)
{
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t r = 0; r < rows; r++) {
        const float *row = y + r * vocab;
        double normaliser = logits_normaliser(row, vocab);
        assert(next[r] == NO_NEXT || next[r] < vocab);
        out[r] = (struct moved_at){
            .kl = logits_kl(z + r * vocab, plain[r].normaliser, row, normaliser, vocab),
            .ce = next[r] == NO_NEXT ? 0 : normaliser - (double)row[next[r]],
        };
    }
}

void
downstream_add(struct downstream *sums, const struct plain_at *plain, const struct moved_at *sae,
               const struct moved_at *abl, uint32_t next, size_t vocab)
{
    sums->positions++;
    sums->kl_sae += sae->kl;
    sums->kl_abl += abl ? abl->kl : plain->kl_zeros;
    if (next == NO_NEXT)
        return;
    sums->predicting++;
    sums->ce_none += plain->ce;
    sums->ce_sae += sae->ce;
    sums->ce_abl += abl ? abl->ce : log((double)vocab);
}

static double
ratio(double above, double below)
{
    double value = above / below;
    return isfinite(value) ? value : UNDEFINED;
}

void
downstream_finish(struct core *core, const struct downstream *sums)
{
    double kl_n = (double)sums->positions, ce_n = (double)sums->predicting;
    core->kl_div_with_sae = ratio(sums->kl_sae, kl_n);
    core->kl_div_with_ablation = ratio(sums->kl_abl, kl_n);
    core->ce_loss_without_sae = ratio(sums->ce_none, ce_n);
    core->ce_loss_with_sae = ratio(sums->ce_sae, ce_n);
    core->ce_loss_with_ablation = ratio(sums->ce_abl, ce_n);
    core->kl_div_score =
        ratio(core->kl_div_with_ablation - core->kl_div_with_sae, core->kl_div_with_ablation);
    core->ce_loss_score = ratio(core->ce_loss_with_ablation - core->ce_loss_with_sae,
                                core->ce_loss_with_ablation - core->ce_loss_without_sae);
    core->total_tokens_eval_reconstruction = (double)sums->windows_tokens;
    core->tokens_kl = kl_n;
    core->tokens_ce = ce_n;
}

#include "lib/sae/start.h"

#include "lib/base/rng.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static void
kaiming_rows(struct mat w, uint64_t seed, enum rng_purpose purpose)
{
    float bound = sqrtf(6.0f / (float)w.cols);
    uint32_t words[4] = {0};
    for (size_t n = 0; n < mat_count(w); n++) {
        if (n % 4 == 0)
            rng_words(words, seed, purpose, 0, n / 4);
        w.at[n] = (2 * rng_uniform(words[n % 4]) - 1) * bound;
    }
    for (size_t i = 0; i < w.rows; i++) {
        double square = 0;
        for (size_t c = 0; c < w.cols; c++)
            square += (double)mat_row(w, i)[c] * (double)mat_row(w, i)[c];
        double norm = sqrt(square);
        for (size_t c = 0; c < w.cols && norm > 0; c++)
            mat_row(w, i)[c] = (float)((double)mat_row(w, i)[c] / norm);
    }
}

void
start_weights(struct sae *sae)
{
    const struct recipe_sae *set = sae_settings(sae);
    struct mat w_enc = sae_param(sae, SAE_W_ENC), w_dec = sae_param(sae, SAE_W_DEC);
    kaiming_rows(w_dec, set->seed, RNG_DECODER);
    if (set->tie_init)
        memcpy(w_enc.at, w_dec.at, mat_count(w_dec) * sizeof(float));
    else
        kaiming_rows(w_enc, set->seed, RNG_ENCODER);
    memset(sae_param(sae, SAE_B_ENC).at, 0, set->latents * sizeof(float));
    memset(sae_param(sae, SAE_B_DEC).at, 0, sae_width(sae) * sizeof(float));
    struct mat threshold = sae_param(sae, SAE_THRESHOLD);
    double tau = set->threshold_init > 0 ? set->threshold_init : 0.01;
    for (size_t i = 0; i < threshold.cols; i++)
        threshold.at[i] = (float)(set->threshold == THRESHOLD_LOG ? log(tau) : tau);
    *sae_running_threshold(sae) = -1;
}

static void
mean_row(double *mean, struct mat x)
{
    memset(mean, 0, x.cols * sizeof *mean);
    for (size_t b = 0; b < x.rows; b++)
        for (size_t c = 0; c < x.cols; c++)
            mean[c] += (double)mat_row(x, b)[c];
    for (size_t c = 0; c < x.cols; c++)
        mean[c] /= (double)x.rows;
}

static double
distance(const double *point, const float *row, size_t d)
{
    double square = 0;
    for (size_t c = 0; c < d; c++)
        square += (point[c] - (double)row[c]) * (point[c] - (double)row[c]);
    return sqrt(square);
}

// One Weiszfeld step: the mean of the rows, each weighed by one over its distance. Yields how far
// the point went.
static double
weiszfeld(double *point, double *next, struct mat x)
{
    double weights = 0, moved = 0;
    memset(next, 0, x.cols * sizeof *next);
    for (size_t b = 0; b < x.rows; b++) {
        const float *row = mat_row(x, b);
        double weight = 1 / fmax(distance(point, row, x.cols), 1e-12);
        weights += weight;
        for (size_t c = 0; c < x.cols; c++)
            next[c] += weight * (double)row[c];
    }
    for (size_t c = 0; c < x.cols; c++) {
        double to = next[c] / weights;
        moved += (to - point[c]) * (to - point[c]);
        point[c] = to;
    }
    return sqrt(moved);
}

void
geometric_median(float *out, double *point, double *next, struct mat x)
{
    assert(x.rows > 0);
    mean_row(point, x);
    for (int round = 0; round < 100; round++)
        if (weiszfeld(point, next, x) < 1e-5)
            break;
    for (size_t c = 0; c < x.cols; c++)
        out[c] = (float)point[c];
}

void
start_b_dec(struct sae *sae, double *point, double *next, struct mat x)
{
    struct mat b_dec = sae_param(sae, SAE_B_DEC);
    assert(x.cols == b_dec.cols && x.rows > 0);
    switch ((enum b_dec_init)sae_settings(sae)->b_dec_init) {
    case B_DEC_ZERO:
        return;
    case B_DEC_MEAN:
        mean_row(point, x);
        for (size_t c = 0; c < x.cols; c++)
            b_dec.at[c] = (float)point[c];
        return;
    case B_DEC_MEDIAN:
        geometric_median(b_dec.at, point, next, x);
        return;
    }
    assert(!"a start of b_dec");
}

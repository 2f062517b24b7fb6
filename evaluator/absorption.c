#include "evaluator/absorption.h"

#include <assert.h>
#include <math.h>

// SAEBench's constants.
static const double silent = 1e-8, cosine_of_part = 0.1, cosine_of_full = 0.025, least_share = 0.4;
enum { ABSORBING = 3 };

size_t
absorption_split(const double *f1, size_t count, double jump)
{
    double best = -100;
    size_t main = 0;
    while (main < count && f1[main] > best + jump)
        best = f1[main++];
    return main;
}

static bool
among(uint32_t j, const uint32_t *main, size_t mains)
{
    for (size_t i = 0; i < mains; i++)
        if (main[i] == j)
            return true;
    return false;
}

static double
fraction_of(double p, double main, double others)
{
    if (!(p > 0) || main >= p || others / p < least_share)
        return 0; // p <= 0: a share of nothing
    if (main <= 0)
        return 1;
    double absorbed = fmin(others, p - main);
    return fmin(fmax(absorbed / (absorbed + main), 0), 1);
}

struct absorbed
absorption_word(double projection, const double *cosines, size_t latents, const uint32_t *index,
                const float *value, size_t active, const uint32_t *main, size_t mains)
{
    assert(latents > 0);
    double main_sum = 0, largest[ABSORBING] = {0};
    bool main_silent = true;
    // Silent latents have q = 0: the largest is theirs when no active one is above it. The first of
    // them is found by walking along the ascending indices.
    size_t top = latents, first_silent = 0;
    double top_projection = -INFINITY;
    for (size_t e = 0; e < active; e++) {
        uint32_t j = index[e];
        assert(j < latents && (e == 0 || j > index[e - 1]));
        first_silent += first_silent == j;
        double q = (double)value[e] * cosines[j];
        if (q > top_projection) {
            top = j;
            top_projection = q;
        }
        if (among(j, main, mains)) {
            main_sum += q;
            main_silent = main_silent && (double)value[e] < silent;
            continue;
        }
        if (cosines[j] < cosine_of_part || !(q > 0))
            continue;
        for (size_t i = 0; i < ABSORBING; i++)
            if (q > largest[i]) {
                double smaller = largest[i];
                largest[i] = q;
                q = smaller;
            }
    }
    if (first_silent < latents &&
        (top_projection < 0 || (!(top_projection > 0) && first_silent < top))) {
        top = first_silent;
        top_projection = 0;
    }
    double others = 0;
    for (size_t i = 0; i < ABSORBING; i++)
        others += largest[i];
    return (struct absorbed){
        .projection = projection,
        .fraction = fraction_of(projection, main_sum, others),
        .full = main_silent && projection > 0 && cosines[top] >= cosine_of_full &&
                top_projection / projection >= least_share,
        .top = top,
        .top_projection = top_projection,
    };
}

double
absorption_cosines(double *cosines, const float *direction, const float *decoder, size_t latents,
                   size_t d)
{
    double norm2 = 0;
    for (size_t c = 0; c < d; c++)
        norm2 += (double)direction[c] * (double)direction[c];
    double norm = sqrt(norm2);
#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < latents; j++) {
        double product = 0, own = 0;
        const float *w = decoder + j * d;
#pragma omp simd reduction(+ : product, own)
        for (size_t c = 0; c < d; c++) {
            product += (double)w[c] * (double)direction[c];
            own += (double)w[c] * (double)w[c];
        }
        double below = norm * sqrt(own);
        cosines[j] = below > 0 ? product / below : 0;
    }
    return norm;
}

#include "evaluator/geometry.h"

#include "lib/kern/gemm.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

// Side of a tile of products: 4 MiB of floats.
enum { TILE = 1024 };

static double
dot(const float *a, const float *b, size_t d)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < d; c++)
        sum += (double)a[c] * (double)b[c];
    return sum;
}

// most[i] = max over j != i of w_i.w_j over the norms. The product is symmetric: tiles on and above
// the diagonal serve the rows and the columns. `inverse` holds 1 / max(norm, 1e-12).
static bool
most_alike(double *most, const float *w, const double *inverse, size_t k, size_t d, float *tile,
           const struct geometry_watch *watch, double share_from)
{
    enum { BLOCK = 64 };
    for (size_t i = 0; i < k; i++)
        most[i] = -INFINITY;
    size_t side = k < TILE ? k : TILE, tiles = (k + side - 1) / side;
    size_t all = tiles * (tiles + 1) / 2, done = 0;
    for (size_t ti = 0; ti < tiles; ti++) {
        size_t i0 = ti * side, rows = k - i0 < side ? k - i0 : side;
        for (size_t tj = ti; tj < tiles; tj++) {
            size_t j0 = tj * side, cols = k - j0 < side ? k - j0 : side;
            gemm_nt(tile, w + i0 * d, w + j0 * d, rows, cols, d, false);
            for (size_t i = 0; i < rows && ti == tj; i++)
                tile[i * cols + i] = -INFINITY; // not with itself
#pragma omp parallel for schedule(static)
            for (size_t i = 0; i < rows; i++) {
                double top = -INFINITY;
                const double *scale = inverse + j0;
                const float *row = tile + i * cols;
#pragma omp simd reduction(max : top)
                for (size_t j = 0; j < cols; j++) {
                    double cosine = (double)row[j] * scale[j];
                    top = cosine > top ? cosine : top;
                }
                most[i0 + i] = fmax(most[i0 + i], top * inverse[i0 + i]);
            }
#pragma omp parallel for schedule(static)
            for (size_t from = 0; from < (ti == tj ? 0 : cols); from += BLOCK) {
                size_t upto = cols - from < BLOCK ? cols : from + BLOCK;
                for (size_t i = 0; i < rows; i++)
                    for (size_t j = from; j < upto; j++) {
                        double cosine =
                            (double)tile[i * cols + j] * (inverse[i0 + i] * inverse[j0 + j]);
                        most[j0 + j] = cosine > most[j0 + j] ? cosine : most[j0 + j];
                    }
            }
            done++;
            if (watch && watch->stop(watch->context, share_from + 0.5 * (double)done / (double)all))
                return false;
        }
    }
    return true;
}

static double
mean(const double *at, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += at[i];
    return isfinite(sum) ? sum / (double)count : UNDEFINED;
}

enum status
geometry_measure(struct core *core, struct latent_detail *details, const float *encoder,
                 const float *decoder, const float *bias, size_t k, size_t d,
                 const struct geometry_watch *watch)
{
    assert(k > 0 && d > 0);
    enum status status = STATUS_OK;
    size_t side = k < TILE ? k : TILE;
    float *tile = calloc(side * side, sizeof *tile);
    double *inverse_e = calloc(k, sizeof *inverse_e), *inverse_d = calloc(k, sizeof *inverse_d);
    double *most_e = calloc(k, sizeof *most_e), *most_d = calloc(k, sizeof *most_d);
    if (!tile || !inverse_e || !inverse_d || !most_e || !most_d) {
        status = FAIL(CREATE, "no memory for the cosines of %zu latents", k);
        goto done;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < k; i++) {
        const float *e = encoder + i * d, *w = decoder + i * d;
        double norm_e = sqrt(dot(e, e, d)), norm_d = sqrt(dot(w, w, d));
        details[i].encoder_norm = norm_e;
        details[i].encoder_bias = bias ? (double)bias[i] : 0;
        inverse_e[i] = 1 / fmax(norm_e, 1e-12);
        inverse_d[i] = 1 / fmax(norm_d, 1e-12);
        details[i].encoder_decoder_cosine_sim =
            dot(e, w, d) / (fmax(norm_e, 1e-8) * fmax(norm_d, 1e-8));
    }
    if (!most_alike(most_e, encoder, inverse_e, k, d, tile, watch, 0) ||
        !most_alike(most_d, decoder, inverse_d, k, d, tile, watch, 0.5)) {
        status = FAIL(AGAIN, "stopped while comparing the latents' weights");
        goto done;
    }
    for (size_t i = 0; i < k; i++) {
        details[i].max_encoder_cosine_sim = isfinite(most_e[i]) ? most_e[i] : UNDEFINED;
        details[i].max_decoder_cosine_sim = isfinite(most_d[i]) ? most_d[i] : UNDEFINED;
    }
    core->average_max_encoder_cosine_sim = mean(most_e, k);
    core->average_max_decoder_cosine_sim = mean(most_d, k);
done:
    free(most_d);
    free(most_e);
    free(inverse_d);
    free(inverse_e);
    free(tile);
    return status;
}

#include "evaluator/fidelity.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// What a row gives.
struct row_at {
    double in2, out2, dot, error2; // |x|^2, |xhat|^2, x.xhat, |x - xhat|^2
    double spread2;                // |x - mean of the batch|^2
};

struct fidelity {
    size_t width, rows_most, rows_total;
    struct row_at *at;  // [rows_most]
    double *batch_mean; // [width]
    double *x_sum;      // [width], over all rows
    float *error_norms; // [rows_total], for the median
    size_t rows, batches;
    // sums over rows
    double in, out, ratio, scaled_mse, cosine, legacy, error_norm, in2, error2;
    // sums over batches of batch means
    double bias, mean_in2, mean_error2;
};

enum status
fidelity_new(struct fidelity **out, size_t width, size_t rows_most, size_t rows_total)
{
    assert(width > 0 && rows_most > 0 && rows_total > 0);
    struct fidelity *fidelity = calloc(1, sizeof *fidelity);
    if (fidelity) {
        fidelity->width = width;
        fidelity->rows_most = rows_most;
        fidelity->rows_total = rows_total;
        fidelity->at = calloc(rows_most, sizeof *fidelity->at);
        fidelity->batch_mean = calloc(width, sizeof(double));
        fidelity->x_sum = calloc(width, sizeof(double));
        fidelity->error_norms = calloc(rows_total, sizeof(float));
    }
    if (!fidelity || !fidelity->at || !fidelity->batch_mean || !fidelity->x_sum ||
        !fidelity->error_norms) {
        fidelity_free(&fidelity);
        return FAIL(CREATE, "no memory for the errors of %zu tokens", rows_total);
    }
    *out = fidelity;
    return STATUS_OK;
}

void
fidelity_free(struct fidelity **fidelity)
{
    if (!*fidelity)
        return;
    free((*fidelity)->error_norms);
    free((*fidelity)->x_sum);
    free((*fidelity)->batch_mean);
    free((*fidelity)->at);
    free(*fidelity);
    *fidelity = NULL;
}

void
fidelity_reset(struct fidelity *fidelity)
{
    struct fidelity kept = *fidelity;
    *fidelity = (struct fidelity){
        .width = kept.width,
        .rows_most = kept.rows_most,
        .rows_total = kept.rows_total,
        .at = kept.at,
        .batch_mean = kept.batch_mean,
        .x_sum = kept.x_sum,
        .error_norms = kept.error_norms,
    };
    memset(fidelity->x_sum, 0, kept.width * sizeof *kept.x_sum);
}

// batch_mean = the mean row; x_sum += the sum. Columns in blocks, rows in order.
static void
columns(struct fidelity *fidelity, const float *x, size_t rows)
{
    enum { BLOCK = 64 };
    size_t width = fidelity->width;
#pragma omp parallel for schedule(static)
    for (size_t from = 0; from < width; from += BLOCK) {
        size_t upto = width - from < BLOCK ? width : from + BLOCK;
        for (size_t c = from; c < upto; c++)
            fidelity->batch_mean[c] = 0;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = from; c < upto; c++)
                fidelity->batch_mean[c] += (double)x[r * width + c];
        for (size_t c = from; c < upto; c++) {
            fidelity->x_sum[c] += fidelity->batch_mean[c];
            fidelity->batch_mean[c] /= (double)rows;
        }
    }
}

void
fidelity_batch(struct fidelity *fidelity, const float *x, const float *xhat, size_t rows)
{
    size_t width = fidelity->width;
    assert(rows <= fidelity->rows_most && rows <= fidelity->rows_total - fidelity->rows);
    fidelity->batches++;
    if (rows > 0)
        columns(fidelity, x, rows);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) {
        const float *a = x + r * width, *b = xhat + r * width;
        const double *mean = fidelity->batch_mean;
        double in2 = 0, out2 = 0, dot = 0, error2 = 0, spread2 = 0;
#pragma omp simd reduction(+ : in2, out2, dot, error2, spread2)
        for (size_t c = 0; c < width; c++) {
            double p = (double)a[c], q = (double)b[c], e = p - q, s = p - mean[c];
            in2 += p * p;
            out2 += q * q;
            dot += p * q;
            error2 += e * e;
            spread2 += s * s;
        }
        fidelity->at[r] = (struct row_at){in2, out2, dot, error2, spread2};
    }
    double n = (double)rows, in2 = 0, out2 = 0, dot = 0, error2 = 0;
    for (size_t r = 0; r < rows; r++) {
        struct row_at at = fidelity->at[r];
        double in = sqrt(at.in2), out = sqrt(at.out2), error = sqrt(at.error2);
        fidelity->in += in;
        fidelity->out += out;
        fidelity->ratio += out / (in < 1e-4 ? 1 : in);
        fidelity->scaled_mse += at.error2 / n;
        fidelity->cosine += at.dot / (in * out);
        fidelity->legacy += 1 - at.error2 / at.spread2;
        fidelity->error_norm += error;
        fidelity->error_norms[fidelity->rows + r] = (float)error;
        in2 += at.in2;
        out2 += at.out2;
        dot += at.dot;
        error2 += at.error2;
    }
    fidelity->rows += rows;
    fidelity->in2 += in2;
    fidelity->error2 += error2;
    // 0/0, hence NaN, for a batch of special tokens only
    fidelity->bias += (out2 / n) / (dot / n);
    fidelity->mean_in2 += in2 / n;
    fidelity->mean_error2 += error2 / n;
}

static double
defined(double value)
{
    return isfinite(value) ? value : UNDEFINED;
}

static int
by_size(const void *a, const void *b)
{
    float p = *(const float *)a, q = *(const float *)b;
    return (p > q) - (p < q);
}

static double
median(float *at, size_t count)
{
    if (count == 0)
        return UNDEFINED;
    qsort(at, count, sizeof *at, by_size);
    return ((double)at[(count - 1) / 2] + (double)at[count / 2]) / 2;
}

void
fidelity_finish(struct core *core, struct fidelity *fidelity)
{
    double n = (double)fidelity->rows, batches = (double)fidelity->batches;
    double width = (double)fidelity->width;
    core->l2_norm_in = defined(fidelity->in / n);
    core->l2_norm_out = defined(fidelity->out / n);
    core->l2_ratio = defined(fidelity->ratio / n);
    core->relative_reconstruction_bias = defined(fidelity->bias / batches);
    core->mse = defined(fidelity->scaled_mse / n);
    core->cossim = defined(fidelity->cosine / n);
    core->explained_variance_legacy = defined(fidelity->legacy / n);
    double s = fidelity->mean_in2 / batches, r = fidelity->mean_error2 / batches;
    core->explained_variance = defined(1 - r / (s - (s / width) * (s / width)));

    core->mse_sum = defined(fidelity->error2 / n);
    core->mse_mean = core->mse_sum / width;
    double mean2 = 0;
    for (size_t c = 0; c < fidelity->width; c++)
        mean2 += (fidelity->x_sum[c] / n) * (fidelity->x_sum[c] / n);
    double variance = fidelity->in2 / n - mean2; // per row
    if (variance < 1e-10)                        // all rows alike: there is nothing to explain
        core->fvu = core->mse_sum < 1e-10 ? 0 : 1;
    else
        core->fvu = defined(core->mse_sum / variance);
    core->explained_variance_centered = 1 - core->fvu;
    core->error_norm_mean = defined(fidelity->error_norm / n);
    bool sound = isfinite(core->error_norm_mean); // NaN cannot be sorted
    core->error_norm_median = sound ? median(fidelity->error_norms, fidelity->rows) : UNDEFINED;
    core->tokens_variance = n;
}

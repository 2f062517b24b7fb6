#include "evaluator/latents.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct latents {
    size_t count, rows_most;
    uint64_t rows;
    uint64_t *fires, *windows; // [count]
    uint64_t *last_window;     // [count], number + 1 of the last window it fired in
    double *row_l1;            // [rows_most]
    uint64_t *row_l0;
    double l1;
    uint64_t l0;
};

enum status
latents_new(struct latents **out, size_t count, size_t rows_most)
{
    assert(count > 0 && rows_most > 0);
    struct latents *latents = calloc(1, sizeof *latents);
    if (latents) {
        latents->count = count;
        latents->rows_most = rows_most;
        latents->fires = calloc(count, sizeof(uint64_t));
        latents->windows = calloc(count, sizeof(uint64_t));
        latents->last_window = calloc(count, sizeof(uint64_t));
        latents->row_l1 = calloc(rows_most, sizeof(double));
        latents->row_l0 = calloc(rows_most, sizeof(uint64_t));
    }
    if (!latents || !latents->fires || !latents->windows || !latents->last_window ||
        !latents->row_l1 || !latents->row_l0) {
        latents_free(&latents);
        return FAIL(CREATE, "no memory for the counters of %zu latents", count);
    }
    *out = latents;
    return STATUS_OK;
}

void
latents_free(struct latents **latents)
{
    if (!*latents)
        return;
    free((*latents)->row_l0);
    free((*latents)->row_l1);
    free((*latents)->last_window);
    free((*latents)->windows);
    free((*latents)->fires);
    free(*latents);
    *latents = NULL;
}

void
latents_reset(struct latents *latents)
{
    latents->rows = latents->l0 = 0;
    latents->l1 = 0;
    memset(latents->fires, 0, latents->count * sizeof(uint64_t));
    memset(latents->windows, 0, latents->count * sizeof(uint64_t));
    memset(latents->last_window, 0, latents->count * sizeof(uint64_t));
}

void
latents_rows(struct latents *latents, const float *f, const uint64_t *window, size_t rows)
{
    enum { BLOCK = 256 }; // latents a thread counts at a time: their counters stay in its cache
    size_t count = latents->count;
    assert(rows <= latents->rows_most);
#pragma omp parallel for schedule(static)
    for (size_t from = 0; from < count; from += BLOCK) {
        size_t upto = count - from < BLOCK ? count : from + BLOCK;
        for (size_t r = 0; r < rows; r++) {
            const float *row = f + r * count;
            for (size_t j = from; j < upto; j++) {
                if (!(row[j] > 0))
                    continue;
                latents->fires[j]++;
                latents->windows[j] += latents->last_window[j] != window[r] + 1;
                latents->last_window[j] = window[r] + 1;
            }
        }
    }
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) {
        const float *row = f + r * count;
        double l1 = 0;
        uint64_t l0 = 0;
#pragma omp simd reduction(+ : l1, l0)
        for (size_t j = 0; j < count; j++) {
            l1 += (double)row[j];
            l0 += row[j] != 0;
        }
        latents->row_l1[r] = l1;
        latents->row_l0[r] = l0;
    }
    for (size_t r = 0; r < rows; r++) {
        latents->l1 += latents->row_l1[r];
        latents->l0 += latents->row_l0[r];
    }
    latents->rows += rows;
}

size_t
density_bin(double density)
{
    double place = floor((log10(density) + 6) * 10);
    if (!(place > 0))
        return 0;
    return place < DENSITY_BINS ? (size_t)place : DENSITY_BINS - 1;
}

void
latents_finish(struct core *core, struct density_histogram *histogram,
               struct latent_detail *details, const struct latents *latents)
{
    double n = (double)latents->rows, count = (double)latents->count;
    uint64_t alive = 0, over_1 = 0, over_10 = 0;
    double sum = 0, sum_1 = 0, sum_10 = 0;
    *histogram = (struct density_histogram){0};
    for (size_t j = 0; j < latents->count; j++) {
        double fires = (double)latents->fires[j];
        double density = n > 0 ? fires / n : UNDEFINED;
        if (details) {
            details[j].feature_density = density;
            details[j].consistent_activation_heuristic =
                latents->windows[j] > 0 ? fires / (double)latents->windows[j] : UNDEFINED;
        }
        if (!(density > 0)) {
            histogram->dead++;
            continue;
        }
        histogram->counts[density_bin(density)]++;
        alive++;
        sum += density;
        if (density > 0.01) {
            over_1++;
            sum_1 += density;
        }
        if (density > 0.1) {
            over_10++;
            sum_10 += density;
        }
    }
    double none = n > 0 ? 0 : UNDEFINED; // nothing was looked at: nothing is known
    core->l0 = n > 0 ? (double)latents->l0 / n : UNDEFINED;
    core->l1 = n > 0 && isfinite(latents->l1) ? latents->l1 / n : UNDEFINED;
    core->frac_alive = none + (double)alive / count;
    core->freq_over_1_percent = none + (double)over_1 / count;
    core->freq_over_10_percent = none + (double)over_10 / count;
    core->normalized_freq_over_1_percent = none + (sum > 0 ? sum_1 / sum : 0);
    core->normalized_freq_over_10_percent = none + (sum > 0 ? sum_10 / sum : 0);
    core->dead_latents = none + (double)histogram->dead;
    core->dense_latents = none + (double)over_10;
}

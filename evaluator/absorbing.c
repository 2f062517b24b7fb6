#include "evaluator/absorbing.h"

#include "evaluator/absorbing_inside.h"
#include "evaluator/absorption.h"
#include "lib/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 1000 };

struct absorbing_plan
absorbing_defaults(void)
{
    return (struct absorbing_plan){.jump = 0.03,
                                   .most_latents = ABSORPTION_MAINS,
                                   .most_bytes = (size_t)1 << 31,
                                   .rows = 1024};
}

enum status
absorbing_go_on(const struct absorbing *job, const char *what, double share)
{
    if (job->watch && job->watch->stop(job->watch->context, what, share))
        return FAIL(AGAIN, "stopped while measuring absorption");
    return STATUS_OK;
}

// ---------------------------------------------------------------- words

static double
projection_of(const float *x, const float *direction, double norm, size_t d)
{
    double sum = 0;
    for (size_t c = 0; c < d; c++)
        sum += (double)x[c] * (double)direction[c];
    return norm > 0 ? sum / norm : 0;
}

// All words of one class, whose main latents are known.
static enum status
score_class(struct absorbed_word *results, struct absorbing *job, size_t c, double *cosines)
{
    const struct letters *l = job->letters;
    const float *direction = l->weights + c * l->width;
    const float *decoder = sae_param(job->sae->sae, SAE_W_DEC).at;
    double norm = absorption_cosines(cosines, direction, decoder, job->latents, l->width);
    const struct absorbing_mains *mains = &job->mains[c];
    for (size_t from = l->start[c]; from < l->start[c + 1]; from += job->slice) {
        size_t left = l->start[c + 1] - from, n = left < job->slice ? left : job->slice;
        TRY(absorbing_encode(job, l->asked_x + from * l->width, n));
        for (size_t i = 0; i < n; i++) {
            const float *f = job->f + i * job->latents;
            size_t active = 0;
            for (size_t j = 0; j < job->latents; j++)
                if (f[j] != 0) {
                    job->index[active] = (uint32_t)j;
                    job->value[active++] = f[j];
                }
            double p = projection_of(l->asked_x + (from + i) * l->width, direction, norm, l->width);
            struct absorbed got = absorption_word(p, cosines, job->latents, job->index, job->value,
                                                  active, mains->main, mains->count);
            bool heard = mains->heard[l->asked_test[from + i]];
            results[from + i] =
                (struct absorbed_word){got.fraction, got.full, got.full && !heard,
                                       (uint32_t)got.top, p > 0 ? got.top_projection / p : 0};
        }
    }
    return STATUS_OK;
}

// ---------------------------------------------------------------- means

static int
ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The interval of three means at once (fraction, full, missed): each class's words are drawn anew.
static enum status
intervals(struct absorption *out, const struct letters *l, const struct absorbed_word *results,
          const bool used[LETTERS])
{
    double *means = calloc(3 * RESAMPLES, sizeof *means);
    if (!means)
        return FAIL(CREATE, "no memory to resample %zu words", l->asked);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < RESAMPLES; r++) {
        double sums[3] = {0};
        size_t counts[3] = {0};
        for (size_t c = 0; c < l->classes; c++) {
            size_t first = l->start[c], n = l->start[c + 1] - first;
            double mine[3] = {0};
            for (size_t i = 0; i < n; i++) {
                uint32_t words[4];
                rng_words(words, l->plan.seed, RNG_RESAMPLE, (uint32_t)r, first + i);
                const struct absorbed_word *one = &results[first + rng_below(words, n)];
                mine[0] += one->fraction;
                mine[1] += one->full;
                mine[2] += one->missed;
            }
            for (size_t m = 0; n > 0 && m < 3; m++)
                if (m == 2 || used[c]) {
                    sums[m] += mine[m] / (double)n;
                    counts[m]++;
                }
        }
        for (size_t m = 0; m < 3; m++)
            means[m * RESAMPLES + r] = counts[m] ? sums[m] / (double)counts[m] : UNDEFINED;
    }
    struct absorption_mean *const all[3] = {&out->fraction, &out->full, &out->missed};
    for (size_t m = 0; m < 3; m++) {
        qsort(means + m * RESAMPLES, RESAMPLES, sizeof *means, ascending);
        all[m]->low = means[m * RESAMPLES + RESAMPLES / 40];
        all[m]->high = means[m * RESAMPLES + RESAMPLES - 1 - RESAMPLES / 40];
    }
    out->resamples = RESAMPLES;
    free(means);
    return STATUS_OK;
}

static struct absorption_mean
mean_of(const double *values, size_t n)
{
    struct absorption_mean mean = {UNDEFINED, UNDEFINED, UNDEFINED, UNDEFINED};
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    if (n > 0)
        mean.value = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (values[i] - mean.value) * (values[i] - mean.value);
    if (n > 1)
        mean.std_dev = sqrt(squares / (double)(n - 1));
    return mean;
}

static struct absorption_letter
letter_of(const struct absorbing *job, const struct absorbed_word *results, size_t c)
{
    const struct letters *l = job->letters;
    const struct absorbing_mains *mains = &job->mains[c];
    size_t first = l->start[c], n = l->start[c + 1] - first;
    struct absorption_letter letter = {.letter = (char)('a' + l->letter[c]),
                                       .used = n > 0 && l->f1[c] > l->plan.least_f1,
                                       .f1 = l->f1[c],
                                       .true_positives = n,
                                       .mains = mains->count,
                                       .tried = mains->tried};
    letter.fraction = n > 0 ? 0 : UNDEFINED;
    for (size_t i = 0; i < n; i++) {
        letter.fraction += results[first + i].fraction / (double)n;
        letter.full += results[first + i].full;
        letter.missed += results[first + i].missed;
    }
    memcpy(letter.main, mains->main, sizeof letter.main);
    memcpy(letter.k_f1, mains->f1, sizeof letter.k_f1);
    return letter;
}

static enum status
summarise(struct absorption *out, const struct absorbing *job, const struct absorbed_word *results)
{
    const struct letters *l = job->letters;
    double fraction[LETTERS], full[LETTERS], splits[LETTERS], missed[LETTERS], f1 = 0;
    size_t used = 0, asked = 0;
    bool is_used[LETTERS] = {false};
    for (size_t c = 0; c < l->classes; c++) {
        struct absorption_letter letter = letter_of(job, results, c);
        double n = (double)letter.true_positives;
        out->letters[out->count++] = letter;
        is_used[c] = letter.used;
        if (letter.true_positives > 0)
            missed[asked++] = (double)letter.missed / n;
        if (!letter.used)
            continue;
        fraction[used] = letter.fraction;
        full[used] = (double)letter.full / n;
        f1 += letter.f1;
        splits[used++] = (double)letter.mains;
    }
    out->fraction = mean_of(fraction, used);
    out->full = mean_of(full, used);
    out->splits = mean_of(splits, used);
    out->missed = mean_of(missed, asked);
    out->used = used;
    out->mean_f1 = used ? f1 / (double)used : UNDEFINED;
    out->words = l->train + l->test;
    out->train = l->train;
    out->test = l->test;
    out->unfit = l->unfit;
    out->examples = l->plan.examples;
    return intervals(out, l, results, is_used);
}

// ---------------------------------------------------------------- all of it

static enum status
take(struct absorbing *job)
{
    enum { SLICE_BYTES = 64 << 20 };
    size_t row = job->latents * sizeof(float), most = SLICE_BYTES / row;
    job->slice = most < 1 ? 1 : most < job->plan->rows ? most : job->plan->rows;
    job->f = calloc(job->slice, row);
    job->x = calloc(job->slice, job->letters->width * sizeof(float));
    job->index = calloc(job->latents, sizeof *job->index);
    job->value = calloc(job->latents, sizeof *job->value);
    for (size_t c = 0; c < job->letters->classes; c++) {
        job->mains[c].heard = calloc(job->letters->test, sizeof(bool));
        if (!job->mains[c].heard)
            return FAIL(CREATE, "no memory to measure absorption");
    }
    return job->f && job->x && job->index && job->value
               ? STATUS_OK
               : FAIL(CREATE, "no memory for %zu rows of %zu latents", job->slice, job->latents);
}

enum status
absorbing_measure(struct absorption *out, struct absorbed_word *words,
                  const struct absorbing_plan *plan, const struct letters *letters,
                  const struct absorbing_choice *given, struct saelens *sae,
                  const struct score_watch *watch)
{
    assert(plan->most_latents >= 1 && plan->most_latents <= ABSORPTION_MAINS && plan->rows > 0);
    if (sae->card.width != letters->width)
        return FAIL(CONFIG, "an SAE of width %llu, wanted the model's, %zu",
                    (unsigned long long)sae->card.width, letters->width);
    enum status status;
    struct absorption result = {0};
    struct absorbing job = {.plan = plan,
                            .letters = letters,
                            .sae = sae,
                            .watch = watch,
                            .latents = (size_t)sae->card.latents};
    double *cosines = calloc(job.latents, sizeof *cosines);
    if (!cosines)
        GOTRY(FAIL(CREATE, "no memory to measure absorption"));
    GOTRY(take(&job));
    for (size_t c = 0; given && c < letters->classes; c++) {
        memcpy(job.mains[c].main, given[c].main, sizeof given[c].main);
        job.mains[c].count = given[c].count;
    }
    if (!given)
        GOTRY(absorbing_find_mains(&job));
    for (size_t c = 0; c < letters->classes; c++) {
        GOTRY(score_class(words, &job, c, cosines));
        GOTRY(absorbing_go_on(&job, "words", 0.9 + 0.1 * (double)(c + 1) / (double)LETTERS));
    }
    GOTRY(summarise(&result, &job, words));
    *out = result;
done:
    for (size_t c = 0; c < LETTERS; c++)
        free(job.mains[c].heard);
    free(job.value);
    free(job.index);
    free(job.x);
    free(job.f);
    free(cosines);
    return status;
}

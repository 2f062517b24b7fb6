#include "evaluator/probing.h"

#include "evaluator/logreg.h"
#include "lib/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RNG_PROBING = 77 }; // our own purpose, beside those of lib/base/rng.h

void
probing_pool(float *out, const float *x, size_t tokens, size_t width, bool largest)
{
    assert(tokens > 0);
    for (size_t c = 0; c < width; c++) {
        double sum = (double)x[c];
        for (size_t t = 1; t < tokens; t++) {
            double value = (double)x[t * width + c];
            sum = largest ? (value > sum ? value : sum) : sum + value;
        }
        out[c] = (float)(largest ? sum : sum / (double)tokens);
    }
}

// ---------------------------------------------------------------- tasks

static void
shuffle(uint32_t *list, size_t n, struct pyrandom *random)
{
    if (n > 1)
        pyrandom_shuffle(random, list, (uint32_t)n);
}

enum status
probing_draw(struct probing_task *out, uint32_t *const *members, const size_t *counts,
             size_t classes, size_t which, double share, struct pyrandom *random)
{
    assert(classes >= 2 && share > 0 && share < 1);
    enum status status = STATUS_OK;
    size_t most = 0, others = 0, positives = counts[which];
    for (size_t c = 0; c < classes; c++) {
        most += counts[c];
        others += c != which;
    }
    size_t wanted = (size_t)llround((double)positives * (1 - share) / share);
    size_t each = (wanted + others - 1) / others, negatives = 0;
    struct probing_task task = {.rows = calloc(most + 1, sizeof *task.rows),
                                .positive = calloc(most + 1, sizeof *task.positive)};
    uint32_t *some = calloc(most + 1, sizeof *some), *rest = calloc(most + 1, sizeof *rest);
    uint32_t *order = calloc(most + 1, sizeof *order);
    if (!task.rows || !task.positive || !some || !rest || !order)
        GOTRY(FAIL(CREATE, "no memory for a task of %zu rows", most));
    for (size_t c = 0; c < classes; c++) {
        if (c == which)
            continue;
        memcpy(some, members[c], counts[c] * sizeof *some);
        shuffle(some, counts[c], random);
        size_t n = counts[c] < each ? counts[c] : each;
        memcpy(rest + negatives, some, n * sizeof *rest);
        negatives += n;
    }
    shuffle(rest, negatives, random);
    negatives = negatives < wanted ? negatives : wanted;
    // Too few others: fewer positives, so that the share stays what it should be.
    size_t fit = (size_t)llround((double)negatives * share / (1 - share));
    memcpy(some, members[which], positives * sizeof *some);
    if (fit < positives) {
        shuffle(some, positives, random);
        positives = fit;
    }
    if (positives == 0 || negatives == 0)
        GOTRY(FAIL(CONFIG, "a task of %zu rows against %zu", positives, negatives));
    for (size_t i = 0; i < positives + negatives; i++)
        order[i] = (uint32_t)i;
    shuffle(order, positives + negatives, random);
    for (size_t i = 0; i < positives + negatives; i++) {
        task.positive[i] = order[i] < positives;
        task.rows[i] = task.positive[i] ? some[order[i]] : rest[order[i] - positives];
    }
    task.count = positives + negatives;
done:
    free(some);
    free(rest);
    free(order);
    if (status != STATUS_OK)
        probing_task_free(&task);
    *out = task;
    return status;
}

void
probing_task_free(struct probing_task *task)
{
    free(task->rows);
    free(task->positive);
    *task = (struct probing_task){.count = 0};
}

// ---------------------------------------------------------------- the best columns

size_t
probing_top(uint32_t *out, size_t k, const float *pooled, size_t width,
            const struct probing_task *train, double *scratch)
{
    double positives = 0, negatives = 0;
    for (size_t i = 0; i < train->count; i++)
        *(train->positive[i] ? &positives : &negatives) += 1;
    memset(scratch, 0, width * sizeof *scratch);
#pragma omp parallel for schedule(static)
    for (size_t c0 = 0; c0 < width; c0 += 512) // each column's sum in the order of the rows
        for (size_t i = 0; i < train->count; i++) {
            const float *row = pooled + train->rows[i] * width;
            double weight = train->positive[i] ? 1 / positives : -1 / negatives;
            for (size_t c = c0; c < width && c < c0 + 512; c++)
                scratch[c] += weight * (double)row[c];
        }
    size_t n = 0;
    for (size_t c = 0; c < width; c++) {
        double size = scratch[c] = fabs(scratch[c]);
        if (n == k && !(size > scratch[out[n - 1]]))
            continue;
        size_t at = n < k ? n++ : k - 1;
        while (at > 0 && size > scratch[out[at - 1]]) {
            out[at] = out[at - 1];
            at--;
        }
        out[at] = (uint32_t)c;
    }
    return n;
}

enum status
probing_columns(double *accuracy, const float *pooled, size_t width,
                const struct probing_task *train, const struct probing_task *test,
                const uint32_t *columns, size_t count)
{
    double w[LOGREG_COLUMNS], b;
    float *a = malloc(train->count * count * sizeof *a);
    if (!a)
        return FAIL(CREATE, "no memory for %zu rows of %zu columns", train->count, count);
    for (size_t i = 0; i < train->count; i++)
        for (size_t j = 0; j < count; j++)
            a[i * count + j] = pooled[train->rows[i] * width + columns[j]];
    enum status status = logreg_fit(w, &b, a, train->positive, train->count, count, false);
    free(a);
    TRY(status);
    size_t right = 0;
    for (size_t i = 0; i < test->count; i++) {
        double z = b;
        for (size_t j = 0; j < count; j++)
            z += w[j] * (double)pooled[test->rows[i] * width + columns[j]];
        right += (z > 0) == test->positive[i];
    }
    *accuracy = (double)right / (double)test->count;
    return STATUS_OK;
}

// ---------------------------------------------------------------- all columns

struct linear {
    size_t width;
    float *w, *m, *v, *g; // weights and, behind them, the bias: [width + 1]
    float slope[250];
    uint64_t step;
};
enum { BATCH = 250, EPOCHS = 100, PATIENCE = 10 };

static float
score(const struct linear *p, const float *row)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < p->width; c++)
        sum += p->w[c] * row[c];
    return sum + p->w[p->width];
}

static void
train_batch(struct linear *p, const float *pooled, const struct probing_task *task,
            const uint32_t *order, size_t n)
{
    const double rate = 0.01, decay = 0.01, beta1 = 0.9, beta2 = 0.999;
    double fix1 = 1 - pow(beta1, (double)++p->step), fix2 = 1 - pow(beta2, (double)p->step);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        float z = score(p, pooled + task->rows[order[i]] * p->width);
        p->slope[i] = (1 / (1 + expf(-z)) - (task->positive[order[i]] ? 1.0f : 0.0f)) / (float)n;
    }
#pragma omp parallel for schedule(static)
    for (size_t c0 = 0; c0 <= p->width; c0 += 512) {
        size_t end = c0 + 512 < p->width + 1 ? c0 + 512 : p->width + 1;
        memset(p->g + c0, 0, (end - c0) * sizeof *p->g);
        for (size_t i = 0; i < n; i++) {
            const float *row = pooled + task->rows[order[i]] * p->width;
            size_t stop = end < p->width ? end : p->width;
            for (size_t c = c0; c < stop; c++)
                p->g[c] += p->slope[i] * row[c];
            if (end > p->width)
                p->g[p->width] += p->slope[i];
        }
        for (size_t c = c0; c < end; c++) {
            p->w[c] *= (float)(1 - rate * decay);
            p->m[c] = (float)(beta1 * (double)p->m[c] + (1 - beta1) * (double)p->g[c]);
            p->v[c] =
                (float)(beta2 * (double)p->v[c] + (1 - beta2) * (double)p->g[c] * (double)p->g[c]);
            p->w[c] -=
                (float)(rate * (double)p->m[c] / fix1 / (sqrt((double)p->v[c] / fix2) + 1e-8));
        }
    }
}

static double
right_share(const struct linear *p, const float *pooled, const struct probing_task *test)
{
    size_t right = 0;
#pragma omp parallel for schedule(static) reduction(+ : right)
    for (size_t i = 0; i < test->count; i++)
        right += (score(p, pooled + test->rows[i] * p->width) > 0) == test->positive[i];
    return (double)right / (double)test->count;
}

enum status
probing_all(double *accuracy, const float *pooled, size_t width, const struct probing_task *train,
            const struct probing_task *test, uint64_t seed)
{
    struct linear p = {.width = width};
    float *room = calloc(4 * (width + 1), sizeof *room);
    uint32_t *order = calloc(train->count, sizeof *order);
    if (!room || !order) {
        free(room);
        free(order);
        return FAIL(CREATE, "no memory for a probe of %zu columns", width);
    }
    p.w = room;
    p.m = p.w + width + 1;
    p.v = p.m + width + 1;
    p.g = p.v + width + 1;
    float bound = 1 / sqrtf((float)width);
    for (size_t c = 0; c <= width; c++) {
        uint32_t words[4];
        rng_words(words, seed, RNG_PROBING, 0, c / 4);
        p.w[c] = bound * (2 * rng_uniform(words[c % 4]) - 1);
    }
    double best = 0;
    unsigned idle = 0;
    for (uint32_t epoch = 0; epoch < EPOCHS && idle < PATIENCE; epoch++) {
        rng_shuffle(order, train->count, seed, epoch);
        for (size_t i = 0; i < train->count; i += BATCH)
            train_batch(&p, pooled, train, order + i,
                        train->count - i < BATCH ? train->count - i : BATCH);
        double now = right_share(&p, pooled, test);
        idle = now > best ? 0 : idle + 1;
        best = now > best ? now : best;
    }
    free(order);
    free(room);
    *accuracy = best;
    return STATUS_OK;
}

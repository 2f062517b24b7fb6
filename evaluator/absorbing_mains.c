// Which latents stand for a letter: an L1 probe over the words' latents ranks them, regressions on
// the best k of them say how many it takes.
#include "evaluator/absorbing_inside.h"
#include "evaluator/absorption.h"
#include "evaluator/logreg.h"
#include "lib/lm/grow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// The active latents of every word, row after row.
struct firing {
    uint64_t *start; // [words + 1]
    uint32_t *index;
    float *value;
    size_t index_room, value_room;
};

enum status
absorbing_encode(struct absorbing *job, const float *x, size_t rows)
{
    size_t d = job->letters->width, n = rows * job->latents;
    memcpy(job->x, x, rows * d * sizeof *x);
    saelens_encode(job->sae, (struct mat){job->f, rows, job->latents},
                   (struct mat){job->x, rows, d});
    bool sound = true;
#pragma omp parallel for schedule(static) reduction(&& : sound)
    for (size_t i = 0; i < n; i++)
        sound = sound && isfinite(job->f[i]);
    return sound ? STATUS_OK
                 : FAIL(DAMAGED, "the SAE's activations on the first-letter words are not finite");
}

static enum status
make_room(struct firing *firing, size_t count)
{
    void *index = firing->index, *value = firing->value;
    enum status status = grow_array(&index, &firing->index_room, count, sizeof *firing->index);
    firing->index = index;
    TRY(status);
    status = grow_array(&value, &firing->value_room, count, sizeof *firing->value);
    firing->value = value;
    TRY(status);
    return STATUS_OK;
}

static enum status
encode_all(struct firing *firing, struct absorbing *job)
{
    const struct letters *l = job->letters;
    size_t words = l->train + l->test, k = job->latents;
    uint64_t count = 0, most = job->plan->most_bytes / (sizeof(uint32_t) + sizeof(float));
    firing->start = calloc(words + 1, sizeof *firing->start);
    if (!firing->start)
        return FAIL(CREATE, "no memory for %zu words", words);
    for (size_t from = 0; from < words; from += job->slice) {
        size_t n = words - from < job->slice ? words - from : job->slice;
        uint64_t more = 0;
        TRY(absorbing_encode(job, l->x + from * l->width, n));
#pragma omp parallel for schedule(static) reduction(+ : more)
        for (size_t i = 0; i < n * k; i++)
            more += job->f[i] != 0;
        if (more > most - count)
            return FAIL(CONFIG,
                        "%.0f latents are active on a word: too many to probe %zu words within "
                        "%zu bytes",
                        (double)(count + more) / (double)(from + n), words, job->plan->most_bytes);
        TRY(make_room(firing, (size_t)(count + more)));
        for (size_t i = 0; i < n; i++) {
            const float *f = job->f + i * k;
            for (size_t j = 0; j < k; j++)
                if (f[j] != 0) {
                    firing->index[count] = (uint32_t)j;
                    firing->value[count++] = f[j];
                }
            firing->start[from + i + 1] = count;
        }
        TRY(absorbing_go_on(job, "latents of words", 0.2 * (double)(from + n) / (double)words));
    }
    return STATUS_OK;
}

static bool
stop(void *context, double share)
{
    return absorbing_go_on(context, "ranking latents", 0.2 + 0.5 * share) != STATUS_OK;
}

// The best `most` by signed weight, ties by index.
static size_t
rank(uint32_t *best, const float *weights, size_t latents, size_t most)
{
    size_t count = 0;
    for (size_t j = 0; j < latents; j++) {
        if (count == most && !(weights[j] > weights[best[count - 1]]))
            continue;
        size_t at = count < most ? count++ : most - 1;
        for (; at > 0 && weights[j] > weights[best[at - 1]]; at--)
            best[at] = best[at - 1];
        best[at] = (uint32_t)j;
    }
    return count;
}

// a [words x count]: the activations of a few latents.
static void
columns(float *a, const struct firing *firing, size_t words, const uint32_t *latents, size_t count,
        uint8_t *place)
{
    for (size_t i = 0; i < count; i++)
        place[latents[i]] = (uint8_t)(i + 1);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < words; r++) {
        memset(a + r * count, 0, count * sizeof *a);
        for (uint64_t e = firing->start[r]; e < firing->start[r + 1]; e++)
            if (place[firing->index[e]])
                a[r * count + place[firing->index[e]] - 1] = firing->value[e];
    }
    for (size_t i = 0; i < count; i++)
        place[latents[i]] = 0;
}

struct bench {
    float *a;       // [words x ABSORPTION_MAINS]
    bool *positive; // [train]
    bool *said;     // [test]
    uint8_t *place; // [latents]
};

// The k best latents: F1 on the test words of the regression fitted on the training words.
static enum status
best_of(double *f1, struct bench *bench, const struct firing *firing, const struct letters *l,
        size_t c, const uint32_t *best, size_t k)
{
    double w[ABSORPTION_MAINS], b;
    uint64_t hit = 0, wrong = 0;
    columns(bench->a, firing, l->train + l->test, best, k, bench->place);
    TRY(logreg_fit(w, &b, bench->a, bench->positive, l->train, k, true));
    for (size_t r = 0; r < l->test; r++) {
        const float *a = bench->a + (l->train + r) * k;
        double z = b;
        for (size_t i = 0; i < k; i++)
            z += w[i] * (double)a[i];
        bool is = l->label[l->train + r] == c;
        bench->said[r] = z > 0;
        hit += bench->said[r] && is;
        wrong += bench->said[r] != is;
    }
    *f1 = hit ? 2 * (double)hit / (2 * (double)hit + (double)wrong) : 0;
    return STATUS_OK;
}

static enum status
find_class(struct absorbing *job, struct bench *bench, const struct firing *firing,
           const float *weights, size_t c)
{
    const struct letters *l = job->letters;
    struct absorbing_mains *mains = &job->mains[c];
    size_t most =
        rank(mains->main, weights + c * job->latents, job->latents, job->plan->most_latents);
    for (size_t r = 0; r < l->train; r++)
        bench->positive[r] = l->label[r] == c;
    // Up to the first k that does not jump: what comes after it changes nothing.
    while (mains->tried < most && mains->count == mains->tried) {
        TRY(best_of(&mains->f1[mains->tried], bench, firing, l, c, mains->main, mains->tried + 1));
        mains->tried++;
        mains->count = absorption_split(mains->f1, mains->tried, job->plan->jump);
        if (mains->count == mains->tried)
            memcpy(mains->heard, bench->said, l->test * sizeof(bool));
    }
    return STATUS_OK;
}

enum status
absorbing_find_mains(struct absorbing *job)
{
    const struct letters *l = job->letters;
    size_t words = l->train + l->test, k = job->latents;
    enum status status;
    struct firing firing = {0};
    struct probe_recipe recipe = probe_recipe_sparse(l->plan.seed);
    recipe.classes = l->classes;
    float *weights = calloc(l->classes * k, sizeof *weights);
    float *bias = calloc(l->classes, sizeof *bias);
    struct bench bench = {calloc(words * ABSORPTION_MAINS, sizeof(float)),
                          calloc(l->train, sizeof(bool)), calloc(l->test, sizeof(bool)),
                          calloc(k, sizeof(uint8_t))};
    if (!weights || !bias || !bench.a || !bench.positive || !bench.said || !bench.place)
        GOTRY(FAIL(CREATE, "no memory for probes of %zu latents", k));
    GOTRY(encode_all(&firing, job));
    struct probe_data data = {.rows = l->train,
                              .inputs = k,
                              .start = firing.start,
                              .index = firing.index,
                              .value = firing.value,
                              .label = l->label};
    probe_start(weights, bias, &recipe, k);
    GOTRY(probe_train(weights, bias, &recipe, &data, stop, job));
    for (size_t c = 0; c < l->classes; c++) {
        GOTRY(find_class(job, &bench, &firing, weights, c));
        GOTRY(absorbing_go_on(job, "main latents", 0.7 + 0.2 * (double)(c + 1) / (double)LETTERS));
    }
done:
    free(bench.place);
    free(bench.said);
    free(bench.positive);
    free(bench.a);
    free(bias);
    free(weights);
    free(firing.value);
    free(firing.index);
    free(firing.start);
    return status;
}

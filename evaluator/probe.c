#include "evaluator/probe.h"

#include "lib/base/bytes.h"
#include "lib/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct probe_recipe
probe_recipe_truth(uint64_t seed)
{
    return (struct probe_recipe){
        .classes = 26,
        .batch = 64,
        .epochs = 50,
        .lr = 0.01,
        .lr_end = 1e-5,
        .weight_decay = 1e-4,
        .seed = seed,
        .shuffle = true,
    };
}

struct probe_recipe
probe_recipe_sparse(uint64_t seed)
{
    struct probe_recipe recipe = probe_recipe_truth(seed);
    recipe.batch = 4096;
    recipe.weight_decay = 1e-6;
    recipe.l1 = 0.01;
    return recipe;
}

void
probe_start(float *weights, float *bias, const struct probe_recipe *recipe, size_t inputs)
{
    double bound = 1 / sqrt((double)inputs);
    size_t all = recipe->classes * inputs;
    for (size_t i = 0; i < all + recipe->classes; i++) {
        uint32_t words[4];
        rng_words(words, recipe->seed, RNG_ENCODER, 0, i / 4);
        float value = (float)((2 * (double)rng_uniform(words[i % 4]) - 1) * bound);
        *(i < all ? weights + i : bias + (i - all)) = value;
    }
}

// Inside, weights are kept by input, [inputs x classes]: an entry of a row meets its weights in one
// place, whether the row is dense or sparse. The bias is one more input, always 1.
struct training {
    const struct probe_recipe *recipe;
    const struct probe_data *data;
    size_t classes, inputs;
    float *w, *m, *v; // [(inputs + 1) x classes]
    float *g;         // [batch x classes], dL/dz
    float *positive;  // [classes], weight of positives
    uint32_t *order;  // [rows]
    uint64_t steps;
};

static inline void
add_scaled(float *to, float scale, const float *from, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        to[i] += scale * from[i];
}

// The entries of a row whose index is at least `from`.
static size_t
lower(const uint32_t *index, size_t n, size_t from)
{
    size_t low = 0;
    while (low < n) {
        size_t middle = low + (n - low) / 2;
        if (index[middle] < from)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

static void
row_times(float *z, const struct probe_data *data, size_t row, const float *w, size_t classes)
{
    memcpy(z, w + data->inputs * classes, classes * sizeof *z);
    if (data->dense) {
        const float *x = data->dense + row * data->inputs;
        for (size_t j = 0; j < data->inputs; j++)
            add_scaled(z, x[j], w + j * classes, classes);
        return;
    }
    for (uint64_t e = data->start[row]; e < data->start[row + 1]; e++)
        add_scaled(z, data->value[e], w + data->index[e] * classes, classes);
}

// dL/dz of the rows of one batch.
static void
slopes(struct training *t, size_t from, size_t rows)
{
    double share = 1 / ((double)rows * (double)t->classes);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) {
        size_t row = t->order[from + r];
        float *g = t->g + r * t->classes;
        row_times(g, t->data, row, t->w, t->classes);
        for (size_t c = 0; c < t->classes; c++) {
            double chance = 1 / (1 + exp(-(double)g[c]));
            double slope =
                t->data->label[row] == c ? -(double)t->positive[c] * (1 - chance) : chance;
            g[c] = (float)(slope * share);
        }
    }
}

// The gradient of weights of inputs [low, high) from the batch, rows in order, then their step.
static void
step_block(struct training *t, float *gw, size_t low, size_t high, size_t from, size_t rows,
           double rate)
{
    size_t classes = t->classes, inputs = t->inputs, n = (high - low) * classes;
    memset(gw, 0, n * sizeof *gw);
    for (size_t r = 0; r < rows; r++) {
        size_t row = t->order[from + r];
        const float *g = t->g + r * classes;
        if (high > inputs) // the bias
            add_scaled(gw + (inputs - low) * classes, 1, g, classes);
        size_t upto = high < inputs ? high : inputs;
        if (t->data->dense) {
            const float *x = t->data->dense + row * inputs;
            for (size_t j = low; j < upto; j++)
                add_scaled(gw + (j - low) * classes, x[j], g, classes);
            continue;
        }
        uint64_t begin = t->data->start[row], end = t->data->start[row + 1];
        begin += lower(t->data->index + begin, (size_t)(end - begin), low);
        for (uint64_t e = begin; e < end && t->data->index[e] < upto; e++)
            add_scaled(gw + (t->data->index[e] - low) * classes, t->data->value[e], g, classes);
    }
    const double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
    double correct1 = 1 - pow(beta1, (double)t->steps), correct2 = 1 - pow(beta2, (double)t->steps);
    float decay = (float)t->recipe->weight_decay;
    float l1 = (float)(t->recipe->l1 / (double)classes);
    float pace = (float)(rate / correct1), root = (float)sqrt(correct2), tiny = (float)eps;
    float *w = t->w + low * classes, *m = t->m + low * classes, *v = t->v + low * classes;
    size_t weights = high > inputs ? (inputs - low) * classes : n; // L1 leaves biases alone
    for (size_t i = 0; i < n; i++) {
        float g = gw[i] + decay * w[i];
        if (i < weights)
            g += l1 * (float)((w[i] > 0) - (w[i] < 0));
        m[i] = (float)beta1 * m[i] + (float)(1 - beta1) * g;
        v[i] = (float)beta2 * v[i] + (float)(1 - beta2) * g * g;
        w[i] -= pace * m[i] / (sqrtf(v[i]) / root + tiny);
    }
}

enum { BLOCK = 64 }; // inputs whose gradient one thread sums

static enum status
epochs(struct training *t, float *blocks, bool (*stop)(void *, double), void *context)
{
    const struct probe_recipe *recipe = t->recipe;
    size_t rows = t->data->rows, count = (t->inputs + 1 + BLOCK - 1) / BLOCK;
    double rate = recipe->lr;
    double fall = pow(recipe->lr_end / recipe->lr, 1 / (double)recipe->epochs);
    for (size_t r = 0; r < rows; r++)
        t->order[r] = (uint32_t)r;
    for (size_t epoch = 0; epoch < recipe->epochs; epoch++) {
        if (recipe->shuffle)
            rng_shuffle(t->order, rows, recipe->seed, (uint32_t)epoch);
        for (size_t from = 0; from < rows; from += recipe->batch) {
            size_t n = rows - from < recipe->batch ? rows - from : recipe->batch;
            t->steps++;
            slopes(t, from, n);
#pragma omp parallel for schedule(static)
            for (size_t b = 0; b < count; b++) {
                size_t low = b * BLOCK;
                size_t high = low + BLOCK < t->inputs + 1 ? low + BLOCK : t->inputs + 1;
                step_block(t, blocks + low * t->classes, low, high, from, n, rate);
            }
        }
        rate *= fall;
        if (stop && stop(context, (double)(epoch + 1) / (double)recipe->epochs))
            return FAIL(AGAIN, "stopped while training a probe");
    }
    return STATUS_OK;
}

// [classes x inputs] + [classes] <-> [(inputs + 1) x classes]
static void
turn(float *by_input, float *weights, float *bias, size_t classes, size_t inputs, bool back)
{
    for (size_t c = 0; c < classes; c++)
        for (size_t j = 0; j <= inputs; j++) {
            float *inside = by_input + j * classes + c;
            float *outside = j < inputs ? weights + c * inputs + j : bias + c;
            if (back)
                *outside = *inside;
            else
                *inside = *outside;
        }
}

enum status
probe_train(float *weights, float *bias, const struct probe_recipe *recipe,
            const struct probe_data *data, bool (*stop)(void *context, double share), void *context)
{
    size_t classes = recipe->classes, inputs = data->inputs, size;
    assert(classes > 0 && classes < NO_CLASS && recipe->batch > 0 && recipe->epochs > 0);
    if (data->rows == 0 || data->rows > UINT32_MAX)
        return FAIL(CONFIG, "a probe needs rows to learn from, found %zu", data->rows);
    enum status status = STATUS_OK;
    struct training t = {.recipe = recipe, .data = data, .classes = classes, .inputs = inputs};
    float *blocks = NULL;
    if (!times(&size, inputs + 1, classes) || size > SIZE_MAX / sizeof(float) / 8)
        return FAIL(CREATE, "no memory for a probe of %zu inputs", inputs);
    size_t batch = recipe->batch < data->rows ? recipe->batch : data->rows;
    t.w = calloc(size, sizeof(float));
    t.m = calloc(size, sizeof(float));
    t.v = calloc(size, sizeof(float));
    blocks = calloc(size, sizeof(float));
    t.g = calloc(batch * classes, sizeof(float));
    t.positive = calloc(classes, sizeof(float));
    t.order = calloc(data->rows, sizeof(uint32_t));
    if (!t.w || !t.m || !t.v || !t.g || !t.positive || !t.order || !blocks) {
        status = FAIL(CREATE, "no memory for a probe of %zu inputs", inputs);
        goto done;
    }
    for (size_t c = 0; c < classes; c++) {
        size_t n = 0;
        for (size_t r = 0; r < data->rows; r++)
            n += data->label[r] == c;
        if (n == 0) {
            status = FAIL(CONFIG, "no row of class %zu to learn from", c);
            goto done;
        }
        t.positive[c] = (float)((double)(data->rows - n) / (double)n);
    }
    turn(t.w, weights, bias, classes, inputs, false);
    GOTRY(epochs(&t, blocks, stop, context));
    turn(t.w, weights, bias, classes, inputs, true);
done:
    free(t.order);
    free(t.positive);
    free(t.g);
    free(blocks);
    free(t.v);
    free(t.m);
    free(t.w);
    return status;
}

void
probe_apply(float *z, const float *weights, const float *bias, size_t classes,
            const struct probe_data *data)
{
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < data->rows; r++)
        for (size_t c = 0; c < classes; c++) {
            const float *w = weights + c * data->inputs;
            double sum = (double)bias[c];
            if (data->dense) {
                const float *x = data->dense + r * data->inputs;
                for (size_t j = 0; j < data->inputs; j++)
                    sum += (double)x[j] * (double)w[j];
            } else
                for (uint64_t e = data->start[r]; e < data->start[r + 1]; e++)
                    sum += (double)data->value[e] * (double)w[data->index[e]];
            z[r * classes + c] = (float)sum;
        }
}

double
probe_f1(const float *z, size_t classes, size_t which, const uint8_t *label, size_t rows)
{
    assert(which < classes);
    uint64_t hit = 0, wrong = 0; // TP; FP + FN
    for (size_t r = 0; r < rows; r++) {
        bool said = z[r * classes + which] > 0, is = label[r] == which;
        hit += said && is;
        wrong += said != is;
    }
    return hit ? 2 * (double)hit / (2 * (double)hit + (double)wrong) : 0;
}

#include "producer/mixer.h"

#include "lib/base/rng.h"
#include "lib/store/dtype.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct mixer {
    struct provenance from;
    struct provenance_sizes sizes;
    float *x;           // [G C x d]
    double *norms;      // [G C]
    double *sorted;     // [G C], scratch of the median
    uint32_t *order;    // [left] indices into x, in the order they are served
    uint32_t *permuted; // [max(G C, G)] scratch of the shuffle
    uint32_t *kept;     // [G C] indices the filters left, in (context, position) order
    size_t left;        // R
    struct mixer_counts counts;
};

static size_t
block_rows(const struct provenance *from, const struct provenance_sizes *sizes)
{
    return (size_t)(sizes->block_contexts * from->context);
}

size_t
mixer_bytes(const struct provenance *from, const struct provenance_sizes *sizes)
{
    size_t rows = block_rows(from, sizes);
    return rows * (size_t)from->width * sizeof(float) + rows * (2 * sizeof(double) + 3 * 4);
}

enum status
mixer_new(struct mixer **out, const struct provenance *from, const struct provenance_sizes *sizes)
{
    *out = NULL;
    size_t rows = block_rows(from, sizes), values;
    if (rows > UINT32_MAX || !times(&values, rows, (size_t)from->width) ||
        values > SIZE_MAX / sizeof(float))
        return FAIL(CONFIG, "stream.shuffle_block: a block of %zu rows is too large", rows);
    struct mixer *mixer = calloc(1, sizeof *mixer);
    if (mixer) {
        mixer->from = *from;
        mixer->sizes = *sizes;
        mixer->x = malloc(values * sizeof *mixer->x);
        mixer->norms = malloc(rows * sizeof *mixer->norms);
        mixer->sorted = malloc(rows * sizeof *mixer->sorted);
        mixer->order = malloc(rows * sizeof *mixer->order);
        mixer->permuted = malloc(rows * sizeof *mixer->permuted);
        mixer->kept = malloc(rows * sizeof *mixer->kept);
    }
    if (!mixer || !mixer->x || !mixer->norms || !mixer->sorted || !mixer->order ||
        !mixer->permuted || !mixer->kept) {
        mixer_free(&mixer);
        return FAIL(CREATE, "no memory for one shuffle block (%zu MiB)",
                    mixer_bytes(from, sizes) >> 20);
    }
    *out = mixer;
    return STATUS_OK;
}

void
mixer_free(struct mixer **mixer)
{
    if (*mixer) {
        free((*mixer)->x);
        free((*mixer)->norms);
        free((*mixer)->sorted);
        free((*mixer)->order);
        free((*mixer)->permuted);
        free((*mixer)->kept);
        free(*mixer);
    }
    *mixer = NULL;
}

float *
mixer_rows(struct mixer *mixer)
{
    return mixer->x;
}

const struct mixer_counts *
mixer_counts(const struct mixer *mixer)
{
    return &mixer->counts;
}

static bool
is_special(const struct provenance *from, uint32_t id)
{
    for (size_t i = 0; i < from->specials; i++)
        if (from->special[i] == id)
            return true;
    return false;
}

static int
ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// |x_i| of fp32 values, summed in fp64.
static double
norm_of(const float *x, size_t d)
{
    double sum = 0;
    for (size_t j = 0; j < d; j++)
        sum += (double)x[j] * (double)x[j];
    return sqrt(sum);
}

// Which rows are left, in (context, position) order, into kept[0 .. left).
static enum status
filter(struct mixer *mixer, const uint32_t *ids)
{
    const struct provenance *from = &mixer->from;
    size_t rows = block_rows(from, &mixer->sizes), d = (size_t)from->width, left = 0;
    struct mixer_counts *counts = &mixer->counts;
    *counts = (struct mixer_counts){.rows = rows};
    for (size_t i = 0; i < rows; i++) {
        if (from->drop_first && i % from->context == 0)
            counts->dropped_first++;
        else if (from->drop_special && is_special(from, ids[i]))
            counts->dropped_special++;
        else
            mixer->kept[left++] = (uint32_t)i;
    }
    if (left > 0 && from->drop_norm_above > 0) {
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < left; i++)
            mixer->norms[i] = norm_of(mixer->x + mixer->kept[i] * d, d);
        memcpy(mixer->sorted, mixer->norms, left * sizeof *mixer->sorted);
        qsort(mixer->sorted, left, sizeof *mixer->sorted, ascending);
        counts->median_norm = mixer->sorted[(left - 1) / 2];
        double most = from->drop_norm_above * counts->median_norm;
        size_t short_enough = 0;
        for (size_t i = 0; i < left; i++) {
            if (mixer->norms[i] > most)
                counts->dropped_norm++;
            else
                mixer->kept[short_enough++] = mixer->kept[i];
        }
        left = short_enough;
    }
    if (left == 0)
        return FAIL(DAMAGED, "text: the filters left no row of a block of %zu", rows);
    mixer->left = left;
    return STATUS_OK;
}

static void
order_rows(struct mixer *mixer, uint64_t block)
{
    rng_shuffle(mixer->permuted, mixer->left, mixer->from.seed, (uint32_t)block);
    for (size_t i = 0; i < mixer->left; i++)
        mixer->order[i] = mixer->kept[mixer->permuted[i]];
}

// Whole contexts change places; the rows of each stay together and in order.
static void
order_contexts(struct mixer *mixer, uint64_t block)
{
    size_t contexts = (size_t)mixer->sizes.block_contexts, length = (size_t)mixer->from.context;
    rng_shuffle(mixer->permuted, contexts, mixer->from.seed, (uint32_t)block);
    size_t used = 0;
    for (size_t c = 0; c < contexts; c++) {
        uint32_t first = mixer->permuted[c] * (uint32_t)length;
        // kept is ascending, so a context's rows are a run; its start by bisection.
        size_t low = 0, high = mixer->left;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (mixer->kept[middle] < first)
                low = middle + 1;
            else
                high = middle;
        }
        while (low < mixer->left && mixer->kept[low] < first + length)
            mixer->order[used++] = mixer->kept[low++];
    }
    assert(used == mixer->left);
}

enum status
mixer_order(struct mixer *mixer, const uint32_t *ids, uint64_t block)
{
    TRY(filter(mixer, ids));
    if (mixer->from.shuffle == PROVENANCE_SHUFFLE_ROWS)
        order_rows(mixer, block);
    else
        order_contexts(mixer, block);
    uint64_t needed = mixer->from.shuffle_block * mixer->from.rows;
    mixer->counts.unused = mixer->left > needed ? mixer->left - needed : 0;
    mixer->counts.repeated = mixer->left < needed ? needed - mixer->left : 0;
    return STATUS_OK;
}

enum status
mixer_batch(const struct mixer *mixer, void *payload, unsigned char *pairs, uint64_t r)
{
    const struct provenance *from = &mixer->from;
    assert(r < from->shuffle_block);
    size_t n = (size_t)from->rows, d = (size_t)from->width, first = (size_t)r * n;
    bool finite = true;
#pragma omp parallel for schedule(static) reduction(&& : finite)
    for (size_t i = 0; i < n; i++) {
        const float *row = mixer->x + mixer->order[(first + i) % mixer->left] * d;
        float sum = 0; // of x - x: 0, or NaN as soon as one value is infinite or NaN
        for (size_t j = 0; j < d; j++)
            sum += row[j] - row[j];
        finite = finite && sum == 0;
        if (from->payload == PROVENANCE_F32) {
            memcpy((float *)payload + i * d, row, d * sizeof *row);
        } else {
            uint16_t *to = (uint16_t *)payload + i * d;
            for (size_t j = 0; j < d; j++)
                to[j] = f32_to_bf16(row[j]);
        }
    }
    if (!finite)
        return FAIL(DAMAGED, "model: the residual stream of batch %llu of a block is not finite",
                    (unsigned long long)r);
    if (pairs) {
        memset(pairs, 0, (n + 7) / 8);
        for (size_t i = 1; i < n; i++) {
            uint32_t here = mixer->order[(first + i) % mixer->left];
            uint32_t before = mixer->order[(first + i - 1) % mixer->left];
            if (here == before + 1 && here % from->context != 0)
                pairs[i / 8] |= (unsigned char)(1u << i % 8);
        }
    }
    return STATUS_OK;
}

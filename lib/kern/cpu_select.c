// cpu_select: the n largest, per row (TopK) and per batch (BatchTopK). Exact, and the same with
// equal values: the lower index wins.
#include "lib/kern/cpu_inside.h"
#include "lib/kern/vec.h"

#include <assert.h>
#include <omp.h>
#include <string.h>

// A value > 0 and its place as one number: larger value first, then the lower index. Positive
// floats sort as their bits do.
static inline uint64_t
key_of(float value, size_t index)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint64_t)bits << 32 | (UINT32_MAX - (uint32_t)index);
}

static inline float
value_of(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline size_t
index_of(uint64_t key)
{
    return UINT32_MAX - (uint32_t)key;
}

static inline void
swap_keys(uint64_t *a, uint64_t *b)
{
    uint64_t held = *a;
    *a = *b;
    *b = held;
}

// Brings the n largest of `count` distinct keys to the front, the least of them to key[n - 1].
static void
select_largest(uint64_t *key, size_t count, size_t n)
{
    size_t low = 0, high = count - 1; // the least kept lies within
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (key[middle] > key[low])
            swap_keys(&key[middle], &key[low]);
        if (key[high] > key[low])
            swap_keys(&key[high], &key[low]);
        if (key[high] > key[middle])
            swap_keys(&key[high], &key[middle]);
        uint64_t pivot = key[middle];
        size_t i = low, j = high;
        for (;;) {
            while (key[i] > pivot)
                i++;
            while (key[j] < pivot)
                j--;
            if (i >= j)
                break;
            swap_keys(&key[i++], &key[j--]);
        }
        // low .. j are >= pivot, j + 1 .. high are <= pivot
        if (n - 1 <= j)
            high = j;
        else
            low = j + 1;
    }
}

// A row's n largest, through a pool that is cut back to n when full: after a few cuts the floor is
// so high that whole runs of 16 are passed over.
static size_t
pool_row(uint64_t *pool, size_t room, const float *z, size_t k, size_t n)
{
    size_t held = 0;
    float floor = 0;
    for (size_t i = 0; i < k;) {
        size_t end = i + VEC_SKIP < k ? i + VEC_SKIP : k;
        if (!vec_any_above(z + i, end - i, floor))
            i = end;
        for (; i < end; i++) {
            if (!(z[i] > floor))
                continue;
            pool[held++] = key_of(z[i], i);
            if (held == room) {
                select_largest(pool, held, n);
                held = n;
                floor = value_of(pool[n - 1]); // an equal one that comes later loses
            }
        }
    }
    if (held > n) {
        select_largest(pool, held, n);
        held = n;
    }
    return held;
}

void
cpu_topk(struct mat f, struct mat z, size_t n, struct scratch tmp)
{
    assert(mat_same_shape(f, z) && z.cols < UINT32_MAX);
    size_t k = z.cols, room = 2 * n + 16;
    n = n < k ? n : k;
    room = room < k + 1 ? room : k + 1;
    int workers = (int)cpu_workers(tmp, (k + 16) * sizeof(uint64_t));
#pragma omp parallel for schedule(static) num_threads(workers)
    for (size_t b = 0; b < z.rows; b++) {
        uint64_t *pool = (uint64_t *)tmp.at + (size_t)omp_get_thread_num() * (k + 16);
        size_t held = n ? pool_row(pool, room, mat_row(z, b), k, n) : 0;
        float *to = mat_row(f, b);
        memset(to, 0, k * sizeof *to);
        for (size_t p = 0; p < held; p++)
            to[index_of(pool[p])] = value_of(pool[p]);
    }
}

// BatchTopK finds the bits of the n-th largest value by three counts: of the upper 11 bits below
// the sign, of the next 10, of the last 10.
enum { BINS = 2048 };
struct digit {
    unsigned shift, bits;
};

// How many positive values with `prefix` above the digit have each value of the digit.
static void
count_digits(uint64_t total[BINS], struct mat z, uint32_t prefix, struct digit digit,
             struct scratch tmp)
{
    size_t count = mat_count(z), bins = (size_t)1 << digit.bits;
    int workers = (int)cpu_workers(tmp, BINS * sizeof(uint64_t));
    uint64_t *all = tmp.at;
    memset(all, 0, (size_t)workers * BINS * sizeof *all);
#pragma omp parallel for schedule(static) num_threads(workers)
    for (size_t part = 0; part < PARTS; part++) {
        uint64_t *bin = all + (size_t)omp_get_thread_num() * BINS;
        for (size_t i = part_from(part, PARTS, count); i < part_from(part + 1, PARTS, count); i++) {
            uint32_t bits;
            memcpy(&bits, z.at + i, sizeof bits);
            uint32_t above = digit.shift + digit.bits < 31 ? bits >> (digit.shift + digit.bits) : 0;
            if (z.at[i] > 0 && above == prefix)
                bin[bits >> digit.shift & (bins - 1)]++;
        }
    }
    memset(total, 0, BINS * sizeof *total);
    for (size_t worker = 0; worker < (size_t)workers; worker++)
        for (size_t bin = 0; bin < bins; bin++)
            total[bin] += all[worker * BINS + bin];
}

// f = z where z >= least, and of those equal to it only the first `ties` in row-major order.
static void
keep_above(struct mat f, struct mat z, float least, size_t equal, size_t ties)
{
    size_t count = mat_count(z);
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < PARTS; part++)
        for (size_t i = part_from(part, PARTS, count); i < part_from(part + 1, PARTS, count); i++)
            f.at[i] = z.at[i] >= least ? z.at[i] : 0;
    for (size_t i = count; i-- > 0 && equal > ties;)
        if (f.at[i] >= least && f.at[i] <= least) {
            f.at[i] = 0;
            equal--;
        }
}

float
cpu_batchtopk(struct mat f, struct mat z, size_t n, struct scratch tmp)
{
    assert(mat_same_shape(f, z));
    static const struct digit digits[] = {{20, 11}, {10, 10}, {0, 10}};
    uint64_t total[BINS];
    uint32_t prefix = 0;
    size_t left = n, equal = 0; // of the values under `prefix`, the `left` largest are kept
    for (size_t pass = 0; pass < 3; pass++) {
        count_digits(total, z, prefix, digits[pass], tmp);
        size_t bin = ((size_t)1 << digits[pass].bits) - 1, all = 0;
        for (size_t i = 0; pass == 0 && i <= bin; i++)
            all += total[i];
        if (pass == 0 && all < left)
            left = all; // fewer positive values than n
        if (left == 0) {
            memset(f.at, 0, mat_count(f) * sizeof(float));
            return 0;
        }
        for (; total[bin] < left; bin--)
            left -= total[bin];
        equal = total[bin];
        prefix = prefix << digits[pass].bits | (uint32_t)bin;
    }
    float least;
    memcpy(&least, &prefix, sizeof least);
    keep_above(f, z, least, equal, left);
    return least;
}

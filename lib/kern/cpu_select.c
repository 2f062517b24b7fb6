// cpu_select: the n largest, per row (TopK) and per batch (BatchTopK). Exact, and the same with
// equal values: the lower index wins.
#include "lib/kern/cpu_inside.h"
#include "lib/kern/vec.h"

#include <assert.h>
#include <math.h>
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

// A floor that the n largest of a row stand on or above: the n-th largest of the maxima of runs,
// each of which is an element. Few others reach it. 0 where there are too few runs or positives.
static float
floor_of(uint64_t *pool, const float *z, size_t k, size_t n)
{
    enum { RUN = 32 };
    size_t held = 0;
    if (k < 2 * RUN * n)
        return 0;
    for (size_t from = 0; from + RUN <= k; from += RUN) {
        float top = vec_max(z + from, RUN);
        if (top > 0)
            pool[held++] = key_of(top, from);
    }
    if (held < n)
        return 0;
    select_largest(pool, held, n);
    float floor = value_of(pool[n - 1]);
    return nextafterf(floor, 0); // "above it" must hold for the floor itself
}

// A row's n largest, through a pool that is cut back to n when full; each cut raises the floor, and
// runs with nothing above it are passed over.
static size_t
pool_row(uint64_t *pool, size_t room, const float *z, size_t k, size_t n)
{
    size_t held = 0;
    float floor = floor_of(pool, z, k, n);
    for (size_t from = 0; from < k; from += VEC_RUN_BITS)
        for (uint32_t on = vec_above(z + from, vec_run(from, k), floor); on; on &= on - 1) {
            size_t i = from + vec_first(on);
            if (!(z[i] > floor)) // it may have risen within the run
                continue;
            pool[held++] = key_of(z[i], i);
            if (held == room) {
                select_largest(pool, held, n);
                held = n;
                floor = value_of(pool[n - 1]); // an equal one that comes later loses
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
    size_t k = z.cols, room;
    n = n < k ? n : k;
    room = 2 * n + 64 < k + 1 ? 2 * n + 64 : k + 1;
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

// How many values above `floor` (>= 0) with `prefix` above the digit have each value of the digit.
// Looks at one row of every `stride`.
static void
count_digits(uint64_t total[BINS], struct mat z, float floor, uint32_t prefix, struct digit digit,
             size_t stride, struct scratch tmp)
{
    size_t rows = (z.rows + stride - 1) / stride, bins = (size_t)1 << digit.bits;
    int workers = (int)cpu_workers(tmp, BINS * sizeof(uint64_t));
    uint64_t *all = tmp.at;
    memset(all, 0, (size_t)workers * BINS * sizeof *all);
#pragma omp parallel for schedule(static) num_threads(workers)
    for (size_t row = 0; row < rows; row++) {
        uint64_t *bin = all + (size_t)omp_get_thread_num() * BINS;
        const float *values = mat_row(z, row * stride);
        unsigned top = digit.shift + digit.bits;
        for (size_t from = 0; from < z.cols; from += VEC_RUN_BITS)
            for (uint32_t on = vec_above(values + from, vec_run(from, z.cols), floor); on;
                 on &= on - 1) {
                uint32_t bits;
                memcpy(&bits, values + from + vec_first(on), sizeof bits);
                if (top == 31 || bits >> top == prefix)
                    bin[bits >> digit.shift & (bins - 1)]++;
            }
    }
    memset(total, 0, BINS * sizeof *total);
    for (size_t worker = 0; worker < (size_t)workers; worker++)
        for (size_t bin = 0; bin < bins; bin++)
            total[bin] += all[worker * BINS + bin];
}

static float
of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// A floor that leaves most of a batch below it, from one row in 32: where twice the share that is
// wanted lies above. A guess: whoever uses it must find n values above.
static float
guess_floor(uint64_t total[BINS], struct mat z, size_t n, struct digit digit, struct scratch tmp)
{
    enum { STRIDE = 32 };
    if (z.rows < 8 * STRIDE)
        return 0;
    count_digits(total, z, 0, 0, digit, STRIDE, tmp);
    size_t want = 2 * n / STRIDE + 1, above = 0, bin = BINS - 1;
    while (bin > 0 && above < want)
        above += total[bin--];
    return above < want ? 0 : nextafterf(of_bits((uint32_t)(bin + 1) << digit.shift), 0);
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
    uint64_t total[BINS], all = 0;
    float floor = guess_floor(total, z, n, digits[0], tmp);
    for (;;) {
        count_digits(total, z, floor, 0, digits[0], 1, tmp);
        all = 0;
        for (size_t bin = 0; bin < BINS; bin++)
            all += total[bin];
        if (all >= n || !(floor > 0))
            break;
        floor = 0; // the guess was too high
    }
    size_t left = all < n ? all : n, equal = 0; // of the values under `prefix`, `left` are kept
    if (left == 0) {
        memset(f.at, 0, mat_count(f) * sizeof(float));
        return 0;
    }
    uint32_t prefix = 0;
    for (size_t pass = 0; pass < 3; pass++) {
        if (pass > 0)
            count_digits(total, z, floor, prefix, digits[pass], 1, tmp);
        size_t bin = ((size_t)1 << digits[pass].bits) - 1;
        for (; total[bin] < left; bin--)
            left -= total[bin];
        equal = total[bin];
        prefix = prefix << digits[pass].bits | (uint32_t)bin;
        float edge = nextafterf(of_bits(prefix << digits[pass].shift), 0);
        floor = edge > floor ? edge : floor; // nothing below the bin matters any more
    }
    float least = of_bits(prefix);
    keep_above(f, z, least, equal, left);
    return least;
}

// cpu_inside: what the files of the cpu backend share.
#ifndef LIB_KERN_CPU_INSIDE_H
#define LIB_KERN_CPU_INSIDE_H

#include "lib/kern/kern.h"

#define K(result, name, arguments) result cpu_##name arguments;
KERN_LIST(K)
#undef K

// Sums run over this many parts of the rows, each in one piece, and the parts are added in order:
// the number of threads changes nothing.
enum { PARTS = 64 };

// Columns that one thread takes through all rows: a function of the shape alone.
enum { STRIPE_MOST = 256 };
static inline size_t
stripe_cols(size_t cols)
{
    return cols >= 8 * STRIPE_MOST ? STRIPE_MOST : 64;
}

// Does eq. (7) look at row b, and at which row of `before`? NULL: no.
static inline const float *
cpu_row_before(struct mat before, const unsigned char *follows, size_t b)
{
    if (!follows)
        return mat_row(before, b);
    return b > 0 && (follows[b / 8] >> (b % 8) & 1) ? mat_row(before, b - 1) : NULL;
}

// Threads to use, when each needs `bytes` of scratch: at least one must fit.
size_t cpu_workers(struct scratch tmp, size_t bytes);

// out [cols] = sums over the rows; fp32 runs of 32 rows, added in fp64.
void cpu_column_sums(float *out, struct mat g);

size_t cpu_scratch_bytes(size_t B, size_t d, size_t k);

// Density of f below which gathering rows beats a product, measured by bench/step.
#define CPU_LISTS_BELOW 0.10

#endif

// mat: a dense row-major matrix of fp32 somewhere in memory. A view: it owns nothing, and it is
// passed by value. Whoever receives one may write to it only where the header says "out".
#ifndef LIB_KERN_MAT_H
#define LIB_KERN_MAT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

struct mat {
    float *at;
    size_t rows, cols;
};

static inline float *
mat_row(struct mat m, size_t row)
{
    assert(row < m.rows);
    return m.at + row * m.cols;
}

static inline size_t
mat_count(struct mat m)
{
    return m.rows * m.cols;
}

static inline bool
mat_same_shape(struct mat a, struct mat b)
{
    return a.rows == b.rows && a.cols == b.cols;
}

static inline void
mat_swap(struct mat *a, struct mat *b)
{
    struct mat held = *a;
    *a = *b;
    *b = held;
}

#endif

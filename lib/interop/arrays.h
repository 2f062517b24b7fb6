// arrays: the named arrays of a file, whoever wrote it: safetensors, numpy's .npz, torch's .pt. A
// torch file is read by a small pickle machine that knows tensors, dicts and plain values and
// nothing else; what would call any other function is an error that names it, never a call.
#ifndef LIB_INTEROP_ARRAYS_H
#define LIB_INTEROP_ARRAYS_H

#include "lib/base/status.h"
#include "lib/store/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ARRAY_NAME = 128, ARRAY_RANK = 8, ARRAYS_MOST = 4096 };

// Plain values of a torch file (True, 32, "TopK") are arrays too, of rank 0: bools and ints I64,
// reals F64. `text` is a value that is words.
struct array {
    char name[ARRAY_NAME]; // of nested dicts: "outer.inner"
    enum dtype dtype;
    size_t rank, shape[ARRAY_RANK], stride[ARRAY_RANK]; // strides in elements
    size_t count;                                       // product of shape
    const unsigned char *at;                            // unaligned; NULL where it is text
    const char *text;
    union {
        int64_t whole;
        double real;
    } plain; // where a plain value lies
};

struct arrays {
    struct array *at;
    size_t count, room;
    char *path;
    void *file; // what the arrays lie in
    void (*close)(void *file);
};

// By the name's ending: .safetensors, .npz, .pt. Every array lies whole inside the file; none
// overlaps itself.
CHECKED enum status arrays_open(struct arrays *out, const char *path);
void arrays_close(struct arrays *arrays); // a zeroed one is fine

const struct array *arrays_find(const struct arrays *arrays, const char *name); // or NULL
// One that must be there. Shape as wanted; 0 stands for any size, which is then told.
CHECKED enum status arrays_need(const struct array **out, const struct arrays *arrays,
                                const char *name, size_t rank, size_t *shape);
// Values in row-major order as fp32; of a matrix also transposed. Integers are refused, and so are
// values that are not finite, with their place.
CHECKED enum status arrays_f32(float *out, const struct arrays *arrays, const struct array *array,
                               bool transposed);
// A scalar (one element, whatever the rank) as a double; false if it is none.
bool array_scalar(double *out, const struct array *array);

// For the readers: appends one. `at` must hold `bytes` bytes; what does not fit is DAMAGED.
CHECKED enum status arrays_add(struct arrays *arrays, const struct array *array, size_t bytes);
CHECKED enum status arrays_read_npz(struct arrays *out, const char *path);
CHECKED enum status arrays_read_torch(struct arrays *out, const char *path);

#endif

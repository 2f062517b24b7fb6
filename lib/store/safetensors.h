// safetensors: the container of models and checkpoints. u64 N | N bytes of JSON | data. What is
// accepted and refused is the measured table of docs/formats.md: every offset, product and length
// is checked against the real file before use, duplicates and holes are refused.
#ifndef LIB_STORE_SAFETENSORS_H
#define LIB_STORE_SAFETENSORS_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"
#include "lib/store/dtype.h"

struct tensor {
    const char *name;
    enum dtype dtype;
    size_t rank, shape[8];   // row-major, slowest first; rank 0 is a scalar
    size_t count;            // product of shape
    const unsigned char *at; // count * dtype size bytes, may be unaligned for its type
    size_t bytes;
};

struct safetensors;

// Maps the file read-only and checks its whole header. `path` is copied for messages.
CHECKED enum status safetensors_open(struct safetensors **out, const char *path);
void safetensors_close(struct safetensors **file);
const char *safetensors_path(const struct safetensors *file);
// Tensors in the order of their data.
size_t safetensors_count(const struct safetensors *file);
const struct tensor *safetensors_at(const struct safetensors *file, size_t i);
const struct tensor *safetensors_find(const struct safetensors *file, const char *name); // or NULL
// The text under __metadata__, or NULL.
const char *safetensors_metadata(const struct safetensors *file, const char *key);

// A tensor that must be there with this shape; DAMAGED with file, name, found, expected.
CHECKED enum status safetensors_need(const struct tensor **out, const struct safetensors *file,
                                     const char *name, size_t rank, const size_t *shape);
// count values as fp32 from F32, F16, BF16 or F64; other types are refused by name.
CHECKED enum status tensor_to_f32(float *out, const struct tensor *tensor, const char *path);
// One scalar (rank 0) of type F64, or I64.
CHECKED enum status tensor_scalar_f64(double *out, const struct safetensors *file,
                                      const char *name);
CHECKED enum status tensor_scalar_i64(int64_t *out, const struct safetensors *file,
                                      const char *name);

// Writing: the caller lists what to write; data is borrowed until safetensors_write returns.
// Tensors go out by type (I64 F64 F32 I32 BF16 F16 I16 I8 U8 BOOL), then name; the header is padded
// with spaces so that the data begins at a multiple of 8: the very bytes of the reference writer.
// `hash` (XXH3_64 of all bytes written) and `bytes` may be NULL. Names are unique (asserted).
struct tensor_out {
    const char *name;
    enum dtype dtype;
    size_t rank, shape[4];
    const void *at;
};
struct text_pair {
    const char *key, *value;
};
CHECKED enum status safetensors_write(int fd, const char *path, const struct tensor_out *tensors,
                                      size_t count, const struct text_pair *metadata,
                                      size_t metadata_count, uint64_t *hash, uint64_t *bytes);
// The same as a file: a temporary in the same folder, fsync, rename. A crash leaves the old one.
CHECKED enum status safetensors_replace(const char *path, const struct tensor_out *tensors,
                                        size_t count, const struct text_pair *metadata,
                                        size_t metadata_count);
// Bytes the file will have; 0 when it cannot be written (a name that is no UTF-8, no memory).
size_t safetensors_size(const struct tensor_out *tensors, size_t count,
                        const struct text_pair *metadata, size_t metadata_count);

#endif

// gguf: reader of GGUF version 2 and 3 files (models with their tokenizer in one file). Mapped
// read-only; the whole header is checked at opening, so later calls cannot run outside the file.
// Layout and rules: docs/formats.md. The values themselves (sizes, token texts) are the file's
// word: whoever uses them checks their ranges.
#ifndef LIB_STORE_GGUF_H
#define LIB_STORE_GGUF_H

#include "lib/base/status.h"
#include "lib/store/dtype.h"

#include <stdbool.h>

struct gguf;

struct gguf_text { // not NUL-terminated: points into the file
    const char *at;
    size_t bytes;
};

struct gguf_tensor {
    char name[64]; // UTF-8
    enum dtype dtype;
    size_t rank, shape[4]; // slowest first (Hugging Face order), the reverse of the file's
    size_t count;
    const unsigned char *at;
    size_t bytes;
};

CHECKED enum status gguf_open(struct gguf **out, const char *path);
void gguf_close(struct gguf **file);
const char *gguf_path(const struct gguf *file);

size_t gguf_tensor_count(const struct gguf *file);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *file, size_t i);
const struct gguf_tensor *gguf_find(const struct gguf *file, const char *name); // or NULL

// Values by key. `found` false (and *out untouched) when the key is absent; a key of another type
// is DAMAGED. Integers of any width are accepted where an integer is asked for (negative: DAMAGED),
// f32 or f64 for f64 (NaN and infinity: DAMAGED). A single text is valid UTF-8.
CHECKED enum status gguf_u64(bool *found, uint64_t *out, const struct gguf *file, const char *key);
CHECKED enum status gguf_f64(bool *found, double *out, const struct gguf *file, const char *key);
CHECKED enum status gguf_bool(bool *found, bool *out, const struct gguf *file, const char *key);
CHECKED enum status gguf_string(bool *found, struct gguf_text *out, const struct gguf *file,
                                const char *key);
// Arrays: `count` elements (0 and found false when absent), built at the first call and owned by
// the file; that first call must not race with another. The texts of an array may be any bytes: a
// token of a byte-level vocabulary need not be UTF-8. Numbers and bools of every type come as
// doubles, so 64-bit integers beyond 2^53 are rounded.
CHECKED enum status gguf_strings(bool *found, const struct gguf_text **out, size_t *count,
                                 const struct gguf *file, const char *key);
CHECKED enum status gguf_numbers(bool *found, const double **out, size_t *count,
                                 const struct gguf *file, const char *key);

#endif

// What lib/store/gguf.c (a file opened, its header checked) and lib/store/gguf_values.c (the values
// of its keys) share; nobody else includes it.
#ifndef LIB_STORE_GGUF_INSIDE_H
#define LIB_STORE_GGUF_INSIDE_H

#include "lib/base/file.h"
#include "lib/store/gguf.h"

// name, id, bytes of one (0: no fixed size)
#define VALUE_LIST(V)                                                                              \
    V(U8, 0, 1)                                                                                    \
    V(I8, 1, 1)                                                                                    \
    V(U16, 2, 2)                                                                                   \
    V(I16, 3, 2)                                                                                   \
    V(U32, 4, 4)                                                                                   \
    V(I32, 5, 4)                                                                                   \
    V(F32, 6, 4)                                                                                   \
    V(BOOL, 7, 1)                                                                                  \
    V(STRING, 8, 0)                                                                                \
    V(ARRAY, 9, 0)                                                                                 \
    V(U64, 10, 8)                                                                                  \
    V(I64, 11, 8)                                                                                  \
    V(F64, 12, 8)

enum value_type {
#define V(name, id, bytes) VALUE_##name = (id),
    VALUE_LIST(V)
#undef V
        VALUE_COUNT
};
struct value_kind {
    const char *name;
    size_t bytes;
};
extern const struct value_kind gguf_value_kinds[VALUE_COUNT];

struct pair {
    struct gguf_text key;
    enum value_type type; // of the value, or of an array's elements
    bool is_array;
    size_t count;            // 1, or the elements of the array
    const unsigned char *at; // the value, or the first element
    struct gguf_text *texts; // built when asked for
    double *numbers;
};

struct gguf {
    struct file_map map;
    char *path;
    size_t pair_count, tensor_count;
    struct pair *pairs; // by key
    struct gguf_tensor *tensors;
    const struct gguf_tensor **by_name;
};

// The key's, or NULL.
const struct pair *gguf_find_pair(const struct gguf *file, const char *key);

#endif

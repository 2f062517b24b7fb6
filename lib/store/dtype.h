// dtype: the element types of files: safetensors' and GGUF's, and their decoding to fp32.
#ifndef LIB_STORE_DTYPE_H
#define LIB_STORE_DTYPE_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// name, bytes of a block, elements of a block, GGUF type id (-1: not in GGUF)
#define DTYPE_LIST(D)                                                                              \
    D(F64, 8, 1, 28)                                                                               \
    D(F32, 4, 1, 0)                                                                                \
    D(F16, 2, 1, 1)                                                                                \
    D(BF16, 2, 1, 30)                                                                              \
    D(I64, 8, 1, 27)                                                                               \
    D(I32, 4, 1, 26)                                                                               \
    D(I16, 2, 1, 25)                                                                               \
    D(I8, 1, 1, 24)                                                                                \
    D(U8, 1, 1, -1)                                                                                \
    D(BOOL, 1, 1, -1)                                                                              \
    D(Q4_0, 18, 32, 2)                                                                             \
    D(Q4_1, 20, 32, 3)                                                                             \
    D(Q5_0, 22, 32, 6)                                                                             \
    D(Q5_1, 24, 32, 7)                                                                             \
    D(Q8_0, 34, 32, 8)                                                                             \
    D(Q4_K, 144, 256, 12)                                                                          \
    D(Q5_K, 176, 256, 13)                                                                          \
    D(Q6_K, 210, 256, 14)

enum dtype {
#define D(name, bytes, elements, gguf) DTYPE_##name,
    DTYPE_LIST(D)
#undef D
        DTYPE_COUNT
};

const char *dtype_name(enum dtype dtype);
size_t dtype_block_bytes(enum dtype dtype);
size_t dtype_block_elements(enum dtype dtype);

// Decodes `count` elements (a multiple of the block) at `from`, which may be unaligned, to fp32.
// Blocks are decoded in fp32 in the order of the formula, so the goldens match bit for bit.
// F64 is rounded; integer types are refused (INTERNAL: callers check first).
bool dtype_decodes(enum dtype dtype);
CHECKED enum status dtype_decode(float *out, enum dtype dtype, const void *from, size_t count);

float f16_to_f32(uint16_t half);
static inline float
bf16_to_f32(uint16_t upper)
{
    union {
        uint32_t bits;
        float value;
    } u = {.bits = (uint32_t)upper << 16};
    return u.value;
}
// Round to nearest even; NaN stays NaN.
uint16_t f32_to_bf16(float value);

#endif

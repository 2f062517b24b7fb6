#include "lib/store/dtype.h"

#include "lib/base/bytes.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes, elements;
} kinds[DTYPE_COUNT] = {
#define D(name, bytes, elements, gguf) [DTYPE_##name] = {#name, bytes, elements},
    DTYPE_LIST(D)
#undef D
};

const char *
dtype_name(enum dtype dtype)
{
    return (unsigned)dtype < DTYPE_COUNT ? kinds[dtype].name : "?";
}

size_t
dtype_block_bytes(enum dtype dtype)
{
    assert((unsigned)dtype < DTYPE_COUNT);
    return kinds[dtype].bytes;
}

size_t
dtype_block_elements(enum dtype dtype)
{
    assert((unsigned)dtype < DTYPE_COUNT);
    return kinds[dtype].elements;
}

static inline float
f32_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t
bits_of_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// No arithmetic on fp32 subnormals here: the result is the same in a thread that flushes them.
static inline float
half_value(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
    float small = (float)rest * 0x1p-24f; // a subnormal half is a multiple of 2^-24
    uint32_t bits = rest >= 0x7c00u  ? rest << 13 | 0x7f800000u // infinity, NaN
                    : rest >= 0x400u ? (rest << 13) + (112u << 23)
                                     : bits_of_f32(small);
    return f32_of_bits(sign | bits);
}

float
f16_to_f32(uint16_t half)
{
    return half_value(half);
}

uint16_t
f32_to_bf16(float value)
{
    uint32_t bits = bits_of_f32(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u); // a NaN whose payload lies in the cut half stays one
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

// The block formats. Each function decodes one block; the layouts stand in docs/formats.md.
// Products and sums are rounded one by one, in the order written: -std=c11 lets gcc contract
// nothing.

static inline float
half_at(const unsigned char *at)
{
    return half_value(load_u16(at));
}

static void
decode_q4_0(float *restrict out, const unsigned char *restrict at)
{
    float d = half_at(at);
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)((at[2 + j] & 15) - 8);
        out[j + 16] = d * (float)((at[2 + j] >> 4) - 8);
    }
}

static void
decode_q4_1(float *restrict out, const unsigned char *restrict at)
{
    float d = half_at(at), m = half_at(at + 2);
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)(at[4 + j] & 15) + m;
        out[j + 16] = d * (float)(at[4 + j] >> 4) + m;
    }
}

static void
decode_q5_0(float *restrict out, const unsigned char *restrict at)
{
    float d = half_at(at);
    uint32_t high = load_u32(at + 2);
    for (unsigned j = 0; j < 16; j++) {
        uint32_t low = at[6 + j] & 15u, up = at[6 + j] >> 4;
        out[j] = d * (float)((int)(low | (high >> j & 1) << 4) - 16);
        out[j + 16] = d * (float)((int)(up | (high >> (j + 16) & 1) << 4) - 16);
    }
}

static void
decode_q5_1(float *restrict out, const unsigned char *restrict at)
{
    float d = half_at(at), m = half_at(at + 2);
    uint32_t high = load_u32(at + 4);
    for (unsigned j = 0; j < 16; j++) {
        uint32_t low = at[8 + j] & 15u, up = at[8 + j] >> 4;
        out[j] = d * (float)(int)(low | (high >> j & 1) << 4) + m;
        out[j + 16] = d * (float)(int)(up | (high >> (j + 16) & 1) << 4) + m;
    }
}

static void
decode_q8_0(float *restrict out, const unsigned char *restrict at)
{
    float d = half_at(at);
    for (int j = 0; j < 32; j++)
        out[j] = d * (float)(int8_t)at[2 + j];
}

// The 6-bit scale and minimum of group g of a Q4_K or Q5_K block, packed into 12 bytes.
static void
scale_and_minimum(unsigned *scale, unsigned *minimum, const unsigned char *s, int g)
{
    if (g < 4) {
        *scale = s[g] & 63u;
        *minimum = s[g + 4] & 63u;
    } else {
        *scale = (s[g + 4] & 15u) | (unsigned)(s[g - 4] >> 6) << 4;
        *minimum = (unsigned)(s[g + 4] >> 4) | (unsigned)(s[g] >> 6) << 4;
    }
}

static void
decode_q4_k(float *restrict out, const unsigned char *restrict at)
{
    float d = half_at(at), dmin = half_at(at + 2);
    for (int g = 0; g < 8; g++) {
        unsigned sc, mn;
        scale_and_minimum(&sc, &mn, at + 4, g);
        float scale = d * (float)sc, minimum = dmin * (float)mn;
        const unsigned char *qs = at + 16 + 32 * (g / 2);
        int shift = g % 2 * 4;
        for (int l = 0; l < 32; l++)
            out[32 * g + l] = scale * (float)(qs[l] >> shift & 15) - minimum;
    }
}

static void
decode_q5_k(float *restrict out, const unsigned char *restrict at)
{
    float d = half_at(at), dmin = half_at(at + 2);
    const unsigned char *qh = at + 16;
    for (int g = 0; g < 8; g++) {
        unsigned sc, mn;
        scale_and_minimum(&sc, &mn, at + 4, g);
        float scale = d * (float)sc, minimum = dmin * (float)mn;
        const unsigned char *qs = at + 48 + 32 * (g / 2);
        int shift = g % 2 * 4;
        for (int l = 0; l < 32; l++)
            out[32 * g + l] =
                scale * (float)((qs[l] >> shift & 15) | (qh[l] >> g & 1) << 4) - minimum;
    }
}

static void
decode_q6_k(float *restrict out, const unsigned char *restrict at)
{
    float d = half_at(at + 208);
    for (int h = 0; h < 2; h++)
        for (int k = 0; k < 4; k++) {
            const unsigned char *ql = at + 64 * h + 32 * (k % 2), *qh = at + 128 + 32 * h;
            const unsigned char *sc = at + 192 + 8 * h + 2 * k;
            float *to = out + 128 * h + 32 * k;
            float low = d * (float)(int8_t)sc[0], up = d * (float)(int8_t)sc[1];
            int shift = k < 2 ? 0 : 4;
            for (int l = 0; l < 32; l++) {
                int q = (ql[l] >> shift & 15) | (qh[l] >> 2 * k & 3) << 4;
                to[l] = (l < 16 ? low : up) * (float)(q - 32);
            }
        }
}

// A run of whole blocks, by one thread.
static void
decode_run(float *restrict out, enum dtype dtype, const unsigned char *restrict at, size_t blocks)
{
#define BLOCKS(decode, bytes, elements)                                                            \
    for (size_t b = 0; b < blocks; b++)                                                            \
        decode(out + b * (elements), at + b * (bytes));                                            \
    break
    switch (dtype) {
    case DTYPE_F32:
        memcpy(out, at, blocks * 4);
        break;
    case DTYPE_F16:
        for (size_t i = 0; i < blocks; i++)
            out[i] = half_at(at + 2 * i);
        break;
    case DTYPE_BF16:
        for (size_t i = 0; i < blocks; i++)
            out[i] = bf16_to_f32(load_u16(at + 2 * i));
        break;
    case DTYPE_F64:
        for (size_t i = 0; i < blocks; i++) {
            double value;
            memcpy(&value, at + 8 * i, sizeof value);
            out[i] = (float)value;
        }
        break;
    case DTYPE_Q4_0:
        BLOCKS(decode_q4_0, 18, 32);
    case DTYPE_Q4_1:
        BLOCKS(decode_q4_1, 20, 32);
    case DTYPE_Q5_0:
        BLOCKS(decode_q5_0, 22, 32);
    case DTYPE_Q5_1:
        BLOCKS(decode_q5_1, 24, 32);
    case DTYPE_Q8_0:
        BLOCKS(decode_q8_0, 34, 32);
    case DTYPE_Q4_K:
        BLOCKS(decode_q4_k, 144, 256);
    case DTYPE_Q5_K:
        BLOCKS(decode_q5_k, 176, 256);
    case DTYPE_Q6_K:
        BLOCKS(decode_q6_k, 210, 256);
    default:
        assert(!"a type that does not decode");
    }
#undef BLOCKS
}

bool
dtype_decodes(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_I64:
    case DTYPE_I32:
    case DTYPE_I16:
    case DTYPE_I8:
    case DTYPE_U8:
    case DTYPE_BOOL:
    case DTYPE_COUNT:
        return false;
    default:
        return true;
    }
}

enum status
dtype_decode(float *out, enum dtype dtype, const void *from, size_t count)
{
    if (!dtype_decodes(dtype))
        return FAIL(INTERNAL, "type %s does not decode to fp32", dtype_name(dtype));
    size_t bytes = kinds[dtype].bytes, elements = kinds[dtype].elements;
    assert(count % elements == 0);
    size_t blocks = count / elements;
    // Pieces of 256 KiB of output, so big tensors balance. One thread does a piece in about 30 us:
    // below 32 of them (a millisecond) waking the others costs more than it saves on a busy
    // machine.
    size_t piece = 65536 / elements, pieces = (blocks + piece - 1) / piece;
#pragma omp parallel for schedule(dynamic) if (pieces >= 32)
    for (size_t p = 0; p < pieces; p++) {
        size_t first = p * piece, here = blocks - first < piece ? blocks - first : piece;
        decode_run(out + first * elements, dtype, (const unsigned char *)from + first * bytes,
                   here);
    }
    return STATUS_OK;
}

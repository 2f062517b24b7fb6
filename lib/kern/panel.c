#include "lib/kern/panel.h"

#include "lib/base/bytes.h"
#include "lib/kern/simd.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// The tile of C held in registers: ROWS x 3 vectors, so that 12 (of 16) or 24 (of 32) accumulators
// hide the latency of two FMA units. 4 and 8 divide the rows of whole contexts; 24 and 48 divide
// the widths of most language models.
#if defined __AVX512F__
#define ROWS 8
#else
#define ROWS 4
#endif

enum {
    VECS = 3,
    WIDTH = VECS * SIMD_LANES, // columns of a panel
    DEPTH = 256,               // a chunk of a panel, 24 KB with AVX2, stays in the first cache
    BLOCK = 128, // rows of A packed at a time: with a chunk of k 128 KB, in the second cache
};

struct panel {
    size_t n, k;   // of the weight
    size_t depth;  // of a chunk along k; the last may be shorter
    size_t panels; // ceil(n / WIDTH)
    bool bf16;
    void *data; // chunk after chunk; in it panel after panel; in it [depth x WIDTH], zero beyond n
};

static size_t
round_up(size_t value, size_t unit)
{
    return (value + unit - 1) / unit * unit;
}

// Even chunks: 576 becomes 3 x 192, not 256 + 256 + 64.
static size_t
chunk_depth(size_t k)
{
    size_t chunks = (k + DEPTH - 1) / DEPTH;
    return round_up((k + chunks - 1) / chunks, 8);
}

size_t
panel_bytes_for(size_t n, size_t k, bool bf16)
{
    size_t elements;
    if (n > SIZE_MAX - WIDTH || !times(&elements, round_up(n, WIDTH), k) || elements > SIZE_MAX / 8)
        return SIZE_MAX / 2;
    return sizeof(struct panel) + elements * (bf16 ? sizeof(uint16_t) : sizeof(float));
}

static uint16_t
round_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40); // a NaN must not round to infinity
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float
widen_bf16(uint16_t upper)
{
    uint32_t bits = (uint32_t)upper << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum status
panel_new(struct panel **out, const float *weight, size_t n, size_t k, bool bf16)
{
    assert(n > 0 && k > 0);
    *out = NULL;
    size_t bytes = panel_bytes_for(n, k, bf16);
    struct panel *p = calloc(1, sizeof *p);
    void *data = p ? aligned_alloc(64, round_up(bytes - sizeof *p, 64)) : NULL;
    if (!data) {
        free(p);
        return FAIL(CREATE, "out of memory for a weight of %zu x %zu (%zu bytes)", n, k, bytes);
    }
    *p = (struct panel){.n = n,
                        .k = k,
                        .depth = chunk_depth(k),
                        .panels = (n + WIDTH - 1) / WIDTH,
                        .bf16 = bf16,
                        .data = data};
    float *as_f32 = data;
    uint16_t *as_bf16 = data;
    size_t at = 0;
    for (size_t from = 0; from < k; from += p->depth) {
        size_t depth = k - from < p->depth ? k - from : p->depth;
        for (size_t panel = 0; panel < p->panels; panel++)
            for (size_t i = 0; i < depth; i++)
                for (size_t j = 0; j < WIDTH; j++, at++) {
                    size_t column = panel * WIDTH + j;
                    float value = column < n ? weight[column * k + from + i] : 0;
                    if (bf16)
                        as_bf16[at] = round_bf16(value);
                    else
                        as_f32[at] = value;
                }
    }
    *out = p;
    return STATUS_OK;
}

void
panel_free(struct panel **panel)
{
    if (!*panel)
        return;
    free((*panel)->data);
    free(*panel);
    *panel = NULL;
}

size_t
panel_bytes(const struct panel *panel)
{
    return panel_bytes_for(panel->n, panel->k, panel->bf16);
}

size_t
panel_width(void)
{
    return WIDTH;
}

// Rows x depth of A become strips of ROWS, k-major, zero beyond the last row. The rows of a strip
// go side by side in the inner loop, which compilers turn into shuffles; a row at a time, packing
// took 7 % of a product with n = 576.
static void
pack(float *restrict to, const float *a, size_t lda, size_t rows, size_t depth, bool bf16)
{
    static const float zeros[DEPTH];
    for (size_t strip = 0; strip < rows; strip += ROWS, to += ROWS * depth) {
        const float *row[ROWS];
        for (size_t r = 0; r < ROWS; r++)
            row[r] = strip + r < rows ? a + (strip + r) * lda : zeros;
        for (size_t i = 0; i < depth; i++)
#pragma GCC unroll 8
            for (size_t r = 0; r < ROWS; r++)
                to[i * ROWS + r] = row[r][i];
        for (size_t i = 0; bf16 && i < depth * ROWS; i++)
            to[i] = widen_bf16(round_bf16(to[i]));
    }
}

// ROWS x WIDTH of C: c = (first ? 0 : c) + sum over i of a[i] b[i]. Every element is one chain of
// additions in the order of i.
static SIMD_UNCHECKED void
tile(float *restrict c, size_t ldc, const float *restrict a, const float *restrict b, size_t depth,
     bool first)
{
    simd acc[ROWS][VECS];
#pragma GCC unroll 8
    for (size_t r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (size_t v = 0; v < VECS; v++)
            acc[r][v] = first ? SIMD_SET(0.0f) : SIMD_LOAD(c + r * ldc + v * SIMD_LANES);
    for (size_t i = 0; i < depth; i++, a += ROWS, b += WIDTH) {
        simd b0 = SIMD_LOAD(b), b1 = SIMD_LOAD(b + SIMD_LANES), b2 = SIMD_LOAD(b + 2 * SIMD_LANES);
        SIMD_KEEP(b0);
        SIMD_KEEP(b1);
        SIMD_KEEP(b2);
#pragma GCC unroll 8
        for (size_t r = 0; r < ROWS; r++) {
            simd x = SIMD_SET(a[r]);
            acc[r][0] = SIMD_FMA(x, b0, acc[r][0]);
            acc[r][1] = SIMD_FMA(x, b1, acc[r][1]);
            acc[r][2] = SIMD_FMA(x, b2, acc[r][2]);
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (size_t v = 0; v < VECS; v++)
            SIMD_STORE(c + r * ldc + v * SIMD_LANES, acc[r][v]);
}

// Every tile goes through here: its corners are touched where checks are on.
static void
tile_probed(float *c, size_t ldc, const float *a, const float *b, size_t depth, bool first)
{
    SIMD_PROBE(c);
    SIMD_PROBE(c + (ROWS - 1) * ldc + WIDTH - 1);
    SIMD_PROBE(a);
    SIMD_PROBE(a + depth * ROWS - 1);
    SIMD_PROBE(b);
    SIMD_PROBE(b + depth * WIDTH - 1);
    tile(c, ldc, a, b, depth, first);
}

// A tile that hangs over the edge of C goes through a whole one.
static void
tile_edge(float *c, size_t ldc, const float *a, const float *b, size_t depth, bool first,
          size_t rows, size_t columns)
{
    float whole[ROWS * WIDTH] = {0};
    for (size_t r = 0; r < rows && !first; r++)
        memcpy(whole + r * WIDTH, c + r * ldc, columns * sizeof *c);
    tile_probed(whole, WIDTH, a, b, depth, first);
    for (size_t r = 0; r < rows; r++)
        memcpy(c + r * ldc, whole + r * WIDTH, columns * sizeof *c);
}

// What one panel's chunk adds to a block of packed rows. Meanwhile the chunk that comes next is
// fetched, a share with every strip: without that the kernel waits for it.
static void
block(float *c, size_t ldc, const float *a, const float *b, size_t rows, size_t columns,
      size_t depth, bool first, const char *next, size_t bytes)
{
    size_t strips = (rows + ROWS - 1) / ROWS, share = round_up((bytes + strips - 1) / strips, 64);
    const char *end = next + bytes;
    for (size_t r = 0; r < rows; r += ROWS, a += ROWS * depth) {
        for (size_t i = 0; i < share && next < end; i += 64, next += 64)
            __builtin_prefetch(next, 0, 2);
        if (rows - r >= ROWS && columns == WIDTH)
            tile_probed(c + r * ldc, ldc, a, b, depth, first);
        else
            tile_edge(c + r * ldc, ldc, a, b, depth, first, rows - r < ROWS ? rows - r : ROWS,
                      columns);
    }
}

static void
widen(float *to, const uint16_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = widen_bf16(from[i]);
}

void
panel_apply(float *c, size_t ldc, const float *a, size_t lda, const struct panel *p, size_t m,
            size_t first, size_t count)
{
    assert(ldc >= p->n && lda >= p->k && count <= p->panels && first <= p->panels - count);
    _Alignas(64) float packed[BLOCK * DEPTH], wide[DEPTH * WIDTH];
    size_t element = p->bf16 ? sizeof(uint16_t) : sizeof(float);
    const char *data = p->data;
    for (size_t row = 0; row < m; row += BLOCK) {
        size_t rows = m - row < BLOCK ? m - row : BLOCK;
        for (size_t from = 0; from < p->k; from += p->depth) {
            size_t depth = p->k - from < p->depth ? p->k - from : p->depth;
            size_t bytes = depth * WIDTH * element;
            const char *chunk = data + (p->panels * WIDTH * from + first * depth * WIDTH) * element;
            pack(packed, a + row * lda + from, lda, rows, depth, p->bf16);
            for (size_t i = 0; i < count; i++, chunk += bytes) {
                size_t column = (first + i) * WIDTH;
                const float *b = (const void *)chunk;
                if (p->bf16) {
                    widen(wide, (const void *)chunk, depth * WIDTH);
                    b = wide;
                }
                block(c + row * ldc + column, ldc, packed, b, rows,
                      p->n - column < WIDTH ? p->n - column : WIDTH, depth, from == 0,
                      i + 1 < count ? chunk + bytes : chunk, bytes);
            }
        }
    }
}

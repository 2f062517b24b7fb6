// gemm_weight: a weight used again and again, in the layout that oneDNN itself chooses.
//
// A product of matrices is a 1 x 1 convolution over a line of pixels: A [m x k] is an image of m
// pixels with k channels, W [n x k] has n filters. oneDNN lays the filters of a convolution out in
// blocks once, on every CPU; its plain product packs W anew in each call (70 to 80 % of the peak at
// 64 rows on AVX2, where this reaches 88 to 93 %) and its matmul has packed layouts from AVX-512 on
// only. This file alone differs between oneDNN 2 and 3.
//
// The convolution is made for GEMM_ROWS rows (short blocks are padded) and one thread: so the bits
// of a row are a function of that row, of where it stands in its block at most, and tests hold it
// to the row alone.
#include "lib/base/bytes.h"
#include "lib/kern/gemm.h"

#include <assert.h>
#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

// One thread's handles. The memory behind them is the caller's: A and C themselves where they are
// whole dense blocks, else scratch.
struct seat {
    dnnl_stream_t stream;
    dnnl_memory_t rows;   // [GEMM_ROWS x k], fp32 or bf16
    dnnl_memory_t result; // [GEMM_ROWS x n]
    dnnl_memory_t own;    // oneDNN's scratch
};

struct gemm_weight {
    size_t n, k, threads;
    size_t weight_bytes, rows_bytes, result_bytes, own_bytes; // the last three whole lines
    bool rounded;                                             // A and W are rounded to bf16
    bool bf16; // and stay it: the CPU multiplies bf16
    dnnl_engine_t engine;
    dnnl_primitive_t product;
    dnnl_memory_t weight;
    struct seat *seats; // [threads]
};

// The differences between oneDNN 2 and 3 --------------------------------------------------------
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout; // an owned handle
typedef const_dnnl_memory_desc_t layout_view;
#define VIEW(l) (l)
#define LAYOUT_RELEASE(l) dnnl_memory_desc_destroy(l)
static bool
layout_make(layout *out, const size_t sizes[4], dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {(dnnl_dim_t)sizes[0], (dnnl_dim_t)sizes[1], (dnnl_dim_t)sizes[2],
                        (dnnl_dim_t)sizes[3]};
    return dnnl_memory_desc_create_with_tag(out, 4, dims, type, tag) == dnnl_success;
}
static bool
product_make(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout_view rows, layout_view weight,
             layout_view result, const_dnnl_primitive_attr_t attr)
{
    const dnnl_dims_t ones = {1, 1}, zeros = {0, 0};
    return dnnl_convolution_forward_primitive_desc_create(
               out, engine, dnnl_forward_inference, dnnl_convolution_direct, rows, weight, NULL,
               result, ones, zeros, zeros, zeros, attr) == dnnl_success;
}
#else
typedef dnnl_memory_desc_t layout; // a plain struct
typedef const dnnl_memory_desc_t *layout_view;
#define VIEW(l) (&(l))
#define LAYOUT_RELEASE(l) ((void)(l))
static bool
layout_make(layout *out, const size_t sizes[4], dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {(dnnl_dim_t)sizes[0], (dnnl_dim_t)sizes[1], (dnnl_dim_t)sizes[2],
                        (dnnl_dim_t)sizes[3]};
    return dnnl_memory_desc_init_by_tag(out, 4, dims, type, tag) == dnnl_success;
}
static bool
product_make(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout_view rows, layout_view weight,
             layout_view result, const_dnnl_primitive_attr_t attr)
{
    const dnnl_dims_t ones = {1, 1}, zeros = {0, 0};
    dnnl_convolution_desc_t what;
    return dnnl_convolution_forward_desc_init(&what, dnnl_forward_inference,
                                              dnnl_convolution_direct, rows, weight, NULL, result,
                                              ones, zeros, zeros) == dnnl_success &&
           dnnl_primitive_desc_create(out, &what, attr, engine, NULL) == dnnl_success;
}
#endif
// -------------------------------------------------------------------------------------------------

static bool
cpu_has_bf16(void)
{
    unsigned want = (unsigned)dnnl_cpu_isa_avx512_core_bf16;
    return ((unsigned)dnnl_get_effective_cpu_isa() & want) == want;
}

static size_t
ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static size_t
whole_lines(size_t bytes)
{
    return ceil_div(bytes, 64) * 64;
}

// To the nearest bf16, ties to even, as its upper half.
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
rounded(float value)
{
    uint32_t bits = (uint32_t)round_bf16(value) << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool
run(dnnl_primitive_t primitive, dnnl_stream_t stream, const dnnl_exec_arg_t *args, int count)
{
    return dnnl_primitive_execute(primitive, stream, count, args) == dnnl_success &&
           dnnl_stream_wait(stream) == dnnl_success;
}

static bool
reorder(const struct gemm_weight *w, layout_view from, dnnl_memory_t source, layout_view to)
{
    dnnl_primitive_desc_t how = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, w->weight}};
    bool done = dnnl_reorder_primitive_desc_create(&how, from, w->engine, to, w->engine, NULL) ==
                    dnnl_success &&
                dnnl_primitive_create(&primitive, how) == dnnl_success &&
                dnnl_stream_create(&stream, w->engine, dnnl_stream_default_flags) == dnnl_success &&
                run(primitive, stream, args, 2);
    dnnl_stream_destroy(stream);
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(how);
    return done;
}

static bool
seat_make(const struct gemm_weight *w, struct seat *s, layout_view rows, layout_view result,
          layout_view own)
{
    return dnnl_stream_create(&s->stream, w->engine, dnnl_stream_default_flags) == dnnl_success &&
           dnnl_memory_create(&s->rows, rows, w->engine, DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&s->result, result, w->engine, DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&s->own, own, w->engine, DNNL_MEMORY_NONE) == dnnl_success;
}

// Everything that lives in oneDNN; false when anything was refused.
static bool
build(struct gemm_weight *w, float *weight)
{
    dnnl_data_type_t type = w->bf16 ? dnnl_bf16 : dnnl_f32;
    const size_t image[] = {1, w->k, 1, GEMM_ROWS}, filters[] = {w->n, w->k, 1, 1};
    const size_t answer[] = {1, w->n, 1, GEMM_ROWS};
    layout rows = {0}, result = {0}, plain = {0}, any = {0};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t how = NULL;
    dnnl_memory_t source = NULL;
    bool done =
        dnnl_engine_create(&w->engine, dnnl_cpu, 0) == dnnl_success &&
        layout_make(&rows, image, type, dnnl_nhwc) &&
        layout_make(&result, answer, dnnl_f32, dnnl_nhwc) &&
        layout_make(&plain, filters, dnnl_f32, dnnl_oihw) &&
        layout_make(&any, filters, type, dnnl_format_tag_any) &&
        dnnl_primitive_attr_create(&attr) == dnnl_success &&
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
        product_make(&how, w->engine, VIEW(rows), VIEW(any), VIEW(result), attr) &&
        dnnl_primitive_create(&w->product, how) == dnnl_success;
    if (done) {
        layout_view chosen = dnnl_primitive_desc_query_md(how, dnnl_query_weights_md, 0);
        layout_view scratch = dnnl_primitive_desc_query_md(how, dnnl_query_scratchpad_md, 0);
        w->weight_bytes = dnnl_memory_desc_get_size(chosen);
        w->rows_bytes = whole_lines(dnnl_memory_desc_get_size(VIEW(rows)));
        w->result_bytes = whole_lines(dnnl_memory_desc_get_size(VIEW(result)));
        w->own_bytes = whole_lines(dnnl_memory_desc_get_size(scratch));
        done = dnnl_memory_create(&source, VIEW(plain), w->engine, weight) == dnnl_success &&
               dnnl_memory_create(&w->weight, chosen, w->engine, DNNL_MEMORY_ALLOCATE) ==
                   dnnl_success &&
               reorder(w, VIEW(plain), source, chosen);
        for (size_t i = 0; done && i < w->threads; i++)
            done = seat_make(w, &w->seats[i], VIEW(rows), VIEW(result), scratch);
    }
    dnnl_memory_destroy(source);
    dnnl_primitive_desc_destroy(how);
    dnnl_primitive_attr_destroy(attr);
    LAYOUT_RELEASE(any);
    LAYOUT_RELEASE(plain);
    LAYOUT_RELEASE(result);
    LAYOUT_RELEASE(rows);
    return done;
}

enum status
gemm_weight_new(struct gemm_weight **out, const float *weight, size_t n, size_t k,
                enum gemm_precision precision)
{
    assert(n > 0 && k > 0);
    *out = NULL;
    int most = omp_get_max_threads(), cores = omp_get_num_procs();
    size_t threads = (size_t)(most > cores ? most : cores), count;
    struct gemm_weight *w = calloc(1, sizeof *w);
    struct seat *seats = calloc(threads, sizeof *seats);
    bool done = w && seats && times(&count, n, k) && count <= SIZE_MAX / 8;
    float *copy = done ? malloc(count * sizeof *copy) : NULL; // oneDNN's memories are not const
    if (w)
        *w = (struct gemm_weight){.n = n,
                                  .k = k,
                                  .threads = threads,
                                  .rounded = precision == GEMM_BF16,
                                  .bf16 = precision == GEMM_BF16 && cpu_has_bf16(),
                                  .seats = seats};
    else
        free(seats);
    done = done && copy;
    if (done) {
        for (size_t i = 0; i < count; i++)
            copy[i] = w->rounded ? rounded(weight[i]) : weight[i];
        // oneDNN cuts a primitive's work by the threads there are when it is made: one.
        omp_set_num_threads(1);
        done = build(w, copy);
        omp_set_num_threads(most);
    }
    free(copy);
    if (!done) {
        gemm_weight_free(&w);
        return FAIL(CREATE, "oneDNN cannot hold a weight of %zu x %zu: out of memory", n, k);
    }
    *out = w;
    return STATUS_OK;
}

void
gemm_weight_free(struct gemm_weight **weight)
{
    struct gemm_weight *w = *weight;
    if (!w)
        return;
    for (size_t i = 0; w->seats && i < w->threads; i++) {
        struct seat *s = &w->seats[i];
        dnnl_memory_destroy(s->own);
        dnnl_memory_destroy(s->result);
        dnnl_memory_destroy(s->rows);
        dnnl_stream_destroy(s->stream);
    }
    dnnl_memory_destroy(w->weight);
    dnnl_primitive_destroy(w->product);
    dnnl_engine_destroy(w->engine);
    free(w->seats);
    free(w);
    *weight = NULL;
}

size_t
gemm_weight_bytes(const struct gemm_weight *weight)
{
    return sizeof *weight + weight->threads * sizeof *weight->seats + weight->weight_bytes;
}

size_t
gemm_weight_bytes_for(size_t n, size_t k, enum gemm_precision precision)
{
    // Blocks of 8 or 16 both ways.
    size_t elements, each = precision == GEMM_BF16 && cpu_has_bf16() ? 2 : sizeof(float);
    if (n > SIZE_MAX / 2 || k > SIZE_MAX / 2 ||
        !times(&elements, ceil_div(n, 16) * 16, ceil_div(k, 8) * 8) || elements > SIZE_MAX / 16)
        return SIZE_MAX / 2;
    return sizeof(struct gemm_weight) + elements * each;
}

size_t
gemm_weight_scratch(const struct gemm_weight *weight)
{
    return weight->rows_bytes + weight->result_bytes + weight->own_bytes;
}

// Rows of A as the product wants them, zeros after the last.
static void
fill(void *to, const float *a, size_t lda, const struct gemm_weight *w, size_t rows)
{
    float *as_f32 = to;
    uint16_t *as_bf16 = to;
    size_t k = w->k;
    for (size_t r = 0; r < rows; r++, a += lda)
        if (w->bf16)
            for (size_t i = 0; i < k; i++)
                as_bf16[r * k + i] = round_bf16(a[i]);
        else if (w->rounded)
            for (size_t i = 0; i < k; i++)
                as_f32[r * k + i] = rounded(a[i]);
        else
            memcpy(as_f32 + r * k, a, k * sizeof *a);
    if (w->bf16)
        memset(as_bf16 + rows * k, 0, (GEMM_ROWS - rows) * k * sizeof *as_bf16);
    else
        memset(as_f32 + rows * k, 0, (GEMM_ROWS - rows) * k * sizeof *as_f32);
}

static void
block(float *c, size_t ldc, const float *a, size_t lda, const struct gemm_weight *w, size_t rows,
      const struct seat *s, char *scratch)
{
    bool whole = rows == GEMM_ROWS, as_is = whole && lda == w->k && !w->rounded;
    float *result = (void *)(scratch + w->rows_bytes);
    void *from = scratch;
    if (as_is)
        memcpy(&from, &a, sizeof from); // oneDNN's handles are not const; it only reads
    else
        fill(from, a, lda, w, rows);
    bool direct = whole && ldc == w->n;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, s->rows},
                              {DNNL_ARG_WEIGHTS, w->weight},
                              {DNNL_ARG_DST, s->result},
                              {DNNL_ARG_SCRATCHPAD, s->own}};
    bool done = dnnl_memory_set_data_handle(s->rows, from) == dnnl_success &&
                dnnl_memory_set_data_handle(s->result, direct ? c : result) == dnnl_success &&
                run(w->product, s->stream, args, 4);
    assert(done);
    for (size_t r = 0; r < rows && !direct; r++)
        memcpy(c + r * ldc, result + r * w->n, w->n * sizeof *c);
}

void
gemm_weight_rows(float *c, size_t ldc, const float *a, size_t lda, const struct gemm_weight *w,
                 size_t m, void *scratch)
{
    size_t thread = (size_t)omp_get_thread_num();
    assert(ldc >= w->n && lda >= w->k && thread < w->threads && (uintptr_t)scratch % 64 == 0);
    const struct seat *s = &w->seats[thread];
    bool set = dnnl_memory_set_data_handle(s->own, (char *)scratch + w->rows_bytes +
                                                       w->result_bytes) == dnnl_success;
    assert(set);
    for (size_t row = 0; row < m; row += GEMM_ROWS)
        block(c + row * ldc, ldc, a + row * lda, lda, w, m - row < GEMM_ROWS ? m - row : GEMM_ROWS,
              s, scratch);
}

// Scratch is this call's own: callers that must not allocate use gemm_weight_rows.
void
gemm_weight_apply(float *c, const float *a, const struct gemm_weight *w, size_t m)
{
#pragma omp parallel
    {
        void *scratch = aligned_alloc(64, gemm_weight_scratch(w));
        assert(scratch);
#pragma omp for schedule(dynamic)
        for (size_t row = 0; row < m; row += GEMM_ROWS)
            gemm_weight_rows(c + row * w->n, w->n, a + row * w->k, w->k, w,
                             m - row < GEMM_ROWS ? m - row : GEMM_ROWS, scratch);
        free(scratch);
    }
}

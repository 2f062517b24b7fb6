#include "lib/kern/packed.h"

#include <assert.h>
#include <dnnl.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// One thread's handles; the memory behind them is the caller's scratch, in this order.
struct seat {
    dnnl_stream_t stream;
    dnnl_memory_t wide;   // [PACKED_ROWS x k] fp32: the padded block of A
    dnnl_memory_t result; // [PACKED_ROWS x n]
    dnnl_memory_t rows;   // bf16 only: `wide` rounded
    dnnl_memory_t own;    // oneDNN's scratch
};

struct packed {
    size_t n, k, threads;
    size_t weight_bytes, wide_bytes, result_bytes, rows_bytes, own_bytes; // each a multiple of 64
    bool bf16;
    dnnl_engine_t engine;
    dnnl_primitive_t product, rounding;
    dnnl_memory_t weight;
    struct seat *seats;
};

// The differences between oneDNN 2 and 3 --------------------------------------------------------
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout; // an owned handle
typedef const_dnnl_memory_desc_t layout_view;
#define VIEW(l) (l)
#define LAYOUT_RELEASE(l) dnnl_memory_desc_destroy(l)
#define LAYOUT_BYTES(v) dnnl_memory_desc_get_size(v)
static bool
layout_make(layout *out, size_t rows, size_t columns, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    return dnnl_memory_desc_create_with_tag(out, 2, dims, type, tag) == dnnl_success;
}
static bool
product_make(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout_view rows, layout_view weight,
             layout_view result, const_dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(out, engine, rows, weight, NULL, result, attr) ==
           dnnl_success;
}
#else
typedef dnnl_memory_desc_t layout; // a plain struct
typedef const dnnl_memory_desc_t *layout_view;
#define VIEW(l) (&(l))
#define LAYOUT_RELEASE(l) ((void)(l))
#define LAYOUT_BYTES(v) dnnl_memory_desc_get_size(v)
static bool
layout_make(layout *out, size_t rows, size_t columns, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    return dnnl_memory_desc_init_by_tag(out, 2, dims, type, tag) == dnnl_success;
}
static bool
product_make(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout_view rows, layout_view weight,
             layout_view result, const_dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t what;
    return dnnl_matmul_desc_init(&what, rows, weight, NULL, result) == dnnl_success &&
           dnnl_primitive_desc_create(out, &what, attr, engine, NULL) == dnnl_success;
}
#endif
// -------------------------------------------------------------------------------------------------

bool
packed_has_bf16(void)
{
    unsigned want = (unsigned)dnnl_cpu_isa_avx512_core_bf16;
    return ((unsigned)dnnl_get_effective_cpu_isa() & want) == want;
}

static bool
run(dnnl_primitive_t primitive, dnnl_stream_t stream, const dnnl_exec_arg_t *args, int count)
{
    return dnnl_primitive_execute(primitive, stream, count, args) == dnnl_success &&
           dnnl_stream_wait(stream) == dnnl_success;
}

static bool
reorder(struct packed *p, layout_view from, dnnl_memory_t source, layout_view to,
        dnnl_memory_t target)
{
    dnnl_primitive_desc_t how = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}};
    bool done = dnnl_reorder_primitive_desc_create(&how, from, p->engine, to, p->engine, NULL) ==
                    dnnl_success &&
                dnnl_primitive_create(&primitive, how) == dnnl_success &&
                dnnl_stream_create(&stream, p->engine, dnnl_stream_default_flags) == dnnl_success &&
                run(primitive, stream, args, 2);
    dnnl_stream_destroy(stream);
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(how);
    return done;
}

static bool
seat_make(struct packed *p, struct seat *s, layout_view wide, layout_view rows, layout_view result,
          layout_view own)
{
    return dnnl_stream_create(&s->stream, p->engine, dnnl_stream_default_flags) == dnnl_success &&
           dnnl_memory_create(&s->wide, wide, p->engine, DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&s->rows, rows, p->engine, DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&s->result, result, p->engine, DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&s->own, own, p->engine, DNNL_MEMORY_NONE) == dnnl_success;
}

static size_t
whole_lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

// Everything that lives in oneDNN; false when anything was refused.
static bool
build(struct packed *p, float *weight)
{
    dnnl_data_type_t type = p->bf16 ? dnnl_bf16 : dnnl_f32;
    layout wide = {0}, rows = {0}, result = {0}, plain = {0}, any = {0};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t how = NULL, rounding = NULL;
    dnnl_memory_t source = NULL;
    // W [n x k] row-major is B [k x n] column-major.
    bool done =
        layout_make(&wide, PACKED_ROWS, p->k, dnnl_f32, dnnl_ab) &&
        layout_make(&rows, PACKED_ROWS, p->k, type, dnnl_ab) &&
        layout_make(&result, PACKED_ROWS, p->n, dnnl_f32, dnnl_ab) &&
        layout_make(&plain, p->k, p->n, dnnl_f32, dnnl_ba) &&
        layout_make(&any, p->k, p->n, type, dnnl_format_tag_any) &&
        dnnl_primitive_attr_create(&attr) == dnnl_success &&
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
        product_make(&how, p->engine, VIEW(rows), VIEW(any), VIEW(result), attr) &&
        dnnl_primitive_create(&p->product, how) == dnnl_success;
    if (done) {
        layout_view chosen = dnnl_primitive_desc_query_md(how, dnnl_query_weights_md, 0);
        layout_view scratch = dnnl_primitive_desc_query_md(how, dnnl_query_scratchpad_md, 0);
        p->weight_bytes = LAYOUT_BYTES(chosen);
        p->wide_bytes = whole_lines(LAYOUT_BYTES(VIEW(wide)));
        p->result_bytes = whole_lines(LAYOUT_BYTES(VIEW(result)));
        p->rows_bytes = p->bf16 ? whole_lines(LAYOUT_BYTES(VIEW(rows))) : 0;
        p->own_bytes = whole_lines(LAYOUT_BYTES(scratch));
        done = dnnl_memory_create(&source, VIEW(plain), p->engine, weight) == dnnl_success &&
               dnnl_memory_create(&p->weight, chosen, p->engine, DNNL_MEMORY_ALLOCATE) ==
                   dnnl_success &&
               reorder(p, VIEW(plain), source, chosen, p->weight);
        if (done && p->bf16)
            done = dnnl_reorder_primitive_desc_create(&rounding, VIEW(wide), p->engine, VIEW(rows),
                                                      p->engine, NULL) == dnnl_success &&
                   dnnl_primitive_create(&p->rounding, rounding) == dnnl_success;
        for (size_t i = 0; done && i < p->threads; i++)
            done = seat_make(p, &p->seats[i], VIEW(wide), VIEW(rows), VIEW(result), scratch);
    }
    dnnl_memory_destroy(source);
    dnnl_primitive_desc_destroy(rounding);
    dnnl_primitive_desc_destroy(how);
    dnnl_primitive_attr_destroy(attr);
    LAYOUT_RELEASE(any);
    LAYOUT_RELEASE(plain);
    LAYOUT_RELEASE(result);
    LAYOUT_RELEASE(rows);
    LAYOUT_RELEASE(wide);
    return done;
}

enum status
packed_new(struct packed **out, const float *weight, size_t n, size_t k, bool bf16, size_t threads)
{
    assert(n > 0 && k > 0 && threads > 0);
    *out = NULL;
    struct packed *p = calloc(1, sizeof *p);
    struct seat *seats = calloc(threads, sizeof *seats);
    size_t bytes = n * k * sizeof *weight;
    float *copy = malloc(bytes); // oneDNN's memories are not const
    if (p)
        *p = (struct packed){.n = n, .k = k, .threads = threads, .bf16 = bf16, .seats = seats};
    bool done = p && seats && copy;
    if (done) {
        memcpy(copy, weight, bytes);
        // oneDNN cuts a primitive's work by the threads there are when it is made: one.
        int before = omp_get_max_threads();
        omp_set_num_threads(1);
        done = dnnl_engine_create(&p->engine, dnnl_cpu, 0) == dnnl_success && build(p, copy);
        omp_set_num_threads(before);
    }
    free(copy);
    if (!done) {
        if (p)
            packed_free(&p);
        else
            free(seats);
        return FAIL(CREATE, "oneDNN cannot hold a weight of %zu x %zu: out of memory", n, k);
    }
    *out = p;
    return STATUS_OK;
}

void
packed_free(struct packed **packed)
{
    struct packed *p = *packed;
    if (!p)
        return;
    for (size_t i = 0; p->seats && i < p->threads; i++) {
        struct seat *s = &p->seats[i];
        dnnl_memory_destroy(s->own);
        dnnl_memory_destroy(s->result);
        dnnl_memory_destroy(s->rows);
        dnnl_memory_destroy(s->wide);
        dnnl_stream_destroy(s->stream);
    }
    dnnl_memory_destroy(p->weight);
    dnnl_primitive_destroy(p->rounding);
    dnnl_primitive_destroy(p->product);
    dnnl_engine_destroy(p->engine);
    free(p->seats);
    free(p);
    *packed = NULL;
}

size_t
packed_bytes(const struct packed *packed)
{
    return packed->weight_bytes;
}

size_t
packed_scratch(const struct packed *packed)
{
    return packed->wide_bytes + packed->result_bytes + packed->rows_bytes + packed->own_bytes;
}

static void
block(const struct packed *p, const struct seat *s)
{
    dnnl_exec_arg_t rounding[] = {{DNNL_ARG_FROM, s->wide}, {DNNL_ARG_TO, s->rows}};
    dnnl_exec_arg_t product[] = {{DNNL_ARG_SRC, p->bf16 ? s->rows : s->wide},
                                 {DNNL_ARG_WEIGHTS, p->weight},
                                 {DNNL_ARG_DST, s->result},
                                 {DNNL_ARG_SCRATCHPAD, s->own}};
    bool done = !p->bf16 || run(p->rounding, s->stream, rounding, 2);
    done = done && run(p->product, s->stream, product, 4);
    assert(done);
}

void
packed_apply(float *c, size_t ldc, const float *a, size_t lda, const struct packed *p, size_t m,
             size_t thread, void *scratch)
{
    assert(ldc >= p->n && lda >= p->k && thread < p->threads && (uintptr_t)scratch % 64 == 0);
    const struct seat *s = &p->seats[thread];
    char *at = scratch;
    float *wide = (void *)at, *result = (void *)(at + p->wide_bytes);
    char *rest = at + p->wide_bytes + p->result_bytes;
    bool set = dnnl_memory_set_data_handle(s->wide, wide) == dnnl_success &&
               dnnl_memory_set_data_handle(s->result, result) == dnnl_success &&
               dnnl_memory_set_data_handle(s->rows, rest) == dnnl_success &&
               dnnl_memory_set_data_handle(s->own, rest + p->rows_bytes) == dnnl_success;
    assert(set);
    for (size_t row = 0; row < m; row += PACKED_ROWS) {
        size_t rows = m - row < PACKED_ROWS ? m - row : PACKED_ROWS;
        for (size_t r = 0; r < PACKED_ROWS; r++)
            if (r < rows)
                memcpy(wide + r * p->k, a + (row + r) * lda, p->k * sizeof *a);
            else
                memset(wide + r * p->k, 0, p->k * sizeof *a);
        block(p, s);
        for (size_t r = 0; r < rows; r++)
            memcpy(c + (row + r) * ldc, result + r * p->n, p->n * sizeof *c);
    }
}

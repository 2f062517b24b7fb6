// gemm_weight: a weight that is used again and again, in whichever layout suits this CPU.
#include "lib/kern/gemm.h"

#include "lib/kern/packed.h"
#include "lib/kern/panel.h"

#include <assert.h>
#include <omp.h>
#include <stdlib.h>

// fp32: panels. bf16: oneDNN's packed layout where the CPU multiplies bf16 in hardware, else panels
// stored in bf16 and widened on the way. Exactly one of the two is there.
struct gemm_weight {
    size_t n, k;
    struct panel *panel;
    struct packed *packed;
};

enum status
gemm_weight_new(struct gemm_weight **out, const float *weight, size_t n, size_t k,
                enum gemm_precision precision)
{
    *out = NULL;
    struct gemm_weight *w = calloc(1, sizeof *w);
    if (!w)
        return FAIL(CREATE, "out of memory for a weight");
    *w = (struct gemm_weight){.n = n, .k = k};
    int most =
        omp_get_max_threads() > omp_get_num_procs() ? omp_get_max_threads() : omp_get_num_procs();
    bool bf16 = precision == GEMM_BF16;
    enum status status = bf16 && packed_has_bf16()
                             ? packed_new(&w->packed, weight, n, k, true, (size_t)most)
                             : panel_new(&w->panel, weight, n, k, bf16);
    if (status != STATUS_OK) {
        free(w);
        return status_pass(status, __FILE__, __LINE__);
    }
    *out = w;
    return STATUS_OK;
}

void
gemm_weight_free(struct gemm_weight **weight)
{
    if (!*weight)
        return;
    panel_free(&(*weight)->panel);
    packed_free(&(*weight)->packed);
    free(*weight);
    *weight = NULL;
}

size_t
gemm_weight_bytes(const struct gemm_weight *weight)
{
    return sizeof *weight +
           (weight->panel ? panel_bytes(weight->panel) : packed_bytes(weight->packed));
}

static size_t
ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

size_t
gemm_weight_scratch(const struct gemm_weight *weight)
{
    return weight->packed ? packed_scratch(weight->packed) : 0;
}

size_t
gemm_rows_least(enum gemm_precision precision)
{
    return precision == GEMM_BF16 && packed_has_bf16() ? PACKED_ROWS : 16;
}

size_t
gemm_weight_bytes_for(size_t n, size_t k, enum gemm_precision precision)
{
    return sizeof(struct gemm_weight) + panel_bytes_for(n, k, precision == GEMM_BF16);
}

void
gemm_weight_rows(float *c, size_t ldc, const float *a, size_t lda, const struct gemm_weight *weight,
                 size_t m, void *scratch)
{
    if (weight->packed)
        packed_apply(c, ldc, a, lda, weight->packed, m, (size_t)omp_get_thread_num(), scratch);
    else
        panel_apply(c, ldc, a, lda, weight->panel, m, 0, ceil_div(weight->n, panel_width()));
}

// The rows are cut among the threads, PACKED_ROWS at a time. Scratch is this call's own: callers
// that must not allocate use gemm_weight_rows.
static void
apply_packed(float *c, const float *a, const struct gemm_weight *w, size_t m)
{
#pragma omp parallel
    {
        void *scratch = aligned_alloc(64, packed_scratch(w->packed));
        assert(scratch);
#pragma omp for schedule(dynamic)
        for (size_t row = 0; row < m; row += PACKED_ROWS)
            packed_apply(c + row * w->n, w->n, a + row * w->k, w->k, w->packed,
                         m - row < PACKED_ROWS ? m - row : PACKED_ROWS,
                         (size_t)omp_get_thread_num(), scratch);
        free(scratch);
    }
}

// Tiles of C, by the shape alone: GEMM_ROWS rows by all columns when that makes enough of them,
// else fewer columns, so that the few rows of a model's head still feed every core.
enum { TILES_WANTED = 64, PANELS_LEAST = 4 };

static void
apply_panel(float *c, const float *a, const struct gemm_weight *w, size_t m)
{
    size_t down = ceil_div(m, GEMM_ROWS), panels = ceil_div(w->n, panel_width()), each = panels;
    if (down < TILES_WANTED) {
        each = ceil_div(panels, ceil_div(TILES_WANTED, down));
        each = each < PANELS_LEAST ? PANELS_LEAST : each;
    }
    size_t across = ceil_div(panels, each);
#pragma omp parallel for schedule(dynamic)
    for (size_t t = 0; t < down * across; t++) {
        size_t row = t / across * GEMM_ROWS, first = t % across * each;
        size_t rows = m - row < GEMM_ROWS ? m - row : GEMM_ROWS;
        size_t count = panels - first < each ? panels - first : each;
        panel_apply(c + row * w->n, w->n, a + row * w->k, w->k, w->panel, rows, first, count);
    }
}

void
gemm_weight_apply(float *c, const float *a, const struct gemm_weight *w, size_t m)
{
    if (m == 0)
        return;
    if (w->packed)
        apply_packed(c, a, w, m);
    else
        apply_panel(c, a, w, m);
}

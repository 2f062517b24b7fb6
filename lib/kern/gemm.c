#include "lib/kern/gemm.h"

#include <assert.h>
#include <dnnl.h>
#include <omp.h>
#include <string.h>

// How C is cut: a function of the shape only. oneDNN packs both factors anew in each call, so tiles
// are as large as leaves several for every core. Two cores with AVX2, share of their peak: tiles of
// 512 rows by 512 to 576 columns 88 % for 2048 x 1536 x 576 nt and about 80 % for 4096 x 576 x 2048
// tn; of 256 rows 78 and 36 %; one tile for all keeps one core idle.
enum { TILE_ROWS = 512, TILE_COLUMNS = 640, TILES_LEAST = 4 };

static size_t
ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static size_t
even_part(size_t whole, size_t most)
{
    size_t parts = ceil_div(whole, most);
    return ceil_div(ceil_div(whole, parts), 16) * 16;
}

// C [m x n], A [m x k] or with 'T' [k x m], B [k x n] or with 'T' [n x k].
static void
product(char ta, char tb, float *c, const float *a, const float *b, size_t m, size_t n, size_t k,
        bool add)
{
    if (m == 0 || n == 0)
        return;
    if (k == 0) {
        if (!add)
            memset(c, 0, m * n * sizeof *c);
        return;
    }
    size_t lda = ta == 'N' ? k : m, ldb = tb == 'N' ? n : k, ldc = n;
    size_t rows = TILE_ROWS, columns = even_part(n, TILE_COLUMNS);
    size_t down = ceil_div(m, rows), across = ceil_div(n, columns);
    if (down * across < TILES_LEAST && ta == 'N') { // few rows: smaller tiles still feed two cores
        rows = m >= TILE_ROWS ? TILE_ROWS / 4 : TILE_ROWS / 8;
        down = ceil_div(m, rows);
    }
#pragma omp parallel for schedule(dynamic)
    for (size_t tile = 0; tile < down * across; tile++) {
        size_t i = tile / across * rows, j = tile % across * columns;
        size_t height = m - i < rows ? m - i : rows, width = n - j < columns ? n - j : columns;
        dnnl_status_t done = dnnl_sgemm(
            ta, tb, (dnnl_dim_t)height, (dnnl_dim_t)width, (dnnl_dim_t)k, 1.0f,
            ta == 'N' ? a + i * lda : a + i, (dnnl_dim_t)lda, tb == 'N' ? b + j : b + j * ldb,
            (dnnl_dim_t)ldb, add ? 1.0f : 0.0f, c + i * ldc + j, (dnnl_dim_t)ldc);
        assert(done == dnnl_success);
    }
}

void
gemm_nt(float *c, const float *a, const float *b, size_t m, size_t n, size_t k, bool add)
{
    product('N', 'T', c, a, b, m, n, k, add);
}

void
gemm_nn(float *c, const float *a, const float *b, size_t m, size_t n, size_t k, bool add)
{
    product('N', 'N', c, a, b, m, n, k, add);
}

void
gemm_tn(float *c, const float *a, const float *b, size_t m, size_t n, size_t k, bool add)
{
    product('T', 'N', c, a, b, m, n, k, add);
}

void
gemm_threads(size_t threads)
{
    omp_set_num_threads(threads ? (int)threads : omp_get_num_procs());
}

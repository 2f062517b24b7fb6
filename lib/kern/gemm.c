#include "lib/kern/gemm.h"

#include <assert.h>
#include <dnnl.h>
#include <omp.h>
#include <string.h>

// Rows of C that one thread computes at a time: enough that repacking B costs little, few enough
// that two cores share a batch of 2048 evenly. A function of the shape only.
static size_t
block_rows(size_t m)
{
    return m <= 256 ? m : 256;
}

static void
product(char ta, char tb, float *c, size_t ldc, const float *a, size_t lda, const float *b,
        size_t ldb, size_t m, size_t n, size_t k, bool add)
{
    if (m == 0 || n == 0)
        return;
    if (k == 0) {
        for (size_t i = 0; i < m && !add; i++)
            memset(c + i * ldc, 0, n * sizeof *c);
        return;
    }
    size_t step = block_rows(m), blocks = (m + step - 1) / step;
#pragma omp parallel for schedule(dynamic)
    for (size_t block = 0; block < blocks; block++) {
        size_t row = block * step, rows = m - row < step ? m - row : step;
        const float *from = ta == 'N' ? a + row * lda : a + row;
        dnnl_status_t done = dnnl_sgemm(ta, tb, (dnnl_dim_t)rows, (dnnl_dim_t)n, (dnnl_dim_t)k, 1.0f,
                                        from, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, add ? 1.0f : 0.0f,
                                        c + row * ldc, (dnnl_dim_t)ldc);
        assert(done == dnnl_success);
    }
}

void
gemm_nt_ld(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t m,
           size_t n, size_t k, bool add)
{
    product('N', 'T', c, ldc, a, lda, b, ldb, m, n, k, add);
}

void
gemm_nn_ld(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t m,
           size_t n, size_t k, bool add)
{
    product('N', 'N', c, ldc, a, lda, b, ldb, m, n, k, add);
}

void
gemm_tn_ld(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t m,
           size_t n, size_t k, bool add)
{
    product('T', 'N', c, ldc, a, lda, b, ldb, m, n, k, add);
}

void
gemm_nt(float *c, const float *a, const float *b, size_t m, size_t n, size_t k, bool add)
{
    product('N', 'T', c, n, a, k, b, k, m, n, k, add);
}

void
gemm_nn(float *c, const float *a, const float *b, size_t m, size_t n, size_t k, bool add)
{
    product('N', 'N', c, n, a, k, b, n, m, n, k, add);
}

void
gemm_tn(float *c, const float *a, const float *b, size_t m, size_t n, size_t k, bool add)
{
    product('T', 'N', c, n, a, m, b, n, m, n, k, add);
}

void
gemm_threads(size_t threads)
{
    omp_set_num_threads(threads ? (int)threads : omp_get_num_procs());
}

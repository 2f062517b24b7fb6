// gemm: matrix products, on oneDNN. All matrices are row-major and dense; C is never read unless
// `add` is true (then C += ...). m, n, k may be any size; a 0 makes it a no-op (or clears C).
//
// The bits do not depend on the number of threads: a product is cut into tiles of C by its shape
// alone, and each tile is computed by one thread. NaN and infinity pass through as in any sum.
#ifndef LIB_KERN_GEMM_H
#define LIB_KERN_GEMM_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// C [m x n] = A [m x k] B [n x k]^T
void gemm_nt(float *c, const float *a, const float *b, size_t m, size_t n, size_t k, bool add);
// C [m x n] = A [m x k] B [k x n]
void gemm_nn(float *c, const float *a, const float *b, size_t m, size_t n, size_t k, bool add);
// C [m x n] = A [k x m]^T B [k x n]
void gemm_tn(float *c, const float *a, const float *b, size_t m, size_t n, size_t k, bool add);

// A weight [n x k] used again and again (the frozen language model), in a layout of oneDNN's own:
// fp32, or rounded to bf16 (then inputs are rounded to bf16 too; products and sums are fp32). Where
// the CPU multiplies bf16 (AVX512_BF16, AMX) it does, and the weight takes half the memory;
// elsewhere the rounded numbers are kept and multiplied as fp32. n, k > 0; the weight is copied.
//
// Rows go through in blocks of GEMM_ROWS. The bits of a row of C depend on that row of A and on W
// alone: neither on m, nor on where the row stands, nor on the threads.
enum gemm_precision { GEMM_F32, GEMM_BF16 };
struct gemm_weight;
CHECKED enum status gemm_weight_new(struct gemm_weight **out, const float *weight, size_t n,
                                    size_t k, enum gemm_precision precision);
void gemm_weight_free(struct gemm_weight **weight);
size_t gemm_weight_bytes(const struct gemm_weight *weight);
// What gemm_weight_new will keep, near enough to check memory with: computed without allocating.
size_t gemm_weight_bytes_for(size_t n, size_t k, enum gemm_precision precision);
// C [m x n] = A [m x k] W [n x k]^T. One caller at a time per weight. m may be 0.
void gemm_weight_apply(float *c, const float *a, const struct gemm_weight *weight, size_t m);
// The same by the calling thread alone, for callers that cut their rows themselves and are inside a
// parallel region of at most as many threads as there are cores, or gemm_threads gave. Fewer rows
// than GEMM_ROWS take as long as that many. Row strides ldc >= n and lda >= k, in elements; dense
// ones (ldc == n, lda == k) save copies. `scratch`: gemm_weight_scratch bytes, aligned to 64, of
// this thread's own; one serves all weights in turn.
enum { GEMM_ROWS = 64 };
size_t gemm_weight_scratch(const struct gemm_weight *weight);
void gemm_weight_rows(float *c, size_t ldc, const float *a, size_t lda,
                      const struct gemm_weight *weight, size_t m, void *scratch);

// Threads for all kernels called by this thread (0: one per core it may run on). OpenMP keeps the
// number per calling thread: call it once at the start of each thread that computes.
void gemm_threads(size_t threads);

#endif

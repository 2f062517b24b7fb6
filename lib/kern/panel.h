// panel: a weight laid out once for our own product kernel.
//     C [m x n] = A [m x k] W [n x k]^T
// W is cut into chunks of at most PANEL_DEPTH along k and panels of PANEL_WIDTH columns of C; a
// chunk of a panel lies k-major, so the kernel streams it. Stored in fp32, or rounded to bf16 and
// widened again chunk by chunk while it is used (then A is rounded to bf16 too; sums are fp32).
//
// Why beside oneDNN: its plain product packs W again in every call, and on CPUs without AVX-512 its
// "packed" formats are plain ones and bf16 does not exist. On AVX2 (bench/gemm.c) this kernel is
// level with dnnl_sgemm at 512 rows a call and well ahead at the 64 to 128 rows that keep a forward
// pass in the caches (dnnl_sgemm falls from 88 to 63 - 77 % of the peak there).
//
// A row of C is a function of that row of A and of W alone: its bits depend neither on m, nor on
// where the row stands, nor on the threads.
#ifndef LIB_KERN_PANEL_H
#define LIB_KERN_PANEL_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct panel;

// n, k > 0. The weight [n x k] is read once and not kept.
CHECKED enum status panel_new(struct panel **out, const float *weight, size_t n, size_t k,
                              bool bf16);
void panel_free(struct panel **panel);
size_t panel_bytes(const struct panel *panel);
// What panel_new would take.
size_t panel_bytes_for(size_t n, size_t k, bool bf16);

// Columns of C that one panel makes; panel i makes columns i * width .. of C.
size_t panel_width(void);

// One thread's part: the columns of panels from .. from + count - 1 (cut at n) of m rows. C and A
// may be parts of larger matrices, with row strides ldc >= n and lda >= k. Needs 300 KB of stack
// at most, and nothing else.
void panel_apply(float *c, size_t ldc, const float *a, size_t lda, const struct panel *panel,
                 size_t m, size_t from, size_t count);

#endif

// packed: a weight in the layout that oneDNN itself chooses, for CPUs with bf16 arithmetic (others
// use panel.h, which says why).
//     C [m x n] = A [m x k] W [n x k]^T
// The one place, with the plain product of gemm.c, that knows oneDNN, and the only one that differs
// between its major versions.
//
// The product always runs on PACKED_ROWS rows (short blocks are padded), on one thread, so its bits
// are a function of the rows of a block.
#ifndef LIB_KERN_PACKED_H
#define LIB_KERN_PACKED_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { PACKED_ROWS = 128 };

struct packed;

// Does this CPU multiply bf16 in hardware, and oneDNN use it?
bool packed_has_bf16(void);

// n, k > 0. `threads`: how many may be inside packed_apply at once.
CHECKED enum status packed_new(struct packed **out, const float *weight, size_t n, size_t k,
                               bool bf16, size_t threads);
void packed_free(struct packed **packed);
size_t packed_bytes(const struct packed *packed);

// One thread's part: m rows, ldc >= n, lda >= k. `thread` < threads, each by one caller at a time,
// with packed_scratch bytes (64-byte aligned) of its own that any weight may use in turn.
size_t packed_scratch(const struct packed *packed);
void packed_apply(float *c, size_t ldc, const float *a, size_t lda, const struct packed *packed,
                  size_t m, size_t thread, void *scratch);

#endif

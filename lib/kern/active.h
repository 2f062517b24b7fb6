// active: the entries of f [B x k] that are worth visiting one by one, listed by rows and by
// columns. A TopK row of 4096 latents has 40 of them; decoding those costs a hundredth of the
// dense product.
//
// An entry is a place where f > 0. For JumpReLU it is also a place where f is 0 but z lies within
// half a bandwidth of its threshold: the straight-through estimators need dL/df there.
//
// kern->gather fills everything. The totals and `fired` always hold; the lists only when `listed`,
// that is when there was room for all entries. A dense f simply does not get lists.
#ifndef LIB_KERN_ACTIVE_H
#define LIB_KERN_ACTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct active {
    size_t rows, cols; // B, k
    size_t room;       // entries the lists can hold

    size_t count;    // entries, listed or not
    bool listed;     // count <= room
    size_t positive; // places with f > 0; L0 = positive / B
    double sum;      // of f; mean_b |f_b|_1 = sum / B
    double pairings; // sum over rows of (entries in the row)^2: what co-activations cost to visit
    uint32_t *fired; // [k] rows in which the latent was positive

    // By rows: the entries of row b are row_at[b] .. row_at[b + 1] - 1, columns ascending.
    uint32_t *row_at; // [B + 1]
    uint32_t *col;    // [room]
    float *value;     // [room] f
    float *grad;      // [room] dL/df, and after kern->gate_active dL/dz; gather clears it
    // By columns: places col_at[j] .. col_at[j + 1] - 1 belong to latent j, rows ascending.
    uint32_t *col_at; // [k + 1]
    uint32_t *place;  // [room] which entry of the lists by rows
    uint32_t *row;    // [room] and its row

    double *row_sum; // [B] scratch of gather and reconstruct
};

// Bytes of memory for one, and laying it out there (64-byte aligned, zeroed, owned by the caller).
// `room` is clipped to B k. false: too large for 32-bit indexes or size_t.
bool active_bytes(size_t *bytes, size_t B, size_t k, size_t room);
void active_init(struct active *active, void *memory, size_t B, size_t k, size_t room);

#endif

// mixer: from the rows of one block to its numbered batches. Filters, a seeded order, indices
// modulo what is left: every batch has exactly n rows. Pure: no model, no clock, no thread.
//
//   block b   contexts [G b, G b + G) of the token file, rows in (context, position) order
//   filters   position 0; special tokens; then norms above `drop_norm_above` x the lower median
//   order     Fisher-Yates of (seed, shuffle, block), over rows or over whole contexts
//   batch r   items r n ... r n + n - 1 of the order, modulo R, the rows left
#ifndef PRODUCER_MIXER_H
#define PRODUCER_MIXER_H

#include "producer/provenance.h"

// What the filters did to one block; sums of these are published.
struct mixer_counts {
    uint64_t rows;            // before the filters
    uint64_t dropped_first;   // position 0 of a context
    uint64_t dropped_special; // bos, eos, pad
    uint64_t dropped_norm;    // longer than drop_norm_above x median
    uint64_t unused;          // surplus beyond M n
    uint64_t repeated;        // rows served a second time
    double median_norm;       // of the rows that the first two filters left
};

struct mixer;

// Room for one block: x [G C x d] in fp32 belongs to the mixer and is filled by the caller.
CHECKED enum status mixer_new(struct mixer **out, const struct provenance *from,
                              const struct provenance_sizes *sizes);
void mixer_free(struct mixer **mixer);
size_t mixer_bytes(const struct provenance *from, const struct provenance_sizes *sizes);

// Where the caller puts the block's residual stream, [G C x d], context after context.
float *mixer_rows(struct mixer *mixer);

// Filters and orders the rows that lie there. `ids` [G x C] are their tokens; `block` counts over
// all epochs. DAMAGED when no row is left.
CHECKED enum status mixer_order(struct mixer *mixer, const uint32_t *ids, uint64_t block);
const struct mixer_counts *mixer_counts(const struct mixer *mixer);

// Batch `r` (0 .. M-1) of the block: payload [n x d] in the stream's type (bf16: round to nearest
// even), and with shuffle `contexts` one bit a row in `pairs` ((n + 7) / 8 bytes): bit i is set iff
// row i - 1 of the batch is the token just before row i in the same context. NULL otherwise.
// DAMAGED when a value is not finite.
CHECKED enum status mixer_batch(const struct mixer *mixer, void *payload, unsigned char *pairs,
                                uint64_t r);

#endif

// provenance: what a stream of batches is made of, as a value. Batch q is a pure function of these
// facts and of nothing else (docs/protocol.md, Stream identity): not of paths, threads, transports
// or the number of producers. So whoever holds the same text and model can make batch q again, bit
// for bit.
#ifndef PRODUCER_PROVENANCE_H
#define PRODUCER_PROVENANCE_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"

enum { PROVENANCE_SPECIAL_MOST = 8 };
enum provenance_shuffle { PROVENANCE_SHUFFLE_ROWS, PROVENANCE_SHUFFLE_CONTEXTS };
enum provenance_payload { PROVENANCE_F32 = 1, PROVENANCE_BF16 = 2 }; // the codes on the wire

struct provenance {
    struct hash128 tokens; // of the packed ids: text, tokenizer, separators, BOS policy
    struct hash128 model;  // of the weights
    uint64_t layer;        // the hook: residual stream after this block
    uint64_t context;      // C, tokens a context
    uint64_t contexts;     // in the token file
    uint64_t rows;         // n (or B), rows of a batch
    uint64_t width;        // d
    enum provenance_payload payload;
    uint64_t seed;
    uint64_t shuffle_block; // M, batches made from one block of contexts
    enum provenance_shuffle shuffle;
    uint64_t epochs;
    bool drop_first;        // position 0 of every context
    bool drop_special;      // tokens in `special`
    double drop_norm_above; // times the block's median norm; 0: off
    uint32_t special[PROVENANCE_SPECIAL_MOST];
    size_t specials;
    bool bf16_products; // arithmetic of the forward pass
};

// Derived counts.
struct provenance_sizes {
    uint64_t
        block_contexts; // G = ceil(101 M n / (100 (C - 1))), C for C - 1 when position 0 is kept
    uint64_t blocks;    // nb = floor(contexts / G), of one epoch
    uint64_t epoch_batches; // bpe = M nb
    uint64_t batches;       // epochs * bpe
    uint64_t batch_bytes;   // of one payload
};

// The 128-bit name of the stream: XXH3_128 of the canonical msgpack map of the facts.
struct hash128 provenance_id(const struct provenance *from);

// CONFIG when the text is too short for one block or for `steps` batches, with both numbers.
CHECKED enum status provenance_measure(struct provenance_sizes *sizes,
                                       const struct provenance *from, uint64_t steps);

#endif

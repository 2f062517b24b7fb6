// origin: what a stream of batches is made of, as a value. Batch q is a pure function of these
// facts and of nothing else (docs/protocol.md, Stream identity): not of paths, threads, transports
// or the number of producers. So whoever holds the same text and model can make batch q again, bit
// for bit.
#ifndef PRODUCER_ORIGIN_H
#define PRODUCER_ORIGIN_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"

enum { ORIGIN_SPECIAL_MOST = 8 };
enum origin_shuffle { ORIGIN_SHUFFLE_ROWS, ORIGIN_SHUFFLE_CONTEXTS };
enum origin_payload { ORIGIN_F32 = 1, ORIGIN_BF16 = 2 }; // the codes on the wire

struct origin {
    struct hash128 tokens; // of the packed ids: text, tokenizer, separators, BOS policy
    struct hash128 model;  // of the weights
    uint64_t layer;        // the hook: residual stream after this block
    uint64_t context;      // C, tokens a context
    uint64_t contexts;     // in the token file
    uint64_t rows;         // n (or B), rows of a batch
    uint64_t width;        // d
    enum origin_payload payload;
    uint64_t seed;
    uint64_t shuffle_block; // M, batches made from one block of contexts
    enum origin_shuffle shuffle;
    uint64_t epochs;
    bool drop_first;        // position 0 of every context
    bool drop_special;      // tokens in `special`
    double drop_norm_above; // times the block's median norm; 0: off
    uint32_t special[ORIGIN_SPECIAL_MOST];
    size_t specials;
    bool bf16_products; // arithmetic of the forward pass
};

// Derived counts.
struct origin_sizes {
    uint64_t
        block_contexts; // G = ceil(101 M n / (100 (C - 1))), C for C - 1 when position 0 is kept
    uint64_t blocks;    // nb = floor(contexts / G), of one epoch
    uint64_t epoch_batches; // bpe = M nb
    uint64_t batches;       // epochs * bpe
    uint64_t batch_bytes;   // of one payload
};

// The 128-bit name of the stream: XXH3_128 of the canonical msgpack map of the facts.
struct hash128 origin_id(const struct origin *origin);

// CONFIG when the text is too short for one block or for `steps` batches, with both numbers.
CHECKED enum status origin_measure(struct origin_sizes *sizes, const struct origin *origin,
                                   uint64_t steps);

#endif

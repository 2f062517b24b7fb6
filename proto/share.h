// share: who makes which batch of a stream, and the hash over all batches applied.
// Producer `shard` of `shards` makes the blocks b = q / M with b mod shards = shard.
#ifndef PROTO_SHARE_H
#define PROTO_SHARE_H

#include "proto/messages.h"

// The least number >= q that this share owns; and the next one after q.
uint64_t share_first(const struct wire_stream *stream, uint64_t q);
static inline uint64_t
share_next(const struct wire_stream *stream, uint64_t q)
{
    return share_first(stream, q + 1);
}
// The position of an owned number among the owned ones, and back.
uint64_t share_index(const struct wire_stream *stream, uint64_t q);
uint64_t share_number(const struct wire_stream *stream, uint64_t index);

// Do the stream's numbers fit together (shares, shape, payload size, end)?
bool stream_sane(const struct wire_stream *stream);
// The same stream and the same shape of batches, whatever the shard and replay class?
bool stream_same(const struct wire_stream *a, const struct wire_stream *b);

// chain' = XXH3_128(chain || q || h), 32 bytes, little-endian; chain_0 is the stream's id. Equal
// chains: the same batches in the same order, each once.
struct hash128 chain_extend(struct hash128 chain, uint64_t q, uint64_t h);

#endif

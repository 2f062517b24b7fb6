#include "proto/share.h"

uint64_t
share_first(const struct wire_stream *stream, uint64_t q)
{
    uint64_t block = q / stream->block, mine = block % stream->shards;
    if (mine == stream->shard)
        return q;
    uint64_t ahead = (stream->shard + stream->shards - mine) % stream->shards;
    return (block + ahead) * stream->block;
}

uint64_t
share_index(const struct wire_stream *stream, uint64_t q)
{
    return q / stream->block / stream->shards * stream->block + q % stream->block;
}

uint64_t
share_number(const struct wire_stream *stream, uint64_t index)
{
    uint64_t block = index / stream->block * stream->shards + stream->shard;
    return block * stream->block + index % stream->block;
}

bool
stream_sane(const struct wire_stream *stream)
{
    uint64_t bytes;
    return stream->shards > 0 && stream->shard < stream->shards && stream->rows > 0 &&
           stream->width > 0 && stream->block > 0 && stream->per_epoch > 0 && stream->end > 0 &&
           payload_bytes(&bytes, stream->dtype, stream->rows, stream->width, stream->pairs) &&
           bytes == stream->bytes;
}

bool
stream_same(const struct wire_stream *a, const struct wire_stream *b)
{
    return hash128_same(a->id, b->id) && a->shards == b->shards && a->rows == b->rows &&
           a->width == b->width && a->dtype == b->dtype && a->pairs == b->pairs &&
           a->bytes == b->bytes && a->block == b->block && a->per_epoch == b->per_epoch &&
           a->end == b->end;
}

struct hash128
chain_extend(struct hash128 chain, uint64_t q, uint64_t h)
{
    uint64_t words[4] = {chain.low, chain.high, q, h};
    return hash128(words, sizeof words);
}

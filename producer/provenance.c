#include "producer/provenance.h"

#include <assert.h>
#include <msgpack.h>

static void
put_key(msgpack_packer *to, const char *key)
{
    size_t length = strlen(key);
    msgpack_pack_str(to, length);
    msgpack_pack_str_body(to, key, length);
}

static void
put_hash(msgpack_packer *to, const char *key, struct hash128 hash)
{
    put_key(to, key);
    msgpack_pack_bin(to, sizeof hash);
    msgpack_pack_bin_body(to, &hash, sizeof hash);
}

static void
put_number(msgpack_packer *to, const char *key, uint64_t value)
{
    put_key(to, key);
    msgpack_pack_uint64(to, value); // msgpack-c takes the shortest encoding
}

struct hash128
provenance_id(const struct provenance *s)
{
    msgpack_sbuffer buffer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer to;
    msgpack_packer_init(&to, &buffer, msgpack_sbuffer_write);

    // Canonical: keys in bytewise order, every key always present.
    msgpack_pack_map(&to, 17);
    put_number(&to, "bf16", s->bf16_products);
    put_number(&to, "context", s->context);
    put_number(&to, "contexts", s->contexts);
    put_number(&to, "dropfst", s->drop_first);
    put_key(&to, "dropnrm");
    msgpack_pack_double(&to, s->drop_norm_above);
    put_number(&to, "dropspc", s->drop_special);
    put_number(&to, "dt", s->payload);
    put_number(&to, "epochs", s->epochs);
    put_number(&to, "layer", s->layer);
    put_hash(&to, "model", s->model);
    put_number(&to, "n", s->rows);
    put_number(&to, "seed", s->seed);
    put_number(&to, "shblock", s->shuffle_block);
    put_number(&to, "shuffle", s->shuffle);
    put_key(&to, "special");
    msgpack_pack_array(&to, s->specials);
    for (size_t i = 0; i < s->specials; i++)
        msgpack_pack_uint32(&to, s->special[i]);
    put_hash(&to, "tokens", s->tokens);
    put_number(&to, "width", s->width);

    assert(buffer.data); // a few hundred bytes
    struct hash128 id = hash128(buffer.data, buffer.size);
    msgpack_sbuffer_destroy(&buffer);
    return id;
}

enum status
provenance_measure(struct provenance_sizes *sizes, const struct provenance *s, uint64_t steps)
{
    assert(s->context > 1 && s->rows > 0 && s->shuffle_block > 0);
    uint64_t kept = s->drop_first ? s->context - 1 : s->context;
    // 1 % more than a block needs, for the rows that will be dropped.
    uint64_t wanted = 101 * s->shuffle_block * s->rows;
    sizes->block_contexts = (wanted + 100 * kept - 1) / (100 * kept);
    sizes->blocks = s->contexts / sizes->block_contexts;
    sizes->epoch_batches = s->shuffle_block * sizes->blocks;
    sizes->batches = s->epochs * sizes->epoch_batches;
    sizes->batch_bytes = s->rows * s->width * (s->payload == PROVENANCE_F32 ? 4 : 2);
    if (sizes->blocks == 0)
        return FAIL(CONFIG,
                    "text: %llu contexts of %llu tokens, but one shuffle block takes %llu: more "
                    "text, or a smaller stream.shuffle_block",
                    (unsigned long long)s->contexts, (unsigned long long)s->context,
                    (unsigned long long)sizes->block_contexts);
    if (sizes->batches < steps)
        return FAIL(CONFIG,
                    "text: enough for %llu batches (%llu epochs of %llu), but trainer.steps is "
                    "%llu: more text, more stream.epochs, or fewer steps",
                    (unsigned long long)sizes->batches, (unsigned long long)s->epochs,
                    (unsigned long long)sizes->epoch_batches, (unsigned long long)steps);
    return STATUS_OK;
}

// Batches in the rings of producers on the same machine: rule 3.
#include "proto/dataclient_state.h"

#include "lib/base/say.h"

#include <assert.h>
#include <stdio.h>

bool
dc_wants_shm(const struct dataclient *client, const struct source *source)
{
    const struct dataclient_settings *set = &client->set;
    return set->handover != HANDOVER_INLINE && !source->shm_refused &&
           hash128_same(source->link.welcome.host, set->link.me.host) &&
           (set->handover == HANDOVER_SHM || source->stream.bytes >= HANDOVER_PAYS);
}

void
dataclient_unmapped(struct dataclient *client, size_t p, int64_t now)
{
    assert(p < client->set.producers);
    struct source *source = &client->sources[p];
    source->shm_refused = true;
    dc_post_event(client, SAY_WARN, "data.inline",
                  "producer %zu: its ring cannot be mapped, batches come through the socket", p);
    if (source->shm)
        dc_reattach(client, source, now);
}

void
dataclient_torn(struct dataclient *client, size_t p, const struct msg_batch *batch, int64_t now)
{
    assert(p < client->set.producers);
    struct source *source = &client->sources[p];
    if (source->phase != PHASE_ATTACHED || batch->gen != source->gen) {
        client->stale++;
        return;
    }
    if (batch->q < source->expect) {
        client->dup++;
        return;
    }
    client->torn++;
    dc_reattach(client, source, now);
}

void
dataclient_spoiled(struct dataclient *client, uint64_t seq, int64_t now)
{
    assert(seq == client->app && client->taken > seq);
    client->spoiled++;
    dc_post_event(client, SAY_INFO, "data.spoiled",
                  "batch %llu was replaced while it was read: not applied, asked for again",
                  (unsigned long long)seq);
    client->taken = seq;
    for (size_t i = 0; i < WINDOW_MOST; i++)
        client->staged[i].full = false;
    for (size_t p = 0; p < client->set.producers; p++) {
        struct source *source = &client->sources[p];
        source->expect = share_first(&source->stream, seq);
        if (source->seen_end > source->expect)
            source->seen_end = 0;
        if (source->phase != PHASE_IDLE)
            dc_reattach(client, source, now);
    }
}

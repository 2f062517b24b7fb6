// The slots: which batches they hold, want, and may give up.
#include "proto/dataserver_state.h"

#include "lib/base/say.h"

#include <assert.h>

void
ds_ring_move(struct dataserver *server)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (ds_member_holding(server, &server->members[i]) &&
            ds_member_holds(&server->members[i]) < least)
            least = ds_member_holds(&server->members[i]);
    if (least == UINT64_MAX)
        return; // nobody: it stays where it is
    uint64_t base = share_index(server->stream, share_first(server->stream, least));
    if (base < server->base || base >= server->base + server->set.slots)
        server->epoch++;
    server->base = base;
}

const struct slot *
ds_slot_at(const struct dataserver *server, uint64_t index)
{
    return &server->slots[server->place[index % server->set.slots]];
}

struct slot *
ds_slot_of(struct dataserver *server, uint64_t seq)
{
    uint64_t index = share_index(server->stream, seq);
    return &server->slots[server->place[index % server->set.slots]];
}

// Rule 2: the slot of a number, or a spare one in its place when messages still refer to it. NULL:
// they refer to all the spare ones, too.
static struct slot *
slot_to_fill(struct dataserver *server, uint64_t seq)
{
    struct slot *slot = ds_slot_of(server, seq);
    if (slot->refs == 0)
        return slot;
    for (size_t i = 0; i < server->set.slots; i++) {
        struct slot *other = &server->slots[server->spare[i]];
        if (other->refs > 0)
            continue;
        server->place[share_index(server->stream, seq) % server->set.slots] = server->spare[i];
        server->spare[i] = (uint16_t)(slot - server->slots);
        slot->state = SLOT_EMPTY;
        return other;
    }
    return NULL;
}

bool
ds_in_window(const struct dataserver *server, uint64_t seq)
{
    uint64_t index = share_index(server->stream, seq);
    return index >= server->base && index < server->base + server->set.slots;
}

// The first number nobody wants any more.
static uint64_t
wanted_end(const struct dataserver *server)
{
    uint64_t end = 0;
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        const struct member *member = &server->members[i];
        if (ds_member_holding(server, member) && member->end > end)
            end = member->end;
    }
    return end < server->stream->end ? end : server->stream->end;
}

bool
ds_ring_want(struct dataserver *server, struct dataserver_action *out)
{
    unsigned filling = 0;
    for (size_t i = 0; i < dataserver_places(&server->set); i++)
        filling += server->slots[i].state == SLOT_FILLING;
    if (server->paused || server->leaving || filling >= server->set.fills_most)
        return false;
    uint64_t end = wanted_end(server);
    for (uint64_t k = server->base; k < server->base + server->set.slots; k++) {
        uint64_t seq = share_number(server->stream, k);
        if (seq >= end)
            return false;
        struct slot *slot = ds_slot_of(server, seq);
        if (slot->state == SLOT_FILLING || (slot->state == SLOT_FULL && slot->seq == seq) ||
            !(slot = slot_to_fill(server, seq)))
            continue;
        slot->state = SLOT_FILLING;
        slot->seq = seq;
        slot->stamp = ++server->fillings;
        out->what = DATASERVER_FILL;
        out->slot = (uint16_t)(slot - server->slots);
        out->seq = seq;
        out->stamp = slot->stamp;
        out->epoch = server->epoch;
        return true;
    }
    return false;
}

// A batch is wanted, and messages with others are under way in its slot and in all spare ones.
// Whoever they are for keeps nothing back any more, or the ring would not have moved past their
// batches: they were dropped or detached, and do not read.
bool
ds_ring_stuck(const struct dataserver *server)
{
    uint64_t end = wanted_end(server);
    if (server->paused || server->leaving)
        return false;
    for (size_t i = 0; i < server->set.slots; i++)
        if (server->slots[server->spare[i]].refs == 0)
            return false;
    for (uint64_t k = server->base; k < server->base + server->set.slots; k++) {
        const struct slot *slot = ds_slot_at(server, k);
        uint64_t seq = share_number(server->stream, k);
        if (seq >= end)
            return false;
        if (slot->refs > 0 && slot->seq != seq)
            return true;
    }
    return false;
}

bool
ds_known_hash(const struct dataserver *server, uint64_t seq, uint64_t *hash)
{
    const struct memory *memory = &server->memory[seq % server->set.hashes];
    const struct slot *slot = ds_slot_at(server, share_index(server->stream, seq));
    if (slot->state == SLOT_FULL && slot->seq == seq) {
        *hash = slot->hash;
        return true;
    }
    *hash = memory->hash;
    return memory->after == seq + 1;
}

// Rule 6, for one member. False: it was detached.
bool
ds_member_verify(struct dataserver *server, struct member *member, uint64_t hash)
{
    uint64_t seq = member->seen_end - 1;
    member->seen_end = 0;
    if (hash == member->seen_hash)
        return true;
    server->mismatches++;
    ds_post_event(server, SAY_ERROR, "replay.mismatch",
                  "batch %llu was %016llx for %s, it is %016llx now", (unsigned long long)seq,
                  (unsigned long long)member->seen_hash, member->name, (unsigned long long)hash);
    if (server->set.mismatch_warn)
        return true;
    ds_member_detach(server, member, REFUSAL_REPLAY_MISMATCH,
                     "batch %llu has other bits than before", (unsigned long long)seq);
    return false;
}

void
dataserver_filled(struct dataserver *server, const struct filled *filled, int64_t now)
{
    (void)now;
    assert(filled->slot < dataserver_places(&server->set));
    struct slot *slot = &server->slots[filled->slot];
    assert(slot->state == SLOT_FILLING && slot->seq == filled->seq && slot->refs == 0);
    if (!filled->made) {
        slot->state = SLOT_EMPTY;
        return;
    }
    const struct memory *memory = &server->memory[filled->seq % server->set.hashes];
    uint64_t before = memory->hash;
    slot->state = SLOT_FULL;
    slot->hash = filled->hash;
    slot->context = filled->context;
    slot->saturated = filled->saturated;
    slot->replayed = memory->after == filled->seq + 1;
    if (slot->replayed && before != filled->hash) {
        server->mismatches++;
        ds_post_event(server, SAY_ERROR, "replay.mismatch",
                      "batch %llu was %016llx, it is %016llx now", (unsigned long long)filled->seq,
                      (unsigned long long)before, (unsigned long long)filled->hash);
        if (!server->set.mismatch_warn) {
            slot->state = SLOT_EMPTY;
            for (size_t i = 0; i < MEMBERS_MOST; i++)
                if (server->members[i].used && server->members[i].next <= filled->seq)
                    ds_member_detach(server, &server->members[i], REFUSAL_REPLAY_MISMATCH,
                                     "batch %llu has other bits than before",
                                     (unsigned long long)filled->seq);
            return;
        }
    }
    server->memory[filled->seq % server->set.hashes] =
        (struct memory){filled->seq + 1, filled->hash};
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (server->members[i].used && server->members[i].seen_end == filled->seq + 1)
            (void)ds_member_verify(server, &server->members[i], filled->hash);
}

void
dataserver_released(struct dataserver *server, uint16_t slot, unsigned count)
{
    assert(slot < dataserver_places(&server->set) && server->slots[slot].refs >= count);
    server->slots[slot].refs -= count;
}

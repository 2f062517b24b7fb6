// What goes out: batches whose turn it is, ticks, farewells.
#include "proto/dataserver_state.h"

#include <stdio.h>

// The first number the group's gate keeps back, and who keeps it.
static uint64_t
gate(const struct dataserver *server, const struct member *member, const struct member **by)
{
    uint64_t app = UINT64_MAX, lag = UINT64_MAX;
    if (member->group < 0)
        return UINT64_MAX;
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        const struct member *other = &server->members[i];
        if (!other->used || other->group != member->group || other->pace != PACE_BLOCK ||
            ds_member_finished(other))
            continue;
        if (other->app < app) {
            app = other->app;
            *by = other;
        }
        if (other->lag > 0 && other->lag < lag)
            lag = other->lag;
    }
    return app == UINT64_MAX || lag == UINT64_MAX ? UINT64_MAX : app + lag;
}

// Rule 3. What keeps member->next back; -1: nothing, it can be sent.
static int
held_by(struct dataserver *server, const struct member *member, const struct member **by)
{
    if (ds_at_barrier(server, member))
        return TICK_BARRIER;
    if (member->next >= member->upto || member->next >= member->end)
        return TICK_CREDIT;
    if (member->next >= gate(server, member, by))
        return TICK_RING;
    const struct slot *slot = ds_slot_of(server, member->next);
    if (slot->state == SLOT_FULL && slot->seq == member->next && member->seen_end == 0)
        return -1;
    if (server->paused)
        return TICK_PAUSED;
    if (ds_in_window(server, member->next))
        return TICK_GENERATING;
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        const struct member *other = &server->members[i];
        if (other != member && ds_member_holding(server, other) &&
            share_index(server->stream, share_first(server->stream, ds_member_holds(other))) ==
                server->base)
            *by = other;
    }
    return *by && (*by)->app + server->set.slots < member->next ? TICK_BEHIND : TICK_RING;
}

static bool
next_batch(struct dataserver *server, int64_t now, struct dataserver_action *out)
{
    for (size_t n = 0; n < MEMBERS_MOST; n++) {
        size_t i = (server->turn + n) % MEMBERS_MOST;
        struct member *member = &server->members[i];
        const struct member *by = NULL;
        if (member->hold_until && now >= member->hold_until)
            member->hold_until = 0;
        if (!member->used || !member->lk || member->hold_until || held_by(server, member, &by) >= 0)
            continue;
        struct slot *slot = ds_slot_of(server, member->next);
        out->what = DATASERVER_BATCH;
        out->route = links_by_number(server->links, member->lk)->route;
        out->slot = (uint16_t)(slot - server->slots);
        out->seq = member->next;
        memset(&out->message, 0, sizeof out->message);
        out->message.type = MESSAGE_BATCH;
        struct msg_batch *batch = &out->message.batch;
        batch->gen = member->gen;
        batch->q = member->next;
        batch->epoch = (uint32_t)(member->next / server->stream->per_epoch);
        batch->rows = server->stream->rows;
        batch->width = server->stream->width;
        batch->dtype = server->stream->dtype;
        batch->bytes = server->stream->bytes;
        batch->hash = slot->hash;
        batch->context = slot->context;
        batch->saturated = slot->saturated;
        if ((member->next + 1) % server->stream->per_epoch == 0)
            batch->flags |= BATCH_LAST;
        if (slot->replayed) {
            batch->flags |= BATCH_REPLAYED;
            server->replayed++;
        }
        if (member->shm) {
            batch->slot = out->slot;
            batch->stamp = slot->stamp;
            server->shared++;
        } else {
            slot->refs++;
        }
        server->sent++;
        member->next = share_next(server->stream, member->next);
        member->said_at = now;
        server->turn = i + 1;
        return true;
    }
    return false;
}

static bool
next_tick(struct dataserver *server, int64_t now, struct dataserver_action *out)
{
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        struct member *member = &server->members[i];
        bool over = member->next >= server->stream->end;
        if (!member->used || !member->lk ||
            (now - member->said_at < server->set.links.hb_ms && (!over || member->eos_said)))
            continue;
        member->said_at = now;
        member->eos_said = over;
        out->what = DATASERVER_SEND;
        out->route = links_by_number(server->links, member->lk)->route;
        memset(&out->message, 0, sizeof out->message);
        if (over) {
            out->message.type = MESSAGE_EOS;
            out->message.eos.gen = member->gen;
            out->message.eos.q = server->stream->end;
            return true;
        }
        const struct member *by = NULL;
        struct dataserver_view view;
        dataserver_look(server, &view);
        int why = held_by(server, member, &by);
        out->message.type = MESSAGE_TICK;
        out->message.tick.gen = member->gen;
        out->message.tick.next = member->next;
        out->message.tick.tail = view.tail;
        out->message.tick.head = view.head;
        out->message.tick.why = why < 0 ? TICK_GENERATING : why;
        if (by)
            memcpy(out->message.tick.by, by->name, sizeof by->name);
        return true;
    }
    return false;
}

static bool
next_farewell(struct dataserver *server, struct dataserver_action *out)
{
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        struct member *member = &server->members[i];
        const struct link_peer *peer =
            member->used && member->lk ? links_by_number(server->links, member->lk) : NULL;
        member->used = false;
        if (!peer)
            continue;
        out->what = DATASERVER_SEND;
        out->route = peer->route;
        memset(&out->message, 0, sizeof out->message);
        out->message.type = MESSAGE_DETACHED;
        out->message.detached.gen = member->gen;
        out->message.detached.next = member->next;
        snprintf(out->message.detached.words, sizeof out->message.detached.words, "%s",
                 server->why);
        return true;
    }
    if (server->links->count == 0)
        return false;
    const struct link_peer *peer = &server->links->at[0];
    out->what = DATASERVER_SEND;
    out->route = peer->route;
    memset(&out->message, 0, sizeof out->message);
    out->message.type = MESSAGE_BYE;
    out->message.bye.lk = peer->lk;
    memcpy(out->message.bye.why, server->why, sizeof server->why);
    links_drop(server->links, peer->lk);
    return true;
}

bool
dataserver_next(struct dataserver *server, int64_t now, struct dataserver_action *out)
{
    if (!server->leaving)
        ds_advance(server, now);
    if (server->out_count > 0) {
        *out = server->outbox[server->out_first];
        // Empty again and again: from the beginning each time, or it would go through all its
        // memory.
        server->out_first = --server->out_count > 0 ? (server->out_first + 1) % OUTBOX_MOST : 0;
        return true;
    }
    if (server->leaving)
        return next_farewell(server, out);
    // What is full goes out before its slot may be wanted for something else.
    return next_batch(server, now, out) || ds_ring_want(server, out) || next_tick(server, now, out);
}

static void
sooner(int64_t *wake, int64_t then)
{
    if (then < *wake)
        *wake = then;
}

int64_t
dataserver_wake(const struct dataserver *server)
{
    int64_t wake = links_wake(server->links);
    if (server->out_count > 0 || server->leaving)
        return 0;
    if (server->stuck_at != NEVER)
        sooner(&wake, server->stuck_at + STUCK_MS);
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        const struct member *member = &server->members[i];
        if (!member->used)
            continue;
        sooner(&wake, member->lk ? member->said_at + server->set.links.hb_ms
                                 : member->stale_since + server->set.dead_after_ms);
        if (member->hold_until)
            sooner(&wake, member->hold_until);
        const struct group *group = ds_group_of(server, member);
        if (group && !group->open)
            sooner(&wake, group->since +
                              (group->running ? server->set.rejoin_ms : server->set.barrier_ms));
    }
    return wake;
}

#include "proto/dataserver_state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

const struct dataserver_settings dataserver_presets = {
    .links = {.hb_ms = 2000,
              .lease_ms = 15000,
              .roles = ROLES_ALL,
              .win = WINDOW_MOST,
              .most = 2 * MEMBERS_MOST},
    .slots = 16,
    .fills_most = 4,
    .dead_after_ms = 60000,
    .barrier_ms = 300000,
    .rejoin_ms = 5000,
    .rewind_most = 256,
    .busy_retry_ms = 5000,
    .hashes = 65536,
};

enum status
dataserver_new(struct dataserver **out, const struct dataserver_settings *set, int64_t now)
{
    *out = NULL;
    assert(stream_sane(&set->links.stream));
    if (set->slots < 1 || set->slots > SLOTS_MOST || set->fills_most < 1 || set->hashes < 1)
        return FAIL(CONFIG, "stream.ring_slots is %u, wanted 1 to %d", set->slots, SLOTS_MOST);
    struct dataserver *server = calloc(1, sizeof *server);
    if (!server || !(server->memory = calloc(set->hashes, sizeof server->memory[0]))) {
        free(server);
        return FAIL(CREATE, "data server: out of memory");
    }
    enum status status = links_new(&server->links, &set->links, now);
    if (status != STATUS_OK) {
        free(server->memory);
        free(server);
        return status_pass(status, __FILE__, __LINE__);
    }
    // Touched now: a process should not seem to grow while its first 65,536 batches are made.
    for (size_t i = 0; i < set->hashes; i++)
        server->memory[i].hash = UINT64_MAX;
    server->set = *set;
    server->stream = &server->links->set.stream;
    for (uint16_t i = 0; i < set->slots; i++) {
        server->place[i] = i;
        server->spare[i] = (uint16_t)(set->slots + i);
    }
    server->dice.seed = set->links.seed ^ 0x6461746173657276u;
    server->stuck_at = NEVER;
    snprintf(server->links->state, sizeof server->links->state, "running");
    *out = server;
    return STATUS_OK;
}

void
dataserver_free(struct dataserver **server)
{
    if (*server) {
        links_free(&(*server)->links);
        free((*server)->memory);
        free(*server);
    }
    *server = NULL;
}

void
dataserver_offer(struct dataserver *server, const struct wire_shm *place)
{
    server->shm = *place;
}

// ---- messages

static void
refuse(struct dataserver *server, uint64_t route, uint64_t request, enum refusal code,
       uint32_t retry_ms, const char *words)
{
    server->refused++;
    struct message *message = ds_post_message(server, route, MESSAGE_ERR);
    message_refuse(message, request, code, retry_ms, "%s", words);
}

static void
answer_attached(struct dataserver *server, uint64_t route, const struct member *member)
{
    struct dataserver_view view;
    dataserver_look(server, &view);
    struct message *message = ds_post_message(server, route, MESSAGE_ATTACHED);
    message->attached.r = member->request;
    message->attached.gen = member->gen;
    message->attached.from = member->from;
    message->attached.tail = view.tail;
    message->attached.head = view.head;
    if (member->shm)
        message->attached.shm = server->shm;
    message->attached.source = ds_at_barrier(server, member) ? SOURCE_BARRIER
                               : ds_slot_of(server, member->next)->seq == member->next &&
                                       ds_slot_of(server, member->next)->state == SLOT_FULL
                                   ? SOURCE_RING
                                   : SOURCE_GENERATOR;
}

// Must the ring fall back for this one further than we let it disturb those who are here, or would
// it be let go at once for being behind?
static bool
too_far_behind(const struct dataserver *server, const char *name, const struct msg_attach *attach,
               uint64_t hold)
{
    uint64_t others = UINT64_MAX;
    bool detach = attach->onlag == PACE_DETACH;
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        const struct member *member = &server->members[i];
        if (!ds_member_holding(server, member) || strcmp(member->name, name) == 0 ||
            member->app >= member->end)
            continue;
        const struct group *group = ds_group_of(server, member);
        if (detach && attach->lag > 0 && group && strcmp(group->name, attach->group) == 0 &&
            member->app > attach->app + attach->lag)
            return true;
        if (member->next < member->end && ds_member_holds(member) < others)
            others = ds_member_holds(member);
    }
    if (share_index(server->stream, share_first(server->stream, hold)) >= server->base)
        return false; // the ring is still there, perhaps kept by its own former attachment
    if (others == UINT64_MAX || hold >= others)
        return false;
    return detach || others - hold > server->set.rewind_most;
}

static void
receive_attach(struct dataserver *server, const struct link_peer *peer,
               const struct msg_attach *attach, int64_t now)
{
    const struct wire_stream *stream = server->stream;
    uint64_t route = peer->route, hash = 0;
    struct member *old = ds_member_by_name(server, peer->hello.name);
    if (peer->hello.role != ROLE_TRAINER) {
        refuse(server, route, attach->i, REFUSAL_ROLE, 0, "only trainers attach");
        return;
    }
    if (old && old->lk == peer->lk && attach->i <= old->request) {
        if (attach->i == old->request) // our answer was lost
            answer_attached(server, route, old);
        return;
    }
    if (!hash128_same(attach->stream, stream->id)) {
        refuse(server, route, attach->i, REFUSAL_STREAM, 0, "another stream is served here");
        return;
    }
    if (attach->from > stream->end) {
        refuse(server, route, attach->i, REFUSAL_CURSOR, 0, "beyond the end of the stream");
        return;
    }
    if (attach->win > server->set.links.win || attach->dur > attach->app ||
        attach->app > attach->from || attach->app > attach->upto ||
        attach->upto - attach->app > attach->win || attach->seen_end > attach->from) {
        refuse(server, route, attach->i, REFUSAL_WINDOW, 0, "the watermarks contradict each other");
        return;
    }
    // A batch seen before is compared at once if we remember it, else made again first.
    uint64_t seen = attach->seen_end;
    if (seen && share_first(stream, seen - 1) != seen - 1)
        seen = 0; // another producer's
    uint64_t hold = seen && !ds_known_hash(server, seen - 1, &hash) ? seen - 1 : attach->from;
    if (too_far_behind(server, peer->hello.name, attach, hold)) {
        // Whoever asks anew has given up its former attachment: that must not hold anybody.
        if (old)
            ds_member_remove(server, old);
        refuse(server, route, attach->i, REFUSAL_REPLAY_BUSY, server->set.busy_retry_ms,
               "the generator is far ahead and needed by others");
        return;
    }
    if (old)
        ds_member_remove(server, old);
    struct member *member = NULL;
    for (size_t i = 0; i < MEMBERS_MOST && !member; i++)
        if (!server->members[i].used)
            member = &server->members[i];
    if (!member) {
        refuse(server, route, attach->i, REFUSAL_BUSY, server->set.busy_retry_ms,
               "as many attachments as there may be");
        return;
    }
    memset(member, 0, sizeof *member);
    member->used = true;
    memcpy(member->name, peer->hello.name, sizeof member->name);
    member->lk = peer->lk;
    member->gen = dice_roll(&server->dice);
    member->request = attach->i;
    member->from = attach->from;
    member->next = share_first(stream, attach->from);
    member->end = attach->end < stream->end ? attach->end : stream->end;
    member->upto = attach->upto;
    member->app = attach->app;
    member->dur = attach->dur;
    member->lag = attach->lag;
    member->win = attach->win;
    member->pace = attach->onlag;
    member->seen_end = seen;
    member->seen_hash = attach->seen_hash;
    member->said_at = now;
    member->shm = attach->shm && server->shm.slots > 0 &&
                  hash128_same(peer->hello.host, server->set.links.host);
    member->group = ds_group_join(server, attach->group, attach->group_size, attach->from, now);
    if (seen && ds_known_hash(server, seen - 1, &hash) && !ds_member_verify(server, member, hash))
        return;
    answer_attached(server, route, member);
}

static void
answer_detached(struct dataserver *server, uint64_t route, uint64_t request, uint64_t gen,
                uint64_t next, enum refusal code, const char *words)
{
    struct message *message = ds_post_message(server, route, MESSAGE_DETACHED);
    message->detached.r = request;
    message->detached.gen = gen;
    message->detached.next = next;
    message->detached.code = (uint16_t)code;
    snprintf(message->detached.words, sizeof message->detached.words, "%s", words);
}

static void
receive_credit(struct dataserver *server, const struct link_peer *peer,
               const struct msg_credit *credit)
{
    struct member *member = ds_member_by_link(server, peer->lk);
    if (!member) { // it was told, but did not hear
        answer_detached(server, peer->route, 0, credit->gen, credit->app, REFUSAL_STATE,
                        "not attached");
        return;
    }
    if (credit->gen != member->gen)
        return; // rule of generations: late
    if (credit->dur > credit->app || credit->app > credit->upto ||
        credit->upto - credit->app > member->win || credit->app > member->next) {
        server->refused++;
        ds_member_detach(server, member, REFUSAL_WINDOW,
                         "dur %llu, app %llu, upto %llu contradict each other or what was sent",
                         (unsigned long long)credit->dur, (unsigned long long)credit->app,
                         (unsigned long long)credit->upto);
        return;
    }
    member->upto = credit->upto > member->upto ? credit->upto : member->upto;
    member->app = credit->app > member->app ? credit->app : member->app;
    member->dur = credit->dur > member->dur ? credit->dur : member->dur;
}

static void
receive_detach(struct dataserver *server, const struct link_peer *peer,
               const struct msg_detach *detach)
{
    struct member *member = ds_member_by_link(server, peer->lk);
    uint64_t next = detach->app;
    if (member && member->gen == detach->gen) {
        next = member->next;
        ds_member_remove(server, member);
    }
    answer_detached(server, peer->route, detach->i, detach->gen, next, REFUSAL_NONE, "");
}

void
dataserver_receive(struct dataserver *server, uint64_t route, const struct message *message,
                   int64_t now)
{
    struct message answer;
    const struct link_peer *peer;
    if (server->leaving)
        return;
    enum links_do what = links_receive(server->links, route, message, now, &answer, &peer);
    ds_mark_stale(server, now);
    if (what == LINKS_ANSWER) {
        struct dataserver_action *action = ds_post(server, DATASERVER_SEND);
        action->route = route;
        action->message = answer;
    }
    if (what != LINKS_PASS)
        return;
    if (message->type == MESSAGE_ATTACH)
        receive_attach(server, peer, &message->attach, now);
    else if (message->type == MESSAGE_CREDIT)
        receive_credit(server, peer, &message->credit);
    else if (message->type == MESSAGE_DETACH)
        receive_detach(server, peer, &message->detach);
    ds_ring_move(server);
}

void
dataserver_unreachable(struct dataserver *server, uint64_t route, int64_t now)
{
    links_drop_route(server->links, route);
    ds_mark_stale(server, now);
}

void
dataserver_unsent(struct dataserver *server, const struct dataserver_action *action, int64_t now)
{
    assert(action->what == DATASERVER_BATCH);
    if (action->message.batch.stamp == 0)
        dataserver_released(server, action->slot, 1);
    server->unsent++;
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        struct member *member = &server->members[i];
        if (member->used && member->gen == action->message.batch.gen) {
            member->next = action->message.batch.q;
            member->hold_until = now + 5;
        }
    }
}

void
dataserver_pause(struct dataserver *server, bool paused)
{
    server->paused = paused;
    snprintf(server->links->state, sizeof server->links->state, "%s",
             paused ? "paused" : "running");
}

void
dataserver_leave(struct dataserver *server, const char *why)
{
    server->leaving = true;
    snprintf(server->why, sizeof server->why, "%s", why);
}

// ---- looking in

uint64_t
dataserver_epoch(const struct dataserver *server)
{
    return server->epoch;
}

const struct links *
dataserver_links(const struct dataserver *server)
{
    return server->links;
}

void
dataserver_look(const struct dataserver *server, struct dataserver_view *view)
{
    *view = (struct dataserver_view){.links = server->links->count,
                                     .sent = server->sent,
                                     .shared = server->shared,
                                     .replayed = server->replayed,
                                     .refused = server->refused + server->links->refused,
                                     .dropped = server->dropped,
                                     .mismatches = server->mismatches,
                                     .unsent = server->unsent,
                                     .bounces = server->bounces,
                                     .paused = server->paused};
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        view->members += server->members[i].used;
        view->stale += server->members[i].used && !server->members[i].lk;
    }
    for (size_t i = 0; i < dataserver_places(&server->set); i++) {
        const struct slot *slot = &server->slots[i];
        view->full += slot->state == SLOT_FULL;
        view->filling += slot->state == SLOT_FILLING;
        view->in_flight += slot->refs;
    }
    uint64_t k = server->base;
    view->tail = share_number(server->stream, k);
    while (k < server->base + server->set.slots) {
        const struct slot *slot = ds_slot_at(server, k);
        if (slot->state != SLOT_FULL || slot->seq != share_number(server->stream, k))
            break;
        k++;
    }
    view->head = share_number(server->stream, k);
}

bool
dataserver_member(const struct dataserver *server, size_t i, struct member_view *view)
{
    uint64_t fastest = 0;
    const struct member *member = NULL;
    for (size_t j = 0; j < MEMBERS_MOST; j++)
        if (server->members[j].used) {
            if (server->members[j].app > fastest)
                fastest = server->members[j].app;
            if (i-- == 0)
                member = &server->members[j];
        }
    if (!member)
        return false;
    const struct group *group = ds_group_of(server, member);
    *view = (struct member_view){.live = member->lk != 0,
                                 .shm = member->shm,
                                 .waiting = ds_at_barrier(server, member) || member->seen_end,
                                 .gen = member->gen,
                                 .next = member->next,
                                 .upto = member->upto,
                                 .app = member->app,
                                 .dur = member->dur,
                                 .end = member->end,
                                 .pace = member->pace,
                                 .lag = fastest - member->app};
    memcpy(view->name, member->name, sizeof view->name);
    if (group)
        memcpy(view->group, group->name, sizeof view->group);
    return true;
}

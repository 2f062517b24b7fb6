#include "proto/dataserver.h"

#include "lib/base/say.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NEVER INT64_MAX

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

struct member {
    bool used;
    char name[WIRE_NAME];
    uint64_t lk; // 0: stale
    int64_t stale_since;
    uint64_t gen, request;
    uint64_t from, next, end; // next: the first owned number not sent yet
    uint64_t upto, app, dur;
    uint32_t lag;
    uint16_t win;
    int pace, group;              // group: index, -1 none
    uint64_t seen_end, seen_hash; // to be verified before anything is sent; 0: done
    int64_t said_at, hold_until;
    bool eos_said;
};

struct group {
    bool used, open, running; // running: a member came with from > 0
    char name[WIRE_NAME];
    uint16_t size;
    int64_t since;
};

enum slot_state { SLOT_EMPTY, SLOT_FILLING, SLOT_FULL };
struct slot {
    enum slot_state state;
    uint64_t seq, hash, context;
    uint32_t saturated;
    bool replayed;
    unsigned refs;
};

struct memory {
    uint64_t after, hash; // after: number + 1; 0: none
};

// Farewells to every member and the answers to one event fit; the driver empties it after each.
enum { OUTBOX_MOST = 3 * MEMBERS_MOST + 8 };

struct dataserver {
    struct dataserver_settings set;
    const struct wire_stream *stream; // = &links->set.stream
    struct links *links;
    uint64_t removals; // of links, as last looked at
    struct dice dice;
    struct member members[MEMBERS_MOST];
    struct group groups[GROUPS_MOST];
    struct slot slots[SLOTS_MOST];
    struct memory *memory;
    uint64_t base; // index of the first batch the ring wants
    uint64_t epoch;
    size_t turn; // round robin over members
    bool paused, leaving;
    char why[65];
    uint64_t sent, replayed, refused, dropped, mismatches, unsent;
    struct dataserver_action outbox[OUTBOX_MOST];
    size_t out_first, out_count;
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
    server->set = *set;
    server->stream = &server->links->set.stream;
    server->dice.seed = set->links.seed ^ 0x6461746173657276u;
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

// ---- saying

static struct dataserver_action *
post(struct dataserver *server, enum dataserver_do what)
{
    assert(server->out_count < OUTBOX_MOST);
    struct dataserver_action *action =
        &server->outbox[(server->out_first + server->out_count++) % OUTBOX_MOST];
    action->what = what;
    return action;
}

static struct message *
post_message(struct dataserver *server, uint64_t route, enum message_type type)
{
    struct dataserver_action *action = post(server, DATASERVER_SEND);
    action->route = route;
    memset(&action->message, 0, sizeof action->message);
    action->message.type = type;
    return &action->message;
}

__attribute__((format(printf, 4, 5))) static void
post_event(struct dataserver *server, int level, const char *event, const char *format, ...)
{
    struct dataserver_action *action = post(server, DATASERVER_EVENT);
    action->notice.level = level;
    snprintf(action->notice.event, sizeof action->notice.event, "%s", event);
    va_list args;
    va_start(args, format);
    vsnprintf(action->notice.words, sizeof action->notice.words, format, args);
    va_end(args);
}

// ---- members and groups

static const struct group *
group_of(const struct dataserver *server, const struct member *member)
{
    return member->group < 0 ? NULL : &server->groups[member->group];
}

static bool
at_barrier(const struct dataserver *server, const struct member *member)
{
    const struct group *group = group_of(server, member);
    return group && !group->open;
}

// A group that has been running and is coming back: its members' places are not known yet.
static bool
rejoining(const struct dataserver *server, const struct member *member)
{
    return at_barrier(server, member) && group_of(server, member)->running;
}

static size_t
group_count(const struct dataserver *server, int group)
{
    size_t count = 0;
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        count += server->members[i].used && server->members[i].group == group;
    return count;
}

static void
member_remove(struct dataserver *server, struct member *member)
{
    member->used = false;
    if (member->group >= 0 && group_count(server, member->group) == 0)
        server->groups[member->group].used = false;
}

// Ends an attachment with a reason; a member without a link hears it when it comes back.
__attribute__((format(printf, 4, 5))) static void
member_detach(struct dataserver *server, struct member *member, enum refusal code,
              const char *format, ...)
{
    const struct link_peer *peer = member->lk ? links_by_number(server->links, member->lk) : NULL;
    if (peer) {
        struct message *message = post_message(server, peer->route, MESSAGE_DETACHED);
        message->detached.gen = member->gen;
        message->detached.next = member->next;
        message->detached.code = (uint16_t)code;
        va_list args;
        va_start(args, format);
        vsnprintf(message->detached.words, sizeof message->detached.words, format, args);
        va_end(args);
    }
    member_remove(server, member);
}

static struct member *
member_by_name(struct dataserver *server, const char *name)
{
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (server->members[i].used && strcmp(server->members[i].name, name) == 0)
            return &server->members[i];
    return NULL;
}

static struct member *
member_by_link(struct dataserver *server, uint64_t lk)
{
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (server->members[i].used && server->members[i].lk == lk)
            return &server->members[i];
    return NULL;
}

// Index of the group of that name, made if need be; -1: no name, or no place.
static int
group_join(struct dataserver *server, const char *name, uint16_t size, uint64_t from, int64_t now)
{
    int place = -1;
    if (name[0] == '\0')
        return -1;
    for (int i = 0; i < GROUPS_MOST; i++) {
        struct group *group = &server->groups[i];
        if (group->used && strcmp(group->name, name) == 0) {
            group->running |= from > 0;
            if (size > group->size)
                group->size = size;
            return i;
        }
        if (!group->used && place < 0)
            place = i;
    }
    assert(place >= 0); // as many groups as members
    struct group *group = &server->groups[place];
    *group = (struct group){.used = true, .running = from > 0, .size = size, .since = now};
    memcpy(group->name, name, sizeof group->name);
    return place;
}

// The first number whose bytes the member may still need.
static uint64_t
member_holds(const struct member *member)
{
    uint64_t hold = member->app > member->from ? member->app : member->from;
    return member->seen_end && member->seen_end - 1 < hold ? member->seen_end - 1 : hold;
}

static bool
member_holding(const struct dataserver *server, const struct member *member)
{
    return member->used && !rejoining(server, member) &&
           (member->lk != 0 || member->pace == PACE_BLOCK);
}

// ---- the ring

static void
ring_move(struct dataserver *server)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (member_holding(server, &server->members[i]) &&
            member_holds(&server->members[i]) < least)
            least = member_holds(&server->members[i]);
    if (least == UINT64_MAX)
        return; // nobody: it stays where it is
    uint64_t base = share_index(server->stream, share_first(server->stream, least));
    if (base < server->base || base >= server->base + server->set.slots)
        server->epoch++;
    server->base = base;
}

static struct slot *
slot_of(struct dataserver *server, uint64_t seq)
{
    return &server->slots[share_index(server->stream, seq) % server->set.slots];
}

static bool
in_window(const struct dataserver *server, uint64_t seq)
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
        if (member_holding(server, member) && member->end > end)
            end = member->end;
    }
    return end < server->stream->end ? end : server->stream->end;
}

static bool
ring_want(struct dataserver *server, struct dataserver_action *out)
{
    unsigned filling = 0;
    for (size_t i = 0; i < server->set.slots; i++)
        filling += server->slots[i].state == SLOT_FILLING;
    if (server->paused || server->leaving || filling >= server->set.fills_most)
        return false;
    uint64_t end = wanted_end(server);
    for (uint64_t k = server->base; k < server->base + server->set.slots; k++) {
        uint64_t seq = share_number(server->stream, k);
        if (seq >= end)
            return false;
        struct slot *slot = &server->slots[k % server->set.slots];
        if (slot->state == SLOT_FILLING || slot->refs > 0 ||
            (slot->state == SLOT_FULL && slot->seq == seq))
            continue;
        slot->state = SLOT_FILLING;
        slot->seq = seq;
        out->what = DATASERVER_FILL;
        out->slot = (uint16_t)(k % server->set.slots);
        out->seq = seq;
        out->epoch = server->epoch;
        return true;
    }
    return false;
}

static bool
known_hash(const struct dataserver *server, uint64_t seq, uint64_t *hash)
{
    const struct memory *memory = &server->memory[seq % server->set.hashes];
    const struct slot *slot = &server->slots[share_index(server->stream, seq) % server->set.slots];
    if (slot->state == SLOT_FULL && slot->seq == seq) {
        *hash = slot->hash;
        return true;
    }
    *hash = memory->hash;
    return memory->after == seq + 1;
}

// Rule 6, for one member. False: it was detached.
static bool
member_verify(struct dataserver *server, struct member *member, uint64_t hash)
{
    uint64_t seq = member->seen_end - 1;
    member->seen_end = 0;
    if (hash == member->seen_hash)
        return true;
    server->mismatches++;
    post_event(server, SAY_ERROR, "replay.mismatch",
               "batch %llu was %016llx for %s, it is %016llx now", (unsigned long long)seq,
               (unsigned long long)member->seen_hash, member->name, (unsigned long long)hash);
    if (server->set.mismatch_warn)
        return true;
    member_detach(server, member, REFUSAL_REPLAY_MISMATCH, "batch %llu has other bits than before",
                  (unsigned long long)seq);
    return false;
}

void
dataserver_filled(struct dataserver *server, const struct filled *filled, int64_t now)
{
    (void)now;
    assert(filled->slot < server->set.slots);
    struct slot *slot = &server->slots[filled->slot];
    assert(slot->state == SLOT_FILLING && slot->seq == filled->seq && slot->refs == 0);
    if (!filled->made) {
        slot->state = SLOT_EMPTY;
        return;
    }
    uint64_t before;
    slot->state = SLOT_FULL;
    slot->hash = filled->hash;
    slot->context = filled->context;
    slot->saturated = filled->saturated;
    slot->replayed = known_hash(server, filled->seq, &before);
    if (slot->replayed && before != filled->hash) {
        server->mismatches++;
        post_event(server, SAY_ERROR, "replay.mismatch",
                   "batch %llu was %016llx, it is %016llx now", (unsigned long long)filled->seq,
                   (unsigned long long)before, (unsigned long long)filled->hash);
        if (!server->set.mismatch_warn) {
            slot->state = SLOT_EMPTY;
            for (size_t i = 0; i < MEMBERS_MOST; i++)
                if (server->members[i].used && server->members[i].next <= filled->seq)
                    member_detach(server, &server->members[i], REFUSAL_REPLAY_MISMATCH,
                                  "batch %llu has other bits than before",
                                  (unsigned long long)filled->seq);
            return;
        }
    }
    server->memory[filled->seq % server->set.hashes] =
        (struct memory){filled->seq + 1, filled->hash};
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (server->members[i].used && server->members[i].seen_end == filled->seq + 1)
            (void)member_verify(server, &server->members[i], filled->hash);
}

void
dataserver_released(struct dataserver *server, uint16_t slot, unsigned count)
{
    assert(slot < server->set.slots && server->slots[slot].refs >= count);
    server->slots[slot].refs -= count;
}

// ---- messages

static void
refuse(struct dataserver *server, uint64_t route, uint64_t request, enum refusal code,
       uint32_t retry_ms, const char *words)
{
    server->refused++;
    struct message *message = post_message(server, route, MESSAGE_ERR);
    message_refuse(message, request, code, retry_ms, "%s", words);
}

static void
answer_attached(struct dataserver *server, uint64_t route, const struct member *member)
{
    struct dataserver_view view;
    dataserver_look(server, &view);
    struct message *message = post_message(server, route, MESSAGE_ATTACHED);
    message->attached.r = member->request;
    message->attached.gen = member->gen;
    message->attached.from = member->from;
    message->attached.tail = view.tail;
    message->attached.head = view.head;
    message->attached.source = at_barrier(server, member) ? SOURCE_BARRIER
                               : slot_of(server, member->next)->seq == member->next &&
                                       slot_of(server, member->next)->state == SLOT_FULL
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
        if (!member_holding(server, member) || strcmp(member->name, name) == 0 ||
            member->app >= member->end)
            continue;
        const struct group *group = group_of(server, member);
        if (detach && attach->lag > 0 && group && strcmp(group->name, attach->group) == 0 &&
            member->app > attach->app + attach->lag)
            return true;
        if (member->next < member->end && member_holds(member) < others)
            others = member_holds(member);
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
    struct member *old = member_by_name(server, peer->hello.name);
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
    uint64_t hold = seen && !known_hash(server, seen - 1, &hash) ? seen - 1 : attach->from;
    if (too_far_behind(server, peer->hello.name, attach, hold)) {
        // Whoever asks anew has given up its former attachment: that must not hold anybody.
        if (old)
            member_remove(server, old);
        refuse(server, route, attach->i, REFUSAL_REPLAY_BUSY, server->set.busy_retry_ms,
               "the generator is far ahead and needed by others");
        return;
    }
    if (old)
        member_remove(server, old);
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
    member->group = group_join(server, attach->group, attach->group_size, attach->from, now);
    if (seen && known_hash(server, seen - 1, &hash) && !member_verify(server, member, hash))
        return;
    answer_attached(server, route, member);
}

static void
answer_detached(struct dataserver *server, uint64_t route, uint64_t request, uint64_t gen,
                uint64_t next, enum refusal code, const char *words)
{
    struct message *message = post_message(server, route, MESSAGE_DETACHED);
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
    struct member *member = member_by_link(server, peer->lk);
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
        member_detach(server, member, REFUSAL_WINDOW,
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
    struct member *member = member_by_link(server, peer->lk);
    uint64_t next = detach->app;
    if (member && member->gen == detach->gen) {
        next = member->next;
        member_remove(server, member);
    }
    answer_detached(server, peer->route, detach->i, detach->gen, next, REFUSAL_NONE, "");
}

// Members whose link is gone keep their place for a while.
static void
mark_stale(struct dataserver *server, int64_t now)
{
    if (server->removals == server->links->removals)
        return;
    server->removals = server->links->removals;
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        struct member *member = &server->members[i];
        if (member->used && member->lk && !links_by_number(server->links, member->lk)) {
            member->lk = 0;
            member->stale_since = now;
        }
    }
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
    mark_stale(server, now);
    if (what == LINKS_ANSWER) {
        struct dataserver_action *action = post(server, DATASERVER_SEND);
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
    ring_move(server);
}

void
dataserver_unreachable(struct dataserver *server, uint64_t route, int64_t now)
{
    links_drop_route(server->links, route);
    mark_stale(server, now);
}

void
dataserver_unsent(struct dataserver *server, const struct dataserver_action *action, int64_t now)
{
    assert(action->what == DATASERVER_BATCH);
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

// ---- time

static void
barrier_check(struct dataserver *server, int g, int64_t now)
{
    struct group *group = &server->groups[g];
    size_t here = group_count(server, g);
    int64_t limit = group->running ? server->set.rejoin_ms : server->set.barrier_ms;
    if (here >= group->size) {
        group->open = true;
        return;
    }
    if (now - group->since < limit)
        return;
    bool start = group->running || server->set.barrier_start;
    post_event(server, SAY_WARN, "barrier.timeout", "group %s: %zu of %u came, %s", group->name,
               here, group->size, start ? "starting without the others" : "giving up");
    if (start) {
        group->open = true;
        return;
    }
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (server->members[i].used && server->members[i].group == g)
            member_detach(server, &server->members[i], REFUSAL_DENIED,
                          "group %s: %zu of %u members came in time", group->name, here,
                          group->size);
}

// Pace policy `detach`: whoever is further behind than it said is let go, and so is whoever keeps
// the ring from somebody who has applied all there is in it.
static void
cut_laggards(struct dataserver *server)
{
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        struct member *slow = &server->members[i];
        if (!slow->used || slow->pace != PACE_DETACH || !slow->lk || at_barrier(server, slow))
            continue;
        uint64_t hold = share_first(server->stream, member_holds(slow));
        bool holds_ring = share_index(server->stream, hold) == server->base;
        for (size_t j = 0; j < MEMBERS_MOST; j++) {
            const struct member *fast = &server->members[j];
            if (!fast->used || fast == slow || !fast->lk || fast->app >= fast->end)
                continue;
            uint64_t needs = share_first(server->stream, fast->app);
            bool starved = needs < fast->end &&
                           share_index(server->stream, needs) >= server->base + server->set.slots;
            bool lags = slow->lag > 0 && fast->group == slow->group && slow->group >= 0 &&
                        fast->app > slow->app + slow->lag;
            if (!lags && !(holds_ring && starved))
                continue;
            post_event(server, SAY_WARN, "lagged", "%s is at %llu, %s at %llu", slow->name,
                       (unsigned long long)slow->app, fast->name, (unsigned long long)fast->app);
            member_detach(server, slow, REFUSAL_LAGGED, "at %llu, %s is at %llu",
                          (unsigned long long)slow->app, fast->name, (unsigned long long)fast->app);
            break;
        }
    }
}

static void
advance(struct dataserver *server, int64_t now)
{
    links_expire(server->links, now);
    mark_stale(server, now);
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        struct member *member = &server->members[i];
        if (member->used && !member->lk && now - member->stale_since >= server->set.dead_after_ms) {
            server->dropped++;
            post_event(server, SAY_WARN, "member.dropped",
                       "%s has been away for %u s, last seen at batch %llu", member->name,
                       server->set.dead_after_ms / 1000, (unsigned long long)member->app);
            member_remove(server, member);
        }
    }
    for (int g = 0; g < GROUPS_MOST; g++)
        if (server->groups[g].used && !server->groups[g].open)
            barrier_check(server, g, now);
    ring_move(server);
    cut_laggards(server);
    ring_move(server);
}

// ---- sending

// The first number the group's gate keeps back, and who keeps it.
static uint64_t
gate(const struct dataserver *server, const struct member *member, const struct member **by)
{
    uint64_t app = UINT64_MAX, lag = UINT64_MAX;
    if (member->group < 0)
        return UINT64_MAX;
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        const struct member *other = &server->members[i];
        if (!other->used || other->group != member->group || other->pace != PACE_BLOCK)
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
    if (at_barrier(server, member))
        return TICK_BARRIER;
    if (member->next >= member->upto || member->next >= member->end)
        return TICK_CREDIT;
    if (member->next >= gate(server, member, by))
        return TICK_RING;
    const struct slot *slot = slot_of(server, member->next);
    if (slot->state == SLOT_FULL && slot->seq == member->next && member->seen_end == 0)
        return -1;
    if (server->paused)
        return TICK_PAUSED;
    if (in_window(server, member->next))
        return TICK_GENERATING;
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        const struct member *other = &server->members[i];
        if (other != member && member_holding(server, other) &&
            share_index(server->stream, share_first(server->stream, member_holds(other))) ==
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
        struct slot *slot = slot_of(server, member->next);
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
        slot->refs++;
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
        advance(server, now);
    if (server->out_count > 0) {
        *out = server->outbox[server->out_first];
        server->out_first = (server->out_first + 1) % OUTBOX_MOST;
        server->out_count--;
        return true;
    }
    if (server->leaving)
        return next_farewell(server, out);
    // What is full goes out before its slot may be wanted for something else.
    return next_batch(server, now, out) || ring_want(server, out) || next_tick(server, now, out);
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
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        const struct member *member = &server->members[i];
        if (!member->used)
            continue;
        sooner(&wake, member->lk ? member->said_at + server->set.links.hb_ms
                                 : member->stale_since + server->set.dead_after_ms);
        if (member->hold_until)
            sooner(&wake, member->hold_until);
        const struct group *group = group_of(server, member);
        if (group && !group->open)
            sooner(&wake, group->since +
                              (group->running ? server->set.rejoin_ms : server->set.barrier_ms));
    }
    return wake;
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
                                     .replayed = server->replayed,
                                     .refused = server->refused + server->links->refused,
                                     .dropped = server->dropped,
                                     .mismatches = server->mismatches,
                                     .unsent = server->unsent,
                                     .paused = server->paused};
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        view->members += server->members[i].used;
        view->stale += server->members[i].used && !server->members[i].lk;
    }
    for (size_t i = 0; i < server->set.slots; i++) {
        const struct slot *slot = &server->slots[i];
        view->full += slot->state == SLOT_FULL;
        view->filling += slot->state == SLOT_FILLING;
        view->in_flight += slot->refs;
    }
    view->generating = view->filling > 0;
    uint64_t k = server->base;
    view->tail = share_number(server->stream, k);
    while (k < server->base + server->set.slots) {
        const struct slot *slot = &server->slots[k % server->set.slots];
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
    const struct group *group = group_of(server, member);
    *view = (struct member_view){.live = member->lk != 0,
                                 .waiting = at_barrier(server, member) || member->seen_end,
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

// Who is attached, to which group, and what the passing of time does to them.
#include "proto/dataserver_state.h"

#include "lib/base/say.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

// ---- saying

struct dataserver_action *
ds_post(struct dataserver *server, enum dataserver_do what)
{
    assert(server->out_count < OUTBOX_MOST);
    struct dataserver_action *action =
        &server->outbox[(server->out_first + server->out_count++) % OUTBOX_MOST];
    action->what = what;
    return action;
}

struct message *
ds_post_message(struct dataserver *server, uint64_t route, enum message_type type)
{
    struct dataserver_action *action = ds_post(server, DATASERVER_SEND);
    action->route = route;
    memset(&action->message, 0, sizeof action->message);
    action->message.type = type;
    return &action->message;
}

void
ds_post_event(struct dataserver *server, int level, const char *event, const char *format, ...)
{
    struct dataserver_action *action = ds_post(server, DATASERVER_EVENT);
    action->notice.level = level;
    snprintf(action->notice.event, sizeof action->notice.event, "%s", event);
    va_list args;
    va_start(args, format);
    vsnprintf(action->notice.words, sizeof action->notice.words, format, args);
    va_end(args);
}

// ---- members and groups

const struct group *
ds_group_of(const struct dataserver *server, const struct member *member)
{
    return member->group < 0 ? NULL : &server->groups[member->group];
}

bool
ds_at_barrier(const struct dataserver *server, const struct member *member)
{
    const struct group *group = ds_group_of(server, member);
    return group && !group->open;
}

// A group that has been running and is coming back: its members' places are not known yet.
bool
ds_rejoining(const struct dataserver *server, const struct member *member)
{
    return ds_at_barrier(server, member) && ds_group_of(server, member)->running;
}

static size_t
ds_group_count(const struct dataserver *server, int group)
{
    size_t count = 0;
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        count += server->members[i].used && server->members[i].group == group;
    return count;
}

void
ds_member_remove(struct dataserver *server, struct member *member)
{
    member->used = false;
    if (member->group >= 0 && ds_group_count(server, member->group) == 0)
        server->groups[member->group].used = false;
}

// Ends an attachment with a reason; a member without a link hears it when it comes back.
void
ds_member_detach(struct dataserver *server, struct member *member, enum refusal code,
                 const char *format, ...)
{
    const struct link_peer *peer = member->lk ? links_by_number(server->links, member->lk) : NULL;
    if (peer) {
        struct message *message = ds_post_message(server, peer->route, MESSAGE_DETACHED);
        message->detached.gen = member->gen;
        message->detached.next = member->next;
        message->detached.code = (uint16_t)code;
        va_list args;
        va_start(args, format);
        vsnprintf(message->detached.words, sizeof message->detached.words, format, args);
        va_end(args);
    }
    ds_member_remove(server, member);
}

struct member *
ds_member_by_name(struct dataserver *server, const char *name)
{
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (server->members[i].used && strcmp(server->members[i].name, name) == 0)
            return &server->members[i];
    return NULL;
}

struct member *
ds_member_by_link(struct dataserver *server, uint64_t lk)
{
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (server->members[i].used && server->members[i].lk == lk)
            return &server->members[i];
    return NULL;
}

// Index of the group of that name, made if need be; -1: no name, or no place.
int
ds_group_join(struct dataserver *server, const char *name, uint16_t size, uint64_t from,
              int64_t now)
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
uint64_t
ds_member_holds(const struct member *member)
{
    uint64_t hold = member->app > member->from ? member->app : member->from;
    return member->seen_end && member->seen_end - 1 < hold ? member->seen_end - 1 : hold;
}

// It has all it wants: whoever lingers at its end keeps nobody back who goes further.
bool
ds_member_finished(const struct member *member)
{
    return member->app >= member->end && member->seen_end == 0;
}

bool
ds_member_holding(const struct dataserver *server, const struct member *member)
{
    return member->used && !ds_member_finished(member) && !ds_rejoining(server, member) &&
           (member->lk != 0 || member->pace == PACE_BLOCK);
}

// Members whose link is gone keep their place for a while.
void
ds_mark_stale(struct dataserver *server, int64_t now)
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

// ---- time

static void
barrier_check(struct dataserver *server, int g, int64_t now)
{
    struct group *group = &server->groups[g];
    size_t here = ds_group_count(server, g);
    int64_t limit = group->running ? server->set.rejoin_ms : server->set.barrier_ms;
    if (here >= group->size) {
        group->open = true;
        return;
    }
    if (now - group->since < limit)
        return;
    bool start = group->running || server->set.barrier_start;
    ds_post_event(server, SAY_WARN, "barrier.timeout", "group %s: %zu of %u came, %s", group->name,
                  here, group->size, start ? "starting without the others" : "giving up");
    if (start) {
        group->open = true;
        return;
    }
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (server->members[i].used && server->members[i].group == g)
            ds_member_detach(server, &server->members[i], REFUSAL_DENIED,
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
        if (!slow->used || slow->pace != PACE_DETACH || !slow->lk || ds_at_barrier(server, slow))
            continue;
        uint64_t hold = share_first(server->stream, ds_member_holds(slow));
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
            ds_post_event(server, SAY_WARN, "lagged", "%s is at %llu, %s at %llu", slow->name,
                          (unsigned long long)slow->app, fast->name, (unsigned long long)fast->app);
            ds_member_detach(server, slow, REFUSAL_LAGGED, "at %llu, %s is at %llu",
                             (unsigned long long)slow->app, fast->name,
                             (unsigned long long)fast->app);
            break;
        }
    }
}

// Messages are lent the ring's own memory, and the library cannot cut one connection: so all are
// cut. Those who live attach again in a moment and lose nothing.
static void
bounce(struct dataserver *server, int64_t now)
{
    if (!ds_ring_stuck(server)) {
        server->stuck_at = NEVER;
        return;
    }
    if (server->stuck_at == NEVER)
        server->stuck_at = now;
    if (now - server->stuck_at < STUCK_MS)
        return;
    server->stuck_at = now;
    server->bounces++;
    while (server->links->count > 0)
        links_drop(server->links, server->links->at[0].lk);
    ds_mark_stale(server, now);
    ds_post_event(server, SAY_WARN, "bounce",
                  "slots of the ring are held by batches that nobody reads: every connection is "
                  "made anew");
    ds_post(server, DATASERVER_BOUNCE);
}

void
ds_advance(struct dataserver *server, int64_t now)
{
    links_expire(server->links, now);
    ds_mark_stale(server, now);
    for (size_t i = 0; i < MEMBERS_MOST; i++) {
        struct member *member = &server->members[i];
        if (member->used && !member->lk && now - member->stale_since >= server->set.dead_after_ms) {
            server->dropped++;
            ds_post_event(server, SAY_WARN, "member.dropped",
                          "%s has been away for %u s, last seen at batch %llu", member->name,
                          server->set.dead_after_ms / 1000, (unsigned long long)member->app);
            ds_member_remove(server, member);
        }
    }
    for (int g = 0; g < GROUPS_MOST; g++)
        if (server->groups[g].used && !server->groups[g].open)
            barrier_check(server, g, now);
    ds_ring_move(server);
    cut_laggards(server);
    ds_ring_move(server);
    bounce(server, now);
}

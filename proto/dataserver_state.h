// The inside of proto/dataserver, shared by its four files: dataserver.c (messages, looking in),
// _members.c (who is attached, groups, pace), _ring.c (slots), _send.c (what goes out).
#ifndef PROTO_DATASERVER_STATE_H
#define PROTO_DATASERVER_STATE_H

#include "proto/dataserver.h"

#define NEVER INT64_MAX

enum { STUCK_MS = 250 }; // so long a wanted slot may be under way to nobody

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
    bool shm;
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
    uint64_t seq, hash, context, stamp;
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
    struct wire_shm shm;              // slots 0: the ring cannot be mapped
    struct links *links;
    uint64_t removals; // of links, as last looked at
    struct dice dice;
    struct member members[MEMBERS_MOST];
    struct group groups[GROUPS_MOST];
    struct slot slots[PLACES_MOST];
    uint16_t place[SLOTS_MOST]; // batch k of ours is in slot place[k mod set.slots]
    uint16_t spare[SLOTS_MOST]; // the other slots: nobody is sent these any more
    struct memory *memory;
    uint64_t base; // index of the first batch the ring wants
    uint64_t epoch;
    size_t turn; // round robin over members
    bool paused, leaving;
    char why[65];
    uint64_t sent, shared, replayed, refused, dropped, mismatches, unsent;
    uint64_t fillings; // stamps given out
    int64_t stuck_at;  // since when a wanted slot has been under way to somebody; NEVER
    uint64_t bounces;
    struct dataserver_action outbox[OUTBOX_MOST];
    size_t out_first, out_count;
};

// ---- dataserver_members.c
// The next free place of the outbox.
struct dataserver_action *ds_post(struct dataserver *server, enum dataserver_do what);
struct message *ds_post_message(struct dataserver *server, uint64_t route, enum message_type type);
void ds_post_event(struct dataserver *server, int level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
const struct group *ds_group_of(const struct dataserver *server, const struct member *member);
bool ds_at_barrier(const struct dataserver *server, const struct member *member);
bool ds_rejoining(const struct dataserver *server, const struct member *member);
int ds_group_join(struct dataserver *server, const char *name, uint16_t size, uint64_t from,
                  int64_t now);
struct member *ds_member_by_name(struct dataserver *server, const char *name);
struct member *ds_member_by_link(struct dataserver *server, uint64_t lk);
void ds_member_remove(struct dataserver *server, struct member *member);
void ds_member_detach(struct dataserver *server, struct member *member, enum refusal code,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));
uint64_t ds_member_holds(const struct member *member);
bool ds_member_finished(const struct member *member);
bool ds_member_holding(const struct dataserver *server, const struct member *member);
void ds_mark_stale(struct dataserver *server, int64_t now);
// Leases, dead members, barriers, laggards, and the ring's place.
void ds_advance(struct dataserver *server, int64_t now);

// ---- dataserver_ring.c
void ds_ring_move(struct dataserver *server);
bool ds_ring_want(struct dataserver *server, struct dataserver_action *out);
const struct slot *ds_slot_at(const struct dataserver *server, uint64_t index);
bool ds_ring_stuck(const struct dataserver *server);
struct slot *ds_slot_of(struct dataserver *server, uint64_t seq);
bool ds_in_window(const struct dataserver *server, uint64_t seq);
bool ds_known_hash(const struct dataserver *server, uint64_t seq, uint64_t *hash);
bool ds_member_verify(struct dataserver *server, struct member *member, uint64_t hash);

#endif

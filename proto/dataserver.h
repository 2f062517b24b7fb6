// dataserver: the producer's side of the data plane, as a pure state machine: no I/O, no clock, no
// memory after dataserver_new. A driver (proto/dataport, or the simulator) feeds it messages,
// finished batches and the time, and carries out what dataserver_next asks for.
//
//   member     ATTACH -> [barrier] -> sending, behind its credit -> EOS / DETACHED
//              link lost -> stale: keeps its place for dead_after, then dropped
//   slot       empty -> wanted (the generator fills it) -> full -> wanted again ...
//
// 1. The ring wants to hold `slots` consecutive batches of this producer, beginning with the first
//    one that some member may still need: the least `app`. Nothing else moves it: it advances as
//    members apply, and falls back when one attaches from further behind. So a slow member is back
//    pressure, up to the generator, and memory is `slots` batches, and as many to spare (rule 2),
//    whatever the members do.
// 2. A slot is never rewritten while a message refers to it (refs), or while it is being filled.
//    Messages to a trainer that stands still refer to theirs for as long as it does. So each place
//    of the ring has a slot to spare, and goes on in that one. When several stand still, each from
//    another batch on, and the spare ones are gone too, every connection is made anew (BOUNCE):
//    those who live attach again in a moment and lose nothing.
// 3. A batch goes to a member only if: its credit allows, its group's gate allows (no one more than
//    the least `lag` ahead of the slowest), its group's start barrier is open, it is next in order.
// 4. Watermarks only grow. One that contradicts the others detaches the member with E_WINDOW.
// 5. No batch is discarded silently: whoever does not get one is told by DETACHED or ERR.
// 6. A number made twice must have the same hash, else E_REPLAY_MISMATCH, and nobody gets it.
// 7. Nothing is generated beyond what some member wants (`end`).
// 8. A member on the same machine may read the ring where it is (shm): it is told slot and stamp,
// and
//    no message refers to the slot. Rule 1 keeps the slot as it is until the member has applied it,
//    unless the ring must fall back for somebody, or the member is given up: then the stamp tells
//    it that what it read is no longer that batch, and it attaches again.
#ifndef PROTO_DATASERVER_H
#define PROTO_DATASERVER_H

#include "proto/link.h"
#include "proto/share.h"

enum { MEMBERS_MOST = 64, GROUPS_MOST = 64, SLOTS_MOST = 256, PLACES_MOST = 2 * SLOTS_MOST };

struct dataserver_settings {
    struct links_settings links; // name, inst, host, hb, lease, roles, win, stream, most, seed
    uint16_t slots;              // batches in the ring: 16
    uint16_t fills_most;         // slots being filled at one time: 4
    uint32_t dead_after_ms;      // a lost member keeps its place for: 60,000
    uint32_t barrier_ms;         // wait for a group to assemble: 300,000
    bool barrier_start;          // then start without the missing ones (else detach the others)
    uint32_t rejoin_ms;          // wait for a group that has been running (from > 0): 5,000
    uint64_t rewind_most;        // a late-comer may move the generator back by so many: 256
    bool mismatch_warn;          // rule 6: warn and go on instead
    uint32_t busy_retry_ms;      // told to those who must wait: 5,000
    size_t hashes;               // numbers whose hash is remembered: 65,536
    bool share;                  // dataport: let trainers of this machine map the ring
};
extern const struct dataserver_settings dataserver_presets;
// Slots there are memory for: those of the ring, and the spare ones (rule 2).
static inline uint16_t
dataserver_places(const struct dataserver_settings *set)
{
    return (uint16_t)(2 * set->slots);
}

// BOUNCE: cut every connection, so that slots come back whose messages nobody reads.
enum dataserver_do {
    DATASERVER_SEND,
    DATASERVER_BATCH,
    DATASERVER_FILL,
    DATASERVER_EVENT,
    DATASERVER_BOUNCE
};
struct dataserver_action {
    enum dataserver_do what;
    uint64_t route;         // SEND, BATCH: to whom
    struct message message; // SEND, BATCH: what; a BATCH without a stamp is followed by the slot's
                            // bytes
    uint16_t slot;          // BATCH, FILL
    uint64_t seq;           // FILL: the batch wanted there
    uint64_t epoch;         // FILL: see dataserver_epoch
    uint64_t stamp;         // FILL: of this filling, and of no other
    struct notice notice;   // EVENT
};

// What the generator made.
struct filled {
    uint16_t slot;
    uint64_t seq;
    uint64_t hash;      // XXH3_64 of the payload
    uint64_t context;   // first context of the block
    uint32_t saturated; // values out of the payload type's range
    bool made;          // false: given up because the want had become stale
};

struct dataserver;
CHECKED enum status dataserver_new(struct dataserver **out, const struct dataserver_settings *set,
                                   int64_t now);
void dataserver_free(struct dataserver **server);

// The ring can be mapped by trainers of this machine, at this place (rule 8).
void dataserver_offer(struct dataserver *server, const struct wire_shm *place);

// ---- events
// Any valid small message from a client.
void dataserver_receive(struct dataserver *server, uint64_t route, const struct message *message,
                        int64_t now);
// A FILL is done: from now on the slot's bytes do not change until it is wanted again.
void dataserver_filled(struct dataserver *server, const struct filled *filled, int64_t now);
// `count` messages that referred to the slot are gone (written out, or discarded).
void dataserver_released(struct dataserver *server, uint16_t slot, unsigned count);
// A BATCH could not be sent now (EAGAIN): it will be asked for again.
void dataserver_unsent(struct dataserver *server, const struct dataserver_action *action,
                       int64_t now);
// The route is gone.
void dataserver_unreachable(struct dataserver *server, uint64_t route, int64_t now);
// While paused nothing new is generated.
void dataserver_pause(struct dataserver *server, bool paused);
// Detaches everybody and says BYE; afterwards next yields only these farewells.
void dataserver_leave(struct dataserver *server, const char *why);

// ---- what to do now: call until false, after every event and whenever dataserver_wake is reached.
bool dataserver_next(struct dataserver *server, int64_t now, struct dataserver_action *out);
int64_t dataserver_wake(const struct dataserver *server);

// ---- looking in
// Grows when the ring jumps: a FILL of an earlier epoch may be given up (made = false).
uint64_t dataserver_epoch(const struct dataserver *server);
struct dataserver_view {
    size_t links, members, stale;
    uint64_t tail, head; // the ring holds tail .. head - 1 of this producer's own numbers
    unsigned full, filling, in_flight;
    uint64_t sent, shared, replayed, refused, dropped, mismatches, unsent; // shared: of sent
    uint64_t bounces;
    bool paused;
};
void dataserver_look(const struct dataserver *server, struct dataserver_view *view);
struct member_view {
    char name[WIRE_NAME], group[WIRE_NAME];
    bool live, waiting; // waiting: at the barrier or for verification
    bool shm;           // reads the ring where it is
    uint64_t gen, next, upto, app, dur, end;
    int pace;
    uint64_t lag; // behind the fastest member
};
// false beyond the last.
bool dataserver_member(const struct dataserver *server, size_t i, struct member_view *view);
const struct links *dataserver_links(const struct dataserver *server);

#endif

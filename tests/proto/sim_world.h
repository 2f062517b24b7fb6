// The simulator's world: what is in it, its time, its luck, and the line of things to come.
#ifndef TESTS_PROTO_SIM_WORLD_H
#define TESTS_PROTO_SIM_WORLD_H

#include "lib/base/rng.h"
#include "proto/dataclient.h"
#include "proto/dataserver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    SIM_PRODUCERS = 3,
    SIM_TRAINERS = 4,
    SIM_STEPS = 128,
    SIM_EVENTS = 1 << 14,
    SIM_SLOTS = 16,
    SIM_RINGS = 1024,
};

// Faults of our own making, to see that they are found.
enum plant {
    PLANT_NONE,
    PLANT_APPLY_TWICE,  // the optimiser applies a batch again
    PLANT_STALE_BATCH,  // the client takes batches of older attachments
    PLANT_STALE_CREDIT, // the server believes credit of older attachments
    PLANT_EARLY_DUR,    // durable is told before the disk has it
    PLANT_SKIP_HASH,    // damaged payloads pass
    PLANT_EARLY_REUSE,  // slots are given back before their messages are gone
    PLANT_SKIP_BATCH,   // a taken batch is forgotten
    PLANT_IGNORE_STAMP, // what changed while it was read is applied
    PLANT_COUNT
};

enum event_kind {
    EVENT_TO_SERVER,
    EVENT_TO_CLIENT,
    EVENT_RELEASE, // a message that referred to a slot is gone
    EVENT_WAKE_SERVER,
    EVENT_WAKE_CLIENT,
    EVENT_GENERATED,
    EVENT_COMPUTED,
    EVENT_SAVED,
    EVENT_START_SERVER,
    EVENT_START_CLIENT,
    EVENT_CHAOS,
};

struct sim_event {
    int64_t at;
    uint64_t order;
    enum event_kind kind;
    size_t producer, trainer;
    uint64_t instance; // of the process it concerns (RELEASE, GENERATED: the producer's)
    uint64_t socket;   // TO_*: the client's socket
    uint64_t route;
    bool corrupt, holds_slot;
    uint16_t slot;
    uint64_t seq, hash, gen; // gen: as the message was sent
    uint64_t saved_next, saved_hash;
    struct hash128 saved_chain;
    struct message message;
};

// A producer's ring in shared memory: trainers that map it outlive its owner.
struct sim_ring {
    uint64_t owner; // the producer's instance
    uint64_t content[SIM_SLOTS], stamp[SIM_SLOTS];
};

struct sim_producer {
    struct dataserver *server; // NULL: down
    uint64_t instance;
    int64_t wake_at, frozen_until;
    uint64_t content[SLOTS_MOST]; // hash of what lies in each slot
    unsigned in_flight[SLOTS_MOST];
    struct dataserver_action wants[SLOTS_MOST];
    size_t want_first, want_count;
    bool busy;
};

struct sim_trainer {
    struct dataclient *client; // NULL: down
    uint64_t instance;
    uint32_t inc;
    int64_t wake_at, frozen_until;
    uint64_t socket[SIM_PRODUCERS]; // 0: none
    int64_t last_to_server[SIM_PRODUCERS], last_to_client[SIM_PRODUCERS];
    int64_t cut_up[SIM_PRODUCERS], cut_down[SIM_PRODUCERS]; // the network is cut until
    uint64_t slot_hash[WINDOW_MOST];
    uint64_t mapped[SIM_PRODUCERS];     // owner of the ring that is mapped; 0: none
    struct sim_ring *ring[WINDOW_MOST]; // where the staged batch lies; NULL: in a message
    struct taken pending[WINDOW_MOST];
    size_t pending_first, pending_count;
    bool busy, started, saving;
    uint64_t steps;   // it wants
    uint64_t applied; // next, as the optimiser counts
    struct hash128 chain;
    uint64_t last_hash;
    uint64_t disk_next, disk_hash;
    struct hash128 disk_chain;
    struct dataclient_view before;
};

struct sim {
    uint64_t seed, draws;
    enum plant plant;
    int64_t now, calm_at;
    uint64_t order, sockets, instances, events_done;
    struct sim_event *pool, **heap; // heap: the first heap_count are in order, the rest free
    size_t heap_count;
    size_t producers, trainers;
    uint64_t steps;
    struct wire_stream stream;
    struct dataserver_settings server_set;
    struct dataclient_settings client_set[SIM_TRAINERS];
    struct sim_producer producer[SIM_PRODUCERS];
    struct sim_trainer trainer[SIM_TRAINERS];
    struct sim_ring rings[SIM_RINGS];    // of instance i: i % SIM_RINGS
    struct hash128 chain[SIM_STEPS + 1]; // after so many batches
    // the weather
    unsigned loss, dup, corrupt, reorder, full, disk_fails; // per cent
    int64_t delay_ms, generate_ms, compute_ms, disk_ms;
    uint64_t save_every;
    bool crashes, cuts, freezes, shares; // shares: producers offer their rings
    unsigned unmappable;                 // per cent
    // how it ended
    jmp_buf broken;
    char why[512];
    uint64_t crashed, lost, applied_total, stale, regenerated, shared, spoiled;
};

static inline uint64_t
sim_u64(struct sim *sim)
{
    uint32_t words[4];
    rng_words(words, sim->seed, 0x73696d, 0, sim->draws++);
    return (uint64_t)words[1] << 32 | words[0];
}

static inline uint64_t
sim_below(struct sim *sim, uint64_t n)
{
    return n ? sim_u64(sim) % n : 0;
}

static inline bool
sim_chance(struct sim *sim, unsigned per_cent)
{
    return per_cent > 0 && sim_below(sim, 100) < per_cent;
}

__attribute__((format(printf, 2, 3), noreturn)) static inline void
sim_broken(struct sim *sim, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(sim->why, sizeof sim->why, format, args);
    va_end(args);
    longjmp(sim->broken, 1);
}

#define SIM_CHECK(sim, fact, ...)                                                                  \
    do {                                                                                           \
        if (!(fact))                                                                               \
            sim_broken(sim, __VA_ARGS__);                                                          \
    } while (0)

// The bytes of batch q, as their hash.
static inline uint64_t
sim_hash(const struct sim *sim, uint64_t q)
{
    uint64_t words[2] = {sim->stream.id.low, q};
    return hash64(words, sizeof words);
}

// The ring of a producer's instance; NULL: nobody's any more.
static inline struct sim_ring *
sim_ring_of(struct sim *sim, uint64_t owner)
{
    struct sim_ring *ring = &sim->rings[owner % SIM_RINGS];
    return owner && ring->owner == owner ? ring : NULL;
}

// ---- the heap

static inline bool
sim_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static inline void
sim_schedule(struct sim *sim, const struct sim_event *event)
{
    SIM_CHECK(sim, sim->heap_count < SIM_EVENTS, "too many events under way");
    size_t i = sim->heap_count++;
    struct sim_event *copy = sim->heap[i]; // a free one
    *copy = *event;
    copy->order = sim->order++;
    for (; i > 0 && sim_before(copy, sim->heap[(i - 1) / 2]); i = (i - 1) / 2)
        sim->heap[i] = sim->heap[(i - 1) / 2];
    sim->heap[i] = copy;
}

static inline void
sim_pop(struct sim *sim, struct sim_event *event)
{
    struct sim_event *first = sim->heap[0], *last = sim->heap[--sim->heap_count];
    size_t i = 0;
    *event = *first;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= sim->heap_count)
            break;
        if (child + 1 < sim->heap_count && sim_before(sim->heap[child + 1], sim->heap[child]))
            child++;
        if (!sim_before(sim->heap[child], last))
            break;
        sim->heap[i] = sim->heap[child];
        i = child;
    }
    sim->heap[i] = last;
    sim->heap[sim->heap_count] = first; // free again
}

#endif

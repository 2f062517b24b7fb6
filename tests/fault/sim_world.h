// The simulator's world: what is in it, its time, its luck, and the line of things to come.
#ifndef TESTS_FAULT_SIM_WORLD_H
#define TESTS_FAULT_SIM_WORLD_H

#include "evaluator/agenda.h"
#include "lib/base/rng.h"
#include "proto/blobclient.h"
#include "proto/blobserver.h"
#include "proto/dataclient.h"
#include "proto/dataserver.h"
#include "trainer/board.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    SIM_PRODUCERS = 3,
    SIM_TRAINERS = 4,
    SIM_EVALUATORS = 3,
    SIM_KINDS = 2, // of evaluations
    SIM_STEPS = 128,
    SIM_EVENTS = 1 << 14,
    SIM_SLOTS = 2 * 16, // with the spare ones
    SIM_RINGS = 1024,
    SIM_KEPT = SIM_STEPS,
    SIM_TOLD = 1024, // records of one disk
    SIM_EVER = 512,
    SIM_LETTERS = 2048,
    SIM_FILES = 3,
    SIM_FILE = 1728, // bytes, at most
    SIM_CHUNK = 512,
};

// Faults of our own making, to see that they are found.
enum plant {
    PLANT_NONE,
    PLANT_APPLY_TWICE,     // the optimiser applies a batch again
    PLANT_STALE_BATCH,     // the client takes batches of older attachments
    PLANT_STALE_CREDIT,    // the server believes credit of older attachments
    PLANT_EARLY_DUR,       // durable is told before the disk has it
    PLANT_SKIP_HASH,       // damaged payloads pass
    PLANT_EARLY_REUSE,     // slots are given back before their messages are gone
    PLANT_SKIP_BATCH,      // a taken batch is forgotten
    PLANT_IGNORE_STAMP,    // what changed while it was read is applied
    PLANT_EARLY_ANNOUNCE,  // a checkpoint is announced before it is durable
    PLANT_OTHER_MANIFEST,  // a result of another checkpoint of the step is taken for this one's
    PLANT_CLAIM_FOREVER,   // a claim never ends by time
    PLANT_FORGET_ATTEMPTS, // what died of a checkpoint is not remembered
    PLANT_RESULT_UNSAVED,  // a result is acknowledged before it is in the journal
    PLANT_TELL_FIRST,      // a result is told before it is a file
    PLANT_GREEDY,          // retention removes what waits for its result, and the newest
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
    EVENT_START_EVALUATOR,
    EVENT_WAKE_EVALUATOR,
    EVENT_WAKE_OFFICE,
    EVENT_ANNOUNCED,
    EVENT_ASK, // list, claim, result: a question on ctl
    EVENT_ANSWER,
    EVENT_BLOB_UP,
    EVENT_BLOB_DOWN,
    EVENT_CHAOS,
};

struct sim_event {
    int64_t at;
    uint64_t order;
    enum event_kind kind;
    size_t producer, trainer, evaluator;
    size_t letter;     // its number from 1; 0: none
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

// What is too large for an event.
struct sim_letter {
    uint64_t number; // of a question, and of its answer
    enum agenda_do what;
    char ck[32];
    uint64_t mh, value;
    size_t row; // kind of evaluation
    uint32_t ttl_s;
    bool more, failed, yes;
    // of a blob link
    enum message_type type;
    uint64_t lk, open_i;
    uint32_t handle;
    struct message small;
    struct msg_want want;
    struct msg_close close;
    struct msg_chunk chunk;
    unsigned char payload[SIM_CHUNK];
    size_t count; // a letter ends after so many of these
    struct sim_listed {
        char ck[32];
        uint64_t step, mh;
        bool done, last;
    } at[SIM_KEPT];
};

// A durable checkpoint.
struct sim_checkpoint {
    uint64_t step, mh, last_hash;
    uint32_t inc;
    struct hash128 chain;
};

// A result in a trainer's journal.
struct sim_told {
    char ck[32];
    uint64_t mh;
    size_t kind;
    bool more, failed;
    double score;
};

// What is on an evaluator's disk of one evaluation: result, failure, attempt that was begun.
struct sim_records {
    size_t count;
    struct sim_record {
        size_t trainer, kind;
        uint64_t step, mh; // whose: of one step there may be several
        unsigned inc;      // in which life of the trainer it was written
        bool done, failed;
        uint64_t value;
        unsigned begun;
        size_t holder; // who began, and in which of its lives
        uint64_t holder_life;
    } at[SIM_TOLD];
};

// A producer's ring in shared memory: trainers that map it outlive its owner.
struct sim_ring {
    uint64_t owner; // the producer's instance
    uint64_t content[SIM_SLOTS], stamp[SIM_SLOTS];
};

struct sim_producer {
    struct dataserver *server; // NULL: down
    uint64_t instance, door;   // door: which of its sockets; a bounce makes a new one
    int64_t wake_at, frozen_until;
    int64_t leap;                  // its clock is ahead by this: what its machine slept through
    uint64_t content[PLACES_MOST]; // hash of what lies in each slot
    unsigned in_flight[PLACES_MOST];
    struct dataserver_action wants[SLOTS_MOST];
    size_t want_first, want_count;
    bool busy;
};

struct sim_trainer {
    struct dataclient *client; // NULL: down
    bool gone;                 // for good
    uint64_t instance;
    uint32_t inc;
    int64_t wake_at, frozen_until, leap;
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
    uint64_t durable_most; // of all times: what is on disk may rot
    struct dataclient_view before;
    // for evaluators
    struct board *board; // NULL: down, or nobody evaluates
    struct blobserver *blob;
    uint64_t lent[BLOB_OBJECTS_MOST]; // whose files are open
    int64_t office_wake_at;
    uint64_t office_wake;                         // the number of the wake-up that counts
    size_t kept_count, ever_count, journal_count; // on disk, ascending; ever durable
    struct sim_checkpoint kept[SIM_KEPT];
    struct {
        uint64_t step, mh;
    } ever[SIM_EVER];
    struct sim_told journal[SIM_TOLD];
};

struct sim_evaluator {
    struct agenda *agenda;   // NULL: down
    bool gone;               // for good
    uint64_t instance, wake; // wake: the number of the wake-up that counts
    int64_t wake_at, frozen_until, leap;
    bool up[SIM_TRAINERS]; // answered last time
    bool busy, announced, direct;
    int64_t busy_until; // by its clock, as all here
    struct sim_letter question;
    size_t asked;
    int64_t ask_until, ask_again;
    struct blobclient *fetch[SIM_TRAINERS];
    uint64_t socket[SIM_TRAINERS];
    int64_t last_up[SIM_TRAINERS], last_down[SIM_TRAINERS], cut[SIM_TRAINERS];
    uint64_t gained, value;
    int64_t gained_at;
    // its disk
    struct sim_shelf {
        uint64_t mh, written[SIM_FILES];
        unsigned char bytes[SIM_FILES][SIM_FILE];
    } shelf;
    struct sim_records records;
};

struct sim {
    uint64_t seed, draws;
    enum plant plant;
    int64_t now, calm_at;
    uint64_t order, sockets, instances, events_done;
    struct sim_event *pool, **heap; // heap: the first heap_count are in order, the rest free
    size_t heap_count;
    struct sim_letter *letters;
    size_t letter_free[SIM_LETTERS], letters_free;
    bool again; // the event in hand was scheduled once more
    size_t producers, trainers, evaluators;
    uint64_t steps;
    struct wire_stream stream;
    struct dataserver_settings server_set;
    struct dataclient_settings client_set[SIM_TRAINERS];
    struct sim_producer producer[SIM_PRODUCERS];
    struct sim_trainer trainer[SIM_TRAINERS];
    struct sim_evaluator evaluator[SIM_EVALUATORS];
    struct sim_records shared;           // where evaluators see the trainers' folders
    struct sim_ring rings[SIM_RINGS];    // of instance i: i % SIM_RINGS
    struct hash128 chain[SIM_STEPS + 1]; // after so many batches
    // the weather
    unsigned loss, dup, corrupt, reorder, full, disk_fails; // per cent
    int64_t delay_ms, generate_ms, compute_ms, disk_ms, evaluate_ms;
    uint64_t save_every;
    bool crashes, cuts, freezes, leaps, shares; // shares: producers offer their rings
    bool shared_disk, bad_ones, killers;
    uint32_t claim_ttl_s;
    size_t keep_last, keep_unevaluated;
    unsigned rot;        // per cent
    unsigned unmappable; // per cent
    // how it ended
    jmp_buf broken;
    char why[512];
    uint64_t crashed, lost, applied_total, stale, regenerated, spoiled, shared_reads, bounces;
    uint64_t results, given_up, evaluated, kills, deleted, rotten, fetched, unrecorded, leapt;
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

static inline struct sim_records *
sim_records_of(struct sim *sim, size_t e)
{
    return sim->shared_disk ? &sim->shared : &sim->evaluator[e].records;
}

static inline bool
sim_has_record(struct sim *sim, size_t e, size_t t, uint64_t step, uint64_t mh, size_t kind,
               bool failed)
{
    const struct sim_records *all = sim_records_of(sim, e);
    for (size_t i = 0; i < all->count; i++) {
        const struct sim_record *record = &all->at[i];
        if (record->trainer == t && record->step == step && record->kind == kind &&
            record->mh == mh && (failed ? record->failed : record->done))
            return true;
    }
    return false;
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

// A world in one process: producers and trainers made of the real state machines, a network that
// loses, repeats, delays, reorders, cuts and corrupts, processes that are killed, stopped and
// started again; all decided by one 64-bit seed. After every event the invariants are checked.
//
//   P1 batches are applied strictly in order, each once       P2 the chain is that of the stream
//   P3 what is applied has the stream's bytes                 P5 dur <= app <= taken <= upto
//   P6 nothing of an older attachment has effect              P7 a slot in flight is not rewritten
//   D5 what a producer believes durable is on disk            L1 all end, once the faults do
//   L5 no wake-up without something to do
#ifndef TESTS_PROTO_SIMULATOR_H
#define TESTS_PROTO_SIMULATOR_H

#include "lib/base/rng.h"
#include "proto/dataclient.h"
#include "proto/dataserver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SIM_PRODUCERS = 3, SIM_TRAINERS = 4, SIM_STEPS = 128, SIM_EVENTS = 1 << 14 };

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
    struct taken pending[WINDOW_MOST];
    size_t pending_first, pending_count;
    bool busy, started, saving;
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
    struct hash128 chain[SIM_STEPS + 1]; // after so many batches
    // the weather
    unsigned loss, dup, corrupt, reorder, full; // per cent
    int64_t delay_ms, generate_ms, compute_ms, disk_ms;
    uint64_t save_every;
    bool crashes, cuts, freezes;
    // how it ended
    jmp_buf broken;
    char why[512];
    uint64_t crashed, lost, applied_total, stale, regenerated;
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

// ---- the network

static inline bool
sim_storm(const struct sim *sim)
{
    return sim->now < sim->calm_at;
}

// When a message sent now arrives; -1: never. `last` keeps a connection in order unless reordering.
static inline int64_t
sim_travel(struct sim *sim, int64_t *last, int64_t cut_until)
{
    int64_t at = sim->now + 1 + (int64_t)sim_below(sim, 4);
    if (sim_storm(sim)) {
        if (sim_chance(sim, sim->loss))
            return -1;
        if (sim->now < cut_until) {
            if (sim_chance(sim, 50))
                return -1;
            at = cut_until + 1; // kept by the transport until the cut heals
        }
        at += (int64_t)sim_below(sim, (uint64_t)sim->delay_ms + 1);
        if (sim_chance(sim, sim->reorder))
            return at;
    }
    if (at < *last)
        at = *last;
    *last = at;
    return at;
}

static inline uint64_t
sim_gen(const struct message *message)
{
    switch (message->type) {
    case MESSAGE_BATCH:
        return message->batch.gen;
    case MESSAGE_CREDIT:
        return message->credit.gen;
    default:
        return 0;
    }
}

static inline void
sim_send_up(struct sim *sim, size_t t, size_t p, const struct message *message)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    unsigned copies = sim_storm(sim) && sim_chance(sim, sim->dup) ? 2 : 1;
    if (!trainer->socket[p] || !sim->producer[p].server)
        return; // not connected: the library refuses
    for (; copies > 0; copies--) {
        int64_t at = sim_travel(sim, &trainer->last_to_server[p], trainer->cut_up[p]);
        if (at < 0)
            continue;
        struct sim_event event = {.at = at,
                                  .kind = EVENT_TO_SERVER,
                                  .producer = p,
                                  .trainer = t,
                                  .instance = sim->producer[p].instance,
                                  .socket = trainer->socket[p],
                                  // a connection dies with either end
                                  .route = trainer->socket[p] << 20 | sim->producer[p].instance,
                                  .gen = sim_gen(message),
                                  .message = *message};
        sim_schedule(sim, &event);
    }
}

// The trainer that holds the other end of a route; false: nobody any more.
static inline bool
sim_route(const struct sim *sim, size_t p, uint64_t route, size_t *trainer)
{
    if ((route & 0xfffff) != sim->producer[p].instance)
        return false;
    for (size_t t = 0; t < sim->trainers; t++)
        if (sim->trainer[t].client && sim->trainer[t].socket[p] == route >> 20) {
            *trainer = t;
            return true;
        }
    return false;
}

static inline void
sim_send_down(struct sim *sim, size_t p, const struct dataserver_action *action)
{
    struct sim_producer *producer = &sim->producer[p];
    bool batch = action->what == DATASERVER_BATCH;
    size_t t;
    SIM_CHECK(sim,
              action->message.type != MESSAGE_DETACHED ||
                  action->message.detached.code != REFUSAL_WINDOW,
              "P5: an honest trainer is detached: %s", action->message.detached.words);
    if (!sim_route(sim, p, action->route, &t)) {
        bool noticed = sim_chance(sim, 50);
        if (batch && noticed)
            dataserver_unsent(producer->server, action, sim->now);
        else if (batch)
            dataserver_released(producer->server, action->slot, 1);
        if (noticed)
            dataserver_unreachable(producer->server, action->route, sim->now);
        return;
    }
    if (batch && sim_storm(sim) && sim_chance(sim, sim->full)) {
        dataserver_unsent(producer->server, action, sim->now);
        return;
    }
    struct sim_trainer *trainer = &sim->trainer[t];
    unsigned copies = sim_storm(sim) && sim_chance(sim, sim->dup) ? 2 : 1;
    int64_t held_until = sim->now + 1;
    for (unsigned c = 0; c < copies; c++) {
        int64_t at = sim_travel(sim, &trainer->last_to_client[p], trainer->cut_down[p]);
        if (at < 0)
            continue;
        if (at > held_until)
            held_until = at;
        struct sim_event event = {.at = at,
                                  .kind = EVENT_TO_CLIENT,
                                  .producer = p,
                                  .trainer = t,
                                  .instance = trainer->instance,
                                  .socket = trainer->socket[p],
                                  .slot = action->slot,
                                  .gen = sim_gen(&action->message),
                                  .corrupt =
                                      batch && sim_storm(sim) && sim_chance(sim, sim->corrupt),
                                  .message = action->message};
        // Zero-copy: the bytes are read when they leave, that is, any time before the release.
        event.hash = batch ? producer->content[action->slot] : 0;
        event.seq = batch ? action->message.batch.q : 0;
        event.holds_slot = batch;
        event.route = producer->instance;
        sim_schedule(sim, &event);
    }
    if (batch) {
        producer->in_flight[action->slot]++;
        struct sim_event event = {.at = held_until,
                                  .kind = EVENT_RELEASE,
                                  .producer = p,
                                  .instance = producer->instance,
                                  .slot = action->slot};
        sim_schedule(sim, &event);
        if (sim->plant == PLANT_EARLY_REUSE)
            dataserver_released(producer->server, action->slot, 1);
    }
}

// ---- processes

static inline void
sim_generate(struct sim *sim, size_t p)
{
    struct sim_producer *producer = &sim->producer[p];
    if (producer->busy || producer->want_count == 0)
        return;
    producer->busy = true;
    const struct dataserver_action *want = &producer->wants[producer->want_first];
    struct sim_event event = {.at = sim->now + 1 +
                                    (int64_t)sim_below(sim, (uint64_t)sim->generate_ms),
                              .kind = EVENT_GENERATED,
                              .producer = p,
                              .instance = producer->instance,
                              .slot = want->slot,
                              .seq = want->seq,
                              .gen = want->epoch};
    sim_schedule(sim, &event);
}

static inline void
sim_check_server(struct sim *sim, size_t p)
{
    struct sim_producer *producer = &sim->producer[p];
    struct member_view member;
    for (size_t i = 0; dataserver_member(producer->server, i, &member); i++) {
        size_t t = (size_t)(member.name[1] - '0');
        struct sim_trainer *trainer = &sim->trainer[t];
        SIM_CHECK(sim, member.dur <= member.app, "P5: server: dur > app");
        SIM_CHECK(sim, member.dur <= trainer->disk_next,
                  "D5: producer %zu believes %llu durable, the disk has %llu", p,
                  (unsigned long long)member.dur, (unsigned long long)trainer->disk_next);
        if (!trainer->client)
            continue;
        struct producer_view view;
        dataclient_producer(trainer->client, p, &view);
        if (!view.attached || view.gen != member.gen)
            continue;
        struct dataclient_view client;
        dataclient_look(trainer->client, &client);
        SIM_CHECK(sim, member.app <= client.app && member.upto <= client.upto,
                  "P5: producer %zu believes app %llu, upto %llu of t%zu, which has %llu, %llu", p,
                  (unsigned long long)member.app, (unsigned long long)member.upto, t,
                  (unsigned long long)client.app, (unsigned long long)client.upto);
        SIM_CHECK(sim, member.app <= member.next, "P5: server: app beyond what was sent");
    }
    struct dataserver_view view;
    dataserver_look(producer->server, &view);
    SIM_CHECK(sim, view.full + view.filling <= sim->server_set.slots, "R1: more than the ring");
    SIM_CHECK(sim, view.mismatches == 0, "a batch was made with other bits");
}

static inline void
sim_run_server(struct sim *sim, size_t p)
{
    struct sim_producer *producer = &sim->producer[p];
    struct dataserver_action action;
    while (dataserver_next(producer->server, sim->now, &action)) {
        switch (action.what) {
        case DATASERVER_SEND:
        case DATASERVER_BATCH:
            sim_send_down(sim, p, &action);
            break;
        case DATASERVER_FILL:
            SIM_CHECK(sim, producer->in_flight[action.slot] == 0,
                      "P7: slot %u is refilled while messages refer to it", action.slot);
            SIM_CHECK(sim, producer->want_count < SLOTS_MOST, "more wants than slots");
            producer->wants[(producer->want_first + producer->want_count++) % SLOTS_MOST] = action;
            producer->content[action.slot] = 0;
            break;
        case DATASERVER_EVENT:
            break;
        }
    }
    sim_generate(sim, p);
    sim_check_server(sim, p);
    int64_t wake = dataserver_wake(producer->server);
    SIM_CHECK(sim, wake > sim->now, "L5: producer %zu would wake at once for nothing", p);
    if (wake != INT64_MAX && wake != producer->wake_at) {
        producer->wake_at = wake;
        struct sim_event event = {
            .at = wake, .kind = EVENT_WAKE_SERVER, .producer = p, .instance = producer->instance};
        sim_schedule(sim, &event);
    }
}

static inline void
sim_compute(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    struct taken taken;
    while (dataclient_take(trainer->client, &taken)) {
        if (sim->plant == PLANT_SKIP_BATCH && taken.seq % 17 == 11)
            continue;
        SIM_CHECK(sim, trainer->pending_count < WINDOW_MOST, "R2: more than a window");
        trainer->pending[(trainer->pending_first + trainer->pending_count++) % WINDOW_MOST] = taken;
    }
    if (trainer->busy || trainer->pending_count == 0)
        return;
    trainer->busy = true;
    struct sim_event event = {.at =
                                  sim->now + 1 + (int64_t)sim_below(sim, (uint64_t)sim->compute_ms),
                              .kind = EVENT_COMPUTED,
                              .trainer = t,
                              .instance = trainer->instance};
    sim_schedule(sim, &event);
}

static inline void
sim_check_client(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    struct dataclient_view view, *before = &trainer->before;
    dataclient_look(trainer->client, &view);
    if (view.started) {
        SIM_CHECK(sim, view.dur <= view.app && view.app <= view.taken && view.taken <= view.upto,
                  "P5: dur %llu, app %llu, taken %llu, upto %llu", (unsigned long long)view.dur,
                  (unsigned long long)view.app, (unsigned long long)view.taken,
                  (unsigned long long)view.upto);
        SIM_CHECK(sim, view.upto <= view.app + sim->client_set[t].win, "P5: upto > app + win");
        SIM_CHECK(sim,
                  view.dur >= before->dur && view.app >= before->app &&
                      view.taken >= before->taken && view.upto >= before->upto,
                  "P5: a watermark fell");
        SIM_CHECK(sim, view.staged <= sim->client_set[t].win, "R2: more than a window is staged");
    }
    SIM_CHECK(sim, !view.paused, "paused: %s", view.pause_words);
    *before = view;
}

static inline void
sim_run_client(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    struct dataclient_action action;
    struct dataclient_view view;
    dataclient_look(trainer->client, &view);
    // Three damaged copies of one batch happen in this weather; a person would say `resume`.
    if (view.paused && view.pause_code == REFUSAL_CORRUPT && sim->corrupt)
        dataclient_resume(trainer->client);
    while (dataclient_next(trainer->client, sim->now, &action)) {
        switch (action.what) {
        case DATACLIENT_OPEN:
            SIM_CHECK(sim, !trainer->socket[action.producer], "a second socket");
            trainer->socket[action.producer] = ++sim->sockets;
            trainer->last_to_server[action.producer] = 0;
            trainer->last_to_client[action.producer] = 0;
            break;
        case DATACLIENT_SHUT:
            trainer->socket[action.producer] = 0;
            break;
        case DATACLIENT_SEND:
            SIM_CHECK(sim, trainer->socket[action.producer], "said without a socket");
            sim_send_up(sim, t, action.producer, &action.message);
            break;
        case DATACLIENT_EVENT:
            break;
        }
    }
    if (!trainer->started && dataclient_stream(trainer->client)) {
        trainer->started = true;
        struct cursor cursor = {.next = trainer->disk_next,
                                .last_hash = trainer->disk_hash,
                                .seen = trainer->disk_next > 0};
        dataclient_start(trainer->client, cursor, sim->steps);
        sim_run_client(sim, t);
        return;
    }
    sim_compute(sim, t);
    sim_check_client(sim, t);
    int64_t wake = dataclient_wake(trainer->client);
    SIM_CHECK(sim, wake > sim->now, "L5: trainer %zu would wake at once for nothing", t);
    if (wake != INT64_MAX && wake != trainer->wake_at) {
        trainer->wake_at = wake;
        struct sim_event event = {
            .at = wake, .kind = EVENT_WAKE_CLIENT, .trainer = t, .instance = trainer->instance};
        sim_schedule(sim, &event);
    }
}

static inline void
sim_start_server(struct sim *sim, size_t p)
{
    struct sim_producer *producer = &sim->producer[p];
    if (producer->server)
        return;
    memset(producer, 0, sizeof *producer);
    producer->instance = ++sim->instances;
    struct dataserver_settings set = sim->server_set;
    set.links.stream.shard = (uint16_t)p;
    set.links.inst = (struct hash128){producer->instance, 1};
    set.links.seed = sim_u64(sim);
    snprintf(set.links.name, sizeof set.links.name, "p%zu", p);
    SIM_CHECK(sim, dataserver_new(&producer->server, &set, sim->now) == STATUS_OK, "%s",
              status_words());
    sim_run_server(sim, p);
}

static inline void
sim_start_client(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    if (trainer->client)
        return;
    trainer->instance = ++sim->instances;
    trainer->inc++;
    trainer->busy = trainer->started = trainer->saving = false;
    trainer->pending_count = 0;
    trainer->wake_at = trainer->frozen_until = 0;
    memset(trainer->socket, 0, sizeof trainer->socket);
    memset(&trainer->before, 0, sizeof trainer->before);
    trainer->applied = trainer->disk_next;
    trainer->chain = trainer->disk_chain;
    trainer->last_hash = trainer->disk_hash;
    struct dataclient_settings set = sim->client_set[t];
    set.link.me.inst = (struct hash128){trainer->instance, 2};
    set.link.me.inc = trainer->inc;
    set.seed = sim_u64(sim);
    SIM_CHECK(sim, dataclient_new(&trainer->client, &set) == STATUS_OK, "%s", status_words());
    sim_run_client(sim, t);
}

static inline void
sim_kill_server(struct sim *sim, size_t p)
{
    dataserver_free(&sim->producer[p].server);
    sim->crashed++;
    struct sim_event event = {.at = sim->now + 1 + (int64_t)sim_below(sim, 8000),
                              .kind = EVENT_START_SERVER,
                              .producer = p};
    sim_schedule(sim, &event);
}

static inline void
sim_kill_client(struct sim *sim, size_t t)
{
    dataclient_free(&sim->trainer[t].client);
    sim->crashed++;
    // Half of them are back before what they said has all arrived.
    uint64_t away = sim_chance(sim, 50) ? 50 : 8000;
    struct sim_event event = {.at = sim->now + 1 + (int64_t)sim_below(sim, away),
                              .kind = EVENT_START_CLIENT,
                              .trainer = t};
    sim_schedule(sim, &event);
}

static inline void
sim_chaos(struct sim *sim)
{
    size_t p = sim_below(sim, sim->producers), t = sim_below(sim, sim->trainers);
    switch (sim_below(sim, 6)) {
    case 0:
        if (sim->crashes && sim->producer[p].server)
            sim_kill_server(sim, p);
        break;
    case 1:
    case 2:
        if (sim->crashes && sim->trainer[t].client)
            sim_kill_client(sim, t);
        break;
    case 3:
        if (sim->cuts) {
            int64_t until = sim->now + (int64_t)sim_below(sim, 20000);
            uint64_t ways = sim_below(sim, 3);
            if (ways != 1)
                sim->trainer[t].cut_up[p] = until;
            if (ways != 0)
                sim->trainer[t].cut_down[p] = until;
        }
        break;
    case 4:
        if (sim->freezes)
            sim->trainer[t].frozen_until = sim->now + (int64_t)sim_below(sim, 30000);
        break;
    default:
        if (sim->freezes)
            sim->producer[p].frozen_until = sim->now + (int64_t)sim_below(sim, 10000);
    }
    if (!sim_storm(sim))
        return;
    struct sim_event event = {.at = sim->now + 1 + (int64_t)sim_below(sim, 3000),
                              .kind = EVENT_CHAOS};
    sim_schedule(sim, &event);
}

// ---- events

static inline void
sim_save(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    if (trainer->saving)
        return;
    trainer->saving = true;
    struct sim_event event = {.at = sim->now + 1 + (int64_t)sim_below(sim, (uint64_t)sim->disk_ms),
                              .kind = EVENT_SAVED,
                              .trainer = t,
                              .instance = trainer->instance,
                              .saved_next = trainer->applied,
                              .saved_hash = trainer->last_hash,
                              .saved_chain = trainer->chain};
    sim_schedule(sim, &event);
    if (sim->plant == PLANT_EARLY_DUR)
        dataclient_durable(trainer->client, trainer->applied);
}

static inline void
sim_computed(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    struct taken taken = trainer->pending[trainer->pending_first];
    trainer->pending_first = (trainer->pending_first + 1) % WINDOW_MOST;
    trainer->pending_count--;
    trainer->busy = false;
    uint64_t content = trainer->slot_hash[taken.slot];
    unsigned times = sim->plant == PLANT_APPLY_TWICE && taken.seq % 13 == 5 ? 2 : 1;
    for (; times > 0; times--) {
        SIM_CHECK(sim, taken.seq == trainer->applied, "P1: t%zu applies %llu after %llu", t,
                  (unsigned long long)taken.seq, (unsigned long long)trainer->applied);
        SIM_CHECK(sim, content == sim_hash(sim, taken.seq), "P3: t%zu applies wrong bytes as %llu",
                  t, (unsigned long long)taken.seq);
        trainer->chain = chain_extend(trainer->chain, taken.seq, content);
        trainer->last_hash = content;
        trainer->applied++;
        sim->applied_total++;
        SIM_CHECK(sim, hash128_same(trainer->chain, sim->chain[trainer->applied]),
                  "P2: another chain after %llu batches", (unsigned long long)trainer->applied);
    }
    dataclient_applied(trainer->client, taken.seq);
    if (trainer->applied % sim->save_every == 0 || trainer->applied == sim->steps)
        sim_save(sim, t);
}

static inline void
sim_to_client(struct sim *sim, struct sim_event *event)
{
    size_t t = event->trainer, p = event->producer;
    struct sim_trainer *trainer = &sim->trainer[t];
    if (!trainer->client || trainer->instance != event->instance ||
        trainer->socket[p] != event->socket)
        return; // the socket is gone, and what was in it
    struct producer_view view;
    dataclient_producer(trainer->client, p, &view);
    uint64_t hash = event->hash;
    if (event->corrupt)
        hash ^= 1;
    uint64_t told = hash;
    if (event->message.type == MESSAGE_BATCH) {
        if (sim->plant == PLANT_SKIP_HASH)
            told = event->message.batch.hash;
        if (sim->plant == PLANT_STALE_BATCH && view.attached)
            event->message.batch.gen = view.gen;
    }
    uint64_t bytes = event->message.type == MESSAGE_BATCH ? sim->stream.bytes : 0;
    int slot = dataclient_receive(trainer->client, p, &event->message, bytes, told, sim->now);
    if (slot >= 0) {
        SIM_CHECK(sim, event->gen == view.gen, "P6: t%zu took batch %llu of an older attachment", t,
                  (unsigned long long)event->seq);
        trainer->slot_hash[slot] = hash;
    }
    sim_run_client(sim, t);
}

static inline void
sim_to_server(struct sim *sim, struct sim_event *event)
{
    struct sim_producer *producer = &sim->producer[event->producer];
    if (!producer->server || producer->instance != event->instance)
        return;
    if (sim->plant == PLANT_STALE_CREDIT && event->message.type == MESSAGE_CREDIT) {
        // The server forgets to compare: as if the sender had named what is current.
        struct member_view member;
        const struct links *links = dataserver_links(producer->server);
        for (size_t i = 0; dataserver_member(producer->server, i, &member); i++)
            if ((size_t)(member.name[1] - '0') == event->trainer)
                for (size_t l = 0; l < links->count; l++)
                    if (strcmp(links->at[l].hello.name, member.name) == 0) {
                        event->message.credit.gen = member.gen;
                        event->message.credit.lk = links->at[l].lk;
                        event->route = links->at[l].route;
                    }
    }
    dataserver_receive(producer->server, event->route, &event->message, sim->now);
    sim_run_server(sim, event->producer);
}

static inline void
sim_handle(struct sim *sim, struct sim_event *event)
{
    struct sim_producer *producer = &sim->producer[event->producer];
    struct sim_trainer *trainer = &sim->trainer[event->trainer];
    bool for_server = event->kind == EVENT_TO_SERVER || event->kind == EVENT_RELEASE ||
                      event->kind == EVENT_WAKE_SERVER || event->kind == EVENT_GENERATED;
    bool for_client = event->kind == EVENT_TO_CLIENT || event->kind == EVENT_WAKE_CLIENT ||
                      event->kind == EVENT_COMPUTED || event->kind == EVENT_SAVED;
    if (for_server && producer->instance != event->instance)
        return;
    if (for_client && trainer->instance != event->instance)
        return;
    // A stopped process hears everything later.
    int64_t frozen = for_server ? producer->frozen_until : for_client ? trainer->frozen_until : 0;
    if (frozen > sim->now) {
        event->at = frozen;
        sim_schedule(sim, event);
        return;
    }
    if ((for_server && !producer->server) || (for_client && !trainer->client))
        return;
    switch (event->kind) {
    case EVENT_TO_SERVER:
        sim_to_server(sim, event);
        break;
    case EVENT_TO_CLIENT:
        sim_to_client(sim, event);
        break;
    case EVENT_RELEASE:
        producer->in_flight[event->slot]--;
        if (sim->plant != PLANT_EARLY_REUSE)
            dataserver_released(producer->server, event->slot, 1);
        sim_run_server(sim, event->producer);
        break;
    case EVENT_WAKE_SERVER:
        if (producer->wake_at == event->at || frozen)
            producer->wake_at = 0;
        sim_run_server(sim, event->producer);
        break;
    case EVENT_WAKE_CLIENT:
        if (trainer->wake_at == event->at || frozen)
            trainer->wake_at = 0;
        sim_run_client(sim, event->trainer);
        break;
    case EVENT_GENERATED: {
        producer->busy = false;
        producer->want_first = (producer->want_first + 1) % SLOTS_MOST;
        producer->want_count--;
        bool stale = dataserver_epoch(producer->server) != event->gen;
        struct filled filled = {.slot = event->slot,
                                .seq = event->seq,
                                .hash = sim_hash(sim, event->seq),
                                .made = !(stale && sim_chance(sim, 50))};
        producer->content[event->slot] = filled.made ? filled.hash : 0;
        sim->regenerated++;
        dataserver_filled(producer->server, &filled, sim->now);
        sim_run_server(sim, event->producer);
        break;
    }
    case EVENT_COMPUTED:
        sim_computed(sim, event->trainer);
        sim_run_client(sim, event->trainer);
        break;
    case EVENT_SAVED:
        trainer->saving = false;
        trainer->disk_next = event->saved_next;
        trainer->disk_hash = event->saved_hash;
        trainer->disk_chain = event->saved_chain;
        dataclient_durable(trainer->client, event->saved_next);
        if (trainer->applied == sim->steps && trainer->disk_next < sim->steps)
            sim_save(sim, event->trainer);
        sim_run_client(sim, event->trainer);
        break;
    case EVENT_START_SERVER:
        sim_start_server(sim, event->producer);
        break;
    case EVENT_START_CLIENT:
        sim_start_client(sim, event->trainer);
        break;
    case EVENT_CHAOS:
        sim_chaos(sim);
        break;
    }
}

// ---- a whole life

static inline void
sim_settle(struct sim *sim)
{
    sim->producers = 1 + sim_below(sim, SIM_PRODUCERS);
    sim->trainers = 1 + sim_below(sim, SIM_TRAINERS);
    sim->steps = 10 + sim_below(sim, 50);
    sim->now = 1000000;
    // Every third world is quiet from the start: order and pace alone.
    sim->calm_at =
        sim_below(sim, 4) == 0 ? sim->now : sim->now + 1000 + (int64_t)sim_below(sim, 60000);
    sim->loss = (unsigned)(sim_below(sim, 2) * sim_below(sim, 31));
    sim->dup = (unsigned)(sim_below(sim, 2) * sim_below(sim, 51));
    sim->corrupt = (unsigned)(sim_below(sim, 3) == 0 ? sim_below(sim, 10) : 0);
    sim->reorder = (unsigned)(sim_below(sim, 2) * sim_below(sim, 101));
    sim->full = (unsigned)(sim_below(sim, 2) * sim_below(sim, 50));
    sim->delay_ms = 1 << sim_below(sim, 13);
    sim->generate_ms = 1 << sim_below(sim, 10);
    sim->compute_ms = 1 << sim_below(sim, 10);
    sim->disk_ms = 1 << sim_below(sim, 13);
    sim->save_every = 1 + sim_below(sim, 20);
    sim->crashes = sim_below(sim, 4) > 0;
    sim->cuts = sim_below(sim, 2);
    sim->freezes = sim_below(sim, 2);

    sim->stream = (struct wire_stream){.id = {sim_u64(sim), sim_u64(sim)},
                                       .shards = (uint16_t)sim->producers,
                                       .rows = 4,
                                       .width = 3,
                                       .dtype = PAYLOAD_F32,
                                       .bytes = 48,
                                       .block = (uint32_t)(1 + sim_below(sim, 6)),
                                       .per_epoch = 24,
                                       .end = SIM_STEPS};
    sim->chain[0] = sim->stream.id;
    for (uint64_t q = 0; q < SIM_STEPS; q++)
        sim->chain[q + 1] = chain_extend(sim->chain[q], q, sim_hash(sim, q));

    sim->server_set = dataserver_presets;
    sim->server_set.links.stream = sim->stream;
    sim->server_set.links.hb_ms = 500;
    sim->server_set.links.lease_ms = 4000;
    sim->server_set.slots = (uint16_t)(1 + sim_below(sim, 16));
    sim->server_set.fills_most = (uint16_t)(1 + sim_below(sim, 4));
    sim->server_set.dead_after_ms = (uint32_t)sim_below(sim, 30000);
    sim->server_set.barrier_ms = 20000;
    sim->server_set.barrier_start = true;
    sim->server_set.rejoin_ms = (uint32_t)sim_below(sim, 6000);
    sim->server_set.rewind_most = sim_below(sim, 3) * 16;
    sim->server_set.busy_retry_ms = 1000;
    sim->server_set.hashes = 1 + sim_below(sim, 256);
    bool group = sim_below(sim, 2), detach = sim_below(sim, 3) == 0;
    for (size_t t = 0; t < sim->trainers; t++) {
        struct dataclient_settings *set = &sim->client_set[t];
        memset(set, 0, sizeof *set);
        set->link = link_presets;
        set->link.me.role = ROLE_TRAINER;
        snprintf(set->link.me.name, sizeof set->link.me.name, "t%zu", t);
        snprintf(set->link.me.build, sizeof set->link.me.build, "sim");
        set->producers = sim->producers;
        set->win = (uint16_t)(1 + sim_below(sim, 8));
        set->lag = (uint32_t)(sim_below(sim, 2) * (1 + sim_below(sim, 8)));
        set->onlag = detach && sim_below(sim, 2) ? PACE_DETACH : PACE_BLOCK;
        if (group) {
            snprintf(set->group, sizeof set->group, "farm");
            set->group_size = (uint16_t)(sim_below(sim, 2) * sim->trainers);
        }
        sim->trainer[t].disk_chain = sim->stream.id;
    }
}

static inline bool
sim_over(const struct sim *sim)
{
    for (size_t t = 0; t < sim->trainers; t++)
        if (sim->trainer[t].disk_next < sim->steps)
            return false;
    return true;
}

static inline void
sim_free(struct sim *sim)
{
    for (size_t p = 0; p < SIM_PRODUCERS; p++)
        dataserver_free(&sim->producer[p].server);
    for (size_t t = 0; t < SIM_TRAINERS; t++)
        dataclient_free(&sim->trainer[t].client);
    free(sim->heap);
    free(sim->pool);
}

// What a person wants to see when a seed fails.
static inline void
sim_show(const struct sim *sim)
{
    print_message("  %zu producers, %zu trainers, %llu steps, block %u, slots %u, rewind %llu, "
                  "loss %u, dup %u, reorder %u, delay %lld ms\n",
                  sim->producers, sim->trainers, (unsigned long long)sim->steps, sim->stream.block,
                  sim->server_set.slots, (unsigned long long)sim->server_set.rewind_most, sim->loss,
                  sim->dup, sim->reorder, (long long)sim->delay_ms);
    for (size_t p = 0; p < sim->producers; p++) {
        struct dataserver_view view;
        struct member_view member;
        if (!sim->producer[p].server) {
            print_message("  p%zu is down\n", p);
            continue;
        }
        dataserver_look(sim->producer[p].server, &view);
        print_message("  p%zu: ring %llu..%llu, full %u, filling %u, links %zu\n", p,
                      (unsigned long long)view.tail, (unsigned long long)view.head, view.full,
                      view.filling, view.links);
        for (size_t i = 0; dataserver_member(sim->producer[p].server, i, &member); i++)
            print_message("    %s %s%s next %llu upto %llu app %llu dur %llu end %llu %s\n",
                          member.name, member.live ? "live" : "stale",
                          member.waiting ? " waiting" : "", (unsigned long long)member.next,
                          (unsigned long long)member.upto, (unsigned long long)member.app,
                          (unsigned long long)member.dur, (unsigned long long)member.end,
                          pace_names[member.pace]);
    }
    for (size_t t = 0; t < sim->trainers; t++) {
        struct dataclient_view view;
        if (!sim->trainer[t].client) {
            print_message("  t%zu is down, disk %llu\n", t,
                          (unsigned long long)sim->trainer[t].disk_next);
            continue;
        }
        dataclient_look(sim->trainer[t].client, &view);
        print_message("  t%zu: app %llu taken %llu upto %llu disk %llu, win %u, lag %u, %s, gap "
                      "%llu, reattached %llu, stale %llu\n",
                      t, (unsigned long long)view.app, (unsigned long long)view.taken,
                      (unsigned long long)view.upto, (unsigned long long)sim->trainer[t].disk_next,
                      sim->client_set[t].win, sim->client_set[t].lag,
                      pace_names[sim->client_set[t].onlag], (unsigned long long)view.gap,
                      (unsigned long long)view.reattached, (unsigned long long)view.stale);
        for (size_t p = 0; p < sim->producers; p++) {
            struct producer_view source;
            dataclient_producer(sim->trainer[t].client, p, &source);
            print_message("    p%zu: link %d %s expect %llu waits %s %s\n", p, source.link,
                          source.attached ? "attached" : "-", (unsigned long long)source.expect,
                          tick_names[source.waits], source.by);
        }
    }
}

// True: every invariant held and every trainer came to its end. Else sim->why.
static inline bool
sim_live(struct sim *sim, uint64_t seed, enum plant plant)
{
    static const int64_t patience_ms = 1200000;
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    sim->plant = plant;
    sim->pool = malloc(SIM_EVENTS * sizeof sim->pool[0]);
    sim->heap = malloc(SIM_EVENTS * sizeof sim->heap[0]);
    for (size_t i = 0; i < SIM_EVENTS; i++)
        sim->heap[i] = &sim->pool[i];
    if (setjmp(sim->broken)) {
        if (plant == PLANT_NONE)
            sim_show(sim);
        sim_free(sim);
        return false;
    }
    sim_settle(sim);
    for (size_t p = 0; p < sim->producers; p++)
        sim_schedule(sim, &(struct sim_event){.at = sim->now + (int64_t)sim_below(sim, 5000),
                                              .kind = EVENT_START_SERVER,
                                              .producer = p});
    for (size_t t = 0; t < sim->trainers; t++)
        sim_schedule(sim, &(struct sim_event){.at = sim->now + (int64_t)sim_below(sim, 5000),
                                              .kind = EVENT_START_CLIENT,
                                              .trainer = t});
    if (sim_storm(sim))
        sim_schedule(sim, &(struct sim_event){.at = sim->now + 10, .kind = EVENT_CHAOS});
    while (!sim_over(sim)) {
        struct sim_event event;
        SIM_CHECK(sim, sim->heap_count > 0, "L1: nothing will ever happen again");
        sim_pop(sim, &event);
        sim->now = event.at;
        sim->events_done++;
        SIM_CHECK(sim, sim->now < sim->calm_at + patience_ms,
                  "L1: %lld s after the last fault not all trainers are through",
                  (long long)(patience_ms / 1000));
        SIM_CHECK(sim, sim->events_done < 2000000, "L5: two million events");
        sim_handle(sim, &event);
    }
    for (size_t t = 0; t < sim->trainers; t++)
        SIM_CHECK(sim, hash128_same(sim->trainer[t].disk_chain, sim->chain[sim->steps]),
                  "P2: t%zu ended with another chain", t);
    sim_free(sim);
    return true;
}

#endif

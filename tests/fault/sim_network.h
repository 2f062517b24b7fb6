// The simulator's network: loses, repeats, delays, reorders, cuts and corrupts.
#ifndef TESTS_FAULT_SIM_NETWORK_H
#define TESTS_FAULT_SIM_NETWORK_H

#include "tests/fault/sim_world.h"

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
        // A connection that stalls: what it carried arrives after the next one has begun.
        if (sim_chance(sim, 2))
            at += (int64_t)sim_below(sim, 15000);
        if (sim_chance(sim, sim->reorder))
            return at;
    }
    if (at < *last)
        at = *last;
    *last = at;
    return at;
}

// A letter between a trainer and an evaluator, in the order of their connection.
static inline void
sim_post(struct sim *sim, const struct sim_letter *letter, enum event_kind kind, size_t t, size_t e,
         int64_t *last)
{
    struct sim_evaluator *evaluator = &sim->evaluator[e];
    struct sim_trainer *trainer = &sim->trainer[t];
    bool up = kind == EVENT_ASK || kind == EVENT_BLOB_UP, storm = sim_storm(sim);
    unsigned copies = storm && sim_chance(sim, sim->dup) ? 2 : 1;
    if (up && !trainer->client)
        return; // nobody listens
    for (; copies > 0; copies--) {
        int64_t at = sim->now + 1 + (int64_t)sim_below(sim, 4);
        if (storm && sim_chance(sim, sim->loss))
            continue;
        if (storm && sim->now < evaluator->cut[t]) {
            if (sim_chance(sim, 50))
                continue;
            at = evaluator->cut[t] + 1;
        }
        if (storm)
            at += (int64_t)sim_below(sim, (uint64_t)sim->delay_ms / 4 + 1);
        at = at < *last ? *last : at;
        *last = at;
        SIM_CHECK(sim, sim->letters_free > 0, "R4: too many letters under way");
        struct sim_event event = {.at = at,
                                  .kind = kind,
                                  .trainer = t,
                                  .evaluator = e,
                                  .letter = sim->letter_free[--sim->letters_free],
                                  .instance = up ? trainer->instance : evaluator->instance,
                                  .socket = evaluator->socket[t]};
        memcpy(&sim->letters[event.letter - 1], letter,
               offsetof(struct sim_letter, at) + letter->count * sizeof letter->at[0]);
        sim_schedule(sim, &event);
    }
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
                                  .route = trainer->socket[p] << 20 | sim->producer[p].door,
                                  .gen = sim_gen(message),
                                  .message = *message};
        sim_schedule(sim, &event);
    }
}

// The trainer that holds the other end of a route; false: nobody any more.
static inline bool
sim_route(const struct sim *sim, size_t p, uint64_t route, size_t *trainer)
{
    if ((route & 0xfffff) != sim->producer[p].door)
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
    bool lends = batch && action->message.batch.stamp == 0; // else it stays in the ring
    size_t t;
    SIM_CHECK(sim,
              action->message.type != MESSAGE_DETACHED ||
                  action->message.detached.code != REFUSAL_WINDOW,
              "P5: an honest trainer is detached: %s", action->message.detached.words);
    if (!sim_route(sim, p, action->route, &t)) {
        bool noticed = sim_chance(sim, 50);
        if (batch && noticed)
            dataserver_unsent(producer->server, action, sim->now + producer->leap);
        else if (lends)
            dataserver_released(producer->server, action->slot, 1);
        if (noticed)
            dataserver_unreachable(producer->server, action->route, sim->now + producer->leap);
        return;
    }
    if (batch && sim_storm(sim) && sim_chance(sim, sim->full)) {
        dataserver_unsent(producer->server, action, sim->now + producer->leap);
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
                                      lends && sim_storm(sim) && sim_chance(sim, sim->corrupt),
                                  .message = action->message};
        // Zero-copy: the bytes are read when they leave, that is, any time before the release.
        event.hash = lends ? producer->content[action->slot] : 0;
        event.seq = batch ? action->message.batch.q : 0;
        event.holds_slot = lends;
        event.route = producer->instance << 32 | producer->door;
        sim_schedule(sim, &event);
    }
    // A process that is stopped reads nothing: its messages fill the pipe and stay in the ring.
    if (trainer->frozen_until > held_until)
        held_until = trainer->frozen_until;
    if (lends) {
        producer->in_flight[action->slot]++;
        struct sim_event event = {.at = held_until,
                                  .kind = EVENT_RELEASE,
                                  .producer = p,
                                  .instance = producer->instance,
                                  .route = producer->door,
                                  .slot = action->slot};
        sim_schedule(sim, &event);
        if (sim->plant == PLANT_EARLY_REUSE)
            dataserver_released(producer->server, action->slot, 1);
    }
}

#endif

// The simulator's processes: the real state machines, driven, checked, killed and started again.
#ifndef TESTS_FAULT_SIM_PROCESS_H
#define TESTS_FAULT_SIM_PROCESS_H

#include "tests/fault/sim_evaluator.h"

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
        SIM_CHECK(sim, member.dur <= trainer->durable_most,
                  "D5: producer %zu believes %llu durable, the disk has %llu", p,
                  (unsigned long long)member.dur, (unsigned long long)trainer->durable_most);
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

// The socket is made anew: what was under way on the old one is gone, and its slots are back.
static inline void
sim_bounce(struct sim *sim, struct sim_producer *producer)
{
    producer->door = ++sim->instances;
    sim->bounces++;
    for (uint16_t i = 0; i < PLACES_MOST; i++) {
        if (producer->in_flight[i] && sim->plant != PLANT_EARLY_REUSE)
            dataserver_released(producer->server, i, producer->in_flight[i]);
        producer->in_flight[i] = 0;
    }
}

static inline void
sim_run_server(struct sim *sim, size_t p)
{
    struct sim_producer *producer = &sim->producer[p];
    struct dataserver_action action;
    while (dataserver_next(producer->server, sim->now + producer->leap, &action)) {
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
            struct sim_ring *ring = sim_ring_of(sim, producer->instance);
            ring->content[action.slot] = ring->stamp[action.slot] = 0;
            break;
        case DATASERVER_EVENT:
            break;
        case DATASERVER_BOUNCE:
            sim_bounce(sim, producer);
            break;
        }
    }
    sim_generate(sim, p);
    sim_check_server(sim, p);
    int64_t wake = dataserver_wake(producer->server);
    SIM_CHECK(sim, wake > sim->now + producer->leap,
              "L5: producer %zu would wake at once for nothing", p);
    wake -= wake != INT64_MAX ? producer->leap : 0;
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
                      (view.taken >= before->taken || view.spoiled > before->spoiled) &&
                      view.upto >= before->upto,
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
    while (dataclient_next(trainer->client, sim->now + trainer->leap, &action)) {
        switch (action.what) {
        case DATACLIENT_OPEN:
            SIM_CHECK(sim, !trainer->socket[action.producer], "a second socket");
            trainer->socket[action.producer] = ++sim->sockets;
            trainer->last_to_server[action.producer] = 0;
            trainer->last_to_client[action.producer] = 0;
            break;
        case DATACLIENT_MAP:
            trainer->mapped[action.producer] = action.message.attached.shm.key.low;
            if (sim_storm(sim) && sim_chance(sim, sim->unmappable)) {
                trainer->mapped[action.producer] = 0;
                dataclient_unmapped(trainer->client, action.producer, sim->now + trainer->leap);
            }
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
        dataclient_start(trainer->client, cursor, trainer->steps);
        sim_run_client(sim, t);
        return;
    }
    sim_compute(sim, t);
    sim_check_client(sim, t);
    int64_t wake = dataclient_wake(trainer->client);
    SIM_CHECK(sim, wake > sim->now + trainer->leap,
              "L5: trainer %zu would wake at once for nothing", t);
    wake -= wake != INT64_MAX ? trainer->leap : 0;
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
    int64_t leap = producer->leap;
    memset(producer, 0, sizeof *producer);
    producer->leap = leap;
    producer->instance = ++sim->instances;
    producer->door = producer->instance;
    struct dataserver_settings set = sim->server_set;
    set.links.stream.shard = (uint16_t)p;
    set.links.inst = (struct hash128){producer->instance, 1};
    set.links.seed = sim_u64(sim);
    snprintf(set.links.name, sizeof set.links.name, "p%zu", p);
    SIM_CHECK(sim, dataserver_new(&producer->server, &set, sim->now + producer->leap) == STATUS_OK,
              "%s", status_words());
    sim->rings[producer->instance % SIM_RINGS] = (struct sim_ring){.owner = producer->instance};
    if (sim->shares)
        dataserver_offer(producer->server, &(struct wire_shm){.slots = dataserver_places(&set),
                                                              .stride = 4096,
                                                              .key = {producer->instance, 9}});
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
    memset(trainer->mapped, 0, sizeof trainer->mapped);
    memset(&trainer->before, 0, sizeof trainer->before);
    if (sim_storm(sim) && sim_chance(sim, sim->rot))
        sim_rot(sim, t);
    trainer->applied = trainer->disk_next;
    trainer->chain = trainer->disk_chain;
    trainer->last_hash = trainer->disk_hash;
    struct dataclient_settings set = sim->client_set[t];
    set.link.me.inst = (struct hash128){trainer->instance, 2};
    set.link.me.inc = trainer->inc;
    set.seed = sim_u64(sim);
    SIM_CHECK(sim, dataclient_new(&trainer->client, &set) == STATUS_OK, "%s", status_words());
    sim_open_office(sim, t);
    sim_run_client(sim, t);
    sim_run_office(sim, t);
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
    sim_close_office(&sim->trainer[t]);
    sim->crashed++;
    // What it leaves is judged from its folder, by those who see it.
    sim->trainer[t].gone = sim->shared_disk && sim->evaluators > 0 && sim_chance(sim, 4);
    if (sim->trainer[t].gone)
        return;
    // Half of them are back before what they said has all arrived.
    uint64_t away = sim_chance(sim, 50) ? 50 : 8000;
    struct sim_event event = {.at = sim->now + 1 + (int64_t)sim_below(sim, away),
                              .kind = EVENT_START_CLIENT,
                              .trainer = t};
    sim_schedule(sim, &event);
}

// A machine sleeps: when it wakes its clock is ahead, and all that is due is due at once.
static inline void
sim_leap(struct sim *sim, int64_t *leap, struct sim_event wake)
{
    *leap += (int64_t)sim_below(sim, 2) ? (int64_t)sim_below(sim, 20000)
                                        : (int64_t)sim_below(sim, 3600000);
    sim->leapt++;
    wake.at = sim->now + 1;
    sim_schedule(sim, &wake);
}

static inline void
sim_chaos_of_clocks(struct sim *sim, size_t p, size_t t)
{
    struct sim_producer *producer = &sim->producer[p];
    struct sim_trainer *trainer = &sim->trainer[t];
    switch (sim_below(sim, 3)) {
    case 0:
        sim_leap(sim, &producer->leap,
                 (struct sim_event){
                     .kind = EVENT_WAKE_SERVER, .producer = p, .instance = producer->instance});
        break;
    case 1:
        sim_leap(sim, &trainer->leap,
                 (struct sim_event){
                     .kind = EVENT_WAKE_CLIENT, .trainer = t, .instance = trainer->instance});
        break;
    default:
        if (sim->evaluators > 0) {
            size_t e = sim_below(sim, sim->evaluators);
            sim_leap(sim, &sim->evaluator[e].leap,
                     (struct sim_event){.kind = EVENT_WAKE_EVALUATOR,
                                        .evaluator = e,
                                        .instance = sim->evaluator[e].instance});
        }
    }
}

static inline void
sim_chaos_of_evaluators(struct sim *sim, size_t t)
{
    size_t e = sim_below(sim, sim->evaluators), left = 0;
    struct sim_evaluator *evaluator = &sim->evaluator[e];
    for (size_t i = 0; i < sim->evaluators; i++)
        left += !sim->evaluator[i].gone;
    switch (sim_below(sim, 3)) {
    case 0:
        if (sim->crashes && evaluator->agenda)
            sim_kill_evaluator(sim, e, left > 1 && sim_chance(sim, 40));
        break;
    case 1:
        if (sim->cuts)
            evaluator->cut[t] = sim->now + (int64_t)sim_below(sim, 20000);
        break;
    default:
        if (sim->freezes)
            evaluator->frozen_until = sim->now + (int64_t)sim_below(sim, 30000);
    }
}

static inline void
sim_chaos(struct sim *sim)
{
    size_t p = sim_below(sim, sim->producers), t = sim_below(sim, sim->trainers);
    switch (sim_below(sim, 8)) {
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
    case 5:
        if (sim->leaps)
            sim_chaos_of_clocks(sim, p, t);
        break;
    case 6:
        if (sim->evaluators > 0)
            sim_chaos_of_evaluators(sim, t);
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

#endif

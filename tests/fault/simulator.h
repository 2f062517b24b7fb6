// A world in one process: producers, trainers and evaluators made of the real state machines (data
// plane, links, board, agenda, fetches), a network that loses, repeats, delays, reorders, cuts and
// corrupts, disks that fail and rot, clocks that leap, processes that are killed, stopped and
// started again; all decided by one 64-bit seed. After every event the invariants are checked.
//
//   P1 batches are applied strictly in order, each once       P2 the chain is that of the stream
//   P3 what is applied has the stream's bytes                 P5 dur <= app <= taken <= upto
//   P6 nothing of an older attachment has effect              P7 a slot in flight is not rewritten
//   D5 what is announced, listed, acknowledged or told is on disk
//   D8 the newest checkpoint is never deleted                 R4 letters, records, objects: bounded
//   E1 every checkpoint that is kept gets a result or a recorded failure, once the faults end
//   E2 a result is of the checkpoint it is kept under, and recorded once
//   L1 all end, once the faults do                            L5 no wake-up without something to do
#ifndef TESTS_FAULT_SIMULATOR_H
#define TESTS_FAULT_SIMULATOR_H

#include "tests/fault/sim_process.h"

// ---- events

static inline void
sim_save(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    if (trainer->saving)
        return;
    trainer->saving = true;
    if (sim->plant == PLANT_EARLY_ANNOUNCE && trainer->board)
        sim_announce(sim, t,
                     &(struct sim_checkpoint){.step = trainer->applied,
                                              .mh = sim_mh(sim, t, trainer->applied, trainer->inc),
                                              .inc = trainer->inc});
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

// A checkpoint is durable.
static inline void
sim_saved(struct sim *sim, const struct sim_event *event)
{
    struct sim_trainer *trainer = &sim->trainer[event->trainer];
    struct sim_checkpoint ckpt = {.step = event->saved_next,
                                  .mh =
                                      sim_mh(sim, event->trainer, event->saved_next, trainer->inc),
                                  .last_hash = event->saved_hash,
                                  .inc = trainer->inc,
                                  .chain = event->saved_chain};
    trainer->disk_next = event->saved_next;
    trainer->disk_hash = event->saved_hash;
    trainer->disk_chain = event->saved_chain;
    if (trainer->durable_most < event->saved_next)
        trainer->durable_most = event->saved_next;
    dataclient_durable(trainer->client, event->saved_next);
    SIM_CHECK(sim, trainer->kept_count < SIM_KEPT && trainer->ever_count < SIM_EVER,
              "R4: too many checkpoints");
    trainer->kept[trainer->kept_count++] = ckpt;
    trainer->ever[trainer->ever_count].step = ckpt.step;
    trainer->ever[trainer->ever_count++].mh = ckpt.mh;
    if (!trainer->board) { // nobody evaluates: the newest is enough
        trainer->kept[0] = ckpt;
        trainer->kept_count = 1;
        return;
    }
    sim_announce(sim, event->trainer, &ckpt);
    sim_retain(sim, event->trainer);
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
    struct sim_ring *ring = trainer->ring[taken.slot];
    if (ring) {
        SIM_CHECK(sim, taken.seq == trainer->applied, "P1: t%zu reads %llu after %llu", t,
                  (unsigned long long)taken.seq, (unsigned long long)trainer->applied);
        // The last read is now, whatever was read before.
        content = ring->content[taken.place];
        if (ring->stamp[taken.place] != taken.stamp && sim->plant != PLANT_IGNORE_STAMP) {
            sim->spoiled++;
            trainer->pending_count = 0;
            dataclient_spoiled(trainer->client, taken.seq, sim->now + trainer->leap);
            return;
        }
        sim->shared_reads++;
    }
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
    if (trainer->applied % sim->save_every == 0 || trainer->applied == trainer->steps)
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
    const struct sim_producer *from = &sim->producer[p];
    if (event->route >> 32 == from->instance && (uint32_t)event->route != from->door)
        return; // at the other end
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
    struct sim_ring *ring = NULL;
    const struct msg_batch *batch = &event->message.batch;
    if (event->message.type == MESSAGE_BATCH && batch->stamp != 0) {
        ring = sim_ring_of(sim, trainer->mapped[p]);
        if (!ring || ring->stamp[batch->slot] != batch->stamp) {
            dataclient_torn(trainer->client, p, batch, sim->now + trainer->leap);
            sim_run_client(sim, t);
            return;
        }
        told = hash = ring->content[batch->slot];
    }
    int slot = dataclient_receive(trainer->client, p, &event->message, bytes, told,
                                  sim->now + trainer->leap);
    if (slot >= 0) {
        SIM_CHECK(sim, event->gen == view.gen, "P6: t%zu took batch %llu of an older attachment", t,
                  (unsigned long long)event->seq);
        trainer->slot_hash[slot] = hash;
        trainer->ring[slot] = ring;
    }
    sim_run_client(sim, t);
}

static inline void
sim_to_server(struct sim *sim, struct sim_event *event)
{
    struct sim_producer *producer = &sim->producer[event->producer];
    if (!producer->server || producer->instance != event->instance ||
        (event->route & 0xfffff) != producer->door)
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
    dataserver_receive(producer->server, event->route, &event->message, sim->now + producer->leap);
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
                      event->kind == EVENT_COMPUTED || event->kind == EVENT_SAVED ||
                      event->kind == EVENT_ASK || event->kind == EVENT_BLOB_UP ||
                      event->kind == EVENT_WAKE_OFFICE;
    bool for_evaluator = event->kind == EVENT_WAKE_EVALUATOR || event->kind == EVENT_ANNOUNCED ||
                         event->kind == EVENT_ANSWER || event->kind == EVENT_BLOB_DOWN;
    struct sim_evaluator *evaluator = &sim->evaluator[event->evaluator];
    if (for_server && producer->instance != event->instance)
        return;
    if (for_client && trainer->instance != event->instance)
        return;
    // A stopped process hears everything later.
    if (for_evaluator && (evaluator->instance != event->instance || !evaluator->agenda))
        return;
    int64_t frozen = for_server      ? producer->frozen_until
                     : for_client    ? trainer->frozen_until
                     : for_evaluator ? evaluator->frozen_until
                                     : 0;
    if (frozen > sim->now) {
        event->at = frozen;
        sim->again = true;
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
        if (event->route != producer->door)
            break; // came back with the bounce
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
        uint64_t stamp = producer->wants[producer->want_first].stamp;
        producer->want_first = (producer->want_first + 1) % SLOTS_MOST;
        producer->want_count--;
        bool stale = dataserver_epoch(producer->server) != event->gen;
        struct filled filled = {.slot = event->slot,
                                .seq = event->seq,
                                .hash = sim_hash(sim, event->seq),
                                .made = !(stale && sim_chance(sim, 50))};
        producer->content[event->slot] = filled.made ? filled.hash : 0;
        struct sim_ring *ring = sim_ring_of(sim, producer->instance);
        ring->content[event->slot] = producer->content[event->slot];
        ring->stamp[event->slot] = filled.made ? stamp : 0;
        sim->regenerated++;
        dataserver_filled(producer->server, &filled, sim->now + producer->leap);
        sim_run_server(sim, event->producer);
        break;
    }
    case EVENT_COMPUTED:
        sim_computed(sim, event->trainer);
        sim_run_client(sim, event->trainer);
        break;
    case EVENT_SAVED:
        trainer->saving = false;
        if (!sim_storm(sim) || !sim_chance(sim, sim->disk_fails))
            sim_saved(sim, event);
        if (trainer->applied == trainer->steps && trainer->disk_next < trainer->steps)
            sim_save(sim, event->trainer);
        sim_run_client(sim, event->trainer);
        break;
    case EVENT_START_SERVER:
        sim_start_server(sim, event->producer);
        break;
    case EVENT_START_CLIENT:
        sim_start_client(sim, event->trainer);
        break;
    case EVENT_START_EVALUATOR:
        sim_start_evaluator(sim, event->evaluator);
        break;
    case EVENT_WAKE_EVALUATOR:
        if (event->seq && event->seq != evaluator->wake)
            break; // it was put off; a machine that wakes has no number
        evaluator->wake_at = 0;
        sim_run_evaluator(sim, event->evaluator);
        break;
    case EVENT_WAKE_OFFICE:
        if (event->seq != trainer->office_wake)
            break;
        trainer->office_wake_at = 0;
        sim_run_office(sim, event->trainer);
        break;
    case EVENT_ANNOUNCED:
        SIM_CHECK(sim, sim_was_durable(trainer, event->seq, event->hash),
                  "D5: t%zu announces step %llu, which was never durable", event->trainer,
                  (unsigned long long)event->seq);
        evaluator->announced = true;
        sim_run_evaluator(sim, event->evaluator);
        break;
    case EVENT_ASK:
        if (trainer->board)
            sim_ask(sim, event->trainer, event->evaluator, &sim->letters[event->letter - 1]);
        break;
    case EVENT_ANSWER:
        sim_answered(sim, event->evaluator, &sim->letters[event->letter - 1]);
        sim_run_evaluator(sim, event->evaluator);
        break;
    case EVENT_BLOB_UP:
        if (trainer->blob)
            sim_blob_up(sim, event->trainer, event->socket, &sim->letters[event->letter - 1]);
        break;
    case EVENT_BLOB_DOWN:
        if (evaluator->socket[event->trainer] == event->socket) {
            sim_take_blob(sim, event->evaluator, event->trainer, &sim->letters[event->letter - 1]);
            sim_run_evaluator(sim, event->evaluator);
        }
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
    sim->evaluators = sim_below(sim, 1 + SIM_EVALUATORS);
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
    sim->disk_fails = (unsigned)(sim_below(sim, 2) * sim_below(sim, 80));
    sim->delay_ms = 1 << sim_below(sim, 13);
    sim->generate_ms = 1 << sim_below(sim, 10);
    sim->compute_ms = 1 << sim_below(sim, 10);
    sim->disk_ms = 1 << sim_below(sim, 13);
    sim->evaluate_ms = 1 << sim_below(sim, 15);
    sim->save_every = 1 + sim_below(sim, 20);
    sim->crashes = sim_below(sim, 4) > 0;
    sim->cuts = sim_below(sim, 2);
    sim->freezes = sim_below(sim, 2);
    sim->shares = sim_below(sim, 2);
    sim->leaps = sim_below(sim, 2);
    sim->shared_disk = sim_below(sim, 3) == 0;
    sim->bad_ones = sim_below(sim, 2);
    sim->killers = sim_below(sim, 2);
    sim->rot = (unsigned)(sim_below(sim, 2) * sim_below(sim, 80));
    sim->claim_ttl_s = 2 + (uint32_t)sim_below(sim, 100);
    sim->keep_last = 1 + sim_below(sim, 4) + (sim->rot > 0);
    sim->keep_unevaluated = sim_below(sim, 9);
    sim->unmappable = (unsigned)(sim_below(sim, 4) == 0 ? sim_below(sim, 60) : 0);

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
        set->handover = sim_below(sim, 4) ? HANDOVER_SHM : HANDOVER_INLINE;
        set->win = (uint16_t)(1 + sim_below(sim, 8));
        set->lag = (uint32_t)(sim_below(sim, 2) * (1 + sim_below(sim, 8)));
        set->onlag = detach && sim_below(sim, 2) ? PACE_DETACH : PACE_BLOCK;
        if (group) {
            snprintf(set->group, sizeof set->group, "farm");
            set->group_size = (uint16_t)(sim_below(sim, 2) * sim->trainers);
        }
        // Some end earlier, and linger while the others go on.
        sim->trainer[t].steps = sim->steps - sim_below(sim, 2) * sim_below(sim, sim->steps);
        sim->trainer[t].disk_chain = sim->stream.id;
    }
}

static inline bool
sim_over(const struct sim *sim)
{
    for (size_t t = 0; t < sim->trainers; t++)
        if (sim->trainer[t].disk_next < sim->trainer[t].steps && !sim->trainer[t].gone)
            return false;
    return true;
}

// Has everything that is kept a result or a recorded failure, as its trainer knows?
static inline bool
sim_all_judged(struct sim *sim)
{
    for (size_t t = 0; sim->evaluators > 0 && t < sim->trainers; t++) {
        const struct sim_trainer *trainer = &sim->trainer[t];
        if (trainer->gone ? !sim_has_records(sim, t)
                          : !trainer->board || !board_all_done(trainer->board))
            return false;
    }
    return true;
}

static inline void
sim_free(struct sim *sim)
{
    for (size_t p = 0; p < SIM_PRODUCERS; p++)
        dataserver_free(&sim->producer[p].server);
    for (size_t t = 0; t < SIM_TRAINERS; t++)
        dataclient_free(&sim->trainer[t].client);
    for (size_t t = 0; t < SIM_TRAINERS; t++)
        sim_close_office(&sim->trainer[t]);
    for (size_t e = 0; e < SIM_EVALUATORS; e++) {
        agenda_free(&sim->evaluator[e].agenda);
        for (size_t t = 0; t < SIM_TRAINERS; t++)
            blobclient_free(&sim->evaluator[e].fetch[t]);
    }
    free(sim->letters);
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
    sim->letters = malloc(SIM_LETTERS * sizeof sim->letters[0]);
    for (size_t i = 0; i < SIM_LETTERS; i++)
        sim->letter_free[sim->letters_free++] = SIM_LETTERS - i;
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
    for (size_t e = 0; e < sim->evaluators; e++)
        sim_schedule(sim, &(struct sim_event){.at = sim->now + (int64_t)sim_below(sim, 5000),
                                              .kind = EVENT_START_EVALUATOR,
                                              .evaluator = e});
    if (sim_storm(sim))
        sim_schedule(sim, &(struct sim_event){.at = sim->now + 10, .kind = EVENT_CHAOS});
    while (!sim_over(sim) || !sim_all_judged(sim)) {
        struct sim_event event;
        SIM_CHECK(sim, sim->heap_count > 0, "L1: nothing will ever happen again");
        sim_pop(sim, &event);
        sim->now = event.at;
        sim->events_done++;
        SIM_CHECK(sim, sim->now < sim->calm_at + 3 * patience_ms || !sim_over(sim),
                  "E1: %lld s after the last fault a checkpoint has no result and no failure",
                  (long long)(3 * patience_ms / 1000));
        SIM_CHECK(sim, sim->now < sim->calm_at + patience_ms || sim_over(sim),
                  "L1: %lld s after the last fault not all trainers are through",
                  (long long)(patience_ms / 1000));
        SIM_CHECK(sim, sim->events_done < 2000000, "L5: two million events");
        sim->again = false;
        sim_handle(sim, &event);
        if (event.letter && !sim->again)
            sim->letter_free[sim->letters_free++] = event.letter;
    }
    for (size_t t = 0; t < sim->trainers; t++) {
        SIM_CHECK(sim,
                  hash128_same(sim->trainer[t].disk_chain,
                               sim->chain[sim->trainer[t].gone ? sim->trainer[t].disk_next
                                                               : sim->trainer[t].steps]),
                  "P2: t%zu ended with another chain", t);
        SIM_CHECK(sim, sim->evaluators == 0 || sim->unrecorded > 0 || sim_has_records(sim, t),
                  "E1: a checkpoint of t%zu is done and has no record on any disk", t);
    }
    sim_free(sim);
    return true;
}

#endif

// The simulator's trainers as evaluators see them: checkpoints on a disk that retention clears and
// that rots, a journal of results, the real board and the real blobserver.
#ifndef TESTS_FAULT_SIM_OFFICE_H
#define TESTS_FAULT_SIM_OFFICE_H

#include "tests/fault/sim_network.h"

#include <math.h>

// ---- what a checkpoint is: everything follows from the hash of its manifest

static const char *const sim_files[SIM_FILES] = {"manifest.json", "cfg.json", "weights"};

static inline uint64_t
sim_mh(const struct sim *sim, size_t t, uint64_t step, uint32_t inc)
{
    uint64_t words[4] = {sim->seed, t, step, inc};
    return hash64(words, sizeof words) | 1;
}

static inline size_t
sim_file_bytes(uint64_t mh, size_t file)
{
    return file == 0 ? 100 + mh % 50 : file == 1 ? mh / 64 % 3 * 20 : 200 + mh / 512 % 1500;
}

static inline void
sim_file(unsigned char out[SIM_FILE], uint64_t mh, size_t file)
{
    uint64_t state = mh ^ (file + 1) * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < SIM_FILE; i += sizeof state) {
        state = (state ^ state >> 29) * 0xbf58476d1ce4e5b9u + i;
        memcpy(out + i, &state, sizeof state);
    }
}

static inline uint64_t
sim_file_hash(uint64_t mh, size_t file)
{
    unsigned char bytes[SIM_FILE];
    sim_file(bytes, mh, file);
    return hash64(bytes, sim_file_bytes(mh, file));
}

// The number an evaluation finds in these files.
static inline uint64_t
sim_score(unsigned char files[SIM_FILES][SIM_FILE], uint64_t mh, size_t kind)
{
    uint64_t words[SIM_FILES] = {kind};
    for (size_t i = 1; i < SIM_FILES; i++)
        words[i] = hash64(files[i], sim_file_bytes(mh, i));
    return hash64(words, sizeof words);
}

static inline uint64_t
sim_truth(uint64_t mh, size_t kind)
{
    unsigned char files[SIM_FILES][SIM_FILE];
    for (size_t i = 0; i < SIM_FILES; i++)
        sim_file(files[i], mh, i);
    return sim_score(files, mh, kind);
}

static inline struct hash128
sim_spec(size_t kind)
{
    return (struct hash128){kind + 1, 77};
}

// ---- the disk

static inline struct sim_checkpoint *
sim_on_disk(struct sim_trainer *trainer, uint64_t step, uint64_t mh)
{
    for (size_t i = 0; i < trainer->kept_count; i++)
        if (trainer->kept[i].step == step && trainer->kept[i].mh == mh)
            return &trainer->kept[i];
    return NULL;
}

static inline bool
sim_was_durable(const struct sim_trainer *trainer, uint64_t step, uint64_t mh)
{
    for (size_t i = 0; i < trainer->ever_count; i++)
        if (trainer->ever[i].step == step && trainer->ever[i].mh == mh)
            return true;
    return false;
}

static inline void
sim_take_off(struct sim_trainer *trainer, size_t i)
{
    trainer->kept_count--;
    memmove(trainer->kept + i, trainer->kept + i + 1,
            (trainer->kept_count - i) * sizeof trainer->kept[0]);
}

static inline void
sim_put_on_board(struct sim_trainer *trainer, const struct sim_checkpoint *ckpt)
{
    static struct kept kept;
    kept.step = ckpt->step;
    kept.mh = ckpt->mh;
    kept.incarnation = ckpt->inc;
    kept.bytes = 0;
    for (size_t i = 0; i < SIM_FILES; i++)
        kept.bytes += sim_file_bytes(ckpt->mh, i);
    board_add(trainer->board, &kept);
}

// The newest ones, what the board wants spared; D8: never the newest.
static inline void
sim_retain(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    uint64_t pins[BOARD_PINS];
    size_t count =
        board_pins(trainer->board, sim->now + trainer->leap, pins, 1, sim->keep_unevaluated);
    for (size_t i = trainer->kept_count; i-- > 0;) {
        bool keep = i + sim->keep_last >= trainer->kept_count && sim->plant != PLANT_GREEDY;
        for (size_t p = 0; p < count; p++)
            keep |= pins[p] == trainer->kept[i].step;
        if (keep)
            continue;
        board_forget(trainer->board, trainer->kept[i].step);
        sim_take_off(trainer, i);
        sim->deleted++;
    }
    SIM_CHECK(sim,
              trainer->disk_next == 0 ||
                  (trainer->kept_count > 0 &&
                   trainer->kept[trainer->kept_count - 1].step == trainer->disk_next),
              "D8: the newest checkpoint of t%zu is deleted", t);
}

static inline void
sim_announce(struct sim *sim, size_t t, const struct sim_checkpoint *ckpt)
{
    sim_put_on_board(&sim->trainer[t], ckpt);
    for (size_t e = 0; e < sim->evaluators; e++) {
        if (sim_storm(sim) && sim_chance(sim, sim->loss))
            continue;
        struct sim_event event = {.at = sim->now + 1 + (int64_t)sim_below(sim, 20),
                                  .kind = EVENT_ANNOUNCED,
                                  .trainer = t,
                                  .evaluator = e,
                                  .instance = sim->evaluator[e].instance,
                                  .seq = ckpt->step,
                                  .hash = ckpt->mh};
        sim_schedule(sim, &event);
    }
}

// The newest checkpoints turn out damaged when the trainer starts: it goes on from the one before.
static inline void
sim_rot(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    if (trainer->kept_count < 2)
        return;
    do {
        sim_take_off(trainer, trainer->kept_count - 1);
        sim->rotten++;
    } while (trainer->kept_count > 1 && sim_chance(sim, 50));
    const struct sim_checkpoint *newest = &trainer->kept[trainer->kept_count - 1];
    trainer->disk_next = newest->step;
    trainer->disk_hash = newest->last_hash;
    trainer->disk_chain = newest->chain;
}

// ---- a life

static inline void
sim_open_office(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    char run[8];
    if (sim->evaluators == 0)
        return;
    snprintf(run, sizeof run, "t%zu", t);
    SIM_CHECK(sim, board_new(&trainer->board, run) == STATUS_OK, "%s", status_words());
    for (size_t i = 0; i < trainer->kept_count; i++)
        sim_put_on_board(trainer, &trainer->kept[i]);
    for (size_t i = 0; i < trainer->journal_count; i++) {
        const struct sim_told *told = &trainer->journal[i];
        struct board_entry after;
        if (board_judge(&after, trainer->board, told->ck, told->mh, sim_spec(told->kind),
                        told->more, told->score) == BOARD_NEW)
            board_put(trainer->board, &after);
    }
    struct blobserver_settings set = {.links = {.inst = {trainer->instance, 2},
                                                .hb_ms = 2000,
                                                .lease_ms = 15000,
                                                .roles = ROLES_ALL,
                                                .win = 1,
                                                .most = 16,
                                                .seed = sim_u64(sim)},
                                      .chunk = SIM_CHUNK,
                                      .window = 2 * SIM_CHUNK};
    snprintf(set.links.name, sizeof set.links.name, "t%zu", t);
    SIM_CHECK(sim, blobserver_new(&trainer->blob, &set, sim->now + trainer->leap) == STATUS_OK,
              "%s", status_words());
    sim_retain(sim, t);
}

static inline void
sim_close_office(struct sim_trainer *trainer)
{
    board_free(&trainer->board);
    blobserver_free(&trainer->blob);
    memset(trainer->lent, 0, sizeof trainer->lent);
}

// ---- files

// To whoever holds the other end of the route; that end may be gone.
static inline void
sim_blob_down(struct sim *sim, size_t t, uint64_t route, const struct sim_letter *from)
{
    for (size_t e = 0; e < sim->evaluators; e++) {
        struct sim_evaluator *to = &sim->evaluator[e];
        if (!to->agenda || to->socket[t] != route)
            continue;
        sim_post(sim, from, EVENT_BLOB_DOWN, t, e, &to->last_down[t]);
        return;
    }
    blobserver_unreachable(sim->trainer[t].blob, route);
}

static inline void
sim_run_office(struct sim *sim, size_t t)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    static struct blobserver_action action;
    static struct sim_letter letter;
    if (!trainer->blob)
        return;
    while (blobserver_next(trainer->blob, sim->now + trainer->leap, &action) !=
           BLOBSERVER_NOTHING) {
        memset(&letter, 0, offsetof(struct sim_letter, at));
        switch (action.what) {
        case BLOBSERVER_SAY:
            letter.type = action.message.type;
            letter.small = action.message;
            sim_blob_down(sim, t, action.route, &letter);
            break;
        case BLOBSERVER_OPENED:
            letter.type = MESSAGE_OPENED;
            letter.open_i = action.opened->r;
            letter.handle = action.opened->fd;
            letter.mh = action.opened->manifest_hash;
            SIM_CHECK(sim, action.opened->count == SIM_FILES, "other files than asked for");
            sim_blob_down(sim, t, action.route, &letter);
            break;
        case BLOBSERVER_FIND: {
            struct msg_blob_file files[SIM_FILES];
            const struct board_entry *entry = board_find(trainer->board, action.open->ck);
            SIM_CHECK(sim, !trainer->lent[action.slot], "R4: a slot is opened twice");
            if (!entry || !sim_on_disk(trainer, entry->step, entry->mh)) {
                blobserver_lacks(trainer->blob, action.slot, REFUSAL_NOTFOUND, "it is gone");
                break;
            }
            memset(files, 0, sizeof files);
            for (size_t i = 0; i < SIM_FILES; i++) {
                snprintf(files[i].name, sizeof files[i].name, "%s", sim_files[i]);
                files[i].bytes = sim_file_bytes(entry->mh, i);
                files[i].hash = sim_file_hash(entry->mh, i);
            }
            trainer->lent[action.slot] = entry->mh;
            blobserver_found(trainer->blob, action.slot, entry->mh, files, SIM_FILES);
            break;
        }
        case BLOBSERVER_READ: {
            unsigned char bytes[SIM_FILE];
            uint64_t mh = trainer->lent[action.slot];
            SIM_CHECK(sim, mh && action.at + action.chunk.bytes <= sim_file_bytes(mh, action.file),
                      "bytes are read that are not there");
            if (sim_storm(sim) && sim_chance(sim, 10)) { // the pipe is full: later
                blobserver_unsent(trainer->blob, &action);
                goto sent;
            }
            sim_file(bytes, mh, action.file);
            memcpy(letter.payload, bytes + action.at, action.chunk.bytes);
            letter.type = MESSAGE_CHUNK;
            letter.chunk = action.chunk;
            letter.chunk.hash = hash64(letter.payload, action.chunk.bytes);
            if (sim_storm(sim) && sim_chance(sim, sim->corrupt))
                letter.payload[sim_below(sim, action.chunk.bytes)] ^= 4;
            sim_blob_down(sim, t, action.route, &letter);
            break;
        }
        case BLOBSERVER_SHUT:
            trainer->lent[action.slot] = 0;
            break;
        case BLOBSERVER_NOTHING:
            break;
        }
    }
sent:;
    SIM_CHECK(sim, blobserver_objects(trainer->blob) <= BLOB_OBJECTS_MOST, "R4: open objects");
    int64_t now = sim->now + trainer->leap, wake = blobserver_wake(trainer->blob);
    if (wake == INT64_MAX)
        return;
    wake = wake > now ? wake : now + 5; // what could not be sent
    if (wake - trainer->leap != trainer->office_wake_at) {
        trainer->office_wake_at = wake - trainer->leap;
        trainer->office_wake = ++sim->sockets;
        struct sim_event event = {.at = trainer->office_wake_at,
                                  .kind = EVENT_WAKE_OFFICE,
                                  .seq = trainer->office_wake,
                                  .trainer = t,
                                  .instance = trainer->instance};
        sim_schedule(sim, &event);
    }
}

static inline void
sim_blob_up(struct sim *sim, size_t t, uint64_t route, struct sim_letter *letter)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    int64_t now = sim->now + trainer->leap;
    static struct msg_open open;
    switch (letter->type) {
    case MESSAGE_OPEN:
        memset(&open, 0, sizeof open);
        open.lk = letter->lk;
        open.i = letter->open_i;
        open.ttl_s = letter->ttl_s;
        snprintf(open.ck, sizeof open.ck, "%s", letter->ck);
        open.files.count = SIM_FILES;
        for (size_t i = 0; i < SIM_FILES; i++)
            snprintf(open.files.at[i], TEXT_BYTES, "%s", sim_files[i]);
        blobserver_open(trainer->blob, route, &open, now);
        break;
    case MESSAGE_WANT:
        blobserver_want(trainer->blob, route, &letter->want, now);
        break;
    case MESSAGE_CLOSE:
        blobserver_close(trainer->blob, route, &letter->close, now);
        break;
    default:
        blobserver_small(trainer->blob, route, &letter->small, now);
    }
    sim_run_office(sim, t);
}

// ---- lists, claims, results

static inline bool
sim_take_result(struct sim *sim, size_t t, const struct sim_letter *ask)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    struct board_entry after;
    double score = ask->failed || ask->row != 0 ? (double)NAN : (double)(ask->value % 1000);
    enum board_verdict verdict =
        board_judge(&after, trainer->board, ask->ck, ask->mh, sim_spec(ask->row), ask->more, score);
    if (verdict == BOARD_UNKNOWN || verdict == BOARD_OTHER)
        return false;
    SIM_CHECK(sim, ask->failed || ask->value == sim_truth(after.mh, ask->row),
              "E2: %s gets the result of another checkpoint", ask->ck);
    bool recorded = false;
    for (size_t e = 0; e < sim->evaluators; e++)
        recorded |= sim_has_record(sim, e, t, after.step, after.mh, ask->row, ask->failed);
    SIM_CHECK(sim, recorded || (ask->failed && sim->unrecorded > 0),
              "D5: %s: a result is told that is on no disk", ask->ck);
    if (verdict == BOARD_SAID)
        return true;
    if (sim_storm(sim) && sim_chance(sim, sim->disk_fails))
        return false;
    if (sim->plant != PLANT_RESULT_UNSAVED) {
        SIM_CHECK(sim, trainer->journal_count < SIM_TOLD, "R4: the journal");
        struct sim_told *told = &trainer->journal[trainer->journal_count++];
        *told = (struct sim_told){.mh = ask->mh,
                                  .kind = ask->row,
                                  .more = ask->more,
                                  .failed = ask->failed,
                                  .score = score};
        snprintf(told->ck, sizeof told->ck, "%s", ask->ck);
        for (size_t i = 0; i + 1 < trainer->journal_count; i++)
            SIM_CHECK(sim,
                      strcmp(trainer->journal[i].ck, ask->ck) != 0 ||
                          trainer->journal[i].kind != ask->row ||
                          trainer->journal[i].more != ask->more,
                      "E2: %s has two records of kind %zu", ask->ck, ask->row);
        sim->results++;
        sim->given_up += ask->failed;
    }
    board_put(trainer->board, &after);
    sim_retain(sim, t);
    return true;
}

static inline void
sim_ask(struct sim *sim, size_t t, size_t e, const struct sim_letter *ask)
{
    struct sim_trainer *trainer = &sim->trainer[t];
    static struct sim_letter answer;
    static struct msg_cklistr list;
    struct msg_cklist want = {.most = CK_MOST};
    char who[8];
    memset(&answer, 0, offsetof(struct sim_letter, at));
    answer.number = ask->number;
    answer.what = ask->what;
    snprintf(who, sizeof who, "e%zu", e);
    if (ask->what == AGENDA_LIST) {
        board_list(trainer->board, &want, trainer->steps, &list);
        SIM_CHECK(sim, !list.more && list.count <= SIM_KEPT, "R4: the list");
        for (size_t i = 0; i < list.count; i++)
            answer.at[answer.count++] = (struct sim_listed){.step = list.at[i].step,
                                                            .mh = list.at[i].manifest_hash,
                                                            .done = list.at[i].done,
                                                            .last = list.at[i].last};
        for (size_t i = 0; i < list.count; i++)
            snprintf(answer.at[i].ck, sizeof answer.at[i].ck, "%.31s", list.at[i].ck);
        answer.yes = true;
    } else if (ask->what == AGENDA_CLAIM || ask->what == AGENDA_UNCLAIM) {
        struct board_entry *entry = board_find(trainer->board, ask->ck);
        int64_t ttl_ms = (int64_t)ask->ttl_s * 1000;
        if (sim->plant == PLANT_CLAIM_FOREVER && ttl_ms)
            ttl_ms = INT64_MAX / 4;
        answer.yes = entry && board_claim(entry, who, ttl_ms, sim->now + trainer->leap);
        sim_retain(sim, t);
    } else {
        answer.yes = sim_take_result(sim, t, ask);
    }
    if (ask->number) // a claim that is renewed waits for no answer
        sim_post(sim, &answer, EVENT_ANSWER, t, e, &sim->evaluator[e].last_down[t]);
}

#endif

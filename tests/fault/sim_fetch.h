// How the simulator's evaluators come by a checkpoint's files: the real blobclient against a
// trainer's office, onto a shelf that outlives them.
#ifndef TESTS_FAULT_SIM_FETCH_H
#define TESTS_FAULT_SIM_FETCH_H

#include "tests/fault/sim_office.h"

enum { PATIENCE_MS = 20000 }; // without a byte gained, then later again

static inline void
sim_start_fetch(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct sim_shelf *shelf = &self->shelf;
    size_t t = action->trainer;
    static struct texts names;
    names.count = SIM_FILES;
    for (size_t i = 0; i < SIM_FILES; i++)
        snprintf(names.at[i], TEXT_BYTES, "%s", sim_files[i]);
    if (!self->fetch[t]) {
        struct blobclient_settings set = blobclient_presets;
        set.link.me.role = ROLE_EVALUATOR;
        set.link.me.inst = (struct hash128){self->instance, 3};
        snprintf(set.link.me.name, sizeof set.link.me.name, "e%zu", e);
        set.window = 2 * SIM_CHUNK;
        set.seed = sim_u64(sim);
        SIM_CHECK(sim, blobclient_new(&self->fetch[t], &set) == STATUS_OK, "%s", status_words());
    }
    uint64_t mh = action->entry->manifest_hash;
    if (shelf->mh != mh) { // whatever else lies there is removed
        memset(shelf->written, 0, sizeof shelf->written);
        shelf->mh = mh;
    }
    blobclient_start(self->fetch[t], action->entry->ck, mh, &names, 1 << 20);
    self->gained = 0;
    self->gained_at = sim->now + self->leap;
    self->busy = true;
}

static inline void
sim_say_up(struct sim *sim, size_t e, size_t t, const struct sim_letter *letter)
{
    sim_post(sim, letter, EVENT_BLOB_UP, t, e, &sim->evaluator[e].last_up[t]);
}

static inline void
sim_drive_fetch(struct sim *sim, size_t e, size_t t)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct sim_shelf *shelf = &self->shelf;
    int64_t now = sim->now + self->leap;
    static struct sim_letter letter;
    static struct blobclient_action action;
    struct blobclient_view view;
    blobclient_look(self->fetch[t], &view);
    if (view.state == BLOBCLIENT_PLANNING) {
        for (size_t i = 0; i < SIM_FILES; i++) {
            if (shelf->written[i])
                blobclient_has(self->fetch[t], shelf->bytes[i], shelf->written[i]);
            if (shelf->written[i] < sim_file_bytes(shelf->mh, i))
                break;
        }
        blobclient_ready(self->fetch[t]);
    }
    while (blobclient_next(self->fetch[t], now, &action) != BLOBCLIENT_NOTHING) {
        memset(&letter, 0, offsetof(struct sim_letter, at));
        switch (action.what) {
        case BLOBCLIENT_CONNECT:
            self->socket[t] = ++sim->sockets;
            self->last_up[t] = self->last_down[t] = 0;
            continue;
        case BLOBCLIENT_SHUT:
            self->socket[t] = 0;
            continue;
        case BLOBCLIENT_REWIND:
            shelf->written[action.file] = 0;
            continue;
        case BLOBCLIENT_SAY:
            letter.type = action.message.type;
            letter.small = action.message;
            break;
        case BLOBCLIENT_OPEN:
            letter.type = MESSAGE_OPEN;
            letter.lk = action.open->lk;
            letter.open_i = action.open->i;
            letter.ttl_s = action.open->ttl_s;
            snprintf(letter.ck, sizeof letter.ck, "%.31s", action.open->ck);
            break;
        case BLOBCLIENT_WANT:
            letter.type = MESSAGE_WANT;
            letter.want = action.want;
            break;
        case BLOBCLIENT_CLOSE:
            letter.type = MESSAGE_CLOSE;
            letter.close = action.close;
            break;
        case BLOBCLIENT_NOTHING:
            break;
        }
        if (self->socket[t])
            sim_say_up(sim, e, t, &letter);
    }
}

static inline void
sim_take_blob(struct sim *sim, size_t e, size_t t, const struct sim_letter *letter)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct sim_shelf *shelf = &self->shelf;
    struct blobclient *client = self->fetch[t];
    int64_t now = sim->now + self->leap;
    static struct msg_opened opened;
    size_t file;
    uint64_t at;
    if (letter->type == MESSAGE_OPENED) {
        memset(&opened, 0, sizeof opened);
        opened.r = letter->open_i;
        opened.fd = letter->handle;
        opened.manifest_hash = letter->mh;
        opened.count = SIM_FILES;
        for (size_t i = 0; i < SIM_FILES; i++) {
            snprintf(opened.at[i].name, sizeof opened.at[i].name, "%s", sim_files[i]);
            opened.at[i].bytes = sim_file_bytes(letter->mh, i);
            opened.at[i].hash = sim_file_hash(letter->mh, i);
            opened.bytes += opened.at[i].bytes;
        }
        blobclient_opened(client, &opened, now);
    } else if (letter->type == MESSAGE_CHUNK) {
        if (blobclient_chunk(client, &letter->chunk, letter->payload, letter->chunk.bytes, now,
                             &file, &at)) {
            SIM_CHECK(sim, file < SIM_FILES && at == shelf->written[file],
                      "E1: a chunk at %llu of file %zu, which has %llu bytes",
                      (unsigned long long)at, file, (unsigned long long)shelf->written[file]);
            memcpy(shelf->bytes[file] + at, letter->payload, letter->chunk.bytes);
            shelf->written[file] += letter->chunk.bytes;
            blobclient_wrote(client, &letter->chunk, letter->payload);
            sim->fetched += letter->chunk.bytes;
        }
    } else {
        blobclient_small(client, &letter->small, now);
    }
}

// True: the fetch is over, and the agenda has its answer.
static inline bool
sim_fetch_over(struct sim *sim, size_t e, size_t t)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct blobclient_view view;
    int64_t now = sim->now + self->leap;
    blobclient_look(self->fetch[t], &view);
    if (view.verified != self->gained) {
        self->gained = view.verified;
        self->gained_at = now;
    }
    enum agenda_answer answer = AGENDA_YES;
    if (view.state == BLOBCLIENT_GONE || view.state == BLOBCLIENT_FAILED)
        answer = AGENDA_TROUBLE;
    else if (view.state != BLOBCLIENT_DONE && now - self->gained_at >= PATIENCE_MS)
        answer = AGENDA_LATER;
    else if (view.state != BLOBCLIENT_DONE)
        return false;
    if (answer == AGENDA_YES)
        for (size_t i = 0; i < SIM_FILES; i++) {
            uint64_t bytes = sim_file_bytes(self->shelf.mh, i);
            SIM_CHECK(sim,
                      self->shelf.written[i] == bytes &&
                          hash64(self->shelf.bytes[i], bytes) == sim_file_hash(self->shelf.mh, i),
                      "E2: a fetch ends with other bytes than the checkpoint's");
        }
    self->busy = false;
    agenda_answer(self->agenda, answer, view.words, now);
    if (answer != AGENDA_YES) {
        blobclient_fail(self->fetch[t], "");
        sim_drive_fetch(sim, e, t);
    }
    return true;
}

#endif

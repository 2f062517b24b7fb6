// The simulator's evaluators: the real agenda, with a disk that outlives them, evaluations that
// take time, fail, or kill the process.
#ifndef TESTS_FAULT_SIM_EVALUATOR_H
#define TESTS_FAULT_SIM_EVALUATOR_H

#include "tests/fault/sim_fetch.h"

enum { SIM_ATTEMPTS = 3, ASK_MS = 5000, ASK_FIRST_MS = 1500, TELL_MS = 15000 };

// ---- its disk

static inline struct sim_record *
sim_record(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_records *all = sim_records_of(sim, e);
    const struct msg_ck_entry *entry = action->entry;
    for (size_t i = 0; i < all->count; i++)
        if (all->at[i].trainer == action->trainer && all->at[i].kind == action->kind &&
            all->at[i].mh == entry->manifest_hash)
            return &all->at[i];
    SIM_CHECK(sim, all->count < SIM_TOLD, "R4: more records than evaluations");
    struct sim_record *record = &all->at[all->count++];
    *record = (struct sim_record){.trainer = action->trainer,
                                  .step = entry->step,
                                  .kind = action->kind,
                                  .mh = entry->manifest_hash,
                                  .inc = (unsigned)strtoul(strrchr(entry->ck, '-') + 1, NULL, 10)};
    return record;
}

// The planted fault: whatever result there is of that step.
static inline const struct sim_record *
sim_any_result(struct sim *sim, size_t e, const struct sim_record *record)
{
    const struct sim_records *all = sim_records_of(sim, e);
    for (size_t i = 0; i < all->count; i++)
        if (all->at[i].trainer == record->trainer && all->at[i].step == record->step &&
            all->at[i].kind == record->kind && all->at[i].done)
            return &all->at[i];
    return record;
}

// A result takes the file of the step from those of older checkpoints of it, and leaves it to a
// newer one's.
static inline void
sim_keep(struct sim *sim, size_t e, struct sim_record *record, uint64_t value)
{
    struct sim_records *all = sim_records_of(sim, e);
    for (size_t i = 0; i < all->count; i++) {
        struct sim_record *other = &all->at[i];
        if (other->trainer == record->trainer && other->step == record->step &&
            other->kind == record->kind && other->inc < record->inc)
            other->done = false;
    }
    record->done = true;
    record->failed = false;
    record->value = value;
}

// Which evaluations are due of a checkpoint: the second one now and then, and at the end.
static inline unsigned
sim_due(const struct sim *sim, size_t t, uint64_t step)
{
    return step % 3 == 0 || step == sim->trainer[t].steps ? 3 : 1;
}

// E1: has everything that lies there a result or a failure on some evaluator's disk?
static inline bool
sim_has_records(struct sim *sim, size_t t)
{
    const struct sim_trainer *trainer = &sim->trainer[t];
    for (size_t i = 0; i < trainer->kept_count; i++)
        for (size_t kind = 0; kind < SIM_KINDS; kind++) {
            bool found = !(sim_due(sim, t, trainer->kept[i].step) >> kind & 1);
            for (size_t e = 0; e < sim->evaluators && !found; e++)
                for (int failed = 0; failed < 2; failed++)
                    found |= sim_has_record(sim, e, t, trainer->kept[i].step, trainer->kept[i].mh,
                                            kind, failed);
            if (!found)
                return false;
        }
    return true;
}

static inline bool
sim_disk_fails(struct sim *sim)
{
    return sim_storm(sim) && sim_chance(sim, sim->disk_fails / 2);
}

// Some checkpoints cannot be scored, some kill whoever tries.
static inline bool
sim_is_bad(const struct sim *sim, uint64_t mh)
{
    return sim->bad_ones && mh / 2 % 11 == 0;
}

static inline bool
sim_is_killer(const struct sim *sim, uint64_t mh)
{
    return sim->killers && mh / 2 % 7 == 0;
}

// ---- life and death

static inline void sim_run_evaluator(struct sim *sim, size_t e);

static inline void
sim_start_evaluator(struct sim *sim, size_t e)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct agenda_settings set = {.trainers = sim->trainers,
                                  .kinds = SIM_KINDS,
                                  .max_attempts = SIM_ATTEMPTS,
                                  .claim_ttl_s = sim->claim_ttl_s,
                                  .poll_ms = 30000};
    if (self->agenda)
        return;
    self->instance = ++sim->instances;
    self->busy = self->announced = false;
    self->wake_at = self->frozen_until = 0;
    memset(self->up, 0, sizeof self->up);
    memset(self->socket, 0, sizeof self->socket);
    SIM_CHECK(sim, agenda_new(&self->agenda, &set) == STATUS_OK, "%s", status_words());
    sim_run_evaluator(sim, e);
}

static inline void
sim_kill_evaluator(struct sim *sim, size_t e, bool for_good)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    agenda_free(&self->agenda);
    for (size_t t = 0; t < SIM_TRAINERS; t++)
        blobclient_free(&self->fetch[t]);
    sim->crashed++;
    if (for_good) {
        self->gone = true;
        return;
    }
    struct sim_event event = {.at = sim->now + 1 + (int64_t)sim_below(sim, 8000),
                              .kind = EVENT_START_EVALUATOR,
                              .evaluator = e};
    sim_schedule(sim, &event);
}

// ---- questions

static inline void
sim_put_question(struct sim *sim, size_t e)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    sim_post(sim, &self->question, EVENT_ASK, self->asked, e, &self->last_up[self->asked]);
    self->ask_again = sim->now + self->leap + 1000;
}

static inline void
sim_question(struct sim *sim, size_t e, const struct agenda_action *action, int64_t limit_ms)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct sim_letter *letter = &self->question;
    memset(letter, 0, offsetof(struct sim_letter, at));
    letter->number = ++sim->sockets;
    letter->what = action->what;
    if (action->entry) {
        snprintf(letter->ck, sizeof letter->ck, "%.31s", action->entry->ck);
        letter->mh = action->entry->manifest_hash;
    }
    letter->ttl_s = action->what == AGENDA_CLAIM ? action->ttl_s : 0;
    letter->row = action->kind;
    letter->more = action->more;
    letter->failed = action->failed;
    if (action->what == AGENDA_TELL && !action->failed) {
        const struct sim_record *record = sim_record(sim, e, action);
        letter->value = record->done ? record->value : self->value;
    }
    self->asked = action->trainer;
    self->ask_until = sim->now + self->leap + limit_ms;
    self->busy = true;
    sim_put_question(sim, e);
}

// What lies in the trainer's folder, for evaluators that see it.
static inline void
sim_read_folder(struct sim *sim, size_t t, struct waiting *out)
{
    const struct sim_trainer *trainer = &sim->trainer[t];
    out->count = 0;
    for (size_t i = trainer->kept_count; sim->shared_disk && i-- > 0;) {
        struct msg_ck_entry *entry = &out->at[out->count++];
        memset(entry, 0, sizeof *entry);
        snprintf(entry->ck, sizeof entry->ck, "t%zu/%llu-%u", t,
                 (unsigned long long)trainer->kept[i].step, (unsigned)trainer->kept[i].inc);
        entry->step = trainer->kept[i].step;
        entry->manifest_hash = trainer->kept[i].mh;
        entry->last = entry->step == trainer->steps;
    }
}

static inline void
sim_no_answer(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    int64_t now = sim->now + self->leap;
    self->busy = false;
    self->question.number = 0; // what comes later is too late
    switch (action->what) {
    case AGENDA_LIST:
        self->up[action->trainer] = false;
        sim_read_folder(sim, action->trainer, action->waiting);
        agenda_listed(self->agenda, false);
        break;
    case AGENDA_TELL:
        self->up[action->trainer] = false;
        agenda_answer(self->agenda, AGENDA_NO, NULL, now);
        break;
    default: // a trainer that is away grants everything
        agenda_answer(self->agenda, AGENDA_YES, NULL, now);
    }
}

static inline void
sim_answered(struct sim *sim, size_t e, const struct sim_letter *answer)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct sim_trainer *trainer = &sim->trainer[self->asked];
    struct agenda_action action;
    if (!self->busy || answer->number != self->question.number)
        return; // an older question's
    agenda_next(self->agenda, &action);
    self->busy = false;
    self->question.number = 0;
    if (answer->what != AGENDA_LIST) {
        if (answer->what == AGENDA_TELL && answer->yes) {
            bool durable = false;
            for (size_t i = 0; i < trainer->journal_count; i++)
                durable |= strcmp(trainer->journal[i].ck, self->question.ck) == 0 &&
                           trainer->journal[i].kind == action.kind;
            SIM_CHECK(sim, durable, "D5: the result of %s was taken and is on no disk",
                      self->question.ck);
        }
        agenda_answer(self->agenda, answer->yes ? AGENDA_YES : AGENDA_NO, NULL,
                      sim->now + self->leap);
        return;
    }
    self->up[action.trainer] = true;
    action.waiting->count = 0;
    for (size_t i = answer->count; i-- > 0;) {
        const struct sim_listed *listed = &answer->at[i];
        SIM_CHECK(sim, sim_was_durable(trainer, listed->step, listed->mh),
                  "D5: %s is listed and was never durable", listed->ck);
        if (listed->done)
            continue;
        struct msg_ck_entry *entry = &action.waiting->at[action.waiting->count++];
        memset(entry, 0, sizeof *entry);
        snprintf(entry->ck, sizeof entry->ck, "%s", listed->ck);
        entry->step = listed->step;
        entry->manifest_hash = listed->mh;
        entry->last = listed->last;
    }
    agenda_listed(self->agenda, true);
}

// ---- evaluations

static inline void
sim_start_run(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    unsigned char files[SIM_FILES][SIM_FILE];
    uint64_t mh = action->entry->manifest_hash;
    if (self->direct) {
        for (size_t i = 0; i < SIM_FILES; i++)
            sim_file(files[i], mh, i);
        self->value = sim_score(files, mh, action->kind);
    } else {
        SIM_CHECK(sim, self->shelf.mh == mh, "E2: another checkpoint lies on the shelf");
        self->value = sim_score(self->shelf.bytes, mh, action->kind);
    }
    self->busy = true;
    self->busy_until =
        sim->now + self->leap + 1 + (int64_t)sim_below(sim, (uint64_t)sim->evaluate_ms);
}

// False: it died of it.
static inline bool
sim_end_run(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    const struct msg_ck_entry *entry = action->entry;
    struct sim_record *record = sim_record(sim, e, action);
    if (sim_is_killer(sim, entry->manifest_hash)) {
        size_t left = 0;
        for (size_t i = 0; i < sim->evaluators; i++)
            left += !sim->evaluator[i].gone;
        sim->kills++;
        sim_kill_evaluator(sim, e, left > 1 && sim_storm(sim) && sim_chance(sim, 20));
        return false;
    }
    bool sound = !sim_is_bad(sim, entry->manifest_hash) && !sim_disk_fails(sim);
    if (sound && sim->plant != PLANT_TELL_FIRST) {
        sim_keep(sim, e, record, self->value);
        SIM_CHECK(sim, record->value == sim_truth(record->mh, record->kind),
                  "E2: a result is kept under the manifest of another checkpoint");
        sim->evaluated++;
    }
    record->begun = 0;
    self->busy = false;
    agenda_answer(self->agenda, sound ? AGENDA_YES : AGENDA_TROUBLE, "it went wrong",
                  sim->now + self->leap);
    return true;
}

// Does somebody who is alive hold the attempt that was begun?
static inline bool
sim_is_held(const struct sim *sim, const struct sim_record *record)
{
    const struct sim_evaluator *holder = &sim->evaluator[record->holder];
    return holder->agenda && holder->instance == record->holder_life;
}

static inline void
sim_look(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    int64_t now = sim->now + self->leap;
    const struct sim_record *record = sim_record(sim, e, action);
    if (sim->plant == PLANT_OTHER_MANIFEST)
        record = sim_any_result(sim, e, record);
    if (record->done)
        agenda_looked(self->agenda, AGENDA_YES, 0, NULL, now);
    else if (record->failed)
        agenda_known_failure(self->agenda, "as recorded");
    else if (record->begun > 0 && !self->up[action->trainer] && sim_is_held(sim, record))
        agenda_looked(self->agenda, AGENDA_LATER, record->begun, NULL, now);
    else
        agenda_looked(self->agenda, AGENDA_NO,
                      sim->plant != PLANT_FORGET_ATTEMPTS ? record->begun : 0, NULL, now);
}

static inline void
sim_begin(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct sim_record *record = sim_record(sim, e, action);
    bool fails = sim_disk_fails(sim);
    SIM_CHECK(sim, action->attempts <= SIM_ATTEMPTS || sim->plant == PLANT_FORGET_ATTEMPTS,
              "E1: attempt %u of %d is begun", action->attempts, SIM_ATTEMPTS);
    if (!fails) {
        record->begun = action->attempts;
        record->holder = e;
        record->holder_life = self->instance;
    }
    agenda_answer(self->agenda, fails ? AGENDA_TROUBLE : AGENDA_YES, "the disk is full",
                  sim->now + self->leap);
}

static inline void
sim_give_up(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct sim_record *record = sim_record(sim, e, action);
    SIM_CHECK(sim, action->attempts >= SIM_ATTEMPTS, "E1: given up after %u attempts",
              action->attempts);
    if (sim_disk_fails(sim))
        sim->unrecorded++;
    else
        record->failed = true;
    agenda_answer(self->agenda, AGENDA_YES, NULL, sim->now + self->leap);
}

// Begins one action; many are over at once.
static inline void
sim_begin_action(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    int64_t now = sim->now + self->leap;
    const struct msg_ck_entry *entry = action->entry;
    bool up = self->up[action->trainer];
    switch (action->what) {
    case AGENDA_LIST:
        sim_question(sim, e, action, up ? ASK_MS : ASK_FIRST_MS);
        break;
    case AGENDA_PLAN:
        agenda_planned(self->agenda, sim_due(sim, action->trainer, entry->step));
        break;
    case AGENDA_LOOK:
        sim_look(sim, e, action);
        break;
    case AGENDA_CLAIM:
    case AGENDA_UNCLAIM:
        if (up)
            sim_question(sim, e, action, 3000);
        else
            agenda_answer(self->agenda, AGENDA_YES, NULL, now);
        break;
    case AGENDA_REACH:
        self->direct = sim->shared_disk && sim_on_disk(&sim->trainer[action->trainer], entry->step,
                                                       entry->manifest_hash);
        if (self->direct)
            agenda_answer(self->agenda, AGENDA_YES, NULL, now);
        else if (!up)
            agenda_answer(self->agenda, sim->shared_disk ? AGENDA_TROUBLE : AGENDA_LATER, "gone",
                          now);
        else
            sim_start_fetch(sim, e, action);
        break;
    case AGENDA_BEGIN:
        sim_begin(sim, e, action);
        break;
    case AGENDA_RUN:
        sim_start_run(sim, e, action);
        break;
    case AGENDA_RECORD:
        sim_give_up(sim, e, action);
        break;
    case AGENDA_TELL:
        if (up)
            sim_question(sim, e, action, TELL_MS);
        else
            agenda_answer(self->agenda, AGENDA_NO, NULL, now);
        break;
    case AGENDA_DROP:
        memset(&self->shelf, 0, sizeof self->shelf);
        agenda_answer(self->agenda, AGENDA_YES, NULL, now);
        break;
    case AGENDA_REST:
        self->busy = true;
        self->busy_until = now + action->rest_ms;
        break;
    }
}

// Goes on with the action under way. True: it is over.
static inline bool
sim_continue(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    int64_t now = sim->now + self->leap;
    struct agenda_action renewal;
    if (agenda_renews(self->agenda, now, &renewal) && self->up[renewal.trainer]) {
        struct sim_letter letter = {.what = AGENDA_CLAIM, .ttl_s = renewal.ttl_s};
        snprintf(letter.ck, sizeof letter.ck, "%.31s", renewal.entry->ck);
        sim_post(sim, &letter, EVENT_ASK, renewal.trainer, e, &self->last_up[renewal.trainer]);
    }
    switch (action->what) {
    case AGENDA_REST:
        if (now < self->busy_until && !self->announced)
            return false;
        self->busy = self->announced = false;
        agenda_answer(self->agenda, AGENDA_YES, NULL, now);
        return true;
    case AGENDA_RUN:
        return now >= self->busy_until && sim_end_run(sim, e, action);
    case AGENDA_REACH:
        sim_drive_fetch(sim, e, action->trainer);
        return sim_fetch_over(sim, e, action->trainer);
    default:
        if (now >= self->ask_until) {
            sim_no_answer(sim, e, action);
            return true;
        }
        if (now >= self->ask_again)
            sim_put_question(sim, e);
        return false;
    }
}

static inline int64_t
sim_evaluator_wake(struct sim *sim, size_t e, const struct agenda_action *action)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    int64_t now = sim->now + self->leap, wake;
    switch (action->what) {
    case AGENDA_REST:
        return self->busy_until;
    case AGENDA_RUN:
        wake = now + 2000; // a claim may have to be renewed
        return self->busy_until < wake ? self->busy_until : wake;
    case AGENDA_REACH:
        wake = blobclient_wake(self->fetch[action->trainer]);
        SIM_CHECK(sim, wake > now, "L5: evaluator %zu would wake at once for nothing", e);
        return wake < now + 1000 ? wake : now + 1000;
    default:
        return self->ask_again < self->ask_until ? self->ask_again : self->ask_until;
    }
}

static inline void
sim_run_evaluator(struct sim *sim, size_t e)
{
    struct sim_evaluator *self = &sim->evaluator[e];
    struct agenda_action action;
    for (int turns = 0;; turns++) {
        SIM_CHECK(sim, turns < 2000, "L5: evaluator %zu does not rest", e);
        agenda_next(self->agenda, &action);
        if (!self->busy)
            sim_begin_action(sim, e, &action);
        else if (!sim_continue(sim, e, &action))
            break;
    }
    if (!self->agenda)
        return; // it died of it
    int64_t wake = sim_evaluator_wake(sim, e, &action) - self->leap;
    wake = wake > sim->now ? wake : sim->now + 1;
    if (wake != self->wake_at) {
        self->wake_at = wake;
        self->wake = ++sim->sockets;
        struct sim_event event = {.at = wake,
                                  .kind = EVENT_WAKE_EVALUATOR,
                                  .evaluator = e,
                                  .instance = self->instance,
                                  .seq = self->wake};
        sim_schedule(sim, &event);
    }
}

#endif

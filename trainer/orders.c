// What people ask of a trainer: commands, and the answers to those that wait.
#include "trainer/daemon_inside.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

// ---------------------------------------------------------------- who waits

static void
wait_for(struct trainer *t, uint32_t ticket, enum wait_for what, uint64_t from)
{
    assert(t->waiting_count < CONTROL_OPEN_MOST); // control hands out no more
    t->waiting[t->waiting_count++] = (struct waiting){ticket, what, from};
}

// Takes the next one for whom this is enough.
static bool
take_waiting(struct trainer *t, enum wait_for what, uint64_t reached, uint32_t *ticket)
{
    for (size_t i = 0; i < t->waiting_count; i++)
        if (t->waiting[i].what == what && t->waiting[i].from <= reached) {
            *ticket = t->waiting[i].ticket;
            t->waiting[i] = t->waiting[--t->waiting_count];
            return true;
        }
    return false;
}

void
orders_refuse(struct trainer *t, enum wait_for what, enum refusal code, const char *words)
{
    for (uint32_t ticket; take_waiting(t, what, UINT64_MAX, &ticket);)
        control_refuse(t->control, ticket, code, "%.200s", words);
}

// Those who asked before this state was reached; who asked later waits for a later one.
void
orders_saved(struct trainer *t, const struct kept *kept)
{
    static struct msg_reply reply;
    for (uint32_t ticket; take_waiting(t, WAIT_SAVED, kept->step, &ticket);) {
        memset(&reply, 0, sizeof reply);
        reply.ok = true;
        named_whole(&reply.data, "step", (int64_t)kept->step);
        named_words(&reply.data, "path", kept->path);
        control_reply(t->control, ticket, &reply);
    }
}

void
orders_paused(struct trainer *t, uint64_t asked)
{
    for (uint32_t ticket; take_waiting(t, WAIT_PAUSED, asked, &ticket);)
        control_done(t->control, ticket);
}

// A setting is what it was asked to be, in the journal, or why not.
void
orders_changed(struct trainer *t, const struct told *told)
{
    static struct msg_reply reply;
    const struct change *change = &told->change;
    uint32_t ticket;
    bool ok = told->why.code == STATUS_OK;
    if (ok) {
        say(SAY_INFO, "%s is %.9g from step %" PRIu64, hot_names[change->key], change->value,
            change->at);
        publisher_event(t->publisher, SAY_INFO, "set", "%s is %.9g from step %" PRIu64,
                        hot_names[change->key], change->value, change->at);
    }
    if (!take_waiting(t, WAIT_CHANGED, told->asked, &ticket))
        return;
    if (!ok) {
        control_refuse(t->control, ticket,
                       told->why.code == STATUS_CONFIG ? REFUSAL_ARG : REFUSAL_IO, "%.200s",
                       told->why.words);
        return;
    }
    memset(&reply, 0, sizeof reply);
    reply.ok = true;
    named_real(&reply.data, hot_names[change->key], change->value);
    named_whole(&reply.data, "from_step", (int64_t)change->at);
    control_reply(t->control, ticket, &reply);
}

uint64_t
orders_pause(struct trainer *t)
{
    return training_ask_pause(t->training, t->pause_asked || t->held);
}

// ---------------------------------------------------------------- commands

static void
fill_status(struct trainer *t, struct named *out)
{
    struct dataclient_view feed;
    dataclient_look(datafeed_client(t->feed), &feed);
    char chain[33];
    hex128(chain, t->place.chain);
    named_words(out, "process", "trainer");
    named_words(out, "state", t->state);
    named_words(out, "run", t->set->run.name);
    named_words(out, "folder", runfolder_path(t->run));
    named_words(out, "version", OSAE_VERSION);
    named_whole(out, "incarnation", t->me.inc);
    named_whole(out, "up_ms", tick_ms() - t->started_at);
    named_whole(out, "step", (int64_t)t->place.next);
    named_whole(out, "steps", (int64_t)t->set->trainer.steps);
    named_words(out, "chain", chain);
    named_whole(out, "staged", feed.staged);
    named_whole(out, "durable", (int64_t)feed.dur);
    named_whole(out, "links_lost", (int64_t)feed.links_lost);
    named_whole(out, "bad_hash", (int64_t)feed.badhash);
    named_whole(out, "malformed", (int64_t)datafeed_malformed(t->feed));
    named_whole(out, "gaps", (int64_t)feed.gap);
    named_whole(out, "batches", (int64_t)feed.batches);
    named_whole(out, "batches_shared", (int64_t)feed.shared);
    named_whole(out, "spoiled", (int64_t)feed.spoiled);
    if (feed.paused)
        named_words(out, "data_paused", feed.pause_words);
    if (t->has_log) {
        named_real(out, "loss", t->log.loss);
        named_real(out, "l0", t->log.l0);
        named_real(out, "fvu", t->log.fvu);
        named_whole(out, "dead_latents", (int64_t)t->log.dead);
    }
    if (t->steps_here > 0) {
        double all = t->step_seconds + t->wait_seconds;
        named_real(out, "tokens_per_second",
                   (double)t->steps_here * t->stream.rows / (all > 0 ? all : 1));
        named_real(out, "wait_share", t->wait_seconds / (all > 0 ? all : 1));
    }
    named_flag(out, "evaluated", board_all_done(t->board));
}

// {"k": "optimiser.lr", "v": 1e-5, "at": 1200}; without `at`: with the next step.
static void
take_set(struct trainer *t, const struct request *request)
{
    const struct named *args = &request->cmd->args;
    int64_t at = named_get_whole(args, "at", -1);
    struct change change = {.id = request->cmd->idem,
                            .value = named_get_real(args, "v", (double)NAN),
                            .at = at < 0 ? CHANGE_NEXT : (uint64_t)at};
    uint64_t asked = 0;
    if (t->ended)
        control_refuse(t->control, request->ticket, REFUSAL_STATE, "training has ended");
    else if (change_check(&change.key, named_get_words(args, "k", ""), change.value) != STATUS_OK)
        control_refuse(t->control, request->ticket, REFUSAL_ARG, "%.200s", status_words());
    else if (!(asked = training_ask_change(t->training, &change)))
        control_refuse(t->control, request->ticket, REFUSAL_BUSY, "too many changes at one time");
    else
        wait_for(t, request->ticket, WAIT_CHANGED, asked); // until training has begun, and it is
                                                           // in the journal
}

void
orders_take(struct trainer *t, const struct request *request)
{
    static struct msg_reply reply;
    const struct msg_cmd *cmd = request->cmd;
    memset(&reply, 0, sizeof reply);
    reply.ok = true;
    if (strcmp(cmd->op, "status") == 0) {
        fill_status(t, &reply.data);
    } else if (strcmp(cmd->op, "peers") == 0) {
        struct msg_hello peer;
        for (size_t i = 0; i < 24 && control_peer(t->control, i, &peer); i++) {
            char name[NAMED_NAME];
            snprintf(name, sizeof name, "%zu", i);
            named_print(&reply.data, name, "%s %s %s", role_names[peer.role], peer.name, peer.ctl);
        }
    } else if (strcmp(cmd->op, "pause") == 0) {
        t->pause_asked = true;
        uint64_t asked = orders_pause(t);
        if (t->started && !t->ended) {
            wait_for(t, request->ticket, WAIT_PAUSED, asked); // answered when it stands
            return;
        }
    } else if (strcmp(cmd->op, "resume") == 0) {
        t->pause_asked = false;
        (void)orders_pause(t);
        orders_refuse(t, WAIT_PAUSED, REFUSAL_STATE, "it was resumed before it stood");
        datafeed_resume(t->feed);
        if (t->held) {
            control_refuse(t->control, request->ticket, REFUSAL_STATE,
                           "training stands still until a checkpoint can be saved");
            return;
        }
    } else if (strcmp(cmd->op, "checkpoint") == 0) {
        if (t->ended || !training_saver(t->training) || t->place.next == 0) {
            control_refuse(t->control, request->ticket, REFUSAL_STATE,
                           "there is nothing new to save (%s, step %" PRIu64 ")", t->state,
                           t->place.next);
            return;
        }
        training_ask_checkpoint(t->training);
        wait_for(t, request->ticket, WAIT_SAVED, t->place.next); // answered when it is durable
        return;
    } else if (strcmp(cmd->op, "set") == 0) {
        take_set(t, request);
        return;
    } else {
        assert(strcmp(cmd->op, "stop") == 0);
        if (strcmp(named_get_words(&cmd->args, "mode", "drain"), "now") == 0)
            training_ask_stop(t->training, false);
        loop_ask_stop(t->loop);
    }
    control_reply(t->control, request->ticket, &reply);
}

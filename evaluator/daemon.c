#include "evaluator/daemon.h"

#include "evaluator/follow.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/host/loop.h"
#include "lib/host/notify.h"
#include "proto/control.h"
#include "proto/publish.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SECOND_MS = 1000, LARGE_BYTES = 128 << 10 };
static const char *const state_names[] = {"preparing", "idle", "evaluating", "ended"};

struct evaluator {
    const struct settings *set;
    struct loop *loop;
    struct channel *channel;
    struct control *control;
    struct publisher *publisher;
    struct follow *follow;
    struct msg_hello me;
    int wake_fd;
    int64_t second_at, started_at;
    bool ready;
};

static const struct operation operations[] = {
    {"status", ROLES_ALL, true},
    {"stop", 1u << ROLE_ADMIN, false},
    {NULL, 0, false},
};

static void
answer(struct evaluator *e, const struct request *request)
{
    static struct msg_reply reply;
    memset(&reply, 0, sizeof reply);
    reply.ok = true;
    if (strcmp(request->cmd->op, "stop") == 0) {
        loop_ask_stop(e->loop);
    } else {
        struct follow_view view;
        follow_look(e->follow, &view);
        named_words(&reply.data, "process", "evaluator");
        named_words(&reply.data, "state", state_names[view.state]);
        named_words(&reply.data, "run", e->set->run.name);
        named_words(&reply.data, "version", OSAE_VERSION);
        named_whole(&reply.data, "up_ms", tick_ms() - e->started_at);
        if (view.state == FOLLOW_EVALUATING || view.state == FOLLOW_PREPARING) {
            named_words(&reply.data, "phase", view.phase);
            named_real(&reply.data, "share", view.share);
        }
        named_whole(&reply.data, "step", (int64_t)view.step);
        named_whole(&reply.data, "done", (int64_t)view.done);
        named_whole(&reply.data, "failed", (int64_t)view.failed);
        named_words(&reply.data, "last", view.last);
        named_real(&reply.data, "last_seconds", view.seconds);
    }
    control_reply(e->control, request->ticket, &reply);
}

static void
tell(struct evaluator *e, int64_t now)
{
    static struct msg_beat beat;
    static struct msg_metric metric;
    struct follow_view view;
    follow_look(e->follow, &view);
    control_state(e->control, state_names[view.state]);
    memset(&beat, 0, sizeof beat);
    snprintf(beat.state, sizeof beat.state, "%s", state_names[view.state]);
    beat.step = view.step;
    beat.up_ms = (uint64_t)(now - e->started_at);
    publisher_send(e->publisher, MESSAGE_BEAT, &beat);
    memset(&metric, 0, sizeof metric);
    metric.step = view.step;
    named_words(&metric.values, "phase", view.phase);
    named_real(&metric.values, "share", view.share);
    named_whole(&metric.values, "done", (int64_t)view.done);
    named_whole(&metric.values, "failed", (int64_t)view.failed);
    named_real(&metric.values, "seconds", view.seconds);
    publisher_send(e->publisher, MESSAGE_METRIC, &metric);
    if (!e->ready && view.state != FOLLOW_PREPARING) {
        e->ready = true;
        notify("READY=1");
    }
    notify("WATCHDOG=1");
}

static bool
has_ended(struct evaluator *e)
{
    struct follow_view view;
    follow_look(e->follow, &view);
    return view.state == FOLLOW_ENDED;
}

static void
loop(struct evaluator *e)
{
    while (loop_stopping(e->loop) == LOOP_GOES_ON && !has_ended(e)) {
        int64_t now = tick_ms(), wake_at = control_turn(e->control, now);
        uint64_t drained;
        bool woken = read(e->wake_fd, &drained, sizeof drained) == (ssize_t)sizeof drained;
        struct request request;
        while (control_next(e->control, &request)) {
            answer(e, &request);
            wake_at = control_turn(e->control, now);
        }
        publisher_turn(e->publisher);
        if (woken || now >= e->second_at) {
            e->second_at = now + SECOND_MS;
            tell(e, now);
        }
        wake_at = e->second_at < wake_at ? e->second_at : wake_at;
        loop_wait(e->loop, channel_pending(e->channel) ? now : wake_at);
    }
}

static enum status
open_all(struct evaluator *e, const struct config *config)
{
    const struct settings *set = e->set;
    TRY(hello_fill(&e->me, ROLE_EVALUATOR, "evaluator", set->run.name, 0));
    TRY(channel_new(&e->channel, NULL));
    channel_io_threads(e->channel, set->data.io_threads);
    struct control_settings control = {.name = e->me.name,
                                       .inst = e->me.inst,
                                       .host = e->me.host,
                                       .hb_ms = set->net.hb_ms,
                                       .lease_ms = set->net.lease_ms,
                                       .operations = operations};
    TRY(control_open(&e->control, e->channel, set->evaluator.ctl, &control));
    TRY(publisher_open(&e->publisher, e->channel, set->evaluator.pub, set->run.name, "evaluator",
                       0));
    loop_add(e->loop, channel_fd(e->channel));
    loop_add(e->loop, e->wake_fd);
    return follow_new(&e->follow, config, e->wake_fd);
}

enum status
evaluator_run(const struct config *config)
{
    struct evaluator *e = calloc(1, sizeof *e);
    if (!e)
        return FAIL(CREATE, "no memory for the evaluator");
    e->set = &config->set;
    e->started_at = tick_ms();
    e->wake_fd = -1;
    // An SAE and its scratch come and go with every checkpoint. Each large block is a mapping of
    // its own and goes back when it is freed; glibc would soon begin to keep those up to 32 MiB in
    // a heap, where whatever outlives a checkpoint (a connection made meanwhile) tears holes: it
    // grew by steps of 1.5 MiB, at any time. It costs some 400 page faults an evaluation.
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
    enum status status;
    GOTRY(loop_new(&e->loop));
    e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->wake_fd < 0)
        GOTRY(FAIL(CREATE, "cannot make an eventfd"));
    GOTRY(open_all(e, config));
    loop(e);
    notify("STOPPING=1");
    loop_leave(e->loop, e->set->stop.deadline_s);
    status = follow_free(&e->follow);
done:;
    struct status_note why;
    status_note_take(&why, status);
    if (e->follow && follow_free(&e->follow) != STATUS_OK)
        say(SAY_DEBUG, "%s", status_words());
    control_close(&e->control);
    publisher_close(&e->publisher);
    channel_free(&e->channel);
    if (e->wake_fd >= 0)
        close(e->wake_fd);
    loop_free(&e->loop);
    free(e);
    return status_note_give(&why);
}

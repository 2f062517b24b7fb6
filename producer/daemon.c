#include "producer/daemon.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/host/descriptors.h"
#include "lib/host/loop.h"
#include "lib/host/notify.h"
#include "lib/kern/kern.h"
#include "producer/prepare.h"
#include "proto/control.h"
#include "proto/dataclient.h"
#include "proto/dataport.h"
#include "proto/publish.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SECOND_MS = 1000, LOOK_MS = 200, LINKS = 1024, OTHER_FILES = 256 };

struct producer {
    const struct config *config;
    const struct settings *set;
    struct loop *loop;
    struct channel *channel;
    struct control *control;
    struct publisher *publisher;
    struct msg_hello me;
    const char *state;
    bool paused;
    int64_t second_at, started_at;

    // the compute thread
    pthread_t thread;
    bool has_thread;
    int wake_fd; // it writes, the loop reads
    atomic_bool stop, is_prepared, has_failed;
    struct dataport *_Atomic port; // opened by the communication thread once prepared
    struct prepared prepared;      // its own until is_prepared, then only read by others
    struct status_note why;        // when has_failed
    pthread_mutex_t lock;          // of the progress
    char phase[32];
    double share, rate;
};

// ---------------------------------------------------------------- the compute thread

static void
wake(struct producer *p)
{
    uint64_t one = 1;
    if (write(p->wake_fd, &one, sizeof one) < 0)
        return; // the counter is at its top: it is readable all the same
}

static void
note_progress(void *context, const char *phase, double share, double rate)
{
    struct producer *p = context;
    pthread_mutex_lock(&p->lock);
    snprintf(p->phase, sizeof p->phase, "%s", phase);
    p->share = share;
    p->rate = rate;
    pthread_mutex_unlock(&p->lock);
}

static bool
is_stopping(void *context)
{
    struct producer *p = context;
    return atomic_load(&p->stop);
}

struct making {
    struct producer *producer;
    struct dataport *port;
    const struct want_batch *want;
};

static bool
is_unwanted(void *context)
{
    struct making *making = context;
    return is_stopping(making->producer) || dataport_stale(making->port, making->want);
}

static enum status
serve(struct producer *p, struct dataport *port)
{
    struct want_batch want;
    while (!atomic_load(&p->stop)) {
        if (!dataport_want(port, &want, tick_ms() + LOOK_MS)) {
            if (dataport_closed(port))
                break;
            continue;
        }
        struct making making = {p, port, &want};
        uint64_t context;
        bool made;
        enum status status = generator_make(p->prepared.generator, want.at, want.seq, &context,
                                            &made, is_unwanted, &making);
        if (status != STATUS_OK || !made)
            dataport_give_up(port, &want);
        else
            dataport_filled(port, &want, context, 0);
        TRY(status);
    }
    return STATUS_OK;
}

static enum status
compute(struct producer *p)
{
    struct prepare_watch watch = {note_progress, is_stopping, p};
    TRY(prepare(&p->prepared, p->config, &watch));
    atomic_store(&p->is_prepared, true);
    wake(p);
    struct dataport *port;
    while (!(port = atomic_load(&p->port))) {
        if (atomic_load(&p->stop))
            return STATUS_OK;
        struct timespec nap = {0, 5000000L};
        nanosleep(&nap, NULL);
    }
    return serve(p, port);
}

static void *
work(void *from)
{
    struct producer *p = from;
    enum status status = compute(p);
    if (status != STATUS_OK && !atomic_load(&p->stop)) {
        status_note_take(&p->why, status);
        atomic_store(&p->has_failed, true);
    }
    wake(p);
    return NULL;
}

// ---------------------------------------------------------------- the communication thread

// A batch renews a lease when it is complete: the slowest link that is allowed gets time for it.
static uint32_t
lease_ms(const struct settings *set, uint64_t bytes)
{
    double slow = 4000.0 * (double)bytes / (double)set->net.min_rate;
    return slow <= set->net.lease_ms ? set->net.lease_ms : slow >= 3.6e6 ? 3600000 : (uint32_t)slow;
}

static enum status
open_data(struct producer *p)
{
    const struct settings *set = p->set;
    struct dataserver_settings server = dataserver_presets;
    snprintf(server.links.name, sizeof server.links.name, "%s", p->me.name);
    server.links.inst = p->me.inst;
    server.links.host = p->me.host;
    server.links.hb_ms = set->net.hb_ms;
    server.links.lease_ms = lease_ms(set, p->prepared.stream.bytes);
    server.links.roles = endpoint_roles(set->producer.data, 0);
    server.links.win = WINDOW_MOST;
    server.links.stream = p->prepared.stream;
    server.links.most = LINKS;
    server.links.seed = random_seed();
    server.share = set->data.xf != HANDOVER_INLINE;
    server.slots = (uint16_t)set->stream.ring_slots;
    server.dead_after_ms = set->pace.dead_after_s * 1000;
    server.barrier_ms = set->pace.barrier_timeout_s * 1000;
    server.barrier_start = set->pace.barrier_on_timeout == SET_BARRIER_START;
    server.rejoin_ms = set->replay.rejoin_wait_s * 1000;
    server.mismatch_warn = set->replay.on_mismatch == SET_MISMATCH_WARN;
    struct dataport *port;
    TRY(dataport_open(&port, p->channel, set->producer.data, &server));
    atomic_store(&p->port, port);
    p->state = "running";
    control_state(p->control, p->state);
    char id[33];
    hex128(id, p->prepared.stream.id);
    say(SAY_INFO, "serving stream %s: %" PRIu64 " batches of %u x %u at %s", id,
        p->prepared.stream.end, p->prepared.stream.rows, p->prepared.stream.width,
        set->producer.data);
    uint64_t files = descriptors_raise();
    say(files < LINKS + OTHER_FILES ? SAY_WARN : SAY_INFO,
        "bounds: %d trainers, %d links a socket, %u batches in the ring, windows of at most %d, "
        "messages of 64 KiB, %" PRIu64 " descriptors",
        MEMBERS_MOST, LINKS, (unsigned)server.slots, WINDOW_MOST, files);
    publisher_event(p->publisher, SAY_INFO, "running", "serving stream %s", id);
    notify("READY=1");
    return STATUS_OK;
}

static const struct operation operations[] = {
    {"status", ROLES_ALL, true},        {"peers", ROLES_ALL, true},
    {"pause", 1u << ROLE_ADMIN, false}, {"resume", 1u << ROLE_ADMIN, false},
    {"stop", 1u << ROLE_ADMIN, false},  {NULL, 0, false},
};

static void
fill_status(struct producer *p, struct named *out)
{
    named_words(out, "process", "producer");
    named_words(out, "state", p->state);
    named_words(out, "run", p->set->run.name);
    named_words(out, "version", OSAE_VERSION);
    named_whole(out, "up_ms", tick_ms() - p->started_at);
    struct dataport *port = atomic_load(&p->port);
    if (!port) {
        pthread_mutex_lock(&p->lock);
        named_words(out, "phase", p->phase);
        named_real(out, "share", p->share);
        named_real(out, "rate", p->rate);
        pthread_mutex_unlock(&p->lock);
        return;
    }
    struct dataserver_view view;
    struct generator_view made;
    dataserver_look(dataport_server(port), &view);
    generator_look(p->prepared.generator, &made);
    char id[33];
    hex128(id, p->prepared.stream.id);
    named_words(out, "stream", id);
    named_whole(out, "batches", (int64_t)p->prepared.stream.end);
    named_whole(out, "ring_from", (int64_t)view.tail);
    named_whole(out, "ring_to", (int64_t)view.head);
    named_whole(out, "full", view.full);
    named_whole(out, "links", (int64_t)view.links);
    named_whole(out, "members", (int64_t)view.members);
    named_whole(out, "stale", (int64_t)view.stale);
    named_whole(out, "sent", (int64_t)view.sent);
    named_whole(out, "sent_shared", (int64_t)view.shared);
    named_whole(out, "replayed", (int64_t)view.replayed);
    named_whole(out, "mismatches", (int64_t)view.mismatches);
    named_whole(out, "bounces", (int64_t)view.bounces);
    named_whole(out, "malformed", (int64_t)dataport_malformed(port));
    named_whole(out, "blocks", (int64_t)made.blocks);
    named_real(out, "block_share", made.share);
    named_whole(out, "dropped_first", (int64_t)made.totals.dropped_first);
    named_whole(out, "dropped_special", (int64_t)made.totals.dropped_special);
    named_whole(out, "dropped_norm", (int64_t)made.totals.dropped_norm);
    named_whole(out, "rows_repeated", (int64_t)made.totals.repeated);
}

static void
fill_peers(struct producer *p, struct named *out)
{
    struct dataport *port = atomic_load(&p->port);
    struct member_view member;
    for (size_t i = 0; port && i < 24 && dataserver_member(dataport_server(port), i, &member);
         i++) {
        char name[NAMED_NAME];
        snprintf(name, sizeof name, "%zu", i);
        named_print(
            out, name, "trainer %s, %s, applied %" PRIu64 ", next %" PRIu64 ", lag %" PRIu64,
            member.name, member.live ? "live" : "stale", member.app, member.next, member.lag);
    }
}

static void
answer(struct producer *p, const struct request *request)
{
    static struct msg_reply reply; // 30 KiB: too much for a stack that others share
    const char *op = request->cmd->op;
    struct dataport *port = atomic_load(&p->port);
    memset(&reply, 0, sizeof reply);
    reply.ok = true;
    if (strcmp(op, "status") == 0) {
        fill_status(p, &reply.data);
    } else if (strcmp(op, "peers") == 0) {
        fill_peers(p, &reply.data);
    } else if (strcmp(op, "stop") == 0) {
        loop_ask_stop(p->loop);
    } else if (!port) {
        control_refuse(p->control, request->ticket, REFUSAL_STATE, "the producer is still %s",
                       p->state);
        return;
    } else {
        p->paused = strcmp(op, "pause") == 0;
        p->state = p->paused ? "paused" : "running";
        control_state(p->control, p->state);
        dataport_pause(port, p->paused);
    }
    control_reply(p->control, request->ticket, &reply);
}

// Once a second: beat and numbers.
static void
each_second(struct producer *p, int64_t now)
{
    static struct msg_metric metric;
    static struct msg_beat beat;
    if (now < p->second_at)
        return;
    p->second_at = now + SECOND_MS;
    memset(&beat, 0, sizeof beat);
    snprintf(beat.state, sizeof beat.state, "%s", p->state);
    beat.up_ms = (uint64_t)(now - p->started_at);
    publisher_send(p->publisher, MESSAGE_BEAT, &beat);

    memset(&metric, 0, sizeof metric);
    struct dataport *port = atomic_load(&p->port);
    if (!port) {
        pthread_mutex_lock(&p->lock);
        named_words(&metric.values, "phase", p->phase);
        named_real(&metric.values, "share", p->share);
        pthread_mutex_unlock(&p->lock);
    } else {
        struct generator_view made;
        struct dataserver_view view;
        generator_look(p->prepared.generator, &made);
        dataserver_look(dataport_server(port), &view);
        double tokens = (double)made.totals.rows;
        named_real(&metric.values, "tokens_read", tokens);
        named_real(&metric.values, "model_seconds", made.model_seconds);
        named_real(&metric.values, "model_tokens_per_second",
                   made.model_seconds > 0 ? tokens / made.model_seconds : 0);
        named_real(&metric.values, "block_share", made.share);
        named_real(&metric.values, "ring_full", view.full);
        named_real(&metric.values, "rows_dropped_first", (double)made.totals.dropped_first);
        named_real(&metric.values, "rows_dropped_special", (double)made.totals.dropped_special);
        named_real(&metric.values, "rows_dropped_norm", (double)made.totals.dropped_norm);
        named_real(&metric.values, "rows_repeated", (double)made.totals.repeated);
        named_real(&metric.values, "rows_unused", (double)made.totals.unused);
        metric.step = view.head;
    }
    publisher_send(p->publisher, MESSAGE_METRIC, &metric);
}

static int64_t
turn(struct producer *p, int64_t now)
{
    uint64_t drained;
    if (read(p->wake_fd, &drained, sizeof drained) < 0) { // nobody woke us: fine
    }
    struct dataport *port = atomic_load(&p->port);
    int64_t wake_at = p->second_at;
    if (port) {
        int64_t at = dataport_turn(port, now);
        wake_at = at < wake_at ? at : wake_at;
        struct notice notice;
        while (dataport_notice(port, &notice))
            publisher_event(p->publisher, notice.level, notice.event, "%s", notice.words);
    }
    struct request request;
    int64_t at = control_turn(p->control, now);
    while (control_next(p->control, &request)) {
        answer(p, &request);
        at = control_turn(p->control, now);
    }
    wake_at = at < wake_at ? at : wake_at;
    publisher_turn(p->publisher);
    each_second(p, now);
    return channel_pending(p->channel) ? now : wake_at;
}

static enum status
run(struct producer *p)
{
    while (loop_stopping(p->loop) == LOOP_GOES_ON) {
        if (atomic_load(&p->has_failed))
            return status_note_give(&p->why);
        if (atomic_load(&p->is_prepared) && !atomic_load(&p->port))
            TRY(open_data(p));
        loop_wait(p->loop, turn(p, tick_ms()));
    }
    return STATUS_OK;
}

static void
leave(struct producer *p, enum status status)
{
    p->state = "stopping";
    notify("STOPPING=1");
    loop_leave(p->loop, p->set->stop.deadline_s);
    atomic_store(&p->stop, true);
    struct dataport *port = atomic_load(&p->port);
    if (p->publisher && status != STATUS_OK)
        publisher_event(p->publisher, SAY_ERROR, "failed", "%s", status_words());
    if (port) {
        dataport_leave(port, status == STATUS_OK ? "stopping" : "failed");
        turn(p, tick_ms());
    }
    if (p->has_thread)
        pthread_join(p->thread, NULL);
    dataport_close(&port);
    control_close(&p->control);
    publisher_close(&p->publisher);
    channel_free(&p->channel);
    prepared_release(&p->prepared);
}

static enum status
open_sockets(struct producer *p)
{
    const struct settings *set = p->set;
    TRY(config_given(p->config, "text.files"));
    TRY(config_given(p->config, "model.path"));
    const struct kern *kern; // the model's products are lib/lm's own: the word is what is checked
    TRY(kern_open(&kern, set->producer.device, "producer.device"));
    TRY(hello_fill(&p->me, ROLE_MONITOR, "producer", set->run.name, 0));
    TRY(channel_new(&p->channel, NULL));
    channel_io_threads(p->channel, set->data.io_threads);
    struct control_settings control = {.name = p->me.name,
                                       .inst = p->me.inst,
                                       .host = p->me.host,
                                       .hb_ms = set->net.hb_ms,
                                       .lease_ms = set->net.lease_ms,
                                       .operations = operations};
    TRY(control_open(&p->control, p->channel, set->producer.ctl, &control));
    TRY(publisher_open(&p->publisher, p->channel, set->producer.pub, set->run.name, "producer", 0));
    loop_add(p->loop, channel_fd(p->channel));
    return STATUS_OK;
}

enum status
producer_run(const struct config *config)
{
    struct producer *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(CREATE, "no memory for the producer");
    p->config = config;
    p->set = &config->set;
    p->state = "init";
    p->share = -1;
    p->started_at = tick_ms();
    pthread_mutex_init(&p->lock, NULL);
    enum status status = loop_new(&p->loop);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (status == STATUS_OK && p->wake_fd < 0)
        status = FAIL(CREATE, "cannot make an eventfd");
    if (status == STATUS_OK) {
        loop_add(p->loop, p->wake_fd);
        status = open_sockets(p);
    }
    if (status == STATUS_OK) {
        p->has_thread = pthread_create(&p->thread, NULL, work, p) == 0;
        status = p->has_thread ? run(p) : FAIL(CREATE, "cannot start the compute thread");
    }
    struct status_note why; // leaving may fail at things that matter less
    status_note_take(&why, status);
    leave(p, status);
    status = status_note_give(&why);
    if (p->wake_fd >= 0)
        close(p->wake_fd);
    loop_free(&p->loop);
    pthread_mutex_destroy(&p->lock);
    free(p);
    return status;
}

#include "proto/dataclient.h"

#include "lib/base/say.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NEVER INT64_MAX

enum { ATTACH_AGAIN_MS = 2000, DETACH_MS = 500 };
enum { STRIKES = 3, STRIKES_MS = 600000, EVENTS_MOST = 4 * PRODUCERS_MOST };

enum phase { PHASE_IDLE, PHASE_ATTACHING, PHASE_ATTACHED, PHASE_DETACHING };

// One producer.
struct source {
    struct link link;
    struct wire_stream stream;
    enum phase phase;
    uint64_t request, gen;
    uint64_t expect;              // the first number it owns that is not staged yet
    uint64_t seen_end, seen_hash; // its last batch we know
    int64_t wait_until, attach_at, credit_at;
    bool credit_due;
    bool let_go;    // detach as soon as attached
    unsigned tries; // attachments since the last good batch
    unsigned strikes;
    int64_t strikes_from;
    uint64_t bad_q; // + 1
    unsigned bad_count;
    int waits;
    char by[WIRE_NAME];
};

struct staged {
    bool full;
    struct taken batch;
};

struct dataclient {
    struct dataclient_settings set;
    struct wire_stream stream; // of the first producer greeted; shards 0: none yet
    bool started, paused, leaving;
    uint64_t dur, app, taken, end;
    struct staged staged[WINDOW_MOST];
    struct source sources[PRODUCERS_MOST];
    unsigned pause_code, dupname;
    char pause_words[257];
    uint64_t batches, stale, dup, gap, overrun, badshape, badhash, reattached, links_lost;
    struct dataclient_action events[EVENTS_MOST];
    size_t event_first, event_count;
};

enum status
dataclient_new(struct dataclient **out, const struct dataclient_settings *set)
{
    *out = NULL;
    if (set->producers < 1 || set->producers > PRODUCERS_MOST)
        return FAIL(CONFIG, "trainer.producers has %zu elements, wanted 1 to %d", set->producers,
                    PRODUCERS_MOST);
    if (set->win < 1 || set->win > WINDOW_MOST)
        return FAIL(CONFIG, "data.win is %u, wanted 1 to %d", set->win, WINDOW_MOST);
    struct dataclient *client = calloc(1, sizeof *client);
    if (!client)
        return FAIL(CREATE, "data client: out of memory");
    client->set = *set;
    for (size_t p = 0; p < set->producers; p++)
        link_init(&client->sources[p].link, &client->set.link, set->seed + p);
    *out = client;
    return STATUS_OK;
}

void
dataclient_free(struct dataclient **client)
{
    free(*client);
    *client = NULL;
}

__attribute__((format(printf, 4, 5))) static void
post_event(struct dataclient *client, int level, const char *event, const char *format, ...)
{
    if (client->event_count == EVENTS_MOST)
        return; // the driver does not listen; what matters is in the view
    struct dataclient_action *action =
        &client->events[(client->event_first + client->event_count++) % EVENTS_MOST];
    action->what = DATACLIENT_EVENT;
    action->notice.level = level;
    snprintf(action->notice.event, sizeof action->notice.event, "%s", event);
    va_list args;
    va_start(args, format);
    vsnprintf(action->notice.words, sizeof action->notice.words, format, args);
    va_end(args);
}

__attribute__((format(printf, 3, 4))) static void
pause_for(struct dataclient *client, enum refusal code, const char *format, ...)
{
    if (client->paused)
        return;
    client->paused = true;
    client->pause_code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(client->pause_words, sizeof client->pause_words, format, args);
    va_end(args);
    post_event(client, SAY_ERROR, "data.paused", "%s: %.200s", refusal_name(code),
               client->pause_words);
}

void
dataclient_resume(struct dataclient *client)
{
    client->paused = false;
    for (size_t p = 0; p < client->set.producers; p++) {
        client->sources[p].strikes = client->sources[p].bad_count = 0;
        client->sources[p].wait_until = 0;
    }
}

static void
attach_later(struct source *source, int64_t when)
{
    source->phase = PHASE_IDLE;
    source->gen = 0;
    source->let_go = false;
    source->wait_until = when;
}

// A new attachment from the number expected: at once, then more and more slowly while nothing good
// arrives.
static void
reattach(struct dataclient *client, struct source *source, int64_t now)
{
    client->reattached++;
    int64_t delay = source->tries == 0 ? 0 : 50LL << (source->tries < 7 ? source->tries : 7);
    source->tries++;
    attach_later(source, now + delay);
}

// The third such fault within ten minutes is no accident.
static void
strike(struct dataclient *client, size_t p, int64_t now, enum refusal code, const char *what)
{
    struct source *source = &client->sources[p];
    if (source->strikes == 0 || now - source->strikes_from > STRIKES_MS) {
        source->strikes = 0;
        source->strikes_from = now;
    }
    source->strikes++;
    post_event(client, SAY_WARN, "data.fault", "producer %zu: %s (%s)", p, what,
               refusal_name(code));
    reattach(client, source, now);
    if (source->strikes >= STRIKES)
        pause_for(client, code, "producer %zu: %s, %u times", p, what, source->strikes);
}

// ---- greeting

const struct wire_stream *
dataclient_stream(const struct dataclient *client)
{
    for (size_t p = 0; p < client->set.producers; p++)
        if (client->sources[p].stream.shards == 0)
            return NULL;
    return &client->stream;
}

static void
place(struct dataclient *client, struct source *source)
{
    source->expect = share_first(&source->stream, client->taken);
}

// Is what this producer serves our stream, and its share one that nobody else has?
static bool
greeted(struct dataclient *client, size_t p)
{
    struct source *source = &client->sources[p];
    const struct wire_stream *stream = &source->link.welcome.stream;
    static const struct hash128 any = {0, 0};
    if (!stream_sane(stream)) {
        pause_for(client, REFUSAL_STREAM, "producer %zu describes an impossible stream", p);
        return false;
    }
    if (!hash128_same(client->set.stream, any) && !hash128_same(client->set.stream, stream->id)) {
        char ours[33], theirs[33];
        hex128(ours, client->set.stream);
        hex128(theirs, stream->id);
        pause_for(client, REFUSAL_STREAM, "producer %zu serves stream %s, this run's is %s", p,
                  theirs, ours);
        return false;
    }
    if (stream->shards != client->set.producers) {
        pause_for(client, REFUSAL_STREAM,
                  "producer %zu shares the stream with %u, trainer.producers names %zu", p,
                  stream->shards - 1u, client->set.producers);
        return false;
    }
    if (client->stream.shards != 0 && !stream_same(&client->stream, stream)) {
        pause_for(client, REFUSAL_STREAM, "producer %zu serves another stream than the first", p);
        return false;
    }
    for (size_t o = 0; o < client->set.producers; o++)
        if (o != p && client->sources[o].stream.shards != 0 &&
            client->sources[o].stream.shard == stream->shard) {
            pause_for(client, REFUSAL_STREAM, "producers %zu and %zu both are share %u", o, p,
                      stream->shard);
            return false;
        }
    bool first = source->stream.shards == 0;
    if (!first && source->stream.shard != stream->shard) {
        pause_for(client, REFUSAL_STREAM, "producer %zu was share %u and is %u", p,
                  source->stream.shard, stream->shard);
        return false;
    }
    if (client->stream.shards == 0) {
        client->stream = *stream;
        client->set.stream = stream->id;
    }
    source->stream = *stream;
    if (first)
        place(client, source);
    return true;
}

void
dataclient_start(struct dataclient *client, struct cursor from, uint64_t end)
{
    assert(dataclient_stream(client) && !client->started && end <= client->stream.end);
    client->started = true;
    client->dur = client->app = client->taken = from.next;
    client->end = end > from.next ? end : from.next;
    for (size_t p = 0; p < client->set.producers; p++) {
        struct source *source = &client->sources[p];
        place(client, source);
        if (from.seen && from.next > 0 &&
            share_first(&source->stream, from.next - 1) == from.next - 1) {
            source->seen_end = from.next;
            source->seen_hash = from.last_hash;
        }
    }
}

// ---- batches

static uint64_t
upto(const struct dataclient *client)
{
    uint64_t most = client->app + client->set.win;
    return most < client->end ? most : client->end;
}

static int
receive_batch(struct dataclient *client, size_t p, const struct msg_batch *batch,
              uint64_t payload_bytes_, uint64_t payload_hash, int64_t now)
{
    struct source *source = &client->sources[p];
    const struct wire_stream *stream = &client->stream;
    if (source->phase != PHASE_ATTACHED || batch->gen != source->gen) {
        client->stale++;
        return -1;
    }
    if (batch->q < source->expect) {
        client->dup++;
        return -1;
    }
    if (batch->q > source->expect) {
        client->gap++;
        reattach(client, source, now);
        return -1;
    }
    if (batch->q >= upto(client)) {
        client->overrun++;
        strike(client, p, now, REFUSAL_WINDOW, "sent more than was asked for");
        return -1;
    }
    if (batch->rows != stream->rows || batch->width != stream->width ||
        batch->dtype != stream->dtype || batch->bytes != stream->bytes ||
        payload_bytes_ != stream->bytes) {
        client->badshape++;
        strike(client, p, now, REFUSAL_SCHEMA, "a batch of another shape than the stream's");
        return -1;
    }
    if (batch->hash != payload_hash) {
        client->badhash++;
        source->bad_count = source->bad_q == batch->q + 1 ? source->bad_count + 1 : 1;
        source->bad_q = batch->q + 1;
        post_event(client, SAY_WARN, "data.badhash", "batch %llu arrived damaged, asking again",
                   (unsigned long long)batch->q);
        if (source->bad_count >= STRIKES)
            pause_for(client, REFUSAL_CORRUPT, "batch %llu arrived damaged %u times",
                      (unsigned long long)batch->q, source->bad_count);
        reattach(client, source, now);
        return -1;
    }
    uint16_t slot = (uint16_t)(batch->q % client->set.win);
    struct staged *staged = &client->staged[slot];
    assert(!staged->full); // q < app + win, and everything below app is gone
    staged->full = true;
    staged->batch = (struct taken){.seq = batch->q,
                                   .hash = batch->hash,
                                   .context = batch->context,
                                   .epoch = batch->epoch,
                                   .saturated = batch->saturated,
                                   .flags = batch->flags,
                                   .slot = slot};
    source->seen_end = batch->q + 1;
    source->seen_hash = batch->hash;
    source->expect = share_next(&source->stream, batch->q);
    source->tries = 0;
    client->batches++;
    return slot;
}

bool
dataclient_take(struct dataclient *client, struct taken *out)
{
    const struct staged *staged = &client->staged[client->taken % client->set.win];
    if (!client->started || !staged->full || staged->batch.seq != client->taken)
        return false;
    *out = staged->batch;
    client->taken++;
    return true;
}

void
dataclient_applied(struct dataclient *client, uint64_t seq)
{
    struct staged *staged = &client->staged[seq % client->set.win];
    assert(seq == client->app && seq < client->taken && staged->full);
    staged->full = false;
    client->app = seq + 1;
    for (size_t p = 0; p < client->set.producers; p++)
        client->sources[p].credit_due = true;
}

void
dataclient_durable(struct dataclient *client, uint64_t next)
{
    assert(next <= client->app);
    if (next <= client->dur)
        return;
    client->dur = next;
    for (size_t p = 0; p < client->set.producers; p++)
        client->sources[p].credit_due = true;
}

// ---- other messages

static void
receive_err(struct dataclient *client, size_t p, const struct msg_err *err, int64_t now)
{
    struct source *source = &client->sources[p];
    switch (err->code) {
    case REFUSAL_STREAM:
    case REFUSAL_CURSOR:
    case REFUSAL_GONE:
    case REFUSAL_ROLE:
    case REFUSAL_DENIED:
    case REFUSAL_REPLAY_MISMATCH:
        pause_for(client, (enum refusal)err->code, "producer %zu: %s", p, err->words);
        attach_later(source, now + 1000);
        return;
    case REFUSAL_WINDOW:
        strike(client, p, now, REFUSAL_WINDOW, err->words);
        return;
    case REFUSAL_REPLAY_BUSY:
        source->waits = TICK_BEHIND;
        post_event(client, SAY_INFO, "data.busy", "producer %zu: %s, again in %u ms", p, err->words,
                   err->retry_ms);
        attach_later(source, now + err->retry_ms);
        // All producers or none: whoever waits here must not hold the others up elsewhere, or each
        // would wait for the other for ever.
        for (size_t o = 0; o < client->set.producers; o++) {
            struct source *other = &client->sources[o];
            other->let_go = other->phase != PHASE_IDLE;
            if (other->wait_until < now + err->retry_ms)
                other->wait_until = now + err->retry_ms;
        }
        return;
    default:
        attach_later(source, now + (err->retry_ms > 1000 ? err->retry_ms : 1000));
    }
}

static void
receive_detached(struct dataclient *client, size_t p, const struct msg_detached *detached,
                 int64_t now)
{
    struct source *source = &client->sources[p];
    if (source->phase == PHASE_DETACHING && detached->r == source->request) {
        source->phase = PHASE_IDLE;
        return;
    }
    if (source->phase != PHASE_ATTACHED || detached->gen != source->gen) {
        client->stale++;
        return;
    }
    switch (detached->code) {
    case REFUSAL_REPLAY_MISMATCH:
    case REFUSAL_DENIED:
        attach_later(source, now + 1000);
        pause_for(client, (enum refusal)detached->code, "producer %zu: %s", p, detached->words);
        return;
    case REFUSAL_WINDOW:
        strike(client, p, now, REFUSAL_WINDOW, detached->words);
        return;
    case REFUSAL_LAGGED:
        post_event(client, SAY_WARN, "data.lagged", "producer %zu: %s", p, detached->words);
        reattach(client, source, now);
        return;
    default:
        reattach(client, source, now);
    }
}

int
dataclient_receive(struct dataclient *client, size_t p, const struct message *message,
                   uint64_t payload_bytes_, uint64_t payload_hash, int64_t now)
{
    assert(p < client->set.producers);
    struct source *source = &client->sources[p];
    bool current = source->phase == PHASE_ATTACHED;
    if (message->type == MESSAGE_ERR && message->err.r != 0 && source->phase == PHASE_ATTACHING &&
        message->err.r == source->request && message->err.code != REFUSAL_LINK) {
        receive_err(client, p, &message->err, now);
        (void)link_receive(&source->link, &(struct message){.type = MESSAGE_PONG}, now);
        return -1;
    }
    switch (link_receive(&source->link, message, now)) {
    case LINK_IS_UP:
        attach_later(source, now);
        if (!greeted(client, p))
            source->wait_until = now + 1000;
        return -1;
    case LINK_IS_LOST:
        client->links_lost++;
        attach_later(source, now);
        return -1;
    case LINK_IS_REFUSED:
        client->dupname += message->err.code == REFUSAL_DUPNAME;
        post_event(client, SAY_WARN, "data.refused", "producer %zu: %s: %s", p,
                   refusal_name(message->err.code), message->err.words);
        return -1;
    case LINK_NO_NEWS:
        break;
    }
    if (source->link.state != LINK_UP)
        return -1;
    switch (message->type) {
    case MESSAGE_ATTACHED:
        if (source->phase == PHASE_ATTACHING && message->attached.r == source->request) {
            source->phase = PHASE_ATTACHED;
            source->gen = message->attached.gen;
            source->credit_due = true;
            source->waits =
                message->attached.source == SOURCE_BARRIER ? TICK_BARRIER : TICK_GENERATING;
        }
        return -1;
    case MESSAGE_BATCH:
        return receive_batch(client, p, &message->batch, payload_bytes_, payload_hash, now);
    case MESSAGE_TICK:
        if (!current || message->tick.gen != source->gen) {
            client->stale++;
            return -1;
        }
        source->waits = message->tick.why;
        memcpy(source->by, message->tick.by, sizeof source->by);
        if (message->tick.next > source->expect) { // the last ones sent were lost
            client->gap++;
            reattach(client, source, now);
        }
        return -1;
    case MESSAGE_EOS:
        if (current && message->eos.gen == source->gen && source->expect < message->eos.q &&
            source->expect < client->end) {
            client->gap++;
            reattach(client, source, now);
        }
        return -1;
    case MESSAGE_DETACHED:
        receive_detached(client, p, &message->detached, now);
        return -1;
    default:
        return -1;
    }
}

void
dataclient_leave(struct dataclient *client)
{
    client->leaving = true;
}

// ---- what to do now

static void
fill_attach(const struct dataclient *client, struct source *source, struct message *out)
{
    memset(out, 0, sizeof *out);
    out->type = MESSAGE_ATTACH;
    struct msg_attach *attach = &out->attach;
    attach->lk = source->link.lk;
    attach->i = source->request;
    attach->stream = client->stream.id;
    attach->from = source->expect < client->end ? source->expect : client->end;
    attach->end = client->end;
    attach->upto = upto(client);
    attach->app = client->app;
    attach->dur = client->dur;
    attach->win = client->set.win;
    attach->lag = client->set.lag;
    attach->onlag = client->set.onlag;
    memcpy(attach->group, client->set.group, sizeof attach->group);
    attach->group_size = client->set.group_size;
    if (source->seen_end <= attach->from) {
        attach->seen_end = source->seen_end;
        attach->seen_hash = source->seen_hash;
    }
}

static bool
wants_more(const struct dataclient *client, const struct source *source)
{
    return client->started && !client->paused && source->expect < client->end;
}

// What the attachment of one producer needs said.
static bool
next_of_source(struct dataclient *client, struct source *source, int64_t now, struct message *out)
{
    if (source->link.state != LINK_UP)
        return false;
    if (client->leaving && source->phase != PHASE_ATTACHED)
        return false;
    if (client->leaving || (source->let_go && source->phase == PHASE_ATTACHED)) {
        source->phase = client->leaving ? PHASE_DETACHING : PHASE_IDLE;
        source->attach_at = now;
        source->let_go = false;
        memset(out, 0, sizeof *out);
        out->type = MESSAGE_DETACH;
        out->detach.lk = source->link.lk;
        out->detach.i = source->request = link_request(&source->link);
        out->detach.gen = source->gen;
        out->detach.app = client->app;
        out->detach.dur = client->dur;
        snprintf(out->detach.why, sizeof out->detach.why, "%s",
                 client->leaving ? "leaving" : "waiting for another producer");
        source->gen = 0;
        return true;
    }
    if (source->phase == PHASE_IDLE && wants_more(client, source) && now >= source->wait_until) {
        source->phase = PHASE_ATTACHING;
        source->request = link_request(&source->link);
        source->attach_at = now;
        fill_attach(client, source, out);
        return true;
    }
    if (source->phase == PHASE_ATTACHING && now - source->attach_at >= ATTACH_AGAIN_MS) {
        source->attach_at = now;
        fill_attach(client, source, out);
        return true;
    }
    if (source->phase == PHASE_ATTACHED &&
        (source->credit_due || now - source->credit_at >= source->link.welcome.hb_ms)) {
        source->credit_due = false;
        source->credit_at = now;
        memset(out, 0, sizeof *out);
        out->type = MESSAGE_CREDIT;
        out->credit.lk = source->link.lk;
        out->credit.gen = source->gen;
        out->credit.upto = upto(client);
        out->credit.app = client->app;
        out->credit.dur = client->dur;
        return true;
    }
    return false;
}

bool
dataclient_next(struct dataclient *client, int64_t now, struct dataclient_action *out)
{
    if (client->event_count > 0) {
        *out = client->events[client->event_first];
        client->event_first = (client->event_first + 1) % EVENTS_MOST;
        client->event_count--;
        return true;
    }
    for (size_t p = 0; p < client->set.producers; p++) {
        struct source *source = &client->sources[p];
        out->producer = p;
        if (next_of_source(client, source, now, &out->message)) {
            link_said(&source->link, now);
            out->what = DATACLIENT_SEND;
            return true;
        }
        // Its answer is the last that comes: a socket closed in the middle of a batch would leave
        // the library with half a message, which it then never frees.
        if (client->leaving && (source->phase != PHASE_DETACHING || source->link.state != LINK_UP ||
                                now - source->attach_at >= DETACH_MS))
            link_leave(&source->link);
        enum link_state before = source->link.state;
        enum link_do what = link_next(&source->link, now, &out->message);
        if (before == LINK_UP && source->link.state != LINK_UP && !client->leaving) {
            client->links_lost++;
            attach_later(source, now);
            post_event(client, SAY_WARN, "data.link_lost", "producer %zu has been silent for %u ms",
                       p, source->link.welcome.lease_ms);
        }
        if (what == LINK_NOTHING)
            continue;
        out->what = what == LINK_OPEN   ? DATACLIENT_OPEN
                    : what == LINK_SHUT ? DATACLIENT_SHUT
                                        : DATACLIENT_SEND;
        return true;
    }
    return false;
}

int64_t
dataclient_wake(const struct dataclient *client)
{
    int64_t wake = client->event_count > 0 ? 0 : NEVER;
    for (size_t p = 0; p < client->set.producers; p++) {
        const struct source *source = &client->sources[p];
        int64_t then = link_wake(&source->link);
        if (source->link.state == LINK_UP) {
            int64_t more = NEVER;
            if (source->phase == PHASE_DETACHING)
                more = source->attach_at + DETACH_MS;
            else if (client->leaving || (source->let_go && source->phase == PHASE_ATTACHED))
                more = 0;
            else if (source->phase == PHASE_IDLE && wants_more(client, source))
                more = source->wait_until;
            else if (source->phase == PHASE_ATTACHING)
                more = source->attach_at + ATTACH_AGAIN_MS;
            else if (source->phase == PHASE_ATTACHED)
                more = source->credit_due ? 0
                                          : source->credit_at + (int64_t)source->link.welcome.hb_ms;
            then = more < then ? more : then;
        }
        wake = then < wake ? then : wake;
    }
    return wake;
}

// ---- looking in

void
dataclient_look(const struct dataclient *client, struct dataclient_view *view)
{
    *view = (struct dataclient_view){.dur = client->dur,
                                     .app = client->app,
                                     .taken = client->taken,
                                     .upto = client->started ? upto(client) : 0,
                                     .end = client->end,
                                     .started = client->started,
                                     .paused = client->paused,
                                     .ended = client->started && client->app >= client->end,
                                     .pause_code = client->pause_code,
                                     .batches = client->batches,
                                     .stale = client->stale,
                                     .dup = client->dup,
                                     .gap = client->gap,
                                     .overrun = client->overrun,
                                     .badshape = client->badshape,
                                     .badhash = client->badhash,
                                     .reattached = client->reattached,
                                     .links_lost = client->links_lost,
                                     .dupname = client->dupname};
    memcpy(view->pause_words, client->pause_words, sizeof view->pause_words);
    view->leaving = view->gone = client->leaving;
    for (size_t p = 0; p < client->set.producers; p++)
        view->gone &= !client->sources[p].link.open;
    for (size_t i = 0; i < client->set.win; i++)
        view->staged += client->staged[i].full;
    for (size_t p = 0; p < client->set.producers; p++) {
        view->up += client->sources[p].link.state == LINK_UP;
        view->attached += client->sources[p].phase == PHASE_ATTACHED;
    }
}

void
dataclient_producer(const struct dataclient *client, size_t p, struct producer_view *view)
{
    assert(p < client->set.producers);
    const struct source *source = &client->sources[p];
    *view = (struct producer_view){.link = source->link.state,
                                   .attached = source->phase == PHASE_ATTACHED,
                                   .lk = source->link.lk,
                                   .gen = source->gen,
                                   .expect = source->expect,
                                   .waits = source->waits,
                                   .stream = source->stream};
    memcpy(view->name, source->link.welcome.name, sizeof view->name);
    memcpy(view->by, source->by, sizeof view->by);
}

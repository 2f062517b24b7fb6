#include "proto/dataclient_state.h"

#include "lib/base/say.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { STRIKES = 3, STRIKES_MS = 600000, FOREIGN_MOST = 4 };

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

void
dc_post_event(struct dataclient *client, int level, const char *event, const char *format, ...)
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
    dc_post_event(client, SAY_ERROR, "data.paused", "%s: %.200s", refusal_name(code),
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

void
dc_attach_later(struct source *source, int64_t when)
{
    source->phase = PHASE_IDLE;
    source->gen = source->ghost = 0;
    source->foreign = 0;
    source->let_go = source->shm = source->map_due = false;
    source->wait_until = when;
}

void
dc_reattach(struct dataclient *client, struct source *source, int64_t now)
{
    client->reattached++;
    int64_t delay = source->tries == 0 ? 0 : 50LL << (source->tries < 7 ? source->tries : 7);
    source->tries++;
    dc_attach_later(source, now + delay);
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
    dc_post_event(client, SAY_WARN, "data.fault", "producer %zu: %s (%s)", p, what,
                  refusal_name(code));
    dc_reattach(client, source, now);
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

uint64_t
dc_upto(const struct dataclient *client)
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
    source->foreign = 0;
    if (batch->q < source->expect) {
        client->dup++;
        return -1;
    }
    if (batch->q > source->expect) {
        client->gap++;
        dc_reattach(client, source, now);
        return -1;
    }
    if (batch->q >= dc_upto(client)) {
        client->overrun++;
        strike(client, p, now, REFUSAL_WINDOW, "sent more than was asked for");
        return -1;
    }
    if (batch->rows != stream->rows || batch->width != stream->width ||
        batch->dtype != stream->dtype || batch->bytes != stream->bytes ||
        (batch->stamp != 0) != source->shm) {
        client->badshape++;
        strike(client, p, now, REFUSAL_SCHEMA, "a batch of another shape than the stream's");
        return -1;
    }
    // The head, whose own hash is right, and its payload disagree: the way here did that, not the
    // producer. A flipped bit of the framing can part the two.
    if (payload_bytes_ != stream->bytes || batch->hash != payload_hash) {
        client->badhash++;
        source->bad_count = source->bad_q == batch->q + 1 ? source->bad_count + 1 : 1;
        source->bad_q = batch->q + 1;
        dc_post_event(client, SAY_WARN, "data.badhash", "batch %llu arrived damaged, asking again",
                      (unsigned long long)batch->q);
        if (source->bad_count >= STRIKES)
            pause_for(client, REFUSAL_CORRUPT, "batch %llu arrived damaged %u times",
                      (unsigned long long)batch->q, source->bad_count);
        dc_reattach(client, source, now);
        return -1;
    }
    uint16_t slot = (uint16_t)(batch->q % client->set.win);
    struct staged *staged = &client->staged[slot];
    assert(!staged->full); // q < app + win, and everything below app is gone
    staged->full = true;
    staged->batch = (struct taken){.seq = batch->q,
                                   .hash = batch->hash,
                                   .context = batch->context,
                                   .stamp = batch->stamp,
                                   .producer = (uint16_t)p,
                                   .place = batch->slot,
                                   .epoch = batch->epoch,
                                   .saturated = batch->saturated,
                                   .flags = batch->flags,
                                   .slot = slot};
    source->seen_end = batch->q + 1;
    source->seen_hash = batch->hash;
    source->expect = share_next(&source->stream, batch->q);
    source->tries = 0;
    client->batches++;
    client->shared += batch->stamp != 0;
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
        dc_attach_later(source, now + 1000);
        return;
    case REFUSAL_WINDOW:
        strike(client, p, now, REFUSAL_WINDOW, err->words);
        return;
    case REFUSAL_REPLAY_BUSY:
        source->waits = TICK_BEHIND;
        dc_post_event(client, SAY_INFO, "data.busy", "producer %zu: %s, again in %u ms", p,
                      err->words, err->retry_ms);
        dc_attach_later(source, now + err->retry_ms);
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
        dc_attach_later(source, now + (err->retry_ms > 1000 ? err->retry_ms : 1000));
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
        dc_attach_later(source, now + 1000);
        pause_for(client, (enum refusal)detached->code, "producer %zu: %s", p, detached->words);
        return;
    case REFUSAL_WINDOW:
        strike(client, p, now, REFUSAL_WINDOW, detached->words);
        return;
    case REFUSAL_LAGGED:
        dc_post_event(client, SAY_WARN, "data.lagged", "producer %zu: %s", p, detached->words);
        dc_reattach(client, source, now);
        return;
    default:
        dc_reattach(client, source, now);
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
        dc_attach_later(source, now);
        if (!greeted(client, p))
            source->wait_until = now + 1000;
        return -1;
    case LINK_IS_LOST:
        client->links_lost++;
        dc_attach_later(source, now);
        return -1;
    case LINK_IS_REFUSED:
        client->dupname += message->err.code == REFUSAL_DUPNAME;
        dc_post_event(client, SAY_WARN, "data.refused", "producer %zu: %s: %s", p,
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
            source->foreign = 0;
            source->gen = message->attached.gen;
            source->credit_due = true;
            source->ring = message->attached.shm;
            source->shm = source->map_due = source->ring.slots > 0;
            source->waits =
                message->attached.source == SOURCE_BARRIER ? TICK_BARRIER : TICK_GENERATING;
        }
        return -1;
    case MESSAGE_BATCH:
        return receive_batch(client, p, &message->batch, payload_bytes_, payload_hash, now);
    case MESSAGE_TICK:
        if (!current || message->tick.gen != source->gen) {
            client->stale++;
            if (source->phase == PHASE_IDLE)
                source->ghost = message->tick.gen;
            // A late one says nothing. But where the producer speaks of another attachment again
            // and again, and never of ours, it heard one request twice and answered twice, and we
            // believe the wrong answer: nothing would ever come.
            if (current && ++source->foreign >= FOREIGN_MOST)
                dc_reattach(client, source, now);
            return -1;
        }
        source->foreign = 0;
        source->waits = message->tick.why;
        memcpy(source->by, message->tick.by, sizeof source->by);
        if (message->tick.next > source->expect) { // the last ones sent were lost
            client->gap++;
            dc_reattach(client, source, now);
        }
        return -1;
    case MESSAGE_EOS:
        if (current && message->eos.gen == source->gen && source->expect < message->eos.q &&
            source->expect < client->end) {
            client->gap++;
            dc_reattach(client, source, now);
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

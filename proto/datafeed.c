#include "proto/datafeed.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/host/queue.h"
#include "proto/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

enum { RECEIVE_MOST = 256, NOTICES_MOST = 64, ORDERS_MOST = 1024, FAREWELL_MS = 600 };

enum order_kind { ORDER_START, ORDER_APPLIED, ORDER_DURABLE };
struct order {
    enum order_kind kind;
    uint64_t seq, end;
    struct cursor from;
};

struct datafeed {
    struct channel *channel;
    struct texts endpoints;
    uint64_t largest;
    struct port *ports[PRODUCERS_MOST];
    struct dataclient *client;
    struct codec *codec;
    struct queue *stream, *ready, *orders;
    bool stream_told;
    uint16_t win;
    bool held[WINDOW_MOST];
    zmq_msg_t staged[WINDOW_MOST];
    uint64_t durable;
    uint64_t malformed, dropped;
    struct notice notices[NOTICES_MOST];
    size_t notice_first, notice_count;
};

enum status
datafeed_open(struct datafeed **out, struct channel *channel, const struct texts *endpoints,
              uint64_t largest, const struct dataclient_settings *set)
{
    enum status status = STATUS_OK;
    struct dataclient_settings ours = *set;
    *out = NULL;
    for (size_t i = 0; i < endpoints->count; i++)
        TRY(channel_allows(channel, endpoints->at[i]));
    struct datafeed *feed = calloc(1, sizeof *feed);
    if (!feed)
        return FAIL(CREATE, "data feed: out of memory");
    feed->channel = channel;
    feed->endpoints = *endpoints;
    feed->largest = largest;
    feed->win = set->win;
    ours.producers = endpoints->count;
    GOTRY(codec_new(&feed->codec));
    GOTRY(dataclient_new(&feed->client, &ours));
    GOTRY(queue_new(&feed->stream, sizeof(struct wire_stream), 1));
    GOTRY(queue_new(&feed->ready, sizeof(struct feed_batch), WINDOW_MOST));
    GOTRY(queue_new(&feed->orders, sizeof(struct order), ORDERS_MOST));
    GOTRY(channel_watch(channel, queue_fd(feed->orders)));
    *out = feed;
    return STATUS_OK;
done:
    datafeed_close(&feed);
    return status;
}

void
datafeed_close(struct datafeed **feed)
{
    struct datafeed *f = *feed;
    if (!f)
        return;
    struct dataclient_view view = {0};
    if (f->client)
        dataclient_look(f->client, &view);
    if (view.leaving)
        for (int64_t until = tick_ms() + FAREWELL_MS; !datafeed_gone(f) && tick_ms() < until;) {
            (void)datafeed_turn(f, tick_ms());
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        }
    for (size_t p = 0; p < PRODUCERS_MOST; p++)
        port_close(&f->ports[p]);
    for (size_t i = 0; i < WINDOW_MOST; i++)
        if (f->held[i])
            zmq_msg_close(&f->staged[i]);
    if (f->orders)
        channel_unwatch(f->channel, queue_fd(f->orders));
    queue_free(&f->stream);
    queue_free(&f->ready);
    queue_free(&f->orders);
    dataclient_free(&f->client);
    codec_free(&f->codec);
    free(f);
    *feed = NULL;
}

// ---- comm thread

bool
datafeed_notice(struct datafeed *feed, struct notice *out)
{
    if (feed->notice_count == 0)
        return false;
    *out = feed->notices[feed->notice_first];
    feed->notice_first = (feed->notice_first + 1) % NOTICES_MOST;
    feed->notice_count--;
    return true;
}

static void
notice_add(struct datafeed *feed, const struct notice *notice)
{
    say(notice->level, "%s: %s", notice->event, notice->words);
    if (feed->notice_count == NOTICES_MOST) {
        feed->notice_first = (feed->notice_first + 1) % NOTICES_MOST;
        feed->notice_count--;
    }
    feed->notices[(feed->notice_first + feed->notice_count++) % NOTICES_MOST] = *notice;
}

static void
perform(struct datafeed *feed, const struct dataclient_action *action)
{
    unsigned char head[FRAME_MOST];
    size_t bytes;
    switch (action->what) {
    case DATACLIENT_EVENT:
        notice_add(feed, &action->notice);
        return;
    case DATACLIENT_OPEN:
        // Failing (no descriptors left) is as a server that does not answer: tried again later.
        if (channel_connect(feed->channel, PORT_DATA_CLIENT, feed->endpoints.at[action->producer],
                            feed->largest, &feed->ports[action->producer]) != STATUS_OK)
            say(SAY_WARN, "%s", status_words());
        return;
    case DATACLIENT_SHUT:
        port_close(&feed->ports[action->producer]);
        return;
    case DATACLIENT_SEND:
        if (!feed->ports[action->producer])
            return;
        if (message_write(feed->codec, head, sizeof head, &bytes, &action->message) != STATUS_OK)
            say(SAY_ERROR, "%s", status_words());
        else if (port_send(feed->ports[action->producer], 0, head, bytes, NULL, 0, NULL) !=
                 PORT_SENT)
            feed->dropped++;
    }
}

static void
perform_all(struct datafeed *feed, int64_t now)
{
    struct dataclient_action action;
    struct feed_batch batch;
    while (dataclient_next(feed->client, now, &action))
        perform(feed, &action);
    while (dataclient_take(feed->client, &batch.taken)) {
        batch.at = zmq_msg_data(&feed->staged[batch.taken.slot]);
        if (!queue_put(feed->ready, &batch)) // room for a window: only closed
            assert(queue_closed(feed->ready));
    }
    const struct wire_stream *stream = dataclient_stream(feed->client);
    if (stream && !feed->stream_told)
        feed->stream_told = queue_put(feed->stream, stream);
}

static void
receive(struct datafeed *feed, size_t p, struct packet *packet, int64_t now)
{
    struct message message;
    if (packet->malformed ||
        message_read(feed->codec, packet->head, packet->head_bytes, LINK_DATA, FROM_SERVER,
                     &message, NULL) != STATUS_OK ||
        (packet->frames == 2 && message.type != MESSAGE_BATCH)) {
        feed->malformed++;
        return;
    }
    uint64_t hash = packet->frames == 2 ? hash64(packet->payload, packet->payload_bytes) : 0;
    int slot = dataclient_receive(feed->client, p, &message, packet->payload_bytes, hash, now);
    if (slot >= 0) {
        assert(!feed->held[slot]);
        packet_take_payload(packet, &feed->staged[slot]);
        feed->held[slot] = true;
    }
}

static void
obey(struct datafeed *feed, const struct order *order)
{
    switch (order->kind) {
    case ORDER_START:
        dataclient_start(feed->client, order->from, order->end);
        return;
    case ORDER_APPLIED: {
        size_t slot = order->seq % feed->win;
        dataclient_applied(feed->client, order->seq);
        zmq_msg_close(&feed->staged[slot]);
        feed->held[slot] = false;
        return;
    }
    case ORDER_DURABLE:
        feed->durable = order->seq > feed->durable ? order->seq : feed->durable;
    }
}

// A checkpoint may be durable before its last batch is given back.
static void
tell_durable(struct datafeed *feed)
{
    struct dataclient_view view;
    dataclient_look(feed->client, &view);
    dataclient_durable(feed->client, feed->durable < view.app ? feed->durable : view.app);
}

int64_t
datafeed_turn(struct datafeed *feed, int64_t now)
{
    struct packet packet;
    struct order order;
    bool more = false;
    for (size_t p = 0; p < feed->endpoints.count; p++) {
        int received = 0;
        // The socket may be replaced by what is received.
        while (feed->ports[p] && received < RECEIVE_MOST && port_receive(feed->ports[p], &packet)) {
            received++;
            receive(feed, p, &packet, now);
            packet_release(&packet);
            perform_all(feed, now);
        }
        more |= received == RECEIVE_MOST;
    }
    while (queue_take(feed->orders, &order))
        obey(feed, &order);
    tell_durable(feed);
    perform_all(feed, now);
    return more ? now : dataclient_wake(feed->client);
}

void
datafeed_leave(struct datafeed *feed)
{
    dataclient_leave(feed->client);
    queue_close(feed->ready);
    queue_close(feed->stream);
}

bool
datafeed_gone(const struct datafeed *feed)
{
    struct dataclient_view view;
    dataclient_look(feed->client, &view);
    return view.gone;
}

void
datafeed_resume(struct datafeed *feed)
{
    dataclient_resume(feed->client);
}

const struct dataclient *
datafeed_client(const struct datafeed *feed)
{
    return feed->client;
}

uint64_t
datafeed_malformed(const struct datafeed *feed)
{
    return feed->malformed;
}

// ---- compute thread

bool
datafeed_wait_stream(struct datafeed *feed, struct wire_stream *out, int64_t until)
{
    return queue_take_wait(feed->stream, out, until);
}

static void
give_order(struct datafeed *feed, const struct order *order)
{
    // At most a window of batches and a few checkpoints are ever unheard.
    if (!queue_put(feed->orders, order))
        assert(queue_closed(feed->orders));
}

void
datafeed_start(struct datafeed *feed, struct cursor from, uint64_t end)
{
    give_order(feed, &(struct order){.kind = ORDER_START, .from = from, .end = end});
}

enum feed_got
datafeed_next(struct datafeed *feed, struct feed_batch *out, int64_t until)
{
    if (!queue_closed(feed->ready) && queue_take_wait(feed->ready, out, until) &&
        !queue_closed(feed->ready))
        return FEED_BATCH;
    return queue_closed(feed->ready) ? FEED_CLOSED : FEED_NOT_YET;
}

void
datafeed_done(struct datafeed *feed, const struct feed_batch *batch)
{
    give_order(feed, &(struct order){.kind = ORDER_APPLIED, .seq = batch->taken.seq});
}

void
datafeed_durable(struct datafeed *feed, uint64_t next)
{
    give_order(feed, &(struct order){.kind = ORDER_DURABLE, .seq = next});
}

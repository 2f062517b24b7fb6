#include "proto/datafeed.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/host/queue.h"
#include "proto/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

enum { RECEIVE_MOST = 256, NOTICES_MOST = 64, ORDERS_MOST = 1024, FAREWELL_MS = 600 };

enum order_kind { ORDER_START, ORDER_APPLIED, ORDER_SPOILED, ORDER_DURABLE };
struct order {
    enum order_kind kind;
    uint64_t seq, end;
    struct cursor from;
};

// A ring that is mapped: of the present attachment of some producer, or kept for what is staged in
// it.
struct mapping {
    struct shmring *ring;
    unsigned held; // staged batches in it
    bool present;
};
enum { MAPPINGS_MOST = PRODUCERS_MOST + WINDOW_MOST };
struct holding {
    bool full;
    zmq_msg_t message;       // when mapping is NULL
    struct mapping *mapping; // else the batch lies there
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
    struct holding staged[WINDOW_MOST];
    struct mapping mappings[MAPPINGS_MOST], *mapped[PRODUCERS_MOST];
    uint64_t wanted; // of the compute thread: the number it waits for
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
    GOTRY(queue_new(&feed->ready, sizeof(struct feed_batch), 2 * WINDOW_MOST));
    GOTRY(queue_new(&feed->orders, sizeof(struct order), ORDERS_MOST));
    GOTRY(channel_watch(channel, queue_fd(feed->orders)));
    *out = feed;
    return STATUS_OK;
done:
    datafeed_close(&feed);
    return status;
}

// ---- what is held

static void
mapping_let_go(struct mapping *mapping)
{
    if (!mapping->present && mapping->held == 0)
        shmring_free(&mapping->ring);
}

static void
let_go(struct holding *holding)
{
    if (!holding->full)
        return;
    holding->full = false;
    if (holding->mapping) {
        holding->mapping->held--;
        mapping_let_go(holding->mapping);
    } else {
        zmq_msg_close(&holding->message);
    }
}

// The ring an attachment's batches are in; the same one again, or another since the producer began
// anew. What is staged in the one before stays readable.
static void
map_ring(struct datafeed *feed, size_t p, const struct wire_shm *place, int64_t now)
{
    struct mapping *before = feed->mapped[p];
    if (before && shmring_is(before->ring, place))
        return;
    if (before) {
        before->present = false;
        mapping_let_go(before);
        feed->mapped[p] = NULL;
    }
    struct mapping *mapping = NULL;
    for (size_t i = 0; i < MAPPINGS_MOST && !mapping; i++)
        if (!feed->mappings[i].ring)
            mapping = &feed->mappings[i];
    assert(mapping); // one a producer, and one a staged batch at most
    if (shmring_map(&mapping->ring, place, dataclient_stream(feed->client)->bytes) != STATUS_OK) {
        say(SAY_WARN, "%s", status_words());
        dataclient_unmapped(feed->client, p, now);
        return;
    }
    mapping->present = true;
    feed->mapped[p] = mapping;
    say(SAY_INFO, "producer %zu: batches come through shared memory", p);
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
        let_go(&f->staged[i]);
    for (size_t i = 0; i < MAPPINGS_MOST; i++)
        shmring_free(&f->mappings[i].ring);
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
perform(struct datafeed *feed, const struct dataclient_action *action, int64_t now)
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
    case DATACLIENT_MAP:
        map_ring(feed, action->producer, &action->message.attached.shm, now);
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
        perform(feed, &action, now);
    while (dataclient_take(feed->client, &batch.taken)) {
        struct holding *holding = &feed->staged[batch.taken.slot];
        batch.ring = holding->mapping ? holding->mapping->ring : NULL;
        batch.at = batch.ring ? shmring_at(batch.ring, batch.taken.place)
                              : zmq_msg_data(&holding->message);
        if (!queue_put(feed->ready, &batch)) // room for a window: only closed
            assert(queue_closed(feed->ready));
    }
    const struct wire_stream *stream = dataclient_stream(feed->client);
    if (stream && !feed->stream_told)
        feed->stream_told = queue_put(feed->stream, stream);
}

// The hash of a batch where it lies; false: that filling of the slot is not there, or no longer.
static bool
read_ring(const struct datafeed *feed, const struct mapping *mapping, const struct msg_batch *batch,
          uint64_t *hash)
{
    if (!mapping || batch->bytes != dataclient_stream(feed->client)->bytes ||
        !shmring_holds(mapping->ring, batch->slot, batch->stamp))
        return false;
    *hash = hash64(shmring_at(mapping->ring, batch->slot), batch->bytes);
    return shmring_holds(mapping->ring, batch->slot, batch->stamp);
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
    struct mapping *mapping = NULL;
    uint64_t bytes = packet->payload_bytes, hash = 0;
    if (packet->frames == 2) {
        hash = hash64(packet->payload, packet->payload_bytes);
    } else if (message.type == MESSAGE_BATCH && message.batch.stamp != 0) {
        mapping = feed->mapped[p];
        if (!read_ring(feed, mapping, &message.batch, &hash)) {
            dataclient_torn(feed->client, p, &message.batch, now);
            return;
        }
        bytes = message.batch.bytes;
    }
    int slot = dataclient_receive(feed->client, p, &message, bytes, hash, now);
    if (slot >= 0) {
        struct holding *holding = &feed->staged[slot];
        assert(!holding->full);
        *holding = (struct holding){.full = true, .mapping = mapping};
        if (mapping)
            mapping->held++;
        else
            packet_take_payload(packet, &holding->message);
    }
}

static void
obey(struct datafeed *feed, const struct order *order, int64_t now)
{
    switch (order->kind) {
    case ORDER_START:
        dataclient_start(feed->client, order->from, order->end);
        return;
    case ORDER_APPLIED:
        dataclient_applied(feed->client, order->seq);
        let_go(&feed->staged[order->seq % feed->win]);
        return;
    case ORDER_SPOILED:
        dataclient_spoiled(feed->client, order->seq, now);
        for (size_t i = 0; i < WINDOW_MOST; i++)
            let_go(&feed->staged[i]);
        return;
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
        obey(feed, &order, now);
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
    feed->wanted = from.next;
    give_order(feed, &(struct order){.kind = ORDER_START, .from = from, .end = end});
}

enum feed_got
datafeed_next(struct datafeed *feed, struct feed_batch *out, int64_t until)
{
    while (!queue_closed(feed->ready) && queue_take_wait(feed->ready, out, until) &&
           !queue_closed(feed->ready))
        if (out->taken.seq == feed->wanted) // else taken back with the one that was not sound
            return FEED_BATCH;
    return queue_closed(feed->ready) ? FEED_CLOSED : FEED_NOT_YET;
}

bool
datafeed_sound(struct datafeed *feed, const struct feed_batch *batch)
{
    if (!batch->ring || shmring_holds(batch->ring, batch->taken.place, batch->taken.stamp))
        return true;
    give_order(feed, &(struct order){.kind = ORDER_SPOILED, .seq = batch->taken.seq});
    return false;
}

void
datafeed_done(struct datafeed *feed, const struct feed_batch *batch)
{
    feed->wanted = batch->taken.seq + 1;
    give_order(feed, &(struct order){.kind = ORDER_APPLIED, .seq = batch->taken.seq});
}

void
datafeed_durable(struct datafeed *feed, uint64_t next)
{
    give_order(feed, &(struct order){.kind = ORDER_DURABLE, .seq = next});
}

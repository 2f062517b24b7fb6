#include "proto/dataport.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/host/queue.h"
#include "proto/frame.h"
#include "proto/shmring.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { RECEIVE_MOST = 256, NOTICES_MOST = 64, REBIND_MS = 5 };

struct dataport {
    struct channel *channel;
    struct port *socket;
    struct dataserver *server;
    struct codec *codec;
    struct shmring *ring;  // kept by the channel; NULL: memory of our own
    unsigned char *memory; // kept by the channel: slots x stride
    size_t stride;
    struct lent *lent; // kept by the channel: one a slot
    int wake_fd;       // kept by the channel
    uint16_t slots;
    uint64_t bytes;
    struct queue *wants, *filled;
    _Atomic uint64_t epoch;
    uint64_t malformed, dropped;
    struct notice notices[NOTICES_MOST];
    size_t notice_first, notice_count;
};

static unsigned char *
slot_at(const struct dataport *port, uint16_t slot)
{
    return port->ring ? shmring_at(port->ring, slot) : port->memory + slot * port->stride;
}

// Shared memory if it can be had; trainers that cannot map it are served all the same.
static enum status
take_ring(struct dataport *port)
{
    struct shmring *ring;
    if (shmring_new(&ring, port->slots, port->bytes) != STATUS_OK) {
        say(SAY_WARN, "%s; batches go through the socket", status_words());
        return STATUS_OK;
    }
    enum status status = channel_keep_ring(port->channel, ring);
    if (status != STATUS_OK) {
        shmring_free(&ring);
        return status_pass(status, __FILE__, __LINE__);
    }
    port->ring = ring;
    struct wire_shm place = shmring_place(ring);
    dataserver_offer(port->server, &place);
    return STATUS_OK;
}

static enum status
take_memory(struct dataport *port, const struct dataserver_settings *set)
{
    size_t total;
    port->slots = dataserver_places(set); // untouched, the spare ones are no memory
    port->bytes = set->links.stream.bytes;
    port->stride = (size_t)(port->bytes + 63) / 64 * 64;
    if (port->bytes > SIZE_MAX / 2 || !times(&total, port->stride, port->slots))
        return FAIL(CREATE, "the ring of %u batches of %llu bytes is too large", set->slots,
                    (unsigned long long)port->bytes);
    if (set->share)
        TRY(take_ring(port));
    port->memory = port->ring ? NULL : aligned_alloc(64, total);
    port->lent = calloc(port->slots, sizeof port->lent[0]);
    port->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if ((!port->memory && !port->ring) || !port->lent || port->wake_fd < 0) {
        free(port->memory);
        free(port->lent);
        if (port->wake_fd >= 0)
            close(port->wake_fd);
        return FAIL(CREATE, "no memory for the ring: %u batches of %llu bytes", set->slots,
                    (unsigned long long)port->bytes);
    }
    for (size_t i = 0; i < port->slots; i++)
        port->lent[i].wake_fd = port->wake_fd;
    enum status status = channel_keep(port->channel, port->memory, -1);
    if (status != STATUS_OK) {
        free(port->lent);
        close(port->wake_fd);
        return status_pass(status, __FILE__, __LINE__);
    }
    TRY(channel_keep(port->channel, port->lent, port->wake_fd));
    return STATUS_OK;
}

enum status
dataport_open(struct dataport **out, struct channel *channel, const char *endpoint,
              const struct dataserver_settings *set)
{
    enum status status = STATUS_OK;
    struct dataport *port = calloc(1, sizeof *port);
    *out = NULL;
    if (!port)
        return FAIL(CREATE, "%s: out of memory", endpoint);
    port->channel = channel;
    port->wake_fd = -1;
    GOTRY(codec_new(&port->codec));
    GOTRY(dataserver_new(&port->server, set, tick_ms()));
    GOTRY(queue_new(&port->wants, sizeof(struct want_batch), set->slots));
    GOTRY(queue_new(&port->filled, sizeof(struct filled), set->slots));
    GOTRY(channel_bind(channel, PORT_DATA_SERVER, endpoint, &port->socket));
    GOTRY(take_memory(port, set));
    GOTRY(channel_watch(channel, queue_fd(port->filled)));
    GOTRY(channel_watch(channel, port->wake_fd));
    *out = port;
    return STATUS_OK;
done:
    dataport_close(&port);
    return status;
}

void
dataport_close(struct dataport **port)
{
    struct dataport *p = *port;
    if (!p)
        return;
    if (p->filled)
        channel_unwatch(p->channel, queue_fd(p->filled));
    if (p->wake_fd >= 0)
        channel_unwatch(p->channel, p->wake_fd);
    port_close(&p->socket);
    queue_free(&p->wants);
    queue_free(&p->filled);
    dataserver_free(&p->server);
    codec_free(&p->codec);
    free(p);
    *port = NULL;
}

// ---- comm thread

static void
notice_add(struct dataport *port, const struct notice *notice)
{
    say(notice->level, "%s: %s", notice->event, notice->words);
    if (port->notice_count == NOTICES_MOST) { // nobody fetches them: the oldest goes
        port->notice_first = (port->notice_first + 1) % NOTICES_MOST;
        port->notice_count--;
    }
    port->notices[(port->notice_first + port->notice_count++) % NOTICES_MOST] = *notice;
}

bool
dataport_notice(struct dataport *port, struct notice *out)
{
    if (port->notice_count == 0)
        return false;
    *out = port->notices[port->notice_first];
    port->notice_first = (port->notice_first + 1) % NOTICES_MOST;
    port->notice_count--;
    return true;
}

static void
perform(struct dataport *port, const struct dataserver_action *action, int64_t now)
{
    unsigned char head[FRAME_MOST];
    size_t bytes;
    struct want_batch want;
    switch (action->what) {
    case DATASERVER_EVENT:
        notice_add(port, &action->notice);
        return;
    case DATASERVER_BOUNCE:
        port_unbind(port->socket); // dataport_turn binds it again
        return;
    case DATASERVER_FILL:
        want = (struct want_batch){.seq = action->seq,
                                   .epoch = action->epoch,
                                   .slot = action->slot,
                                   .stamp = action->stamp,
                                   .at = slot_at(port, action->slot)};
        if (port->ring)
            shmring_begin(port->ring, action->slot);
        if (!queue_put(port->wants, &want)) // closed: we are leaving
            assert(queue_closed(port->wants));
        return;
    case DATASERVER_SEND:
        if (message_write(port->codec, head, sizeof head, &bytes, &action->message) != STATUS_OK) {
            say(SAY_ERROR, "%s", status_words());
            return;
        }
        switch (port_send(port->socket, action->route, head, bytes, NULL, 0, NULL)) {
        case PORT_SENT:
            return;
        case PORT_FULL: // lost, and repaired like any lost message
            port->dropped++;
            return;
        case PORT_GONE:
            dataserver_unreachable(port->server, action->route, now);
            return;
        }
        return;
    case DATASERVER_BATCH:
        if (message_write(port->codec, head, sizeof head, &bytes, &action->message) != STATUS_OK) {
            say(SAY_ERROR, "%s", status_words());
            dataserver_unsent(port->server, action, now);
            return;
        }
        bool shared = action->message.batch.stamp != 0;
        switch (port_send(port->socket, action->route, head, bytes,
                          shared ? NULL : slot_at(port, action->slot), shared ? 0 : port->bytes,
                          shared ? NULL : &port->lent[action->slot])) {
        case PORT_SENT:
            return;
        case PORT_FULL:
            dataserver_unsent(port->server, action, now);
            return;
        case PORT_GONE:
            dataserver_unsent(port->server, action, now);
            dataserver_unreachable(port->server, action->route, now);
            return;
        }
    }
}

static void
perform_all(struct dataport *port, int64_t now)
{
    struct dataserver_action action;
    while (dataserver_next(port->server, now, &action))
        perform(port, &action, now);
    atomic_store_explicit(&port->epoch, dataserver_epoch(port->server), memory_order_relaxed);
}

int64_t
dataport_turn(struct dataport *port, int64_t now)
{
    struct packet packet;
    struct message message;
    struct filled filled;
    int received = 0;
    uint64_t wakes;
    if (!port_is_bound(port->socket) && port_rebind(port->socket) != STATUS_OK)
        say(SAY_DEBUG, "%s", status_words());
    while (received < RECEIVE_MOST && port_receive(port->socket, &packet)) {
        received++;
        if (!packet.malformed && packet.frames == 1 &&
            message_read(port->codec, packet.head, packet.head_bytes, LINK_DATA, FROM_CLIENT,
                         &message, NULL) == STATUS_OK) {
            dataserver_receive(port->server, packet.route, &message, now);
            perform_all(port, now);
        } else {
            port->malformed++;
        }
        packet_release(&packet);
    }
    while (queue_take(port->filled, &filled)) {
        dataserver_filled(port->server, &filled, now);
        perform_all(port, now);
    }
    while (read(port->wake_fd, &wakes, sizeof wakes) > 0)
        ;
    for (uint16_t i = 0; i < port->slots; i++) {
        unsigned returned =
            atomic_exchange_explicit(&port->lent[i].returned, 0, memory_order_acquire);
        if (returned)
            dataserver_released(port->server, i, returned);
    }
    perform_all(port, now);
    int64_t wake = dataserver_wake(port->server);
    if (!port_is_bound(port->socket) && wake > now + REBIND_MS)
        wake = now + REBIND_MS;
    return received == RECEIVE_MOST ? now : wake;
}

void
dataport_pause(struct dataport *port, bool paused)
{
    dataserver_pause(port->server, paused);
}

void
dataport_leave(struct dataport *port, const char *why)
{
    dataserver_leave(port->server, why);
    queue_close(port->wants);
}

const struct dataserver *
dataport_server(const struct dataport *port)
{
    return port->server;
}

const char *
dataport_endpoint(const struct dataport *port)
{
    return port_endpoint(port->socket);
}

uint64_t
dataport_malformed(const struct dataport *port)
{
    return port->malformed;
}

// ---- compute thread

bool
dataport_want(struct dataport *port, struct want_batch *out, int64_t until)
{
    return queue_take_wait(port->wants, out, until) && !queue_closed(port->wants);
}

bool
dataport_closed(const struct dataport *port)
{
    return queue_closed(port->wants);
}

bool
dataport_stale(const struct dataport *port, const struct want_batch *want)
{
    return queue_closed(port->wants) ||
           atomic_load_explicit(&port->epoch, memory_order_relaxed) != want->epoch;
}

static void
answer(struct dataport *port, const struct filled *filled)
{
    // As many answers as wants, and no more wants than slots.
    if (!queue_put(port->filled, filled))
        assert(queue_closed(port->filled));
}

void
dataport_filled(struct dataport *port, const struct want_batch *want, uint64_t context,
                uint32_t saturated)
{
    if (port->ring)
        shmring_end(port->ring, want->slot, want->stamp);
    answer(port, &(struct filled){.slot = want->slot,
                                  .seq = want->seq,
                                  .hash = hash64(want->at, port->bytes),
                                  .context = context,
                                  .saturated = saturated,
                                  .made = true});
}

void
dataport_give_up(struct dataport *port, const struct want_batch *want)
{
    answer(port, &(struct filled){.slot = want->slot, .seq = want->seq});
}

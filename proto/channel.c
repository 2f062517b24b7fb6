#include "proto/channel.h"

#include "lib/base/say.h"
#include "proto/messages.h"
#include "proto/shmring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

// The options of each kind of socket. Why they are so:
// - limits on bound sockets are what a stranger can make us hold; 512 on a publisher leaves room
//   for subscriptions of 96 bytes and the handshake.
// - no heartbeats of the library where large frames travel: its timer counts complete frames, so a
//   slow link would be cut again and again. There the leases of proto/link judge.
// - queues are deeper than any credit; a full one is an alarm.
// - whoever leaves says so: a fifth of a second of linger lets BYE out even on data sockets.
// - a server that was killed is back in a second: reconnect soon, and never slower than that.
// - clients queue also while they are not connected (no ZMQ_IMMEDIATE): with it a connection that
//   breaks takes its queue along at once, and a process that has read one part of a message of two
//   is aborted by the library. What an old queue brings a new server is late, like any message.
// clang-format off
static const struct kind {
    const char *name;
    int type;
    int64_t largest;
    int send_queue, receive_queue, linger_ms;
    bool server, mandatory;
    int beat_ms, beat_timeout_ms, beat_ttl_ms, backlog, send_buffer;
} kinds[PORT_KINDS] = {
    //                     name    type        largest  sndq        rcvq    linger bound  mand   heartbeat            backlog sndbuf
    [PORT_DATA_SERVER] = {"data",  ZMQ_ROUTER,   4096, WINDOW_MOST + 64,  256,  200, true,  true,     0,     0,     0, 128, 0},
    [PORT_DATA_CLIENT] = {"data",  ZMQ_DEALER,  65536,    64, WINDOW_MOST + 16,  200, false, false,    0,     0,     0,   0, 0},
    [PORT_CTL_SERVER] =  {"ctl",   ZMQ_ROUTER,  65536,   256,              128, 2000, true,  true,  2000,  6000,  8000, 128, 0},
    [PORT_CTL_CLIENT] =  {"ctl",   ZMQ_DEALER,  65536,    64,              256,  200, false, false, 2000,  6000,  8000,   0, 0},
    [PORT_BLOB_SERVER] = {"blob",  ZMQ_ROUTER,   8192,    64,              256,    0, true,  true,     0,     0,     0, 128, 0},
    [PORT_BLOB_CLIENT] = {"blob",  ZMQ_DEALER, (1 << 20) + 65536, 64,       64,    0, false, false,    0,     0,     0,   0, 0},
    [PORT_PUBLISHER] =   {"pub",   ZMQ_XPUB,      512,  1000,             1000,  500, true,  false, 5000, 15000, 20000, 512, 65536},
    [PORT_SUBSCRIBER] =  {"pub",   ZMQ_SUB,     65536,    64,            10000,    0, false, false, 5000, 15000, 20000,   0, 0},
};
// clang-format on

enum { KEPT_MOST = 64, PORTS_MOST = 128 };

// ZMQ_ZERO_COPY_RECV, which zmq.h names only among its drafts; the library has had it since 4.3.
// On, a small message that waits unread keeps the whole buffer it was read into, 18 KiB: a queue of
// a thousand announcements of 200 bytes is 18 MB, and what was freed of it stays in the heap of the
// library's thread. Off, it keeps its own size. Payloads are read into memory of their own either
// way.
enum { ZERO_COPY_RECEIVE = 10 };

struct port {
    struct channel *channel;
    const struct kind *kind;
    void *socket;
    int fd, lock_fd;
    char endpoint[WIRE_ENDPOINT];
};

struct channel {
    void *context;
    int epoll_fd;
    const struct texts *allowed;
    struct port *ports[PORTS_MOST];
    size_t port_count;
    struct {
        void *memory;
        struct shmring *ring;
        int fd;
    } kept[KEPT_MOST];
    size_t kept_count;
};

enum status
channel_new(struct channel **out, const struct texts *allow_plaintext)
{
    *out = NULL;
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    if (major * 10000 + minor * 100 + patch < 40304)
        return FAIL(CREATE, "libzmq is %d.%d.%d, wanted at least 4.3.4", major, minor, patch);
    struct channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return FAIL(CREATE, "channel: out of memory");
    channel->allowed = allow_plaintext;
    channel->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    channel->context = zmq_ctx_new();
    *out = channel;
    if (channel->epoll_fd < 0 || !channel->context) {
        enum status status = FAIL(CREATE, "channel: %s", strerror(errno));
        channel_free(out);
        return status;
    }
    (void)zmq_ctx_set(channel->context, ZERO_COPY_RECEIVE, 0); // a library without it does too
    return STATUS_OK;
}

void
channel_io_threads(struct channel *channel, unsigned count)
{
    int set = zmq_ctx_set(channel->context, ZMQ_IO_THREADS, (int)count);
    assert(set == 0 && channel->port_count == 0);
}

void
channel_free(struct channel **channel)
{
    struct channel *c = *channel;
    if (!c)
        return;
    while (c->port_count > 0) {
        struct port *port = c->ports[c->port_count - 1];
        port_close(&port);
    }
    if (c->context)
        while (zmq_ctx_term(c->context) != 0 && errno == EINTR)
            ;
    for (size_t i = 0; i < c->kept_count; i++) {
        free(c->kept[i].memory);
        shmring_free(&c->kept[i].ring);
        if (c->kept[i].fd >= 0)
            close(c->kept[i].fd);
    }
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    free(c);
    *channel = NULL;
}

int
channel_fd(const struct channel *channel)
{
    return channel->epoll_fd;
}

enum status
channel_watch(struct channel *channel, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(channel->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return FAIL(CREATE, "cannot watch a descriptor: %s", strerror(errno));
    return STATUS_OK;
}

void
channel_unwatch(struct channel *channel, int fd)
{
    (void)epoll_ctl(channel->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

enum status
channel_keep(struct channel *channel, void *memory, int fd)
{
    if (channel->kept_count == KEPT_MOST) {
        free(memory);
        if (fd >= 0)
            close(fd);
        return FAIL(CREATE, "channel: keeps %d pieces of memory, no more", KEPT_MOST);
    }
    channel->kept[channel->kept_count].memory = memory;
    channel->kept[channel->kept_count++].fd = fd;
    return STATUS_OK;
}

enum status
channel_keep_ring(struct channel *channel, struct shmring *ring)
{
    TRY(channel_keep(channel, NULL, -1));
    channel->kept[channel->kept_count - 1].ring = ring;
    return STATUS_OK;
}

bool
channel_pending(const struct channel *channel)
{
    for (size_t i = 0; i < channel->port_count; i++) {
        int events = 0;
        size_t bytes = sizeof events;
        if (channel->ports[i]->socket &&
            zmq_getsockopt(channel->ports[i]->socket, ZMQ_EVENTS, &events, &bytes) == 0 &&
            events & ZMQ_POLLIN)
            return true;
    }
    return false;
}

// ---- making sockets

enum status
channel_allows(const struct channel *channel, const char *endpoint)
{
    switch (endpoint_class(endpoint)) {
    case ENDPOINT_IPC: {
        const char *path = endpoint + strlen("ipc://");
        if (*path != '/' || strlen(path) > 100)
            return FAIL(CONFIG, "%s: wanted an absolute path of at most 100 bytes", endpoint);
        return STATUS_OK;
    }
    case ENDPOINT_LOOPBACK:
        return STATUS_OK;
    case ENDPOINT_REMOTE:
        for (size_t i = 0; channel->allowed && i < channel->allowed->count; i++)
            if (strcmp(channel->allowed->at[i], endpoint) == 0)
                return STATUS_OK;
        return FAIL(CONFIG,
                    "%s: goes beyond this machine without encryption; name it in "
                    "security.allow_plaintext if you trust the network",
                    endpoint);
    case ENDPOINT_BAD:
        break;
    }
    return FAIL(CONFIG, "endpoint '%.80s': wanted ipc:///PATH or tcp://HOST:PORT", endpoint);
}

static int
set_int(struct port *port, int option, int value)
{
    return zmq_setsockopt(port->socket, option, &value, sizeof value);
}

static int
set_options(struct port *port, uint64_t largest)
{
    const struct kind *kind = port->kind;
    int64_t most = kind->largest + (int64_t)largest;
    int bad = zmq_setsockopt(port->socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    bad |= set_int(port, ZMQ_SNDHWM, kind->send_queue);
    bad |= set_int(port, ZMQ_RCVHWM, kind->receive_queue);
    bad |= set_int(port, ZMQ_LINGER, kind->linger_ms);
    bad |= set_int(port, ZMQ_HANDSHAKE_IVL, 5000);
    bad |= set_int(port, ZMQ_TCP_KEEPALIVE, 1);
    bad |= set_int(port, ZMQ_TCP_KEEPALIVE_IDLE, 30);
    bad |= set_int(port, ZMQ_TCP_KEEPALIVE_INTVL, 10);
    bad |= set_int(port, ZMQ_TCP_KEEPALIVE_CNT, 3);
    bad |= set_int(port, ZMQ_TCP_MAXRT, 20000);
    if (strchr(port->endpoint, '['))
        bad |= set_int(port, ZMQ_IPV6, 1);
    if (kind->beat_ms) {
        bad |= set_int(port, ZMQ_HEARTBEAT_IVL, kind->beat_ms);
        bad |= set_int(port, ZMQ_HEARTBEAT_TIMEOUT, kind->beat_timeout_ms);
        bad |= set_int(port, ZMQ_HEARTBEAT_TTL, kind->beat_ttl_ms);
    }
    if (kind->server)
        bad |= set_int(port, ZMQ_BACKLOG, kind->backlog);
    if (kind->mandatory)
        bad |= set_int(port, ZMQ_ROUTER_MANDATORY, 1);
    if (kind->send_buffer)
        bad |= set_int(port, ZMQ_SNDBUF, kind->send_buffer);
    if (!kind->server) {
        // Random because a maximum above 0 turns the library's own jitter off.
        bad |= set_int(port, ZMQ_RECONNECT_IVL, 100 + (int)(random_seed() % 100));
        bad |= set_int(port, ZMQ_RECONNECT_IVL_MAX, 1000);
    }
    return bad;
}

static void
shut(struct port *port)
{
    if (!port->socket)
        return;
    channel_unwatch(port->channel, port->fd);
    zmq_close(port->socket);
    port->socket = NULL;
    port->fd = -1;
}

// The socket itself, with its options, watched.
static enum status
make_socket(struct port *port, uint64_t largest)
{
    size_t bytes = sizeof port->fd;
    port->socket = zmq_socket(port->channel->context, port->kind->type);
    enum status status = STATUS_OK;
    if (!port->socket || set_options(port, largest) != 0 ||
        zmq_getsockopt(port->socket, ZMQ_FD, &port->fd, &bytes) != 0)
        status = FAIL(CREATE, "%s: cannot make a %s socket: %s", port->endpoint, port->kind->name,
                      zmq_strerror(errno));
    if (status == STATUS_OK)
        status = channel_watch(port->channel, port->fd);
    if (status != STATUS_OK && port->socket) {
        zmq_close(port->socket);
        port->socket = NULL;
    }
    return status;
}

static enum status
port_new(struct channel *channel, enum port_kind kind, const char *endpoint, uint64_t largest,
         struct port **out)
{
    *out = NULL;
    TRY(channel_allows(channel, endpoint));
    if (channel->port_count == PORTS_MOST)
        return FAIL(CREATE, "%s: %d sockets are open, no more", endpoint, PORTS_MOST);
    struct port *port = calloc(1, sizeof *port);
    if (!port)
        return FAIL(CREATE, "%s: out of memory", endpoint);
    port->channel = channel;
    port->kind = &kinds[kind];
    port->fd = port->lock_fd = -1;
    snprintf(port->endpoint, sizeof port->endpoint, "%s", endpoint);
    enum status status = make_socket(port, largest);
    if (status != STATUS_OK) {
        free(port);
        return status;
    }
    channel->ports[channel->port_count++] = port;
    *out = port;
    return STATUS_OK;
}

void
port_close(struct port **port)
{
    struct port *p = *port;
    if (!p)
        return;
    struct channel *channel = p->channel;
    for (size_t i = 0; i < channel->port_count; i++)
        if (channel->ports[i] == p)
            channel->ports[i] = channel->ports[--channel->port_count];
    shut(p);
    if (p->lock_fd >= 0)
        close(p->lock_fd);
    free(p);
    *port = NULL;
}

const char *
port_endpoint(const struct port *port)
{
    return port->endpoint;
}

// Listens, and learns the port that a `*` became.
static enum status
listen_at(struct port *port)
{
    if (endpoint_class(port->endpoint) == ENDPOINT_IPC) {
        uid_t uid = geteuid();
        if (zmq_setsockopt(port->socket, ZMQ_IPC_FILTER_UID, &uid, sizeof uid) != 0)
            return FAIL(CREATE, "%s: %s", port->endpoint, zmq_strerror(errno));
    }
    if (zmq_bind(port->socket, port->endpoint) != 0)
        return errno == EADDRINUSE
                   ? FAIL(CREATE, "%s: the port is in use by another process", port->endpoint)
                   : FAIL(CREATE, "%s: cannot listen: %s", port->endpoint, zmq_strerror(errno));
    size_t bytes = sizeof port->endpoint;
    char last[WIRE_ENDPOINT];
    if (zmq_getsockopt(port->socket, ZMQ_LAST_ENDPOINT, last, &bytes) == 0)
        memcpy(port->endpoint, last, sizeof last);
    return STATUS_OK;
}

enum status
channel_bind(struct channel *channel, enum port_kind kind, const char *endpoint, struct port **out)
{
    struct port *port;
    enum status status = STATUS_OK;
    assert(kinds[kind].server);
    *out = NULL;
    TRY(port_new(channel, kind, endpoint, 0, &port));
    if (endpoint_class(endpoint) == ENDPOINT_IPC)
        GOTRY(endpoint_lock(endpoint, &port->lock_fd));
    GOTRY(listen_at(port));
done:
    if (status != STATUS_OK)
        port_close(&port);
    *out = port;
    return status;
}

void
port_unbind(struct port *port)
{
    if (port->socket)
        (void)set_int(port, ZMQ_LINGER, 0); // what nobody reads goes too
    shut(port);
}

bool
port_is_bound(const struct port *port)
{
    return port->socket != NULL;
}

// Of an ipc path the library unlinks what is there before it binds, and nothing when it closes (so
// since 4.2; else the old socket, which closes in its own time, would take the new one's path
// away).
enum status
port_rebind(struct port *port)
{
    assert(port->kind->server && !port->socket);
    TRY(make_socket(port, 0));
    if (listen_at(port) == STATUS_OK)
        return STATUS_OK;
    shut(port);
    return FAIL(AGAIN, "%s: cannot be bound yet", port->endpoint);
}

enum status
channel_connect(struct channel *channel, enum port_kind kind, const char *endpoint,
                uint64_t largest, struct port **out)
{
    struct port *port;
    assert(!kinds[kind].server);
    *out = NULL;
    TRY(port_new(channel, kind, endpoint, largest, &port));
    if (zmq_connect(port->socket, endpoint) != 0) {
        enum status status = FAIL(CONFIG, "%s: cannot connect: %s", endpoint, zmq_strerror(errno));
        port_close(&port);
        return status;
    }
    *out = port;
    return STATUS_OK;
}

enum status
port_subscribe(struct port *port, const char *prefix)
{
    if (zmq_setsockopt(port->socket, ZMQ_SUBSCRIBE, prefix, strlen(prefix)) != 0)
        return FAIL(CREATE, "%s: cannot subscribe: %s", port->endpoint, zmq_strerror(errno));
    return STATUS_OK;
}

// ---- receiving

// The library numbers its peers with 5 bytes, the first 0. Longer ids are somebody's own choice,
// which none of our clients makes.
static bool
route_read(uint64_t *route, zmq_msg_t *id)
{
    const unsigned char *at = zmq_msg_data(id);
    if (zmq_msg_size(id) != 5)
        return false;
    *route = 0;
    memcpy(route, at, 5);
    return true;
}

bool
port_receive(struct port *port, struct packet *packet)
{
    zmq_msg_t part;
    bool more = true, routed = false;
    bool has_route = port->kind->type == ZMQ_ROUTER;
    memset(packet, 0, sizeof *packet);
    if (!port->socket)
        return false;
    zmq_msg_init(&packet->at[0]);
    zmq_msg_init(&packet->at[1]);
    for (size_t n = 0; more; n++) {
        zmq_msg_init(&part);
        // Parts of one message arrive together: after the first none is awaited.
        int bytes = zmq_msg_recv(&part, port->socket, ZMQ_DONTWAIT);
        if (bytes < 0) {
            int code = errno;
            zmq_msg_close(&part);
            if (n == 0 && code == EINTR) {
                n--;
                continue;
            }
            if (n == 0) {
                packet_release(packet);
                return false;
            }
            packet->malformed = true;
            break;
        }
        more = zmq_msg_more(&part);
        if (has_route && !routed) {
            routed = true;
            if (!route_read(&packet->route, &part))
                packet->malformed = true;
        } else if (packet->frames < 2) {
            zmq_msg_move(&packet->at[packet->frames++], &part);
        } else {
            packet->malformed = true; // read on, keep nothing
        }
        zmq_msg_close(&part);
    }
    if (packet->frames == 0)
        packet->malformed = true;
    bool topic_first = port->kind->type == ZMQ_SUB;
    if (topic_first && packet->frames != 2)
        packet->malformed = true;
    packet->head = zmq_msg_data(&packet->at[topic_first]);
    packet->head_bytes = zmq_msg_size(&packet->at[topic_first]);
    if (!topic_first && packet->frames == 2) {
        packet->payload = zmq_msg_data(&packet->at[1]);
        packet->payload_bytes = zmq_msg_size(&packet->at[1]);
    }
    return true;
}

void
packet_release(struct packet *packet)
{
    zmq_msg_close(&packet->at[0]);
    zmq_msg_close(&packet->at[1]);
}

void
packet_take_payload(struct packet *packet, zmq_msg_t *to)
{
    zmq_msg_init(to);
    zmq_msg_move(to, &packet->at[1]);
    packet->payload = NULL;
    packet->payload_bytes = 0;
}

// ---- sending

// Runs in the library's thread.
static void
give_back(void *data, void *hint)
{
    struct lent *lent = hint;
    (void)data;
    atomic_fetch_add_explicit(&lent->returned, 1, memory_order_release);
    uint64_t one = 1;
    // An eventfd that is full is readable all the same.
    ssize_t written = write(lent->wake_fd, &one, sizeof one);
    (void)written;
}

static enum port_sent
send_part(struct port *port, const void *at, size_t bytes, bool more)
{
    int flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0);
    while (zmq_send(port->socket, at, bytes, flags) < 0) {
        if (errno == EINTR)
            continue;
        return errno == EAGAIN ? PORT_FULL : PORT_GONE;
    }
    return PORT_SENT;
}

enum port_sent
port_send(struct port *port, uint64_t route, const unsigned char *head, size_t head_bytes,
          const void *payload, size_t payload_bytes, struct lent *lent)
{
    enum port_sent sent;
    zmq_msg_t message;
    if (!port->socket)
        return PORT_FULL;
    if (payload && lent) {
        // Made first: once a part is accepted the rest must follow.
        union {
            const void *in;
            void *out;
        } unconst = {.in = payload}; // the library only reads it
        if (zmq_msg_init_data(&message, unconst.out, payload_bytes, give_back, lent) != 0)
            return PORT_FULL;
    }
    sent = PORT_SENT;
    if (port->kind->type == ZMQ_ROUTER) {
        unsigned char id[8];
        memcpy(id, &route, sizeof id);
        sent = send_part(port, id, 5, true);
    }
    if (sent == PORT_SENT)
        sent = send_part(port, head, head_bytes, payload != NULL);
    if (sent == PORT_SENT && payload && !lent)
        sent = send_part(port, payload, payload_bytes, false);
    if (payload && lent) {
        if (sent == PORT_SENT) {
            while (zmq_msg_send(&message, port->socket, ZMQ_DONTWAIT) < 0)
                if (errno != EINTR) {
                    sent = PORT_GONE;
                    break;
                }
        }
        if (sent != PORT_SENT) {
            zmq_msg_close(&message); // counts as returned: take it back
            atomic_fetch_sub_explicit(&lent->returned, 1, memory_order_relaxed);
        }
    }
    return sent;
}

void
port_publish(struct port *port, const char *topic, const unsigned char *head, size_t head_bytes)
{
    if (port->socket && send_part(port, topic, strlen(topic), true) == PORT_SENT)
        (void)send_part(port, head, head_bytes, false);
}

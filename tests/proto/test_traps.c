// label: fault
// Traps of libzmq that concern honest peers. Each case first springs the trap on plain sockets, so
// that we know it is there, and then shows our own sockets walking past it.
//
//   heartbeats   the library's timer counts whole frames: a slow link that carries a large one is
//                cut again and again            we: none on data, leases of our own
//   silence      a connecting socket that meets a protocol error never connects again, and says
//                nothing                                          we: a silent socket is made anew
//   acceptance   "sent" means queued: what a dying peer had not read is gone
//                                                                 we: absolute numbers, asked again
//   monitors     one that nobody reads blocks the library's thread, and with it every socket
//                                                                 we: none
#include "proto/datafeed.h"
#include "proto/dataport.h"

#include "tests/proto/socket_kit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

static void
nap(int ms)
{
    usleep((useconds_t)ms * 1000);
}

static int
listen_somewhere(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static int
connect_to(uint16_t port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static uint16_t
port_of(const char *endpoint)
{
    return (uint16_t)strtoul(strrchr(endpoint, ':') + 1, NULL, 10);
}

static void
set_int(void *socket, int option, int value)
{
    assert_int_equal(zmq_setsockopt(socket, option, &value, sizeof value), 0);
}

// Bytes of the next message that arrives within so many ms, its last part; -1: none.
static int
receive_within(void *socket, int ms)
{
    int bytes = -1, more = 1;
    size_t room = sizeof more;
    set_int(socket, ZMQ_RCVTIMEO, ms);
    while (more) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, 0) < 0)
            return -1;
        bytes = (int)zmq_msg_size(&part);
        zmq_msg_close(&part);
        assert_int_equal(zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &room), 0);
    }
    return bytes;
}

// ---- a slow link: a relay that lets few bytes through on the way down

enum { SLICE = 16 << 10, LARGE = 3 << 20 }; // 16 KiB every 5 ms: 3.2 MB/s, so 1 s for the large one

struct relay {
    int fd;
    uint16_t port, upstream;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic unsigned connections;
};

static void
pump(struct relay *relay, int client, int server)
{
    static char bytes[SLICE];
    struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
    while (!relay->stop) {
        if (poll(fds, 2, 5) <= 0)
            continue;
        if (fds[0].revents) {
            ssize_t got = recv(client, bytes, sizeof bytes, 0);
            if (got <= 0 || send(server, bytes, (size_t)got, MSG_NOSIGNAL) != got)
                return;
        }
        if (fds[1].revents) {
            ssize_t got = recv(server, bytes, sizeof bytes, 0);
            if (got <= 0)
                return;
            for (ssize_t at = 0; at < got;) {
                ssize_t put = send(client, bytes + at, (size_t)(got - at), MSG_NOSIGNAL);
                if (put <= 0)
                    return;
                at += put;
            }
            nap(5);
        }
    }
}

static void *
relay_run(void *self)
{
    struct relay *relay = self;
    struct pollfd fd = {.fd = relay->fd, .events = POLLIN};
    while (!relay->stop) {
        if (poll(&fd, 1, 20) <= 0)
            continue;
        int client = accept(relay->fd, NULL, NULL), server = connect_to(relay->upstream);
        int small = 64 << 10; // or the kernel takes the whole frame at once
        (void)setsockopt(client, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        (void)setsockopt(server, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        relay->connections++;
        if (client >= 0 && server >= 0)
            pump(relay, client, server);
        close(client);
        close(server);
    }
    return NULL;
}

static void
relay_start(struct relay *relay, const char *upstream)
{
    *relay = (struct relay){.upstream = port_of(upstream)};
    relay->fd = listen_somewhere(&relay->port);
    pthread_create(&relay->thread, NULL, relay_run, relay);
}

static void
relay_stop(struct relay *relay)
{
    relay->stop = true;
    pthread_join(relay->thread, NULL);
    close(relay->fd);
}

static void
a_slow_link_carries_large_frames_when_nothing_beats(void **unused)
{
    (void)unused;
    static struct relay relay;
    char last[WIRE_ENDPOINT], endpoint[WIRE_ENDPOINT];
    size_t bytes = sizeof last;
    unsigned char *large = calloc(1, LARGE);

    // The trap. Beats of 100 ms and patience of 300 ms, on a link that needs a second.
    void *context = zmq_ctx_new(), *router = zmq_socket(context, ZMQ_ROUTER);
    void *dealer = zmq_socket(context, ZMQ_DEALER);
    set_int(router, ZMQ_LINGER, 0);
    set_int(dealer, ZMQ_LINGER, 0);
    set_int(dealer, ZMQ_HEARTBEAT_IVL, 100);
    set_int(dealer, ZMQ_HEARTBEAT_TIMEOUT, 300);
    assert_int_equal(zmq_bind(router, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, last, &bytes), 0);
    relay_start(&relay, last);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", relay.port);
    assert_int_equal(zmq_connect(dealer, endpoint), 0);
    assert_int_equal(zmq_send(dealer, "?", 1, 0), 1);
    zmq_msg_t id;
    zmq_msg_init(&id);
    assert_int_equal(zmq_msg_recv(&id, router, 0), 5);
    assert_int_equal(receive_within(router, 1000), 1);
    assert_int_equal(zmq_msg_send(&id, router, ZMQ_SNDMORE), 5);
    assert_int_equal(zmq_send(router, large, LARGE, 0), LARGE);
    assert_int_equal(receive_within(dealer, 2500), -1);
    assert_true(relay.connections > 1); // cut, in the middle
    relay_stop(&relay);
    zmq_close(dealer);
    zmq_close(router);
    zmq_ctx_term(context);

    // Ours, on the same link.
    struct channel *channel;
    struct port *server, *client;
    struct packet packet;
    fine(channel_new(&channel, NULL));
    fine(channel_bind(channel, PORT_DATA_SERVER, "tcp://127.0.0.1:*", &server));
    relay_start(&relay, port_endpoint(server));
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", relay.port);
    fine(channel_connect(channel, PORT_DATA_CLIENT, endpoint, LARGE, &client));
    while (port_send(client, 0, (const unsigned char *)"?", 1, NULL, 0, NULL) != PORT_SENT)
        nap(5);
    while (!port_receive(server, &packet))
        nap(5);
    assert_int_equal(
        port_send(server, packet.route, (const unsigned char *)"!", 1, large, LARGE, NULL),
        PORT_SENT);
    packet_release(&packet);
    int64_t until = tick_ms() + 20000;
    while (!port_receive(client, &packet)) {
        assert_true(tick_ms() < until);
        nap(5);
    }
    assert_int_equal(packet.payload_bytes, LARGE);
    assert_int_equal(relay.connections, 1);
    packet_release(&packet);
    port_close(&client);
    port_close(&server);
    relay_stop(&relay);
    channel_free(&channel);
    free(large);
}

// ---- a producer and a trainer, in one thread

enum { BATCHES = 40, BYTES = 4096 };
static const struct wire_stream the_stream = {.id = {5, 6},
                                              .shards = 1,
                                              .rows = 16,
                                              .width = 64,
                                              .dtype = PAYLOAD_F32,
                                              .bytes = BYTES,
                                              .block = 4,
                                              .per_epoch = 1000,
                                              .end = BATCHES,
                                              .replay = "test"};

static void
producer_open(struct dataport **port, struct channel *channel, const char *endpoint)
{
    struct dataserver_settings set = dataserver_presets;
    set.links.stream = the_stream;
    set.links.seed = random_seed();
    set.links.hb_ms = 100;
    set.links.lease_ms = 600;
    set.links.inst = (struct hash128){random_seed(), 1};
    snprintf(set.links.name, sizeof set.links.name, "producer");
    set.slots = 4;
    set.rejoin_ms = 0;
    fine(dataport_open(port, channel, endpoint, &set));
}

static void
producer_turn(struct dataport *port)
{
    struct want_batch want;
    (void)dataport_turn(port, tick_ms());
    while (dataport_want(port, &want, 0)) {
        for (size_t i = 0; i < BYTES; i += sizeof want.seq)
            memcpy(want.at + i, &want.seq, sizeof want.seq);
        dataport_filled(port, &want, 0, 0);
    }
    (void)dataport_turn(port, tick_ms());
}

static void
trainer_open(struct datafeed **feed, struct channel *channel, const char *endpoint)
{
    static struct texts endpoints;
    struct dataclient_settings set = {.link = link_presets, .win = 4, .seed = random_seed()};
    fine(hello_fill(&set.link.me, ROLE_TRAINER, "t", "t", 1));
    set.link.greet_ms = 200;
    endpoints.count = 0;
    snprintf(endpoints.at[endpoints.count++], TEXT_BYTES, "%s", endpoint);
    fine(datafeed_open(feed, channel, &endpoints, BYTES, &set));
}

// Runs both until the trainer has applied `until` batches, in order.
static void
run_both(struct dataport *port, struct datafeed *feed, bool *started, uint64_t *next,
         uint64_t until)
{
    struct wire_stream stream;
    struct feed_batch batch;
    for (int64_t limit = tick_ms() + 20000; *next < until; nap(1)) {
        assert_true(tick_ms() < limit);
        producer_turn(port);
        (void)datafeed_turn(feed, tick_ms());
        if (!*started && (*started = datafeed_wait_stream(feed, &stream, 0)))
            datafeed_start(feed, (struct cursor){0}, BATCHES);
        while (*started && *next < until && datafeed_next(feed, &batch, 0) == FEED_BATCH) {
            assert_int_equal(batch.taken.seq, *next);
            assert_memory_equal(batch.at, next, sizeof *next);
            assert_true(datafeed_sound(feed, &batch));
            datafeed_done(feed, &batch);
            ++*next;
        }
    }
}

static void
a_socket_that_will_never_connect_again_is_made_anew(void **unused)
{
    (void)unused;
    char endpoint[WIRE_ENDPOINT];
    kit_endpoint(endpoint, "silence");
    void *context = zmq_ctx_new(), *rogue = zmq_socket(context, ZMQ_ROUTER);
    void *plain = zmq_socket(context, ZMQ_DEALER);
    int64_t most = 1000;
    set_int(rogue, ZMQ_LINGER, 0);
    set_int(plain, ZMQ_LINGER, 0);
    assert_int_equal(zmq_setsockopt(plain, ZMQ_MAXMSGSIZE, &most, sizeof most), 0);
    assert_int_equal(zmq_bind(rogue, endpoint), 0);
    assert_int_equal(zmq_connect(plain, endpoint), 0);

    struct channel *channel;
    struct datafeed *feed;
    struct dataport *port;
    fine(channel_new(&channel, NULL));
    trainer_open(&feed, channel, endpoint);

    // Whoever says something gets more than it may receive.
    static unsigned char large[BYTES + (256 << 10)];
    assert_int_equal(zmq_send(plain, "?", 1, 0), 1);
    set_int(rogue, ZMQ_RCVTIMEO, 20);
    unsigned cut = 0;
    for (int64_t until = tick_ms() + 5000; cut < 2 && tick_ms() < until;) {
        (void)datafeed_turn(feed, tick_ms());
        zmq_msg_t id;
        zmq_msg_init(&id);
        if (zmq_msg_recv(&id, rogue, 0) != 5)
            continue;
        (void)receive_within(rogue, 100);
        set_int(rogue, ZMQ_RCVTIMEO, 20);
        assert_int_equal(zmq_msg_send(&id, rogue, ZMQ_SNDMORE), 5);
        assert_int_equal(zmq_send(rogue, large, sizeof large, 0), (int)sizeof large);
        cut++;
    }
    assert_int_equal(cut, 2);

    // The trap: the plain socket is dead for good.
    nap(1000); // several times the interval of its attempts
    (void)zmq_send(plain, "anybody?", 8, ZMQ_DONTWAIT);
    (void)zmq_send(plain, "there?", 6, ZMQ_DONTWAIT);
    for (int bytes; (bytes = receive_within(rogue, 700)) != -1;)
        assert_true(bytes != 8 && bytes != 6); // only what the trainer says
    zmq_close(rogue);
    zmq_close(plain);
    zmq_ctx_term(context);

    // Ours: an honest producer takes the rogue's place, and the trainer finds it.
    bool started = false;
    uint64_t next = 0;
    producer_open(&port, channel, endpoint);
    run_both(port, feed, &started, &next, BATCHES);
    datafeed_leave(feed);
    dataport_leave(port, "over");
    (void)dataport_turn(port, tick_ms());
    datafeed_close(&feed);
    dataport_close(&port);
    channel_free(&channel);
}

static void
what_was_accepted_and_lost_is_asked_for_again(void **unused)
{
    (void)unused;
    enum { SENT = 20 };
    char endpoint[WIRE_ENDPOINT], other[WIRE_ENDPOINT];
    kit_endpoint(endpoint, "accepted");
    kit_endpoint(other, "accepted-ours");

    // The trap: twenty messages are sent, says the library; the peer dies before it has read them.
    void *context = zmq_ctx_new(), *dealer = zmq_socket(context, ZMQ_DEALER);
    void *router = zmq_socket(context, ZMQ_ROUTER);
    set_int(dealer, ZMQ_LINGER, 0);
    set_int(router, ZMQ_LINGER, 0);
    assert_int_equal(zmq_bind(router, endpoint), 0);
    assert_int_equal(zmq_connect(dealer, endpoint), 0);
    for (int i = 0; i < SENT; i++)
        assert_int_equal(zmq_send(dealer, "batch", 5, 0), 5);
    assert_int_equal(receive_within(router, 2000), 5); // they are on their way
    nap(100);
    zmq_close(router);
    router = zmq_socket(context, ZMQ_ROUTER);
    set_int(router, ZMQ_LINGER, 0);
    for (int64_t until = tick_ms() + 5000; zmq_bind(router, endpoint) != 0; nap(10))
        assert_true(tick_ms() < until);
    int arrived = 1;
    while (receive_within(router, 700) != -1)
        arrived++;
    assert_true(arrived < SENT);
    zmq_close(router);
    zmq_close(dealer);
    zmq_ctx_term(context);

    // Ours: a producer dies with credit unread and batches unsent, twice; none is missing, none
    // comes twice.
    struct channel *theirs, *ours;
    struct dataport *port;
    struct datafeed *feed;
    bool started = false;
    uint64_t next = 0;
    fine(channel_new(&ours, NULL));
    fine(channel_new(&theirs, NULL));
    producer_open(&port, theirs, other);
    trainer_open(&feed, ours, other);
    for (uint64_t stop = BATCHES / 4; stop < BATCHES; stop += BATCHES / 4) {
        run_both(port, feed, &started, &next, stop);
        dataport_close(&port); // without a word
        channel_free(&theirs);
        (void)datafeed_turn(feed, tick_ms());
        fine(channel_new(&theirs, NULL));
        producer_open(&port, theirs, other);
    }
    run_both(port, feed, &started, &next, BATCHES);
    datafeed_leave(feed);
    dataport_leave(port, "over");
    (void)dataport_turn(port, tick_ms());
    datafeed_close(&feed);
    dataport_close(&port);
    channel_free(&ours);
    channel_free(&theirs);
}

// ---- monitors

// Connections that end at once; it stops where nobody accepts them any more.
static void
come_and_go(uint16_t port, unsigned times)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (unsigned i = 0, refused = 0; i < times && refused < 3; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct pollfd done = {.fd = fd, .events = POLLOUT};
        if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0 && poll(&done, 1, 300) <= 0)
            refused++;
        close(fd);
        if (i % 50 == 49)
            nap(10); // as many as the backlog holds
    }
}

// Does a newcomer get an answer?
static bool
serves(void *context, void *router, const char *endpoint)
{
    void *dealer = zmq_socket(context, ZMQ_DEALER);
    set_int(dealer, ZMQ_LINGER, 0);
    assert_int_equal(zmq_connect(dealer, endpoint), 0);
    assert_int_equal(zmq_send(dealer, "?", 1, 0), 1);
    bool served = receive_within(router, 1500) == 1;
    zmq_close(dealer);
    return served;
}

static void
nobody_needs_to_read_what_we_do_not_watch(void **unused)
{
    (void)unused;
    char last[WIRE_ENDPOINT];
    size_t bytes = sizeof last;
    // The trap. The library's thread fills the monitor's queue and waits for a reader.
    void *context = zmq_ctx_new(), *router = zmq_socket(context, ZMQ_ROUTER);
    void *monitor = zmq_socket(context, ZMQ_PAIR);
    set_int(router, ZMQ_LINGER, 0);
    assert_int_equal(zmq_bind(router, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, last, &bytes), 0);
    assert_int_equal(zmq_socket_monitor(router, "inproc://monitor", ZMQ_EVENT_ALL), 0);
    set_int(monitor, ZMQ_RCVHWM, 10);
    assert_int_equal(zmq_connect(monitor, "inproc://monitor"), 0);
    assert_true(serves(context, router, last));
    come_and_go(port_of(last), 1200);
    assert_false(serves(context, router, last));
    set_int(monitor, ZMQ_RCVTIMEO, 300); // free it again, so that all this can end
    char event[256];
    while (zmq_recv(monitor, event, sizeof event, 0) >= 0)
        ;
    zmq_socket_monitor(router, NULL, 0);
    zmq_close(monitor);
    zmq_close(router);
    zmq_ctx_term(context);

    // Ours has seen as many come and go, and has no monitor.
    struct channel *channel;
    struct port *server, *client;
    struct packet packet;
    fine(channel_new(&channel, NULL));
    fine(channel_bind(channel, PORT_CTL_SERVER, "tcp://127.0.0.1:*", &server));
    come_and_go(port_of(port_endpoint(server)), 1200);
    fine(channel_connect(channel, PORT_CTL_CLIENT, port_endpoint(server), 0, &client));
    int64_t until = tick_ms() + 5000;
    while (port_send(client, 0, (const unsigned char *)"?", 1, NULL, 0, NULL) != PORT_SENT ||
           (nap(5), !port_receive(server, &packet)))
        assert_true(tick_ms() < until);
    assert_int_equal(packet.head_bytes, 1);
    packet_release(&packet);
    port_close(&client);
    port_close(&server);
    channel_free(&channel);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_link_carries_large_frames_when_nothing_beats),
        cmocka_unit_test(a_socket_that_will_never_connect_again_is_made_anew),
        cmocka_unit_test(what_was_accepted_and_lost_is_asked_for_again),
        cmocka_unit_test(nobody_needs_to_read_what_we_do_not_watch),
    };
    return cmocka_run_group_tests(tests, kit_begin, kit_end);
}

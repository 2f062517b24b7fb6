// A message of two parts is taken whole or not at all, also when its connection breaks while its
// first part is in our hands. Every hundredth read libzmq hears what its own thread has to say; a
// socket told to send to live connections only (ZMQ_IMMEDIATE) then drops a broken one's queue at
// once, and if that falls between two parts the library aborts the process. Invariants: L2 R1
#include "tests/proto/socket_kit.h"

#include <signal.h>
#include <sys/wait.h>

enum { MESSAGES = 64, HEARS_AFTER = 100 }; // an even number of reads: before a second part
// The library's thread works meanwhile; how long it takes on a busy machine nobody knows, so each
// case is tried with more patience.
static const int naps[] = {100, 400, 1600};
enum { TRIES = sizeof naps / sizeof naps[0] };

static void
nap(int ms)
{
    usleep((useconds_t)ms * 1000);
}

// The trap, in a process of its own. Does not return.
_Noreturn static void
read_while_it_breaks(int immediate, int patience)
{
    char last[256], part[16];
    size_t bytes = sizeof last;
    int events = 0;
    void *far = zmq_ctx_new(), *near = zmq_ctx_new();
    void *router = zmq_socket(far, ZMQ_ROUTER), *dealer = zmq_socket(near, ZMQ_DEALER);
    bool fine = zmq_setsockopt(dealer, ZMQ_IMMEDIATE, &immediate, sizeof immediate) == 0 &&
                zmq_bind(router, "tcp://127.0.0.1:*") == 0 &&
                zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, last, &bytes) == 0 &&
                zmq_connect(dealer, last) == 0 && zmq_send(dealer, "?", 1, 0) == 1;
    int id = zmq_recv(router, part, sizeof part, 0);
    fine = fine && id == 5 && zmq_recv(router, part + 5, 1, 0) == 1;
    for (int i = 0; i < MESSAGES && fine; i++)
        fine = zmq_send(router, part, 5, ZMQ_SNDMORE) == 5 &&
               zmq_send(router, "H", 1, ZMQ_SNDMORE) == 1 && zmq_send(router, "P", 1, 0) == 1;
    bytes = sizeof events;
    while (fine && !(events & ZMQ_POLLIN))
        fine = zmq_getsockopt(dealer, ZMQ_EVENTS, &events, &bytes) == 0;
    nap(patience); // all of them wait
    zmq_close(router);
    zmq_ctx_term(far);
    nap(patience); // the library's thread has seen the end, the socket has not
    int parts = 0;
    while (fine && zmq_recv(dealer, part, sizeof part, ZMQ_DONTWAIT) >= 0)
        parts++;
    _exit(!fine ? 2 : parts == 2 * MESSAGES ? 0 : 1);
}

static int
how_it_ends(int immediate, int patience)
{
    int how;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(STDERR_FILENO); // the library's last words
        read_while_it_breaks(immediate, patience);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    return how;
}

static void
the_trap_is_there(void **unused)
{
    (void)unused;
    bool aborted = false, came = false;
    for (int i = 0; i < TRIES && !(aborted && came); i++) {
        int how = how_it_ends(1, naps[i]);
        aborted |= WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT;
        how = how_it_ends(0, naps[i]);
        assert_true(WIFEXITED(how));
        came |= WEXITSTATUS(how) == 0;
    }
    assert_true(aborted);
    assert_true(came);
}

// How many of them came; none in two.
static unsigned
come_whole(enum port_kind server_kind, enum port_kind client_kind, int patience)
{
    char endpoint[WIRE_ENDPOINT];
    struct channel *near, *far;
    struct port *server, *client;
    struct packet packet;
    kit_endpoint(endpoint, "whole");
    fine(channel_new(&near, NULL));
    fine(channel_new(&far, NULL));
    fine(channel_bind(far, server_kind, endpoint, &server));
    fine(channel_connect(near, client_kind, endpoint, 16, &client));
    while (port_send(client, 0, (const unsigned char *)"?", 1, NULL, 0, NULL) != PORT_SENT)
        kit_wait(near, tick_ms() + 20);
    while (!port_receive(server, &packet))
        kit_wait(far, tick_ms() + 20);
    uint64_t route = packet.route;
    packet_release(&packet);
    assert_false(port_receive(client, &packet)); // the library's count of reads begins here
    for (int i = 0; i < MESSAGES; i++)
        assert_int_equal(port_send(server, route, (const unsigned char *)"H", 1, "P", 1, NULL),
                         PORT_SENT);
    while (!channel_pending(near))
        kit_wait(near, tick_ms() + 20);
    nap(patience);
    port_unbind(server);
    nap(patience);
    unsigned whole = 0;
    while (port_receive(client, &packet)) {
        assert_false(packet.malformed);
        assert_int_equal(packet.frames, 2);
        whole++;
        packet_release(&packet);
    }
    port_close(&client);
    channel_free(&near);
    port_close(&server);
    channel_free(&far);
    return whole;
}

static void
walks_past(enum port_kind server_kind, enum port_kind client_kind)
{
    unsigned whole = 0;
    for (int i = 0; i < TRIES && whole < MESSAGES; i++)
        whole = come_whole(server_kind, client_kind, naps[i]);
    assert_int_equal(whole, MESSAGES); // more reads than HEARS_AFTER
}

static void
batches(void **unused)
{
    (void)unused;
    walks_past(PORT_DATA_SERVER, PORT_DATA_CLIENT);
}

static void
chunks(void **unused)
{
    (void)unused;
    walks_past(PORT_BLOB_SERVER, PORT_BLOB_CLIENT);
}

static void
replies(void **unused)
{
    (void)unused;
    walks_past(PORT_CTL_SERVER, PORT_CTL_CLIENT);
}

_Static_assert(2 * MESSAGES > HEARS_AFTER, "the count must be reached");

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_trap_is_there),
        cmocka_unit_test_setup_teardown(batches, kit_begin, kit_end),
        cmocka_unit_test_setup_teardown(chunks, kit_begin, kit_end),
        cmocka_unit_test_setup_teardown(replies, kit_begin, kit_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

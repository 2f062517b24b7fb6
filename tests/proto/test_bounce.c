// A bound socket made anew (port_unbind, port_rebind): what was lent to a peer that does not read
// is given back, and whoever lives finds the new one by itself. Invariants: L2 L3
#include "tests/proto/socket_kit.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

enum { PIECES = 8, BYTES = 1 << 20 };

static bool
comes(struct port *port, struct channel *channel, struct packet *packet)
{
    for (int64_t until = tick_ms() + 10000; tick_ms() < until;) {
        if (port_receive(port, packet))
            return true;
        kit_wait(channel, tick_ms() + 20);
    }
    return false;
}

static void
made_anew(const char *endpoint)
{
    static unsigned char bytes[BYTES];
    struct lent lent = {.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    struct channel *channel, *far;
    struct port *server, *client;
    struct packet packet;
    assert_int_equal(channel_new(&channel, NULL), STATUS_OK);
    assert_int_equal(channel_new(&far, NULL), STATUS_OK);
    assert_int_equal(channel_bind(channel, PORT_DATA_SERVER, endpoint, &server), STATUS_OK);
    assert_int_equal(channel_connect(far, PORT_DATA_CLIENT, port_endpoint(server), BYTES, &client),
                     STATUS_OK);
    while (port_send(client, 0, (const unsigned char *)"one", 3, NULL, 0, NULL) != PORT_SENT)
        kit_wait(far, tick_ms() + 20);
    assert_true(comes(server, channel, &packet));
    uint64_t route = packet.route;
    packet_release(&packet);
    unsigned sent = 0;
    // More than its queue and every buffer between take.
    for (size_t n = 0; n < 40 * PIECES; n++)
        sent += port_send(server, route, (const unsigned char *)"H", 1, bytes, BYTES, &lent) ==
                PORT_SENT;
    assert_true(sent > PIECES);
    unsigned back = 0;
    for (int i = 0; i < 20; i++) {
        kit_wait(channel, tick_ms() + 20);
        back += atomic_exchange(&lent.returned, 0);
    }
    assert_true(back < sent); // nobody reads them

    port_unbind(server);
    assert_false(port_is_bound(server));
    assert_false(port_receive(server, &packet));
    assert_int_equal(port_send(server, route, (const unsigned char *)"H", 1, NULL, 0, NULL),
                     PORT_FULL);
    int64_t until = tick_ms() + 10000;
    while (port_rebind(server) != STATUS_OK && tick_ms() < until)
        kit_wait(channel, tick_ms() + 5);
    assert_true(port_is_bound(server));
    while (back < sent && tick_ms() < until) {
        kit_wait(channel, tick_ms() + 20);
        back += atomic_exchange(&lent.returned, 0);
    }
    assert_int_equal(back, sent);

    while (port_receive(client, &packet)) // what had come
        packet_release(&packet);
    bool again = false;
    for (until = tick_ms() + 10000; !again && tick_ms() < until;) {
        (void)port_send(client, 0, (const unsigned char *)"two", 3, NULL, 0, NULL);
        kit_wait(channel, tick_ms() + 50);
        while (port_receive(client, &packet))
            packet_release(&packet);
        while (port_receive(server, &packet)) {
            again |= packet.head_bytes == 3 && memcmp(packet.head, "two", 3) == 0;
            packet_release(&packet);
        }
    }
    assert_true(again);
    port_close(&client);
    channel_free(&far);
    port_close(&server);
    channel_free(&channel);
    close(lent.wake_fd);
}

static void
over_ipc(void **unused)
{
    (void)unused;
    char endpoint[WIRE_ENDPOINT];
    kit_endpoint(endpoint, "data");
    made_anew(endpoint);
}

static void
over_tcp(void **unused)
{
    (void)unused;
    made_anew("tcp://127.0.0.1:*");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(over_ipc, kit_begin, kit_end),
        cmocka_unit_test_setup_teardown(over_tcp, kit_begin, kit_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

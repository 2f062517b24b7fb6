// ctl over real sockets: commands answered once, late, repeated, refused; the roles of endpoints.
//
// Invariants: C1 S3 L4
#include "proto/caller.h"
#include "proto/control.h"

#include "lib/base/tick.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const struct operation operations[] = {
    {"count", ROLES_ALL}, {"late", ROLES_ALL}, {"admin", 1u << ROLE_ADMIN}, {NULL, 0}};

// A server that counts how often `count` took effect, and answers `late` half a second later.
struct server {
    char endpoint[128];
    atomic_bool stop, ready;
    atomic_int counted;
    pthread_t thread;
};

static void *
serve(void *from)
{
    struct server *s = from;
    struct channel *channel;
    struct control *control;
    struct msg_hello me;
    struct msg_reply *reply = calloc(1, sizeof *reply);
    assert_non_null(reply);
    assert_int_equal(hello_fill(&me, ROLE_MONITOR, "server", "run", 0), STATUS_OK);
    assert_int_equal(channel_new(&channel, NULL), STATUS_OK);
    struct control_settings set = {.name = "server",
                                   .inst = me.inst,
                                   .host = me.host,
                                   .hb_ms = 2000,
                                   .lease_ms = 15000,
                                   .operations = operations};
    assert_int_equal(control_open(&control, channel, s->endpoint, &set), STATUS_OK);
    atomic_store(&s->ready, true);
    uint32_t late = 0;
    int64_t late_at = 0;
    while (!atomic_load(&s->stop)) {
        int64_t now = tick_ms();
        struct request request;
        control_turn(control, now);
        while (control_next(control, &request)) {
            if (request.cmd->op[0] == 'l') {
                late = request.ticket;
                late_at = now + 500;
            } else {
                memset(reply, 0, sizeof *reply);
                reply->ok = true;
                if (request.cmd->op[0] == 'c')
                    atomic_fetch_add(&s->counted, 1);
                named_whole(&reply->data, "argument",
                            named_get_whole(&request.cmd->args, "n", -1) + 1);
                control_reply(control, request.ticket, reply);
            }
            control_turn(control, now);
        }
        if (late && now >= late_at) {
            control_done(control, late);
            late = 0;
        }
        usleep(2000);
    }
    control_close(&control);
    channel_free(&channel);
    free(reply);
    return NULL;
}

static void
start(struct server *s, const char *endpoint)
{
    *s = (struct server){0};
    snprintf(s->endpoint, sizeof s->endpoint, "%s", endpoint);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    while (!atomic_load(&s->ready))
        usleep(1000);
}

static void
stop(struct server *s)
{
    atomic_store(&s->stop, true);
    pthread_join(s->thread, NULL);
}

static void
ipc_folder(char *out, size_t room)
{
    char folder[] = "/tmp/osae-control-XXXXXX";
    assert_non_null(mkdtemp(folder));
    snprintf(out, room, "ipc://%s/ctl", folder);
}

static void
commands_are_answered(void **unused)
{
    (void)unused;
    char endpoint[128];
    struct server server;
    struct channel *channel;
    struct caller *caller;
    struct named args = {0};
    static struct msg_reply reply;
    ipc_folder(endpoint, sizeof endpoint);
    start(&server, endpoint);
    assert_int_equal(channel_new(&channel, NULL), STATUS_OK);
    assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_ADMIN, "test"), STATUS_OK);
    for (int i = 0; i < 20; i++) {
        named_clear(&args);
        named_whole(&args, "n", i);
        assert_int_equal(caller_command(caller, "count", &args, &reply, 5000), STATUS_OK);
        assert_int_equal(named_get_whole(&reply.data, "argument", -1), i + 1);
    }
    assert_int_equal(atomic_load(&server.counted), 20);
    int64_t before = tick_ms();
    assert_int_equal(caller_command(caller, "late", NULL, &reply, 5000), STATUS_OK);
    assert_true(tick_ms() - before >= 450);
    assert_int_equal(caller_command(caller, "admin", NULL, &reply, 5000), STATUS_OK);
    assert_int_equal(caller_command(caller, "nonsense", NULL, &reply, 5000), STATUS_CONFIG);
    caller_close(&caller);
    channel_free(&channel);
    stop(&server);
}

static void
a_repeated_command_takes_effect_once(void **unused)
{
    (void)unused;
    char endpoint[128];
    struct server server;
    struct channel *channel;
    static struct msg_cmd cmd;
    static struct msg_reply reply;
    ipc_folder(endpoint, sizeof endpoint);
    start(&server, endpoint);
    memset(&cmd, 0, sizeof cmd);
    cmd.idem = (struct hash128){77, 78};
    snprintf(cmd.op, sizeof cmd.op, "count");
    named_whole(&cmd.args, "n", 5);
    for (int i = 0; i < 5; i++) { // each time another client, as after a restart
        struct caller *caller;
        assert_int_equal(channel_new(&channel, NULL), STATUS_OK);
        assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_ADMIN, "test"), STATUS_OK);
        assert_int_equal(caller_ask(caller, MESSAGE_CMD, &cmd, MESSAGE_REPLY, &reply, 5000),
                         STATUS_OK);
        assert_true(reply.ok);
        assert_int_equal(named_get_whole(&reply.data, "argument", -1), 6);
        caller_close(&caller);
        channel_free(&channel);
    }
    assert_int_equal(atomic_load(&server.counted), 1);
    stop(&server);
}

static void
any_local_user_is_not_admin_on_loopback(void **unused)
{
    (void)unused;
    struct server server;
    struct channel *channel;
    struct caller *caller;
    static struct msg_reply reply;
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", 20000 + (int)(getpid() % 20000));
    start(&server, endpoint);
    assert_int_equal(channel_new(&channel, NULL), STATUS_OK);
    assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_MONITOR, "test"), STATUS_OK);
    assert_int_equal(caller_command(caller, "count", NULL, &reply, 5000), STATUS_OK);
    assert_int_equal(caller_command(caller, "admin", NULL, &reply, 5000), STATUS_CONFIG);
    caller_close(&caller);
    assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_ADMIN, "test"), STATUS_OK);
    assert_int_equal(caller_command(caller, "count", NULL, &reply, 1500), STATUS_CONFIG);
    caller_close(&caller);
    channel_free(&channel);
    stop(&server);
}

static void
nobody_there_is_said_in_time(void **unused)
{
    (void)unused;
    char endpoint[128];
    struct channel *channel;
    struct caller *caller;
    static struct msg_reply reply;
    ipc_folder(endpoint, sizeof endpoint);
    assert_int_equal(channel_new(&channel, NULL), STATUS_OK);
    assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_ADMIN, "test"), STATUS_OK);
    int64_t before = tick_ms();
    assert_int_equal(caller_command(caller, "count", NULL, &reply, 300), STATUS_UNREACHABLE);
    assert_true(tick_ms() - before < 3000);
    caller_close(&caller);
    channel_free(&channel);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_answered),
        cmocka_unit_test(a_repeated_command_takes_effect_once),
        cmocka_unit_test(any_local_user_is_not_admin_on_loopback),
        cmocka_unit_test(nobody_there_is_said_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

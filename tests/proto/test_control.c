// ctl over real sockets: commands answered once, late, repeated, refused; a thousand at one time;
// more than the bounds allow; the roles of endpoints.
//
// Invariants: C1 S3 L3 L4 R4
#include "proto/control.h"
#include "tests/proto/callers.h"

#include <pthread.h>
#include <stdatomic.h>

static const struct operation operations[] = {
    {"count", ROLES_ALL, false},   {"late", ROLES_ALL, false}, {"admin", 1u << ROLE_ADMIN, false},
    {"hold", ROLES_ALL, false}, // answered when `release` comes
    {"release", ROLES_ALL, false}, {"Look", ROLES_ALL, true},  {NULL, 0, false}};

// A server that counts how often `count` took effect, in all and for each `n`, answers `late` half
// a second later, and what is held when `release` comes.
struct server {
    char endpoint[128];
    atomic_bool stop, ready;
    atomic_int counted, holds, by_number[CALLERS_MOST];
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
                                   .lease_ms = 60000, // nobody here beats
                                   .operations = operations};
    assert_int_equal(control_open(&control, channel, s->endpoint, &set), STATUS_OK);
    atomic_store(&s->ready, true);
    uint32_t late = 0, held[CONTROL_OPEN_MOST];
    size_t held_count = 0;
    int64_t late_at = 0;
    while (!atomic_load(&s->stop)) {
        int64_t now = tick_ms();
        struct request request;
        control_turn(control, now);
        while (control_next(control, &request)) {
            if (request.cmd->op[0] == 'l') {
                late = request.ticket;
                late_at = now + 500;
            } else if (request.cmd->op[0] == 'h') {
                held[held_count++] = request.ticket;
                atomic_store(&s->holds, (int)held_count);
            } else {
                int64_t n = named_get_whole(&request.cmd->args, "n", -1);
                memset(reply, 0, sizeof *reply);
                reply->ok = true;
                if (request.cmd->op[0] == 'c') {
                    atomic_fetch_add(&s->counted, 1);
                    if (n >= 0 && n < CALLERS_MOST)
                        atomic_fetch_add(&s->by_number[n], 1);
                }
                while (request.cmd->op[0] == 'r' && held_count > 0)
                    control_done(control, held[--held_count]);
                named_whole(&reply->data, "argument", n + 1);
                control_reply(control, request.ticket, reply);
            }
            control_turn(control, now);
        }
        if (late && now >= late_at) {
            control_done(control, late);
            late = 0;
        }
        kit_wait(channel, now + 2);
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
    assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_ADMIN, "test", 1000), STATUS_OK);
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
        assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_ADMIN, "test", 1000),
                         STATUS_OK);
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
    assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_MONITOR, "test", 1000),
                     STATUS_OK);
    assert_int_equal(caller_command(caller, "count", NULL, &reply, 5000), STATUS_OK);
    assert_int_equal(caller_command(caller, "admin", NULL, &reply, 5000), STATUS_CONFIG);
    caller_close(&caller);
    assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_ADMIN, "test", 1000), STATUS_OK);
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
    assert_int_equal(caller_open(&caller, channel, endpoint, ROLE_ADMIN, "test", 1000), STATUS_OK);
    int64_t before = tick_ms();
    assert_int_equal(caller_command(caller, "count", NULL, &reply, 300), STATUS_UNREACHABLE);
    assert_true(tick_ms() - before < 3000);
    caller_close(&caller);
    channel_free(&channel);
}

// ---- many at one time

// A server, and `count` askers of `op` that are not connected yet.
static struct callers *
many(struct server *server, size_t count, const char *op)
{
    char endpoint[128];
    struct callers *all = callers_new(count);
    ipc_folder(endpoint, sizeof endpoint);
    start(server, endpoint);
    for (size_t i = 0; i < count; i++)
        snprintf(all->at[i].cmd->op, sizeof all->at[i].cmd->op, "%s", op);
    return all;
}

static void
a_thousand_at_one_time_take_effect_once_each(void **unused)
{
    (void)unused;
    enum { MANY = 1000 };
    struct server server;
    struct callers *all = many(&server, MANY, "count");
    for (size_t i = 0; i < MANY; i++)
        named_whole(&all->at[i].cmd->args, "n", (int64_t)i);
    // First they are cut off in the middle: some have not asked yet, some lose their reply.
    callers_connect(all, server.endpoint);
    for (size_t i = 0; i < MANY; i++)
        asker_begin(&all->at[i], 100000);
    while (atomic_load(&server.counted) < MANY / 3) {
        (void)callers_turn(all);
        callers_sleep(all);
    }
    callers_disconnect(all);
    int before = atomic_load(&server.counted);
    // Then again, twice, each over a new connection.
    for (int again = 0; again < 2; again++) {
        callers_connect(all, server.endpoint);
        callers_ask(all, 100000);
        callers_disconnect(all);
        for (size_t i = 0; i < MANY; i++) {
            if (all->at[i].status != STATUS_OK)
                fail_msg("%zu: %s", i, all->at[i].words);
            assert_int_equal(named_get_whole(&all->at[i].reply.data, "argument", -1), i + 1);
        }
    }
    print_message("%d of %d had taken effect when they were cut off\n", before, MANY);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(atomic_load(&server.by_number[i]), 1);
    assert_int_equal(atomic_load(&server.counted), MANY);
    callers_free(&all);
    stop(&server);
}

static void
who_finds_no_link_is_told_so(void **unused)
{
    (void)unused;
    enum { TOO_MANY = CONTROL_LINKS + 8 };
    struct server server;
    struct callers *all = many(&server, TOO_MANY, "Look");
    callers_connect(all, server.endpoint);
    for (size_t i = 0; i < TOO_MANY; i++)
        all->at[i].over = true;
    for (size_t from = 0, to = CONTROL_LINKS; from < TOO_MANY; from = to, to = TOO_MANY) {
        for (size_t i = from; i < to; i++)
            asker_begin(&all->at[i], from == 0 ? 100000 : 4500);
        while (callers_turn(all) > 0)
            callers_sleep(all);
    }
    assert_int_equal(callers_with(all, STATUS_OK), CONTROL_LINKS);
    assert_int_equal(callers_with(all, STATUS_UNREACHABLE), TOO_MANY - CONTROL_LINKS);
    size_t one = 0, other = 0;
    for (size_t i = 0; i < TOO_MANY; i++)
        if (all->at[i].status != STATUS_OK) {
            assert_non_null(strstr(all->at[i].words, ": 1024 links, no more"));
            one = i;
        } else {
            other = i;
        }
    // As soon as somebody leaves there is a place.
    caller_close(&all->at[other].caller);
    all->at[other].asks = false;
    caller_close(&all->at[one].caller);
    fine(caller_open(&all->at[one].caller, all->channels[one / OF_CHANNEL], server.endpoint,
                     ROLE_ADMIN, "late", 100));
    for (size_t i = 0; i < TOO_MANY; i++)
        all->at[i].over = true;
    asker_begin(&all->at[one], 30000);
    while (callers_turn(all) > 0)
        callers_sleep(all);
    assert_int_equal(all->at[one].status, STATUS_OK);
    callers_free(&all);
    stop(&server);
}

static void
who_waits_keeps_nobody_out(void **unused)
{
    (void)unused;
    enum { MANY = 600 };
    struct server server;
    struct callers *all = many(&server, MANY, "hold");
    snprintf(all->at[MANY - 1].cmd->op, sizeof all->at[0].cmd->op, "release");
    for (size_t i = 0; i < MANY; i++)
        all->at[i].over = true;
    callers_connect(all, server.endpoint);
    for (size_t i = 0; i + 1 < MANY; i++)
        asker_begin(&all->at[i], 100000);
    while (atomic_load(&server.holds) < MANY - 1) {
        assert_int_equal(callers_turn(all), MANY - 1); // nobody is answered, and nobody refused
        callers_sleep(all);
    }
    asker_begin(&all->at[MANY - 1], 100000);
    while (callers_turn(all) > 0)
        callers_sleep(all);
    assert_int_equal(callers_with(all, STATUS_OK), MANY);
    callers_free(&all);
    stop(&server);
}

static void
who_waits_is_told_when_the_server_leaves(void **unused)
{
    (void)unused;
    struct server server;
    struct callers *all = many(&server, 20, "hold");
    callers_connect(all, server.endpoint);
    for (size_t i = 0; i < all->count; i++)
        asker_begin(&all->at[i], 100000);
    while (atomic_load(&server.holds) < (int)all->count) {
        (void)callers_turn(all);
        callers_sleep(all);
    }
    stop(&server);
    int64_t left = tick_ms();
    while (callers_turn(all) > 0)
        callers_sleep(all);
    assert_true(tick_ms() - left < 20000); // and not the 100 s they have
    for (size_t i = 0; i < all->count; i++) {
        assert_int_equal(all->at[i].status, STATUS_UNREACHABLE);
        assert_non_null(strstr(all->at[i].words, "it leaves"));
    }
    callers_free(&all);
}

static void
no_reply_is_forgotten_while_its_question_may_come_again(void **unused)
{
    (void)unused;
    char endpoint[128];
    struct server server;
    struct channel *channel;
    struct caller *caller;
    static struct msg_cmd cmd, look;
    static struct msg_reply reply;
    ipc_folder(endpoint, sizeof endpoint);
    start(&server, endpoint);
    fine(channel_new(&channel, NULL));
    fine(caller_open(&caller, channel, endpoint, ROLE_ADMIN, "eager", 100));
    snprintf(cmd.op, sizeof cmd.op, "count");
    snprintf(look.op, sizeof look.op, "Look");
    for (uint64_t i = 0; i < CONTROL_REPLIES; i++) {
        cmd.idem = (struct hash128){i, 1};
        fine(caller_ask(caller, MESSAGE_CMD, &cmd, MESSAGE_REPLY, &reply, 5000));
    }
    cmd.idem = (struct hash128){CONTROL_REPLIES, 1};
    assert_int_equal(caller_ask(caller, MESSAGE_CMD, &cmd, MESSAGE_REPLY, &reply, 600),
                     STATUS_UNREACHABLE);
    assert_non_null(strstr(status_words(), "more commands in a short time than are remembered"));
    for (uint64_t i = 0; i < CONTROL_REPLIES; i += 97) {
        cmd.idem = (struct hash128){i, 1};
        fine(caller_ask(caller, MESSAGE_CMD, &cmd, MESSAGE_REPLY, &reply, 5000));
    }
    fine(caller_ask(caller, MESSAGE_CMD, &look, MESSAGE_REPLY, &reply, 5000));
    assert_int_equal(atomic_load(&server.counted), CONTROL_REPLIES);
    caller_close(&caller);
    channel_free(&channel);
    stop(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_answered),
        cmocka_unit_test(a_repeated_command_takes_effect_once),
        cmocka_unit_test(any_local_user_is_not_admin_on_loopback),
        cmocka_unit_test(nobody_there_is_said_in_time),
        cmocka_unit_test(a_thousand_at_one_time_take_effect_once_each),
        cmocka_unit_test(who_finds_no_link_is_told_so),
        cmocka_unit_test(who_waits_keeps_nobody_out),
        cmocka_unit_test(who_waits_is_told_when_the_server_leaves),
        cmocka_unit_test(no_reply_is_forgotten_while_its_question_may_come_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The trainer's end of the data plane fed by hand: what came damaged is asked for again, and is no
// fault of the producer.
//
// Invariants: P3 P4
#include "proto/dataclient.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { BYTES = 4096 };

static struct dataclient *client;
static int64_t now = 1000;
static uint64_t request, gen; // of the newest ATTACH; of the attachment that answers it
static unsigned attached, paused, faults;

// Whatever the client wants done, as a producer on a perfect wire would.
static void
serve(void)
{
    struct dataclient_action action;
    while (dataclient_next(client, now, &action)) {
        struct message answer = {0};
        if (action.what == DATACLIENT_EVENT) {
            paused += strcmp(action.notice.event, "data.paused") == 0;
            faults += strcmp(action.notice.event, "data.fault") == 0;
        } else if (action.what == DATACLIENT_SEND && action.message.type == MESSAGE_HELLO) {
            answer.type = MESSAGE_WELCOME;
            answer.welcome.r = action.message.hello.i;
            answer.welcome.lk = 7;
            answer.welcome.version = PROTOCOL_VERSION;
            answer.welcome.hb_ms = 1000;
            answer.welcome.lease_ms = 15000;
            answer.welcome.stream = (struct wire_stream){.id = {1, 2},
                                                         .shards = 1,
                                                         .rows = 16,
                                                         .width = 64,
                                                         .dtype = PAYLOAD_F32,
                                                         .bytes = BYTES,
                                                         .block = 4,
                                                         .per_epoch = 100,
                                                         .end = 100,
                                                         .replay = "test"};
            assert_int_equal(dataclient_receive(client, 0, &answer, 0, 0, now), -1);
        } else if (action.what == DATACLIENT_SEND && action.message.type == MESSAGE_ATTACH) {
            request = action.message.attach.i;
            attached++;
            answer.type = MESSAGE_ATTACHED;
            answer.attached.r = request;
            answer.attached.gen = ++gen;
            answer.attached.from = action.message.attach.from;
            assert_int_equal(dataclient_receive(client, 0, &answer, 0, 0, now), -1);
        }
    }
}

static int
batch(uint64_t q, uint64_t bytes, uint64_t hash)
{
    struct message message = {.type = MESSAGE_BATCH};
    message.batch.gen = gen;
    message.batch.q = q;
    message.batch.rows = 16;
    message.batch.width = 64;
    message.batch.dtype = PAYLOAD_F32;
    message.batch.bytes = BYTES;
    message.batch.hash = 1000 + q;
    int slot = dataclient_receive(client, 0, &message, bytes, hash, now);
    now += 500;
    serve();
    return slot;
}

static void
begin(void)
{
    struct dataclient_settings set = {.link = link_presets, .win = 4, .producers = 1, .seed = 5};
    now = 1000;
    attached = paused = faults = 0;
    assert_int_equal(dataclient_new(&client, &set), STATUS_OK);
    serve();
    assert_non_null(dataclient_stream(client));
    dataclient_start(client, (struct cursor){0}, 100);
    serve();
    assert_int_equal(attached, 1);
}

static void
apply(uint64_t q)
{
    struct taken taken;
    assert_true(dataclient_take(client, &taken));
    assert_int_equal(taken.seq, q);
    dataclient_applied(client, q);
}

static void
damage_on_the_way_is_repaired_however_often(void **unused)
{
    (void)unused;
    begin();
    for (uint64_t q = 0; q < 20; q++) {
        // A bit of the payload; the payload cut off by a flipped bit of the framing; a longer one.
        assert_int_equal(batch(q, q % 2 ? BYTES : 0, 1), -1);
        assert_int_equal(batch(q, q % 3 ? BYTES : BYTES + 1, 999 + q), -1);
        assert_true(batch(q, BYTES, 1000 + q) >= 0);
        apply(q);
    }
    struct dataclient_view view;
    dataclient_look(client, &view);
    assert_int_equal(view.badhash, 40);
    assert_int_equal(attached, 41);
    assert_int_equal(paused + faults, 0);
    dataclient_free(&client);
}

static void
a_batch_that_never_arrives_whole_pauses(void **unused)
{
    (void)unused;
    begin();
    for (int i = 0; i < 3; i++)
        assert_int_equal(batch(0, BYTES, 1), -1);
    assert_int_equal(paused, 1);
    dataclient_free(&client);
}

static void
a_producer_that_sends_another_shape_is_at_fault(void **unused)
{
    (void)unused;
    begin();
    struct message message = {.type = MESSAGE_BATCH};
    message.batch.gen = gen;
    message.batch.rows = 17;
    assert_int_equal(dataclient_receive(client, 0, &message, BYTES, 0, now), -1);
    serve();
    assert_int_equal(faults, 1);
    dataclient_free(&client);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_on_the_way_is_repaired_however_often),
        cmocka_unit_test(a_batch_that_never_arrives_whole_pauses),
        cmocka_unit_test(a_producer_that_sends_another_shape_is_at_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// proto/dataserver by itself, no socket: a batch that is made again is compared with the first
// time. Invariants: P2 P4
#include "proto/dataserver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { ROUTE = 7, SLOTS = 4 };

struct seen { // what the server said in one go
    uint64_t lk;
    uint64_t batches, replayed, events, detached;
    uint16_t code;
};

// Every wanted batch is made at once: number q has hash 1000 + q, and `odd` more.
static struct seen
run(struct dataserver *server, int64_t now, uint64_t odd)
{
    struct seen seen = {0};
    struct dataserver_action action;
    while (dataserver_next(server, now, &action)) {
        const struct message *message = &action.message;
        switch (action.what) {
        case DATASERVER_FILL:
            dataserver_filled(server,
                              &(struct filled){.slot = action.slot,
                                               .seq = action.seq,
                                               .hash = 1000 + action.seq + odd,
                                               .made = true},
                              now);
            break;
        case DATASERVER_BATCH:
            seen.batches++;
            seen.replayed += (message->batch.flags & BATCH_REPLAYED) != 0;
            dataserver_released(server, action.slot, 1);
            break;
        case DATASERVER_EVENT:
            seen.events += strcmp(action.notice.event, "replay.mismatch") == 0;
            break;
        case DATASERVER_SEND:
            if (message->type == MESSAGE_WELCOME)
                seen.lk = message->welcome.lk;
            if (message->type == MESSAGE_DETACHED) {
                seen.detached++;
                seen.code = message->detached.code;
            }
            break;
        case DATASERVER_BOUNCE:
            fail_msg("nobody stands still");
        }
    }
    return seen;
}

static void
attach(struct dataserver *server, uint64_t lk, uint64_t i, uint64_t from, int64_t now)
{
    struct message message = {.type = MESSAGE_ATTACH};
    message.attach = (struct msg_attach){.lk = lk,
                                         .i = i,
                                         .stream = {1, 2},
                                         .from = from,
                                         .end = 1000,
                                         .upto = from + 2,
                                         .app = from,
                                         .dur = from,
                                         .win = 2,
                                         .onlag = PACE_BLOCK};
    dataserver_receive(server, ROUTE, &message, now);
}

static void
made_again(uint64_t odd, struct seen *again)
{
    struct dataserver_settings set = dataserver_presets;
    set.slots = SLOTS;
    set.links.seed = 3;
    set.links.stream = (struct wire_stream){.id = {1, 2},
                                            .shards = 1,
                                            .rows = 8,
                                            .width = 8,
                                            .bytes = 256,
                                            .block = 1,
                                            .per_epoch = 1000,
                                            .end = 1000};
    struct dataserver *server;
    assert_int_equal(dataserver_new(&server, &set, 1000), STATUS_OK);
    struct message hello = {.type = MESSAGE_HELLO};
    hello.hello = (struct msg_hello){.version_min = 1,
                                     .version_max = 1,
                                     .role = ROLE_TRAINER,
                                     .name = "t",
                                     .inst = {5, 6},
                                     .inc = 1,
                                     .i = 1};
    dataserver_receive(server, ROUTE, &hello, 1000);
    uint64_t lk = run(server, 1000, 0).lk;
    assert_true(lk != 0);
    attach(server, lk, 2, 0, 1010);
    struct seen first = run(server, 1010, 0);
    assert_int_equal(first.batches, 2); // its window
    assert_int_equal(first.replayed, 0);
    attach(server, lk, 3, 100, 1020); // the ring goes elsewhere
    assert_int_equal(run(server, 1020, 0).replayed, 0);
    attach(server, lk, 4, 0, 1030);
    *again = run(server, 1030, odd);
    dataserver_free(&server);
}

static void
the_same_bits_are_told_to_be_a_repetition(void **unused)
{
    (void)unused;
    struct seen again;
    made_again(0, &again);
    assert_int_equal(again.batches, 2);
    assert_int_equal(again.replayed, 2);
    assert_int_equal(again.events + again.detached, 0);
}

static void
other_bits_are_never_sent(void **unused)
{
    (void)unused;
    struct seen again;
    made_again(1, &again);
    assert_int_equal(again.batches, 0);
    assert_true(again.events > 0);
    assert_int_equal(again.detached, 1);
    assert_int_equal(again.code, REFUSAL_REPLAY_MISMATCH);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_bits_are_told_to_be_a_repetition),
        cmocka_unit_test(other_bits_are_never_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

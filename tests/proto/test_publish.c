// pub over real sockets: what is missed is known exactly, whoever is slow or restarted.
//
// Invariants: M1 M2 L3 P6
#include "proto/publish.h"

#include "tests/proto/socket_kit.h"

static struct channel *channel, *far;
static struct publisher *publisher;
static struct subscriber *subscriber;
static struct msg_metric metric;
static struct msg_beat beat;

static void
publish_step(uint64_t step)
{
    memset(&metric, 0, sizeof metric);
    metric.step = step;
    named_real(&metric.values, "loss", (double)step / 2);
    publisher_send(publisher, MESSAGE_METRIC, &metric);
}

// Until the subscriber hears something; false after 10 s.
static bool
hear(struct heard *heard)
{
    int64_t limit = tick_ms() + 10000;
    while (!subscriber_next(subscriber, heard)) {
        if (tick_ms() > limit)
            return false;
        publisher_turn(publisher);
        kit_wait(far, tick_ms() + 20);
    }
    return true;
}

static void
open_all(const char *name, uint32_t inc, const char *prefix)
{
    char endpoint[WIRE_ENDPOINT];
    struct heard heard;
    kit_endpoint(endpoint, name);
    fine(channel_new(&channel, NULL));
    fine(channel_new(&far, NULL));
    fine(publisher_open(&publisher, channel, endpoint, "run", "trainer", inc));
    fine(subscriber_open(&subscriber, far, endpoint, prefix));
    // Subscribing takes a moment: beats and events until the first is heard.
    int64_t limit = tick_ms() + 10000;
    while (tick_ms() < limit && !subscriber_next(subscriber, &heard)) {
        memset(&beat, 0, sizeof beat);
        snprintf(beat.state, sizeof beat.state, "running");
        publisher_send(publisher, MESSAGE_BEAT, &beat);
        publish_step(0);
        publisher_turn(publisher);
        kit_wait(far, tick_ms() + 10);
    }
    usleep(50000);
    while (subscriber_next(subscriber, &heard))
        ;
}

static void
close_all(void)
{
    subscriber_close(&subscriber);
    publisher_close(&publisher);
    channel_free(&far);
    channel_free(&channel);
}

static void
every_kind_arrives_as_it_was(void **unused)
{
    (void)unused;
    struct heard heard;
    open_all("pub", 3, "");
    publish_step(41);
    assert_true(hear(&heard));
    assert_int_equal(heard.type, MESSAGE_METRIC);
    assert_string_equal(heard.topic, "m/run/trainer");
    assert_int_equal(heard.metric->step, 41);
    assert_int_equal(heard.stamp->inc, 3);
    assert_true(named_get_real(&heard.metric->values, "loss", 0) == 20.5);
    publisher_event(publisher, 2, "ckpt.failed", "disk %s", "full");
    assert_true(hear(&heard));
    assert_string_equal(heard.topic, "e/run");
    assert_string_equal(heard.event->words, "disk full");
    assert_int_equal(heard.event->level, 2);
    static struct msg_ckpt ckpt;
    snprintf(ckpt.ck, sizeof ckpt.ck, "run/100-3");
    ckpt.step = 100;
    publisher_send(publisher, MESSAGE_CKPT, &ckpt);
    assert_true(hear(&heard));
    assert_string_equal(heard.topic, "k/run");
    assert_int_equal(heard.ckpt->step, 100);
    close_all();
}

static void
a_slow_subscriber_knows_what_it_missed(void **unused)
{
    (void)unused;
    enum { STEPS = 40000 };
    struct heard heard;
    uint64_t got = 0, lost = 0, last = 0;
    open_all("slow", 1, "m/");
    publish_step(1);
    assert_true(hear(&heard));
    uint64_t from = heard.stamp->tq;
    // Nobody reads: the queues fill up, and the rest is dropped without making us wait.
    for (uint64_t step = 2; step <= STEPS; step++)
        publish_step(step);
    while (last < STEPS) {
        if (!subscriber_next(subscriber, &heard)) {
            // What is told after the gap tells of the gap.
            publish_step(STEPS);
            assert_true(hear(&heard));
        }
        got++;
        lost += heard.lost;
        last = heard.metric->step;
        assert_int_equal(heard.stamp->tq, from + got + lost);
    }
    assert_true(lost > 0);
    print_message("%llu arrived, %llu were known to be lost\n", (unsigned long long)got,
                  (unsigned long long)lost);
    close_all();
}

static void
a_new_incarnation_begins_anew_and_an_old_one_is_a_ghost(void **unused)
{
    (void)unused;
    char endpoint[WIRE_ENDPOINT];
    struct heard heard;
    open_all("again", 5, "m/");
    publish_step(10);
    assert_true(hear(&heard));
    kit_endpoint(endpoint, "again");
    publisher_close(&publisher);
    fine(publisher_open(&publisher, channel, endpoint, "run", "trainer", 6));
    int64_t limit = tick_ms() + 10000;
    bool heard_new = false;
    while (!heard_new && tick_ms() < limit) {
        publish_step(7);
        publisher_turn(publisher);
        kit_wait(far, tick_ms() + 20);
        heard_new = subscriber_next(subscriber, &heard);
    }
    assert_true(heard_new);
    assert_int_equal(heard.stamp->inc, 6);
    assert_int_equal(heard.lost, heard.stamp->tq - 1); // since its beginning
    publisher_close(&publisher);
    fine(publisher_open(&publisher, channel, endpoint, "run", "trainer", 4));
    for (int i = 0; i < 30; i++) {
        publish_step(8);
        publisher_turn(publisher);
        kit_wait(far, tick_ms() + 20);
        while (subscriber_next(subscriber, &heard))
            assert_int_equal(heard.stamp->inc, 6);
    }
    close_all();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_arrives_as_it_was),
        cmocka_unit_test(a_slow_subscriber_knows_what_it_missed),
        cmocka_unit_test(a_new_incarnation_begins_anew_and_an_old_one_is_a_ghost),
    };
    return cmocka_run_group_tests(tests, kit_begin, kit_end);
}

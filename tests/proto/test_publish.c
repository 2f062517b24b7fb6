// pub over real sockets: what is missed is known exactly, whoever is slow or restarted.
//
// Invariants: M1 M2 L3 P6
#include "proto/publish.h"

#include "tests/proto/socket_kit.h"
#include "tests/weigh.h"

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

// ---- what each of several subscribers makes of a topic

struct ledger {
    struct subscriber *subscriber;
    struct line {
        char topic[WIRE_TOPIC];
        uint32_t inc;
        uint64_t first, next, heard, lost; // of this incarnation; next: the number to come
    } lines[8];
    size_t count;
};

// Every message fits behind the one before it, the difference told as lost.
static void
enter(struct ledger *ledger, const struct heard *heard)
{
    struct line *line = NULL;
    for (size_t i = 0; i < ledger->count; i++)
        if (strcmp(ledger->lines[i].topic, heard->topic) == 0)
            line = &ledger->lines[i];
    uint64_t tq = heard->stamp->tq;
    if (!line) { // we came late, or not: the number says what was before
        assert_true(ledger->count < 8);
        line = &ledger->lines[ledger->count++];
        snprintf(line->topic, sizeof line->topic, "%s", heard->topic);
        line->inc = heard->stamp->inc;
        line->first = line->next = tq;
        assert_int_equal(heard->lost, 0);
    } else if (line->inc != heard->stamp->inc) { // a restart: from 1, and nothing of before
        assert_true(heard->stamp->inc > line->inc);
        line->inc = heard->stamp->inc;
        line->first = line->next = 1;
        line->heard = line->lost = 0;
    }
    assert_int_equal(tq, line->next + heard->lost);
    line->next = tq + 1;
    line->lost += heard->lost;
    line->heard++;
}

static const struct line *
line_of(const struct ledger *ledger, const char *topic)
{
    for (size_t i = 0; i < ledger->count; i++)
        if (strcmp(ledger->lines[i].topic, topic) == 0)
            return &ledger->lines[i];
    fail_msg("nothing of %s was heard", topic);
    return NULL;
}

// Reads all ledgers until each heard this step of the metrics, of this incarnation.
static void
read_to(struct ledger *ledgers, size_t count, uint32_t inc, uint64_t step)
{
    int64_t limit = tick_ms() + 20000;
    for (size_t i = 0; i < count; i++)
        for (bool there = false; !there;) {
            struct heard heard;
            if (tick_ms() > limit)
                fail_msg("subscriber %zu did not hear step %u of %u", i, (unsigned)step, inc);
            if (!subscriber_next(ledgers[i].subscriber, &heard)) {
                publisher_turn(publisher);
                publish_step(step); // what is told after a gap tells of the gap
                kit_wait(far, tick_ms() + 20);
                continue;
            }
            enter(&ledgers[i], &heard);
            there = heard.type == MESSAGE_METRIC && heard.stamp->inc == inc &&
                    heard.metric->step == step;
        }
}

static void
publish_mixture(uint64_t from, uint64_t to)
{
    for (uint64_t step = from; step <= to; step++) {
        publish_step(step);
        if (step % 2 == 0)
            publisher_event(publisher, 1, "even", "%u", (unsigned)step);
        if (step % 5 == 0)
            publisher_send(publisher, MESSAGE_BEAT, &beat);
        publisher_turn(publisher);
    }
}

// One that was there from the start, one that comes in the middle, one that sleeps through a flood;
// then the publisher is started anew: each has the exact sequence of every topic, or knows what it
// lacks.
static void
early_late_and_slow_each_know_their_sequence(void **unused)
{
    (void)unused;
    enum { EARLY, LATE, SLOW, ALL, FLOOD = 30000 };
    struct ledger *ledgers = calloc(ALL, sizeof *ledgers);
    char endpoint[WIRE_ENDPOINT];
    assert_non_null(ledgers);
    open_all("matrix", 1, "");
    kit_endpoint(endpoint, "matrix");
    ledgers[EARLY].subscriber = subscriber;
    fine(subscriber_open(&ledgers[SLOW].subscriber, far, endpoint, ""));
    read_to(&ledgers[SLOW], 1, 1, 0);
    publish_mixture(1, 20);
    read_to(ledgers, 1, 1, 20);
    // Nothing was missed by the first, of any topic.
    assert_int_equal(line_of(&ledgers[EARLY], "m/run/trainer")->lost, 0);
    assert_true(line_of(&ledgers[EARLY], "e/run")->heard >= 9); // the last may still be on its way
    assert_int_equal(line_of(&ledgers[EARLY], "e/run")->lost, 0);
    fine(subscriber_open(&ledgers[LATE].subscriber, far, endpoint, ""));
    read_to(&ledgers[LATE], 1, 1, 0);
    publish_mixture(21, 40);
    read_to(&ledgers[LATE], 1, 1, 40);
    const struct line *late = line_of(&ledgers[LATE], "m/run/trainer");
    assert_true(late->first > 21); // it knows that there was something before it
    assert_int_equal(late->lost, 0);
    assert_int_equal(late->heard, late->next - late->first);
    // The slow one is not read while the flood goes over it; the early one is.
    for (uint64_t step = 41; step <= FLOOD; step++) {
        struct heard heard;
        publish_step(step);
        while (subscriber_next(ledgers[EARLY].subscriber, &heard))
            enter(&ledgers[EARLY], &heard);
    }
    read_to(ledgers, ALL, 1, FLOOD);
    const struct line *slow = line_of(&ledgers[SLOW], "m/run/trainer");
    assert_true(slow->lost > 0);
    assert_int_equal(slow->heard + slow->lost, slow->next - slow->first);
    // Started anew: everybody begins at 1, and what was published before they heard is lost, known.
    publisher_close(&publisher);
    fine(publisher_open(&publisher, channel, endpoint, "run", "trainer", 2));
    publish_mixture(1, 10);
    read_to(ledgers, ALL, 2, 11);
    for (size_t i = 0; i < ALL; i++) {
        const struct line *line = line_of(&ledgers[i], "m/run/trainer");
        assert_int_equal(line->inc, 2);
        assert_int_equal(line->heard + line->lost, line->next - 1);
    }
    subscriber_close(&ledgers[LATE].subscriber);
    subscriber_close(&ledgers[SLOW].subscriber);
    free(ledgers);
    close_all();
}

// A machine that was started anew counts from less; it is a ghost only while the other is heard.
static void
a_lower_incarnation_is_heard_when_the_higher_has_gone_silent(void **unused)
{
    (void)unused;
    char endpoint[WIRE_ENDPOINT];
    struct heard heard;
    open_all("reboot", 500, "m/");
    publish_step(10);
    assert_true(hear(&heard));
    assert_int_equal(heard.stamp->inc, 500);
    int64_t silent = tick_ms();
    kit_endpoint(endpoint, "reboot");
    publisher_close(&publisher);
    fine(publisher_open(&publisher, channel, endpoint, "run", "trainer", 3));
    subscriber_ghosts(subscriber, 700);
    bool heard_it = false;
    while (!heard_it && tick_ms() < silent + 10000) {
        publish_step(8);
        publisher_turn(publisher);
        kit_wait(far, tick_ms() + 20);
        heard_it = subscriber_next(subscriber, &heard);
    }
    assert_true(heard_it);
    assert_true(tick_ms() >= silent + 600);
    assert_int_equal(heard.stamp->inc, 3);
    assert_int_equal(heard.lost, heard.stamp->tq - 1);
    close_all();
}

// The wall clock has no say in which of two is the later one.
static void
without_an_incarnation_the_later_one_is_higher(void **unused)
{
    (void)unused;
    struct heard heard;
    open_all("anonymous", 0, "m/");
    publish_step(1);
    assert_true(hear(&heard));
    assert_true((int64_t)heard.stamp->inc <= tick_ms() / 100);
    assert_true((int64_t)heard.stamp->inc > tick_ms() / 100 - 600);
    close_all();
}

// An evaluator that works for an hour does not read what is announced meanwhile: it may cost what
// was said, and not the buffers it was read into.
static void
what_waits_unread_costs_its_own_size(void **unused)
{
    (void)unused;
    enum { MESSAGES = 1000, LARGEST = 2048 };
    char endpoint[WIRE_ENDPOINT];
    struct subscriber *sleeper;
    struct heard heard;
    open_all("unread", 1, "m/");
    kit_endpoint(endpoint, "unread");
    fine(subscriber_open(&sleeper, far, endpoint, "m/"));
    int64_t limit = tick_ms() + 10000;
    for (uint64_t step = 0; !subscriber_next(sleeper, &heard); step++) {
        assert_true(tick_ms() < limit);
        publish_step(step);
        publisher_turn(publisher);
        usleep(1000);
    }
    while (subscriber_next(subscriber, &heard) || subscriber_next(sleeper, &heard))
        ;
    size_t before = weigh();
    for (uint64_t step = 1; step <= MESSAGES; step++) { // one by one: each is a read of its own
        publish_step(step);
        do
            assert_true(hear(&heard));
        while (heard.metric->step != step);
    }
    size_t after = weigh(), grown = after > before ? after - before : 0;
    print_message("%d messages unread: %zu bytes each\n", MESSAGES, grown / MESSAGES);
    assert_true(grown > MESSAGES * 64); // they do wait there
    assert_true(grown < (size_t)MESSAGES * LARGEST);
    uint64_t got = 0;
    for (limit = tick_ms() + 10000; got < MESSAGES && tick_ms() < limit;)
        got += subscriber_next(sleeper, &heard) && heard.metric->step > 0;
    assert_int_equal(heard.metric->step, MESSAGES);
    subscriber_close(&sleeper);
    close_all();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_arrives_as_it_was),
        cmocka_unit_test(a_slow_subscriber_knows_what_it_missed),
        cmocka_unit_test(a_new_incarnation_begins_anew_and_an_old_one_is_a_ghost),
        cmocka_unit_test(early_late_and_slow_each_know_their_sequence),
        cmocka_unit_test(a_lower_incarnation_is_heard_when_the_higher_has_gone_silent),
        cmocka_unit_test(without_an_incarnation_the_later_one_is_higher),
        cmocka_unit_test(what_waits_unread_costs_its_own_size),
    };
    return cmocka_run_group_tests(tests, kit_begin, kit_end);
}

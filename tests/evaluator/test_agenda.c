// What an evaluator does next, told action by action. (All of it under every weather is the
// simulator's: tests/fault/test_simulation.)
//
// Invariants: E1
#include "evaluator/agenda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct agenda *agenda;
static struct agenda_action action;

static int
setup(void **unused)
{
    (void)unused;
    struct agenda_settings set = {
        .trainers = 2, .kinds = 2, .max_attempts = 3, .claim_ttl_s = 30, .poll_ms = 60000};
    return agenda_new(&agenda, &set) != STATUS_OK;
}

static int
teardown(void **unused)
{
    (void)unused;
    agenda_free(&agenda);
    return 0;
}

static void
wants(enum agenda_do what)
{
    agenda_next(agenda, &action);
    if (action.what != what)
        fail_msg("it wants %d, not %d", (int)action.what, (int)what);
}

static void
list(size_t count, bool up)
{
    wants(AGENDA_LIST);
    for (size_t i = 0; i < count; i++) {
        struct msg_ck_entry *entry = &action.waiting->at[i];
        memset(entry, 0, sizeof *entry);
        entry->step = count - i;
        snprintf(entry->ck, sizeof entry->ck, "run/%zu-1", count - i);
    }
    action.waiting->count = count;
    agenda_listed(agenda, up);
}

static void
does(enum agenda_do what, enum agenda_answer answer, int64_t now)
{
    wants(what);
    agenda_answer(agenda, answer, "as told", now);
}

static void
nothing_known(unsigned begun, int64_t now)
{
    wants(AGENDA_LOOK);
    agenda_looked(agenda, AGENDA_NO, begun, NULL, now);
}

static void
a_checkpoint_goes_through_all_that_is_due_under_one_claim(void **unused)
{
    (void)unused;
    list(2, true);
    wants(AGENDA_PLAN);
    assert_int_equal(action.entry->step, 2); // the newest
    agenda_planned(agenda, 3);
    nothing_known(0, 0);
    does(AGENDA_CLAIM, AGENDA_YES, 0);
    does(AGENDA_REACH, AGENDA_YES, 0);
    wants(AGENDA_BEGIN);
    assert_int_equal(action.attempts, 1);
    agenda_answer(agenda, AGENDA_YES, NULL, 0);
    // It takes long: the claim is renewed, a third of its time before the other two.
    wants(AGENDA_RUN);
    struct agenda_action renewal;
    assert_false(agenda_renews(agenda, 9999, &renewal));
    assert_true(agenda_renews(agenda, 10000, &renewal));
    assert_int_equal(renewal.what, AGENDA_CLAIM);
    assert_int_equal(renewal.ttl_s, 30);
    assert_false(agenda_renews(agenda, 10001, &renewal));
    does(AGENDA_RUN, AGENDA_YES, 11000);
    wants(AGENDA_TELL);
    assert_true(action.more);
    assert_false(action.failed);
    does(AGENDA_TELL, AGENDA_YES, 11000);
    wants(AGENDA_LOOK);
    assert_int_equal(action.kind, 1);
    agenda_looked(agenda, AGENDA_NO, 0, NULL, 11000);
    does(AGENDA_BEGIN, AGENDA_YES, 11000); // claimed and reached already
    does(AGENDA_RUN, AGENDA_YES, 12000);
    wants(AGENDA_TELL);
    assert_false(action.more);
    does(AGENDA_TELL, AGENDA_YES, 12000);
    does(AGENDA_DROP, AGENDA_YES, 12000);
    does(AGENDA_UNCLAIM, AGENDA_YES, 12000);
    // The world has changed: the list is asked for again, of the other trainer first.
    wants(AGENDA_LIST);
    assert_int_equal(action.trainer, 1);
    list(0, true);
    wants(AGENDA_LIST);
    assert_int_equal(action.trainer, 0);
}

static void
what_killed_its_evaluators_is_recorded_and_not_begun_again(void **unused)
{
    (void)unused;
    for (unsigned begun = 0; begun < 3; begun++) { // three lives
        assert_int_equal(teardown(NULL) + setup(NULL), 0);
        list(1, false);
        wants(AGENDA_PLAN);
        agenda_planned(agenda, 1);
        nothing_known(begun, 0);
        does(AGENDA_CLAIM, AGENDA_YES, 0);
        does(AGENDA_REACH, AGENDA_YES, 0);
        wants(AGENDA_BEGIN);
        assert_int_equal(action.attempts, begun + 1);
        does(AGENDA_BEGIN, AGENDA_YES, 0);
        wants(AGENDA_RUN); // and it dies
    }
    assert_int_equal(teardown(NULL) + setup(NULL), 0);
    list(2, false);
    wants(AGENDA_PLAN);
    agenda_planned(agenda, 1);
    nothing_known(3, 0);
    does(AGENDA_CLAIM, AGENDA_YES, 0);
    wants(AGENDA_RECORD);
    assert_int_equal(action.attempts, 3);
    assert_string_equal(action.why, "the evaluator died 3 times on it");
    does(AGENDA_RECORD, AGENDA_TROUBLE, 0); // a full disk keeps nobody from telling
    wants(AGENDA_TELL);
    assert_true(action.failed);
    does(AGENDA_TELL, AGENDA_NO, 0);
    does(AGENDA_UNCLAIM, AGENDA_YES, 0); // nothing was fetched
    // Next time it is known.
    list(0, false);
    list(2, false);
    wants(AGENDA_PLAN);
    agenda_planned(agenda, 1);
    wants(AGENDA_LOOK);
    agenda_known_failure(agenda, "the evaluator died 3 times on it");
    does(AGENDA_TELL, AGENDA_NO, 0);
    wants(AGENDA_PLAN);
    assert_int_equal(action.entry->step, 1); // the next one has its turn
}

static void
what_fails_is_tried_later_and_later_then_recorded(void **unused)
{
    (void)unused;
    int64_t now = 0, pause = 1000;
    for (unsigned made = 1; made <= 3; made++, now += pause, pause *= 4) {
        list(1, true);
        wants(AGENDA_PLAN);
        agenda_planned(agenda, 2);
        nothing_known(0, now);
        does(AGENDA_CLAIM, AGENDA_YES, now);
        does(AGENDA_REACH, AGENDA_YES, now);
        does(AGENDA_BEGIN, AGENDA_YES, now);
        does(AGENDA_RUN, AGENDA_TROUBLE, now);
        if (made == 3)
            break;
        does(AGENDA_UNCLAIM, AGENDA_YES, now);
        list(0, true);
        wants(AGENDA_REST);
        assert_int_equal(action.rest_ms, AGENDA_RETRY_MS); // something is left for later
        does(AGENDA_REST, AGENDA_YES, now);
        // Too early: it is left alone.
        list(1, true);
        wants(AGENDA_PLAN);
        agenda_planned(agenda, 2);
        nothing_known(0, now + pause - 1);
        list(0, true);
        does(AGENDA_REST, AGENDA_YES, now + pause - 1);
    }
    wants(AGENDA_RECORD);
    assert_int_equal(action.attempts, 3);
    assert_string_equal(action.why, "as told");
}

static void
who_is_refused_or_waits_rests_and_comes_again(void **unused)
{
    (void)unused;
    list(1, true);
    wants(AGENDA_PLAN);
    agenda_planned(agenda, 1);
    nothing_known(0, 0);
    does(AGENDA_CLAIM, AGENDA_NO, 0); // another works on it
    list(1, true);
    wants(AGENDA_PLAN);
    agenda_planned(agenda, 1);
    nothing_known(0, 0);
    does(AGENDA_CLAIM, AGENDA_YES, 0);
    does(AGENDA_REACH, AGENDA_LATER, 0); // its trainer is away: no attempt
    does(AGENDA_UNCLAIM, AGENDA_YES, 0);
    wants(AGENDA_REST);
    assert_int_equal(action.rest_ms, AGENDA_RETRY_MS);
    does(AGENDA_REST, AGENDA_YES, 0);
    list(0, true);
    list(0, false);
    wants(AGENDA_REST);
    assert_int_equal(action.rest_ms, AGENDA_DOWN_MS); // one is down: look again soon
    does(AGENDA_REST, AGENDA_YES, 0);
    list(0, true);
    list(0, true);
    wants(AGENDA_REST);
    assert_int_equal(action.rest_ms, 60000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_checkpoint_goes_through_all_that_is_due_under_one_claim,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_killed_its_evaluators_is_recorded_and_not_begun_again,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_fails_is_tried_later_and_later_then_recorded, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(who_is_refused_or_waits_rests_and_comes_again, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// When something is due, from the words of a setting.
#include "config/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct schedule
parsed(const char *text)
{
    struct schedule schedule;
    if (!schedule_parse(&schedule, text))
        fail_msg("'%s' was refused", text);
    return schedule;
}

static void
words(void **unused)
{
    (void)unused;
    struct schedule off = parsed("off"), final = parsed("final"), all = parsed("all");
    struct schedule every = parsed("every:100"), at = parsed("at:5,200"),
                    list = parsed("at:[1, 7 ]");
    assert_true(schedule_off(&off) && !schedule_due(&off, 100, true));
    assert_false(schedule_off(&final) || schedule_off(&all) || schedule_off(&every));
    assert_false(schedule_off(&at));
    assert_true(schedule_due(&final, 3, true) && !schedule_due(&final, 3, false));
    assert_true(schedule_due(&all, 1, false) && schedule_due(&all, 7, true));
    assert_true(schedule_due(&every, 100, false) && schedule_due(&every, 300, false));
    assert_true(!schedule_due(&every, 150, false) && schedule_due(&every, 150, true));
    assert_true(schedule_due(&at, 5, false) && schedule_due(&at, 200, false));
    assert_true(!schedule_due(&at, 6, false) && !schedule_due(&at, 6, true));
    assert_true(schedule_due(&list, 1, false) && schedule_due(&list, 7, false));
    assert_true(list.count == 2);
}

static void
refused(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"",        "Final",     "every",    "every:",
                                      "every:0", "every:-1",  "every:1 ", "every:12345678901234567",
                                      "at:",     "at:[]",     "at:1,",    "at:,1",
                                      "at:[1",   "at:1]",     "at:1;2",   "at:1 2",
                                      "off ",    "at:x",      "finals",   "every:1x",
                                      "at:[1]x", "at: [1,2,]"};
    struct schedule schedule;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (schedule_parse(&schedule, bad[i]))
            fail_msg("'%s' was accepted", bad[i]);
    char many[SCHEDULE_BYTES] = "at:1";
    size_t used = 4;
    for (size_t i = 1; i < SCHEDULE_STEPS; i++)
        used += (size_t)snprintf(many + used, sizeof many - used, ",%zu", i % 10);
    assert_int_equal(parsed(many).count, SCHEDULE_STEPS);
    snprintf(many + used, sizeof many - used, ",1");
    assert_false(schedule_parse(&schedule, many));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

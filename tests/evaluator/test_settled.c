// What lacks nothing is remembered by name and manifest, and the oldest is forgotten first.
#include "evaluator/settled.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct msg_ck_entry *
entry(unsigned step, uint64_t manifest)
{
    static struct msg_ck_entry of;
    of = (struct msg_ck_entry){.step = step, .manifest_hash = manifest};
    snprintf(of.ck, sizeof of.ck, "run/%u-1", step);
    return &of;
}

static void
the_oldest_is_forgotten_first(void **unused)
{
    (void)unused;
    static struct settled settled;
    assert_false(settled_has(&settled, entry(0, 0)));
    for (unsigned step = 0; step < SETTLED_MOST; step++)
        settled_add(&settled, entry(step, 7));
    for (unsigned step = 0; step < SETTLED_MOST; step += 101) {
        assert_true(settled_has(&settled, entry(step, 7)));
        assert_false(settled_has(&settled, entry(step, 8))); // the same name, other bytes
    }
    settled_add(&settled, entry(SETTLED_MOST, 7));
    assert_true(settled_has(&settled, entry(SETTLED_MOST, 7)));
    assert_false(settled_has(&settled, entry(0, 7)));
    assert_true(settled_has(&settled, entry(1, 7)));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_is_forgotten_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

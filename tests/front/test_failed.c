// Evaluations that were given up, as a report tells them.
#include "front/report_failed.h"
#include "lib/store/failure.h"
#include "tests/store/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct report_run run;

static char *
told(enum table_style style)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    assert_int_equal(report_failed(out, &run, style), STATUS_OK);
    fclose(out);
    return text;
}

static void
what_was_given_up_is_told_with_its_reason(void **unused)
{
    (void)unused;
    struct failure failure = {.step = 60, .mh = 7, .attempts = 3, .spec = {1, 2}};
    char eval[PATH_BYTES], path[PATH_BYTES];
    snprintf(run.path, sizeof run.path, "%s", scratch);
    snprintf(run.name, sizeof run.name, "given-up");
    assert_int_equal(path_join(eval, scratch, "eval"), STATUS_OK);
    char *text = told(TABLE_TEXT);
    assert_string_equal(text, "");
    free(text);
    snprintf(failure.run, sizeof failure.run, "given-up");
    snprintf(failure.ck, sizeof failure.ck, "given-up/60-1");
    snprintf(failure.kind, sizeof failure.kind, "absorption");
    snprintf(failure.reason, sizeof failure.reason, "no <usable> words");
    assert_int_equal(failure_write(eval, &failure), STATUS_OK);
    // Of another run in the same folder, and a damaged one: left out.
    failure.step = 61;
    snprintf(failure.run, sizeof failure.run, "other");
    assert_int_equal(failure_write(eval, &failure), STATUS_OK);
    assert_int_equal(path_join(path, eval, "absorption/x_step-000000000062_failed.json"),
                     STATUS_OK);
    assert_int_equal(file_replace(path, "{", 1), STATUS_OK);
    text = told(TABLE_TEXT);
    assert_non_null(strstr(text, "Failed evaluations"));
    assert_non_null(strstr(text, "step 60, absorption: no <usable> words (3 attempts, 2"));
    assert_null(strstr(text, "step 61"));
    assert_null(strstr(text, "step 62"));
    free(text);
    text = told(TABLE_HTML);
    assert_non_null(strstr(text, "<li>step 60, absorption: no &lt;usable&gt; words (3 attempts"));
    free(text);
    // A result came after all.
    const struct failure_key key = {eval,       "absorption", "given-up", 60,
                                    failure.mh, failure.spec, NULL};
    assert_int_equal(failure_clear(&key), STATUS_OK);
    text = told(TABLE_MARKDOWN);
    assert_string_equal(text, "");
    free(text);
    // One of a checkpoint that a later life replaced goes with its successor's result, not before.
    snprintf(failure.run, sizeof failure.run, "given-up");
    failure.step = 60;
    for (unsigned life = 9; life < 12; life++) {
        snprintf(failure.ck, sizeof failure.ck, "given-up/60-%u", life);
        failure.mh = life;
        assert_int_equal(failure_write(eval, &failure), STATUS_OK);
    }
    const struct failure_key tenth = {eval, "absorption", "given-up",      60,
                                      10,   failure.spec, "given-up/60-10"};
    bool found[3];
    assert_int_equal(failure_clear(&tenth), STATUS_OK);
    for (unsigned life = 9; life < 12; life++) {
        struct failure_key one = tenth;
        one.mh = life;
        assert_int_equal(failure_find(&found[life - 9], &failure, &one), STATUS_OK);
        assert_true(found[life - 9] == (life > 10));
    }
    const struct failure_key last = {eval, "absorption", "given-up",      60,
                                     12,   failure.spec, "given-up/60-12"};
    assert_int_equal(failure_clear(&last), STATUS_OK);
    text = told(TABLE_MARKDOWN);
    assert_string_equal(text, "");
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_given_up_is_told_with_its_reason, scratch_make,
                                        scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

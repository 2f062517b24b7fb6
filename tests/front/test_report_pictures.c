// How `osae report` writes numbers and draws curves.
#include "front/report_plot.h"
#include "front/report_table.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
numbers_read_well(void **unused)
{
    (void)unused;
    static const struct {
        double value;
        int decimals;
        const char *want;
    } cases[] = {
        {0, 0, "0"},
        {0, 4, "0.0000"},
        {-0.0, 2, "0.00"},
        {1234567, 0, "1,234,567"},
        {-1234.5, 1, "-1,234.5"},
        {999, 0, "999"},
        {176, -1, "176.0"},
        {0.0055, -1, "0.0055"},
        {61.25, -1, "61.25"},
        {123456, -1, "123,456"},
        {0.00012346, -1, "0.0001235"},
        {1e80, 0, "1.000e+80"},
        {(double)INFINITY, 0, "-"},
        {(double)NAN, -1, "-"},
        {-0.004, 2, "0.00"},
    };
    char text[CELL_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        number_print(text, cases[i].value, cases[i].decimals);
        assert_string_equal(text, cases[i].want);
    }
    duration_print(text, 4.26);
    assert_string_equal(text, "4.3 s");
    duration_print(text, 59.7);
    assert_string_equal(text, "1 min 0 s");
    duration_print(text, 7384);
    assert_string_equal(text, "2 h 3 min");
    duration_print(text, (double)NAN);
    assert_string_equal(text, "-");
    char dirty[] = "a\033[2J\xc2\x9b"
                   "b\xff\xc3\xa9\xe2\x82";
    words_clean(dirty);
    assert_string_equal(dirty, "a?[2J??b?\xc3\xa9??");
    assert_int_equal(words_width(dirty), 12);
}

static void
sparks_span_low_to_high(void **unused)
{
    (void)unused;
    struct plot_point at[64];
    char spark[3 * 8 + 1];
    for (size_t i = 0; i < 64; i++)
        at[i] = (struct plot_point){(double)i, pow(2, (double)(i / 8))};
    report_plot_spark(spark, 8, at, 64, true);
    assert_string_equal(spark, "\xe2\x96\x81\xe2\x96\x82\xe2\x96\x83\xe2\x96\x84\xe2\x96\x85"
                               "\xe2\x96\x86\xe2\x96\x87\xe2\x96\x88");
    assert_true(report_plot_wants_log(at, 64));
    at[0].y = -1;
    assert_false(report_plot_wants_log(at, 64));
    for (size_t i = 0; i < 64; i++)
        at[i].y = (double)NAN;
    report_plot_spark(spark, 8, at, 64, false);
    assert_string_equal(spark, "        ");
    report_plot_spark(spark, 8, at, 0, false);
    assert_string_equal(spark, "");
}

// Whatever the numbers, a picture has finite places inside its frame.
static void
plots_take_any_numbers(void **unused)
{
    (void)unused;
    static const double odd[] = {0,    1,    -1,    1e-300,           1e300, (double)NAN,
                                 5e-5, 1e29, -1e29, (double)INFINITY, 42,    1e-9};
    for (size_t a = 0; a < 12; a++)
        for (size_t b = 0; b < 12; b++) {
            struct plot_point at[3] = {{1, odd[a]}, {2, odd[b]}, {1e15, odd[a]}};
            struct plot plot = {.title = "t",
                                .doc = "d",
                                .log = (a + b) % 2,
                                .count = 1,
                                .series = {{"s", at, 1 + (a + b) % 3, true, 9}}};
            char *text;
            size_t bytes;
            FILE *out = open_memstream(&text, &bytes);
            assert_non_null(out);
            bool drawn = report_plot_svg(out, &plot);
            assert_int_equal(fclose(out), 0);
            assert_true(drawn == (bytes > 0) && bytes < 20000);
            assert_null(strstr(text, "nan"));
            assert_null(strstr(text, "inf"));
            for (const char *cx = text; (cx = strstr(cx, " cx=\"")) != NULL; cx++) {
                double x = strtod(cx + 5, NULL), y = strtod(strstr(cx, "cy=\"") + 4, NULL);
                assert_true(x >= 0 && x <= 460 && y >= 0 && y <= 230);
            }
            free(text);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_read_well),
        cmocka_unit_test(sparks_span_low_to_high),
        cmocka_unit_test(plots_take_any_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Rows: parse, refuse, print back.
#include "lib/base/field.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *const arches[] = {"relu", "topk", NULL};
struct sample {
    bool on;
    uint32_t latents;
    uint64_t room;
    float lambda;
    double rate;
    int arch;
    char name[16];
    struct texts files;
};
static const struct field rows[] = {
    FIELD(sample, on, "true", 0, 1, 0, "a switch"),
    FIELD(sample, latents, "16384", 1, 1e7, 0, "latents"),
    FIELD(sample, room, "64MiB", 0, 1e15, FIELD_SIZE, "room"),
    FIELD(sample, lambda, "0.04", 0, 1e3, 0, "weight"),
    FIELD(sample, rate, "7e-6", 0, 1, FIELD_AUTO, "rate"),
    FIELD_PICK(sample, arch, "relu", arches, 0, "architecture"),
    FIELD(sample, name, "run", 0, 0, 0, "name"),
    FIELD(sample, files, "a.txt, b.txt", 0, 0, 0, "files"),
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static void
presets_print_back(void **unused)
{
    (void)unused;
    struct sample s = {0};
    assert_int_equal(field_presets(&s, rows, ROWS), STATUS_OK);
    for (size_t i = 0; i < ROWS; i++) {
        char text[256];
        field_print(text, sizeof text, &s, &rows[i]);
        if (rows[i].type == FIELD_F64)
            assert_true(strtod(text, NULL) == 7e-6);
        else
            assert_string_equal(text, rows[i].preset);
        assert_int_equal(field_check(&s, &rows[i], "here"), STATUS_OK);
    }
    assert_true(s.room == 64u << 20);
}

static void
numbers_are_printed_as_people_write_them(void **unused)
{
    (void)unused;
    static const struct {
        double value;
        const char *text;
    } said[] = {{20000, "20000"},
                {123456789, "123456789"},
                {0.04, "0.04"},
                {7e-6, "7e-6"},
                {1e9, "1e+9"},
                {1.25e-10, "1.25e-10"},
                {0.5, "0.5"},
                {1e100, "1e+100"},
                {0.1 + 0.2, "0.30000000000000004"},
                {-30000, "-30000"}};
    static const struct field row = {.name = "x", .type = FIELD_F64, .bytes = 8};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        char text[64];
        field_print(text, sizeof text, &said[i].value, &row);
        assert_string_equal(text, said[i].text);
        assert_true(strtod(text, NULL) == said[i].value);
    }
}

static void
names_are_compared_by_the_slips_between_them(void **unused)
{
    (void)unused;
    static const char *const names[] = {"run", "status", "report"};
    char longer[100];
    memset(longer, 'a', sizeof longer);
    longer[99] = '\0';
    assert_int_equal(name_distance("kitten", "sitting"), 3);
    assert_int_equal(name_distance("", "abc"), 3);
    assert_int_equal(name_distance(longer, "a"), 64);
    assert_int_equal(name_distance("a", longer), 64);
    assert_string_equal(name_nearest(names, 3, "stauts"), "status");
    assert_null(name_nearest(names, 3, "zebra"));
    assert_null(name_nearest(names, 3, longer));
}

static void
bad_text_is_refused_with_one_clear_line(void **unused)
{
    (void)unused;
    struct sample s = {0};
    assert_int_equal(field_parse(&s, &rows[3], "-1", "run.yaml:14"), STATUS_CONFIG);
    assert_string_equal(status_words(),
                        "run.yaml:14: lambda is '-1', wanted a number from 0 to 1000");
    static const char *const wrong[][2] = {
        {"on", "yes"},
        {"latents", "0"},
        {"latents", "1e4"},
        {"latents", "12 "},
        {"latents", ""},
        {"lambda", "nan"},
        {"lambda", "inf"},
        {"lambda", "0x10"},
        {"arch", "relu6"},
        {"room", "64MB"},
        {"room", "99999999999GiB"},
        {"name", "sixteen-bytes-xx"},
        {"name", "\xff"},
        {"name", "a\nb"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(field_parse(&s, field_find(rows, ROWS, wrong[i][0]), wrong[i][1], "x"),
                         STATUS_CONFIG);
    assert_string_equal(field_nearest(rows, ROWS, "latent"), "latents");
    assert_null(field_nearest(rows, ROWS, "zebra-crossing"));
}

static void
utf8_is_judged_by_the_standard(void **unused)
{
    (void)unused;
    assert_true(utf8_valid("caf\xc3\xa9 \xf0\x9f\x98\x80", 10));
    assert_false(utf8_valid("\xc0\x80", 2));         // overlong
    assert_false(utf8_valid("\xed\xa0\x80", 3));     // surrogate
    assert_false(utf8_valid("\xf4\x90\x80\x80", 4)); // beyond U+10FFFF
    assert_false(utf8_valid("\xe2\x82", 2));         // cut
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_print_back),
        cmocka_unit_test(numbers_are_printed_as_people_write_them),
        cmocka_unit_test(names_are_compared_by_the_slips_between_them),
        cmocka_unit_test(bad_text_is_refused_with_one_clear_line),
        cmocka_unit_test(utf8_is_judged_by_the_standard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

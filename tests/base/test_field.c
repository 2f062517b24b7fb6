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
        cmocka_unit_test(bad_text_is_refused_with_one_clear_line),
        cmocka_unit_test(utf8_is_judged_by_the_standard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

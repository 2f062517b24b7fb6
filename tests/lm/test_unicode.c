#include "lib/lm/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
every_code_point_has_the_class_of_the_ranges(void **state)
{
    (void)state;
    unsigned char *want = calloc(0x110000, 1);
    FILE *file = fopen(OSAE_TESTS "/golden/unicode/hf-classes.txt", "r");
    assert_non_null(want);
    assert_non_null(file);
    char line[64];
    size_t ranges = 0;
    while (fgets(line, sizeof line, file)) {
        char name, *end;
        if (line[0] == '#')
            continue;
        name = line[0];
        unsigned long first = strtoul(line + 1, &end, 16), last = strtoul(end, NULL, 16);
        assert_true(first <= last && last < 0x110000);
        unsigned bits = name == 'L'   ? UNICODE_LETTER
                        : name == 'N' ? UNICODE_NUMBER
                        : name == 'S' ? UNICODE_SPACE
                                      : UNICODE_DIGIT;
        for (unsigned long c = first; c <= last; c++)
            want[c] |= (unsigned char)bits;
        ranges++;
    }
    fclose(file);
    assert_int_equal(ranges, 677 + 144 + 10 + 146);
    for (uint32_t c = 0; c < 0x110000; c++)
        if (unicode_class(c) != want[c])
            fail_msg("U+%04X is %u, wanted %u", c, unicode_class(c), want[c]);
    assert_int_equal(unicode_class(UTF8_BAD), UNICODE_OTHER);
    free(want);
}

static void
utf8_is_read_and_written_for_every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        char text[4];
        uint32_t back;
        if (c >= 0xD800 && c <= 0xDFFF)
            continue;
        size_t bytes = utf8_write(text, c);
        assert_int_equal(utf8_read(&back, text, bytes), bytes);
        assert_int_equal(back, c);
        for (size_t cut = 1; cut < bytes; cut++) { // cut off: one invalid part
            assert_int_equal(utf8_read(&back, text, cut), cut);
            assert_true(back == UTF8_BAD);
        }
    }
}

static void
each_maximal_invalid_part_becomes_one_replacement(void **state)
{
    (void)state;
#define BAD "\xEF\xBF\xBD"
    static const struct {
        const char *from, *to;
        size_t parts;
    } rows[] = {
        {"plain", "plain", 0},
        {"\x80", BAD, 1},
        {"a\xFF\xFE z", "a" BAD BAD " z", 2},
        {"\xC0\x80", BAD BAD, 2},                 // overlong: C0 never begins anything
        {"\xE0\x80\x80", BAD BAD BAD, 3},         // overlong: 80 cannot follow E0
        {"\xED\xA0\x80", BAD BAD BAD, 3},         // a surrogate
        {"\xF4\x90\x80\x80", BAD BAD BAD BAD, 4}, // above U+10FFFF
        {"\xE2\x82x", BAD "x", 1},                // two good bytes of three: one part
        {"\xF0\x9F\x98", BAD, 1},
        {"\xF0\x9F\x98\xE2\x82\xAC", BAD "\xE2\x82\xAC", 1},
        {"\xF1\x80\x80\xE1\x80\xC2"
         "b\x80",
         BAD BAD BAD "b" BAD, 4}, // the Unicode standard's example
        {"12345678\xC3\xA9"
         "12345678\xC3",
         "12345678\xC3\xA9"
         "12345678" BAD,
         1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t parts, bytes = utf8_repaired_bytes(&parts, rows[i].from, strlen(rows[i].from));
        assert_int_equal(parts, rows[i].parts);
        assert_int_equal(bytes, strlen(rows[i].to));
        char *out = malloc(bytes); // exactly: the sanitizer sees a byte too much
        assert_non_null(out);
        utf8_repair(out, rows[i].from, strlen(rows[i].from));
        assert_memory_equal(out, rows[i].to, bytes);
        free(out);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_has_the_class_of_the_ranges),
        cmocka_unit_test(utf8_is_read_and_written_for_every_code_point),
        cmocka_unit_test(each_maximal_invalid_part_becomes_one_replacement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "lib/lm/jsonline.h"
#include "lib/lm/unicode.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum status
read_text(struct text_list *out, size_t *lone, const char *line)
{
    return jsonline_text(out, lone, line, strlen(line), "text", "f:1");
}

static void
the_string_of_the_field(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text;
        size_t lone;
    } rows[] = {
        {"{\"text\":\"\"}", "", 0},
        {" { \"a\" : [1, {\"text\":\"no\"}, -0.5e+3] , \"text\" : \"yes\" }\r", "yes", 0},
        {"{\"text\":\"q\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"}", "q\"\\/\b\f\n\r\tA", 0},
        {"{\"text\":\"\\u00e9\\u20AC\\ud83d\\ude42\"}", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82", 0},
        {"{\"text\":\"a\\ud83dz\"}", "a\xEF\xBF\xBDz", 1},
        {"{\"text\":\"\\ude42\\ud83d\"}", "\xEF\xBF\xBD\xEF\xBF\xBD", 2},
        {"{\"text\":\"\\ud83d\\u0041\"}",
         "\xEF\xBF\xBD"
         "A",
         1},
        {"{\"text\":\"\\ud83d\\ud83d\\ude42\"}", "\xEF\xBF\xBD\xF0\x9F\x99\x82", 1},
        {"{\"t\\u0065xt\":\"escaped key\"}", "escaped key", 0},
        {"{\"text\":1,\"text\":\"the last\"}", "the last", 0},
        {"{\"text\":\"raw \xFF bytes\"}", "raw \xFF bytes", 0},
        {"{\"x\":null,\"y\":true,\"z\":false,\"text\":\"t\"}", "t", 0},
    };
    struct text_list out = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t lone = 0;
        if (read_text(&out, &lone, rows[i].line) != STATUS_OK)
            fail_msg("%s: %s", rows[i].line, status_words());
        assert_int_equal(out.bytes, strlen(rows[i].text));
        if (out.bytes > 0)
            assert_memory_equal(out.at, rows[i].text, out.bytes);
        assert_int_equal(lone, rows[i].lone);
    }
    text_list_release(&out);
}

static void
what_is_wrong_is_said_with_its_column(void **state)
{
    (void)state;
    static const struct {
        const char *line, *words;
    } rows[] = {
        {"", "f:1: column 1: found the end of the line, wanted an object"},
        {"[1]", "f:1: column 1: found '[', wanted an object"},
        {"{\"text\":\"a\"", "f:1: column 12: found the end of the line, wanted ',' or '}'"},
        {"{\"text\":\"a", "wanted the end of the string"},
        {"{\"text\":\"a\tb\"}", "f:1: column 11: found byte 0x09, wanted no control character"},
        {"{\"text\":\"\\x\"}", "f:1: column 11: found 'x', wanted an escape"},
        {"{\"text\":\"\\u12g4\"}", "found 'g', wanted four hex digits"},
        {"{\"text\":\"a\"} x", "found 'x', wanted the end of the line"},
        {"{\"text\":\"a\",}", "found '}', wanted a string"},
        {"{text:1}", "found 't', wanted a string"},
        {"{\"text\" \"a\"}", "wanted ':'"},
        {"{\"n\":01,\"text\":\"a\"}", "found '1', wanted ',' or '}'"},
        {"{\"n\":NaN,\"text\":\"a\"}", "found 'N', wanted a value"},
        {"{\"n\":-,\"text\":\"a\"}", "wanted a digit"},
        {"{\"n\":[1 2],\"text\":\"a\"}", "wanted ',' or ']'"},
        {"{\"n\":tru,\"text\":\"a\"}", "wanted a value"},
        {"{\"id\":1,\"body\":\"a\"}", "f:1: no field 'text' (it has: id, body)"},
        {"{\"text\":7}", "f:1: field 'text' is a number, wanted a string"},
        {"{\"text\":null}", "f:1: field 'text' is null, wanted a string"},
        {"{\"text\":[\"a\"]}", "f:1: field 'text' is a list, wanted a string"},
    };
    struct text_list out = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t lone = 0;
        assert_int_equal(read_text(&out, &lone, rows[i].line), STATUS_DAMAGED);
        if (!strstr(status_words(), rows[i].words))
            fail_msg("%s: '%s', wanted '%s'", rows[i].line, status_words(), rows[i].words);
    }
    char deep[2 * JSONLINE_DEPTH + 32];
    for (size_t depth = JSONLINE_DEPTH - 2; depth < JSONLINE_DEPTH + 2; depth++) {
        size_t n = (size_t)snprintf(deep, sizeof deep, "{\"text\":\"a\",\"n\":");
        memset(deep + n, '[', depth);
        memset(deep + n + depth, ']', depth);
        memcpy(deep + n + 2 * depth, "}", 2);
        size_t lone = 0;
        assert_int_equal(read_text(&out, &lone, deep),
                         depth < JSONLINE_DEPTH ? STATUS_OK : STATUS_DAMAGED);
    }
    assert_non_null(strstr(status_words(), "wanted less nesting"));
    text_list_release(&out);
}

// Random damage to lines: we take exactly what jansson takes, and read the same text from it.
static void
agrees_with_another_reader(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "{\"text\":\"it \\\"is\\\" \\u00e9 \\ud83d\\ude42 "
        "\\n\",\"n\":[1,-2.5e-3,{\"a\":null}],\"b\":true}",
        "{\"meta\":{\"k\":[],\"l\":{},\"f\":false},\"text\":\"caf\xC3\xA9 \\t\\\\ "
        "\\/\",\"z\":0.10}",
    };
    static const char alphabet[] = "{}[]\",:\\u0019eE+-.tfn aDd8\x01";
    struct text_list out = {0};
    uint64_t seed = 5;
    size_t good = 0, bad = 0;
    for (size_t round = 0; round < 60000; round++) {
        char line[160];
        size_t bytes = strlen(lines[round % 2]);
        memcpy(line, lines[round % 2], bytes + 1);
        for (size_t edits = round % 3; edits < 3; edits++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t at = (size_t)(seed >> 33) % bytes;
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            if (seed >> 62 == 0) {
                memmove(line + at, line + at + 1, bytes - at);
                bytes--;
            } else {
                line[at] = alphabet[(seed >> 33) % (sizeof alphabet - 1)];
            }
        }
        size_t lone = 0, parts;
        enum status status = jsonline_text(&out, &lone, line, bytes, "text", "f:1");
        utf8_repaired_bytes(&parts, line, bytes);
        json_t *other = json_loadb(line, bytes, JSON_ALLOW_NUL, NULL);
        const json_t *text = json_object_get(other, "text");
        // jansson refuses what we repair, bad UTF-8 and lone surrogates, and NUL in keys.
        bool repaired = lone > 0 || parts > 0 || strstr(line, "\\ud") || strstr(line, "\\uD");
        if (json_is_string(text)) {
            if (status != STATUS_OK)
                fail_msg("refused: %s: %s", line, status_words());
            assert_int_equal(out.bytes, json_string_length(text));
            if (out.bytes > 0)
                assert_memory_equal(out.at, json_string_value(text), out.bytes);
            good++;
        } else {
            if (status == STATUS_OK && !repaired && !strstr(line, "\\u0000"))
                fail_msg("accepted: %s", line);
            bad++;
        }
        json_decref(other);
    }
    assert_true(good > 3000 && bad > 3000);
    text_list_release(&out);
}

static void
lists_of_ids(void **state)
{
    (void)state;
    struct token_list out = {0};
    static const struct {
        const char *line;
        size_t most, count;
        uint32_t ids[4];
    } good[] = {
        {"{\"input_ids\":[]}", 4, 0, {0}},
        {"{\"input_ids\":[7]}", 4, 1, {7}},
        {"{\"text\":\"x\", \"tokens\": [ 1 , 0,4294967294 ] }", 4, 3, {1, 0, 4294967294u}},
        {"{\"input_ids\":[1,2,3,4,5,6]}", 4, 4, {1, 2, 3, 4}},
        {"{\"tokens\":[9],\"input_ids\":[1,2]}", 4, 2, {1, 2}},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (jsonline_ids(&out, good[i].most, good[i].line, strlen(good[i].line), "input_ids",
                         "tokens", "f:1") != STATUS_OK)
            fail_msg("%s", status_words());
        assert_int_equal(out.count, good[i].count);
        if (out.count > 0)
            assert_memory_equal(out.ids, good[i].ids, out.count * sizeof *out.ids);
    }
    static const struct {
        const char *line, *words;
    } bad[] = {
        {"{\"input_ids\":[4294967295]}", "column 15: field 'input_ids' holds '4294967295'"},
        {"{\"input_ids\":[99999999999999999999999]}", "holds '99999999999999999999999'"},
        {"{\"input_ids\":[1,-1]}", "column 17: field 'input_ids' holds '-1'"},
        {"{\"input_ids\":[1.0]}", "holds '1.0'"},
        {"{\"input_ids\":[1e2]}", "holds '1e2'"},
        {"{\"input_ids\":[\"1\"]}", "holds '\"1\"'"},
        {"{\"input_ids\":[[1]]}", "holds '[1'"},
        {"{\"input_ids\":[null]}", "wanted ids only"},
        {"{\"input_ids\":7}", "field 'input_ids' is a number, wanted a list of ids"},
        {"{\"tokens\":\"7\"}", "field 'tokens' is a string, wanted a list of ids"},
        {"{\"x\":[1]}", "no field 'input_ids' (it has: x)"},
        {"{\"input_ids\":[1,]}", "wanted a value"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(
            jsonline_ids(&out, 4, bad[i].line, strlen(bad[i].line), "input_ids", "tokens", "f:1"),
            STATUS_DAMAGED);
        if (!strstr(status_words(), bad[i].words))
            fail_msg("%s: '%s', wanted '%s'", bad[i].line, status_words(), bad[i].words);
    }
    token_list_release(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_string_of_the_field),
        cmocka_unit_test(what_is_wrong_is_said_with_its_column),
        cmocka_unit_test(agrees_with_another_reader),
        cmocka_unit_test(lists_of_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

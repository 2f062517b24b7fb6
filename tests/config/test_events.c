// The bounds under the reader, each at its edge: what the settings' own shape would refuse anyway
// is refused here too, whoever reads.
#include "config/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// Takes every event of a text; the status of the last one.
static enum status
take_all(const char *text)
{
    struct events *events = malloc(sizeof *events);
    enum status status = events_open(events, "x.yaml", text, strlen(text));
    bool open = status == STATUS_OK, more = open;
    while (more) {
        yaml_event_t event;
        status = events_next(events, &event);
        more = status == STATUS_OK && event.type != YAML_STREAM_END_EVENT;
        if (status == STATUS_OK)
            yaml_event_delete(&event);
    }
    if (open)
        events_close(events);
    free(events);
    return status;
}

static void
refused(const char *text, const char *words)
{
    assert_int_equal(take_all(text), STATUS_CONFIG);
    assert_string_equal(status_words(), words);
}

static void
depth_is_bounded(void **unused)
{
    (void)unused;
    assert_int_equal(take_all("[[[[[[[[]]]]]]]]"), STATUS_OK);
    refused("[[[[[[[[[]]]]]]]]]", "x.yaml:1: brackets or indents more than 8 deep");
    assert_int_equal(take_all("[[[[[[[[]]]]]]], [[[[[[[]]]]]]]]"), STATUS_OK);
    refused("- - - - - - - - - a\n", "x.yaml:1: brackets or indents more than 8 deep");
    assert_int_equal(take_all("{a: {b: {c: {d: {e: {f: {g: {h: 1}}}}}}}}"), STATUS_OK);
    refused("{a: {b: {c: {d: {e: {f: {g: {h: {}}}}}}}}}",
            "x.yaml:1: brackets or indents more than 8 deep");
}

static void
the_number_of_events_is_bounded(void **unused)
{
    (void)unused;
    // Stream, document and list begin and end (the last of these is told on the line behind): six
    // more than the elements.
    enum { MOST = YAML_EVENTS_MOST - 6 };
    char *text = malloc(2 * MOST + 8);
    text[0] = '[';
    for (size_t i = 0; i < MOST; i++)
        memcpy(text + 1 + 2 * i, "a,", 2);
    memcpy(text + 1 + 2 * MOST, "]", 2);
    assert_int_equal(take_all(text), STATUS_OK);
    memcpy(text + 1 + 2 * MOST, "a]", 3);
    refused(text, "x.yaml:2: more than 4096 keys, values and brackets");
    free(text);
}

static void
the_length_of_a_word_and_of_the_text_is_bounded(void **unused)
{
    (void)unused;
    char *text = malloc(YAML_BYTES_MOST + 2);
    memset(text, 'a', YAML_WORD_MOST + 1);
    text[YAML_WORD_MOST] = '\0';
    assert_int_equal(take_all(text), STATUS_OK);
    text[YAML_WORD_MOST] = 'a';
    text[YAML_WORD_MOST + 1] = '\0';
    refused(text, "x.yaml:1: a value of 4097 bytes, wanted at most 4096");
    memset(text, '\n', YAML_BYTES_MOST + 1);
    text[0] = 'a';
    text[YAML_BYTES_MOST] = '\0';
    assert_int_equal(take_all(text), STATUS_OK);
    text[YAML_BYTES_MOST] = '\n';
    text[YAML_BYTES_MOST + 1] = '\0';
    refused(text, "x.yaml: has 262145 bytes, wanted at most 262144");
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(the_number_of_events_is_bounded),
        cmocka_unit_test(the_length_of_a_word_and_of_the_text_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Command lines: taken, refused in which words.
#include "lib/base/flags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool all;
static const char *to;
static struct words sets, rest;
static const struct flag flags[] = {
    {"--all", NULL, "everything", .on = &all},
    {"--to", "DIR", "where to write", .text = &to},
    {"--set", "KEY=VALUE", "a setting, over the file's", .words = &sets},
};

static enum status
read_line(const char *line)
{
    static char copy[256];
    char *argv[80], *left = copy;
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    while ((argv[argc] = strsep(&left, " ")) != NULL)
        argc++;
    all = false;
    to = NULL;
    memset(&sets, 0, sizeof sets);
    memset(&rest, 0, sizeof rest);
    return flags_read(flags, FLAGS_COUNT(flags), "osae x", argc, argv, &rest);
}

static void
flags_words_and_values_are_told_apart(void **unused)
{
    (void)unused;
    assert_int_equal(read_line("x a --to d --set p=1 b --set=q=2 --all -- --all -"), STATUS_OK);
    assert_true(all);
    assert_string_equal(to, "d");
    assert_int_equal(sets.count, 2);
    assert_string_equal(sets.at[0], "p=1");
    assert_string_equal(sets.at[1], "q=2");
    assert_int_equal(rest.count, 4);
    assert_string_equal(rest.at[0], "a");
    assert_string_equal(rest.at[1], "b");
    assert_string_equal(rest.at[2], "--all");
    assert_string_equal(rest.at[3], "-");
    assert_int_equal(read_line("x --to=-"), STATUS_OK);
    assert_string_equal(to, "-");
    assert_int_equal(read_line("x --to="), STATUS_OK);
    assert_string_equal(to, "");
}

static void
wrong_lines_are_refused_with_what_was_meant(void **unused)
{
    (void)unused;
    static const char *const wrong[][2] = {
        {"x --alll", "osae x: unknown flag --alll, did you mean --all?"},
        {"x --st=a=1", "osae x: unknown flag --st, did you mean --set?"},
        {"x --zebra-crossing", "osae x: unknown flag --zebra-crossing"},
        {"x -a", "osae x: unknown flag -a"},
        {"x --all=1", "osae x: --all takes no value"},
        {"x --to", "osae x: --to wants a value: --to DIR"},
        {"x --to a --to b", "osae x: --to is given twice"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(read_line(wrong[i][0]), STATUS_USAGE);
        assert_string_equal(status_words(), wrong[i][1]);
    }
    char many[256] = "x";
    for (int i = 0; i < WORDS_MOST + 1; i++)
        strncat(many, " w", sizeof many - strlen(many) - 1);
    assert_int_equal(read_line(many), STATUS_USAGE);
    assert_string_equal(status_words(), "osae x: more than 64 of a kind: w");
}

static void
help_lists_every_flag_in_one_line(void **unused)
{
    (void)unused;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    flags_print(out, flags, FLAGS_COUNT(flags));
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "  --all                   everything\n"
                              "  --to DIR                where to write\n"
                              "  --set KEY=VALUE         a setting, over the file's\n");
    free(text);
    char program[] = "x", help[] = "--help", h[] = "-h", end[] = "--";
    char *const none[] = {program, end, NULL}, *const no[] = {program, end, h, NULL};
    char *const yes[] = {program, program, help, end, NULL};
    assert_false(flags_help_wanted(2, none));
    assert_false(flags_help_wanted(3, no));
    assert_true(flags_help_wanted(4, yes));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_words_and_values_are_told_apart),
        cmocka_unit_test(wrong_lines_are_refused_with_what_was_meant),
        cmocka_unit_test(help_lists_every_flag_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// typed: a command line of `osae` as a person types it, in a scratch folder, and what it says.
#ifndef TESTS_FRONT_TYPED_H
#define TESTS_FRONT_TYPED_H

#include "front/commands.h"
#include "front/report_table.h"
#include "tests/store/scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char *said, *complained; // stdout and stderr of the last command

// A group's set-up and tear-down: names of files are relative to the scratch folder.
static inline int
typed_start(void **unused)
{
    return scratch_make(unused) == 0 && chdir(scratch) == 0 ? 0 : -1;
}

static inline int
typed_finish(void **unused)
{
    free(said);
    free(complained);
    return chdir("/") == 0 ? scratch_remove(unused) : -1;
}

// Sends a descriptor into a file; returns a copy of where it went before.
static inline int
divert(int fd, const char *path)
{
    int before = dup(fd), to = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(before >= 0 && to >= 0);
    assert_true(dup2(to, fd) >= 0);
    assert_int_equal(close(to), 0);
    return before;
}

static inline void
restore(int fd, int before)
{
    assert_true(dup2(before, fd) >= 0);
    assert_int_equal(close(before), 0);
}

// "config --changed" -> the exit code, with `said` and `complained` filled.
static inline int
osae(const char *line)
{
    char copy[1024], *argv[64], *left = copy;
    const char *out = scratch_path("out"), *err = scratch_path("err");
    size_t bytes;
    int argc = 0;
    int bytes_typed = snprintf(copy, sizeof copy, "osae %s", line);
    assert_in_range(bytes_typed, 1, sizeof copy - 1);
    for (char *word; (word = strsep(&left, " ")) != NULL;)
        if (*word)
            argv[argc++] = word;
    argv[argc] = NULL;
    assert_int_equal(fflush(stdout), 0);
    int stdout_before = divert(STDOUT_FILENO, out), stderr_before = divert(STDERR_FILENO, err);
    int code = commands_main(argc, argv);
    fflush(stdout);
    restore(STDOUT_FILENO, stdout_before);
    restore(STDERR_FILENO, stderr_before);
    free(said);
    free(complained);
    said = file_get(out, &bytes);
    complained = file_get(err, &bytes);
    return code;
}

static inline void
says(const char *what)
{
    if (!strstr(said, what))
        fail_msg("'%s' is not in:\n%s", what, said);
}

static inline void
complains(const char *what)
{
    if (!strstr(complained, what))
        fail_msg("'%s' is not in:\n%s", what, complained);
}

// A terminal of 100 columns shows every line whole.
static inline void
lines_fit(const char *text)
{
    for (const char *line = text; *line;) {
        char copy[1024];
        size_t length = strcspn(line, "\n");
        snprintf(copy, sizeof copy, "%.*s", (int)length, line);
        if (words_width(copy) > 100)
            fail_msg("%zu columns: %s", words_width(copy), copy);
        line += length + (line[length] != '\0');
    }
}

#endif

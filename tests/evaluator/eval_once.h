// `osae eval` inside a test, and the results it leaves.
#ifndef TESTS_EVALUATOR_EVAL_ONCE_H
#define TESTS_EVALUATOR_EVAL_ONCE_H

#include "evaluator/once.h"
#include "lib/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

// `osae eval`: words of a command line, blanks between, `always` in front; the table goes to the
// file `table` of the folder we are in.
static inline enum status
eval_once(const char *always, const char *line)
{
    char copy[4096], *argv[64], *left = copy;
    int argc = 0;
    snprintf(copy, sizeof copy, "eval %s %s", always, line);
    for (char *word; (word = strsep(&left, " ")) != NULL;)
        if (*word)
            argv[argc++] = word;
    argv[argc] = NULL;
    assert_int_equal(fflush(stdout), 0);
    int before = dup(STDOUT_FILENO),
        to = open("table", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(before >= 0 && to >= 0 && dup2(to, STDOUT_FILENO) >= 0 && close(to) == 0);
    enum status status = once_run(argc, argv);
    fflush(stdout);
    assert_true(dup2(before, STDOUT_FILENO) >= 0 && close(before) == 0);
    return status;
}

// The results in a folder; the path of the last.
static inline size_t
results(char path[PATH_BYTES], const char *folder)
{
    size_t count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        assert_int_equal(path_join(path, folder, entry->d_name), STATUS_OK);
    }
    closedir(dir);
    return count;
}

#endif

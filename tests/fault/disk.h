// disk: what the tests with libfaultio share: a run folder to begin with, a life of fault_saves
// under a plan, and the look at what is left.
#ifndef TESTS_FAULT_DISK_H
#define TESTS_FAULT_DISK_H

#include "tests/fault/faultio.h"
#include "tests/store/training.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { DISK_FIRST = 3, DISK_LAST = 6 }; // the states that fault_saves adds to 1 and 2

// Steps 100 and 200, and what an unlucky life leaves behind: 250 damaged, a left-over, a torn
// journal.
static inline void
disk_lay_out(const char *folder)
{
    static const struct checkpoint_policy all = {.keep_last = 100};
    struct runfolder *run;
    char path[PATH_BYTES];
    assert_int_equal(path_remove(folder), STATUS_OK);
    assert_int_equal(training_open(&run, folder), STATUS_OK);
    assert_int_equal(training_save(run, 100, 1, &all, NULL), STATUS_OK);
    assert_int_equal(training_save(run, 200, 2, &all, NULL), STATUS_OK);
    assert_int_equal(training_save(run, 250, 0, &all, NULL), STATUS_OK);
    runfolder_close(&run);
    snprintf(path, sizeof path, "%.3000s/checkpoints/step-000000000250/cfg.json", folder);
    flip(path, 2, 8);
    snprintf(path, sizeof path, "%.3000s/checkpoints/step-000000000200.tmp-1-12345678", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%.3000s/journal.jsonl", folder);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "{\"lsn\":5,\"ty", 12), 12);
    assert_int_equal(close(fd), 0);
}

struct disk_life {
    int code;       // exit code; 128 + signal
    uint64_t found; // the state it began from; 0: none
    uint64_t saved; // the newest it announced; 0: none
};

// A program and its arguments, with the variables of `plan` ("NAME=VALUE", NULL at the end) and
// libfaultio.so where there are any. Its stdout is read, its stderr goes to the file `words`.
static inline struct disk_life
disk_run(const char *const *argv, const char *const *plan, const char *words)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int err = open(words, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(ends[1], STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        for (size_t i = 0; plan && plan[i]; i++)
            if (putenv((char *)(uintptr_t)plan[i]) != 0)
                _exit(99);
        if (plan && setenv("LD_PRELOAD", OSAE_BIN "/libfaultio.so", 1) != 0)
            _exit(99);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(99);
    }
    close(ends[1]);
    char said[4096];
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], said + used, sizeof said - 1 - used)) > 0)
        used += (size_t)got;
    said[used] = '\0';
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    struct disk_life life = {.code =
                                 WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)};
    for (const char *at = said; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        if (strncmp(at, "found ", 6) == 0)
            life.found = strtoull(at + 6, NULL, 10);
        if (strncmp(at, "saved ", 6) == 0)
            life.saved = strtoull(at + 6, NULL, 10);
    }
    return life;
}

static inline struct disk_life
disk_live(const char *folder, unsigned first, unsigned last, const char *const *plan)
{
    char from[16], to[16];
    snprintf(from, sizeof from, "%u", first);
    snprintf(to, sizeof to, "%u", last);
    const char *const argv[] = {OSAE_BIN "/fault_saves", folder, from, to, NULL};
    return disk_run(argv, plan, scratch_path("words"));
}

// What the last life said, for a message.
static inline const char *
disk_words(void)
{
    static char words[600];
    size_t bytes;
    char *all = file_get(scratch_path("words"), &bytes);
    size_t from = bytes > sizeof words - 1 ? bytes - (sizeof words - 1) : 0;
    snprintf(words, sizeof words, "%s", all + from);
    free(all);
    return words;
}

// The fault is over: the next life finds what was announced, or newer, and goes on; the folder is
// clean, by our own check and by the command's.
static inline void
disk_check(const char *folder, uint64_t announced, const char *plan)
{
    struct disk_life next = disk_live(folder, 1, 0, NULL);
    if (next.code != 0)
        fail_msg("%s: the next start ends with %d:\n%s", plan, next.code, disk_words());
    if (next.found < announced)
        fail_msg("%s: found state %d, announced was %d", plan, (int)next.found, (int)announced);
    struct runfolder_report report;
    assert_int_equal(runfolder_check(&report, folder), STATUS_OK);
    if (report.damaged || report.unfinished || report.torn_journal || report.sound == 0)
        fail_msg("%s: %zu damaged, %zu unfinished, %s: %s", plan, report.damaged, report.unfinished,
                 report.torn_journal ? "torn" : "not torn", report.words);
    if (names_with(folder, ".tmp-") != 0)
        fail_msg("%s: a temporary file is left", plan);
    next = disk_live(folder, 9, 9, NULL);
    if (next.code != 0 || next.saved != 9)
        fail_msg("%s: it does not go on (%d):\n%s", plan, next.code, disk_words());
}

#endif

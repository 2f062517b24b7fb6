// The run folder: one writer, its count of incarnations, what it sweeps and what it leaves alone.
//
// Invariants: D7 D9
#include "lib/base/fault.h"
#include "lib/base/say.h"
#include "tests/store/training.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char folder[PATH_BYTES]; // the run of the case

static int
fresh(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%.3000s/deep/run", scratch);
    fault_set(NULL);
    return path_remove(folder) == STATUS_OK ? 0 : -1;
}

static const char *
in(const char *name)
{
    static char paths[4][PATH_BYTES];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, PATH_BYTES, "%.3000s/%s", folder, name);
    return path;
}

static void
a_second_opener_is_told_who_is_there(void **unused)
{
    (void)unused;
    for (int without_ofd = 0; without_ofd < 2; without_ofd++) {
        struct runfolder *first, *second;
        fault_set(without_ofd ? "run.lock:0" : NULL); // then flock
        assert_int_equal(training_open(&first, folder), STATUS_OK);
        assert_int_equal(training_open(&second, folder), STATUS_AGAIN);
        assert_null(second);
        char want[64];
        snprintf(want, sizeof want, "in use by process %d on ", (int)getpid());
        assert_non_null(strstr(status_words(), want));
        assert_non_null(strstr(status_words(), "trainer-1, incarnation"));
        // It touched nothing: the first goes on.
        assert_int_equal(training_save(first, 1, 1, &keep_two, NULL), STATUS_OK);
        runfolder_close(&first);
        assert_int_equal(training_open(&second, folder), STATUS_OK);
        runfolder_close(&second);
    }
}

static void
a_killed_holder_holds_nothing(void **unused)
{
    (void)unused;
    int pipes[2];
    char byte;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct runfolder *run;
        bool failed = training_open(&run, folder) != STATUS_OK || write(pipes[1], "x", 1) != 1;
        if (!failed)
            pause();
        _exit(1);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    struct runfolder *run;
    assert_int_equal(training_open(&run, folder), STATUS_AGAIN);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(training_open(&run, folder), STATUS_OK);
    assert_int_equal(runfolder_incarnation(run), 2);
    runfolder_close(&run);
    close(pipes[0]);
    close(pipes[1]);
}

static void
incarnations_only_grow(void **unused)
{
    (void)unused;
    struct runfolder *run;
    static const char *const texts[] = {"3\n", NULL, "", "x\n", "99999999999\n", "4 5", "2\n"};
    uint32_t last = 0;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(training_open(&run, folder), STATUS_OK);
        assert_true(runfolder_incarnation(run) > last);
        last = runfolder_incarnation(run);
        runfolder_close(&run);
        if (texts[i]) // lost, or no number: the journal knows
            file_put(in("incarnation"), texts[i], strlen(texts[i]));
        else
            unlink(in("incarnation"));
    }
    size_t bytes;
    char *text = file_get(in("LOCK"), &bytes);
    assert_non_null(strstr(text, "\"instance\":\"trainer-1\""));
    free(text);
    unlink(in("journal.jsonl"));
    file_put(in("incarnation"), "40\n", 3);
    assert_int_equal(training_open(&run, folder), STATUS_OK);
    assert_int_equal(runfolder_incarnation(run), 41);
    runfolder_close(&run);
    fault_set("run.incarnation:1");
    assert_int_equal(training_open(&run, folder), STATUS_IO);
    fault_set(NULL);
    assert_int_equal(training_open(&run, folder), STATUS_OK); // the lock is free again
    runfolder_close(&run);
}

static void
leftovers_go_and_strangers_stay(void **unused)
{
    (void)unused;
    struct runfolder *run;
    assert_int_equal(training_open(&run, folder), STATUS_OK);
    runfolder_close(&run);
    struct stat info;
    assert_int_equal(stat(folder, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    const char *temporary = in("checkpoints/step-000000000001.tmp-1-00000000");
    assert_int_equal(mkdir(temporary, 0700), 0);
    file_put(in("checkpoints/step-000000000001.tmp-1-00000000/cfg.json"), "{}", 2);
    assert_int_equal(mkdir(in("eval"), 0700), 0);
    file_put(in("eval/x.tmp-7"), "mine", 4); // the evaluators' part
    file_put(in("journal.jsonl.tmp-99"), "half", 4);
    file_put(in("config.yaml"), "a: 1\n", 5);
    assert_int_equal(symlink("../eval", in("checkpoints/a.tmp-link")), 0); // not followed
    assert_int_equal(training_open(&run, folder), STATUS_OK);
    assert_false(path_exists(temporary));
    assert_int_equal(names_with(in("checkpoints"), ".tmp-"), 0);
    assert_false(path_exists(in("journal.jsonl.tmp-99")));
    assert_true(path_exists(in("eval/x.tmp-7")) && path_exists(in("config.yaml")));
    runfolder_close(&run);
}

static void
what_cannot_be_a_run_is_refused(void **unused)
{
    (void)unused;
    struct runfolder *run;
    file_put(scratch_path("file"), "x", 1);
    assert_int_equal(training_open(&run, scratch_path("file")), STATUS_CREATE);
    char deep[PATH_BYTES + 8];
    memset(deep, 'a', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(training_open(&run, deep), STATUS_CONFIG);
    struct runfolder_opener opener = {"\xff", "i", "b", "e", false};
    assert_int_equal(runfolder_open(&run, folder, &opener), STATUS_CONFIG);
    opener.name = "";
    assert_int_equal(runfolder_open(&run, folder, &opener), STATUS_CONFIG);
    opener.name = deep;
    assert_int_equal(runfolder_open(&run, folder, &opener), STATUS_CONFIG);
    opener.name = "r";
    opener.environment = deep;
    assert_int_equal(runfolder_open(&run, folder, &opener), STATUS_CONFIG);
    assert_false(path_exists(folder));

    assert_int_equal(training_open(&run, folder), STATUS_OK); // a damaged journal
    assert_int_equal(journal_append(runfolder_journal(run), "stop", "{s:s}", "why", "x"),
                     STATUS_OK);
    runfolder_close(&run);
    flip(in("journal.jsonl"), 3, 1);
    assert_int_equal(training_open(&run, folder), STATUS_DAMAGED);
    opener = (struct runfolder_opener){"r", "i", "b", "e", true};
    assert_int_equal(runfolder_open(&run, folder, &opener), STATUS_OK);
    runfolder_close(&run);
}

int
main(void)
{
    say_level(SAY_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_second_opener_is_told_who_is_there, fresh),
        cmocka_unit_test_setup(a_killed_holder_holds_nothing, fresh),
        cmocka_unit_test_setup(incarnations_only_grow, fresh),
        cmocka_unit_test_setup(leftovers_go_and_strangers_stay, fresh),
        cmocka_unit_test_setup(what_cannot_be_a_run_is_refused, fresh),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

// Every place where the world can fail, at every visit, by an error and by a kill: the newest
// checkpoint announced is there afterwards, or a newer one, and nothing is left lying about.
//
// The scenario is a trainer that comes back to a run with a damaged checkpoint, a left-over and a
// torn journal, saves four times and clears up. Its states are numbered by `next`, so what was
// announced and what is found can be compared.
//
// Invariants: D1 D2 D5 D6 D9
#include "lib/base/fault.h"
#include "lib/base/say.h"
#include "tests/store/training.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char folder[PATH_BYTES], checkpoints[PATH_BYTES];

// The places named by fault("...") in our sources.
static char places[64][48];
static size_t place_count;

static size_t
scan_places(const char *source, bool take)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, OSAE_TESTS "/../lib/%s", source);
    size_t bytes, found = 0;
    char *text = file_get(path, &bytes);
    for (char *at = text; (at = strstr(at, "fault(\"")); found++) {
        at += 7;
        size_t length = strcspn(at, "\"");
        bool is_new = take;
        for (size_t i = 0; i < place_count; i++)
            is_new = is_new && (strlen(places[i]) != length || memcmp(places[i], at, length) != 0);
        if (is_new) {
            assert_true(place_count < 64 && length < sizeof places[0]);
            snprintf(places[place_count++], sizeof places[0], "%.*s", (int)length, at);
        }
    }
    free(text);
    return found;
}

static int
setup(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    snprintf(folder, sizeof folder, "%.3000s/run", scratch);
    snprintf(checkpoints, sizeof checkpoints, "%.3000s/checkpoints", folder);
    static const char *const sources[] = {
        "store/journal.c",          "store/runfolder.c",          "store/checkpoint.c",
        "store/checkpoint_write.c", "store/checkpoint_recover.c", "base/file.c"};
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
        if (scan_places(sources[i], true) == 0)
            return -1;
    return 0;
}

// The tables in the headers name every place, and no other.
static void
the_tables_of_places_are_true(void **unused)
{
    (void)unused;
    static const char *const headers[] = {"journal.h", "runfolder.h", "checkpoint.h"};
    char all[1 << 16] = "";
    size_t used = 0, listed = 0, ours = 0;
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, OSAE_TESTS "/../lib/store/%s", headers[i]);
        size_t bytes;
        char *text = file_get(path, &bytes);
        assert_true(bytes < sizeof all - used - 1);
        memcpy(all + used, text, bytes + 1);
        used += bytes;
        free(text);
    }
    for (size_t i = 0; i < place_count; i++) {
        if (strncmp(places[i], "file.", 5) == 0)
            continue;
        char row[64];
        snprintf(row, sizeof row, "\n// %s ", places[i]);
        if (!strstr(all, row))
            fail_msg("no header's table names %s", places[i]);
        ours++;
    }
    for (const char *at = all; (at = strchr(at, '\n')); at++)
        listed += strncmp(at, "\n// journal.", 12) == 0 || strncmp(at, "\n// run.", 8) == 0 ||
                  strncmp(at, "\n// checkpoint.", 15) == 0;
    assert_int_equal(listed, ours + 1); // and the row `journal.*`
}

// Before the faults: steps 100 and 200, 250 damaged, a left-over, a torn tail.
static void
lay_out(void)
{
    const struct checkpoint_policy all = {.keep_last = 100};
    assert_int_equal(path_remove(folder), STATUS_OK);
    struct runfolder *run;
    assert_int_equal(training_open(&run, folder), STATUS_OK);
    assert_int_equal(training_save(run, 100, 1, &all, NULL), STATUS_OK);
    assert_int_equal(training_save(run, 200, 2, &all, NULL), STATUS_OK);
    assert_int_equal(training_save(run, 250, 0, &all, NULL), STATUS_OK);
    runfolder_close(&run);
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/step-000000000250/cfg.json", checkpoints);
    flip(path, 2, 8);
    snprintf(path, sizeof path, "%s/step-000000000200.tmp-1-12345678", checkpoints);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/journal.jsonl", folder);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "{\"lsn\":5,\"ty", 12), 12);
    assert_int_equal(close(fd), 0);
}

// false: could not start at all.
static bool
start(struct runfolder **run, struct checkpoint_found *found)
{
    for (int i = 0; i < 2; i++) { // the supervisor starts it again
        if (training_open(run, folder) == STATUS_OK) {
            if (checkpoint_recover(found, *run, false) == STATUS_OK)
                return true;
            runfolder_close(run);
        }
    }
    return false;
}

// Tells the parent, by one byte, each state that was announced. Runs in a child too, so it asserts
// nothing.
static void
scenario(int announce)
{
    static const struct {
        uint64_t step;
        unsigned char next;
    } saves[] = {{300, 3}, {400, 4}, {400, 5}, {500, 6}};
    struct runfolder *run;
    struct checkpoint_found found;
    if (!start(&run, &found))
        return;
    for (size_t i = 0; i < sizeof saves / sizeof saves[0]; i++)
        for (int again = 0; again < 2; again++)
            if (training_save(run, saves[i].step, saves[i].next, &keep_two, NULL) == STATUS_OK) {
                if (write(announce, &saves[i].next, 1) != 1)
                    abort();
                if (checkpoint_retain(run, &keep_two) != STATUS_OK)
                    (void)0; // an event; training goes on
                break;
            }
    runfolder_close(&run);
}

static unsigned char
newest_announced(int pipe_end)
{
    unsigned char newest = 2, byte; // state 2 was there before
    while (read(pipe_end, &byte, 1) == 1)
        newest = byte;
    return newest;
}

// What was announced is in the journal.
static bool
is_recorded(struct journal *journal, unsigned char next)
{
    bool is_there = false;
    json_t *record;
    for (size_t at = 0; journal_next(&record, journal, &at) == STATUS_OK && record;) {
        is_there = is_there ||
                   (strcmp(json_string_value(json_object_get(record, "type")), "checkpoint") == 0 &&
                    json_integer_value(json_object_get(record, "next")) == next);
        json_decref(record);
    }
    return is_there;
}

static void
check_after(const char *plan, unsigned char announced)
{
    fault_set(NULL);
    struct runfolder *run;
    struct checkpoint_found found;
    if (training_open(&run, folder) != STATUS_OK ||
        checkpoint_recover(&found, run, false) != STATUS_OK)
        fail_msg("%s: %s", plan, status_words());
    if (!found.found || found.facts.next < announced || found.facts.step == 250)
        fail_msg("%s: found state %d, announced was %d", plan, (int)found.facts.next, announced);
    if (!training_is_whole(found.path, &found.facts))
        fail_msg("%s: state %d is not whole", plan, (int)found.facts.next);
    if (!is_recorded(runfolder_journal(run), announced))
        fail_msg("%s: state %d was announced and is not in the journal", plan, announced);
    struct runfolder_report report;
    assert_int_equal(runfolder_check(&report, folder), STATUS_OK);
    if (report.damaged || report.unfinished || report.torn_journal || report.sound == 0)
        fail_msg("%s: %zu damaged, %zu unfinished: %s", plan, report.damaged, report.unfinished,
                 report.words);
    if (names_with(folder, ".tmp-") != 0)
        fail_msg("%s: a temporary file is left", plan);
    // And the run goes on.
    if (training_save(run, 900, 9, &keep_two, NULL) != STATUS_OK ||
        checkpoint_retain(run, &keep_two) != STATUS_OK ||
        checkpoint_recover(&found, run, false) != STATUS_OK || found.facts.next != 9)
        fail_msg("%s: it does not go on: %s", plan, status_words());
    runfolder_close(&run);
}

// In a child that is killed at the place. false: the place was not visited that often.
static bool
crash_at(const char *plan)
{
    lay_out();
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fault_set(plan);
        scenario(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    unsigned char announced = newest_announced(ends[0]);
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
        fail_msg("%s: the child ended with %d", plan, status);
    check_after(plan, announced);
    return killed;
}

static void
fail_at(const char *plan)
{
    lay_out();
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fault_set(plan);
    scenario(ends[1]);
    close(ends[1]);
    unsigned char announced = newest_announced(ends[0]);
    close(ends[0]);
    check_after(plan, announced);
}

// Every visit of our own places; of those in lib/base/file.c, which ours stand next to, one in
// four.
static int
stride(const char *place)
{
    return strncmp(place, "file.", 5) == 0 ? 4 : 1;
}

// How often the scenario visits a place when it fails at the n-th visit is not how often it does
// when nothing fails: so count until a kill finds no such visit.
static void
a_kill_at_every_place_loses_nothing_announced(void **unused)
{
    (void)unused;
    size_t kills = 0;
    for (size_t i = 0; i < place_count; i++) {
        int n = 1;
        for (;; n += stride(places[i])) {
            char plan[80];
            snprintf(plan, sizeof plan, "%.47s:%d:crash", places[i], n);
            if (!crash_at(plan))
                break;
            kills++;
        }
        // A place that is never visited is not tested. (abandon: only from scratch.)
        if (n == 1 && strcmp(places[i], "checkpoint.abandon") != 0)
            fail_msg("%s is never visited", places[i]);
    }
    assert_true(kills > 100);
}

static void
an_error_at_every_place_loses_nothing_announced(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < place_count; i++)
        for (int n = 1;; n += stride(places[i])) {
            char plan[80];
            snprintf(plan, sizeof plan, "%.47s:%d", places[i], n);
            lay_out();
            int ends[2];
            assert_int_equal(pipe(ends), 0);
            fault_set(plan);
            scenario(ends[1]);
            bool visited = fault_visits() >= n;
            close(ends[1]);
            unsigned char announced = newest_announced(ends[0]);
            close(ends[0]);
            check_after(plan, announced);
            if (!visited)
                break;
        }
}

// A disk that never works again: nothing new, but nothing old is lost either.
static void
errors_for_ever_lose_nothing_announced(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < place_count; i++) {
        char plan[80];
        snprintf(plan, sizeof plan, "%.47s:0", places[i]);
        fail_at(plan);
    }
}

static void
a_kill_on_the_way_to_a_start_from_scratch_is_no_fresh_run(void **unused)
{
    (void)unused;
    for (int crash = 0; crash < 2; crash++) {
        lay_out();
        struct runfolder *run;
        struct checkpoint_found found;
        pid_t child = fork();
        if (child == 0) {
            fault_set(crash ? "file.sync_folder:3:crash" : "checkpoint.abandon:1:crash");
            if (training_open(&run, folder) == STATUS_OK)
                (void)!checkpoint_recover(&found, run, true);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(training_open(&run, folder), STATUS_OK);
        if (crash) { // checkpoints/ is aside, but nothing says that this was meant
            assert_int_equal(names_with(folder, "abandoned"), 1);
            assert_int_equal(checkpoint_recover(&found, run, false), STATUS_DAMAGED);
            assert_int_equal(checkpoint_recover(&found, run, true), STATUS_OK);
            assert_false(found.found);
        } else {
            assert_int_equal(checkpoint_recover(&found, run, false), STATUS_OK);
            assert_int_equal(found.facts.step, 200);
        }
        runfolder_close(&run);
    }
}

int
main(void)
{
    say_level(SAY_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tables_of_places_are_true),
        cmocka_unit_test(a_kill_at_every_place_loses_nothing_announced),
        cmocka_unit_test(an_error_at_every_place_loses_nothing_announced),
        cmocka_unit_test(errors_for_ever_lose_nothing_announced),
        cmocka_unit_test(a_kill_on_the_way_to_a_start_from_scratch_is_no_fresh_run),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}

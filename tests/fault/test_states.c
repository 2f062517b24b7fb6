// The states in which a crash may leave the disk (crashsim.h), thousands of them, of a life that
// recovers, saves four checkpoints and clears up: from each the newest checkpoint announced is
// found, or a newer one, whole; and the run goes on.
//     test_fault_states [SAMPLES [SEED]]       per moment of that life; 32 by default
//
// label: fault
// timeout: 900
// also: nightly 500
// Invariants: D1 D2 D5 D9
#include "lib/base/say.h"
#include "tests/fault/crashsim.h"
#include "tests/fault/disk.h"

static uint64_t samples = 32, seed = 1;
static char folder[PATH_BYTES], state[PATH_BYTES], log_path[PATH_BYTES];

// ---- faults of our own making, to see that they are found

enum plant {
    PLANT_NONE,
    PLANT_NO_FILE_SYNC,   // as if files were never synced
    PLANT_NO_FOLDER_SYNC, // nor folders
    PLANT_EARLY_MARK,     // announced before it was durable
    PLANT_COUNT
};

// Is the journal's record of this state there?
static bool
is_recorded(struct journal *journal, uint64_t next)
{
    bool is_there = false;
    json_t *record;
    for (size_t at = 0; journal_next(&record, journal, &at) == STATUS_OK && record;) {
        is_there = is_there ||
                   (strcmp(json_string_value(json_object_get(record, "type")), "checkpoint") == 0 &&
                    json_integer_value(json_object_get(record, "next")) == (json_int_t)next);
        json_decref(record);
    }
    return is_there;
}

// What is wrong with the state on disk; NULL: nothing.
static const char *
judge(uint64_t announced, bool go_on)
{
    static char words[400];
    struct runfolder *run;
    struct checkpoint_found found;
    if (training_open(&run, state) != STATUS_OK) {
        snprintf(words, sizeof words, "it cannot be opened: %.300s", status_words());
        return words;
    }
    words[0] = '\0';
    if (checkpoint_recover(&found, run, false) != STATUS_OK)
        snprintf(words, sizeof words, "it cannot be recovered: %.300s", status_words());
    else if (!found.found || found.facts.next < announced || found.facts.step == 250)
        snprintf(words, sizeof words, "found state %d, announced was %d",
                 found.found ? (int)found.facts.next : -1, (int)announced);
    else if (!training_is_whole(found.path, &found.facts))
        snprintf(words, sizeof words, "state %d is not whole", (int)found.facts.next);
    else if (!is_recorded(runfolder_journal(run), announced))
        snprintf(words, sizeof words, "state %d is not in the journal", (int)announced);
    else if (names_with(state, ".tmp-") || names_with(runfolder_checkpoints(run), ".tmp-"))
        snprintf(words, sizeof words, "something temporary is left");
    else if (go_on &&
             (training_save(run, 900, 9, &keep_two, NULL) != STATUS_OK ||
              checkpoint_retain(run, &keep_two) != STATUS_OK ||
              checkpoint_recover(&found, run, false) != STATUS_OK || found.facts.next != 9))
        snprintf(words, sizeof words, "it does not go on: %.300s", status_words());
    runfolder_close(&run);
    return words[0] ? words : NULL;
}

static unsigned char *log_text;
static size_t log_bytes;

// The life, written down.
static void
write_down(void)
{
    char root[PATH_BYTES + 32], log[PATH_BYTES + 32];
    snprintf(root, sizeof root, "FAULTIO_ROOT=%s", folder);
    snprintf(log, sizeof log, "FAULTIO_LOG=%s", log_path);
    const char *const variables[] = {root, log, NULL};
    struct disk_life life = disk_live(folder, DISK_FIRST, DISK_LAST, variables);
    if (life.code != 0 || life.found != 2 || life.saved != DISK_LAST)
        fail_msg("the life ended with %d:\n%s", life.code, disk_words());
    free(log_text);
    log_text = (unsigned char *)file_get(log_path, &log_bytes);
    assert_int_equal(unlink(log_path), 0);
}

// All moments of the life, so many states of each. Yields the first thing wrong, or NULL.
static const char *
crash_everywhere(uint64_t per_moment, enum plant plant, uint64_t *states, uint64_t *moments)
{
    static struct crashsim sim;
    disk_lay_out(folder);
    crash_begin(&sim, folder, seed);
    write_down();
    uint64_t announced = 2;
    const char *wrong = NULL;
    *states = *moments = 0;
    for (size_t at = 0; at < log_bytes && !wrong; ++*moments) {
        struct faultio_head head;
        memcpy(&head, log_text + at, sizeof head);
        at += sizeof head;
        if (head.what == FAULTIO_MARK && head.at > announced)
            announced = head.at;
        if (plant == PLANT_EARLY_MARK && head.what == FAULTIO_RENAME &&
            head.to_bytes == 29) // checkpoints/step-000000000000: durable only when synced
            announced = announced < 3 ? 3 : announced + 1;
        const struct sim_node *node =
            head.what == FAULTIO_SYNC ? crash_find(&sim, head.inode) : NULL;
        bool of_folder = node && node->folder;
        bool skipped = head.what == FAULTIO_SYNC && ((plant == PLANT_NO_FILE_SYNC && !of_folder) ||
                                                     (plant == PLANT_NO_FOLDER_SYNC && of_folder));
        if (!skipped)
            crash_feed(&sim, &head, log_text + at);
        at += head.from_bytes + head.to_bytes + head.data_bytes;
        for (uint64_t i = 0; i < per_moment && !wrong; i++, ++*states) {
            assert_int_equal(path_remove(state), STATUS_OK);
            assert_int_equal(mkdir(state, 0700), 0);
            uint64_t draws = sim.draws;
            crash_write(&sim, 0, state, i < LUCK_COUNT ? (int)i : -1);
            wrong = judge(announced, i % 4 == 0);
            if (wrong && plant == PLANT_NONE)
                print_message("moment %d, state %d (seed %d, from draw %d)\n", (int)*moments,
                              (int)i, (int)seed, (int)draws);
        }
    }
    crash_end(&sim);
    return wrong;
}

static void
every_state_a_crash_may_leave_is_recovered(void **unused)
{
    (void)unused;
    uint64_t states, moments;
    const char *wrong = crash_everywhere(samples, PLANT_NONE, &states, &moments);
    if (wrong)
        fail_msg("after %d states: %s", (int)states, wrong);
    print_message("%d states of %d moments\n", (int)states, (int)moments);
    assert_true(states >= 2000);
}

// The test of the test.
static void
planted_faults_are_found(void **unused)
{
    (void)unused;
    for (int plant = PLANT_NONE + 1; plant < PLANT_COUNT; plant++) {
        uint64_t states, moments;
        const char *wrong = crash_everywhere(16, (enum plant)plant, &states, &moments);
        if (!wrong)
            fail_msg("planted fault %d was not found in %d states", plant, (int)states);
        print_message("planted %d found by state %d: %s\n", plant, (int)states, wrong);
    }
}

static int
setup(void **unused)
{
    if (scratch_make(unused) != 0)
        return -1;
    snprintf(folder, sizeof folder, "%.3000s/run", scratch);
    snprintf(state, sizeof state, "%.3000s/state", scratch);
    snprintf(log_path, sizeof log_path, "%.3000s/log", scratch);
    return 0;
}

int
main(int argc, char **argv)
{
#ifdef __SANITIZE_ADDRESS__
    print_message("a preloaded library and a sanitizer do not mix: see the release build\n");
    return 77;
#endif
    if (argc > 1)
        samples = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 0);
    say_level(SAY_ERROR + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_a_crash_may_leave_is_recovered),
        cmocka_unit_test(planted_faults_are_found),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}

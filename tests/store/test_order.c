// The order of what a checkpoint does to the disk. A kill cannot show a missing fsync, for the
// kernel lives on; so the calls themselves are watched: this program defines them, and the library
// that is linked into it calls these.
//
// Invariants: D1 D5 D6
#include "lib/base/say.h"
#include "tests/store/training.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cmocka.h>

static struct {
    char what; // w write, s sync, d data sync, r rename
    char name[64];
} log_[256];
static size_t logged;

static void
note(char what, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (logged < 256) {
        log_[logged].what = what;
        snprintf(log_[logged++].name, sizeof log_[0].name, "%.63s", slash ? slash + 1 : path);
    }
}

static void
note_fd(char what, int fd)
{
    char link[64], path[PATH_BYTES];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, path, sizeof path - 1);
    path[bytes > 0 ? bytes : 0] = '\0';
    if (strncmp(path, scratch, strlen(scratch)) == 0)
        note(what, path);
}

int
fsync(int fd)
{
    note_fd('s', fd);
    return (int)syscall(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
    note_fd('d', fd);
    return (int)syscall(SYS_fdatasync, fd);
}

// At most 1,000 bytes at once and every other call interrupted: short writes are part of life.
ssize_t
write(int fd, const void *at, size_t bytes)
{
    static int turn;
    if (turn++ % 2) {
        errno = EINTR;
        return -1;
    }
    note_fd('w', fd);
    return syscall(SYS_write, fd, at, bytes < 1000 ? bytes : 1000);
}

int
renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    note('r', to);
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

int
rename(const char *from, const char *to)
{
    note('r', to);
    return (int)syscall(SYS_rename, from, to);
}

// The index of the first or last entry like this; fails when there is none.
static size_t
find(bool last, char what, const char *begins)
{
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < logged && (last || found == SIZE_MAX); i++)
        if (log_[i].what == what && strncmp(log_[i].name, begins, strlen(begins)) == 0)
            found = i;
    if (found == SIZE_MAX)
        fail_msg("no %c of %s", what, begins);
    return found;
}

static void
every_byte_is_synced_before_the_name_and_the_name_before_the_record(void **unused)
{
    (void)unused;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.3000s/run", scratch);
    struct runfolder *run;
    struct checkpoint_found found;
    assert_int_equal(training_open(&run, path), STATUS_OK);
    // The folder and all in it have their names before anything relies on them.
    assert_true(find(true, 'w', "incarnation.tmp") < find(false, 's', "incarnation.tmp"));
    assert_true(find(false, 's', "incarnation.tmp") < find(false, 'r', "incarnation"));
    assert_true(find(false, 'r', "incarnation") < find(true, 's', "run"));
    size_t parent = find(true, 's', strrchr(scratch, '/') + 1);
    assert_true(find(true, 's', "run") < parent);
    assert_true(parent < find(false, 'w', "journal.jsonl"));
    assert_true(find(true, 'w', "journal.jsonl") < find(true, 'd', "journal.jsonl"));
    assert_int_equal(checkpoint_recover(&found, run, false), STATUS_OK);

    logged = 0;
    assert_int_equal(training_save(run, 7, 8, &keep_two, NULL), STATUS_OK);
    static const char *const files[] = {"cfg.json", "sae_weights.safetensors",
                                        "train_state.safetensors", "manifest.json"};
    size_t folder = find(true, 's', "step-000000000007.tmp-1-");
    size_t named = find(true, 'r', "step-000000000007");
    for (size_t i = 0; i < 4; i++) {
        assert_true(find(true, 'w', files[i]) < find(true, 's', files[i]));
        assert_true(find(true, 's', files[i]) < folder);
        if (i > 0)
            assert_true(find(true, 'w', files[i - 1]) < find(false, 'w', files[i]));
    }
    assert_true(folder < named);
    assert_true(named < find(true, 's', "checkpoints"));
    assert_true(find(true, 's', "checkpoints") < find(false, 'w', "journal.jsonl"));
    assert_true(find(true, 'w', "journal.jsonl") < find(true, 'd', "journal.jsonl"));
    assert_int_equal(find(true, 'd', "journal.jsonl"), logged - 1); // then it may be announced

    // Put aside: the name is durable before the record says so. Recovered: so is the name found.
    char weights[PATH_BYTES + 64];
    assert_int_equal(training_save(run, 9, 9, &keep_two, NULL), STATUS_OK);
    snprintf(weights, sizeof weights, "%.3000s/checkpoints/step-000000000009/cfg.json", path);
    flip(weights, 0, 1);
    logged = 0;
    assert_int_equal(checkpoint_recover(&found, run, false), STATUS_OK);
    assert_true(found.found && training_is_whole(found.path, &found.facts));
    assert_true(find(false, 'r', "step-000000000009.bad-hash") < find(false, 's', "checkpoints"));
    assert_true(find(false, 's', "checkpoints") < find(false, 'w', "journal.jsonl"));
    assert_true(find(false, 'd', "journal.jsonl") < find(true, 's', "checkpoints"));

    // Deleted: out of the way under a name that is swept, and that is durable in the end.
    logged = 0;
    assert_int_equal(training_save(run, 10, 10, &keep_two, NULL), STATUS_OK);
    assert_int_equal(training_save(run, 11, 11, &keep_two, NULL), STATUS_OK);
    logged = 0;
    assert_int_equal(checkpoint_retain(run, &keep_two), STATUS_OK);
    assert_true(find(true, 'r', "step-000000000007.tmp-") < find(true, 's', "checkpoints"));
    assert_int_equal(find(true, 's', "checkpoints"), logged - 1);
    runfolder_close(&run);
}

int
main(void)
{
    say_level(SAY_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_synced_before_the_name_and_the_name_before_the_record),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

// Every call to the file system fails in turn, once and for ever, while a run is recovered and
// saved; and every n-th allocation of memory. The old checkpoint loads, or the new one; the process
// ends with a documented code; nothing is left.
//
// label: fault
// timeout: 900
// Invariants: D1 D2 D5 D6 D8 D9 R5
#include "tests/fault/disk.h"

// What may go wrong, and with which codes a process may then leave. 73: no room, 74: the disk, 77:
// no permission; 75 never, for nothing asks to be started again.
static const struct way {
    const char *how, *calls;
    bool ever;
} ways[] = {
    {"ENOMEM", "m", false},
    {"ENOMEM", "m", true},
    {"EIO", "odwstru", false},
    {"EIO", "odwstru", true},
    {"ENOSPC", "odwst", false},
    {"ENOSPC", "odwst", true},
    {"EACCES", "odru", false},
    {"EACCES", "odru", true},
    {"EIO", "i", false},
    {"EIO", "i", true},
    {"EIO", "s", true},
    {"kill", "odwstrui", false},
    {"killed", "odwstrui", false},
};

static char folder[PATH_BYTES], counter[PATH_BYTES];

static uint64_t
counted(void)
{
    uint64_t count = 0;
    int fd = open(counter, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &count, sizeof count) != sizeof count)
        count = 0;
    close(fd);
    return count;
}

// One life with the n-th call failing. false: there was no n-th call.
static bool
fail_at(const struct way *way, uint64_t n)
{
    char root[PATH_BYTES + 32], at[48], how[48], calls[48], count[PATH_BYTES + 32], plan[96];
    snprintf(root, sizeof root, "FAULTIO_ROOT=%s", folder);
    snprintf(count, sizeof count, "FAULTIO_COUNT=%s", counter);
    snprintf(at, sizeof at, "FAULTIO_AT=%llu", (unsigned long long)n);
    snprintf(how, sizeof how, "FAULTIO_HOW=%s", way->how);
    snprintf(calls, sizeof calls, "FAULTIO_CALLS=%s", way->calls);
    snprintf(plan, sizeof plan, "call %llu of %s: %s%s", (unsigned long long)n, way->calls,
             way->how, way->ever ? " for ever" : "");
    const char *const variables[] = {
        root, at, how, calls, count, way->ever ? "FAULTIO_EVER=1" : NULL, NULL};
    disk_lay_out(folder);
    unlink(counter);
    struct disk_life life = disk_live(folder, DISK_FIRST, DISK_LAST, variables);
    bool touched = counted() >= n;
    bool kills = strncmp(way->how, "kill", 4) == 0;
    bool fine = life.code == 0 || life.code == 73 || life.code == 74 || life.code == 77 ||
                (kills && touched && life.code == 128 + SIGKILL);
    if (!fine)
        fail_msg("%s: the process ended with %d:\n%s", plan, life.code, disk_words());
    if (!touched && (life.code != 0 || life.saved != DISK_LAST))
        fail_msg("%s: nothing failed, and yet it ended with %d:\n%s", plan, life.code,
                 disk_words());
    disk_check(folder, life.saved ? life.saved : 2, plan);
    return touched;
}

static void
whatever_call_fails_nothing_announced_is_lost(void **unused)
{
    (void)unused;
    snprintf(folder, sizeof folder, "%.3000s/run", scratch);
    snprintf(counter, sizeof counter, "%.3000s/counter", scratch);
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        uint64_t n = 1;
        // Allocations are many and much alike: one in eleven.
        while (fail_at(&ways[w], n))
            n += ways[w].calls[0] == 'm' ? 11 : 1;
        print_message("%s of %s%s: %llu places\n", ways[w].how, ways[w].calls,
                      ways[w].ever ? ", for ever" : "", (unsigned long long)n - 1);
        assert_true(n > 5); // the library is loaded, and sees what we do
    }
}

// A short write or read, and EINTR, are no failures: the files are the same.
static void
short_and_interrupted_calls_leave_the_same_files(void **unused)
{
    (void)unused;
    static const struct way gentle[] = {
        {"short", "w", true}, {"short", "i", true}, {"EINTR", "w", false}, {"EINTR", "i", false}};
    static const char *const names[] = {"cfg.json", "sae_weights.safetensors",
                                        "train_state.safetensors"};
    char *want[3] = {NULL};
    size_t bytes[3];
    for (size_t w = 0; w < sizeof gentle / sizeof gentle[0]; w++)
        for (uint64_t n = 1; n <= (gentle[w].ever ? 1 : 40); n++) {
            char root[PATH_BYTES + 32], how[48], calls[48], at[48], path[PATH_BYTES];
            snprintf(root, sizeof root, "FAULTIO_ROOT=%s", folder);
            snprintf(how, sizeof how, "FAULTIO_HOW=%s", gentle[w].how);
            snprintf(calls, sizeof calls, "FAULTIO_CALLS=%s", gentle[w].calls);
            snprintf(at, sizeof at, "FAULTIO_AT=%llu", (unsigned long long)n);
            const char *const variables[] = {
                root, how, calls, at, gentle[w].ever ? "FAULTIO_EVER=1" : NULL, NULL};
            disk_lay_out(folder);
            struct disk_life life = disk_live(folder, DISK_FIRST, DISK_LAST, variables);
            if (life.code != 0 || life.saved != DISK_LAST)
                fail_msg("%s of %s at %llu: ended with %d:\n%s", gentle[w].how, gentle[w].calls,
                         (unsigned long long)n, life.code, disk_words());
            for (size_t i = 0; i < 3; i++) {
                size_t got;
                snprintf(path, sizeof path, "%.3000s/checkpoints/step-%012d/%s", folder,
                         100 * DISK_LAST, names[i]);
                char *at_file = file_get(path, &got);
                if (!want[i]) {
                    want[i] = at_file;
                    bytes[i] = got;
                    continue;
                }
                assert_int_equal(got, bytes[i]);
                assert_memory_equal(at_file, want[i], got);
                free(at_file);
            }
        }
    for (size_t i = 0; i < 3; i++)
        free(want[i]);
}

int
main(void)
{
#ifdef __SANITIZE_ADDRESS__
    print_message("a preloaded library and a sanitizer do not mix: see the release build\n");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_call_fails_nothing_announced_is_lost),
        cmocka_unit_test(short_and_interrupted_calls_leave_the_same_files),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

// Appended lines reach the disk by themselves, in time, at a change of files and at the end.
#include "lib/host/syncer.h"

#include "lib/base/tick.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int
scratch_file(void)
{
    char path[] = "/tmp/osae-syncer-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && unlink(path) == 0);
    return fd;
}

static void
what_was_written_is_synced_after_the_interval(void **unused)
{
    (void)unused;
    struct syncer *syncer;
    int fd = scratch_file();
    assert_int_equal(syncer_new(&syncer, 100), STATUS_OK);
    assert_int_equal(syncer_file(syncer, fd), STATUS_OK);
    assert_int_equal(syncer_behind(syncer), 0);
    for (int round = 0; round < 2; round++) {
        int64_t start = tick_ms();
        for (int i = 0; i < 3; i++) {
            assert_int_equal(write(fd, "x\n", 2), 2);
            syncer_wrote(syncer);
        }
        while (syncer_behind(syncer) > 0) {
            assert_true(tick_ms() < start + 10000);
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
        assert_true(tick_ms() - start >= 99); // not at every line
    }
    close(fd);
    syncer_free(&syncer);
    assert_null(syncer);
}

static void
another_file_or_the_end_does_not_wait_for_the_interval(void **unused)
{
    (void)unused;
    struct syncer *syncer;
    int first = scratch_file(), second = scratch_file();
    int64_t start = tick_ms();
    assert_int_equal(syncer_new(&syncer, 3600000), STATUS_OK);
    assert_int_equal(syncer_file(syncer, first), STATUS_OK);
    syncer_wrote(syncer);
    assert_int_equal(syncer_behind(syncer), 1);
    close(first); // it has its own
    assert_int_equal(syncer_file(syncer, second), STATUS_OK);
    assert_int_equal(syncer_behind(syncer), 0);
    syncer_wrote(syncer);
    syncer_free(&syncer);
    close(second);
    assert_true(tick_ms() < start + 60000);
    assert_int_equal(syncer_new(&syncer, 1), STATUS_OK);
    assert_int_not_equal(syncer_file(syncer, second), STATUS_OK); // closed
    syncer_free(&syncer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_synced_after_the_interval),
        cmocka_unit_test(another_file_or_the_end_does_not_wait_for_the_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

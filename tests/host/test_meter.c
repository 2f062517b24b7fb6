// Metrics on disk: what was written is read, torn lines are skipped, NaN is null.
#include "lib/host/meter.h"

#include "lib/base/file.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

struct seen {
    int lines, nans;
    uint64_t last;
    double sum;
};

static void
see(void *to, double t, uint64_t step, const struct reading *readings, size_t count)
{
    struct seen *seen = to;
    assert_true(t > 1e9);
    seen->lines++;
    seen->last = step;
    for (size_t i = 0; i < count; i++)
        if (isfinite(readings[i].value))
            seen->sum += readings[i].value;
        else
            seen->nans++;
}

static void
lines_survive_segments_and_a_torn_end(void **unused)
{
    (void)unused;
    char folder[] = "/tmp/osae-meter-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct meter *meter;
    assert_int_equal(meter_open(&meter, folder, 200, 1), STATUS_OK); // a few lines a segment
    double sum = 0;
    for (uint64_t step = 0; step < 50; step++) {
        struct reading readings[] = {{"loss", 0.1 * (double)step}, {"fvu", (double)NAN}};
        sum += 0.1 * (double)step;
        assert_int_equal(meter_write(meter, step, readings, 2), STATUS_OK);
    }
    meter_close(&meter);
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, folder, "m-000000000900.jsonl"), STATUS_OK);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(file_write_all(fd, path, "{\"t\":1,\"st", 10), STATUS_OK);
    close(fd);
    struct seen seen = {0};
    assert_int_equal(meter_read(folder, see, &seen), STATUS_OK);
    assert_int_equal(seen.lines, 50);
    assert_int_equal(seen.nans, 50);
    assert_int_equal(seen.last, 49);
    assert_true(fabs(seen.sum - sum) < 1e-6);
    assert_int_equal(meter_read("/nowhere/at/all", see, &seen), STATUS_MISSING);
    assert_int_equal(path_remove(folder), STATUS_OK);
}

// A disk that is full in the middle of a line and has room again: only that line is lost.
static void
a_line_that_was_cut_takes_no_other_with_it(void **unused)
{
    (void)unused;
    char folder[] = "/tmp/osae-meter-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct meter *meter;
    struct reading readings[] = {{"loss", 1}};
    struct rlimit before, full;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(meter_open(&meter, folder, 1 << 20, 0), STATUS_OK);
    assert_int_equal(meter_write(meter, 1, readings, 1), STATUS_OK);
    full = before;
    full.rlim_cur = 60; // somewhere in the second line
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    assert_int_equal(meter_write(meter, 2, readings, 1), STATUS_IO);
    assert_int_equal(meter_write(meter, 3, readings, 1), STATUS_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(meter_write(meter, 4, readings, 1), STATUS_OK);
    meter_close(&meter);
    struct seen seen = {0};
    assert_int_equal(meter_read(folder, see, &seen), STATUS_OK);
    assert_int_equal(seen.lines, 2);
    assert_int_equal(seen.last, 4);
    assert_int_equal(path_remove(folder), STATUS_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_survive_segments_and_a_torn_end),
        cmocka_unit_test(a_line_that_was_cut_takes_no_other_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

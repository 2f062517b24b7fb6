// Metrics on disk: what was written is read, torn lines are skipped, NaN is null.
#include "lib/host/meter.h"

#include "lib/base/file.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines_survive_segments_and_a_torn_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

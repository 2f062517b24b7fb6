// The limit of descriptors is raised to what the system allows, and what is said is what holds.
#include "lib/host/descriptors.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void
the_limit_is_raised_and_holds(void **unused)
{
    (void)unused;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_max = limit.rlim_max < 200 ? limit.rlim_max : 200;
    limit.rlim_cur = 40;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(descriptors_raise(), limit.rlim_max);
    int first = -1, last = -1;
    for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0; last = fd)
        first = first < 0 ? fd : first;
    for (int fd = first; fd <= last; fd++)
        close(fd);
    assert_int_equal(last, (int)limit.rlim_max - 1);
    assert_int_equal(descriptors_raise(), limit.rlim_max); // there is no more
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_limit_is_raised_and_holds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

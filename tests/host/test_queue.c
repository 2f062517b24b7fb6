// Lines between threads: bounded, in order, with a descriptor that tells the truth.
#include "lib/host/queue.h"

#include "lib/base/tick.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static bool
readable(const struct queue *queue)
{
    struct pollfd fd = {.fd = queue_fd(queue), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void
it_is_bounded_and_in_order(void **unused)
{
    (void)unused;
    struct queue *queue;
    assert_int_equal(queue_new(&queue, sizeof(int), 3), STATUS_OK);
    int got = 0;
    assert_false(readable(queue));
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++)
            assert_true(queue_put(queue, &i));
        assert_false(queue_put(queue, &got));
        for (int i = 0; i < 3; i++) {
            assert_true(readable(queue));
            assert_true(queue_take(queue, &got));
            assert_int_equal(got, i);
        }
        assert_false(queue_take(queue, &got));
        assert_false(readable(queue));
    }
    int64_t before = tick_ms();
    assert_false(queue_take_wait(queue, &got, before + 30));
    assert_true(tick_ms() >= before + 29);
    queue_close(queue);
    assert_true(readable(queue));
    assert_false(queue_put(queue, &got));
    assert_false(queue_take_wait(queue, &got, tick_ms() + 100000)); // at once
    queue_free(&queue);
}

enum { MANY = 20000 };

static void *
put_many(void *to)
{
    for (int i = 0; i < MANY;) {
        if (queue_put(to, &i))
            i++;
        else
            sched_yield();
    }
    return NULL;
}

static void
nothing_is_lost_between_threads(void **unused)
{
    (void)unused;
    struct queue *queue;
    assert_int_equal(queue_new(&queue, sizeof(int), 7), STATUS_OK);
    pthread_t putter;
    assert_int_equal(pthread_create(&putter, NULL, put_many, queue), 0);
    for (int i = 0; i < MANY; i++) {
        int got = -1;
        assert_true(queue_take_wait(queue, &got, tick_ms() + 10000));
        assert_int_equal(got, i);
    }
    pthread_join(putter, NULL);
    queue_free(&queue);
}

static long
resident_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void
a_line_that_is_emptied_again_and_again_stays_small(void **unused)
{
    (void)unused;
    enum { BIG = 64 * 1024, ROOM = 512 }; // 32 MiB when full
    static unsigned char item[BIG];
    struct queue *queue;
    assert_int_equal(queue_new(&queue, BIG, ROOM), STATUS_OK);
    long before = resident_kib();
    for (int i = 0; i < 2 * ROOM; i++) {
        assert_true(queue_put(queue, item));
        assert_true(queue_put(queue, item));
        assert_true(queue_take(queue, item));
        assert_true(queue_take(queue, item));
    }
    assert_in_range(resident_kib() - before, 0, 4096);
    for (size_t i = 0; i < ROOM; i++)
        assert_true(queue_put(queue, item));
    assert_in_range(resident_kib() - before, BIG / 1024 * ROOM - 4096, LONG_MAX);
    queue_free(&queue);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_bounded_and_in_order),
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(a_line_that_is_emptied_again_and_again_stays_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

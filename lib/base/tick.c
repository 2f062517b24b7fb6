#include "lib/base/tick.h"

#include <time.h>

static struct timespec
now(clockid_t clock)
{
    struct timespec at = {0, 0};
    clock_gettime(clock, &at);
    return at;
}

int64_t
tick_ms(void)
{
    struct timespec at = now(CLOCK_BOOTTIME);
    return (int64_t)at.tv_sec * 1000 + at.tv_nsec / 1000000;
}

double
tick_seconds(void)
{
    struct timespec at = now(CLOCK_BOOTTIME);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

uint64_t
tick_label_ns(void)
{
    struct timespec at = now(CLOCK_REALTIME);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

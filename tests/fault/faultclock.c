// faultclock: preloaded, shifts the clocks of a process while it runs. $FAULTCLOCK is a file of two
// 64-bit numbers, nanoseconds: added to CLOCK_REALTIME (and gettimeofday, time), and to
// CLOCK_BOOTTIME, as after a suspend. It is mapped: who writes into it moves the clocks of all who
// have it, at once.
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

static const volatile int64_t none[2], *shift = none;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
take_file(void)
{
    const char *path = getenv("FAULTCLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED)
        shift = at;
    if (fd >= 0)
        close(fd);
}

static int
shifted(clockid_t clock, struct timespec *out)
{
    pthread_once(&once, take_file);
    int code = (int)syscall(SYS_clock_gettime, clock, out);
    int64_t by = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? shift[0]
                 : clock == CLOCK_BOOTTIME                                 ? shift[1]
                                                                           : 0;
    int64_t ns = (int64_t)out->tv_sec * 1000000000 + out->tv_nsec + by;
    out->tv_sec = ns / 1000000000;
    out->tv_nsec = ns % 1000000000;
    return code;
}

PUBLIC int
clock_gettime(clockid_t clock, struct timespec *out)
{
    return shifted(clock, out);
}

PUBLIC int
gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec at;
    (void)zone;
    int code = shifted(CLOCK_REALTIME, &at);
    out->tv_sec = at.tv_sec;
    out->tv_usec = at.tv_nsec / 1000;
    return code;
}

PUBLIC time_t
time(time_t *out)
{
    struct timespec at;
    shifted(CLOCK_REALTIME, &at);
    if (out)
        *out = at.tv_sec;
    return at.tv_sec;
}

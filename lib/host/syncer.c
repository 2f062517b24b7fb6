#include "lib/host/syncer.h"

#include "lib/base/say.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct syncer {
    pthread_t thread;
    pthread_mutex_t lock;  // of what follows
    pthread_cond_t change; // of wrote, closed; and of `busy` falling
    int fd;                // -1: none yet
    uint64_t wrote, synced;
    bool closed, busy; // busy: somebody is inside fdatasync with fd
    bool warned;
    uint32_t every_ms;
};

// With the lock held, which is let go meanwhile. Failing is said once: the lines are still in the
// system's memory, and training does not depend on them.
static void
sync_now(struct syncer *s)
{
    while (s->busy)
        pthread_cond_wait(&s->change, &s->lock);
    uint64_t upto = s->wrote;
    if (s->fd < 0 || upto == s->synced)
        return;
    s->busy = true;
    pthread_mutex_unlock(&s->lock);
    bool failed = fdatasync(s->fd) != 0;
    int why = errno;
    pthread_mutex_lock(&s->lock);
    s->busy = false;
    s->synced = upto;
    if (failed && !s->warned)
        say(SAY_WARN, "metrics: cannot sync: %s", strerror(why));
    s->warned |= failed;
    pthread_cond_broadcast(&s->change);
}

static struct timespec
later(uint32_t ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

static void *
work(void *from)
{
    struct syncer *s = from;
    pthread_mutex_lock(&s->lock);
    while (!s->closed) {
        while (!s->closed && s->wrote == s->synced)
            pthread_cond_wait(&s->change, &s->lock);
        struct timespec due = later(s->every_ms);
        while (!s->closed && pthread_cond_timedwait(&s->change, &s->lock, &due) != ETIMEDOUT)
            ;
        sync_now(s);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

enum status
syncer_new(struct syncer **out, uint32_t every_ms)
{
    *out = NULL;
    struct syncer *s = calloc(1, sizeof *s);
    if (!s)
        return FAIL(CREATE, "no memory for a thread that syncs");
    s->fd = -1;
    s->every_ms = every_ms;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->change, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&s->thread, NULL, work, s) != 0) {
        pthread_cond_destroy(&s->change);
        pthread_mutex_destroy(&s->lock);
        free(s);
        return FAIL(CREATE, "cannot start the thread that syncs");
    }
    *out = s;
    return STATUS_OK;
}

void
syncer_free(struct syncer **syncer)
{
    struct syncer *s = *syncer;
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_mutex_lock(&s->lock);
    sync_now(s); // what came while the thread was in its last
    pthread_mutex_unlock(&s->lock);
    if (s->fd >= 0)
        close(s->fd);
    pthread_cond_destroy(&s->change);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *syncer = NULL;
}

enum status
syncer_file(struct syncer *s, int fd)
{
    int ours = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (ours < 0)
        return FAIL(CREATE, "no descriptor for the thread that syncs: %s", strerror(errno));
    pthread_mutex_lock(&s->lock);
    sync_now(s);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = ours;
    pthread_mutex_unlock(&s->lock);
    return STATUS_OK;
}

void
syncer_wrote(struct syncer *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->wrote++ == s->synced) // it waits for the first only
        pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
}

uint64_t
syncer_behind(struct syncer *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t behind = s->wrote - s->synced;
    pthread_mutex_unlock(&s->lock);
    return behind;
}

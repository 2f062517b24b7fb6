#include "lib/host/queue.h"

#include "lib/base/tick.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

// A mutex, not a lock-free ring: a few messages per step pass here, and a mutex is seen to be
// right.
struct queue {
    pthread_mutex_t lock;
    pthread_cond_t some;
    size_t item_bytes, most, count, first;
    bool closed;
    int fd; // an eventfd, nonzero iff count > 0 or closed
    unsigned char items[];
};

enum status
queue_new(struct queue **out, size_t item_bytes, size_t most)
{
    *out = NULL;
    struct queue *queue = calloc(1, sizeof *queue + item_bytes * most);
    if (!queue)
        return FAIL(CREATE, "no memory for a queue of %zu x %zu bytes", most, item_bytes);
    queue->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->fd < 0) {
        free(queue);
        return FAIL(CREATE, "cannot make an eventfd: %s", strerror(errno));
    }
    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->some, &attributes);
    pthread_condattr_destroy(&attributes);
    queue->item_bytes = item_bytes;
    queue->most = most;
    *out = queue;
    return STATUS_OK;
}

void
queue_free(struct queue **queue)
{
    if (*queue) {
        close((*queue)->fd);
        pthread_cond_destroy(&(*queue)->some);
        pthread_mutex_destroy(&(*queue)->lock);
        free(*queue);
    }
    *queue = NULL;
}

// An eventfd holds 64 bits and is written only when it is zero: neither call can fail or block.
static void
raise_fd(struct queue *queue)
{
    uint64_t one = 1;
    if (write(queue->fd, &one, sizeof one) < 0)
        return;
}

static void
lower_fd(struct queue *queue)
{
    uint64_t held;
    if (read(queue->fd, &held, sizeof held) < 0)
        return;
}

bool
queue_put(struct queue *queue, const void *item)
{
    pthread_mutex_lock(&queue->lock);
    bool room = queue->count < queue->most && !queue->closed;
    if (room) {
        size_t at = (queue->first + queue->count) % queue->most;
        memcpy(queue->items + at * queue->item_bytes, item, queue->item_bytes);
        if (queue->count++ == 0)
            raise_fd(queue);
        pthread_cond_signal(&queue->some);
    }
    pthread_mutex_unlock(&queue->lock);
    return room;
}

static bool
take_locked(struct queue *queue, void *item)
{
    if (queue->count == 0)
        return false;
    memcpy(item, queue->items + queue->first * queue->item_bytes, queue->item_bytes);
    queue->first = (queue->first + 1) % queue->most;
    if (--queue->count == 0) {
        // A line that is emptied stays where its memory is warm: going round would in time touch
        // every page of one that is large for bad days only (8 MiB of a trainer's news).
        queue->first = 0;
        if (!queue->closed)
            lower_fd(queue);
    }
    return true;
}

bool
queue_take(struct queue *queue, void *item)
{
    pthread_mutex_lock(&queue->lock);
    bool taken = take_locked(queue, item);
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

bool
queue_take_wait(struct queue *queue, void *item, int64_t until_ms)
{
    int64_t left = until_ms - tick_ms();
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (left > 0) {
        int64_t ns = until.tv_nsec + left % 1000 * 1000000;
        until.tv_sec += (time_t)(left / 1000 + ns / 1000000000);
        until.tv_nsec = (long)(ns % 1000000000);
    }
    pthread_mutex_lock(&queue->lock);
    bool taken;
    while (!(taken = take_locked(queue, item)) && !queue->closed)
        if (pthread_cond_timedwait(&queue->some, &queue->lock, &until) == ETIMEDOUT)
            break;
    if (!taken)
        taken = take_locked(queue, item);
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

void
queue_close(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    if (!queue->closed) {
        queue->closed = true;
        raise_fd(queue);
        pthread_cond_broadcast(&queue->some);
    }
    pthread_mutex_unlock(&queue->lock);
}

bool
queue_closed(const struct queue *queue)
{
    struct queue *self = (struct queue *)(uintptr_t)queue;
    pthread_mutex_lock(&self->lock);
    bool closed = queue->closed;
    pthread_mutex_unlock(&self->lock);
    return closed;
}

int
queue_fd(const struct queue *queue)
{
    return queue->fd;
}

// queue: a bounded first-in first-out line of fixed-size items between two threads of one process,
// with a descriptor to sleep on. Any number of threads may put and take. Full and empty are
// answers, not waits; queue_take_wait is for threads that have nothing else to do.
#ifndef LIB_HOST_QUEUE_H
#define LIB_HOST_QUEUE_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue;

CHECKED enum status queue_new(struct queue **out, size_t item_bytes, size_t most);
void queue_free(struct queue **queue);

// false: full. The item is copied in.
bool queue_put(struct queue *queue, const void *item);
// false: empty. Readable on queue_fd as long as the line is not empty.
bool queue_take(struct queue *queue, void *item);
// Waits until there is an item, the queue is closed and empty, or the clock says `until`; false for
// the latter two.
bool queue_take_wait(struct queue *queue, void *item, int64_t until_ms);
// No more items: wakes all who wait.
void queue_close(struct queue *queue);
bool queue_closed(const struct queue *queue);
int queue_fd(const struct queue *queue);

#endif

#include "trainer/saver.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/host/queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum task { TASK_SAVE, TASK_RETAIN };

struct saver {
    struct keeper *keeper;
    struct queue *tasks, *news;
    pthread_mutex_t lock;
    size_t pin_count, pins_most; // under the lock
    uint64_t *pins, *pins_copy;  // pins under the lock, the copy of the thread
    atomic_uint pending;         // begun and not yet told
    pthread_t thread;
};

static void
save(struct saver *s)
{
    struct saved saved = {.why = {.code = STATUS_OK}};
    double began = tick_seconds();
    enum status status = keeper_persist(s->keeper, &saved.kept);
    if (status != STATUS_OK) {
        status_note_take(&saved.why, status);
        keeper_forget(s->keeper); // a later state is worth more than another try of this one
    }
    saved.seconds = tick_seconds() - began;
    bool told = queue_put(s->news, &saved);
    assert(told); // read after each save, and one save at a time
}

static void
retain(struct saver *s)
{
    pthread_mutex_lock(&s->lock);
    size_t count = s->pin_count;
    memcpy(s->pins_copy, s->pins, count * sizeof *s->pins);
    pthread_mutex_unlock(&s->lock);
    if (keeper_retain(s->keeper, s->pins_copy, count) != STATUS_OK)
        say(SAY_WARN, "old checkpoints could not be deleted: %s", status_words());
}

static void *
work(void *from)
{
    struct saver *s = from;
    enum task task;
    while (queue_take_wait(s->tasks, &task, INT64_MAX / 2))
        if (task == TASK_SAVE)
            save(s);
        else
            retain(s);
    return NULL;
}

enum status
saver_new(struct saver **out, struct keeper *keeper, size_t pins_most)
{
    *out = NULL;
    struct saver *s = calloc(1, sizeof *s);
    if (!s)
        return FAIL(CREATE, "no memory for the persist thread");
    s->keeper = keeper;
    s->pins_most = pins_most;
    pthread_mutex_init(&s->lock, NULL);
    enum status status = STATUS_OK;
    s->pins = calloc(2 * pins_most + 1, sizeof *s->pins);
    s->pins_copy = s->pins + pins_most;
    if (!s->pins)
        status = FAIL(CREATE, "no memory for the persist thread");
    if (status == STATUS_OK)
        status = queue_new(&s->tasks, sizeof(enum task), 16);
    if (status == STATUS_OK)
        status = queue_new(&s->news, sizeof(struct saved), 16);
    if (status == STATUS_OK && pthread_create(&s->thread, NULL, work, s) != 0)
        status = FAIL(CREATE, "cannot start the persist thread");
    if (status != STATUS_OK) {
        queue_free(&s->tasks);
        queue_free(&s->news);
        free(s->pins);
        free(s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

void
saver_free(struct saver **saver)
{
    struct saver *s = *saver;
    if (!s)
        return;
    queue_close(s->tasks); // what was put before is still taken
    pthread_join(s->thread, NULL);
    queue_free(&s->tasks);
    queue_free(&s->news);
    pthread_mutex_destroy(&s->lock);
    free(s->pins);
    free(s);
    *saver = NULL;
}

void
saver_begin(struct saver *saver)
{
    enum task task = TASK_SAVE;
    atomic_fetch_add(&saver->pending, 1);
    bool taken = queue_put(saver->tasks, &task);
    assert(taken);
}

void
saver_retain(struct saver *saver, const uint64_t *pins, size_t count)
{
    assert(count <= saver->pins_most);
    pthread_mutex_lock(&saver->lock);
    memcpy(saver->pins, pins, count * sizeof *pins);
    saver->pin_count = count;
    pthread_mutex_unlock(&saver->lock);
    enum task task = TASK_RETAIN;
    (void)queue_put(saver->tasks, &task); // full: as many wait already, with the latest list
}

bool
saver_news(struct saver *saver, struct saved *out)
{
    bool taken = queue_take(saver->news, out);
    if (taken)
        atomic_fetch_sub(&saver->pending, 1);
    return taken;
}

bool
saver_busy(const struct saver *saver)
{
    return atomic_load(&saver->pending) > 0;
}

int
saver_fd(const struct saver *saver)
{
    return queue_fd(saver->news);
}

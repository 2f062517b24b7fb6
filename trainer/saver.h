// saver: the trainer's persist thread. It makes one snapshot at a time durable while training goes
// on, and says how that ended. Deleting old checkpoints is its work too, so one thread writes
// there.
#ifndef TRAINER_SAVER_H
#define TRAINER_SAVER_H

#include "trainer/keeper.h"

struct saver;

// The keeper is borrowed. At most `pins_most` steps may be pinned (best, unevaluated).
CHECKED enum status saver_new(struct saver **out, struct keeper *keeper, size_t pins_most);
// Finishes what it is at, joins the thread.
void saver_free(struct saver **saver);

// The arena holds a snapshot: write it. Any thread; the keeper must be busy.
void saver_begin(struct saver *saver);
// Retain, except these steps. Any thread; the latest list counts.
void saver_retain(struct saver *saver, const uint64_t *pins, size_t count);

// Is a snapshot being written, or news of one not yet read?
bool saver_busy(const struct saver *saver);

struct saved {
    struct kept kept;       // when why.code is OK
    struct status_note why; // what failed; the snapshot is forgotten
    double seconds;
};
bool saver_news(struct saver *saver, struct saved *out);
int saver_fd(const struct saver *saver);

#endif

// changes: settings that were changed while a run goes (`osae set`), by the step from which they
// hold. A change is durable in the journal before it has any effect, and a run that goes on from
// an earlier checkpoint takes it up again at the same step: so its bits are those of a run that
// never stopped.
//
//     {"type":"set","idem":"<32 hex>","k":"optimiser.lr","v":1e-5,"at":1200,...}
//
// Of one key at one step the last one said holds. What was said before the run was begun anew
// (--from-scratch) does not count. The list is the compute thread's once that has started.
#ifndef TRAINER_CHANGES_H
#define TRAINER_CHANGES_H

#include "lib/base/bytes.h"
#include "lib/store/journal.h"

// The settings that may be changed.
enum hot { HOT_LR, HOT_LAMBDA_S, HOT_LAMBDA_O, HOT_KEYS };
extern const char *const hot_names[]; // "optimiser.lr"; NULL-terminated

enum { CHANGES_MOST = 4096 };
#define CHANGE_NEXT UINT64_MAX // `at`: with the next step, whichever that is

struct change {
    struct hash128 id; // of the command, however often it is repeated
    enum hot key;
    double value;
    uint64_t at; // the first step (from 0) with it
};

struct changes;

// What the journal, which is borrowed, knows. CONFIG: a key or value of another version.
CHECKED enum status changes_new(struct changes **out, struct journal *journal);
void changes_free(struct changes **changes);

// CONFIG, with the list of those that can be, if the key cannot be changed; or out of its range.
CHECKED enum status change_check(enum hot *out, const char *key, double value);
const struct change *changes_find(const struct changes *changes, struct hash128 id); // or NULL
// Durable, and in the list, or neither: IO, CREATE; CONFIG beyond CHANGES_MOST.
CHECKED enum status changes_add(struct changes *changes, const struct change *change);

// The first step after this one with another change; UINT64_MAX: none.
uint64_t changes_after(const struct changes *changes, uint64_t step);
// What holds at a step, over what holds without changes. True: something was changed by then.
bool changes_at(double values[HOT_KEYS], const struct changes *changes, uint64_t step);

#endif

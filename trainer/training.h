// training: the trainer's compute thread. Batches in order, one step of lib/sae each, the chain
// over what was applied, a snapshot when one is due. It reads like the paper's algorithm box:
//
//   wait for the stream -> build the SAE -> restore or start -> per batch: step, chain, snapshot
//
// It knows no sockets: batches come from proto/datafeed, and what the communication thread wants to
// know or asks for passes through the queues below.
#ifndef TRAINER_TRAINING_H
#define TRAINER_TRAINING_H

#include "config/config.h"
#include "proto/datafeed.h"
#include "trainer/changes.h"
#include "trainer/keeper.h"
#include "trainer/saver.h"

struct training_settings {
    const struct config *config;
    const struct kern *kern;
    struct runfolder *run;
    const struct checkpoint_found *found; // where to go on; !found->found: from the start
    struct datafeed *feed;
    struct changes *changes; // of settings, so far
    bool accept_change;      // go on although the trajectory differs
};

// What it tells, in order.
enum told_kind {
    TOLD_STARTED, // the stream is known, the state is there: place, stream, pins
    TOLD_STEP,    // one step is done: log, place
    TOLD_STATE,   // paused, or running again; after each training_ask_pause
    TOLD_CHANGED, // a setting, after training_ask_change: the change as it is, or why not
    TOLD_ENDED,   // all steps done, or asked to stop; the last snapshot is with the saver
    TOLD_FAILED,  // why; nothing more will come
};
struct told {
    enum told_kind kind;
    bool paused;
    uint64_t asked; // STATE: after which training_ask_pause; CHANGED: which training_ask_change
    struct change change;
    struct wire_stream stream;
    struct place place;
    struct step_log log;
    double step_seconds, wait_seconds; // of this step: computing, and waiting for its batch
    struct hash128 trajectory;
    struct status_note why;
};

struct training;

// Starts the thread. All is borrowed and must outlive it.
CHECKED enum status training_new(struct training **out, const struct training_settings *set);
// Joins the thread: training_ask_stop and leave the feed first.
void training_free(struct training **training);

// Between two steps: a checkpoint; pause; resume; stop (with a last checkpoint, or at once).
void training_ask_checkpoint(struct training *training);
// The number of this asking: a TOLD_STATE with it, or a later one, comes when it took effect.
uint64_t training_ask_pause(struct training *training, bool paused);
void training_ask_stop(struct training *training, bool save);
// Changes a setting; the same `id` again is the same change. The number of this asking, for its
// TOLD_CHANGED; 0: too many are asked at one time.
uint64_t training_ask_change(struct training *training, const struct change *change);
bool training_told(struct training *training, struct told *out);
int training_fd(const struct training *training);
// What the persist thread did; NULL until TOLD_STARTED.
struct saver *training_saver(struct training *training);

#endif

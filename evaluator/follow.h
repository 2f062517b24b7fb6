// follow: the evaluator's work thread. It asks the trainers which checkpoints have no score, reads
// each where it lies, scores it on held-out text and hands the result back. The trainers never wait
// for it, and it never touches their process.
//
//   CKLIST -> newest unscored -> verify folder -> [result file of (mh, spec) there? read it :
//   score, write it] -> RESULT, until the trainer has it
//
// 1. A checkpoint is scored only if its manifest and every file in it is sound and the manifest's
//    hash is the one the trainer lists.
// 2. A result is a file before it is said. Doing one twice is harmless: results are keyed by
//    (mh, spec).
// 3. What cannot be scored is tried `eval.max_attempts` times, then recorded as failed, with the
//    reason.
#ifndef EVALUATOR_FOLLOW_H
#define EVALUATOR_FOLLOW_H

#include "config/config.h"

struct follow;

enum follow_state { FOLLOW_PREPARING, FOLLOW_IDLE, FOLLOW_EVALUATING, FOLLOW_ENDED };
struct follow_view {
    enum follow_state state;
    char phase[64];        // what is being done
    double share;          // of it, 0 .. 1; below 0: unknown
    uint64_t step;         // of the checkpoint in work, or the last one
    uint64_t done, failed; // in this life
    char last[128];        // "run/2441-1: CE score 0.951, L0 71.3"
    double seconds;        // the last one took
};

// Starts the thread. The config is borrowed. `wake_fd` (an eventfd) is written when the view's
// state changes.
CHECKED enum status follow_new(struct follow **out, const struct config *config, int wake_fd);
void follow_look(struct follow *follow, struct follow_view *view);
// Asks it to leave between two pieces of work (a second or so), joins it, and yields how it ended.
CHECKED enum status follow_free(struct follow **follow);

#endif

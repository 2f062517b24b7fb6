// follow: the evaluator's work thread. It asks any number of trainers which checkpoints have no
// score, gets hold of each (upstream.h), makes the evaluations that are due (evaluation.h) and
// hands the results back. The trainers never wait for it, and it never touches their process.
//
// What comes next is agenda.h's to say; here it is done.
//
// 1. A checkpoint is scored only if its manifest's hash is the one the trainer lists, and the files
//    that are read have the manifest's hashes.
// 2. A result is a file before it is said. Doing one twice is harmless: results are keyed by
//    (mh, spec).
// 3. What cannot be scored is tried `eval.max_attempts` times, then recorded as failed, with the
//    reason: a file (lib/store/failure.h), an event of the trainer, a line of `osae report`. So is
//    what killed its evaluators `eval.max_attempts` times: attempts are begun on disk.
// 4. Several evaluators share the work by claims; one that dies loses its claim, by time, or at
//    once to the one that is started in its place.
// 5. A trainer that is gone leaves its folder: what is in it and seen here is scored all the same.
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
    char last[128];        // "run/2441-1: CE score 0.951, L0 71.3", "run/20-1: given up: ..."
    double seconds;        // the last one took
};

// Starts the thread. The config is borrowed. `wake_fd` (an eventfd) is written when the view's
// state changes.
CHECKED enum status follow_new(struct follow **out, const struct config *config, int wake_fd);
void follow_look(struct follow *follow, struct follow_view *view);
// Asks it to leave between two pieces of work (a second or so), joins it, and yields how it ended.
CHECKED enum status follow_free(struct follow **follow);

#endif

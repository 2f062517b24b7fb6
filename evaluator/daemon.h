// daemon: the evaluator process. One thread answers on ctl and pub, one follows the trainers
// (follow.h) at a lower priority than they have.
//
//   preparing    held-out text -> windows, the whole model is loaded
//   idle         nothing is unscored; announcements and a list now and then tell of more
//   evaluating   one checkpoint; the share done is published
#ifndef EVALUATOR_DAEMON_H
#define EVALUATOR_DAEMON_H

#include "config/config.h"

// Runs until it is told to stop (OK), or fails.
CHECKED enum status evaluator_run(const struct config *config);

#endif

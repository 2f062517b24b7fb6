// daemon: the trainer process. One thread owns the sockets (data, ctl, pub), one computes
// (training.h), one writes checkpoints (saver.h).
//
//   recovering -> waiting_producer -> running <-> paused -> finished | stopping
//
//   finished   all steps are done and durable; it stays so that evaluators can ask, until it is
//              told to stop (trainer.when_done: stay) or leaves by itself (exit)
//
// 1. A checkpoint is announced, and batches are declared durable, only after the persist thread has
//    said so.
// 2. SIGTERM and SIGINT finish the step, save and leave, in every state; the second leaves at once.
#ifndef TRAINER_DAEMON_H
#define TRAINER_DAEMON_H

#include "config/config.h"

struct trainer_options {
    bool from_scratch, salvage, accept_change;
};

CHECKED enum status trainer_run(const struct config *config, const struct trainer_options *options);

#endif

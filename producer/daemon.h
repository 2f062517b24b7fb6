// daemon: the producer process. One thread owns the sockets (data, ctl, pub), one computes.
//
//   init       text -> tokens, model loaded; ctl and pub answer already
//   running    batches are made when somebody wants them, and sent behind credit
//   paused     nothing new is made
//   stopping   everybody is told; the process leaves within one forward pass
#ifndef PRODUCER_DAEMON_H
#define PRODUCER_DAEMON_H

#include "config/config.h"

// Runs until it is told to stop (OK), or fails.
CHECKED enum status producer_run(const struct config *config);

#endif

// loop: what a daemon's communication thread sleeps on: file descriptors, signals and the clock. It
// calls nothing back; each turn of the daemon asks all its parts what to do, then sleeps here.
//
//   SIGTERM, SIGINT   first: stop in good order; second: leave at once (within LOOP_HURRY_S)
//   SIGUSR1           checkpoint now         SIGHUP, SIGPIPE   ignored
//
// ZeroMQ's descriptor (ZMQ_FD) is edge-triggered: a socket must have been read until it had nothing
// more, after the last send too, before the daemon sleeps.
#ifndef LIB_HOST_LOOP_H
#define LIB_HOST_LOOP_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { LOOP_FDS = 64, LOOP_HURRY_S = 2 };
enum loop_stop { LOOP_GOES_ON, LOOP_STOP, LOOP_LEAVE };

struct loop;

// Blocks the signals for this thread and all it will start: first thing in main, before any thread
// or ZeroMQ context.
CHECKED enum status loop_new(struct loop **out);
void loop_free(struct loop **loop);

// At most LOOP_FDS, borrowed; watched for reading.
void loop_add(struct loop *loop, int fd);

// Sleeps until a descriptor is readable, a signal came, or the clock (tick_ms) says `until`.
void loop_wait(struct loop *loop, int64_t until);

// How many SIGTERM and SIGINT came, or loop_ask_stop was called.
enum loop_stop loop_stopping(const struct loop *loop);
void loop_ask_stop(struct loop *loop);
// The process does its last work, and nobody reads signals any more: from now on a SIGTERM or
// SIGINT that is not the first, or so many seconds, end it at once with exit code 75. Everything
// durable is on disk by then, and what is half done is swept up at the next start. NULL is fine.
void loop_leave(const struct loop *loop, unsigned seconds);
// SIGUSR1 since the last call.
bool loop_checkpoint_asked(struct loop *loop);

#endif

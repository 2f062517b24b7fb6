// daemon_inside: the state of a trainer's process, and how it comes to be. Only daemon.c, which
// runs it, opening.c and orders.c include this.
#ifndef TRAINER_DAEMON_INSIDE_H
#define TRAINER_DAEMON_INSIDE_H

#include "lib/host/loop.h"
#include "lib/host/meter.h"
#include "proto/control.h"
#include "proto/publish.h"
#include "trainer/clerk.h"
#include "trainer/daemon.h"
#include "trainer/training.h"

// A command that is answered when it has taken effect.
enum wait_for { WAIT_SAVED, WAIT_PAUSED, WAIT_CHANGED };
struct waiting {
    uint32_t ticket;
    enum wait_for what;
    uint64_t from; // SAVED: a checkpoint of this step or a later one; else: this asking
};

struct trainer {
    const struct config *config;
    const struct settings *set;
    const struct trainer_options *options;
    struct loop *loop;
    struct runfolder *run;
    struct checkpoint_found found;
    struct board *board;
    struct changes *changes; // once training has begun, its own
    struct clerk *clerk;
    struct channel *channel;
    struct control *control;
    struct publisher *publisher;
    struct datafeed *feed;
    struct training *training;
    struct meter *meter;
    struct msg_hello me;
    const char *state;
    bool saver_watched, started, ended, failed;
    bool gave_up; // on its producers
    bool hurried; // leaves without waiting for the disk
    bool held;    // paused by us, because nothing could be saved for too long
    enum status failure;
    struct status_note why;
    int64_t second_at, started_at, saved_at, retry_at;
    unsigned save_failures;
    // where the run is, as last told
    struct place place;
    struct wire_stream stream;
    struct step_log log;
    bool has_log;
    int64_t met_at;                    // when a producer was last there
    double step_seconds, wait_seconds; // summed over the steps of this life
    uint64_t steps_here;
    bool pause_asked; // by a command
    struct waiting waiting[CONTROL_OPEN_MOST];
    size_t waiting_count;
};

// The run's folder and what it left, then sockets, then the training itself: recovery comes before
// anybody can ask. What was opened stays in *t, on failure too.
CHECKED enum status trainer_open(struct trainer *t);

// Commands, orders.c: one is answered at once, or it waits until one of the others answers it.
void orders_take(struct trainer *t, const struct request *request);
void orders_saved(struct trainer *t, const struct kept *kept);
void orders_paused(struct trainer *t, uint64_t asked);
void orders_changed(struct trainer *t, const struct told *told);
void orders_refuse(struct trainer *t, enum wait_for what, enum refusal code, const char *words);
// Stands still or goes on: by whoever asked, and while nothing can be saved. The number of the
// asking.
uint64_t orders_pause(struct trainer *t);

#endif

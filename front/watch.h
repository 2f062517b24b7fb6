// watch: what the processes of a run say on their pub sockets, boiled down to one line for people.
#ifndef FRONT_WATCH_H
#define FRONT_WATCH_H

#include "config/settings.h"
#include "proto/publish.h"

struct watch;

CHECKED enum status watch_open(struct watch **out, struct channel *channel,
                               const struct settings *set);
void watch_close(struct watch **watch);
// Reads what arrived.
void watch_turn(struct watch *watch);
// "step 120/186  65 %  2410 tok/s  loss 103.2  L0 71.3  FVU 0.241  1:12 left"
void watch_line(const struct watch *watch, char *out, size_t room);
// Their states as they told last, "" before; and did that process say anything since asked?
const char *watch_trainer_state(const struct watch *watch);
const char *watch_evaluator_state(const struct watch *watch);
bool watch_heard(struct watch *watch, const char *process);
uint64_t watch_step(const struct watch *watch);

#endif

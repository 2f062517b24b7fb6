// upstream: one trainer as an evaluator sees it: which of its checkpoints have no result, where
// their files are, and whom to tell. A trainer that does not answer is a folder, if this machine
// sees it.
//
//   CKLIST ---- up ----> its list: undone ones,       results are told
//           |            then done ones
//           '-- down --> the folder it named before,  results are files, told when it is back
//                        or the run's own
//   files: its folder, if this machine sees it with the announced manifest; else fetched (shelf.h)
//
// 1. Nothing a trainer says is used as a path before it is checked.
// 2. A folder is handed out only when its manifest has the announced hash, and the files an
//    evaluation reads have the manifest's.
#ifndef EVALUATOR_UPSTREAM_H
#define EVALUATOR_UPSTREAM_H

#include "config/settings.h"
#include "evaluator/agenda.h"
#include "evaluator/shelf.h"
#include "proto/channel.h"
#include "proto/messages.h"

// Called now and then while it waits; true: give up (AGAIN).
struct upstream_watch {
    bool (*stop)(void *context, const char *what, double share);
    void *context;
};

struct upstream;

// `home`: the folder of its run if that is known beforehand, "" if not; `name`: this evaluator's.
// Everything is borrowed.
CHECKED enum status upstream_open(struct upstream **out, struct channel *channel,
                                  const struct settings *set, const char *endpoint,
                                  const char *home, const char *name,
                                  const struct upstream_watch *watch);
void upstream_close(struct upstream **upstream);

// What waits for a result, newest first; behind it what is `done` for the trainer but may lack a
// result of our specifications, `specs` (as in CKLIST; entries say which they have). OK also when
// nobody answers and no folder is seen.
CHECKED enum status upstream_list(struct upstream *upstream, const struct texts *specs,
                                  struct waiting *out);
bool upstream_is_up(const struct upstream *upstream); // it answered last time
const char *upstream_endpoint(const struct upstream *upstream);
bool upstream_announced(struct upstream *upstream); // something new since the last call
// Takes in what was announced, for the next upstream_announced. During long work, now and then:
// what nobody takes fills the library's queue, and then the trainer's.
void upstream_hear(struct upstream *upstream);

// The run's name in "<run>/<step>-<incarnation>", and where its results go: eval.out, or eval/ of
// the run's folder, the trainer's where this machine sees it.
CHECKED enum status upstream_places(const struct upstream *upstream,
                                    const struct msg_ck_entry *entry, char run[WIRE_NAME],
                                    char results[PATH_BYTES]);
// *granted false: another evaluator works on it. A trainer that is down grants everything.
CHECKED enum status upstream_claim(struct upstream *upstream, const struct msg_ck_entry *entry,
                                   uint32_t ttl_s, bool *granted);
// A folder with its files. UNREACHABLE: not now. AGAIN: stopped. Others: as found.
CHECKED enum status upstream_reach(struct upstream *upstream, const struct msg_ck_entry *entry,
                                   struct shelf *shelf, char folder[PATH_BYTES]);
// *taken: the trainer has it. UNREACHABLE is OK, and not taken.
CHECKED enum status upstream_tell(struct upstream *upstream, struct msg_result *result,
                                  bool *taken);

#endif

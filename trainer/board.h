// board: what this life of the trainer knows about its durable checkpoints: which there are, which
// evaluators have scored, which is best. Answers CKLIST, and says which steps retention must spare.
// Read from the folder at start, so nothing is lost by a restart.
#ifndef TRAINER_BOARD_H
#define TRAINER_BOARD_H

#include "proto/messages.h"
#include "trainer/keeper.h"

enum { BOARD_MOST = 4096, BOARD_SPECS = 8, BOARD_CLAIMS = 8, BOARD_PINS = 64 };

struct board_entry {
    char ck[WIRE_TOPIC]; // <run>/<step>-<incarnation>
    uint64_t step, mh, bytes;
    bool done;    // all its results or recorded failures are there
    double score; // of the tracked metric; NaN: none
    size_t got;   // results and failures so far, by specification; the oldest are forgotten
    struct hash128 specs[BOARD_SPECS];
    char claimant[WIRE_NAME]; // who works on it, until then
    int64_t claimed_until;
};

struct board;

CHECKED enum status board_new(struct board **out, const char *run);
void board_free(struct board **board);
// Reads the manifests of a run's checkpoints (damaged ones are left out), and from the journal
// which of them have a result.
CHECKED enum status board_read(struct board *board, struct runfolder *run);
void board_add(struct board *board, const struct kept *kept);
// It is gone.
void board_forget(struct board *board, uint64_t step);
// Forgets those whose folders are gone.
void board_sweep(struct board *board, struct runfolder *run);
// A result arrived; `more`: others will. score: NaN when it has none of the tracked metric. False:
// the same was there before, nothing is new.
bool board_result(struct board_entry *entry, struct hash128 spec, bool more, double score);
// What becomes of a result of the checkpoint `ck`: NEW: write it down, then board_put `after`.
// SAID: nothing is new. UNKNOWN: there is no such checkpoint. OTHER: it is of another manifest.
enum board_verdict { BOARD_NEW, BOARD_SAID, BOARD_UNKNOWN, BOARD_OTHER };
enum board_verdict board_judge(struct board_entry *after, struct board *board, const char *ck,
                               uint64_t mh, struct hash128 spec, bool more, double score);
void board_put(struct board *board, const struct board_entry *after);
// It is `who`'s for ttl_ms from now, 0: not any more. False: somebody else has it.
bool board_claim(struct board_entry *entry, const char *who, int64_t ttl_ms, int64_t now);
// The entry of a checkpoint's name, or NULL.
struct board_entry *board_find(struct board *board, const char *ck);
// `steps`: where the run ends.
void board_list(const struct board *board, const struct msg_cklist *ask, uint64_t steps,
                struct msg_cklistr *out);
// Steps to spare: the best `keep_best` by score, up to `keep_unevaluated` of the newest that have
// no result, and up to BOARD_CLAIMS that somebody works on. How many of pins[BOARD_PINS] it set;
// the three together are at most that (asserted).
size_t board_pins(const struct board *board, int64_t now, uint64_t *pins, size_t keep_best,
                  size_t keep_unevaluated);
// Has every one of them a result or a recorded failure?
bool board_all_done(const struct board *board);

#endif

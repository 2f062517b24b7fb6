// failure: the record of an evaluation that was given up, beside the results it is not among:
//     eval/KIND/RUN_step-000000000100_spec-1b2c3d4e_mh-0123456789abcdef_failed.json
//     {"ck","run","step","mh","kind","spec","attempts","created","reason"}
// Keyed as results are, by the checkpoint's manifest and the evaluation's specification: while it
// lies there nothing of the same key is tried again. To try again, delete it.
//
// While an evaluation is made, a record of the same form, ..._begun.json, says the how manieth
// attempt it is. It is taken away when the attempt ends, well or badly; what lies there afterwards
// is of one whose process died, and the next attempt counts on from it.
#ifndef LIB_STORE_FAILURE_H
#define LIB_STORE_FAILURE_H

#include "lib/base/bytes.h"
#include "lib/base/file.h"
#include "lib/base/status.h"

enum { FAILURE_TEXT = 256 };

struct failure {
    char ck[FAILURE_TEXT], run[FAILURE_TEXT], kind[64];
    uint64_t step, mh, attempts;
    struct hash128 spec;
    char created[32]; // 2025-01-31T12:00:00Z, a label; written by failure_write
    char reason[1024];
};

// Whose record: of a run's checkpoint of this step with this manifest, under this specification.
struct failure_key {
    const char *results; // the eval folder
    const char *kind, *run;
    uint64_t step, mh;
    struct hash128 spec;
    const char *ck; // "run/step-incarnation", for failure_clear; else NULL
};

// Makes results/KIND, replaces the record of the same key.
CHECKED enum status failure_write(const char *results, const struct failure *failure);
// The record, if there is a sound one.
CHECKED enum status failure_find(bool *found, struct failure *out, const struct failure_key *key);
// A result came after all: takes the record away, and those of older checkpoints of the step.
CHECKED enum status failure_clear(const struct failure_key *key);

// An attempt begins, number `attempts` (`reason`: who makes it). It is on disk when this returns.
CHECKED enum status failure_begin(const char *results, const struct failure *attempt);
// The number of the last one that was begun and never ended; 0: none.
CHECKED enum status failure_begun(uint64_t *attempts, const struct failure_key *key);
// Until *held is closed, or this process ends, others see that the attempt is alive. -1 where it
// could not be locked.
CHECKED enum status failure_hold(int *held, const struct failure_key *key);
CHECKED enum status failure_is_held(bool *held, const struct failure_key *key);
CHECKED enum status failure_ended(const struct failure_key *key);

// One file; DAMAGED unless it is a whole record.
CHECKED enum status failure_read(struct failure *out, const char *path);
// Is this the name of one?
bool failure_name(const char *name);

#endif

// failure: the record of an evaluation that was given up, beside the results it is not among:
//     eval/KIND/RUN_step-000000000100_spec-1b2c3d4e_failed.json
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

// `results`: the eval folder. Makes results/KIND, replaces the record of the same run, step, spec.
CHECKED enum status failure_write(const char *results, const struct failure *failure);
// The record of (kind, run, step, mh, spec), if there is a sound one.
CHECKED enum status failure_find(bool *found, struct failure *out, const char *results,
                                 const char *kind, const char *run, uint64_t step, uint64_t mh,
                                 struct hash128 spec);
// A result came after all.
CHECKED enum status failure_clear(const char *results, const char *kind, const char *run,
                                  uint64_t step, struct hash128 spec);

// An attempt begins, number `attempts` (`reason`: who makes it). It is on disk when this returns.
CHECKED enum status failure_begin(const char *results, const struct failure *attempt);
// The number of the last one that was begun and never ended; 0: none.
CHECKED enum status failure_begun(uint64_t *attempts, const char *results, const char *kind,
                                  const char *run, uint64_t step, uint64_t mh, struct hash128 spec);
// Until *held is closed, or this process ends, others see that the attempt is alive. -1 where it
// could not be locked.
CHECKED enum status failure_hold(int *held, const char *results, const char *kind, const char *run,
                                 uint64_t step, struct hash128 spec);
CHECKED enum status failure_is_held(bool *held, const char *results, const char *kind,
                                    const char *run, uint64_t step, struct hash128 spec);
CHECKED enum status failure_ended(const char *results, const char *kind, const char *run,
                                  uint64_t step, struct hash128 spec);

// One file; DAMAGED unless it is a whole record.
CHECKED enum status failure_read(struct failure *out, const char *path);
// Is this the name of one?
bool failure_name(const char *name);

#endif

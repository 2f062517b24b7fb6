// meter: numbers over time, in JSON Lines: one object a line, first "t" (seconds since 1970) and
// "step", then names; what is not finite is null. A line is one write, so a crash tears at most the
// last one, and readers skip a torn last line (as meter_read does).
#ifndef LIB_HOST_METER_H
#define LIB_HOST_METER_H

#include "lib/base/status.h"

#include <stddef.h>
#include <stdint.h>

struct reading {
    const char *name;
    double value;
};

struct meter;

// Appends to FOLDER/m-<first step>.jsonl, beginning a new segment when one has `segment` bytes.
// The folder is made if it is missing. Lines are on disk at most `sync_ms` after they were written
// (0: when the system likes).
CHECKED enum status meter_open(struct meter **out, const char *folder, uint64_t segment,
                               uint32_t sync_ms);
void meter_close(struct meter **meter);
CHECKED enum status meter_write(struct meter *meter, uint64_t step, const struct reading *readings,
                                size_t count);

// Every line of every segment in order; `take` gets a borrowed list. Lines of steps recomputed
// after a resume come again: for one step the last line counts.
CHECKED enum status meter_read(const char *folder,
                               void (*take)(void *to, double t, uint64_t step,
                                            const struct reading *readings, size_t count),
                               void *to);

#endif

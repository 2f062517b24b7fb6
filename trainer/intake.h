// intake: a batch as it came off the wire, as floats.
#ifndef TRAINER_INTAKE_H
#define TRAINER_INTAKE_H

#include "lib/base/status.h"
#include "proto/messages.h"

#include <stdbool.h>

// x [rows x width] <- the activations at the front of a payload of `stream`, which need not be
// aligned. A bf16 is the upper half of an fp32. With `check` a NaN or an infinity is DAMAGED, with
// the batch's number `seq` and the first such row: eq. (4) of it would be NaN, and leaving the
// batch or the row out would make another run of it.
CHECKED enum status intake(float *x, const unsigned char *payload, const struct wire_stream *stream,
                           uint64_t seq, bool check);

#endif

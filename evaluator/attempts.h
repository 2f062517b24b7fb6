// attempts: what failed in this life, how often, and when it may be tried again: each time later,
// so that a disk that is full for a moment costs no result.
#ifndef EVALUATOR_ATTEMPTS_H
#define EVALUATOR_ATTEMPTS_H

#include "proto/messages.h"

enum { ATTEMPTS_MOST = 256, ATTEMPT_PAUSE_MS = 1000 };

struct attempts {
    size_t count;
    struct attempt {
        char ck[WIRE_TOPIC];
        size_t row; // the kind of evaluation
        unsigned made;
        int64_t not_before;
    } at[ATTEMPTS_MOST]; // oldest first; when full the oldest is forgotten
};

// One more failed; how many there are. The pause grows fourfold.
unsigned attempts_add(struct attempts *attempts, const char *ck, size_t row, int64_t now);
bool attempts_pause(const struct attempts *attempts, const char *ck, size_t row, int64_t now);
void attempts_forget(struct attempts *attempts, const char *ck, size_t row);

#endif

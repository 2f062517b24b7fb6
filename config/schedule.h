// schedule: when something is due, as a setting says it: off | final | all | every:N | at:A,B,C
// (also at:[A, B, C]).
#ifndef CONFIG_SCHEDULE_H
#define CONFIG_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SCHEDULE_STEPS = 64, SCHEDULE_BYTES = 256 };

struct schedule {
    bool final;     // when the run ends
    uint64_t every; // steps that are a multiple; 0: none
    uint64_t at[SCHEDULE_STEPS];
    size_t count;
};

#define SCHEDULE_WANTED "off, final, all, every:N or at:STEP,STEP,..."

// False when the text says none of these. Every schedule but `off` and `at` is also due at the end.
bool schedule_parse(struct schedule *out, const char *text);
bool schedule_off(const struct schedule *schedule);
// A checkpoint of this step; last: the run ends with it.
bool schedule_due(const struct schedule *schedule, uint64_t step, bool last);

#endif

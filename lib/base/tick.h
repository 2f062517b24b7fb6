// tick: time for timers and measurements. CLOCK_BOOTTIME: it goes on during suspend and never
// jumps.
#ifndef LIB_BASE_TICK_H
#define LIB_BASE_TICK_H

#include <stdint.h>

int64_t tick_ms(void);        // milliseconds since boot
double tick_seconds(void);    // seconds since boot
uint64_t tick_label_ns(void); // wall clock in ns since 1970: a label, never compared or subtracted

#endif

// notify: systemd's readiness protocol: one datagram to $NOTIFY_SOCKET; nothing where it is unset.
#ifndef LIB_HOST_NOTIFY_H
#define LIB_HOST_NOTIFY_H

#include <stdint.h>

// "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=...", or several joined by newlines.
void notify(const char *text);
// Milliseconds between watchdog signs: a third of what $WATCHDOG_USEC asks for; 0: none asked.
int64_t notify_watchdog_ms(void);

#endif

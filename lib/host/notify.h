// notify: systemd's readiness protocol: one datagram to $NOTIFY_SOCKET; nothing where it is unset.
#ifndef LIB_HOST_NOTIFY_H
#define LIB_HOST_NOTIFY_H

// "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=...", or several joined by newlines.
void notify(const char *text);

#endif

// address: where processes meet. This version has no encryption, so it stays on this host:
// ipc:///absolute/path of at most 100 bytes, tcp://127.0.0.1:PORT, tcp://[::1]:PORT.
#ifndef CONFIG_ADDRESS_H
#define CONFIG_ADDRESS_H

#include "config/config.h"

// Well formed and allowed? `where` and `key` begin the message. CONFIG.
CHECKED enum status address_check(const char *endpoint, const char *where, const char *key);

// Endpoints left empty become those of proto's endpoint_default.
CHECKED enum status address_fill(struct config *config);

#endif

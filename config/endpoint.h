// endpoint: where processes meet. This version has no encryption, so it stays on this host:
// ipc:///absolute/path of at most 100 bytes, tcp://127.0.0.1:PORT, tcp://[::1]:PORT.
#ifndef CONFIG_ENDPOINT_H
#define CONFIG_ENDPOINT_H

#include "config/config.h"

// Well formed and allowed? `where` and `key` begin the message. CONFIG.
CHECKED enum status endpoint_check(const char *endpoint, const char *where, const char *key);

// Endpoints left empty become ipc://FOLDER/<run>.<process>.<link>.
CHECKED enum status endpoint_fill(struct config *config);

// $XDG_RUNTIME_DIR/osae, or /tmp/osae-<uid>.
CHECKED enum status endpoint_folder(char out[FOLDER_BYTES]);

// Before binding: an ipc socket's folder is made (0700) if missing, and must be a folder of ours
// that nobody else can write to or look into. Nothing to do for tcp. DENIED, CREATE.
CHECKED enum status endpoint_prepare(const char *endpoint);

#endif

// What tests over real sockets share: a private folder, endpoints in it, identities, deadlines.
#ifndef TESTS_PROTO_SOCKET_KIT_H
#define TESTS_PROTO_SOCKET_KIT_H

#include "lib/base/file.h"
#include "lib/base/tick.h"
#include "proto/channel.h"
#include "proto/messages.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char kit_folder[64];

static inline int
kit_begin(void **unused)
{
    (void)unused;
    snprintf(kit_folder, sizeof kit_folder, "/tmp/osae-test-XXXXXX");
    return mkdtemp(kit_folder) == NULL;
}

static inline int
kit_end(void **unused)
{
    (void)unused;
    return path_remove(kit_folder) != STATUS_OK;
}

static inline void
kit_endpoint(char out[WIRE_ENDPOINT], const char *name)
{
    snprintf(out, WIRE_ENDPOINT, "ipc://%s/%s", kit_folder, name);
}

#define fine(call)                                                                                 \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s:%d: %s", __FILE__, __LINE__, status_words());                             \
    } while (0)

// Sleeps on the channel until `until` at the latest, unless something waits already.
static inline void
kit_wait(struct channel *channel, int64_t until)
{
    int64_t left = until - tick_ms();
    if (left <= 0 || channel_pending(channel))
        return;
    struct pollfd fd = {.fd = channel_fd(channel), .events = POLLIN};
    (void)poll(&fd, 1, (int)(left > 200 ? 200 : left));
}

#endif

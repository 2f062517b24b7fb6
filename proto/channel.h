// channel: the ZeroMQ side: one context and its sockets, with the options of each kind in one table
// (channel.c). What travels is frames; what they mean is proto/frame's business.
//
// 1. One thread makes, uses and closes the sockets of a channel. Payloads lent to messages are
//    given back by the library's own thread, through an atomic counter and an eventfd only.
// 2. No call blocks. A send says SENT, FULL (try again later) or GONE (no such peer).
// 3. Flow is controlled by credit, never by the library's queues: FULL on a data socket is an
// alarm.
// 4. A bound socket accepts small messages only; whoever must receive large ones connects.
// 5. ZeroMQ's descriptors are edge-triggered: before sleeping on channel_fd, ask channel_pending,
//    after the last send.
// 6. ipc needs a folder of ours that nobody else may enter, and a lock beside the socket: binding
//    would otherwise take a living server's path away silently. Addresses beyond this machine need
//    permission by name: traffic is not encrypted.
#ifndef PROTO_CHANNEL_H
#define PROTO_CHANNEL_H

#include "lib/base/field.h"

#include <stdatomic.h>

#include <zmq.h>

enum port_kind {
    PORT_DATA_SERVER,
    PORT_DATA_CLIENT,
    PORT_CTL_SERVER,
    PORT_CTL_CLIENT,
    PORT_BLOB_SERVER,
    PORT_BLOB_CLIENT,
    PORT_PUBLISHER,
    PORT_SUBSCRIBER,
    PORT_KINDS
};

struct channel; // a context
struct port;    // a socket

// `allow_plaintext`: endpoints beyond this machine that may be bound or connected (may be NULL).
CHECKED enum status channel_new(struct channel **out, const struct texts *allow_plaintext);
// I/O threads of the context (1 unless said); before its first socket.
void channel_io_threads(struct channel *channel, unsigned count);
// Closes what is open, waits for lingering replies (at most 2 s), then frees what was kept.
void channel_free(struct channel **channel);

// May this endpoint be used? CONFIG, with the reason.
CHECKED enum status channel_allows(const struct channel *channel, const char *endpoint);
// CREATE: busy port or path, one line naming it. CONFIG: a malformed or forbidden endpoint.
CHECKED enum status channel_bind(struct channel *channel, enum port_kind kind, const char *endpoint,
                                 struct port **out);
// `largest`: of a payload that may arrive, bytes; 0 where there is none.
CHECKED enum status channel_connect(struct channel *channel, enum port_kind kind,
                                    const char *endpoint, uint64_t largest, struct port **out);
void port_close(struct port **port);
// A bound socket made anew at the same address, its lock kept: every connection is cut, and what
// was under way is given back. Between the two nothing comes and every send is FULL. AGAIN: the old
// one has not let go of the address yet; it takes milliseconds.
void port_unbind(struct port *port);
CHECKED enum status port_rebind(struct port *port);
bool port_is_bound(const struct port *port);
const char *port_endpoint(const struct port *port); // as bound: with the port a `*` became
CHECKED enum status port_subscribe(struct port *port, const char *prefix); // SUBSCRIBER only

// Readable when some socket, or a watched descriptor, may have something. Stays the same for the
// life of the channel.
int channel_fd(const struct channel *channel);
CHECKED enum status channel_watch(struct channel *channel, int fd);
void channel_unwatch(struct channel *channel, int fd);
// Does a socket have a message waiting?
bool channel_pending(const struct channel *channel);
// Memory that messages under way may refer to: freed by channel_free, after the context has ended.
// Also on failure the channel has taken it.
CHECKED enum status channel_keep(struct channel *channel, void *memory, int fd);
struct shmring;
CHECKED enum status channel_keep_ring(struct channel *channel, struct shmring *ring);

// One message, drained of all its parts.
struct packet {
    uint64_t route;  // servers: who sent it
    unsigned frames; // H, or H and P; PUBLISHER: the subscription; SUBSCRIBER: topic and H
    bool malformed;  // an empty one, more than two frames, or a foreign routing id
    zmq_msg_t at[2]; // alive: packet_release
    const unsigned char *head;
    size_t head_bytes;
    const unsigned char *payload; // NULL when there is none; unaligned
    size_t payload_bytes;
};
bool port_receive(struct port *port, struct packet *packet); // false: nothing there
void packet_release(struct packet *packet);
// Takes the payload out of the packet, into `to` (which must not be initialised).
void packet_take_payload(struct packet *packet, zmq_msg_t *to);

enum port_sent { PORT_SENT, PORT_FULL, PORT_GONE };
// Memory lent to messages: `returned` counts those that are gone; wake_fd (an eventfd) is written.
struct lent {
    atomic_uint returned;
    int wake_fd;
};
// route: servers only. payload NULL: H alone. With `lent` the payload is not copied and must not
// change until returned; each PORT_SENT owes one return, FULL and GONE owe none.
enum port_sent port_send(struct port *port, uint64_t route, const unsigned char *head,
                         size_t head_bytes, const void *payload, size_t payload_bytes,
                         struct lent *lent);
// PUBLISHER: topic and H. Never blocks; subscribers that do not keep up lose messages and notice.
void port_publish(struct port *port, const char *topic, const unsigned char *head,
                  size_t head_bytes);

// ---- endpoints
// Bytes of an ipc path: sun_path has 108, and the lock beside the socket needs some.
enum { ENDPOINT_PATH_MOST = 100 };
enum endpoint_class { ENDPOINT_IPC, ENDPOINT_LOOPBACK, ENDPOINT_REMOTE, ENDPOINT_BAD };
enum endpoint_class endpoint_class(const char *endpoint);
// Roles an unencrypted endpoint grants: all on ipc; not admin on loopback, where any local user can
// connect; only `remote_roles` elsewhere. Bits of role_bit().
unsigned endpoint_roles(const char *endpoint, unsigned remote_roles);
// ipc://DIR/<run>.<process>.<link>, DIR = $XDG_RUNTIME_DIR/osae, or /tmp/osae-<uid>. CONFIG when
// too long; `out` is then empty.
CHECKED enum status endpoint_default(char *out, size_t room, const char *run, const char *process,
                                     const char *link);

// Takes the lock beside an ipc path, after checking its folder.
CHECKED enum status endpoint_lock(const char *endpoint, int *fd);

struct msg_hello;
// Who we are: inst (random), host, build, name, role. `run` may be "".
CHECKED enum status hello_fill(struct msg_hello *me, int role, const char *name, const char *run,
                               uint32_t inc);
// 64 bits from the kernel.
uint64_t random_seed(void);

#endif

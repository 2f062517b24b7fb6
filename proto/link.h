// link: greeting, lease and back-off, as pure state machines: no I/O, no clock, no allocation.
//
//   client      CLOSED --open--> GREETING --WELCOME--> UP --silence--> CLOSED (back-off, new
//   socket)
//                                   ^---------ERR E_LINK----'
//   server      HELLO makes an entry; a silent one expires; an entry belongs to one route.
//
// 1. Every message of a client carries the link number `lk` it was given; a server that does not
//    know it, or not from this route, answers E_LINK and the client greets again. So both sides
//    notice that a connection was replaced underneath, or that a process was.
// 2. A client whose server is silent closes its socket and makes a new one. It never relies on the
//    library's reconnecting: that ends for ever after some protocol errors.
// 3. HELLO may be repeated, lost or late: the same `i` gets the same link, an older one nothing.
// 4. Of the trainers of one name only one is linked: a higher incarnation fences the older one off
//    at once, an equal or lower one is refused while the older lives.
// 5. `now` is in milliseconds of a clock that never goes back.
#ifndef PROTO_LINK_H
#define PROTO_LINK_H

#include "lib/base/status.h"
#include "proto/messages.h"

// Deterministic random numbers for link and attachment numbers and for back-off: 63 bits, not 0.
struct dice {
    uint64_t seed, rolled;
};
uint64_t dice_roll(struct dice *dice);

// News for people and for EVENT messages.
struct notice {
    int level; // enum say_level
    char event[33];
    char words[257];
};

// ---- the client's end

struct link_settings {
    struct msg_hello me;     // version and i are filled in here
    uint32_t greet_ms;       // repeat an unanswered HELLO after this: 500
    uint32_t greet_limit_ms; // give the socket up after this: 15,000
    uint32_t backoff_ms;     // 200, doubled each time
    uint32_t backoff_cap_ms; // 10,000
};
extern const struct link_settings link_presets; // with an empty `me`

enum link_state { LINK_CLOSED, LINK_GREETING, LINK_UP };
struct link {
    const struct link_settings *set;
    struct dice dice;
    enum link_state state;
    bool open; // the driver holds a socket for us
    uint64_t lk, i, hello_i;
    struct msg_welcome welcome; // of the current or last link
    int64_t retry_at, greeted_at, opened_at, heard_at, said_at, up_at, regreeted_at;
    unsigned failures;
    bool leaving;
};

// `set` is borrowed for the life of the link.
void link_init(struct link *link, const struct link_settings *set, uint64_t seed);

enum link_do { LINK_NOTHING, LINK_OPEN, LINK_SHUT, LINK_SAY };
// What the driver should do now; call until LINK_NOTHING. LINK_SAY: send *out (a send that fails
// is a message lost, no more).
enum link_do link_next(struct link *link, int64_t now, struct message *out);
// When link_next may have something to do although nothing arrives.
int64_t link_wake(const struct link *link);

enum link_news { LINK_NO_NEWS, LINK_IS_UP, LINK_IS_LOST, LINK_IS_REFUSED };
// Any valid message from the server; renews the lease. REFUSED: an ERR that greeting again will not
// cure (E_VERSION, E_ROLE, E_DUPNAME); the link backs off and tries again all the same.
enum link_news link_receive(struct link *link, const struct message *message, int64_t now);
// The driver sent a message of its own over this link.
void link_said(struct link *link, int64_t now);
// Request numbers, growing for the life of the process.
uint64_t link_request(struct link *link);
// The server says it does not know us (E_LINK in any form).
void link_regreet(struct link *link, int64_t now);
// Back off at least this long (retry_ms of an ERR), with a new socket.
void link_fail(struct link *link, int64_t now, uint32_t retry_ms);
// Says BYE (with lk 0 before it is up: whoever came over this connection), then shuts, and stays
// shut.
void link_leave(struct link *link);

// ---- the server's end

struct links_settings {
    char name[WIRE_NAME];
    struct hash128 inst, host;
    uint32_t hb_ms, lease_ms;
    unsigned roles; // bits of role_bit(): what this endpoint grants
    uint16_t win;
    struct wire_stream stream; // data sockets only
    size_t most;               // links
    uint64_t seed;
};
struct link_peer {
    uint64_t route, lk;
    int64_t heard_at, since;
    uint64_t asked; // largest request number of ATTACH and DETACH: a smaller one is late
    struct msg_hello hello;
};
struct links {
    struct links_settings set;
    struct dice dice;
    int64_t started_at;
    char state[18]; // told in PONG
    size_t count;
    uint64_t removals; // grows whenever a link ends
    uint64_t refused, expired, fenced;
    int64_t err_from; // at most 100 ERRs a second to routes without a link
    unsigned errs;
    struct link_peer at[]; // the first `count` live
};

// One allocation, at start.
CHECKED enum status links_new(struct links **out, const struct links_settings *set, int64_t now);
void links_free(struct links **links);

enum links_do { LINKS_IGNORE, LINKS_ANSWER, LINKS_PASS };
// Handles HELLO, PING and BYE. ANSWER: send *answer to the route. PASS: *peer is the live link this
// message came over; it stays valid until the next call that changes the table.
enum links_do links_receive(struct links *links, uint64_t route, const struct message *message,
                            int64_t now, struct message *answer, const struct link_peer **peer);
// The same for a message that is not small: its lk. NULL: answer with links_unknown.
const struct link_peer *links_find(struct links *links, uint64_t route, uint64_t lk, int64_t now);
// An E_LINK for that route; false when too many were sent lately.
bool links_unknown(struct links *links, uint64_t request, int64_t now, struct message *answer);
// Is this link number live?
const struct link_peer *links_by_number(const struct links *links, uint64_t lk);
// Removes links that were silent for the lease.
void links_expire(struct links *links, int64_t now);
int64_t links_wake(const struct links *links);
void links_drop(struct links *links, uint64_t lk);
// The route is gone (EHOSTUNREACH).
void links_drop_route(struct links *links, uint64_t route);

// The link number a client's small message carries, 0 if it has none; and its request number.
uint64_t message_lk(const struct message *message);
uint64_t message_request(const struct message *message);
void message_refuse(struct message *out, uint64_t request, enum refusal code, uint32_t retry_ms,
                    const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif

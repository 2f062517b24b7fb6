// control: the server's end of `ctl`: commands, checkpoint lists and results. It greets clients,
// checks what they say, and hands each request to the daemon once; the daemon answers now or later.
//
//   client --CMD--> control_next --request--> daemon ... control_reply --REPLY--> client
//
// 1. A request with an `idem` seen before is not handed out again: it gets the reply of the first
//    time, or is answered together with it. So a command takes effect at most once however often it
//    is repeated.
// 2. Everything is bounded: requests open at one time, of one link, replies remembered, links. Over
//    a bound is BUSY. No reply is forgotten before the longest time in which its question may be
//    repeated: when all places are taken by such, there is no new command.
// 3. Who may say what depends on the role the endpoint grants, never on a name.
// 4. Whoever waits when the server closes is told so.
#ifndef PROTO_CONTROL_H
#define PROTO_CONTROL_H

#include "proto/channel.h"
#include "proto/frame.h"
#include "proto/link.h"

enum {
    CONTROL_LINKS = 1024,
    CONTROL_OPEN_MOST = CONTROL_LINKS, // so that nobody who waits for a disk keeps others out
    CONTROL_OPEN_OF_LINK = 4,
    CONTROL_REPLIES = 4096, // remembered, for
    CONTROL_REPLIES_MS = 150000,
};

// What the daemon understands, and who may ask for it. Others are answered E_ARG, E_ROLE.
struct operation {
    const char *name;
    unsigned roles; // bits of role_bit()
    bool looks;     // has no effect: done again when repeated, and not remembered
};

struct control;

// Binds. `operations` ends with a NULL name, and is borrowed; RESULT and CLAIM are taken from
// evaluators only, when `results`; CKLIST from anybody when `lists`.
struct control_settings {
    const char *name;    // of this process, told in WELCOME
    struct hash128 inst; // of this start of the process
    struct hash128 host;
    uint32_t hb_ms, lease_ms;
    const struct operation *operations;
    bool lists, results;
};
CHECKED enum status control_open(struct control **out, struct channel *channel,
                                 const char *endpoint, const struct control_settings *set);
void control_close(struct control **control);
// Reads what arrived, keeps links; returns when to come again at the latest (tick_ms).
int64_t control_turn(struct control *control, int64_t now);
void control_state(struct control *control, const char *state); // told in PONG

// A request, valid until the next call of control_next.
struct request {
    uint32_t ticket;
    enum message_type type; // CMD, CKLIST, CLAIM or RESULT
    const struct msg_cmd *cmd;
    const struct msg_cklist *list;
    const struct msg_claim *claim;
    const struct msg_result *result;
    const char *who; // the client's name
};
bool control_next(struct control *control, struct request *out);
// Answers a ticket; REPLY for CMD, CLAIM and RESULT (r is filled in), CKLISTR for CKLIST.
void control_reply(struct control *control, uint32_t ticket, struct msg_reply *reply);
void control_list(struct control *control, uint32_t ticket, struct msg_cklistr *list);
// A reply without data.
void control_done(struct control *control, uint32_t ticket);
void control_refuse(struct control *control, uint32_t ticket, enum refusal code, const char *format,
                    ...) __attribute__((format(printf, 4, 5)));

// The live links: name, role, where they listen. false beyond the last.
bool control_peer(const struct control *control, size_t i, struct msg_hello *out);

#endif

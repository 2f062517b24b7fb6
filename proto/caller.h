// caller: the client's end of `ctl`, for those who may wait: the command line, and an evaluator's
// work thread. A question is repeated with the same idem until it is answered or the time is up, so
// a server that is restarted meanwhile costs nothing but time. One that has too much to do says so,
// and is asked again a little later; whoever runs out of time then is told why.
#ifndef PROTO_CALLER_H
#define PROTO_CALLER_H

#include "proto/channel.h"
#include "proto/frame.h"
#include "proto/link.h"

struct caller;

// Connects; no word is exchanged yet. The channel is borrowed and used by this thread only.
// `backoff_cap_ms`: longest pause between two tries to connect (net.backoff_cap_ms).
CHECKED enum status caller_open(struct caller **out, struct channel *channel, const char *endpoint,
                                int role, const char *name, uint32_t backoff_cap_ms);
void caller_close(struct caller **caller);

// Asked several times a second while waiting; true: give up (AGAIN). May be NULL.
typedef bool caller_stop(void *context);
void caller_set_stop(struct caller *caller, caller_stop *stop, void *context);

// Who cannot be linked within reach_ms does not answer, however long one would wait for an answer.
void caller_set_reach(struct caller *caller, int64_t reach_ms);

// One question. `message` is a struct that begins with { uint64_t lk, i; }, `answer` one that
// begins with { uint64_t r; }, of the types given. UNREACHABLE: no answer within limit_ms, or the
// server is so busy that there can be none, or leaves. CONFIG: refused, with the server's words.
CHECKED enum status caller_ask(struct caller *caller, enum message_type type, void *message,
                               enum message_type answer_type, void *answer, int64_t limit_ms);

// CMD: op with arguments (NULL: none). The reply must be ok, else CONFIG with its words.
CHECKED enum status caller_command(struct caller *caller, const char *op, const struct named *args,
                                   struct msg_reply *reply, int64_t limit_ms);

// The same for those who ask several at one time: begin, then turn until *answered. *wake: when to
// come again at the latest, earlier if the channel has something. All of it is borrowed until then.
struct caller_question {
    enum message_type type, answer_type;
    void *message, *answer;
    int64_t limit_ms;
};
void caller_begin(struct caller *caller, const struct caller_question *question);
CHECKED enum status caller_turn(struct caller *caller, bool *answered, int64_t *wake);

#endif

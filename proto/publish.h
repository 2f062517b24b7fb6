// publish: the `pub` socket, both ends. A publisher never waits for anybody; a subscriber that
// cannot keep up loses messages and knows how many, because each topic counts its own.
//
//   m/<run>/<group> metrics   e/<run> events   k/<run> checkpoints   v/<run> results   h/<run> beat
#ifndef PROTO_PUBLISH_H
#define PROTO_PUBLISH_H

#include "proto/channel.h"
#include "proto/frame.h"

struct publisher;

// `group` of its metrics: "trainer", "producer", "evaluator". inc: the incarnation; 0 where a
// process has none: then the tenth of a second of its machine's life in which it started, so that
// it grows, whatever is done to the wall clock.
CHECKED enum status publisher_open(struct publisher **out, struct channel *channel,
                                   const char *endpoint, const char *run, const char *group,
                                   uint32_t inc);
void publisher_close(struct publisher **publisher);
const char *publisher_endpoint(const struct publisher *publisher); // as bound
void publisher_turn(struct publisher *publisher);                  // drains subscriptions
// METRIC, EVENT, CKPT, EVAL or BEAT; the stamp is filled in. One that cannot be encoded is said.
void publisher_send(struct publisher *publisher, enum message_type type, void *message);
void publisher_event(struct publisher *publisher, int level, const char *name, const char *format,
                     ...) __attribute__((format(printf, 4, 5)));

struct subscriber;
struct heard {
    enum message_type type;
    union { // of that type
        const struct msg_metric *metric;
        const struct msg_event *event;
        const struct msg_ckpt *ckpt;
        const struct msg_eval *eval;
        const struct msg_beat *beat;
        const struct wire_stamp *stamp; // every message begins with one
    };
    const char *topic;
    uint64_t lost; // messages of this topic missed just before this one
};
// prefix: "" for everything.
CHECKED enum status subscriber_open(struct subscriber **out, struct channel *channel,
                                    const char *endpoint, const char *prefix);
void subscriber_close(struct subscriber **subscriber);
// What is of a lower incarnation than was heard is a ghost's and dropped, until the higher one has
// been silent for so long (SUBSCRIBER_GHOST_MS): then its machine was started anew.
enum { SUBSCRIBER_GHOST_MS = 10000 };
void subscriber_ghosts(struct subscriber *subscriber, int64_t silent_ms);
// Valid until the next call. What is malformed is skipped.
bool subscriber_next(struct subscriber *subscriber, struct heard *out);

#endif

// dataport: the producer's data socket. It drives proto/dataserver over a ROUTER, owns the ring's
// memory, and hands wants to the thread that computes.
//
//   comm thread                         compute thread
//   dataport_turn, in its loop          while (dataport_want(port, &want, ...)) {
//                                           ... batch want.seq into want.at ...
//                                           dataport_filled(port, &want, ...);
//                                       }
// Payloads are sent from the ring's own memory, without a copy, to any number of trainers.
#ifndef PROTO_DATAPORT_H
#define PROTO_DATAPORT_H

#include "proto/channel.h"
#include "proto/dataserver.h"

struct dataport;

// dataserver_places x stream.bytes of memory, all at once (the kernel gives what is touched); with
// set->share in shared memory (proto/shmring). CREATE: busy endpoint, no memory. The channel frees
// what messages under way may refer to, so it is freed after the port.
CHECKED enum status dataport_open(struct dataport **out, struct channel *channel,
                                  const char *endpoint, const struct dataserver_settings *set);
void dataport_close(struct dataport **port);

// ---- comm thread
// Everything there is to do now; returns when to come again at the latest (tick_ms).
int64_t dataport_turn(struct dataport *port, int64_t now);
void dataport_pause(struct dataport *port, bool paused);
// Says good-bye to everybody in the next turn, and ends the compute thread's wants.
void dataport_leave(struct dataport *port, const char *why);
// What happened; already said to stderr. false: nothing more.
bool dataport_notice(struct dataport *port, struct notice *out);
const struct dataserver *dataport_server(const struct dataport *port);
const char *dataport_endpoint(const struct dataport *port);
uint64_t dataport_malformed(const struct dataport *port);

// ---- compute thread
struct want_batch {
    uint64_t seq, epoch, stamp;
    uint16_t slot;
    unsigned char *at; // stream.bytes, aligned to 64
};
// The next batch to make; false: `until` (tick_ms) has come, or nobody will want any more.
bool dataport_want(struct dataport *port, struct want_batch *out, int64_t until);
bool dataport_closed(const struct dataport *port);
// Has the ring jumped since? Then the work may be given up: somebody wants other batches first.
bool dataport_stale(const struct dataport *port, const struct want_batch *want);
// context: first context of the batch's block. saturated: values out of the payload type's range.
// Hashes the payload (here, not in the comm thread).
void dataport_filled(struct dataport *port, const struct want_batch *want, uint64_t context,
                     uint32_t saturated);
void dataport_give_up(struct dataport *port, const struct want_batch *want);

#endif

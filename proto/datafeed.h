// datafeed: the trainer's data sockets, one for each producer of the stream. It drives
// proto/dataclient over DEALERs and hands batches, in order, to the thread that computes.
//
//   comm thread                         compute thread
//   datafeed_turn, in its loop          datafeed_wait_stream(feed, &stream, ...);
//                                       ... build or load the SAE ...
//                                       datafeed_start(feed, cursor, steps);
//                                       while (datafeed_next(feed, &batch, ...) == FEED_BATCH) {
//                                           ... read batch.at, for the last time ...
//                                           if (!datafeed_sound(feed, &batch))
//                                               continue;
//                                           ... one optimiser step ...
//                                           datafeed_done(feed, &batch);
//                                       }
// At most `win` batches are held, in the library's own buffers or in the rings of producers on the
// same machine: no copy is made.
#ifndef PROTO_DATAFEED_H
#define PROTO_DATAFEED_H

#include "proto/channel.h"
#include "proto/dataclient.h"
#include "proto/shmring.h"

struct datafeed;

// endpoints: one a producer; set->producers is taken from their count. largest: of a payload that
// is accepted (data.max_payload). CONFIG: an endpoint that may not be used.
CHECKED enum status datafeed_open(struct datafeed **out, struct channel *channel,
                                  const struct texts *endpoints, uint64_t largest,
                                  const struct dataclient_settings *set);
void datafeed_close(struct datafeed **feed);

// ---- comm thread
// Everything there is to do now; returns when to come again at the latest (tick_ms).
int64_t datafeed_turn(struct datafeed *feed, int64_t now);
// Gives everything up politely, and ends the compute thread's waits. It takes some turns until
// datafeed_gone, half a second at most; datafeed_close waits for what is left of that. The feed is
// closed after the compute thread has ended.
void datafeed_leave(struct datafeed *feed);
bool datafeed_gone(const struct datafeed *feed);
// After a pause (dataclient_view.paused) whose cause is cured.
void datafeed_resume(struct datafeed *feed);
// What happened; already said to stderr. false: nothing more.
bool datafeed_notice(struct datafeed *feed, struct notice *out);
const struct dataclient *datafeed_client(const struct datafeed *feed);
uint64_t datafeed_malformed(const struct datafeed *feed);

// ---- compute thread
// false: `until` (tick_ms) has come, or datafeed_leave.
bool datafeed_wait_stream(struct datafeed *feed, struct wire_stream *out, int64_t until);
// Once. end: first batch not wanted.
void datafeed_start(struct datafeed *feed, struct cursor from, uint64_t end);

struct feed_batch {
    struct taken taken;         // number, hash, epoch ...
    const unsigned char *at;    // stream.bytes; NOT aligned: read with memcpy or unaligned loads
    const struct shmring *ring; // at is in it; NULL: it is ours alone
};
enum feed_got { FEED_BATCH, FEED_NOT_YET, FEED_CLOSED };
// The next batch, in order; ours until datafeed_done. NOT_YET: `until` has come first.
enum feed_got datafeed_next(struct datafeed *feed, struct feed_batch *out, int64_t until);
// After the last read of batch.at, before anything read there is used for good. false: it may have
// changed meanwhile (the producer had to give us up); it is not ours any more, and datafeed_next
// brings it again.
CHECKED bool datafeed_sound(struct datafeed *feed, const struct feed_batch *batch);
// The optimiser has applied it, completely.
void datafeed_done(struct datafeed *feed, const struct feed_batch *batch);

// ---- any thread
// Every batch below `next` is inside a durable checkpoint.
void datafeed_durable(struct datafeed *feed, uint64_t next);

#endif

// dataclient: the trainer's side of the data plane, as a pure state machine: no I/O, no clock, no
// memory after dataclient_new. One stream, from any number of producers that share it: producer i
// of S makes the blocks b with b mod S = i, and numbers are global, so the sequence the trainer
// sees does not depend on S.
//
//   producer   CLOSED -> GREETING -> UP -> ATTACHING -> ATTACHED    (one link each)
//   batch      on the wire -> staged -> taken (with the optimiser) -> applied -> durable
//
//        dur <= app <= taken <= expect <= upto <= app + win          (numbers, all monotone)
//
// 1. A batch is staged only if attachment, number, shape, size and hash are right. Whatever is
//    wrong costs a new attachment from the number that is expected, never a batch.
// 2. Batches are taken strictly in order, each once; only `win` are ever held: batch q lies in
//    staging slot q mod win.
// 3. A producer on the same machine may offer its ring (`shm`): its batches are then staged as a
// slot
//    and a stamp. Whoever reads them there looks at the stamp again after the last read; if it is
//    another by then, nothing that was read counts (dataclient_spoiled): everything from `app` on
//    is forgotten and asked for again.
// 4. What repeating cannot cure (another stream, other bits for a number seen before, three times
//    the same fault) pauses the client: it asks for nothing more until dataclient_resume.
#ifndef PROTO_DATACLIENT_H
#define PROTO_DATACLIENT_H

#include "proto/link.h"
#include "proto/share.h"

enum { PRODUCERS_MOST = 32 };

// How batches come from a producer on the same machine. AUTO: through shared memory where they are
// large enough for that to pay.
enum handover { HANDOVER_INLINE, HANDOVER_SHM, HANDOVER_AUTO };
enum { HANDOVER_PAYS = 1 << 20 }; // bytes

struct dataclient_settings {
    struct link_settings link; // me: role trainer, name, inst, inc, ...
    size_t producers;
    uint16_t win;          // batches held: 8
    struct hash128 stream; // expected; all zero: take what the first producer has
    uint32_t lag;
    int onlag; // enum pace
    char group[WIRE_NAME];
    uint16_t group_size;
    uint64_t seed;
    enum handover handover;
};

// A trainer's whole position in its stream.
struct cursor {
    uint64_t next;      // first number not applied
    uint64_t last_hash; // of batch next - 1, when `seen`
    bool seen;
};

enum dataclient_do {
    DATACLIENT_OPEN,
    DATACLIENT_SHUT,
    DATACLIENT_SEND,
    DATACLIENT_MAP, // map the ring of message.attached.shm; if that fails, dataclient_unmapped
    DATACLIENT_EVENT
};
struct dataclient_action {
    enum dataclient_do what;
    size_t producer;        // OPEN, SHUT, SEND, MAP
    struct message message; // SEND; if it cannot be sent it is lost, no more. MAP
    struct notice notice;   // EVENT
};

struct dataclient;
CHECKED enum status dataclient_new(struct dataclient **out, const struct dataclient_settings *set);
void dataclient_free(struct dataclient **client);

// The stream, once every producer has been greeted; NULL before. Then the caller, who knows now
// how wide the rows are, starts from a cursor: batches next .. end - 1.
const struct wire_stream *dataclient_stream(const struct dataclient *client);
void dataclient_start(struct dataclient *client, struct cursor from, uint64_t end);

// ---- events
// A message from a producer, with the size and XXH3_64 of its payload frame (BATCH; else 0).
// Returns the staging slot where the payload belongs, or -1: drop it.
int dataclient_receive(struct dataclient *client, size_t producer, const struct message *message,
                       uint64_t payload_bytes, uint64_t payload_hash, int64_t now);
// The same when the batch is in a ring, but its slot did not hold the stamp before or after
// hashing.
void dataclient_torn(struct dataclient *client, size_t producer, const struct msg_batch *batch,
                     int64_t now);
// The ring of this producer cannot be mapped: its batches shall come through the socket.
void dataclient_unmapped(struct dataclient *client, size_t producer, int64_t now);
// The stamp had changed when the optimiser had read the batch: it was not applied. All that is
// taken or staged and not applied is forgotten; the next batch taken is this one again.
void dataclient_spoiled(struct dataclient *client, uint64_t seq, int64_t now);
// The optimiser has applied the batch; in the order taken. Its staging slot is free.
void dataclient_applied(struct dataclient *client, uint64_t seq);
// Every batch below `next` is inside a durable checkpoint.
void dataclient_durable(struct dataclient *client, uint64_t next);
void dataclient_resume(struct dataclient *client);
// Gives the attachments and links up, politely: within half a second `gone`.
void dataclient_leave(struct dataclient *client);

// ---- what to do now: call until false, after every event and whenever dataclient_wake is reached.
bool dataclient_next(struct dataclient *client, int64_t now, struct dataclient_action *out);
int64_t dataclient_wake(const struct dataclient *client);
// The next batch for the optimiser, if it is staged.
struct taken {
    uint64_t seq, hash, context;
    uint64_t stamp; // of slot `place` of the ring of `producer`; 0: staged in a message
    uint16_t producer, place;
    uint32_t epoch, saturated;
    uint16_t flags, slot;
};
bool dataclient_take(struct dataclient *client, struct taken *out);

// ---- looking in
struct dataclient_view {
    uint64_t dur, app, taken, upto, end;
    unsigned staged, attached, up;
    bool started, paused, ended; // ended: everything below `end` is applied
    bool leaving, gone;          // gone: the last link is shut
    unsigned pause_code;         // enum refusal
    char pause_words[257];
    // what went wrong and was repaired
    uint64_t batches, stale, dup, gap, overrun, badshape, badhash, reattached, links_lost;
    uint64_t torn, spoiled; // rule 3: found when it came, found when it was used
    uint64_t shared;        // of `batches`, through shared memory
    unsigned dupname;       // greetings refused because another trainer of our name lives
};
void dataclient_look(const struct dataclient *client, struct dataclient_view *view);
struct producer_view {
    int link; // enum link_state
    bool attached;
    char name[WIRE_NAME];
    uint64_t lk, gen, expect;
    int waits; // enum tick_why, as the producer last told
    char by[WIRE_NAME];
    struct wire_stream stream; // width 0: never greeted
};
void dataclient_producer(const struct dataclient *client, size_t producer,
                         struct producer_view *view);

#endif

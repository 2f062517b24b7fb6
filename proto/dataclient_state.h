// The inside of proto/dataclient, shared by its files: dataclient.c (what arrives),
// dataclient_shm.c (rings in shared memory), dataclient_next.c (what to say, and looking in).
#ifndef PROTO_DATACLIENT_STATE_H
#define PROTO_DATACLIENT_STATE_H

#include "proto/dataclient.h"

#define NEVER INT64_MAX

enum { EVENTS_MOST = 4 * PRODUCERS_MOST };

enum phase { PHASE_IDLE, PHASE_ATTACHING, PHASE_ATTACHED, PHASE_DETACHING };

// One producer.
struct source {
    struct link link;
    struct wire_stream stream;
    enum phase phase;
    uint64_t request, gen;
    uint64_t expect;              // the first number it owns that is not staged yet
    uint64_t seen_end, seen_hash; // its last batch we know
    int64_t wait_until, attach_at, credit_at;
    bool credit_due;
    bool shm;         // this attachment's batches are in the ring
    bool map_due;     // the driver has not been told where that is
    bool shm_refused; // it could not be mapped
    struct wire_shm ring;
    unsigned foreign; // TICKs of another attachment since the last word of ours
    uint64_t ghost;   // an attachment we have given up and the producer has not: it did not hear
    bool let_go;      // detach as soon as attached
    unsigned tries;   // attachments since the last good batch
    unsigned strikes;
    int64_t strikes_from;
    uint64_t bad_q; // + 1
    unsigned bad_count;
    int waits;
    char by[WIRE_NAME];
};

struct staged {
    bool full;
    struct taken batch;
};

struct dataclient {
    struct dataclient_settings set;
    struct wire_stream stream; // of the first producer greeted; shards 0: none yet
    bool started, paused, leaving;
    uint64_t dur, app, taken, end;
    struct staged staged[WINDOW_MOST];
    struct source sources[PRODUCERS_MOST];
    unsigned pause_code, dupname;
    char pause_words[257];
    uint64_t batches, stale, dup, gap, overrun, badshape, badhash, reattached, links_lost;
    uint64_t torn, spoiled, shared;
    struct dataclient_action events[EVENTS_MOST];
    size_t event_first, event_count;
};

void dc_post_event(struct dataclient *client, int level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// A new attachment from the number expected: at once, then more and more slowly while nothing good
// arrives.
void dc_reattach(struct dataclient *client, struct source *source, int64_t now);
// Would we rather read this producer's batches from its ring?
bool dc_wants_shm(const struct dataclient *client, const struct source *source);
// No attachment now; a new one not before `when`.
void dc_attach_later(struct source *source, int64_t when);
// The credit that may be given: everything below.
uint64_t dc_upto(const struct dataclient *client);

#endif

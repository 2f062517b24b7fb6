// blobclient: the end of a blob link that wants files, as a pure state machine: no I/O, no clock,
// no allocation after _new. One object at a time; its bytes come in order, each is believed only
// when the hash of its chunk is right, each file only when its hash is.
//
//   IDLE --start--> OPENING --OPENED--> PLANNING --ready--> FETCHING --last byte--> DONE
//                      ^                   the driver says      |
//                      |                   what it has already  |
//                      '--- new link, lost chunk, silence ------'   nothing fetched is fetched
//                      again
//   GONE: there is no such checkpoint any more.   FAILED: words say why.
//
// 1. `verified` counts the bytes, from the first file's first, that are written and were right. A
//    new link or a restarted server begins there.
// 2. Only OPENED for the very manifest asked for is accepted, and its list must not change
// meanwhile.
// 3. A file whose bytes do not make its hash is fetched once more, then given up.
// 4. Tries without progress are bounded; a link that is down is waited for (the driver has a
// limit).
#ifndef PROTO_BLOBCLIENT_H
#define PROTO_BLOBCLIENT_H

#include "proto/link.h"

struct blobclient_settings {
    struct link_settings link;
    uint32_t window;    // bytes of credit
    uint32_t repeat_ms; // ask again after so long without an answer: 2,000
    unsigned tries;     // openings without progress before FAILED: 8
    uint64_t seed;
};
extern const struct blobclient_settings blobclient_presets; // with an empty link.me

enum blobclient_state {
    BLOBCLIENT_IDLE,
    BLOBCLIENT_OPENING,
    BLOBCLIENT_PLANNING,
    BLOBCLIENT_FETCHING,
    BLOBCLIENT_DONE,
    BLOBCLIENT_GONE,
    BLOBCLIENT_FAILED,
};

struct blobclient;
CHECKED enum status blobclient_new(struct blobclient **out, const struct blobclient_settings *set);
void blobclient_free(struct blobclient **client);

// names: what of the checkpoint, in this order; `most`: bytes that may come. Whatever was under way
// is given up.
void blobclient_start(struct blobclient *client, const char *ck, uint64_t manifest_hash,
                      const struct texts *names, uint64_t most);
// The longest pause between two tries to connect from now on.
void blobclient_backoff(struct blobclient *client, uint32_t cap_ms);
// CLOSE, BYE, then SHUT; within half a second. It waits for the last chunk that is under way: a
// socket closed in the middle of one would leave the library with half a message for ever.
void blobclient_leave(struct blobclient *client);

// ---- what arrived
void blobclient_small(struct blobclient *client, const struct message *message, int64_t now);
void blobclient_opened(struct blobclient *client, const struct msg_opened *opened, int64_t now);
// True: write the payload into file *file at *at, then call blobclient_wrote or blobclient_fail.
bool blobclient_chunk(struct blobclient *client, const struct msg_chunk *chunk, const void *payload,
                      size_t bytes, int64_t now, size_t *file, uint64_t *at);
void blobclient_wrote(struct blobclient *client, const struct msg_chunk *chunk,
                      const void *payload);
void blobclient_fail(struct blobclient *client, const char *words); // the driver cannot go on

// ---- PLANNING: what lies here of an earlier time is given in order, then _ready
// The next `bytes` of the object, as found here. They count as fetched.
void blobclient_has(struct blobclient *client, const void *at, size_t bytes);
void blobclient_ready(struct blobclient *client);

// ---- what to do, until BLOBCLIENT_NOTHING
enum blobclient_do {
    BLOBCLIENT_NOTHING,
    BLOBCLIENT_CONNECT, // make a socket
    BLOBCLIENT_SHUT,    // close it
    BLOBCLIENT_SAY,     // send `message`
    BLOBCLIENT_OPEN,    // send `open`
    BLOBCLIENT_WANT,    // send `want`
    BLOBCLIENT_CLOSE,   // send `close`
    BLOBCLIENT_REWIND,  // file `file` was wrong: cut it to nothing
};
struct blobclient_action {
    enum blobclient_do what;
    struct message message;
    const struct msg_open *open;
    struct msg_want want;
    struct msg_close close;
    size_t file;
};
enum blobclient_do blobclient_next(struct blobclient *client, int64_t now,
                                   struct blobclient_action *action);
int64_t blobclient_wake(const struct blobclient *client);

struct blobclient_view {
    enum blobclient_state state;
    bool up;                         // the link
    const struct msg_opened *opened; // from PLANNING on
    uint64_t verified;
    uint64_t reopened, badhash; // openings after the first; chunks and files refused
    const char *words;          // of GONE and FAILED
};
void blobclient_look(const struct blobclient *client, struct blobclient_view *view);

#endif

// blobserver: the end of a blob link that has files, as a pure state machine: no I/O, no clock, no
// allocation after _new. It greets clients, opens one object for each, and sends its bytes in order
// against credit.
//
//   client             server                     driver (blobport)
//   OPEN ck, names --> BLOBSERVER_FIND        --> finds the files, opens them
//        <-- OPENED    <-- blobserver_found / blobserver_lacks
//   WANT from, upto -> BLOBSERVER_READ ...    --> pread, CHUNK
//   CLOSE, a new OPEN, BYE, silence --> BLOBSERVER_SHUT --> closes them
//
// 1. An object is the named files laid end to end. A chunk lies inside one file.
// 2. Credit is absolute: bytes below `from` are with the client, bytes below `upto` may be sent,
// and
//    never more than a window beyond `from`. So a lost, late or repeated WANT is harmless.
// 3. One object per link: a new OPEN ends the older one. What an older handle says has no effect.
// 4. An open object is a lease: its files stay readable whatever retention deletes meanwhile,
//    until it is closed, its link ends, or nothing was wanted for its time to live.
// 5. Bounded: links, objects, answers that wait; memory under way is objects x window.
#ifndef PROTO_BLOBSERVER_H
#define PROTO_BLOBSERVER_H

#include "proto/link.h"

enum {
    BLOB_OBJECTS_MOST = 8,
    BLOB_CHUNK = 1 << 20,
    BLOB_WINDOW = 4 << 20, // of one object, under way
};

struct blobserver_settings {
    struct links_settings links;
    uint32_t chunk, window; // bytes; the presets are those above
};

struct blobserver;
CHECKED enum status blobserver_new(struct blobserver **out, const struct blobserver_settings *set,
                                   int64_t now);
void blobserver_free(struct blobserver **server);

// ---- what arrived
void blobserver_small(struct blobserver *server, uint64_t route, const struct message *message,
                      int64_t now);
void blobserver_open(struct blobserver *server, uint64_t route, const struct msg_open *open,
                     int64_t now);
void blobserver_want(struct blobserver *server, uint64_t route, const struct msg_want *want,
                     int64_t now);
void blobserver_close(struct blobserver *server, uint64_t route, const struct msg_close *close,
                      int64_t now);
void blobserver_unreachable(struct blobserver *server, uint64_t route);

// ---- what to do, until BLOBSERVER_NOTHING
enum blobserver_do {
    BLOBSERVER_NOTHING,
    BLOBSERVER_SAY,    // send `message` to `route`
    BLOBSERVER_OPENED, // send `opened` to `route`
    BLOBSERVER_FIND,   // the object `open` asks for; answer with _found or _lacks, now
    BLOBSERVER_READ,   // bytes [at, at + bytes) of file `file`, sent as `chunk` to `route`; then
                       // _unsent or _broken if it failed
    BLOBSERVER_SHUT,   // close the files of the slot
};
struct blobserver_action {
    enum blobserver_do what;
    size_t slot; // of the object, below BLOB_OBJECTS_MOST
    uint64_t route;
    struct message message;
    const struct msg_open *open;
    const struct msg_opened *opened;
    size_t file;
    uint64_t at;
    struct msg_chunk chunk; // all but its hash
};
enum blobserver_do blobserver_next(struct blobserver *server, int64_t now,
                                   struct blobserver_action *action);
// The files, in the order asked for. At least one, not empty; the sum must not overflow (asserted).
void blobserver_found(struct blobserver *server, size_t slot, uint64_t manifest_hash,
                      const struct msg_blob_file *files, size_t count);
void blobserver_lacks(struct blobserver *server, size_t slot, enum refusal code, const char *words);
// The chunk could not be sent now, or its bytes could not be read.
void blobserver_unsent(struct blobserver *server, const struct blobserver_action *action);
void blobserver_broken(struct blobserver *server, size_t slot, enum refusal code,
                       const char *words);

int64_t blobserver_wake(const struct blobserver *server);
size_t blobserver_objects(const struct blobserver *server); // open ones

#endif

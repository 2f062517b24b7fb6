// blobport: blobserver over ZeroMQ and files: what the process that has checkpoints runs on its
// comm thread. Files are read, never mapped (one that is cut raises no signal), into one buffer.
#ifndef PROTO_BLOBPORT_H
#define PROTO_BLOBPORT_H

#include "lib/base/file.h"
#include "proto/blobserver.h"
#include "proto/channel.h"

// A checkpoint as it lies here. The files are regular ones in the folder.
struct blob_object {
    char folder[PATH_BYTES];
    uint64_t manifest_hash;
    size_t count;
    struct msg_blob_file files[BLOB_FILES_MOST]; // manifest.json first
};
// REFUSAL_NONE: *out is it. NOTFOUND: no such checkpoint (any more).
typedef enum refusal blobport_find(void *context, const char *ck, struct blob_object *out);

struct blobport_settings {
    const char *name;
    struct hash128 inst, host;
    uint32_t hb_ms, lease_ms;
    uint64_t min_rate; // bytes/s of the slowest link: a window may take four times as long
    blobport_find *find;
    void *context;
};

struct blobport;
CHECKED enum status blobport_open(struct blobport **out, struct channel *channel,
                                  const char *endpoint, const struct blobport_settings *set);
void blobport_close(struct blobport **port);
const char *blobport_endpoint(const struct blobport *port);
// Reads what arrived and sends a few chunks; when to come again at the latest.
int64_t blobport_turn(struct blobport *port, int64_t now);
size_t blobport_bytes(void); // memory it may come to hold, messages under way included

struct blobport_view {
    size_t objects;
    uint64_t sent_bytes, malformed;
};
void blobport_look(const struct blobport *port, struct blobport_view *view);

#endif

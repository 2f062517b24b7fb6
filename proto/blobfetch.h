// blobfetch: blobclient over ZeroMQ and files, for those who may wait: an evaluator's work thread.
// Files come into a folder of ours; what a call left unfinished is where the next one goes on, in
// this life or a later one. They are synced, and their hashes are right, when it returns OK;
// whether they are the manifest's is for the caller to see, who knows manifests.
//
// place of fault()   what fails there
// fetch.create       the open of a file
// fetch.write        the write of a chunk (disk full)
// fetch.sync         the sync of a file
#ifndef PROTO_BLOBFETCH_H
#define PROTO_BLOBFETCH_H

#include "lib/base/file.h"
#include "proto/blobclient.h"
#include "proto/channel.h"

struct blobfetch;

// Connects; no word is exchanged yet. The channel is borrowed and used by this thread only.
CHECKED enum status blobfetch_open(struct blobfetch **out, struct channel *channel,
                                   const char *endpoint, const char *name);
void blobfetch_close(struct blobfetch **fetch);

struct blobfetch_order {
    const char *ck;
    uint64_t manifest_hash;
    struct texts names;      // manifest.json first
    uint64_t most;           // bytes that may come
    uint64_t reserve;        // bytes that stay free on the disk
    const char *folder;      // is there, and ours
    int64_t patience_ms;     // without a new byte
    uint32_t backoff_cap_ms; // longest pause between two tries to connect; 0: 10,000
    // Several times a second; true: give up. May be NULL.
    bool (*stop)(void *context, uint64_t done, uint64_t total);
    void *context;
};
// MISSING: the checkpoint is gone. UNREACHABLE: nothing came for patience_ms. DAMAGED: its bytes do
// not make their hashes, twice. CREATE: too little disk here. IO: a write failed. AGAIN: stopped.
CHECKED enum status blobfetch_get(struct blobfetch *fetch, const struct blobfetch_order *order);

struct blobfetch_view {
    uint64_t reopened, badhash, bytes; // of the last order: fetched in this call
};
void blobfetch_look(const struct blobfetch *fetch, struct blobfetch_view *view);

#endif

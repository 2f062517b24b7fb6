// shelf: where an evaluator keeps a checkpoint that it fetched: CACHE/fetched/NAME/<manifest
// hash>/. A folder there is whole and verified; what is under way is in <manifest hash>.part, and
// is gone on with after a restart. It holds one checkpoint at a time, the one in work: whatever
// else lies there is removed, so the disk it takes is bounded by one checkpoint.
#ifndef EVALUATOR_SHELF_H
#define EVALUATOR_SHELF_H

#include "config/settings.h"
#include "proto/blobfetch.h"

// The files an evaluation reads.
enum { SHELF_FILES = 2 };
extern const char *const shelf_files[SHELF_FILES];

struct shelf {
    char path[PATH_BYTES]; // CACHE/fetched/NAME
    uint64_t reserve;
};
// NAME is this evaluator's own; nobody else uses its shelf.
CHECKED enum status shelf_init(struct shelf *shelf, const struct settings *set, const char *name);

// Fetches what the order names into the shelf, if it is not there, and verifies it against the
// manifest. `order` lacks names, folder, most and reserve. As blobfetch_get; DAMAGED also when the
// files are not the manifest's.
CHECKED enum status shelf_fetch(struct shelf *shelf, char folder[PATH_BYTES],
                                struct blobfetch *fetch, struct blobfetch_order *order,
                                uint64_t bytes);
// It is scored: away with it.
void shelf_drop(struct shelf *shelf, uint64_t manifest_hash);

#endif

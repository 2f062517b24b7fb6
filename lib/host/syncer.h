// syncer: puts what was appended to a file on disk every so often, on a thread of its own: a sync
// may wait for seconds behind a large checkpoint, and the thread that writes lines also answers
// peers.
#ifndef LIB_HOST_SYNCER_H
#define LIB_HOST_SYNCER_H

#include "lib/base/status.h"

#include <stdint.h>

struct syncer;

// A sync at most every `every_ms` (> 0), while there is something to sync.
CHECKED enum status syncer_new(struct syncer **out, uint32_t every_ms);
// Syncs what is left first.
void syncer_free(struct syncer **syncer);

// From now on `fd` (borrowed: duplicated); the file before it is synced here and forgotten. CREATE.
CHECKED enum status syncer_file(struct syncer *syncer, int fd);
// Something was appended to it.
void syncer_wrote(struct syncer *syncer);
// Calls of syncer_wrote that no sync has covered yet.
uint64_t syncer_behind(struct syncer *syncer);

#endif

// packed_make: tokenises and packs a corpus into a file. Inside `packed` only.
#ifndef LIB_LM_PACKED_MAKE_H
#define LIB_LM_PACKED_MAKE_H

#include "lib/lm/packed.h"

// What the .json beside the ids says.
struct packed_facts {
    uint64_t contexts;
    struct hash128 hash;
    struct packed_counts counts;
};

// Tells `watch` how far it is, but not more often than every 100 ms unless `now`.
struct packed_teller {
    packed_watch *watch;
    void *context;
    int64_t told_ms;
    struct packed_progress progress;
};
CHECKED enum status packed_tell(struct packed_teller *teller, bool now);

// Writes the ids to `path` (synced; removed again on failure) and fills `facts`.
CHECKED enum status packed_make(struct packed_facts *facts, const char *path,
                                const struct tokenizer *t, const struct packed_settings *settings,
                                struct corpus *corpus, struct packed_teller *teller);

#endif

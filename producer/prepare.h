// prepare: everything the producer needs before it can make batch 0: the tokenizer, the token file
// (made once, kept in the cache), the model up to the hook, and what follows from them: the
// identity of the stream. Long work says how far it is, and can be stopped.
#ifndef PRODUCER_PREPARE_H
#define PRODUCER_PREPARE_H

#include "config/config.h"
#include "lib/lm/packed.h"
#include "producer/generator.h"
#include "proto/messages.h"

struct prepared {
    struct packed *packed;
    struct model *model;
    struct generator *generator;
    struct provenance from;
    struct provenance_sizes sizes;
    struct wire_stream stream; // what the data socket offers
};

// For the progress line: which phase, and how much of it (0 .. 1; below 0: unknown).
struct prepare_watch {
    void (*progress)(void *context, const char *phase, double share, double rate_per_second);
    bool (*stop)(void *context);
    void *context;
};

// Sets the number of kernel threads of the calling thread, which is the one that will compute.
// AGAIN when stopped.
CHECKED enum status prepare(struct prepared *out, const struct config *config,
                            const struct prepare_watch *watch);
void prepared_release(struct prepared *prepared);

#endif

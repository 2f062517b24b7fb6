// generator: makes batches, in whatever order they are asked for, running the language model once
// per shuffle block and keeping that block's rows until another block is needed. What it makes is a
// function of the provenance and the number alone.
//
//   seq -> [ block of seq at hand? else model_below over its contexts, filters, order ]
//       -> payload of batch seq
#ifndef PRODUCER_GENERATOR_H
#define PRODUCER_GENERATOR_H

#include "lib/lm/model.h"
#include "producer/mixer.h"

struct generator;

// `model` and `ids` ([contexts x C]) are borrowed. batch_contexts: contexts a forward pass (their
// grouping may change bits). Used by one thread, which has set the number of kernel threads.
CHECKED enum status generator_new(struct generator **out, const struct provenance *from,
                                  const struct provenance_sizes *sizes, struct model *model,
                                  const uint32_t *ids, size_t batch_contexts);
void generator_free(struct generator **generator);
size_t generator_bytes(const struct provenance *from, const struct provenance_sizes *sizes);

// Bytes of a payload with its pair bits.
size_t generator_payload_bytes(const struct provenance *from, const struct provenance_sizes *sizes);

// Asked between two forward passes: should this batch be given up?
typedef bool generator_stop(void *context);

// Batch `seq` into payload: [n x d], then the pair bits when the shuffle keeps contexts together.
// *made false: given up, `payload` is not filled. *first_context: of the batch's block.
CHECKED enum status generator_make(struct generator *generator, void *payload, uint64_t seq,
                                   uint64_t *first_context, bool *made, generator_stop *stop,
                                   void *context);

// For the metrics; read by any thread.
struct generator_view {
    uint64_t blocks;            // the model was run for
    double model_seconds;       // in the model
    double share;               // of the block in work: 0 .. 1
    struct mixer_counts totals; // sums over blocks; median_norm: of the last one
};
void generator_look(struct generator *generator, struct generator_view *view);

#endif

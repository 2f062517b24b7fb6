#include "producer/generator.h"

#include "lib/base/tick.h"

#include <pthread.h>
#include <stdlib.h>

enum { NO_BLOCK = -1 };

struct generator {
    struct provenance from;
    struct provenance_sizes sizes;
    struct model *model;
    const uint32_t *ids;
    size_t batch_contexts;
    struct mixer *mixer;
    int64_t block; // whose rows the mixer holds, over all epochs
    pthread_mutex_t lock;
    struct generator_view view; // under the lock
};

size_t
generator_payload_bytes(const struct provenance *from, const struct provenance_sizes *sizes)
{
    bool pairs = from->shuffle == PROVENANCE_SHUFFLE_CONTEXTS;
    return (size_t)(sizes->batch_bytes + (pairs ? (from->rows + 7) / 8 : 0));
}

size_t
generator_bytes(const struct provenance *from, const struct provenance_sizes *sizes)
{
    return mixer_bytes(from, sizes);
}

static void
note_progress(struct generator *g, double share)
{
    pthread_mutex_lock(&g->lock);
    g->view.share = share;
    pthread_mutex_unlock(&g->lock);
}

static void
note_block(struct generator *g, double seconds)
{
    const struct mixer_counts *counts = mixer_counts(g->mixer);
    struct mixer_counts *totals = &g->view.totals;
    pthread_mutex_lock(&g->lock);
    g->view.blocks++;
    g->view.model_seconds += seconds;
    totals->rows += counts->rows;
    totals->dropped_first += counts->dropped_first;
    totals->dropped_special += counts->dropped_special;
    totals->dropped_norm += counts->dropped_norm;
    totals->unused += counts->unused;
    totals->repeated += counts->repeated;
    totals->median_norm = counts->median_norm;
    pthread_mutex_unlock(&g->lock);
}

// The residual stream of a block's contexts, in groups counted from the block's first.
static enum status
harvest(struct generator *g, uint64_t block, bool *made, generator_stop *stop, void *context)
{
    size_t contexts = (size_t)g->sizes.block_contexts, length = (size_t)g->from.context;
    const uint32_t *ids = g->ids + block % g->sizes.blocks * contexts * length;
    double began = tick_seconds();
    g->block = NO_BLOCK;
    *made = false;
    for (size_t at = 0; at < contexts; at += g->batch_contexts) {
        size_t count = contexts - at < g->batch_contexts ? contexts - at : g->batch_contexts;
        note_progress(g, (double)at / (double)contexts);
        if (stop(context))
            return STATUS_OK;
        TRY(model_below(g->model, ids + at * length, count,
                        mixer_rows(g->mixer) + at * length * (size_t)g->from.width));
    }
    note_progress(g, 1);
    TRY(mixer_order(g->mixer, ids, block));
    g->block = (int64_t)block;
    *made = true;
    note_block(g, tick_seconds() - began);
    return STATUS_OK;
}

enum status
generator_make(struct generator *g, void *payload, uint64_t seq, uint64_t *first_context,
               bool *made, generator_stop *stop, void *context)
{
    uint64_t block = seq / g->from.shuffle_block, r = seq % g->from.shuffle_block;
    *first_context = block % g->sizes.blocks * g->sizes.block_contexts;
    *made = true;
    if (g->block != (int64_t)block)
        TRY(harvest(g, block, made, stop, context));
    if (!*made)
        return STATUS_OK;
    bool pairs = g->from.shuffle == PROVENANCE_SHUFFLE_CONTEXTS;
    unsigned char *bits = (unsigned char *)payload + g->sizes.batch_bytes;
    return mixer_batch(g->mixer, payload, pairs ? bits : NULL, r);
}

enum status
generator_new(struct generator **out, const struct provenance *from,
              const struct provenance_sizes *sizes, struct model *model, const uint32_t *ids,
              size_t batch_contexts)
{
    *out = NULL;
    struct generator *g = calloc(1, sizeof *g);
    if (!g)
        return FAIL(CREATE, "no memory for the generator");
    g->from = *from;
    g->sizes = *sizes;
    g->model = model;
    g->ids = ids;
    g->batch_contexts = batch_contexts;
    g->block = NO_BLOCK;
    g->view.share = 1;
    pthread_mutex_init(&g->lock, NULL);
    enum status status = mixer_new(&g->mixer, from, sizes);
    if (status != STATUS_OK) {
        generator_free(&g);
        return status;
    }
    *out = g;
    return STATUS_OK;
}

void
generator_free(struct generator **generator)
{
    if (*generator) {
        mixer_free(&(*generator)->mixer);
        pthread_mutex_destroy(&(*generator)->lock);
        free(*generator);
    }
    *generator = NULL;
}

void
generator_look(struct generator *g, struct generator_view *view)
{
    pthread_mutex_lock(&g->lock);
    *view = g->view;
    pthread_mutex_unlock(&g->lock);
}

#include "producer/prepare.h"

#include "config/packing.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/kern/gemm.h"
#include "lib/lm/tokenizer.h"

#include <inttypes.h>
#include <stdio.h>

struct packing_watch {
    const struct prepare_watch *watch;
    double began;
};

static enum status
packing_progress(void *context, const struct packed_progress *progress)
{
    static const char *const phases[] = {"hashing text", "waiting for tokens", "tokenising"};
    const struct packing_watch *watching = context;
    const struct prepare_watch *watch = watching->watch;
    double share =
        progress->bytes_total ? (double)progress->bytes_done / (double)progress->bytes_total : -1;
    double seconds = tick_seconds() - watching->began;
    watch->progress(watch->context, phases[progress->phase], share,
                    seconds > 0 ? (double)progress->tokens / seconds : 0);
    if (watch->stop(watch->context))
        return FAIL(AGAIN, "stopped while preparing the text");
    return STATUS_OK;
}

static enum status
prepare_text(struct prepared *p, const struct config *config, const struct prepare_watch *watch)
{
    const struct settings *set = &config->set;
    enum status status;
    struct tokenizer *tokenizer = NULL;
    struct packed_settings how;
    GOTRY(tokenizer_open(&tokenizer, set->model.path));
    GOTRY(packing(&how, set, tokenizer));
    how.files = &set->text.files;
    how.tokens = set->text.tokens;
    how.threads = (int)set->producer.threads;
    struct packing_watch watching = {watch, tick_seconds()};
    GOTRY(packed_open(&p->packed, tokenizer, &how, packing_progress, &watching));
    struct packed_counts counts = packed_counts(p->packed);
    if (packed_was_made(p->packed) && (counts.invalid || counts.added))
        say(SAY_WARN, "text: %" PRIu64 " invalid parts replaced, %" PRIu64 " special tokens found",
            counts.invalid, counts.added);
    p->from.tokens = packed_hash(p->packed);
    p->from.contexts = packed_contexts(p->packed);
    p->from.specials = tokenizer_special_ids(p->from.special, tokenizer, how.bos);
done:
    tokenizer_free(&tokenizer);
    return status;
}

static enum status
prepare_model(struct prepared *p, const struct config *config, const struct prepare_watch *watch)
{
    const struct settings *set = &config->set;
    struct model_settings model = {.path = set->model.path,
                                   .cache = set->storage.cache,
                                   .layer = set->model.layer,
                                   .context = set->model.context,
                                   .batch_contexts = set->model.batch_contexts,
                                   .precision =
                                       set->model.dtype == SET_DTYPE_BF16 ? GEMM_BF16 : GEMM_F32};
    watch->progress(watch->context, "loading the model", -1, 0);
    TRY(model_new(&p->model, &model));
    struct provenance *from = &p->from;
    from->model = model_hash(p->model);
    from->layer = set->model.layer;
    from->context = set->model.context;
    from->rows = set->stream.rows;
    from->width = model_width(p->model);
    from->payload = set->stream.dtype == SET_DTYPE_BF16 ? PROVENANCE_BF16 : PROVENANCE_F32;
    from->seed = set->stream.seed;
    from->shuffle_block = set->stream.shuffle_block;
    from->shuffle = set->stream.shuffle == SET_SHUFFLE_ROWS ? PROVENANCE_SHUFFLE_ROWS
                                                            : PROVENANCE_SHUFFLE_CONTEXTS;
    from->epochs = set->stream.epochs;
    from->drop_first = set->stream.drop_first;
    from->drop_special = set->stream.drop_special;
    from->drop_norm_above = set->stream.drop_norm_above;
    from->bf16_products = set->model.dtype == SET_DTYPE_BF16;
    return provenance_measure(&p->sizes, from, set->trainer.steps);
}

static void
offer(struct prepared *p, const struct settings *set)
{
    const struct provenance *from = &p->from;
    p->stream = (struct wire_stream){
        .id = provenance_id(from),
        .shard = set->producer.shard,
        .shards = set->producer.shards,
        .rows = (uint32_t)from->rows,
        .width = (uint32_t)from->width,
        .dtype = from->payload == PROVENANCE_BF16 ? PAYLOAD_BF16 : PAYLOAD_F32,
        .pairs = from->shuffle == PROVENANCE_SHUFFLE_CONTEXTS,
        .bytes = generator_payload_bytes(from, &p->sizes),
        .block = (uint32_t)from->shuffle_block,
        .per_epoch = p->sizes.epoch_batches,
        .end = p->sizes.batches,
        .tokens = p->sizes.block_contexts * from->context / from->shuffle_block};
    snprintf(p->stream.replay, sizeof p->stream.replay, "osae-%s %s cpu contexts-%u", OSAE_VERSION,
             model_family(p->model), (unsigned)set->model.batch_contexts);
}

enum status
prepare(struct prepared *out, const struct config *config, const struct prepare_watch *watch)
{
    const struct settings *set = &config->set;
    *out = (struct prepared){0};
    gemm_threads(set->producer.threads);
    enum status status;
    GOTRY(prepare_text(out, config, watch));
    GOTRY(prepare_model(out, config, watch));
    GOTRY(generator_new(&out->generator, &out->from, &out->sizes, out->model,
                        packed_ids(out->packed), set->model.batch_contexts));
    offer(out, set);
    double mib = 1 << 20, block = (double)generator_bytes(&out->from, &out->sizes) / mib;
    double ring = (double)set->stream.ring_slots * (double)out->stream.bytes / mib;
    say(SAY_INFO,
        "memory %.1f MiB = model %.1f, one shuffle block %.1f, ring of %u batches %.1f; up to %.1f "
        "more while trainers stand still",
        (double)model_bytes(out->model) / mib + block + ring, (double)model_bytes(out->model) / mib,
        block, (unsigned)set->stream.ring_slots, ring, ring);
done:
    if (status != STATUS_OK)
        prepared_release(out);
    return status;
}

void
prepared_release(struct prepared *p)
{
    generator_free(&p->generator);
    model_free(&p->model);
    packed_close(&p->packed);
}

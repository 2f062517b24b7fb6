#include "evaluator/fidelity.h"
#include "evaluator/geometry.h"
#include "evaluator/latents.h"
#include "evaluator/score_inside.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Memory for a slice of logits, twice, and for a slice of activations.
enum { LOGITS_BYTES = 32 << 20, LATENTS_BYTES = 64 << 20, LOGITS_ROWS_MOST = 256 };

static size_t
slice_rows(size_t vocab)
{
    size_t rows = LOGITS_BYTES / (vocab * sizeof(float));
    return rows < 1 ? 1 : rows > LOGITS_ROWS_MOST ? LOGITS_ROWS_MOST : rows;
}

static struct spec
identity(const struct score *score)
{
    const struct score_plan *plan = &score->plan;
    struct spec spec = {
        .kind = "core",
        .model = model_hash(score->model),
        .tokens = hash128(score->windows, score->count * plan->context * sizeof(uint32_t)),
        .windows = score->count,
        .context = plan->context,
        .layer = plan->layer,
        .batch_contexts = plan->batch_contexts,
        .core_batches = plan->core_batches,
        .variance_batches = plan->variance_batches,
        .exclude_special = plan->exclude_special,
        .specials = plan->specials,
        .precision = plan->precision,
    };
    memcpy(spec.special, plan->special, sizeof spec.special);
    return spec;
}

enum status
score_take(void *pointer, size_t count, size_t size, size_t *total)
{
    void **at = pointer;
    size_t bytes;
    *at = times(&bytes, count, size) ? calloc(count ? count : 1, size) : NULL;
    if (!*at)
        return FAIL(CREATE, "no memory to score with: %zu times %zu bytes", count, size);
    *total += bytes;
    return STATUS_OK;
}

static enum status
take_all(struct score *score)
{
    size_t rows = score->rows, d = score->width, v = score->vocab, slice = score->slice;
    size_t total = sizeof *score, logits = 0;
    TRY(score_take(&score->ids, rows, sizeof *score->ids, &total));
    TRY(score_take(&score->kept, rows, sizeof *score->kept, &total));
    TRY(score_take(&score->window, rows, sizeof *score->window, &total));
    TRY(score_take(&score->x, rows * d, sizeof(float), &total));
    TRY(score_take(&score->y, rows * d, sizeof(float), &total));
    TRY(score_take(&score->head, rows * d, sizeof(float), &total));
    TRY(score_take(&score->plain, rows, sizeof *score->plain, &total));
    TRY(score_take(&score->head_at, slice * d, sizeof(float), &total));
    TRY(score_take(&score->moved_at, slice * d, sizeof(float), &total));
    TRY(score_take(&score->next, slice, sizeof *score->next, &total));
    TRY(score_take(&score->values, slice, sizeof *score->values, &total));
    TRY(score_take(&score->zeros, slice, sizeof *score->zeros, &total));
    TRY(score_take(&score->z, slice * v, sizeof(float), &logits));
    TRY(score_take(&score->moved, slice * v, sizeof(float), &logits));
    if (!model_is_bias_free(score->model))
        TRY(score_take(&score->abl, v, sizeof(float), &logits));
    size_t kept = baseline_bytes(score->baseline);
    const double mib = 1 << 20;
    score->bytes = total + logits + kept;
    snprintf(score->memory, sizeof score->memory, "%.1f MiB = kept %.1f + logits %.1f + rows %.1f",
             (double)score->bytes / mib, (double)kept / mib, (double)logits / mib,
             (double)total / mib);
    return STATUS_OK;
}

// A model with biases: the stream of zeros is the same at every position (attention over equal
// values returns them), so one row of logits stands for all.
static void
ablate(struct score *score)
{
    size_t c = score->plan.context;
    memset(score->y, 0, c * score->width * sizeof *score->y);
    model_above(score->model, score->y, 1, score->y);
    model_logits(score->model, score->y, 1, score->abl);
    score->abl_normaliser = logits_normaliser(score->abl, score->vocab);
}

enum status
score_new(struct score **out, const struct score_plan *plan, struct model *model,
          const uint32_t *windows, size_t count)
{
    assert(plan->context > 0 && plan->batch_contexts > 0 && plan->model_contexts > 0);
    assert(plan->core_batches > 0 && plan->variance_batches > 0 && plan->specials <= 8);
    if (count == 0)
        return FAIL(CONFIG, "eval.text: not one window of %zu tokens to evaluate on",
                    plan->context);
    size_t vocab = model_vocab(model);
    for (size_t i = 0; i < count * plan->context; i++)
        if (windows[i] >= vocab)
            return FAIL(DAMAGED, "eval.text: token %u at window %zu, wanted ids below %zu",
                        windows[i], i / plan->context, vocab);
    enum status status = STATUS_OK;
    struct score *score = calloc(1, sizeof *score);
    if (!score)
        return FAIL(CREATE, "no memory to score with");
    score->plan = *plan;
    score->model = model;
    score->windows = windows;
    score->count = count;
    score->width = model_width(model);
    score->vocab = vocab;
    score->slice = slice_rows(vocab);
    if (!times(&score->rows, plan->batch_contexts, plan->context)) {
        status = FAIL(CONFIG, "eval.batch_contexts: %zu is too many", plan->batch_contexts);
        goto done;
    }
    struct spec spec = identity(score);
    score->spec = spec_hash(&spec);
    spec.kind = "baseline"; // the same whatever is done at special positions of the SAE's stream
    spec.exclude_special = false;
    GOTRY(baseline_new(&score->baseline, plan->core_batches * score->rows,
                       plan->variance_batches * score->rows, score->width, plan->keep_most,
                       plan->cache, spec_hash(&spec)));
    GOTRY(take_all(score));
    if (score->abl)
        ablate(score);
done:
    if (status != STATUS_OK)
        score_free(&score);
    else
        *out = score;
    return status;
}

void
score_free(struct score **out)
{
    struct score *score = *out;
    if (!score)
        return;
    baseline_free(&score->baseline);
    void *const all[] = {score->ids,  score->kept,    score->window,   score->x,      score->y,
                         score->head, score->plain,   score->z,        score->moved,  score->next,
                         score->abl,  score->head_at, score->moved_at, score->values, score->zeros};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    free(score);
    *out = NULL;
}

const char *
score_memory(const struct score *score)
{
    return score->memory;
}

size_t
score_bytes(const struct score *score)
{
    return score->bytes;
}

size_t
score_latent_rows(size_t latents, size_t rows)
{
    size_t most = LATENTS_BYTES / (latents * sizeof(float));
    return most < 1 ? 1 : most > rows ? rows : most;
}

bool
score_repeats(const struct score *score)
{
    const struct score_plan *plan = &score->plan;
    return (plan->core_batches + plan->variance_batches) * plan->batch_contexts > score->count;
}

struct hash128
score_spec(const struct score *score)
{
    return score->spec;
}

void
score_result_release(struct score_result *result)
{
    free(result->details);
    *result = (struct score_result){0};
}

void
score_file(struct core_file *file, const struct score *score, const struct saelens *sae,
           const struct score_result *result)
{
    const struct score_plan *plan = &score->plan;
    file->core = result->core;
    file->histogram = result->histogram;
    file->batch_contexts = plan->batch_contexts;
    file->core_batches = plan->core_batches;
    file->variance_batches = plan->variance_batches;
    file->context = plan->context;
    file->exclude_special = plan->exclude_special;
    file->apply_b_dec_to_input = sae->card.apply_b_dec_to_input;
    file->prepend_bos = sae->card.prepend_bos;
}

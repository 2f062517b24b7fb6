#include "evaluator/downstream.h"
#include "evaluator/fidelity.h"
#include "evaluator/geometry.h"
#include "evaluator/latents.h"
#include "evaluator/score_inside.h"
#include "lib/base/tick.h"

#include <stdlib.h>
#include <string.h>

static bool
special(const struct score_plan *plan, uint32_t id)
{
    for (size_t s = 0; s < plan->specials; s++)
        if (plan->special[s] == id)
            return true;
    return false;
}

// One SAE being scored.
struct job {
    struct score *score;
    struct saelens *sae;
    const struct score_watch *watch;
    double done, share; // of the whole: what is behind us, and what the current step is
    size_t latents, slice;
    float *f;        // [slice x latents]
    float *x, *xhat; // [rows x d], kept rows only
    struct latents *counts;
    struct fidelity *fidelity;
};

static enum status
go_on(const struct job *job, const char *what, double part)
{
    if (job->watch && job->watch->stop(job->watch->context, what, job->done + job->share * part))
        return FAIL(AGAIN, "stopped while scoring a checkpoint");
    return STATUS_OK;
}

// The ids of a batch, counted over core and variance batches, and the places that count.
static size_t
fetch(struct score *score, size_t batch)
{
    const struct score_plan *plan = &score->plan;
    size_t kept = 0;
    for (size_t w = 0; w < plan->batch_contexts; w++) {
        size_t number = batch * plan->batch_contexts + w;
        const uint32_t *from = score->windows + number % score->count * plan->context;
        memcpy(score->ids + w * plan->context, from, plan->context * sizeof *from);
        for (size_t t = 0; t < plan->context; t++)
            if (!special(plan, from[t])) {
                score->window[kept] = number;
                score->kept[kept++] = (uint32_t)(w * plan->context + t);
            }
    }
    return kept;
}

// Both go through the model in pieces of a few contexts, and ask between them whether to stop.
static enum status
below(const struct job *job, float *x)
{
    struct score *score = job->score;
    const struct score_plan *plan = &score->plan;
    for (size_t w = 0; w < plan->batch_contexts; w += plan->model_contexts) {
        size_t left = plan->batch_contexts - w;
        size_t n = left < plan->model_contexts ? left : plan->model_contexts;
        TRY(model_below(score->model, score->ids + w * plan->context, n,
                        x + w * plan->context * score->width));
        TRY(go_on(job, "the model", 0));
    }
    return STATUS_OK;
}

static enum status
above(const struct job *job, const float *x, float *y)
{
    struct score *score = job->score;
    const struct score_plan *plan = &score->plan;
    for (size_t w = 0; w < plan->batch_contexts; w += plan->model_contexts) {
        size_t left = plan->batch_contexts - w, at = w * plan->context * score->width;
        size_t n = left < plan->model_contexts ? left : plan->model_contexts;
        model_above(score->model, x + at, n, y + at);
        TRY(go_on(job, "the model", 0));
    }
    return STATUS_OK;
}

// The stream of the batch in score->x: from the baseline, or through the model and into it.
static enum status
stream(const struct job *job, enum baseline_part part, size_t row)
{
    struct score *score = job->score;
    size_t rows = score->rows, bytes = rows * score->width * sizeof(float);
    const void *known = baseline_get(score->baseline, part, row, rows);
    if (known) {
        memcpy(score->x, known, bytes);
        return STATUS_OK;
    }
    TRY(below(job, score->x));
    void *room = baseline_room(score->baseline, part, row);
    if (room) {
        memcpy(room, score->x, bytes);
        baseline_put(score->baseline, part, row, rows);
    }
    return STATUS_OK;
}

// What the head reads of the model itself, in score->head; score->x is the stream.
static enum status
own_head(const struct job *job, size_t row)
{
    struct score *score = job->score;
    size_t rows = score->rows, bytes = rows * score->width * sizeof(float);
    const void *known = baseline_get(score->baseline, BASELINE_HEAD, row, rows);
    if (known) {
        memcpy(score->head, known, bytes);
        return STATUS_OK;
    }
    TRY(above(job, score->x, score->head));
    void *room = baseline_room(score->baseline, BASELINE_HEAD, row);
    if (room) {
        memcpy(room, score->head, bytes);
        baseline_put(score->baseline, BASELINE_HEAD, row, rows);
    }
    return STATUS_OK;
}

static void
gather(float *out, const float *from, const uint32_t *at, size_t count, size_t width)
{
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * width, from + at[i] * width, width * sizeof *out);
}

// xhat [rows x d] of x [rows x d], and if `counts` the activations on the way.
static void
reconstruct(struct job *job, float *xhat, float *x, size_t rows, struct latents *counts)
{
    size_t d = job->score->width;
    for (size_t r = 0; r < rows; r += job->slice) {
        size_t n = rows - r < job->slice ? rows - r : job->slice;
        struct mat f = {job->f, n, job->latents};
        saelens_encode(job->sae, f, (struct mat){x + r * d, n, d});
        saelens_decode(job->sae, (struct mat){xhat + r * d, n, d}, f);
        if (counts)
            latents_rows(counts, job->f, job->score->window + r, n);
    }
}

// The same for the stream of zeros, where the model makes something of it.
static void
zeros(struct score *score, size_t rows)
{
    size_t v = score->vocab;
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t i = 0; i < rows; i++) {
        uint32_t next = score->next[i];
        score->zeros[i] = (struct moved_at){
            .kl = logits_kl(score->z + i * v, score->plain[i].normaliser, score->abl,
                            score->abl_normaliser, v),
            .ce = next == NO_NEXT ? 0 : score->abl_normaliser - (double)score->abl[next],
        };
    }
}

// KL and CE of the kept rows of a batch, a slice of logits at a time. score->head is the model's
// own, score->y what the head reads with the reconstruction; row0: of the batch in the baseline.
static enum status
predictions(struct downstream *sums, struct job *job, size_t kept, size_t row0, double from)
{
    struct score *score = job->score;
    size_t d = score->width, v = score->vocab, c = score->plan.context;
    const struct plain_at *known = baseline_get(score->baseline, BASELINE_PLAIN, row0, score->rows);
    struct plain_at *room = baseline_room(score->baseline, BASELINE_PLAIN, row0);
    for (size_t k = 0; k < kept; k += score->slice) {
        size_t n = kept - k < score->slice ? kept - k : score->slice;
        const uint32_t *at = score->kept + k;
        gather(score->head_at, score->head, at, n, d);
        gather(score->moved_at, score->y, at, n, d);
        model_logits(score->model, score->head_at, n, score->z);
        model_logits(score->model, score->moved_at, n, score->moved);
        for (size_t i = 0; i < n; i++)
            score->next[i] = at[i] % c == c - 1 ? NO_NEXT : score->ids[at[i] + 1];
        if (known)
            for (size_t i = 0; i < n; i++)
                score->plain[i] = known[at[i]];
        else
            downstream_plain(score->plain, score->z, score->next, n, v);
        downstream_moved(score->values, score->moved, score->z, score->plain, score->next, n, v);
        if (score->abl)
            zeros(score, n);
        for (size_t i = 0; i < n; i++) {
            downstream_add(sums, &score->plain[i], &score->values[i],
                           score->abl ? &score->zeros[i] : NULL, score->next[i], v);
            if (room)
                room[at[i]] = score->plain[i];
        }
        TRY(go_on(job, "predictions", from + (1 - from) * (double)(k + n) / (double)kept));
    }
    if (!known)
        baseline_put(score->baseline, BASELINE_PLAIN, row0, score->rows);
    return STATUS_OK;
}

static enum status
core_batch(struct downstream *sums, struct job *job, size_t batch)
{
    struct score *score = job->score;
    size_t row0 = batch * score->rows, kept = fetch(score, batch), d = score->width;
    TRY(stream(job, BASELINE_CORE, row0));
    TRY(own_head(job, row0));
    TRY(go_on(job, "predictions", 0.1));
    reconstruct(job, score->y, score->x, score->rows, NULL);
    for (size_t r = 0; score->plan.exclude_special && r < score->rows; r++)
        if (special(&score->plan, score->ids[r]))
            memcpy(score->y + r * d, score->x + r * d, d * sizeof *score->y);
    TRY(above(job, score->y, score->y));
    TRY(go_on(job, "predictions", 0.4));
    TRY(predictions(sums, job, kept, row0, 0.4));
    sums->windows_tokens += score->rows;
    return STATUS_OK;
}

static enum status
variance_batch(struct job *job, size_t batch)
{
    struct score *score = job->score;
    size_t kept = fetch(score, score->plan.core_batches + batch);
    TRY(stream(job, BASELINE_VARIANCE, batch * score->rows));
    gather(job->x, score->x, score->kept, kept, score->width);
    reconstruct(job, job->xhat, job->x, kept, job->counts);
    fidelity_batch(job->fidelity, job->x, job->xhat, kept);
    return go_on(job, "reconstruction", 1);
}

static bool
geometry_stop(void *context, double share)
{
    const struct job *job = context;
    return job->watch &&
           job->watch->stop(job->watch->context, "weights", job->done + job->share * share);
}

// A core batch runs the upper blocks and the head twice over, a variance batch at most the lower
// blocks: about four to one. The weights are a twentieth of the whole.
static enum status
measure(struct score_result *result, struct job *job)
{
    const struct score_plan *plan = &job->score->plan;
    const double weight = 4, own = 0.05;
    double all = weight * (double)plan->core_batches + (double)plan->variance_batches;
    struct downstream sums = {0};
    for (size_t b = 0; b < plan->core_batches; b++) {
        job->share = (1 - own) * weight / all;
        TRY(core_batch(&sums, job, b));
        job->done += job->share;
    }
    downstream_finish(&result->core, &sums);
    for (size_t b = 0; b < plan->variance_batches; b++) {
        job->share = (1 - own) / all;
        TRY(variance_batch(job, b));
        job->done += job->share;
    }
    fidelity_finish(&result->core, job->fidelity);
    latents_finish(&result->core, &result->histogram, result->details, job->counts);
    result->core.total_tokens_eval_sparsity_variance =
        (double)(plan->variance_batches * job->score->rows);
    job->share = own;
    const struct geometry_watch watch = {geometry_stop, job};
    struct sae *sae = job->sae->sae;
    TRY(geometry_measure(&result->core, result->details, sae_param(sae, SAE_W_ENC).at,
                         sae_param(sae, SAE_W_DEC).at, sae_param(sae, SAE_B_ENC).at, job->latents,
                         job->score->width, &watch));
    baseline_save(job->score->baseline);
    return STATUS_OK;
}

enum status
score_sae(struct score_result *out, struct score *score, struct saelens *sae,
          const struct score_watch *watch)
{
    enum status status = STATUS_OK;
    double from = tick_seconds();
    size_t latents = (size_t)sae->card.latents, taken = 0;
    if (sae->card.width != score->width)
        return FAIL(CONFIG, "an SAE of width %llu, wanted the model's, %zu",
                    (unsigned long long)sae->card.width, score->width);
    struct score_result result = {.latents = latents};
    struct job job = {.score = score, .sae = sae, .watch = watch, .latents = latents};
    job.slice = score_latent_rows(latents, score->rows);
    core_undefined(&result.core);
    GOTRY(score_take(&result.details, latents, sizeof *result.details, &taken));
    GOTRY(score_take(&job.f, job.slice * latents, sizeof(float), &taken));
    GOTRY(score_take(&job.x, score->rows * score->width, sizeof(float), &taken));
    GOTRY(score_take(&job.xhat, score->rows * score->width, sizeof(float), &taken));
    GOTRY(latents_new(&job.counts, latents, job.slice));
    GOTRY(fidelity_new(&job.fidelity, score->width, score->rows,
                       score->plan.variance_batches * score->rows));
    GOTRY(measure(&result, &job));
    result.seconds = tick_seconds() - from;
done:
    fidelity_free(&job.fidelity);
    latents_free(&job.counts);
    free(job.xhat);
    free(job.x);
    free(job.f);
    if (status != STATUS_OK)
        score_result_release(&result);
    else
        *out = result;
    return status;
}

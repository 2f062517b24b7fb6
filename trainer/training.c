#include "trainer/training.h"

#include "trainer/board.h"

#include "config/render.h"
#include "config/trajectory.h"
#include "lib/base/memory.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/host/queue.h"
#include "lib/kern/gemm.h"
#include "proto/blobport.h"
#include "trainer/intake.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TOLD_MOST = 4096, ASKED_MOST = 64, LOOK_MS = 50 };

struct asked_change {
    uint64_t number;
    struct change change;
};

struct training {
    struct training_settings set;
    const struct settings *knobs;
    struct queue *told, *asked; // struct told; struct asked_change
    uint64_t changes_asked;     // so far: of the communication thread
    atomic_bool checkpoint, pause, stop, save;
    atomic_uint_fast64_t pause_asked; // how often
    pthread_t thread;

    // of the compute thread
    struct wire_stream stream;
    struct train *train;
    struct keeper *keeper;
    struct saver *_Atomic saver;
    struct place place;
    float *x;             // [B x d], the batch in fp32
    unsigned char *pairs; // its pair bits
    struct hash128 trajectory;
    int64_t snapshot_at; // tick_ms of the last one
    bool paused;
    uint64_t pause_seen;
    struct recipe begun; // with the settings of the file
    bool heated;         // others may hold now
};

static void
tell(struct training *t, struct told *told)
{
    told->place = t->place;
    told->paused = t->paused;
    // The reader is the communication thread, which never waits; if it is gone, so is the need.
    while (!queue_put(t->told, told) && !queue_closed(t->told))
        sched_yield();
}

// "SmolLM2-135M-Instruct.Q4_1" of ".../SmolLM2-135M-Instruct.Q4_1.gguf"; a folder's own name.
static void
model_name(char *out, size_t room, const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t first = length;
    while (first > 0 && path[first - 1] != '/')
        first--;
    if (length - first > 5 && memcmp(path + length - 5, ".gguf", 5) == 0)
        length -= 5;
    snprintf(out, room, "%.*s", (int)(length - first), path + first);
}

static struct card
card_of(const struct training *t)
{
    const struct settings *set = t->knobs;
    const struct recipe *recipe = train_recipe(t->train);
    struct card card = {.arch = (enum arch)recipe->sae.arch,
                        .width = recipe->width,
                        .latents = recipe->sae.latents,
                        .topk = recipe->sae.topk,
                        .apply_b_dec_to_input = recipe->sae.pre_bias,
                        .context = set->model.context,
                        .prepend_bos = true,
                        .ours = true};
    if (recipe->sae.arch != ARCH_TOPK && recipe->sae.arch != ARCH_BATCHTOPK)
        card.topk = 0;
    model_name(card.model_name, sizeof card.model_name, set->model.path);
    card_hook(&card, set->model.layer, strncmp(card.model_name, "gemma-2", 7) == 0);
    snprintf(card.version, sizeof card.version, "%s", OSAE_VERSION);
    snprintf(card.run, sizeof card.run, "%s", set->run.name);
    hex128(card.config, t->trajectory);
    return card;
}

// States what the run will hold, and refuses what the machine cannot give, before it is taken.
static enum status
check_memory(const struct training *t, const struct recipe *recipe)
{
    struct holding holdings[TRAIN_HOLDINGS];
    size_t count, total = train_memory(holdings, &count, recipe, t->set.kern);
    char line[512];
    size_t used = 0;
    const double mib = 1 << 20;
    for (size_t i = 0; i < count && used < sizeof line; i++)
        used += (size_t)snprintf(line + used, sizeof line - used, "%s %.1f, ", holdings[i].name,
                                 (double)holdings[i].bytes / mib);
    double snapshot = (double)keeper_bytes(recipe);
    double batches = (double)t->knobs->data.win * (double)t->stream.bytes;
    double all = (double)total + snapshot + batches, there = memory_available();
    if (!(all <= there))
        return FAIL(CREATE,
                    "the run needs %.1f MiB (%ssnapshot %.1f, batches %.1f), but %.1f MiB are "
                    "available: fewer sae.latents or stream.rows",
                    all / mib, line, snapshot / mib, batches / mib, there / mib);
    say(SAY_INFO,
        "memory %.1f MiB = %ssnapshot %.1f, batches %.1f; up to %.1f more while checkpoints are "
        "fetched",
        all / mib, line, snapshot / mib, batches / mib, (double)blobport_bytes() / mib);
    return STATUS_OK;
}

// A run is continued only by the settings and the stream that began it.
static enum status
same_trajectory(const struct training *t)
{
    const struct checkpoint_found *found = t->set.found;
    if (!found->found || hash128_same(found->facts.trajectory, t->trajectory))
        return STATUS_OK;
    char path[PATH_BYTES], differences[512] = "";
    struct config *before = NULL;
    TRY(path_join(path, runfolder_path(t->set.run), "config.yaml"));
    if (config_frozen(&before, path) == STATUS_OK)
        trajectory_differences(differences, sizeof differences, &before->set, t->knobs);
    config_free(&before);
    if (differences[0] == '\0' && !hash128_same(found->facts.stream, t->stream.id))
        snprintf(differences, sizeof differences, "the stream (text, model or stream) is another");
    if (t->set.accept_change) {
        say(SAY_WARN, "going on with other settings than the run began with: %s", differences);
        return STATUS_OK;
    }
    return FAIL(CONFIG,
                "%s: was begun with other settings: %s; use another run.name, the old settings, or "
                "--accept-config-change",
                runfolder_path(t->set.run), differences);
}

// ---------------------------------------------------------------- changed settings

// What holds at a step, and after `trial` too if it is there.
static enum status
heat(struct training *t, uint64_t step, const struct change *trial)
{
    double values[HOT_KEYS] = {[HOT_LR] = t->begun.optimiser.lr,
                               [HOT_LAMBDA_S] = t->begun.loss.lambda_s,
                               [HOT_LAMBDA_O] = t->begun.loss.lambda_o};
    if (!changes_at(values, t->set.changes, step) && !trial && !t->heated)
        return STATUS_OK;
    if (trial)
        values[trial->key] = trial->value;
    t->heated = true;
    return train_set(t->train, values[HOT_LR], values[HOT_LAMBDA_S], values[HOT_LAMBDA_O]);
}

// What the state we have was made with: the step before the next one.
static enum status
heat_as_it_is(struct training *t)
{
    return heat(t, t->place.next > 0 ? t->place.next - 1 : 0, NULL);
}

static enum status
change(struct training *t, struct change *asked)
{
    const struct change *said = changes_find(t->set.changes, asked->id);
    if (said) {
        *asked = *said;
        return STATUS_OK;
    }
    if (asked->at == CHANGE_NEXT)
        asked->at = t->place.next;
    if (asked->at < t->place.next)
        return FAIL(CONFIG, "step %" PRIu64 " is over: the next one is %" PRIu64, asked->at,
                    t->place.next);
    if (asked->at >= t->knobs->trainer.steps)
        return FAIL(CONFIG, "step %" PRIu64 " is beyond the last one, %" PRIu64, asked->at,
                    t->knobs->trainer.steps - 1);
    enum status fits = heat(t, asked->at, asked), back = heat_as_it_is(t);
    assert(back == STATUS_OK); // it held before
    (void)back;
    TRY(fits);
    return changes_add(t->set.changes, asked);
}

static void
take_changes(struct training *t)
{
    struct asked_change asked;
    while (queue_take(t->asked, &asked)) {
        struct told told = {.kind = TOLD_CHANGED, .asked = asked.number, .change = asked.change};
        status_note_take(&told.why, change(t, &told.change));
        tell(t, &told);
    }
}

// ---------------------------------------------------------------- the run

static enum status
build(struct training *t)
{
    const struct settings *set = t->knobs;
    struct recipe recipe = settings_recipe(set, t->stream.width);
    if (t->stream.rows != recipe.rows)
        return FAIL(CONFIG, "stream.rows is %zu here, but the producer serves batches of %" PRIu32,
                    recipe.rows, t->stream.rows);
    if (set->trainer.steps > t->stream.end)
        return FAIL(CONFIG,
                    "trainer.steps is %" PRIu64
                    " here, but the producer's stream ends after %" PRIu64 " batches",
                    set->trainer.steps, t->stream.end);
    t->trajectory = trajectory_hash(set, t->stream.id);
    TRY(same_trajectory(t));
    TRY(check_memory(t, &recipe));
    t->begun = recipe;
    TRY(train_new(&t->train, &recipe, t->set.kern));
    t->x = malloc(recipe.rows * recipe.width * sizeof *t->x);
    t->pairs = calloc((recipe.rows + 7) / 8, 1);
    if (!t->x || !t->pairs)
        return FAIL(CREATE, "no memory for a batch of %zu x %zu", recipe.rows, recipe.width);
    struct keeper_settings keep = {.trajectory = t->trajectory, .card = card_of(t)};
    keep.policy = (struct checkpoint_policy){.reserve_bytes = set->storage.reserve,
                                             .keep_last = set->ckpt.keep_last,
                                             .keep_every = set->ckpt.keep_every};
    TRY(keeper_new(&t->keeper, &keep, t->set.run, t->train));
    struct saver *saver;
    TRY(saver_new(&saver, t->keeper, BOARD_PINS));
    atomic_store(&t->saver, saver);

    t->place = (struct place){.stream = t->stream.id, .chain = t->stream.id};
    if (t->set.found->found) {
        TRY(keeper_restore(t->keeper, t->set.found, &t->place));
        if (!hash128_same(t->place.stream, t->stream.id))
            return FAIL(CONFIG, "%s: the producer serves another stream than this run is of",
                        runfolder_path(t->set.run));
        say(SAY_INFO, "going on from step %" PRIu64, t->place.next);
    }
    // What is to come must fit too: else it would be found out at its step.
    for (uint64_t at = changes_after(t->set.changes, t->place.next > 0 ? t->place.next - 1 : 0);
         at < set->trainer.steps; at = changes_after(t->set.changes, at))
        TRY(heat(t, at, NULL));
    TRY(heat_as_it_is(t));
    const struct recipe *now = train_recipe(t->train);
    if (t->heated)
        say(SAY_INFO, "changed since the run began: %s %.9g, %s %.9g, %s %.9g", hot_names[HOT_LR],
            now->optimiser.lr, hot_names[HOT_LAMBDA_S], now->loss.lambda_s, hot_names[HOT_LAMBDA_O],
            now->loss.lambda_o);
    return STATUS_OK;
}

// Out of the message or the ring into our own memory; nothing reads the batch there afterwards.
// *sound false: it had changed by then, and will come again.
static enum status
read_batch(struct training *t, const struct feed_batch *batch, bool *sound)
{
    size_t count = (size_t)t->stream.rows * t->stream.width;
    enum status status =
        intake(t->x, batch->at, &t->stream, batch->taken.seq, t->knobs->data.check_finite);
    if (t->stream.pairs)
        memcpy(t->pairs, batch->at + count * (t->stream.dtype == PAYLOAD_BF16 ? 2 : 4),
               (t->stream.rows + 7) / 8);
    *sound = datafeed_sound(t->set.feed, batch);
    return *sound ? status : STATUS_OK;
}

static enum status
step(struct training *t, const struct feed_batch *batch, double waited, bool *applied)
{
    double began = tick_seconds();
    TRY(read_batch(t, batch, applied));
    if (!*applied)
        return STATUS_OK;
    bool by_position = t->knobs->temporal.pairing == PAIRING_POSITION;
    struct told told = {.kind = TOLD_STEP, .wait_seconds = waited};
    struct mat x = {t->x, t->stream.rows, t->stream.width};

    assert(batch->taken.seq == train_steps(t->train));
    TRY(heat(t, t->place.next, NULL));
    TRY(train_step(t->train, &told.log, x, by_position ? t->pairs : NULL));
    t->place.next++;
    t->place.last_hash = batch->taken.hash;
    t->place.chain = chain_extend(t->place.chain, batch->taken.seq, batch->taken.hash);

    told.step_seconds = tick_seconds() - began;
    t->place.seconds += told.step_seconds;
    tell(t, &told);
    return STATUS_OK;
}

static void
snapshot(struct training *t)
{
    keeper_snapshot(t->keeper, &t->place);
    saver_begin(atomic_load(&t->saver));
    t->snapshot_at = tick_ms();
    atomic_store(&t->checkpoint, false);
}

// A periodic snapshot that finds the arena in use is left out; a commanded one waits for its turn.
static void
snapshot_if_due(struct training *t, bool stepped)
{
    uint64_t steps = t->knobs->ckpt.every_steps;
    int64_t ms = (int64_t)t->knobs->ckpt.every_s * 1000;
    bool due = atomic_load(&t->checkpoint);
    if (stepped && steps > 0)
        due |= t->place.next % steps == 0;
    if (stepped && ms > 0)
        due |= tick_ms() - t->snapshot_at >= ms;
    if (due && !keeper_busy(t->keeper))
        snapshot(t);
}

static void
nap(void)
{
    struct timespec time = {0, 10 * 1000000L};
    nanosleep(&time, NULL);
}

static void
take_pause(struct training *t)
{
    uint64_t asked = atomic_load(&t->pause_asked); // before what was asked
    if (asked == t->pause_seen)
        return;
    t->pause_seen = asked;
    t->paused = atomic_load(&t->pause);
    struct told told = {.kind = TOLD_STATE, .asked = asked};
    tell(t, &told);
}

static enum status
train_all(struct training *t)
{
    uint64_t steps = t->knobs->trainer.steps;
    double waiting_since = tick_seconds();
    while (t->place.next < steps && !atomic_load(&t->stop)) {
        take_pause(t);
        take_changes(t);
        snapshot_if_due(t, false);
        if (t->paused) {
            nap();
            waiting_since = tick_seconds();
            continue;
        }
        struct feed_batch batch;
        enum feed_got got = datafeed_next(t->set.feed, &batch, tick_ms() + LOOK_MS);
        if (got == FEED_CLOSED)
            break;
        if (got == FEED_NOT_YET)
            continue;
        bool applied;
        TRY(step(t, &batch, tick_seconds() - waiting_since, &applied));
        if (!applied)
            continue;
        datafeed_done(t->set.feed, &batch);
        snapshot_if_due(t, true);
        waiting_since = tick_seconds();
    }
    return STATUS_OK;
}

// The last state is worth keeping, unless it is kept already or nothing was learned.
static void
snapshot_last(struct training *t)
{
    if (!atomic_load(&t->save) || t->place.next == 0)
        return;
    while (keeper_busy(t->keeper)) // the one before is being written
        nap();
    if (!keeper_has(t->keeper, t->place.next))
        snapshot(t);
}

static enum status
run(struct training *t)
{
    gemm_threads(t->knobs->trainer.threads);
    while (!datafeed_wait_stream(t->set.feed, &t->stream, tick_ms() + LOOK_MS))
        if (atomic_load(&t->stop))
            return STATUS_OK;
    TRY(build(t));
    t->snapshot_at = tick_ms();
    struct told started = {.kind = TOLD_STARTED, .stream = t->stream, .trajectory = t->trajectory};
    tell(t, &started);
    datafeed_start(t->set.feed,
                   (struct cursor){.next = t->place.next,
                                   .last_hash = t->place.last_hash,
                                   .seen = t->place.next > 0},
                   t->knobs->trainer.steps);
    TRY(train_all(t));
    snapshot_last(t);
    return STATUS_OK;
}

static void *
work(void *from)
{
    struct training *t = from;
    enum status status = run(t);
    struct told told = {.kind = TOLD_ENDED};
    if (status != STATUS_OK) {
        told.kind = TOLD_FAILED;
        status_note_take(&told.why, status);
    }
    tell(t, &told);
    return NULL;
}

enum status
training_new(struct training **out, const struct training_settings *set)
{
    *out = NULL;
    struct training *t = calloc(1, sizeof *t);
    if (!t)
        return FAIL(CREATE, "no memory for the compute thread");
    t->set = *set;
    t->knobs = &set->config->set;
    atomic_store(&t->save, true);
    enum status status = queue_new(&t->told, sizeof(struct told), TOLD_MOST);
    if (status == STATUS_OK)
        status = queue_new(&t->asked, sizeof(struct asked_change), ASKED_MOST);
    if (status == STATUS_OK && pthread_create(&t->thread, NULL, work, t) != 0)
        status = FAIL(CREATE, "cannot start the compute thread");
    if (status != STATUS_OK) {
        queue_free(&t->told);
        queue_free(&t->asked);
        free(t);
        return status;
    }
    *out = t;
    return STATUS_OK;
}

void
training_free(struct training **training)
{
    struct training *t = *training;
    if (!t)
        return;
    queue_close(t->told);
    pthread_join(t->thread, NULL);
    struct saver *saver = atomic_load(&t->saver);
    saver_free(&saver);
    keeper_free(&t->keeper);
    train_free(&t->train);
    queue_free(&t->told);
    queue_free(&t->asked);
    free(t->x);
    free(t->pairs);
    free(t);
    *training = NULL;
}

void
training_ask_checkpoint(struct training *training)
{
    atomic_store(&training->checkpoint, true);
}

uint64_t
training_ask_pause(struct training *training, bool paused)
{
    atomic_store(&training->pause, paused);
    return atomic_fetch_add(&training->pause_asked, 1) + 1;
}

void
training_ask_stop(struct training *training, bool save)
{
    atomic_store(&training->save, save);
    atomic_store(&training->stop, true);
}

uint64_t
training_ask_change(struct training *t, const struct change *change)
{
    struct asked_change asked = {t->changes_asked + 1, *change};
    return queue_put(t->asked, &asked) ? ++t->changes_asked : 0;
}

bool
training_told(struct training *training, struct told *out)
{
    return queue_take(training->told, out);
}

int
training_fd(const struct training *training)
{
    return queue_fd(training->told);
}

struct saver *
training_saver(struct training *training)
{
    return atomic_load(&training->saver);
}

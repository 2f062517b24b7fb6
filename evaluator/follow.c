#include "evaluator/follow.h"

#include "evaluator/score.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/lm/packed.h"
#include "lib/lm/tokenizer.h"
#include "lib/store/checkpoint.h"
#include "proto/caller.h"
#include "proto/publish.h"

#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ASK_MS = 5000, LOOK_MS = 200, RETRY_MS = 2000, TRIED_MOST = 64, CALLERS_MOST = TEXTS_MOST };

struct tried { // what failed, and how often
    char ck[WIRE_TOPIC];
    unsigned attempts;
};

struct follow {
    const struct config *config;
    const struct settings *set;
    int wake_fd;
    pthread_t thread;
    atomic_bool stop;
    struct status_note ended; // how the thread ended; read after the join
    pthread_mutex_t lock;
    struct follow_view view; // under the lock

    // of the work thread
    struct packed *windows;
    struct model *model;
    struct score *score;
    const struct kern *kern;
    char model_name[CARD_TEXT], eval_id[37];
    struct channel *channel;
    struct caller *callers[CALLERS_MOST];
    size_t caller_count;
    struct subscriber *announcements;
    struct tried tried[TRIED_MOST];
    size_t tried_count;
    struct msg_cklistr list;
    struct msg_reply reply;
    struct msg_result result;
};

// ---------------------------------------------------------------- what others see

static void
enter(struct follow *f, enum follow_state state, uint64_t step)
{
    pthread_mutex_lock(&f->lock);
    f->view.state = state;
    f->view.share = state == FOLLOW_IDLE ? 1 : 0;
    if (state == FOLLOW_EVALUATING)
        f->view.step = step;
    pthread_mutex_unlock(&f->lock);
    uint64_t one = 1;
    if (write(f->wake_fd, &one, sizeof one) < 0)
        return; // the counter is at its top: it is readable all the same
}

static void
note_progress(struct follow *f, const char *phase, double share)
{
    pthread_mutex_lock(&f->lock);
    snprintf(f->view.phase, sizeof f->view.phase, "%s", phase);
    f->view.share = share;
    pthread_mutex_unlock(&f->lock);
}

void
follow_look(struct follow *follow, struct follow_view *view)
{
    pthread_mutex_lock(&follow->lock);
    *view = follow->view;
    pthread_mutex_unlock(&follow->lock);
}

static bool
is_stopping(void *context)
{
    struct follow *f = context;
    return atomic_load(&f->stop);
}

// ---------------------------------------------------------------- before the first checkpoint

static enum status
packing_progress(void *context, const struct packed_progress *progress)
{
    struct follow *f = context;
    note_progress(
        f, "reading the held-out text",
        progress->bytes_total ? (double)progress->bytes_done / (double)progress->bytes_total : -1);
    return atomic_load(&f->stop) ? FAIL(AGAIN, "stopped while reading the text") : STATUS_OK;
}

static enum status
prepare_text(struct follow *f, struct score_plan *plan)
{
    const struct settings *set = f->set;
    enum status status;
    struct tokenizer *tokenizer = NULL;
    uint32_t bos, separator;
    GOTRY(tokenizer_open(&tokenizer, set->model.path));
    const char *word = set->model.bos[0] ? set->model.bos : "auto";
    GOTRY(tokenizer_pick(&bos, tokenizer, word, tokenizer_bos(tokenizer), "model.bos"));
    word = set->model.separator[0] ? set->model.separator : "auto";
    GOTRY(tokenizer_pick(&separator, tokenizer, word, bos, "model.separator"));
    uint64_t windows = (uint64_t)set->eval.batch_contexts *
                       (set->eval.core_batches + set->eval.core_variance_batches);
    struct packed_settings packing = {
        .files = &set->eval.text,
        .field = set->text.field,
        .special = set->text.special == SET_SPECIAL_SPLIT ? TOKENIZER_SPLIT : TOKENIZER_TEXT,
        .context = set->model.context,
        .bos = bos,
        .separator = separator,
        .tokens = windows * set->model.context,
        .threads = (int)set->evaluator.threads,
        .cache = set->storage.cache};
    GOTRY(packed_open(&f->windows, tokenizer, &packing, packing_progress, f));
    plan->specials = tokenizer_special_ids(plan->special, tokenizer, bos);
done:
    tokenizer_free(&tokenizer);
    return status;
}

static void
name_model(struct follow *f)
{
    const char *path = f->set->model.path, *slash = strrchr(path, '/');
    snprintf(f->model_name, sizeof f->model_name, "%.511s", slash && slash[1] ? slash + 1 : path);
    size_t length = strlen(f->model_name);
    if (length > 5 && strcmp(f->model_name + length - 5, ".gguf") == 0)
        f->model_name[length - 5] = '\0';
}

static enum status
prepare(struct follow *f)
{
    const struct settings *set = f->set;
    bool bf16 = set->model.dtype == SET_DTYPE_BF16;
    gemm_threads(set->evaluator.threads);
    struct score_plan plan = {.layer = set->model.layer,
                              .context = set->model.context,
                              .model_contexts = set->model.batch_contexts,
                              .precision = bf16 ? "bf16" : "f32",
                              .batch_contexts = set->eval.batch_contexts,
                              .core_batches = set->eval.core_batches,
                              .variance_batches = set->eval.core_variance_batches,
                              .exclude_special = set->eval.exclude_special,
                              .keep_most = (size_t)1 << 30,
                              .cache = set->storage.cache};
    TRY(kern_open(&f->kern, set->evaluator.device, "evaluator.device"));
    TRY(saebench_eval_id(f->eval_id));
    TRY(prepare_text(f, &plan));
    note_progress(f, "loading the model", -1);
    struct model_settings model = {.path = set->model.path,
                                   .cache = set->storage.cache,
                                   .layer = set->model.layer,
                                   .context = set->model.context,
                                   .batch_contexts = set->model.batch_contexts,
                                   .precision = bf16 ? GEMM_BF16 : GEMM_F32,
                                   .whole = true};
    TRY(model_new(&f->model, &model));
    name_model(f);
    TRY(score_new(&f->score, &plan, f->model, packed_ids(f->windows), packed_contexts(f->windows)));
    say(SAY_INFO, "memory: model %s; scoring %s", model_memory(f->model), score_memory(f->score));
    if (score_repeats(f->score))
        say(SAY_WARN, "eval.text has %zu windows, fewer than eval asks for: they are used again",
            packed_contexts(f->windows));
    return STATUS_OK;
}

static enum status
connect(struct follow *f)
{
    const struct settings *set = f->set;
    TRY(channel_new(&f->channel, NULL));
    TRY(subscriber_open(&f->announcements, f->channel, set->trainer.pub, "k/"));
    size_t count = set->evaluator.trainers.count;
    for (size_t i = 0; i < (count ? count : 1); i++) {
        const char *endpoint = count ? set->evaluator.trainers.at[i] : set->trainer.ctl;
        TRY(caller_open(&f->callers[i], f->channel, endpoint, ROLE_EVALUATOR, "evaluator"));
        caller_set_stop(f->callers[i], is_stopping, f);
        f->caller_count++;
    }
    return STATUS_OK;
}

// ---------------------------------------------------------------- one checkpoint

// "<run>/<step>-<inc>" names the folder of the run; everything else is in the manifest.
static enum status
find_folder(const struct follow *f, const struct msg_ck_entry *entry, char run[CARD_TEXT],
            char folder[PATH_BYTES])
{
    const char *slash = strrchr(entry->ck, '/');
    if (!slash || slash == entry->ck)
        return FAIL(DAMAGED, "checkpoint '%s': wanted RUN/STEP-INCARNATION", entry->ck);
    char path[PATH_BYTES], checkpoints[PATH_BYTES];
    snprintf(run, CARD_TEXT, "%.*s", (int)(slash - entry->ck), entry->ck);
    TRY(path_join(path, f->set->storage.runs, run));
    TRY(path_join(checkpoints, path, "checkpoints"));
    return checkpoint_path(folder, checkpoints, entry->step);
}

static enum status
result_folder(const struct follow *f, const char *run, char out[PATH_BYTES])
{
    char eval[PATH_BYTES], path[PATH_BYTES];
    if (f->set->eval.out[0]) {
        snprintf(eval, sizeof eval, "%s", f->set->eval.out);
    } else {
        TRY(path_join(path, f->set->storage.runs, run));
        TRY(path_join(eval, path, "eval"));
    }
    TRY(path_join(out, eval, "core"));
    return STATUS_OK;
}

static bool
scoring_watch(void *context, const char *what, double share)
{
    struct follow *f = context;
    note_progress(f, what, share);
    return atomic_load(&f->stop);
}

static enum status
score_folder(struct follow *f, const char *folder, const char *run,
             const struct msg_ck_entry *entry, const char *results, struct core_file *file)
{
    const struct settings *set = f->set;
    struct saelens sae = {0};
    struct score_result scored = {0};
    size_t rows = (size_t)set->eval.batch_contexts * set->model.context;
    char path[PATH_BYTES];
    enum status status;
    GOTRY(saelens_open(&sae, folder, rows, f->kern));
    GOTRY(saelens_fits(&sae, folder, set->model.layer, model_width(f->model)));
    struct score_watch watch = {scoring_watch, f};
    GOTRY(score_sae(&scored, f->score, &sae, &watch));
    score_file(file, f->score, &sae, &scored);
    snprintf(file->model_name, sizeof file->model_name, "%s", f->model_name);
    snprintf(file->dataset, sizeof file->dataset, "%s", set->eval.text.at[0]);
    snprintf(file->ck, sizeof file->ck, "%s", entry->ck);
    snprintf(file->run, sizeof file->run, "%s", run);
    snprintf(file->eval_id, sizeof file->eval_id, "%s", f->eval_id);
    snprintf(file->version, sizeof file->version, "%s", OSAE_VERSION);
    file->mh = entry->manifest_hash;
    file->step = entry->step;
    file->created_ms = tick_label_ns() / 1000000;
    GOTRY(saebench_core_path(path, results, run, entry->step, entry->manifest_hash,
                             score_spec(f->score)));
    GOTRY(saebench_core_write(path, file, scored.details));
done:
    score_result_release(&scored);
    saelens_close(&sae);
    return status;
}

// The numbers of a checkpoint: from the file of an earlier time, or by scoring it now.
static enum status
evaluate(struct follow *f, const struct msg_ck_entry *entry, struct core_file *file)
{
    char run[CARD_TEXT], folder[PATH_BYTES], results[PATH_BYTES], path[PATH_BYTES];
    TRY(find_folder(f, entry, run, folder));
    TRY(result_folder(f, run, results));
    bool found = false;
    if (path_is_folder(results))
        TRY(saebench_core_find(&found, path, results, run, entry->step, entry->manifest_hash,
                               score_spec(f->score)));
    if (found)
        return saebench_core_read(file, path);
    uint64_t mh;
    struct checkpoint_facts *facts = malloc(sizeof *facts);
    if (!facts)
        return FAIL(CREATE, "no memory to verify a checkpoint");
    enum status status = checkpoint_verify(folder, facts, &mh, NULL);
    free(facts);
    if (status != STATUS_OK)
        return status;
    if (mh != entry->manifest_hash)
        return FAIL(DAMAGED, "%s: its manifest is not the one that was announced", folder);
    enter(f, FOLLOW_EVALUATING, entry->step);
    return score_folder(f, folder, run, entry, results, file);
}

static enum status
deliver(struct follow *f, struct caller *caller, const struct msg_ck_entry *entry,
        const struct core_file *file, const char *failure)
{
    struct msg_result *result = &f->result;
    memset(result, 0, sizeof *result);
    snprintf(result->ck, sizeof result->ck, "%s", entry->ck);
    result->manifest_hash = entry->manifest_hash;
    result->spec = score_spec(f->score);
    // The same result has the same name, whoever says it and however often.
    struct {
        char ck[WIRE_TOPIC];
        struct hash128 spec;
    } key;
    memset(&key, 0, sizeof key);
    memcpy(key.ck, result->ck, sizeof key.ck);
    key.spec = result->spec;
    result->idem = hash128(&key, sizeof key);
    snprintf(result->state, sizeof result->state, "%s", failure ? "failed" : "done");
    snprintf(result->environment, sizeof result->environment, "%.200s",
             failure ? failure : "osae-" OSAE_VERSION);
    for (size_t i = 0; !failure && i < CORE_COUNT; i++)
        named_real(&result->values, core_rows[i].key, core_number(&file->core, i));
    result->seconds = failure ? 0 : file->seconds;
    TRY(caller_ask(caller, MESSAGE_RESULT, result, MESSAGE_REPLY, &f->reply, 60000));
    if (!f->reply.ok)
        say(SAY_WARN, "the result of %s was not taken: %s", entry->ck, f->reply.words);
    return STATUS_OK;
}

static struct tried *
tries_of(struct follow *f, const char *ck)
{
    for (size_t i = 0; i < f->tried_count; i++)
        if (strcmp(f->tried[i].ck, ck) == 0)
            return &f->tried[i];
    if (f->tried_count == TRIED_MOST) { // the oldest failure is forgotten
        memmove(f->tried, f->tried + 1, (TRIED_MOST - 1) * sizeof *f->tried);
        f->tried_count--;
    }
    struct tried *tried = &f->tried[f->tried_count++];
    *tried = (struct tried){0};
    snprintf(tried->ck, sizeof tried->ck, "%s", ck);
    return tried;
}

// AGAIN when asked to stop. A checkpoint that cannot be scored is no failure of ours.
static enum status
attend(struct follow *f, struct caller *caller, const struct msg_ck_entry *entry)
{
    struct core_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    enum status status = evaluate(f, entry, file);
    char why[1024] = "";
    if (status == STATUS_OK) {
        pthread_mutex_lock(&f->lock);
        f->view.done++;
        f->view.seconds = file->seconds;
        snprintf(f->view.last, sizeof f->view.last, "%.64s: CE score %.4f, L0 %.1f", entry->ck,
                 file->core.ce_loss_score, file->core.l0);
        pthread_mutex_unlock(&f->lock);
        say(SAY_INFO,
            "step %" PRIu64 ": CE score %.4f, KL score %.4f, L0 %.1f, FVU %.4f, dead %.0f",
            entry->step, file->core.ce_loss_score, file->core.kl_div_score, file->core.l0,
            file->core.fvu, file->core.dead_latents);
    } else if (atomic_load(&f->stop)) {
        free(file);
        return status;
    } else {
        snprintf(why, sizeof why, "%s", status_words());
        struct tried *tried = tries_of(f, entry->ck);
        say(SAY_ERROR, "%s could not be scored (attempt %u of %u): %s", entry->ck,
            tried->attempts + 1, (unsigned)f->set->eval.max_attempts, why);
        if (++tried->attempts < f->set->eval.max_attempts) {
            free(file);
            return STATUS_OK;
        }
        pthread_mutex_lock(&f->lock);
        f->view.failed++;
        pthread_mutex_unlock(&f->lock);
    }
    status = deliver(f, caller, entry, file, why[0] ? why : NULL);
    free(file);
    // A trainer that is gone for good has our file; one that comes back is told then.
    return status == STATUS_UNREACHABLE ? STATUS_OK : status;
}

// The newest unscored checkpoint of one trainer; *more: there was one.
static enum status
visit(struct follow *f, struct caller *caller, bool *more)
{
    struct msg_cklist ask = {.most = CK_MOST};
    const struct msg_ck_entry *newest = NULL;
    *more = false;
    do {
        enum status status =
            caller_ask(caller, MESSAGE_CKLIST, &ask, MESSAGE_CKLISTR, &f->list, ASK_MS);
        if (status == STATUS_UNREACHABLE)
            return STATUS_OK; // not started yet, or between two lives
        if (status != STATUS_OK)
            return status;
        for (size_t i = 0; i < f->list.count; i++) {
            const struct msg_ck_entry *entry = &f->list.at[i];
            if (!entry->done && (!newest || entry->step >= newest->step))
                newest = entry;
            ask.after = entry->step;
        }
    } while (f->list.more && !newest && f->list.count > 0);
    if (!newest)
        return STATUS_OK;
    struct msg_ck_entry entry = *newest;
    *more = true;
    return attend(f, caller, &entry);
}

// Until something is announced, a while has passed, or it is time to go.
static void
rest(struct follow *f, int64_t ms)
{
    int64_t until = tick_ms() + ms;
    struct heard heard;
    bool announced = false;
    while (!announced && !atomic_load(&f->stop) && tick_ms() < until) {
        while (subscriber_next(f->announcements, &heard))
            announced = true;
        if (!announced && !channel_pending(f->channel)) {
            struct pollfd fd = {.fd = channel_fd(f->channel), .events = POLLIN};
            poll(&fd, 1, LOOK_MS);
        }
    }
}

static enum status
follow_all(struct follow *f)
{
    TRY(prepare(f));
    TRY(connect(f));
    while (!atomic_load(&f->stop)) {
        bool any = false;
        for (size_t i = 0; i < f->caller_count && !atomic_load(&f->stop); i++) {
            bool more;
            TRY(visit(f, f->callers[i], &more));
            any |= more;
        }
        if (any)
            continue;
        struct follow_view view;
        follow_look(f, &view);
        if (view.state != FOLLOW_IDLE)
            enter(f, FOLLOW_IDLE, 0);
        rest(f, f->list.count > 0 ? (int64_t)f->set->eval.poll_s * 1000 : RETRY_MS);
    }
    return STATUS_OK;
}

static void *
work(void *from)
{
    struct follow *f = from;
    // A nice value of its own thread: the trainer on the same cores goes first.
    if (nice(10) < 0)
        say(SAY_DEBUG, "the priority could not be lowered");
    enum status status = follow_all(f);
    if (atomic_load(&f->stop))
        status = STATUS_OK;
    status_note_take(&f->ended, status);
    f->ended.code = status;
    for (size_t i = 0; i < f->caller_count; i++)
        caller_close(&f->callers[i]);
    subscriber_close(&f->announcements);
    channel_free(&f->channel);
    score_free(&f->score);
    model_free(&f->model);
    packed_close(&f->windows);
    enter(f, FOLLOW_ENDED, 0);
    return NULL;
}

enum status
follow_new(struct follow **out, const struct config *config, int wake_fd)
{
    *out = NULL;
    TRY(config_given(config, "eval.text"));
    TRY(config_given(config, "model.path"));
    struct follow *f = calloc(1, sizeof *f);
    if (!f)
        return FAIL(CREATE, "no memory for the evaluator");
    f->config = config;
    f->set = &config->set;
    f->wake_fd = wake_fd;
    f->view.share = -1;
    pthread_mutex_init(&f->lock, NULL);
    if (pthread_create(&f->thread, NULL, work, f) != 0) {
        free(f);
        return FAIL(CREATE, "cannot start the work thread");
    }
    *out = f;
    return STATUS_OK;
}

enum status
follow_free(struct follow **follow)
{
    struct follow *f = *follow;
    if (!f)
        return STATUS_OK;
    atomic_store(&f->stop, true);
    pthread_join(f->thread, NULL);
    enum status status = status_note_give(&f->ended);
    pthread_mutex_destroy(&f->lock);
    free(f);
    *follow = NULL;
    return status;
}

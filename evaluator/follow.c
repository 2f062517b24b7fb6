#include "evaluator/follow.h"

#include "evaluator/evaluation.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
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
    size_t row;
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
    struct desk desk;
    void *rows[EVALUATIONS]; // states of evaluations[]; NULL: switched off
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

static bool
watch_work(void *context, const char *what, double share)
{
    struct follow *f = context;
    note_progress(f, what, share);
    return atomic_load(&f->stop);
}

static enum status
prepare(struct follow *f)
{
    note_progress(f, "loading the model", -1);
    TRY(desk_open(&f->desk, f->set, NULL));
    struct score_watch watch = {watch_work, f};
    for (size_t i = 0; i < EVALUATIONS; i++)
        TRY(evaluations[i]->open(&f->rows[i], &f->desk, &watch));
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
    char path[PATH_BYTES];
    if (f->set->eval.out[0]) {
        snprintf(out, PATH_BYTES, "%s", f->set->eval.out);
        return STATUS_OK;
    }
    TRY(path_join(path, f->set->storage.runs, run));
    return path_join(out, path, "eval");
}

// Its folder, readable and with the bytes that were announced.
static enum status
verify(const struct follow *f, const char *folder, const struct msg_ck_entry *entry)
{
    (void)f;
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
    return STATUS_OK;
}

// One kind of one checkpoint: from the file of an earlier time, or by doing it now.
static enum status
evaluate(struct follow *f, size_t row, const struct subject *subject,
         const struct msg_ck_entry *entry, struct finding *finding)
{
    bool found;
    TRY(evaluations[row]->find(&found, f->rows[row], subject, finding));
    if (found)
        return STATUS_OK;
    TRY(verify(f, subject->folder, entry));
    enter(f, FOLLOW_EVALUATING, entry->step);
    struct score_watch watch = {watch_work, f};
    return evaluations[row]->run(f->rows[row], subject, finding, &watch);
}

// Words may quote a foreign file; a message carries plain text only.
static void
plain_words(char *out, size_t room, const char *words)
{
    size_t at = 0;
    for (; words[at] && at + 1 < room; at++)
        out[at] = words[at] < ' ' || words[at] > '~' ? '?' : words[at];
    out[at] = '\0';
}

// f->result.values and `seconds` are the finding.
static enum status
deliver(struct follow *f, struct caller *caller, const struct msg_ck_entry *entry, size_t row,
        bool more, const struct finding *finding, const char *failure)
{
    struct msg_result *result = &f->result;
    snprintf(result->ck, sizeof result->ck, "%s", entry->ck);
    snprintf(result->kind, sizeof result->kind, "%s", evaluations[row]->kind);
    result->manifest_hash = entry->manifest_hash;
    result->spec = evaluations[row]->spec(f->rows[row]);
    result->more = more;
    // The same result has the same name, whoever says it and however often.
    struct {
        char ck[WIRE_TOPIC];
        struct hash128 spec;
        char more, failed;
    } key;
    memset(&key, 0, sizeof key);
    memcpy(key.ck, result->ck, sizeof key.ck);
    key.spec = result->spec;
    key.more = more;
    key.failed = failure != NULL;
    result->idem = hash128(&key, sizeof key);
    snprintf(result->state, sizeof result->state, "%s", failure ? "failed" : "done");
    plain_words(result->environment, sizeof result->environment,
                failure ? failure : "osae-" OSAE_VERSION);
    if (failure)
        named_clear(&result->values);
    result->seconds = failure ? 0 : finding->seconds;
    TRY(caller_ask(caller, MESSAGE_RESULT, result, MESSAGE_REPLY, &f->reply, 60000));
    if (!f->reply.ok)
        say(SAY_WARN, "the %s result of %s was not taken: %s", result->kind, entry->ck,
            f->reply.words);
    return STATUS_OK;
}

static struct tried *
tries_of(struct follow *f, const char *ck, size_t row)
{
    for (size_t i = 0; i < f->tried_count; i++)
        if (f->tried[i].row == row && strcmp(f->tried[i].ck, ck) == 0)
            return &f->tried[i];
    if (f->tried_count == TRIED_MOST) { // the oldest failure is forgotten
        memmove(f->tried, f->tried + 1, (TRIED_MOST - 1) * sizeof *f->tried);
        f->tried_count--;
    }
    struct tried *tried = &f->tried[f->tried_count++];
    *tried = (struct tried){.row = row};
    snprintf(tried->ck, sizeof tried->ck, "%s", ck);
    return tried;
}

// One kind of one checkpoint, and its result to the trainer. *again: it failed and will be tried
// once more. AGAIN when asked to stop; a checkpoint that cannot be scored is no failure of ours.
static enum status
attend_row(struct follow *f, struct caller *caller, const struct msg_ck_entry *entry,
           const struct subject *subject, size_t row, bool more, bool *again)
{
    const char *kind = evaluations[row]->kind;
    struct finding finding = {.values = &f->result.values};
    memset(&f->result, 0, sizeof f->result);
    enum status status = evaluate(f, row, subject, entry, &finding);
    char why[1024] = "";
    *again = false;
    if (status == STATUS_OK) {
        pthread_mutex_lock(&f->lock);
        f->view.done++;
        f->view.seconds = finding.seconds;
        snprintf(f->view.last, sizeof f->view.last, "%.60s: %.60s", entry->ck, finding.line);
        pthread_mutex_unlock(&f->lock);
        say(SAY_INFO, "step %" PRIu64 ": %s: %s", entry->step, kind, finding.line);
    } else if (atomic_load(&f->stop)) {
        return status;
    } else {
        snprintf(why, sizeof why, "%s", status_words());
        struct tried *tried = tries_of(f, entry->ck, row);
        say(SAY_ERROR, "%s: no %s result (attempt %u of %u): %s", entry->ck, kind,
            tried->attempts + 1, (unsigned)f->set->eval.max_attempts, why);
        *again = ++tried->attempts < f->set->eval.max_attempts;
        if (*again)
            return STATUS_OK;
        pthread_mutex_lock(&f->lock);
        f->view.failed++;
        pthread_mutex_unlock(&f->lock);
    }
    status = deliver(f, caller, entry, row, more, &finding, why[0] ? why : NULL);
    // A trainer that is gone for good has our file; one that comes back is told then.
    return status == STATUS_UNREACHABLE ? STATUS_OK : status;
}

// Everything that is due of one checkpoint.
static enum status
attend(struct follow *f, struct caller *caller, const struct msg_ck_entry *entry)
{
    char run[CARD_TEXT], folder[PATH_BYTES], results[PATH_BYTES];
    TRY(find_folder(f, entry, run, folder));
    TRY(result_folder(f, run, results));
    struct subject subject = {.folder = folder,
                              .run = run,
                              .ck = entry->ck,
                              .step = entry->step,
                              .mh = entry->manifest_hash,
                              .last = entry->last,
                              .results = results};
    size_t due[EVALUATIONS], count = 0;
    for (size_t i = 0; i < EVALUATIONS; i++)
        if (f->rows[i] && evaluations[i]->due(f->rows[i], &subject))
            due[count++] = i;
    bool again = false;
    for (size_t i = 0; i < count && !again; i++)
        TRY(attend_row(f, caller, entry, &subject, due[i], i + 1 < count, &again));
    return STATUS_OK;
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
    for (size_t i = 0; i < EVALUATIONS; i++)
        if (f->rows[i])
            evaluations[i]->close(&f->rows[i]);
    desk_close(&f->desk);
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

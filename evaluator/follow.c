#include "evaluator/follow.h"

#include "evaluator/attempts.h"
#include "evaluator/evaluation.h"
#include "evaluator/upstream.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/store/failure.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOOK_MS = 200, RETRY_MS = 1000, DOWN_MS = 3000, UPSTREAMS_MOST = TEXTS_MOST };

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
    char name[WIRE_NAME];    // among evaluators
    struct channel *channel;
    struct upstream *upstreams[UPSTREAMS_MOST];
    size_t count;
    struct shelf shelf;
    struct attempts attempts;
    struct waiting waiting;
    struct msg_result result;
    struct failure failure;
    // what we claimed and work on
    struct upstream *claimed_from; // NULL: nothing
    struct msg_ck_entry claimed;
    int64_t renew_at;
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

// ---------------------------------------------------------------- before the first checkpoint

// A claim outlives its time to live only while its owner says so.
static void
renew(struct follow *f)
{
    int64_t now = tick_ms();
    bool granted;
    if (!f->claimed_from || now < f->renew_at)
        return;
    f->renew_at = now + (int64_t)f->set->eval.claim_ttl_s * 1000 / 3;
    if (upstream_claim(f->claimed_from, &f->claimed, f->set->eval.claim_ttl_s, &granted) !=
        STATUS_OK)
        say(SAY_DEBUG, "%s", status_words());
}

// what NULL: asked while waiting for an answer; there is no news.
static bool
watch_work(void *context, const char *what, double share)
{
    struct follow *f = context;
    if (what) {
        note_progress(f, what, share);
        renew(f);
    }
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

// An evaluator is known by where it listens: one that is started in the place of another has its
// name, and its claims.
static enum status
name_ourselves(struct follow *f)
{
    struct msg_hello me;
    struct {
        struct hash128 host;
        char ctl[WIRE_ENDPOINT];
        uint64_t once;
    } key;
    memset(&key, 0, sizeof key);
    TRY(hello_fill(&me, ROLE_EVALUATOR, "evaluator", "", 0));
    key.host = me.host;
    snprintf(key.ctl, sizeof key.ctl, "%s", f->set->evaluator.ctl);
    if (strchr(key.ctl, '*')) // any port: nobody can take its place
        key.once = random_seed();
    snprintf(f->name, sizeof f->name, "evaluator-%08x", (unsigned)hash64(&key, sizeof key));
    return STATUS_OK;
}

static enum status
connect(struct follow *f)
{
    const struct settings *set = f->set;
    struct upstream_watch watch = {watch_work, f};
    char home[PATH_BYTES] = "";
    TRY(name_ourselves(f));
    TRY(shelf_init(&f->shelf, set, f->name));
    TRY(channel_new(&f->channel, NULL));
    size_t count = set->evaluator.trainers.count;
    if (count == 0)
        TRY(path_join(home, set->storage.runs, set->run.name));
    for (size_t i = 0; i < (count ? count : 1); i++) {
        const char *endpoint = count ? set->evaluator.trainers.at[i] : set->trainer.ctl;
        TRY(upstream_open(&f->upstreams[i], f->channel, set, endpoint, home, f->name, &watch));
        f->count++;
    }
    return STATUS_OK;
}

// ---------------------------------------------------------------- one checkpoint

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
deliver(struct follow *f, struct upstream *upstream, const struct msg_ck_entry *entry, size_t row,
        bool more, const struct finding *finding, const char *failure, bool *taken)
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
    return upstream_tell(upstream, result, taken);
}

// Ours to work on? Asked once for all kinds of a checkpoint.
static enum status
claim(struct follow *f, struct upstream *upstream, const struct msg_ck_entry *entry, bool *ours)
{
    *ours = true;
    if (f->claimed_from)
        return STATUS_OK;
    TRY(upstream_claim(upstream, entry, f->set->eval.claim_ttl_s, ours));
    if (!*ours)
        return STATUS_OK;
    f->claimed_from = upstream;
    f->claimed = *entry;
    f->renew_at = tick_ms() + (int64_t)f->set->eval.claim_ttl_s * 1000 / 3;
    return STATUS_OK;
}

static void
unclaim(struct follow *f)
{
    bool granted;
    if (f->claimed_from && upstream_claim(f->claimed_from, &f->claimed, 0, &granted) != STATUS_OK)
        say(SAY_DEBUG, "%s", status_words());
    f->claimed_from = NULL;
}

// What is known of one kind without doing anything.
enum known { KNOWN_NOT, KNOWN_RESULT, KNOWN_FAILURE };

static enum status
look_up(struct follow *f, size_t row, const struct subject *subject, struct finding *finding,
        enum known *known)
{
    const char *kind = evaluations[row]->kind;
    bool found;
    memset(&f->result, 0, sizeof f->result);
    *known = KNOWN_NOT;
    TRY(evaluations[row]->find(&found, f->rows[row], subject, finding));
    if (found) {
        *known = KNOWN_RESULT;
        return STATUS_OK;
    }
    TRY(failure_find(&found, &f->failure, subject->results, kind, subject->run, subject->step,
                     subject->mh, evaluations[row]->spec(f->rows[row])));
    if (found)
        *known = KNOWN_FAILURE;
    return STATUS_OK;
}

// One more attempt failed, for the reason in status_words. True: that was the last; f->failure says
// so, on disk too if that is possible.
static bool
give_up(struct follow *f, size_t row, const struct subject *subject)
{
    const char *kind = evaluations[row]->kind;
    unsigned made = attempts_add(&f->attempts, subject->ck, row, tick_ms());
    char why[sizeof f->failure.reason];
    plain_words(why, sizeof why, status_words());
    say(SAY_ERROR, "%s: no %s result (attempt %u of %u): %s", subject->ck, kind, made,
        (unsigned)f->set->eval.max_attempts, why);
    if (made < f->set->eval.max_attempts)
        return false;
    attempts_forget(&f->attempts, subject->ck, row);
    memset(&f->failure, 0, sizeof f->failure);
    snprintf(f->failure.ck, sizeof f->failure.ck, "%s", subject->ck);
    snprintf(f->failure.run, sizeof f->failure.run, "%s", subject->run);
    snprintf(f->failure.kind, sizeof f->failure.kind, "%s", kind);
    memcpy(f->failure.reason, why, sizeof why);
    f->failure.step = subject->step;
    f->failure.mh = subject->mh;
    f->failure.spec = evaluations[row]->spec(f->rows[row]);
    f->failure.attempts = made;
    if (failure_write(subject->results, &f->failure) != STATUS_OK)
        say(SAY_ERROR, "the failure could not be recorded: %s", status_words());
    return true;
}

static void
note_done(struct follow *f, const struct msg_ck_entry *entry, const char *kind,
          const struct finding *finding, bool failed)
{
    pthread_mutex_lock(&f->lock);
    if (failed) {
        f->view.failed++;
    } else {
        f->view.done++;
        f->view.seconds = finding->seconds;
        snprintf(f->view.last, sizeof f->view.last, "%.60s: %.60s", entry->ck, finding->line);
    }
    pthread_mutex_unlock(&f->lock);
    if (!failed)
        say(SAY_INFO, "step %" PRIu64 ": %s: %s", entry->step, kind, finding->line);
}

// One kind of one checkpoint: found, or done now. *known NOT: another time, or another evaluator.
// AGAIN when asked to stop; a checkpoint that cannot be scored is no failure of ours.
static enum status
settle(struct follow *f, struct upstream *upstream, const struct msg_ck_entry *entry, size_t row,
       struct subject *subject, char folder[PATH_BYTES], struct finding *finding, enum known *known,
       bool *worked)
{
    enum status status = look_up(f, row, subject, finding, known);
    if (status == STATUS_OK && *known != KNOWN_NOT)
        return STATUS_OK;
    if (attempts_pause(&f->attempts, subject->ck, row, tick_ms()))
        return STATUS_OK;
    bool ours;
    TRY(claim(f, upstream, entry, &ours));
    if (!ours)
        return STATUS_OK;
    enter(f, FOLLOW_EVALUATING, entry->step);
    if (status == STATUS_OK && !subject->folder) {
        status = upstream_reach(upstream, entry, &f->shelf, folder);
        if (status == STATUS_OK)
            subject->folder = folder;
    }
    struct score_watch watch = {watch_work, f};
    if (status == STATUS_OK)
        status = evaluations[row]->run(f->rows[row], subject, finding, &watch);
    if (atomic_load(&f->stop) && status != STATUS_OK)
        return FAIL(AGAIN, "stopped");
    if (status == STATUS_UNREACHABLE) { // not its fault: once more when the trainer is back
        say(SAY_WARN, "%s", status_words());
        return STATUS_OK;
    }
    if (status != STATUS_OK && !give_up(f, row, subject))
        return STATUS_OK;
    *worked = true;
    *known = status == STATUS_OK ? KNOWN_RESULT : KNOWN_FAILURE;
    if (status == STATUS_OK) {
        attempts_forget(&f->attempts, subject->ck, row);
        if (failure_clear(subject->results, evaluations[row]->kind, subject->run, subject->step,
                          evaluations[row]->spec(f->rows[row])) != STATUS_OK)
            say(SAY_WARN, "%s", status_words());
    }
    note_done(f, entry, evaluations[row]->kind, finding, *known == KNOWN_FAILURE);
    return STATUS_OK;
}

// Everything that is due of one checkpoint. *worked: something was done or told, so the world looks
// different now. *pending is set when something is left for later.
static enum status
attend(struct follow *f, struct upstream *upstream, const struct msg_ck_entry *entry, bool *worked,
       bool *pending)
{
    char run[WIRE_NAME], folder[PATH_BYTES], results[PATH_BYTES];
    *worked = false;
    if (upstream_places(upstream, entry, run, results) != STATUS_OK) {
        say(SAY_WARN, "%s: passed over: %s", upstream_endpoint(upstream), status_words());
        return STATUS_OK;
    }
    struct subject subject = {.run = run,
                              .ck = entry->ck,
                              .step = entry->step,
                              .mh = entry->manifest_hash,
                              .last = entry->last,
                              .results = results};
    size_t due[EVALUATIONS], count = 0;
    for (size_t i = 0; i < EVALUATIONS; i++)
        if (f->rows[i] && evaluations[i]->due(f->rows[i], &subject))
            due[count++] = i;
    enum known known = KNOWN_RESULT;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK && known != KNOWN_NOT; i++) {
        struct finding finding = {.values = &f->result.values};
        bool taken = false;
        status = settle(f, upstream, entry, due[i], &subject, folder, &finding, &known, worked);
        if (status == STATUS_OK && known != KNOWN_NOT)
            status = deliver(f, upstream, entry, due[i], i + 1 < count, &finding,
                             known == KNOWN_FAILURE ? f->failure.reason : NULL, &taken);
        *worked |= taken;
    }
    if (status == STATUS_OK && known != KNOWN_NOT && subject.folder)
        shelf_drop(&f->shelf, entry->manifest_hash);
    *pending |= known == KNOWN_NOT;
    unclaim(f);
    return status;
}

// The newest checkpoints of one trainer, until there was one to work on.
static enum status
visit(struct follow *f, struct upstream *upstream, bool *worked, bool *pending)
{
    *worked = false;
    TRY(upstream_list(upstream, &f->waiting));
    for (size_t i = 0; i < f->waiting.count && !*worked; i++) {
        TRY(attend(f, upstream, &f->waiting.at[i], worked, pending));
        if (atomic_load(&f->stop))
            return STATUS_OK;
    }
    return STATUS_OK;
}

// Until something is announced, a while has passed, or it is time to go.
static void
rest(struct follow *f, int64_t ms)
{
    int64_t until = tick_ms() + ms;
    bool announced = false;
    while (!announced && !atomic_load(&f->stop) && tick_ms() < until) {
        for (size_t i = 0; i < f->count; i++)
            announced |= upstream_announced(f->upstreams[i]);
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
        bool any = false, pending = false, up = true;
        for (size_t i = 0; i < f->count && !atomic_load(&f->stop); i++) {
            bool worked;
            TRY(visit(f, f->upstreams[i], &worked, &pending));
            any |= worked;
            up &= upstream_is_up(f->upstreams[i]);
        }
        if (any)
            continue;
        struct follow_view view;
        follow_look(f, &view);
        if (view.state != FOLLOW_IDLE)
            enter(f, FOLLOW_IDLE, 0);
        int64_t poll_ms = (int64_t)f->set->eval.poll_s * 1000;
        rest(f, pending ? RETRY_MS : up || poll_ms < DOWN_MS ? poll_ms : DOWN_MS);
    }
    return STATUS_OK;
}

static void *
work(void *from)
{
    struct follow *f = from;
    // The lowest nice value, of this thread and those it starts: a trainer on the same core keeps
    // 98 % of it. (SCHED_IDLE would leave it more, and this one nothing for hours on a busy
    // machine.)
    errno = 0;
    if (nice(19) < 0 && errno != 0)
        say(SAY_DEBUG, "the priority could not be lowered");
    enum status status = follow_all(f);
    if (atomic_load(&f->stop))
        status = STATUS_OK;
    status_note_take(&f->ended, status);
    f->ended.code = status;
    for (size_t i = 0; i < f->count; i++)
        upstream_close(&f->upstreams[i]);
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

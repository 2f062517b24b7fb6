#include "evaluator/follow.h"

#include "evaluator/agenda.h"
#include "evaluator/evaluation.h"
#include "evaluator/settled.h"
#include "evaluator/upstream.h"
#include "lib/base/fault.h"
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
#include <string.h>
#include <unistd.h>

enum { LOOK_MS = 200, UPSTREAMS_MOST = TEXTS_MOST };

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
    struct texts specs;      // theirs; "" of one that is off
    char name[WIRE_NAME];    // among evaluators
    struct channel *channel;
    struct upstream *upstreams[UPSTREAMS_MOST];
    size_t count;
    struct shelf shelf;
    struct agenda *agenda;
    struct msg_result result;
    struct failure failure;
    struct settled settled; // of the done ones
    // the checkpoint the agenda is at
    struct subject subject;
    char run[WIRE_NAME], folder[PATH_BYTES], results[PATH_BYTES];
    struct finding finding; // its values are those of `result`
    int held;               // the attempt that was begun and has not ended; -1: none, or no locks
    bool begun;
    size_t begun_kind;
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
    struct agenda_action action;
    bool granted;
    if (agenda_renews(f->agenda, tick_ms(), &action) &&
        upstream_claim(f->upstreams[action.trainer], action.entry, action.ttl_s, &granted) !=
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
        if (f->agenda)
            renew(f);
        for (size_t i = 0; i < f->count; i++)
            upstream_hear(f->upstreams[i]);
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
        TRY(evaluation_open(&f->rows[i], evaluations[i], &f->desk, &watch));
    for (size_t i = 0; i < EVALUATIONS; i++)
        if (f->rows[i])
            hex128(f->specs.at[i], evaluations[i]->spec(f->rows[i]));
    f->specs.count = EVALUATIONS;
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

// Whose failures and attempts these are.
static struct failure_key
key_of(struct follow *f, size_t kind)
{
    const struct subject *subject = &f->subject;
    return (struct failure_key){.results = subject->results,
                                .kind = evaluations[kind]->kind,
                                .run = subject->run,
                                .step = subject->step,
                                .mh = subject->mh,
                                .spec = evaluations[kind]->spec(f->rows[kind]),
                                .ck = subject->ck};
}

static enum status
find_failure(bool *found, struct follow *f, size_t kind)
{
    const struct failure_key key = key_of(f, kind);
    return failure_find(found, &f->failure, &key);
}

// Of these kinds, those without a result or a recorded failure of our specification. The trainer
// has been told of the others: a done checkpoint is told of only what is new.
static unsigned
lacking(struct follow *f, const struct msg_ck_entry *entry, unsigned kinds)
{
    const struct subject *subject = &f->subject;
    for (size_t i = 0; i < EVALUATIONS; i++) {
        if (!(kinds >> i & 1))
            continue;
        bool found = false;
        f->finding = (struct finding){.values = &f->result.values};
        memset(&f->result, 0, sizeof f->result);
        enum status status =
            evaluation_find(&found, evaluations[i], f->rows[i], subject, &f->finding);
        if (status == STATUS_OK && !found)
            status = find_failure(&found, f, i);
        if (status == STATUS_OK && found)
            kinds &= ~(1u << i);
    }
    if (kinds == 0)
        settled_add(&f->settled, entry);
    return kinds;
}

// Which kinds are due of it; none when it has no place here.
static unsigned
plan(struct follow *f, struct upstream *upstream, const struct msg_ck_entry *entry)
{
    unsigned kinds = 0;
    if (upstream_places(upstream, entry, f->run, f->results) != STATUS_OK) {
        say(SAY_WARN, "%s: passed over: %s", upstream_endpoint(upstream), status_words());
        return 0;
    }
    f->subject = (struct subject){.run = f->run,
                                  .ck = entry->ck,
                                  .step = entry->step,
                                  .mh = entry->manifest_hash,
                                  .last = entry->last,
                                  .results = f->results};
    for (size_t i = 0; i < EVALUATIONS; i++)
        if (f->rows[i] && evaluation_due(evaluations[i], &f->desk, &f->subject))
            kinds |= 1u << i;
    // What the trainer has of somebody is not made again; of one that is not done it has heard of
    // more to come, so somebody must say the last word.
    if (entry->done || kinds & ~(unsigned)entry->has)
        kinds &= ~(unsigned)entry->has;
    if (entry->done && kinds)
        kinds = settled_has(&f->settled, entry) ? 0 : lacking(f, entry, kinds);
    return kinds;
}

// What is known of one kind without doing anything.
static void
look(struct follow *f, size_t kind, bool up)
{
    const struct subject *subject = &f->subject;
    const struct failure_key key = key_of(f, kind);
    bool found = false;
    uint64_t begun = 0;
    memset(&f->result, 0, sizeof f->result);
    f->finding = (struct finding){.values = &f->result.values};
    enum status status =
        evaluation_find(&found, evaluations[kind], f->rows[kind], subject, &f->finding);
    if (status == STATUS_OK && found) {
        agenda_looked(f->agenda, AGENDA_YES, 0, NULL, tick_ms());
        return;
    }
    if (status == STATUS_OK)
        status = find_failure(&found, f, kind);
    if (status == STATUS_OK && found) {
        agenda_known_failure(f->agenda, f->failure.reason);
        return;
    }
    if (status == STATUS_OK)
        status = failure_begun(&begun, &key);
    // Claims are the trainer's to give; without it, who is alive and at it has one.
    bool held = false;
    if (status == STATUS_OK && begun > 0 && !up)
        status = failure_is_held(&held, &key);
    agenda_looked(f->agenda,
                  status != STATUS_OK ? AGENDA_TROUBLE
                  : held              ? AGENDA_LATER
                                      : AGENDA_NO,
                  (unsigned)begun, status_words(), tick_ms());
}

static void
fill_failure(struct follow *f, const struct agenda_action *action, const char *reason)
{
    struct failure *failure = &f->failure;
    memset(failure, 0, sizeof *failure);
    snprintf(failure->ck, sizeof failure->ck, "%s", f->subject.ck);
    snprintf(failure->run, sizeof failure->run, "%s", f->subject.run);
    snprintf(failure->kind, sizeof failure->kind, "%s", evaluations[action->kind]->kind);
    plain_words(failure->reason, sizeof failure->reason, reason);
    failure->step = f->subject.step;
    failure->mh = f->subject.mh;
    failure->spec = evaluations[action->kind]->spec(f->rows[action->kind]);
    failure->attempts = action->attempts;
}

// f->failure says which attempt it is.
static enum status
begin_attempt(struct follow *f, size_t kind)
{
    const struct failure_key key = key_of(f, kind);
    TRY(failure_begin(f->results, &f->failure));
    f->begun = true;
    f->begun_kind = kind;
    return failure_hold(&f->held, &key);
}

// However it went, nobody died of it. Also when asked to stop before it was made.
static void
end_attempt(struct follow *f)
{
    if (!f->begun)
        return;
    const struct failure_key key = key_of(f, f->begun_kind);
    if (failure_ended(&key) != STATUS_OK)
        say(SAY_WARN, "%s", status_words());
    if (f->held >= 0)
        close(f->held);
    f->held = -1;
    f->begun = false;
}

// The result is a file when this returns OK; the attempt has ended, whatever it returns.
static enum status
evaluate(struct follow *f, size_t kind)
{
    const struct subject *subject = &f->subject;
    const struct failure_key key = key_of(f, kind);
    struct score_watch watch = {watch_work, f};
    enum status status = fault("evaluator.run")
                             ? FAIL(IO, "%s: injected", subject->ck)
                             : evaluations[kind]->run(f->rows[kind], subject, &f->finding, &watch);
    struct status_note note;
    status_note_take(&note, status);
    if (status == STATUS_OK && failure_clear(&key) != STATUS_OK)
        say(SAY_WARN, "%s", status_words());
    end_attempt(f);
    return status_note_give(&note);
}

// f->finding and f->result.values are the finding.
static enum status
tell(struct follow *f, const struct agenda_action *action, bool *taken)
{
    struct msg_result *result = &f->result;
    size_t kind = action->kind;
    snprintf(result->ck, sizeof result->ck, "%s", action->entry->ck);
    snprintf(result->kind, sizeof result->kind, "%s", evaluations[kind]->kind);
    result->manifest_hash = action->entry->manifest_hash;
    result->spec = evaluations[kind]->spec(f->rows[kind]);
    result->more = action->more;
    // The same result has the same name, whoever says it and however often.
    struct {
        char ck[WIRE_TOPIC];
        struct hash128 spec;
        char more, failed;
    } key;
    memset(&key, 0, sizeof key);
    memcpy(key.ck, result->ck, sizeof key.ck);
    key.spec = result->spec;
    key.more = action->more;
    key.failed = action->failed;
    result->idem = hash128(&key, sizeof key);
    snprintf(result->state, sizeof result->state, "%s", action->failed ? "failed" : "done");
    plain_words(result->environment, sizeof result->environment,
                action->failed ? action->why : "osae-" OSAE_VERSION);
    if (action->failed)
        named_clear(&result->values);
    result->seconds = action->failed ? 0 : f->finding.seconds;
    return upstream_tell(f->upstreams[action->trainer], result, taken);
}

static void
note_done(struct follow *f, const struct agenda_action *action)
{
    const char *kind = evaluations[action->kind]->kind;
    pthread_mutex_lock(&f->lock);
    if (action->failed) {
        f->view.failed++;
        snprintf(f->view.last, sizeof f->view.last, "%.48s: given up: %.64s", action->entry->ck,
                 action->why);
    } else {
        f->view.done++;
        f->view.seconds = f->finding.seconds;
        snprintf(f->view.last, sizeof f->view.last, "%.60s: %.60s", action->entry->ck,
                 f->finding.line);
    }
    pthread_mutex_unlock(&f->lock);
    if (!action->failed)
        say(SAY_INFO, "step %" PRIu64 ": %s: %s", action->entry->step, kind, f->finding.line);
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

// An attempt that went wrong: for the log, and for the agenda to count. AGAIN: it was us who stop.
static enum status
answer_attempt(struct follow *f, const struct agenda_action *action, enum status status)
{
    char why[sizeof f->failure.reason];
    plain_words(why, sizeof why, status_words());
    if (status == STATUS_OK) {
        agenda_answer(f->agenda, AGENDA_YES, NULL, tick_ms());
    } else if (atomic_load(&f->stop)) {
        return FAIL(AGAIN, "stopped");
    } else if (status == STATUS_UNREACHABLE) { // not its fault: once more when the trainer is back
        say(SAY_WARN, "%s", why);
        agenda_answer(f->agenda, AGENDA_LATER, why, tick_ms());
    } else {
        say(SAY_ERROR, "%s: no %s result: %s", f->subject.ck, evaluations[action->kind]->kind, why);
        agenda_answer(f->agenda, AGENDA_TROUBLE, why, tick_ms());
    }
    return STATUS_OK;
}

static void
idle(struct follow *f, int64_t ms)
{
    struct follow_view view;
    follow_look(f, &view);
    if (view.state != FOLLOW_IDLE)
        enter(f, FOLLOW_IDLE, 0);
    rest(f, ms);
}

// Does what the agenda says. Errors here end the evaluator; what a checkpoint did is an answer.
static enum status
perform(struct follow *f, const struct agenda_action *action)
{
    struct upstream *upstream = f->upstreams[action->trainer];
    const struct msg_ck_entry *entry = action->entry;
    enum status status = STATUS_OK;
    bool yes = true;
    switch (action->what) {
    case AGENDA_LIST:
        TRY(upstream_list(upstream, &f->specs, action->waiting));
        agenda_listed(f->agenda, upstream_is_up(upstream));
        return STATUS_OK;
    case AGENDA_PLAN:
        agenda_planned(f->agenda, plan(f, upstream, entry));
        return STATUS_OK;
    case AGENDA_LOOK:
        look(f, action->kind, upstream_is_up(upstream));
        return STATUS_OK;
    case AGENDA_CLAIM:
        TRY(upstream_claim(upstream, entry, action->ttl_s, &yes));
        if (yes)
            enter(f, FOLLOW_EVALUATING, entry->step);
        break;
    case AGENDA_REACH:
        status = upstream_reach(upstream, entry, &f->shelf, f->folder);
        f->subject.folder = f->folder;
        return answer_attempt(f, action, status);
    case AGENDA_BEGIN:
        fill_failure(f, action, f->name);
        return answer_attempt(f, action, begin_attempt(f, action->kind));
    case AGENDA_RUN:
        status = evaluate(f, action->kind);
        if (status == STATUS_OK)
            note_done(f, action);
        return answer_attempt(f, action, status);
    case AGENDA_RECORD:
        fill_failure(f, action, action->why);
        say(SAY_ERROR, "%s: given up: %s", entry->ck, f->failure.reason);
        if (failure_write(f->results, &f->failure) != STATUS_OK)
            say(SAY_ERROR, "the failure could not be recorded: %s", status_words());
        note_done(f, action);
        break;
    case AGENDA_TELL:
        TRY(tell(f, action, &yes));
        break;
    case AGENDA_DROP:
        shelf_drop(&f->shelf, entry->manifest_hash);
        break;
    case AGENDA_UNCLAIM:
        if (upstream_claim(upstream, entry, 0, &yes) != STATUS_OK)
            say(SAY_DEBUG, "%s", status_words());
        break;
    case AGENDA_REST:
        idle(f, action->rest_ms);
        break;
    }
    agenda_answer(f->agenda, yes ? AGENDA_YES : AGENDA_NO, NULL, tick_ms());
    return STATUS_OK;
}

static enum status
follow_all(struct follow *f)
{
    TRY(prepare(f));
    TRY(connect(f));
    struct agenda_settings set = {.trainers = f->count,
                                  .kinds = EVALUATIONS,
                                  .max_attempts = f->set->eval.max_attempts,
                                  .claim_ttl_s = f->set->eval.claim_ttl_s,
                                  .poll_ms = (int64_t)f->set->eval.poll_s * 1000};
    TRY(agenda_new(&f->agenda, &set));
    while (!atomic_load(&f->stop)) {
        struct agenda_action action;
        agenda_next(f->agenda, &action);
        TRY(perform(f, &action));
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
    end_attempt(f);
    for (size_t i = 0; i < f->count; i++)
        upstream_close(&f->upstreams[i]);
    channel_free(&f->channel);
    agenda_free(&f->agenda);
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
    f->held = -1;
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

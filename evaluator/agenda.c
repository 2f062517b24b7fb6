#include "evaluator/agenda.h"

#include "evaluator/attempts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct agenda {
    struct agenda_settings set;
    enum agenda_do state;
    struct attempts attempts;
    struct waiting waiting;
    size_t trainer, at; // at: in waiting
    size_t due[AGENDA_KINDS], due_count, next;
    // of this round over all trainers
    bool any, pending, all_up;
    // of this checkpoint
    bool worked, claimed, reached;
    int64_t renew_at;
    // of this kind
    bool failed, trouble;
    unsigned begun, made;
    char why[512];
};

enum status
agenda_new(struct agenda **out, const struct agenda_settings *set)
{
    assert(set->trainers > 0 && set->kinds > 0 && set->kinds <= AGENDA_KINDS);
    struct agenda *a = *out = calloc(1, sizeof *a);
    if (!a)
        return FAIL(CREATE, "no memory for the evaluator's agenda");
    a->set = *set;
    a->state = AGENDA_LIST;
    a->all_up = true;
    return STATUS_OK;
}

void
agenda_free(struct agenda **agenda)
{
    free(*agenda);
    *agenda = NULL;
}

static const struct msg_ck_entry *
entry_of(const struct agenda *a)
{
    return a->at < a->waiting.count ? &a->waiting.at[a->at] : NULL;
}

static size_t
kind_of(const struct agenda *a)
{
    return a->next < a->due_count ? a->due[a->next] : 0;
}

void
agenda_next(struct agenda *a, struct agenda_action *action)
{
    bool poll = !a->pending && (a->all_up || a->set.poll_ms < AGENDA_DOWN_MS);
    *action = (struct agenda_action){
        .what = a->state,
        .trainer = a->trainer,
        .kind = kind_of(a),
        .entry = entry_of(a),
        .waiting = a->state == AGENDA_LIST ? &a->waiting : NULL,
        .attempts = a->state == AGENDA_BEGIN ? a->begun + 1 : a->made,
        .more = a->next + 1 < a->due_count,
        .failed = a->failed,
        .why = a->why,
        .ttl_s = a->set.claim_ttl_s,
        .rest_ms = a->pending ? AGENDA_RETRY_MS
                   : poll     ? a->set.poll_ms
                              : AGENDA_DOWN_MS,
    };
}

// ---- where it goes on

static void
next_trainer(struct agenda *a)
{
    a->any |= a->worked;
    a->waiting.count = a->at = 0;
    a->state = AGENDA_LIST;
    if (++a->trainer < a->set.trainers)
        return;
    a->trainer = 0;
    if (!a->any) {
        a->state = AGENDA_REST;
        return;
    }
    a->any = a->pending = false;
    a->all_up = true;
}

// A checkpoint that was worked on may be the last thing that is known of the others.
static void
next_entry(struct agenda *a)
{
    if (a->worked || ++a->at >= a->waiting.count)
        next_trainer(a);
    else
        a->state = AGENDA_PLAN;
}

static void
leave(struct agenda *a, bool pending)
{
    a->pending |= pending;
    if (a->claimed)
        a->state = AGENDA_UNCLAIM;
    else
        next_entry(a);
}

static void
next_kind(struct agenda *a)
{
    a->failed = a->trouble = false;
    a->begun = a->made = 0;
    a->why[0] = '\0';
    if (a->next < a->due_count)
        a->state = AGENDA_LOOK;
    else if (a->reached)
        a->state = AGENDA_DROP;
    else
        leave(a, false);
}

static void
record(struct agenda *a, unsigned made)
{
    a->made = made;
    a->failed = true;
    a->state = AGENDA_RECORD;
}

// One more attempt failed: the last one?
static void
fail_once(struct agenda *a, int64_t now)
{
    const char *ck = entry_of(a)->ck;
    unsigned made = attempts_add(&a->attempts, ck, kind_of(a), now);
    if (made < a->set.max_attempts) {
        leave(a, true);
        return;
    }
    attempts_forget(&a->attempts, ck, kind_of(a));
    record(a, made);
}

static void
attempt(struct agenda *a, int64_t now)
{
    if (a->trouble) {
        fail_once(a, now);
    } else if (a->begun >= a->set.max_attempts) {
        snprintf(a->why, sizeof a->why, "the evaluator died %u times on it", a->begun);
        record(a, a->begun);
    } else {
        a->state = a->reached ? AGENDA_BEGIN : AGENDA_REACH;
    }
}

// ---- answers

void
agenda_listed(struct agenda *a, bool trainer_is_up)
{
    assert(a->state == AGENDA_LIST && a->waiting.count <= CK_MOST);
    a->all_up &= trainer_is_up;
    a->worked = false;
    a->at = 0;
    if (a->waiting.count > 0)
        a->state = AGENDA_PLAN;
    else
        next_trainer(a);
}

void
agenda_planned(struct agenda *a, unsigned kinds)
{
    assert(a->state == AGENDA_PLAN);
    a->claimed = a->reached = false;
    a->due_count = a->next = 0;
    for (size_t i = 0; i < a->set.kinds; i++)
        if (kinds >> i & 1)
            a->due[a->due_count++] = i;
    next_kind(a);
}

static void
keep_words(struct agenda *a, const char *words)
{
    snprintf(a->why, sizeof a->why, "%s", words ? words : "");
}

void
agenda_looked(struct agenda *a, enum agenda_answer known, unsigned begun, const char *words,
              int64_t now)
{
    assert(a->state == AGENDA_LOOK);
    if (known == AGENDA_YES) {
        a->state = AGENDA_TELL;
        return;
    }
    a->trouble = known == AGENDA_TROUBLE;
    a->begun = begun;
    keep_words(a, words);
    if (known == AGENDA_LATER || attempts_pause(&a->attempts, entry_of(a)->ck, kind_of(a), now))
        leave(a, true);
    else if (!a->claimed)
        a->state = AGENDA_CLAIM;
    else
        attempt(a, now);
}

void
agenda_known_failure(struct agenda *a, const char *why)
{
    assert(a->state == AGENDA_LOOK);
    keep_words(a, why);
    a->failed = true;
    a->state = AGENDA_TELL;
}

static void
answer_work(struct agenda *a, enum agenda_answer answer, const char *words, int64_t now)
{
    if (answer == AGENDA_LATER) {
        leave(a, true);
    } else if (answer != AGENDA_YES) {
        keep_words(a, words);
        fail_once(a, now);
    } else if (a->state == AGENDA_REACH) {
        a->reached = true;
        a->state = AGENDA_BEGIN;
    } else if (a->state == AGENDA_BEGIN) {
        a->state = AGENDA_RUN;
    } else {
        attempts_forget(&a->attempts, entry_of(a)->ck, kind_of(a));
        a->worked = true;
        a->state = AGENDA_TELL;
    }
}

void
agenda_answer(struct agenda *a, enum agenda_answer answer, const char *words, int64_t now)
{
    switch (a->state) {
    case AGENDA_CLAIM:
        if (answer != AGENDA_YES) {
            leave(a, true);
            break;
        }
        a->claimed = true;
        a->renew_at = now + (int64_t)a->set.claim_ttl_s * 1000 / 3;
        attempt(a, now);
        break;
    case AGENDA_REACH:
    case AGENDA_BEGIN:
    case AGENDA_RUN:
        answer_work(a, answer, words, now);
        break;
    case AGENDA_RECORD: // where it could not be written the trainer is told all the same
        a->worked = true;
        a->state = AGENDA_TELL;
        break;
    case AGENDA_TELL:
        a->worked |= answer == AGENDA_YES;
        a->next++;
        next_kind(a);
        break;
    case AGENDA_DROP:
        leave(a, false);
        break;
    case AGENDA_UNCLAIM:
        a->claimed = false;
        next_entry(a);
        break;
    case AGENDA_REST:
        a->any = a->pending = false;
        a->all_up = true;
        a->state = AGENDA_LIST;
        break;
    default:
        assert(!"answered by a function of its own");
    }
}

bool
agenda_renews(struct agenda *a, int64_t now, struct agenda_action *action)
{
    if (!a->claimed || (a->state != AGENDA_REACH && a->state != AGENDA_RUN) || now < a->renew_at)
        return false;
    a->renew_at = now + (int64_t)a->set.claim_ttl_s * 1000 / 3;
    agenda_next(a, action);
    action->what = AGENDA_CLAIM;
    return true;
}

// agenda: what an evaluator does next, as a pure state machine: no I/O, no clock, no allocation
// after _new. The work thread (follow.h) performs one action after the other and answers it; the
// simulator of tests/fault does the same with a disk, a network and evaluations of its own.
//
// clang-format off
//   LIST -> for each checkpoint, newest first, until there was work:
//     PLAN -> for each kind that is due:
//       LOOK -- a result or a failure is known ------------------------> TELL -> next kind
//         '--> CLAIM -> REACH -> BEGIN -> RUN -- a result -----------------^
//              no: another time             '--- failed so often,          |
//                                                or begun and never ended -- RECORD
//     DROP what was fetched, UNCLAIM
//   nothing to do anywhere: REST, until something is announced or the time has passed
// clang-format on
//
// 1. Every checkpoint that stays listed gets a result or a recorded failure of each kind that is
//    due, whatever is killed meanwhile: what fails is tried `max_attempts` times, each time later;
//    what was begun so often and never ended has killed its evaluators, and is not begun again.
// 2. An attempt is begun on disk before it is made (BEGIN), so that its end is missed by whoever
//    comes next. A result or a failure is on disk before it is told.
// 3. A claim is held from before the first attempt until the checkpoint is left; it is renewed.
#ifndef EVALUATOR_AGENDA_H
#define EVALUATOR_AGENDA_H

#include "lib/base/status.h"
#include "proto/messages.h"

enum { AGENDA_KINDS = 8, AGENDA_RETRY_MS = 1000, AGENDA_DOWN_MS = 3000 };

struct agenda_settings {
    size_t trainers, kinds; // both from 1
    unsigned max_attempts;
    uint32_t claim_ttl_s;
    int64_t poll_ms;
};

// The checkpoints of one trainer that wait for a result, newest first; `done` ones behind them.
struct waiting {
    size_t count;
    struct msg_ck_entry at[CK_MOST];
};

struct agenda;
CHECKED enum status agenda_new(struct agenda **out, const struct agenda_settings *set);
void agenda_free(struct agenda **agenda);

enum agenda_do {
    AGENDA_LIST, // fill `waiting`                           agenda_listed
    AGENDA_PLAN, // which kinds are due                      agenda_planned; none: passed over
    AGENDA_LOOK, // is anything known of this kind           agenda_looked, _known_failure
    // These are answered by agenda_answer:
    AGENDA_CLAIM,   // ours for ttl_s                           YES NO
    AGENDA_REACH,   // its files, readable here                 YES LATER TROUBLE
    AGENDA_BEGIN,   // write down that attempt `attempts` began YES TROUBLE
    AGENDA_RUN,     // evaluate; result file; the attempt ended YES LATER TROUBLE
    AGENDA_RECORD,  // write the failure: `attempts`, `why`     YES TROUBLE
    AGENDA_TELL,    // the trainer; `failed`: `why`             YES NO
    AGENDA_DROP,    // what was fetched of it                   YES
    AGENDA_UNCLAIM, // others may have it                       YES
    AGENDA_REST,    // for `rest_ms`, or until something is new YES
};
struct agenda_action {
    enum agenda_do what;
    size_t trainer, kind;
    const struct msg_ck_entry *entry;
    struct waiting *waiting;
    unsigned attempts;
    bool more, failed; // TELL: other kinds will follow; it is a failure
    const char *why;
    uint32_t ttl_s;
    int64_t rest_ms;
};
// What to do now; the same until it is answered.
void agenda_next(struct agenda *agenda, struct agenda_action *action);

enum agenda_answer {
    AGENDA_YES,
    AGENDA_NO,
    AGENDA_LATER,   // the trainer is away: no fault of the checkpoint's
    AGENDA_TROUBLE, // it went wrong, words say how
};
void agenda_listed(struct agenda *agenda, bool trainer_is_up);
void agenda_planned(struct agenda *agenda, unsigned kinds); // bit i: kind i
// YES: a result. NO: nothing, but so many attempts that never ended. LATER: another is at it, and
// there is no trainer to ask. TROUBLE: it cannot be known.
void agenda_looked(struct agenda *agenda, enum agenda_answer known, unsigned begun,
                   const char *words, int64_t now);
void agenda_known_failure(struct agenda *agenda, const char *why); // there is a record
void agenda_answer(struct agenda *agenda, enum agenda_answer answer, const char *words,
                   int64_t now);

// While REACH or RUN are under way: is it time to CLAIM again? Performed, and not answered.
bool agenda_renews(struct agenda *agenda, int64_t now, struct agenda_action *action);

#endif

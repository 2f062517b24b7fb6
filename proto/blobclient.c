#include "proto/blobclient.h"

#include "proto/blobserver.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

const struct blobclient_settings blobclient_presets = {
    .link = {.greet_ms = 500, .greet_limit_ms = 15000, .backoff_ms = 200, .backoff_cap_ms = 10000},
    .window = BLOB_WINDOW,
    .repeat_ms = 2000,
    .tries = 8,
};

enum { TTL_S = 600, PAUSE_MS = 1000, FILE_TRIES = 2, FAREWELL_MS = 500 };

struct blobclient {
    struct blobclient_settings set;
    struct link link;
    struct hasher *hasher; // over the file that `verified` lies in
    enum blobclient_state state;
    struct msg_open open;
    uint64_t manifest_hash, most;
    bool planned; // `opened` is what we go by
    struct msg_opened opened;
    uint32_t handle;                       // of the current opening; 0: none
    uint32_t closing;                      // a handle to be closed
    uint64_t opening_lk;                   // the link OPEN was sent over
    int64_t asked_at, open_at, brought_at; // brought_at: bytes or OPENED came last
    unsigned asks;                         // OPENs without an answer
    uint64_t verified, file_at;            // file_at: where the file begins
    size_t file;
    unsigned files_wrong;
    uint64_t credit; // told last
    bool tell;       // WANT is due
    bool rewind;
    size_t rewind_file;
    unsigned tries;
    bool leaving;
    uint64_t last_i; // PING whose answer comes behind all chunks; 0: not sent
    int64_t leave_at;
    uint64_t reopened, badhash;
    char words[WIRE_WORDS];
};

enum status
blobclient_new(struct blobclient **out, const struct blobclient_settings *set)
{
    assert(set->window > 0 && set->tries > 0);
    struct blobclient *c = *out = calloc(1, sizeof *c);
    if (!c)
        return FAIL(CREATE, "no memory to fetch files");
    c->set = *set;
    c->hasher = hasher_new();
    if (!c->hasher) {
        blobclient_free(out);
        return FAIL(CREATE, "no memory to fetch files");
    }
    link_init(&c->link, &c->set.link, set->seed);
    return STATUS_OK;
}

void
blobclient_free(struct blobclient **client)
{
    if (*client)
        hasher_free(&(*client)->hasher);
    free(*client);
    *client = NULL;
}

static bool
waiting(const struct blobclient *c)
{
    return c->state == BLOBCLIENT_OPENING || c->state == BLOBCLIENT_FETCHING;
}

static void
conclude(struct blobclient *c, enum blobclient_state state, const char *words)
{
    c->state = state;
    if (c->handle)
        c->closing = c->handle;
    c->handle = 0;
    snprintf(c->words, sizeof c->words, "%s", words);
}

// Once more from OPEN, after a pause unless something was gained since the last time.
static void
reopen(struct blobclient *c, int64_t now, int64_t pause_ms, const char *words)
{
    if (!waiting(c))
        return;
    if (++c->tries >= c->set.tries) {
        conclude(c, BLOBCLIENT_FAILED, words);
        return;
    }
    if (c->handle)
        c->closing = c->handle;
    c->handle = 0;
    c->state = BLOBCLIENT_OPENING;
    c->opening_lk = 0;
    c->open_at = now + pause_ms;
    c->reopened++;
}

void
blobclient_backoff(struct blobclient *c, uint32_t cap_ms)
{
    c->set.link.backoff_cap_ms = cap_ms;
}

void
blobclient_start(struct blobclient *c, const char *ck, uint64_t manifest_hash,
                 const struct texts *names, uint64_t most)
{
    conclude(c, BLOBCLIENT_OPENING, "");
    memset(&c->open, 0, sizeof c->open);
    snprintf(c->open.ck, sizeof c->open.ck, "%s", ck);
    c->open.files = *names;
    c->open.ttl_s = TTL_S;
    c->manifest_hash = manifest_hash;
    c->most = most;
    c->planned = c->rewind = c->tell = false;
    c->opening_lk = 0;
    c->asked_at = c->open_at = INT64_MIN / 2;
    c->verified = c->file_at = c->credit = c->reopened = c->badhash = 0;
    c->file = 0;
    c->files_wrong = c->tries = 0;
    hasher_reset(c->hasher);
}

void
blobclient_leave(struct blobclient *c)
{
    c->leaving = true;
    conclude(c, BLOBCLIENT_IDLE, "");
}

// ---------------------------------------------------------------- what arrived

static void
lost(struct blobclient *c, int64_t now)
{
    c->closing = c->handle = 0; // the server forgot them with the link
    c->asks = 0;
    if (c->state == BLOBCLIENT_FETCHING) {
        c->state = BLOBCLIENT_OPENING;
        c->reopened++;
    }
    c->opening_lk = 0;
    c->open_at = now;
}

static void
take_err(struct blobclient *c, const struct msg_err *err, int64_t now)
{
    bool ours = err->r == c->open.i && c->open.i != 0 && waiting(c);
    switch (err->code) {
    case REFUSAL_NOTFOUND:
        if (ours)
            conclude(c, BLOBCLIENT_GONE, err->words);
        return;
    case REFUSAL_ROLE:
    case REFUSAL_DENIED:
    case REFUSAL_ARG:
        if (ours)
            conclude(c, BLOBCLIENT_FAILED, err->words);
        return;
    case REFUSAL_BUSY:
        if (ours && c->tries > 0)
            c->tries--; // others are served: waiting is no failure
        if (ours)
            reopen(c, now, err->retry_ms ? err->retry_ms : PAUSE_MS, err->words);
        return;
    case REFUSAL_EXPIRED:
        if (c->state == BLOBCLIENT_FETCHING)
            reopen(c, now, 0, err->words);
        return;
    case REFUSAL_CORRUPT: // seldom heals
        if (ours)
            c->tries += c->set.tries / 3;
        // fall through
    default:
        if (ours)
            reopen(c, now, PAUSE_MS, err->words);
    }
}

void
blobclient_small(struct blobclient *c, const struct message *message, int64_t now)
{
    enum link_news news = link_receive(&c->link, message, now);
    if (c->last_i && message->type == MESSAGE_PONG && message->pong.r == c->last_i)
        link_leave(&c->link);
    if (news == LINK_IS_UP || news == LINK_IS_LOST)
        lost(c, now);
    else if (news == LINK_IS_REFUSED && waiting(c))
        conclude(c, BLOBCLIENT_FAILED, message->err.words);
    else if (message->type == MESSAGE_ERR)
        take_err(c, &message->err, now);
}

static void
heard(struct blobclient *c, int64_t now)
{
    struct message alive = {.type = MESSAGE_PONG};
    (void)link_receive(&c->link, &alive, now);
}

static bool
same_list(const struct msg_opened *a, const struct msg_opened *b)
{
    if (a->count != b->count || a->manifest_hash != b->manifest_hash || a->bytes != b->bytes)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->at[i].name, b->at[i].name) != 0 || a->at[i].bytes != b->at[i].bytes ||
            a->at[i].hash != b->at[i].hash)
            return false;
    return true;
}

// Is this what was asked for, in that order?
static bool
fits(const struct blobclient *c, const struct msg_opened *opened)
{
    uint64_t sum = 0;
    if (opened->count != c->open.files.count || opened->count == 0)
        return false;
    for (size_t i = 0; i < opened->count; i++)
        if (strcmp(opened->at[i].name, c->open.files.at[i]) != 0 ||
            __builtin_add_overflow(sum, opened->at[i].bytes, &sum))
            return false;
    return sum == opened->bytes && sum > 0;
}

static void
file_begins(struct blobclient *c)
{
    hasher_reset(c->hasher);
    c->file_at = c->verified;
}

// After each byte: is the file whole, and right? Empty ones are passed over.
static void
file_ends(struct blobclient *c)
{
    while (c->file < c->opened.count && c->verified == c->file_at + c->opened.at[c->file].bytes) {
        if (hasher_64(c->hasher) == c->opened.at[c->file].hash) {
            c->file++;
            c->files_wrong = 0;
            file_begins(c);
            continue;
        }
        c->badhash++;
        if (++c->files_wrong >= FILE_TRIES) {
            char words[WIRE_WORDS];
            snprintf(words, sizeof words, "%s: its bytes do not make its hash",
                     c->opened.at[c->file].name);
            conclude(c, BLOBCLIENT_FAILED, words);
            return;
        }
        c->rewind = true;
        c->rewind_file = c->file;
        c->verified = c->file_at;
        hasher_reset(c->hasher);
        if (c->handle)
            c->closing = c->handle;
        c->handle = 0;
        if (c->state == BLOBCLIENT_FETCHING) {
            c->state = BLOBCLIENT_OPENING;
            c->opening_lk = 0;
            c->reopened++;
        }
        return;
    }
}

static void
begin_fetching(struct blobclient *c)
{
    c->state = BLOBCLIENT_FETCHING;
    c->credit = c->verified;
    c->tell = true;
    if (c->verified == c->opened.bytes)
        conclude(c, BLOBCLIENT_DONE, "");
}

void
blobclient_opened(struct blobclient *c, const struct msg_opened *opened, int64_t now)
{
    heard(c, now);
    if (c->state != BLOBCLIENT_OPENING || opened->r != c->open.i)
        return; // of an older question
    c->handle = opened->fd;
    c->brought_at = now;
    c->asks = 0;
    if (opened->manifest_hash != c->manifest_hash) {
        conclude(c, BLOBCLIENT_GONE, "another checkpoint has this name now");
    } else if (!fits(c, opened) || (c->planned && !same_list(opened, &c->opened))) {
        conclude(c, BLOBCLIENT_FAILED, "the server's list of files is not what was asked for");
    } else if (opened->bytes > c->most) {
        conclude(c, BLOBCLIENT_FAILED, "its files are larger than what may be fetched");
    } else if (c->planned) {
        begin_fetching(c);
    } else {
        c->opened = *opened;
        c->planned = true;
        c->state = BLOBCLIENT_PLANNING;
    }
}

void
blobclient_has(struct blobclient *c, const void *at, size_t bytes)
{
    assert(c->state == BLOBCLIENT_PLANNING && !c->rewind && c->file < c->opened.count);
    assert(bytes <= c->file_at + c->opened.at[c->file].bytes - c->verified);
    hasher_add(c->hasher, at, bytes);
    c->verified += bytes;
    file_ends(c);
}

void
blobclient_ready(struct blobclient *c)
{
    if (c->state != BLOBCLIENT_PLANNING)
        return; // a link lost meanwhile does not change the plan; FAILED stays
    file_ends(c);
    if (c->state != BLOBCLIENT_PLANNING)
        return;
    if (c->handle) {
        begin_fetching(c);
    } else {
        c->state = BLOBCLIENT_OPENING;
        c->opening_lk = 0;
    }
}

bool
blobclient_chunk(struct blobclient *c, const struct msg_chunk *chunk, const void *payload,
                 size_t bytes, int64_t now, size_t *file, uint64_t *at)
{
    heard(c, now);
    if (c->state != BLOBCLIENT_FETCHING || chunk->fd != c->handle || c->rewind)
        return false; // of an older opening
    if (chunk->offset < c->verified)
        return false;
    uint64_t left = c->file_at + c->opened.at[c->file].bytes - c->verified;
    if (chunk->offset > c->verified) {
        reopen(c, now, 0, "chunks are missing");
        return false;
    }
    if (bytes != chunk->bytes || bytes == 0 || bytes > left || bytes > c->credit - c->verified ||
        hash64(payload, bytes) != chunk->hash) {
        c->badhash++;
        reopen(c, now, 0, "a chunk's bytes do not make its hash");
        return false;
    }
    c->brought_at = now;
    *file = c->file;
    *at = c->verified - c->file_at;
    return true;
}

void
blobclient_wrote(struct blobclient *c, const struct msg_chunk *chunk, const void *payload)
{
    assert(c->state == BLOBCLIENT_FETCHING && chunk->offset == c->verified);
    hasher_add(c->hasher, payload, chunk->bytes);
    c->verified += chunk->bytes;
    c->tries = 0;
    file_ends(c);
    if (c->state != BLOBCLIENT_FETCHING)
        return;
    c->tell |= c->credit < c->opened.bytes && c->credit - c->verified <= c->set.window / 2;
    if (c->file == c->opened.count)
        conclude(c, BLOBCLIENT_DONE, "");
}

void
blobclient_fail(struct blobclient *c, const char *words)
{
    conclude(c, BLOBCLIENT_FAILED, words);
}

// ---------------------------------------------------------------- what to do

// An unanswered OPEN is repeated, each time later.
static int64_t
ask_again(const struct blobclient *c)
{
    return c->asked_at + ((int64_t)c->set.repeat_ms << (c->asks < 5 ? c->asks : 5)) / 2;
}

static enum blobclient_do
speak(struct blobclient *c, int64_t now, struct blobclient_action *action)
{
    uint64_t lk = c->link.lk;
    if (c->closing) {
        action->close = (struct msg_close){.lk = lk, .fd = c->closing};
        c->closing = 0;
        link_said(&c->link, now);
        return BLOBCLIENT_CLOSE;
    }
    if (c->state == BLOBCLIENT_OPENING && now >= c->open_at &&
        (c->opening_lk != lk || now >= ask_again(c))) {
        c->opening_lk = lk;
        c->open.lk = lk;
        c->open.i = link_request(&c->link);
        c->asks++;
        c->asked_at = now;
        action->open = &c->open;
        link_said(&c->link, now);
        return BLOBCLIENT_OPEN;
    }
    if (c->state != BLOBCLIENT_FETCHING)
        return BLOBCLIENT_NOTHING;
    if (now - c->brought_at >= c->link.welcome.lease_ms) { // what was on its way is lost
        reopen(c, now, 0, "no bytes came");
        return speak(c, now, action);
    }
    if (c->tell) {
        uint64_t upto = c->verified + c->set.window;
        c->credit = upto < c->opened.bytes ? upto : c->opened.bytes;
        c->tell = false;
        action->want =
            (struct msg_want){.lk = lk, .fd = c->handle, .from = c->verified, .upto = c->credit};
        link_said(&c->link, now);
        return BLOBCLIENT_WANT;
    }
    return BLOBCLIENT_NOTHING;
}

// The last word but BYE. False: nothing is to be said (any more).
static bool
part(struct blobclient *c, int64_t now, struct message *message)
{
    if (c->link.state != LINK_UP || (c->last_i && now - c->leave_at >= FAREWELL_MS)) {
        link_leave(&c->link);
        return false;
    }
    if (c->closing || c->last_i)
        return false;
    c->last_i = link_request(&c->link);
    c->leave_at = now;
    *message = (struct message){.type = MESSAGE_PING, .ping = {.i = c->last_i, .lk = c->link.lk}};
    return true;
}

enum blobclient_do
blobclient_next(struct blobclient *c, int64_t now, struct blobclient_action *action)
{
    if (c->rewind) {
        c->rewind = false;
        action->file = c->rewind_file;
        return action->what = BLOBCLIENT_REWIND;
    }
    if (c->leaving && part(c, now, &action->message))
        return action->what = BLOBCLIENT_SAY;
    enum link_state before = c->link.state;
    switch (link_next(&c->link, now, &action->message)) {
    case LINK_OPEN:
        return action->what = BLOBCLIENT_CONNECT;
    case LINK_SHUT:
        lost(c, now);
        return action->what = BLOBCLIENT_SHUT;
    case LINK_SAY:
        return action->what = BLOBCLIENT_SAY;
    case LINK_NOTHING:
        break;
    }
    if (before == LINK_UP && c->link.state != LINK_UP)
        lost(c, now);
    action->what = c->link.state == LINK_UP ? speak(c, now, action) : BLOBCLIENT_NOTHING;
    return action->what;
}

int64_t
blobclient_wake(const struct blobclient *c)
{
    int64_t wake = link_wake(&c->link);
    if (c->last_i && c->link.state == LINK_UP && c->leave_at + FAREWELL_MS < wake)
        wake = c->leave_at + FAREWELL_MS;
    if (c->rewind || (c->link.state == LINK_UP && (c->tell || c->closing)))
        return 0;
    if (c->link.state == LINK_UP && waiting(c)) {
        int64_t again = c->brought_at + c->link.welcome.lease_ms;
        if (c->state == BLOBCLIENT_OPENING)
            again = c->opening_lk != c->link.lk ? c->open_at : ask_again(c);
        wake = again < wake ? again : wake;
    }
    return wake;
}

void
blobclient_look(const struct blobclient *c, struct blobclient_view *view)
{
    *view = (struct blobclient_view){.state = c->state,
                                     .up = c->link.state == LINK_UP,
                                     .opened = c->planned ? &c->opened : NULL,
                                     .verified = c->verified,
                                     .reopened = c->reopened,
                                     .badhash = c->badhash,
                                     .words = c->words};
}

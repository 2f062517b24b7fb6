#include "proto/link.h"

#include "lib/base/rng.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NEVER INT64_MAX

const struct link_settings link_presets = {
    .greet_ms = 500, .greet_limit_ms = 15000, .backoff_ms = 200, .backoff_cap_ms = 10000};

uint64_t
dice_roll(struct dice *dice)
{
    uint32_t words[4];
    uint64_t rolled;
    do {
        rng_words(words, dice->seed, 0x64696365, 0, dice->rolled++);
        rolled = ((uint64_t)words[1] << 32 | words[0]) >> 1;
    } while (rolled == 0);
    return rolled;
}

void
message_refuse(struct message *out, uint64_t request, enum refusal code, uint32_t retry_ms,
               const char *format, ...)
{
    memset(out, 0, sizeof *out);
    out->type = MESSAGE_ERR;
    out->err.r = request;
    out->err.code = (uint16_t)code;
    out->err.retry_ms = retry_ms;
    va_list args;
    va_start(args, format);
    vsnprintf(out->err.words, sizeof out->err.words, format, args);
    va_end(args);
}

uint64_t
message_lk(const struct message *message)
{
    switch (message->type) {
    case MESSAGE_PING:
        return message->ping.lk;
    case MESSAGE_BYE:
        return message->bye.lk;
    case MESSAGE_ATTACH:
        return message->attach.lk;
    case MESSAGE_CREDIT:
        return message->credit.lk;
    case MESSAGE_DETACH:
        return message->detach.lk;
    default:
        return 0;
    }
}

uint64_t
message_request(const struct message *message)
{
    switch (message->type) {
    case MESSAGE_HELLO:
        return message->hello.i;
    case MESSAGE_PING:
        return message->ping.i;
    case MESSAGE_ATTACH:
        return message->attach.i;
    case MESSAGE_DETACH:
        return message->detach.i;
    default:
        return 0;
    }
}

// ---- the client's end

void
link_init(struct link *link, const struct link_settings *set, uint64_t seed)
{
    memset(link, 0, sizeof *link);
    link->set = set;
    link->dice.seed = seed;
    link->regreeted_at = INT64_MIN;
}

uint64_t
link_request(struct link *link)
{
    return ++link->i;
}

void
link_said(struct link *link, int64_t now)
{
    link->said_at = now;
}

static int64_t
backoff(struct link *link)
{
    double delay = link->set->backoff_ms;
    for (unsigned k = 0; k < link->failures && delay < link->set->backoff_cap_ms; k++)
        delay *= 2;
    if (delay > link->set->backoff_cap_ms)
        delay = link->set->backoff_cap_ms;
    double uniform = (double)(dice_roll(&link->dice) >> 10) * 0x1p-53;
    return (int64_t)(delay * (0.5 + uniform));
}

void
link_fail(struct link *link, int64_t now, uint32_t retry_ms)
{
    // Thirty seconds of health forgive what went before.
    if (link->state == LINK_UP && now - link->up_at >= 30000)
        link->failures = 0;
    int64_t delay = backoff(link);
    link->failures++;
    link->state = LINK_CLOSED;
    link->lk = 0;
    link->retry_at = now + (delay > (int64_t)retry_ms ? delay : (int64_t)retry_ms);
}

static void
greet(struct link *link, int64_t now)
{
    link->state = LINK_GREETING;
    link->lk = 0;
    link->hello_i = link_request(link);
    link->opened_at = now;
    link->greeted_at = now - (int64_t)link->set->greet_ms;
}

void
link_regreet(struct link *link, int64_t now)
{
    if (link->state != LINK_UP)
        return;
    // Once at once; a server that forgets us again within its lease gets the slow way.
    if (link->regreeted_at != INT64_MIN && now - link->regreeted_at < link->welcome.lease_ms) {
        link_fail(link, now, 0);
        return;
    }
    link->regreeted_at = now;
    greet(link, now);
}

void
link_leave(struct link *link)
{
    link->leaving = true;
}

enum link_do
link_next(struct link *link, int64_t now, struct message *out)
{
    if (link->leaving) {
        // Also while greeting: a WELCOME may be under way, and would leave a link without a client.
        if (link->state != LINK_CLOSED && link->open) {
            link->state = LINK_CLOSED;
            memset(out, 0, sizeof *out);
            out->type = MESSAGE_BYE;
            out->bye.lk = link->lk;
            return LINK_SAY;
        }
        link->state = LINK_CLOSED;
        link->retry_at = NEVER;
    }
    if (link->state == LINK_UP && now - link->heard_at >= link->welcome.lease_ms)
        link_fail(link, now, 0);
    if (link->state == LINK_GREETING && now - link->opened_at >= link->set->greet_limit_ms)
        link_fail(link, now, 0);
    if (link->state == LINK_CLOSED && link->open) {
        link->open = false;
        return LINK_SHUT;
    }
    if (link->state == LINK_CLOSED) {
        if (now < link->retry_at)
            return LINK_NOTHING;
        greet(link, now);
        link->open = true;
        return LINK_OPEN;
    }
    if (link->state == LINK_GREETING && now - link->greeted_at >= link->set->greet_ms) {
        link->greeted_at = now;
        memset(out, 0, sizeof *out);
        out->type = MESSAGE_HELLO;
        out->hello = link->set->me;
        out->hello.version_min = out->hello.version_max = PROTOCOL_VERSION;
        out->hello.i = link->hello_i;
        return LINK_SAY;
    }
    if (link->state == LINK_UP && now - link->said_at >= link->welcome.hb_ms) {
        link->said_at = now;
        memset(out, 0, sizeof *out);
        out->type = MESSAGE_PING;
        out->ping.i = link_request(link);
        out->ping.lk = link->lk;
        return LINK_SAY;
    }
    return LINK_NOTHING;
}

int64_t
link_wake(const struct link *link)
{
    if (link->leaving)
        return link->open ? 0 : NEVER;
    if (link->state == LINK_CLOSED)
        return link->open ? 0 : link->retry_at;
    if (link->state == LINK_GREETING) {
        int64_t again = link->greeted_at + link->set->greet_ms;
        int64_t limit = link->opened_at + link->set->greet_limit_ms;
        return again < limit ? again : limit;
    }
    int64_t beat = link->said_at + link->welcome.hb_ms;
    int64_t lease = link->heard_at + link->welcome.lease_ms;
    return beat < lease ? beat : lease;
}

static enum link_news
receive_err(struct link *link, const struct msg_err *err, int64_t now)
{
    switch (err->code) {
    case REFUSAL_LINK:
        // An answer to what an older link said concerns nobody any more.
        if (link->state != LINK_UP || (err->r != 0 && err->r <= link->hello_i))
            return LINK_NO_NEWS;
        link_regreet(link, now);
        return LINK_IS_LOST;
    case REFUSAL_VERSION:
    case REFUSAL_ROLE:
    case REFUSAL_DUPNAME:
        if (link->state != LINK_GREETING || err->r != link->hello_i)
            return LINK_NO_NEWS;
        link_fail(link, now, err->code == REFUSAL_VERSION ? 60000 : err->retry_ms);
        return LINK_IS_REFUSED;
    case REFUSAL_BUSY:
    case REFUSAL_RATE:
        if (link->state == LINK_GREETING && err->r == link->hello_i)
            link_fail(link, now, err->retry_ms);
        return LINK_NO_NEWS;
    default:
        return LINK_NO_NEWS;
    }
}

enum link_news
link_receive(struct link *link, const struct message *message, int64_t now)
{
    if (link->state == LINK_CLOSED)
        return LINK_NO_NEWS;
    if (message->type == MESSAGE_ERR)
        return receive_err(link, &message->err, now);
    if (message->type == MESSAGE_WELCOME) {
        // One answer counts: the first to the HELLO that stands.
        if (link->state != LINK_GREETING || message->welcome.r != link->hello_i)
            return LINK_NO_NEWS;
        link->welcome = message->welcome;
        link->lk = message->welcome.lk;
        link->state = LINK_UP;
        link->up_at = link->heard_at = link->said_at = now;
        return LINK_IS_UP;
    }
    if (link->state != LINK_UP)
        return LINK_NO_NEWS;
    if (message->type == MESSAGE_BYE) {
        if (message->bye.lk != link->lk)
            return LINK_NO_NEWS;
        link_fail(link, now, 0);
        return LINK_IS_LOST;
    }
    link->heard_at = now;
    return LINK_NO_NEWS;
}

// ---- the server's end

enum status
links_new(struct links **out, const struct links_settings *set, int64_t now)
{
    struct links *links = calloc(1, sizeof *links + set->most * sizeof links->at[0]);
    *out = links;
    if (!links)
        return FAIL(CREATE, "links: no memory for %zu", set->most);
    links->set = *set;
    links->dice.seed = set->seed;
    links->started_at = now;
    snprintf(links->state, sizeof links->state, "init");
    return STATUS_OK;
}

void
links_free(struct links **links)
{
    free(*links);
    *links = NULL;
}

static void
remove_at(struct links *links, size_t i)
{
    links->removals++;
    links->at[i] = links->at[--links->count];
}

const struct link_peer *
links_by_number(const struct links *links, uint64_t lk)
{
    for (size_t i = 0; i < links->count; i++)
        if (links->at[i].lk == lk)
            return &links->at[i];
    return NULL;
}

void
links_drop(struct links *links, uint64_t lk)
{
    for (size_t i = 0; i < links->count; i++)
        if (links->at[i].lk == lk) {
            remove_at(links, i);
            return;
        }
}

void
links_drop_route(struct links *links, uint64_t route)
{
    for (size_t i = 0; i < links->count;)
        if (links->at[i].route == route)
            remove_at(links, i);
        else
            i++;
}

void
links_expire(struct links *links, int64_t now)
{
    for (size_t i = 0; i < links->count;)
        if (now - links->at[i].heard_at >= links->set.lease_ms) {
            links->expired++;
            remove_at(links, i);
        } else {
            i++;
        }
}

int64_t
links_wake(const struct links *links)
{
    int64_t wake = NEVER;
    for (size_t i = 0; i < links->count; i++)
        if (links->at[i].heard_at + links->set.lease_ms < wake)
            wake = links->at[i].heard_at + links->set.lease_ms;
    return wake;
}

const struct link_peer *
links_find(struct links *links, uint64_t route, uint64_t lk, int64_t now)
{
    for (size_t i = 0; lk != 0 && i < links->count; i++)
        if (links->at[i].lk == lk && links->at[i].route == route) {
            links->at[i].heard_at = now;
            return &links->at[i];
        }
    return NULL;
}

bool
links_unknown(struct links *links, uint64_t request, int64_t now, struct message *answer)
{
    if (links->errs == 0 || now - links->err_from >= 1000) {
        links->err_from = now;
        links->errs = 0;
    }
    if (links->errs >= 100)
        return false;
    links->errs++;
    message_refuse(answer, request, REFUSAL_LINK, 0, "unknown or expired link, greet again");
    return true;
}

static void
welcome(const struct links *links, const struct link_peer *peer, struct message *answer)
{
    memset(answer, 0, sizeof *answer);
    answer->type = MESSAGE_WELCOME;
    struct msg_welcome *w = &answer->welcome;
    w->r = peer->hello.i;
    w->version = PROTOCOL_VERSION;
    memcpy(w->name, links->set.name, sizeof w->name);
    w->inst = links->set.inst;
    w->host = links->set.host;
    w->lk = peer->lk;
    w->hb_ms = links->set.hb_ms;
    w->lease_ms = links->set.lease_ms;
    w->win = links->set.win;
    w->stream = links->set.stream;
}

static enum links_do
receive_hello(struct links *links, uint64_t route, const struct msg_hello *hello, int64_t now,
              struct message *answer)
{
    if (hello->version_min > PROTOCOL_VERSION || hello->version_max < PROTOCOL_VERSION) {
        links->refused++;
        message_refuse(answer, hello->i, REFUSAL_VERSION, 0,
                       "protocol versions %u to %u are not spoken here, %d is", hello->version_min,
                       hello->version_max, PROTOCOL_VERSION);
        return LINKS_ANSWER;
    }
    if (!(links->set.roles & role_bit(hello->role))) {
        links->refused++;
        message_refuse(answer, hello->i, REFUSAL_ROLE, 30000, "role %s is not granted here",
                       role_names[hello->role]);
        return LINKS_ANSWER;
    }
    for (size_t i = 0; i < links->count;) {
        struct link_peer *old = &links->at[i];
        bool same_name = strcmp(old->hello.name, hello->name) == 0;
        bool same_inst = hash128_same(old->hello.inst, hello->inst);
        if (same_name && same_inst) {
            if (hello->i < old->hello.i)
                return LINKS_IGNORE; // late
            if (hello->i == old->hello.i && route == old->route) {
                old->heard_at = now;
                welcome(links, old, answer);
                return LINKS_ANSWER;
            }
            remove_at(links, i);
        } else if (same_name && hello->role == ROLE_TRAINER && old->hello.role == ROLE_TRAINER) {
            if (hello->inc <= old->hello.inc) {
                links->refused++;
                message_refuse(answer, hello->i, REFUSAL_DUPNAME, 0,
                               "trainer %s is linked with incarnation %u, yours is %u", hello->name,
                               old->hello.inc, hello->inc);
                return LINKS_ANSWER;
            }
            links->fenced++;
            remove_at(links, i);
        } else if (old->route == route) {
            remove_at(links, i); // one link per connection
        } else {
            i++;
        }
    }
    if (links->count == links->set.most) {
        links->refused++;
        message_refuse(answer, hello->i, REFUSAL_BUSY, 5000, "%zu links, no more", links->count);
        return LINKS_ANSWER;
    }
    struct link_peer *peer = &links->at[links->count++];
    peer->route = route;
    peer->lk = dice_roll(&links->dice);
    peer->heard_at = peer->since = now;
    peer->asked = 0;
    peer->hello = *hello;
    welcome(links, peer, answer);
    return LINKS_ANSWER;
}

enum links_do
links_receive(struct links *links, uint64_t route, const struct message *message, int64_t now,
              struct message *answer, const struct link_peer **peer)
{
    links_expire(links, now);
    if (message->type == MESSAGE_HELLO)
        return receive_hello(links, route, &message->hello, now, answer);
    const struct link_peer *found = links_find(links, route, message_lk(message), now);
    if (message->type == MESSAGE_BYE) {
        if (found)
            links_drop(links, found->lk);
        else if (message_lk(message) == 0)
            links_drop_route(links, route);
        return LINKS_IGNORE;
    }
    if (message->type == MESSAGE_ERR)
        return LINKS_IGNORE; // never answered, or two servers could talk for ever
    if (message->type == MESSAGE_PING && (found || message->ping.lk == 0)) {
        memset(answer, 0, sizeof *answer);
        answer->type = MESSAGE_PONG;
        answer->pong.r = message->ping.i;
        memcpy(answer->pong.state, links->state, sizeof answer->pong.state);
        answer->pong.up_ms = (uint64_t)(now - links->started_at);
        return LINKS_ANSWER;
    }
    if (!found)
        return links_unknown(links, message_request(message), now, answer) ? LINKS_ANSWER
                                                                           : LINKS_IGNORE;
    // Requests of a link are numbered: a repetition of one that a later one has overtaken would
    // bring back what that has ended.
    uint64_t request = message_request(message);
    if (request != 0 && request < found->asked)
        return LINKS_IGNORE;
    if (request > found->asked)
        links->at[found - links->at].asked = request;
    *peer = found;
    return LINKS_PASS;
}

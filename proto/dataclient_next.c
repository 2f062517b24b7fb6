// What a trainer says to its producers, when; and looking in.
#include "proto/dataclient_state.h"

#include "lib/base/say.h"

#include <assert.h>
#include <stdio.h>

enum { ATTACH_AGAIN_MS = 2000, DETACH_MS = 500 };

static void
fill_attach(const struct dataclient *client, struct source *source, struct message *out)
{
    memset(out, 0, sizeof *out);
    out->type = MESSAGE_ATTACH;
    struct msg_attach *attach = &out->attach;
    attach->lk = source->link.lk;
    attach->i = source->request;
    attach->stream = client->stream.id;
    attach->from = source->expect < client->end ? source->expect : client->end;
    attach->end = client->end;
    attach->upto = dc_upto(client);
    attach->app = client->app;
    attach->dur = client->dur;
    attach->win = client->set.win;
    attach->lag = client->set.lag;
    attach->onlag = client->set.onlag;
    memcpy(attach->group, client->set.group, sizeof attach->group);
    attach->group_size = client->set.group_size;
    attach->shm = dc_wants_shm(client, source);
    if (source->seen_end <= attach->from) {
        attach->seen_end = source->seen_end;
        attach->seen_hash = source->seen_hash;
    }
}

static bool
wants_more(const struct dataclient *client, const struct source *source)
{
    return client->started && !client->paused && source->expect < client->end;
}

// What the attachment of one producer needs said.
static bool
next_of_source(struct dataclient *client, struct source *source, int64_t now, struct message *out)
{
    if (source->link.state != LINK_UP)
        return false;
    if (client->leaving && source->phase != PHASE_ATTACHED)
        return false;
    bool ghost = source->ghost != 0 && source->phase == PHASE_IDLE;
    if (client->leaving || ghost || (source->let_go && source->phase == PHASE_ATTACHED)) {
        source->phase = client->leaving ? PHASE_DETACHING : PHASE_IDLE;
        source->attach_at = now;
        source->let_go = false;
        memset(out, 0, sizeof *out);
        out->type = MESSAGE_DETACH;
        out->detach.lk = source->link.lk;
        out->detach.i = source->request = link_request(&source->link);
        out->detach.gen = ghost ? source->ghost : source->gen;
        out->detach.app = client->app;
        out->detach.dur = client->dur;
        snprintf(out->detach.why, sizeof out->detach.why, "%s",
                 client->leaving ? "leaving" : "waiting for another producer");
        source->gen = source->ghost = 0;
        return true;
    }
    if (source->phase == PHASE_IDLE && wants_more(client, source) && now >= source->wait_until) {
        source->phase = PHASE_ATTACHING;
        source->request = link_request(&source->link);
        source->attach_at = now;
        fill_attach(client, source, out);
        return true;
    }
    if (source->phase == PHASE_ATTACHING && now - source->attach_at >= ATTACH_AGAIN_MS) {
        source->attach_at = now;
        fill_attach(client, source, out);
        return true;
    }
    if (source->phase == PHASE_ATTACHED &&
        (source->credit_due || now - source->credit_at >= source->link.welcome.hb_ms)) {
        source->credit_due = false;
        source->credit_at = now;
        memset(out, 0, sizeof *out);
        out->type = MESSAGE_CREDIT;
        out->credit.lk = source->link.lk;
        out->credit.gen = source->gen;
        out->credit.upto = dc_upto(client);
        out->credit.app = client->app;
        out->credit.dur = client->dur;
        return true;
    }
    return false;
}

bool
dataclient_next(struct dataclient *client, int64_t now, struct dataclient_action *out)
{
    if (client->event_count > 0) {
        *out = client->events[client->event_first];
        client->event_first = (client->event_first + 1) % EVENTS_MOST;
        client->event_count--;
        return true;
    }
    for (size_t p = 0; p < client->set.producers; p++) {
        struct source *source = &client->sources[p];
        out->producer = p;
        if (source->map_due && source->phase == PHASE_ATTACHED) {
            source->map_due = false;
            out->what = DATACLIENT_MAP;
            out->message = (struct message){.type = MESSAGE_ATTACHED};
            out->message.attached.gen = source->gen;
            out->message.attached.shm = source->ring;
            return true;
        }
        if (next_of_source(client, source, now, &out->message)) {
            link_said(&source->link, now);
            out->what = DATACLIENT_SEND;
            return true;
        }
        // Its answer is the last that comes: a socket closed in the middle of a batch would leave
        // the library with half a message, which it then never frees.
        if (client->leaving && (source->phase != PHASE_DETACHING || source->link.state != LINK_UP ||
                                now - source->attach_at >= DETACH_MS))
            link_leave(&source->link);
        enum link_state before = source->link.state;
        enum link_do what = link_next(&source->link, now, &out->message);
        if (before == LINK_UP && source->link.state != LINK_UP && !client->leaving) {
            client->links_lost++;
            dc_attach_later(source, now);
            dc_post_event(client, SAY_WARN, "data.link_lost",
                          "producer %zu has been silent for %u ms", p,
                          source->link.welcome.lease_ms);
        }
        if (what == LINK_NOTHING)
            continue;
        out->what = what == LINK_OPEN   ? DATACLIENT_OPEN
                    : what == LINK_SHUT ? DATACLIENT_SHUT
                                        : DATACLIENT_SEND;
        return true;
    }
    return false;
}

int64_t
dataclient_wake(const struct dataclient *client)
{
    int64_t wake = client->event_count > 0 ? 0 : NEVER;
    for (size_t p = 0; p < client->set.producers; p++) {
        const struct source *source = &client->sources[p];
        int64_t then = link_wake(&source->link);
        if (source->link.state == LINK_UP) {
            int64_t more = NEVER;
            if (source->phase == PHASE_DETACHING)
                more = source->attach_at + DETACH_MS;
            else if (client->leaving || (source->ghost && source->phase == PHASE_IDLE) ||
                     (source->let_go && source->phase == PHASE_ATTACHED))
                more = 0;
            else if (source->phase == PHASE_IDLE && wants_more(client, source))
                more = source->wait_until;
            else if (source->phase == PHASE_ATTACHING)
                more = source->attach_at + ATTACH_AGAIN_MS;
            else if (source->phase == PHASE_ATTACHED)
                more = source->credit_due ? 0
                                          : source->credit_at + (int64_t)source->link.welcome.hb_ms;
            then = more < then ? more : then;
        }
        wake = then < wake ? then : wake;
    }
    return wake;
}

// ---- looking in

void
dataclient_look(const struct dataclient *client, struct dataclient_view *view)
{
    *view = (struct dataclient_view){.dur = client->dur,
                                     .app = client->app,
                                     .taken = client->taken,
                                     .upto = client->started ? dc_upto(client) : 0,
                                     .end = client->end,
                                     .started = client->started,
                                     .paused = client->paused,
                                     .ended = client->started && client->app >= client->end,
                                     .pause_code = client->pause_code,
                                     .batches = client->batches,
                                     .stale = client->stale,
                                     .dup = client->dup,
                                     .gap = client->gap,
                                     .overrun = client->overrun,
                                     .badshape = client->badshape,
                                     .badhash = client->badhash,
                                     .reattached = client->reattached,
                                     .links_lost = client->links_lost,
                                     .torn = client->torn,
                                     .spoiled = client->spoiled,
                                     .shared = client->shared,
                                     .dupname = client->dupname};
    memcpy(view->pause_words, client->pause_words, sizeof view->pause_words);
    view->leaving = view->gone = client->leaving;
    for (size_t p = 0; p < client->set.producers; p++)
        view->gone &= !client->sources[p].link.open;
    for (size_t i = 0; i < client->set.win; i++)
        view->staged += client->staged[i].full;
    for (size_t p = 0; p < client->set.producers; p++) {
        view->up += client->sources[p].link.state == LINK_UP;
        view->attached += client->sources[p].phase == PHASE_ATTACHED;
    }
}

void
dataclient_producer(const struct dataclient *client, size_t p, struct producer_view *view)
{
    assert(p < client->set.producers);
    const struct source *source = &client->sources[p];
    *view = (struct producer_view){.link = source->link.state,
                                   .attached = source->phase == PHASE_ATTACHED,
                                   .lk = source->link.lk,
                                   .gen = source->gen,
                                   .expect = source->expect,
                                   .waits = source->waits,
                                   .stream = source->stream};
    memcpy(view->name, source->link.welcome.name, sizeof view->name);
    memcpy(view->by, source->by, sizeof view->by);
}

#include "proto/caller.h"

#include "lib/base/tick.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEAT_MS = 5000, BUSY_MS = 200, LOOK_MS = 100, OTHERS_MS = 5, NEVER_MS = 1 << 30 };

struct caller {
    struct channel *channel;
    char endpoint[WIRE_ENDPOINT];
    struct link_settings set;
    struct link link;
    struct port *port;
    struct codec *codec;
    caller_stop *stop;
    void *stop_context;
    struct caller_question question;
    int64_t reach_ms, linked_until, until, repeat_at;
    uint64_t lk, i;        // of the copy sent last; 0: none
    char busy[WIRE_WORDS]; // why we were put off, if the server said so
    unsigned char out[FRAME_MOST];
};

enum status
caller_open(struct caller **out, struct channel *channel, const char *endpoint, int role,
            const char *name, uint32_t backoff_cap_ms)
{
    *out = NULL;
    struct caller *c = calloc(1, sizeof *c);
    if (!c)
        return FAIL(CREATE, "no memory for a control client");
    c->channel = channel;
    snprintf(c->endpoint, sizeof c->endpoint, "%s", endpoint);
    c->reach_ms = NEVER_MS;
    c->set = link_presets;
    c->set.backoff_cap_ms = backoff_cap_ms;
    enum status status = codec_new(&c->codec);
    if (status == STATUS_OK)
        status = hello_fill(&c->set.me, role, name, "", 0);
    if (status != STATUS_OK) {
        caller_close(&c);
        return status;
    }
    link_init(&c->link, &c->set, random_seed());
    *out = c;
    return STATUS_OK;
}

static void
say_small(struct caller *c, const struct message *message)
{
    size_t bytes;
    if (c->port && message_write(c->codec, c->out, sizeof c->out, &bytes, message) == STATUS_OK)
        (void)port_send(c->port, 0, c->out, bytes, NULL, 0, NULL);
}

// What the link wants done now.
static enum status
keep_link(struct caller *c, int64_t now)
{
    struct message message;
    for (;;) {
        switch (link_next(&c->link, now, &message)) {
        case LINK_NOTHING:
            return STATUS_OK;
        case LINK_OPEN:
            TRY(channel_connect(c->channel, PORT_CTL_CLIENT, c->endpoint, 0, &c->port));
            break;
        case LINK_SHUT:
            port_close(&c->port);
            break;
        case LINK_SAY:
            say_small(c, &message);
            break;
        }
    }
}

void
caller_close(struct caller **caller)
{
    struct caller *c = *caller;
    if (!c)
        return;
    if (c->port) {
        link_leave(&c->link);
        if (keep_link(c, tick_ms()) != STATUS_OK)
            port_close(&c->port);
    }
    port_close(&c->port);
    codec_free(&c->codec);
    free(c);
    *caller = NULL;
}

void
caller_set_stop(struct caller *caller, caller_stop *stop, void *context)
{
    caller->stop = stop;
    caller->stop_context = context;
}

void
caller_set_reach(struct caller *caller, int64_t reach_ms)
{
    caller->reach_ms = reach_ms;
}

// A refusal. Some ask for patience; after others asking again would not help.
static enum status
hear_refusal(struct caller *c, const struct msg_err *err, enum link_news news, int64_t now)
{
    bool about_us = err->r != 0 && err->r == c->i;
    bool patience = err->code == REFUSAL_BUSY || err->code == REFUSAL_RATE;
    if (about_us && err->code == REFUSAL_STATE) // it was asked, and is about to be gone
        return FAIL(UNREACHABLE, "%s: %s", c->endpoint, err->words);
    if (news == LINK_IS_REFUSED || (about_us && !patience && err->code != REFUSAL_LINK))
        return FAIL(CONFIG, "%s: refused: %s", c->endpoint, err->words);
    if (!patience)
        return STATUS_OK;
    snprintf(c->busy, sizeof c->busy, "%s", err->words);
    if (about_us) { // not all of us at one time
        int64_t pause = err->retry_ms > BUSY_MS ? err->retry_ms : BUSY_MS;
        c->repeat_at = now + pause / 2 + (int64_t)(dice_roll(&c->link.dice) % (uint64_t)pause);
    }
    return STATUS_OK;
}

static enum status
hear_packet(struct caller *c, const struct packet *packet, bool *answered, int64_t now)
{
    const struct caller_question *q = &c->question;
    enum message_type type;
    enum refusal why;
    struct message message;
    if (packet->malformed || message_check(c->codec, packet->head, packet->head_bytes, LINK_CTL,
                                           FROM_SERVER, &type, &why) != STATUS_OK)
        return STATUS_OK; // foreign noise: the lease will tell if nothing else comes
    if (message_is_small(type)) {
        if (message_read(c->codec, packet->head, packet->head_bytes, LINK_CTL, FROM_SERVER,
                         &message, &why) != STATUS_OK)
            return STATUS_OK;
        enum link_news news = link_receive(&c->link, &message, now);
        return type == MESSAGE_ERR ? hear_refusal(c, &message.err, news, now) : STATUS_OK;
    }
    if (type == q->answer_type && message_decode(c->codec, packet->head, packet->head_bytes, type,
                                                 q->answer, &why) == STATUS_OK) {
        uint64_t r;
        memcpy(&r, q->answer, sizeof r);
        *answered = r == c->i;
        struct message alive = {.type = MESSAGE_PONG};
        (void)link_receive(&c->link, &alive, now);
    }
    return STATUS_OK;
}

static enum status
ask_again(struct caller *c, int64_t now)
{
    size_t bytes;
    uint64_t ids[2] = {c->link.lk, link_request(&c->link)}; // every question begins with lk, i
    c->lk = ids[0];
    c->i = ids[1];
    memcpy(c->question.message, ids, sizeof ids);
    TRY(message_encode(c->codec, c->out, sizeof c->out, &bytes, c->question.type,
                       c->question.message));
    bool sent = port_send(c->port, 0, c->out, bytes, NULL, 0, NULL) == PORT_SENT;
    c->repeat_at = now + (sent ? REPEAT_MS : BUSY_MS);
    c->busy[0] = '\0';
    link_said(&c->link, now);
    return STATUS_OK;
}

void
caller_begin(struct caller *c, const struct caller_question *question)
{
    c->question = *question;
    c->until = tick_ms() + question->limit_ms;
    c->linked_until = tick_ms() + c->reach_ms;
    c->repeat_at = 0;
    c->lk = c->i = 0;
    c->busy[0] = '\0';
}

enum status
caller_turn(struct caller *c, bool *answered, int64_t *wake)
{
    int64_t now = tick_ms();
    struct packet packet;
    *answered = false;
    while (c->port && !*answered && port_receive(c->port, &packet)) {
        enum status status = hear_packet(c, &packet, answered, now);
        packet_release(&packet);
        if (status != STATUS_OK)
            return status;
    }
    if (*answered)
        return STATUS_OK;
    TRY(keep_link(c, now));
    bool up = c->link.state == LINK_UP, put_off = c->busy[0] != '\0';
    int64_t next = up ? c->repeat_at : link_wake(&c->link);
    // Once linked, a server that restarts is waited for.
    int64_t until = c->i == 0 && !up && c->linked_until < c->until ? c->linked_until : c->until;
    if (now >= until || (put_off && next >= until))
        return FAIL(UNREACHABLE, "%s: no answer within %.1f s%s%s", c->endpoint,
                    (double)(c->question.limit_ms - (c->until - until)) / 1000, put_off ? ": " : "",
                    c->busy);
    if (up && (c->lk != c->link.lk || now >= c->repeat_at))
        TRY(ask_again(c, now));
    int64_t at = link_wake(&c->link);
    *wake = at < until ? at : until;
    if (up && c->repeat_at < *wake)
        *wake = c->repeat_at;
    return STATUS_OK;
}

enum status
caller_ask(struct caller *c, enum message_type type, void *message, enum message_type answer_type,
           void *answer, int64_t limit_ms)
{
    struct caller_question question = {type, answer_type, message, answer, limit_ms};
    caller_begin(c, &question);
    for (;;) {
        bool answered;
        int64_t wake;
        TRY(caller_turn(c, &answered, &wake));
        if (answered)
            return STATUS_OK;
        if (c->stop && c->stop(c->stop_context))
            return FAIL(AGAIN, "%s: stopped while waiting for an answer", c->endpoint);
        // What waits may be another socket's, which nobody reads before we are done.
        int64_t wait = wake - tick_ms(), most = channel_pending(c->channel) ? OTHERS_MS : LOOK_MS;
        struct pollfd fd = {.fd = channel_fd(c->channel), .events = POLLIN};
        poll(&fd, 1, wait <= 0 ? 0 : (int)(wait < most ? wait : most));
    }
}

enum status
caller_command(struct caller *caller, const char *op, const struct named *args,
               struct msg_reply *reply, int64_t limit_ms)
{
    struct msg_cmd *cmd = calloc(1, sizeof *cmd);
    if (!cmd)
        return FAIL(CREATE, "no memory for a command");
    cmd->idem = (struct hash128){random_seed(), random_seed()};
    snprintf(cmd->op, sizeof cmd->op, "%s", op);
    if (args)
        cmd->args = *args;
    enum status status = caller_ask(caller, MESSAGE_CMD, cmd, MESSAGE_REPLY, reply, limit_ms);
    free(cmd);
    if (status == STATUS_OK && !reply->ok)
        return FAIL(CONFIG, "%s: %s: %s", caller->endpoint, op, reply->words);
    return status;
}

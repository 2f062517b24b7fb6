#include "proto/caller.h"

#include "lib/base/tick.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEAT_MS = 5000, LOOK_MS = 100 };

struct caller {
    struct channel *channel;
    char endpoint[WIRE_ENDPOINT];
    struct link_settings set;
    struct link link;
    struct port *port;
    struct codec *codec;
    caller_stop *stop;
    void *stop_context;
    unsigned char out[FRAME_MOST];
};

enum status
caller_open(struct caller **out, struct channel *channel, const char *endpoint, int role,
            const char *name)
{
    *out = NULL;
    struct caller *c = calloc(1, sizeof *c);
    if (!c)
        return FAIL(CREATE, "no memory for a control client");
    c->channel = channel;
    snprintf(c->endpoint, sizeof c->endpoint, "%s", endpoint);
    c->set = link_presets;
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

// Reads what arrived. *answered: `answer` holds the answer to request `i`.
static enum status
hear(struct caller *c, uint64_t i, enum message_type answer_type, void *answer, bool *answered,
     int64_t now)
{
    struct packet packet;
    while (c->port && !*answered && port_receive(c->port, &packet)) {
        enum message_type type;
        enum refusal why;
        struct message message;
        if (packet.malformed || message_check(c->codec, packet.head, packet.head_bytes, LINK_CTL,
                                              FROM_SERVER, &type, &why) != STATUS_OK) {
            packet_release(&packet); // foreign noise: the lease will tell if nothing else comes
            continue;
        }
        if (type == answer_type && !message_is_small(type)) {
            uint64_t r;
            if (message_decode(c->codec, packet.head, packet.head_bytes, type, answer, &why) ==
                STATUS_OK) {
                memcpy(&r, answer, sizeof r);
                *answered = r == i;
                struct message alive = {.type = MESSAGE_PONG};
                (void)link_receive(&c->link, &alive, now);
            }
        } else if (message_is_small(type) &&
                   message_read(c->codec, packet.head, packet.head_bytes, LINK_CTL, FROM_SERVER,
                                &message, &why) == STATUS_OK) {
            enum link_news news = link_receive(&c->link, &message, now);
            bool about_us = type == MESSAGE_ERR && message.err.r == i && i != 0 &&
                            message.err.code != REFUSAL_LINK && message.err.code != REFUSAL_BUSY;
            if (about_us || news == LINK_IS_REFUSED) {
                packet_release(&packet);
                return FAIL(CONFIG, "%s: refused: %s", c->endpoint, message.err.words);
            }
        }
        packet_release(&packet);
    }
    return STATUS_OK;
}

enum status
caller_ask(struct caller *c, enum message_type type, void *message, enum message_type answer_type,
           void *answer, int64_t limit_ms)
{
    int64_t until = tick_ms() + limit_ms, sent_at = 0;
    uint64_t ids[2] = {0, 0}; // lk, i of the copy sent last
    for (;;) {
        int64_t now = tick_ms();
        bool answered = false;
        TRY(hear(c, ids[1], answer_type, answer, &answered, now));
        if (answered)
            return STATUS_OK;
        if (now >= until)
            return FAIL(UNREACHABLE, "%s: no answer within %.1f s", c->endpoint,
                        (double)limit_ms / 1000);
        if (c->stop && c->stop(c->stop_context))
            return FAIL(AGAIN, "%s: stopped while waiting for an answer", c->endpoint);
        TRY(keep_link(c, now));
        bool fresh = c->link.state == LINK_UP && ids[0] != c->link.lk;
        if (c->link.state == LINK_UP && (fresh || now - sent_at >= REPEAT_MS)) {
            ids[0] = c->link.lk;
            ids[1] = link_request(&c->link);
            memcpy(message, ids, sizeof ids);
            size_t bytes;
            TRY(message_encode(c->codec, c->out, sizeof c->out, &bytes, type, message));
            if (port_send(c->port, 0, c->out, bytes, NULL, 0, NULL) == PORT_SENT)
                sent_at = now;
            link_said(&c->link, now);
        }
        if (!channel_pending(c->channel)) {
            int64_t wake = link_wake(&c->link), wait = LOOK_MS;
            wait = wake - now < wait ? wake - now : wait;
            struct pollfd fd = {.fd = channel_fd(c->channel), .events = POLLIN};
            poll(&fd, 1, wait > 0 ? (int)wait : 0);
        }
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

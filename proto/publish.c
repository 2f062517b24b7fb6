#include "proto/publish.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *
topic_letter(enum message_type type)
{
    switch (type) {
    case MESSAGE_METRIC:
        return "m";
    case MESSAGE_EVENT:
        return "e";
    case MESSAGE_CKPT:
        return "k";
    case MESSAGE_EVAL:
        return "v";
    default:
        assert(type == MESSAGE_BEAT);
        return "h";
    }
}

struct publisher {
    struct port *port;
    struct codec *codec;
    char run[WIRE_NAME], group[WIRE_NAME];
    uint32_t inc;
    uint64_t tq[MESSAGE_COUNT]; // one topic a type
    struct msg_event event;
    unsigned char out[FRAME_MOST];
};

enum status
publisher_open(struct publisher **out, struct channel *channel, const char *endpoint,
               const char *run, const char *group, uint32_t inc)
{
    *out = NULL;
    struct publisher *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(CREATE, "no memory for the publisher");
    snprintf(p->run, sizeof p->run, "%s", run);
    snprintf(p->group, sizeof p->group, "%s", group);
    p->inc = inc ? inc : (uint32_t)(tick_ms() / 100);
    enum status status = codec_new(&p->codec);
    if (status == STATUS_OK)
        status = channel_bind(channel, PORT_PUBLISHER, endpoint, &p->port);
    if (status != STATUS_OK) {
        publisher_close(&p);
        return status;
    }
    *out = p;
    return STATUS_OK;
}

void
publisher_close(struct publisher **publisher)
{
    if (*publisher) {
        port_close(&(*publisher)->port);
        codec_free(&(*publisher)->codec);
        free(*publisher);
    }
    *publisher = NULL;
}

const char *
publisher_endpoint(const struct publisher *publisher)
{
    return port_endpoint(publisher->port);
}

void
publisher_turn(struct publisher *publisher)
{
    struct packet packet;
    for (int i = 0; i < 256 && port_receive(publisher->port, &packet); i++)
        packet_release(&packet);
}

void
publisher_send(struct publisher *p, enum message_type type, void *message)
{
    struct wire_stamp *stamp = message; // every message of pub begins with one
    memset(stamp, 0, sizeof *stamp);
    snprintf(stamp->run, sizeof stamp->run, "%s", p->run);
    stamp->inc = p->inc;
    stamp->tq = ++p->tq[type];
    stamp->ts_ns = tick_label_ns();
    char topic[2 * WIRE_NAME + 8];
    bool grouped = type == MESSAGE_METRIC;
    snprintf(topic, sizeof topic, "%s/%s%s%s", topic_letter(type), p->run, grouped ? "/" : "",
             grouped ? p->group : "");
    size_t bytes;
    if (message_encode(p->codec, p->out, sizeof p->out, &bytes, type, message) != STATUS_OK)
        say(SAY_ERROR, "a message of topic %s could not be published: %s", topic, status_words());
    else
        port_publish(p->port, topic, p->out, bytes);
}

void
publisher_event(struct publisher *p, int level, const char *name, const char *format, ...)
{
    struct msg_event *event = &p->event;
    memset(event, 0, sizeof *event);
    snprintf(event->name, sizeof event->name, "%s", name);
    event->level = (uint16_t)level;
    va_list args;
    va_start(args, format);
    vsnprintf(event->words, sizeof event->words, format, args);
    va_end(args);
    publisher_send(p, MESSAGE_EVENT, event);
}

enum { TOPICS_MOST = 32 };

struct subscriber {
    struct port *port;
    struct codec *codec;
    char topic[WIRE_TOPIC];
    struct {
        char topic[WIRE_TOPIC];
        uint32_t inc;
        uint64_t tq;
        int64_t heard_at;
    } seen[TOPICS_MOST];
    size_t topics;
    int64_t ghost_ms;
    union {
        struct msg_metric metric;
        struct msg_event event;
        struct msg_ckpt ckpt;
        struct msg_eval eval;
        struct msg_beat beat;
    } message;
};

enum status
subscriber_open(struct subscriber **out, struct channel *channel, const char *endpoint,
                const char *prefix)
{
    *out = NULL;
    struct subscriber *s = calloc(1, sizeof *s);
    if (!s)
        return FAIL(CREATE, "no memory for a subscriber");
    s->ghost_ms = SUBSCRIBER_GHOST_MS;
    enum status status = codec_new(&s->codec);
    if (status == STATUS_OK)
        status = channel_connect(channel, PORT_SUBSCRIBER, endpoint, 0, &s->port);
    if (status == STATUS_OK)
        status = port_subscribe(s->port, prefix);
    if (status != STATUS_OK) {
        subscriber_close(&s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

void
subscriber_close(struct subscriber **subscriber)
{
    if (*subscriber) {
        port_close(&(*subscriber)->port);
        codec_free(&(*subscriber)->codec);
        free(*subscriber);
    }
    *subscriber = NULL;
}

void
subscriber_ghosts(struct subscriber *subscriber, int64_t silent_ms)
{
    subscriber->ghost_ms = silent_ms;
}

// How many of this topic were missed just before this one, in *lost: numbers are consecutive within
// an incarnation, and a new one begins at 1. False: a repetition, or an earlier incarnation's
// ghost. A lower incarnation is none when the higher one has long been silent: its machine was
// started anew, and counts from there.
static bool
follow(struct subscriber *s, const char *topic, const struct wire_stamp *stamp, uint64_t *lost)
{
    int64_t now = tick_ms();
    size_t i = 0;
    *lost = 0;
    while (i < s->topics && strcmp(s->seen[i].topic, topic) != 0)
        i++;
    if (i == s->topics) {
        if (s->topics == TOPICS_MOST)
            return true; // more topics than anybody of ours publishes: not counted
        snprintf(s->seen[s->topics++].topic, sizeof s->seen[i].topic, "%s", topic);
        s->seen[i].inc = stamp->inc;
        s->seen[i].tq = stamp->tq;
        s->seen[i].heard_at = now;
        return true; // we came late: what was before was not missed
    }
    bool same = s->seen[i].inc == stamp->inc;
    bool lower = stamp->inc < s->seen[i].inc && now - s->seen[i].heard_at < s->ghost_ms;
    if (lower || (same && stamp->tq <= s->seen[i].tq) || stamp->tq == 0)
        return false;
    s->seen[i].heard_at = now;
    *lost = stamp->tq - (same ? s->seen[i].tq : 0) - 1;
    s->seen[i].inc = stamp->inc;
    s->seen[i].tq = stamp->tq;
    return true;
}

bool
subscriber_next(struct subscriber *s, struct heard *out)
{
    struct packet packet;
    while (port_receive(s->port, &packet)) {
        enum message_type type;
        enum refusal why;
        size_t topic_bytes = zmq_msg_size(&packet.at[0]); // topic, then H
        bool good = !packet.malformed && topic_bytes < sizeof s->topic &&
                    message_check(s->codec, packet.head, packet.head_bytes, LINK_PUB, FROM_SERVER,
                                  &type, &why) == STATUS_OK &&
                    message_decode(s->codec, packet.head, packet.head_bytes, type, &s->message,
                                   &why) == STATUS_OK;
        if (good) {
            memcpy(s->topic, zmq_msg_data(&packet.at[0]), topic_bytes);
            s->topic[topic_bytes] = '\0';
        }
        packet_release(&packet);
        if (!good)
            continue;
        *out = (struct heard){.type = type, .metric = &s->message.metric, .topic = s->topic};
        if (follow(s, s->topic, out->stamp, &out->lost))
            return true;
    }
    return false;
}

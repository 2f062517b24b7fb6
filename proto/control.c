#include "proto/control.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct open_request {
    uint32_t ticket; // 0: free
    uint64_t route, i;
    struct hash128 idem;
    bool has_idem;
};

enum { PATIENCE_MS = 200 }; // of one who is told BUSY

struct control {
    struct port *port;
    struct codec *codec;
    struct links *links;
    struct control_settings set;
    struct open_request open[CONTROL_OPEN_MOST];
    uint32_t tickets;
    // replies to commands, newest last, in a ring
    struct {
        struct hash128 idem;
        int64_t at;
        unsigned char *frame; // NULL: free
        size_t bytes;
    } kept[CONTROL_REPLIES];
    size_t kept_next;
    int64_t now; // of the latest turn
    uint64_t malformed;
    // the request handed out last
    char who[WIRE_NAME];
    struct msg_cmd cmd;
    struct msg_cklist list;
    struct msg_claim claim;
    struct msg_result result;
    struct msg_reply again;
    struct request waiting;
    bool has_waiting;
    unsigned char out[FRAME_MOST];
};

enum status
control_open(struct control **out, struct channel *channel, const char *endpoint,
             const struct control_settings *set)
{
    *out = NULL;
    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return FAIL(CREATE, "no memory for the control socket");
    c->set = *set;
    struct links_settings links = {.inst = set->inst,
                                   .host = set->host,
                                   .hb_ms = set->hb_ms,
                                   .lease_ms = set->lease_ms,
                                   .roles = endpoint_roles(endpoint, role_bit(ROLE_MONITOR)),
                                   .win = 1,
                                   .most = CONTROL_LINKS,
                                   .seed = random_seed()};
    snprintf(links.name, sizeof links.name, "%s", set->name);
    enum status status = codec_new(&c->codec);
    if (status == STATUS_OK)
        status = links_new(&c->links, &links, tick_ms());
    if (status == STATUS_OK)
        status = channel_bind(channel, PORT_CTL_SERVER, endpoint, &c->port);
    if (status != STATUS_OK) {
        control_close(&c);
        return status;
    }
    *out = c;
    return STATUS_OK;
}

void
control_state(struct control *control, const char *state)
{
    snprintf(control->links->state, sizeof control->links->state, "%s", state);
}

// A message that cannot be sent is lost, as on the wire: the client asks again. False: it cannot be
// encoded, and asking again would not help.
static bool
say_to(struct control *c, uint64_t route, enum message_type type, const void *message)
{
    size_t bytes;
    if (message_encode(c->codec, c->out, sizeof c->out, &bytes, type, message) != STATUS_OK) {
        say(SAY_ERROR, "%s", status_words());
        return false;
    }
    if (port_send(c->port, route, c->out, bytes, NULL, 0, NULL) == PORT_GONE)
        links_drop_route(c->links, route);
    return true;
}

static void
say_small(struct control *c, uint64_t route, const struct message *message)
{
    (void)say_to(c, route, message->type, &message->hello);
}

static void
refuse(struct control *c, uint64_t route, uint64_t request, enum refusal code, uint32_t retry_ms,
       const char *words)
{
    struct message answer;
    message_refuse(&answer, request, code, retry_ms, "%s", words);
    say_small(c, route, &answer);
}

// The reply to a command answered before, into c->again; false: none is remembered.
static bool
find_kept(struct control *c, struct hash128 idem)
{
    for (size_t i = 0; i < CONTROL_REPLIES; i++)
        if (c->kept[i].frame && hash128_same(c->kept[i].idem, idem))
            return message_decode(c->codec, c->kept[i].frame, c->kept[i].bytes, MESSAGE_REPLY,
                                  &c->again, NULL) == STATUS_OK;
    return false;
}

// As frames: a reply fills a fraction of its struct.
static void
keep(struct control *c, struct hash128 idem, const struct msg_reply *reply)
{
    size_t at = c->kept_next, bytes;
    c->kept_next = (at + 1) % CONTROL_REPLIES;
    free(c->kept[at].frame);
    c->kept[at].frame = NULL;
    if (message_encode(c->codec, c->out, sizeof c->out, &bytes, MESSAGE_REPLY, reply) != STATUS_OK)
        return;
    c->kept[at].idem = idem;
    c->kept[at].at = c->now;
    c->kept[at].bytes = bytes;
    c->kept[at].frame = malloc(bytes);
    if (c->kept[at].frame)
        memcpy(c->kept[at].frame, c->out, bytes);
}

// Is there a place for the reply to one more command, after those that are open? The oldest go
// first, but none whose question may still be repeated.
static bool
has_place(const struct control *c, size_t open)
{
    size_t at = (c->kept_next + open) % CONTROL_REPLIES;
    return open < CONTROL_REPLIES &&
           (!c->kept[at].frame || c->now - c->kept[at].at >= CONTROL_REPLIES_MS);
}

// A request of its own, or one more voice for an open or answered one. NULL: dealt with.
static struct open_request *
admit(struct control *c, uint64_t route, uint64_t i, const struct hash128 *idem)
{
    struct open_request *spare = NULL;
    size_t of_link = 0, remembering = 0;
    if (idem && find_kept(c, *idem)) {
        c->again.r = i;
        (void)say_to(c, route, MESSAGE_REPLY, &c->again);
        return NULL;
    }
    for (size_t at = 0; at < CONTROL_OPEN_MOST; at++) {
        struct open_request *open = &c->open[at];
        of_link += open->ticket != 0 && open->route == route;
        remembering += open->ticket != 0 && open->has_idem;
        if (open->ticket == 0) {
            spare = spare ? spare : open;
        } else if (idem && open->has_idem && hash128_same(open->idem, *idem)) {
            open->route = route; // the reply goes to the latest voice
            open->i = i;
            return NULL;
        }
    }
    if (!spare || of_link >= CONTROL_OPEN_OF_LINK) {
        refuse(c, route, i, REFUSAL_BUSY, PATIENCE_MS, "too many requests are open");
        return NULL;
    }
    if (idem && !has_place(c, remembering)) {
        refuse(c, route, i, REFUSAL_BUSY, PATIENCE_MS,
               "more commands in a short time than are remembered");
        return NULL;
    }
    *spare = (struct open_request){.ticket = ++c->tickets ? c->tickets : ++c->tickets,
                                   .route = route,
                                   .i = i,
                                   .has_idem = idem != NULL};
    if (idem)
        spare->idem = *idem;
    return spare;
}

static const struct operation *
find_operation(const struct control *c, const char *name)
{
    for (const struct operation *op = c->set.operations; op && op->name; op++)
        if (strcmp(op->name, name) == 0)
            return op;
    return NULL;
}

// Sets c->waiting if the message is a request that the daemon must see.
static void
take_request(struct control *c, uint64_t route, enum message_type type, const struct packet *packet,
             int64_t now)
{
    enum refusal why;
    void *into = type == MESSAGE_CMD      ? (void *)&c->cmd
                 : type == MESSAGE_CKLIST ? (void *)&c->list
                 : type == MESSAGE_CLAIM  ? (void *)&c->claim
                                          : (void *)&c->result;
    if (message_decode(c->codec, packet->head, packet->head_bytes, type, into, &why) != STATUS_OK) {
        c->malformed++;
        return;
    }
    uint64_t ids[2]; // every request begins with lk, i
    memcpy(ids, into, sizeof ids);
    uint64_t lk = ids[0], i = ids[1];
    const struct link_peer *peer = links_find(c->links, route, lk, now);
    if (!peer) {
        struct message answer;
        if (links_unknown(c->links, i, now, &answer))
            say_small(c, route, &answer);
        return;
    }
    unsigned role = role_bit(peer->hello.role);
    const struct operation *op = type == MESSAGE_CMD ? find_operation(c, c->cmd.op) : NULL;
    if (type == MESSAGE_CMD && !op) {
        refuse(c, route, i, REFUSAL_ARG, 0, "no such operation here");
        return;
    }
    bool allowed = type == MESSAGE_CMD      ? (op->roles & role) != 0
                   : type == MESSAGE_CKLIST ? c->set.lists
                                            : c->set.results && role == role_bit(ROLE_EVALUATOR);
    if (!allowed) {
        refuse(c, route, i, REFUSAL_ROLE, 0, "this role may not ask for this");
        return;
    }
    const struct hash128 *idem = op && !op->looks         ? &c->cmd.idem
                                 : type == MESSAGE_RESULT ? &c->result.idem
                                                          : NULL;
    snprintf(c->who, sizeof c->who, "%s", peer->hello.name);
    struct open_request *open = admit(c, route, i, idem);
    if (!open)
        return;
    c->waiting = (struct request){.ticket = open->ticket, .type = type, .who = c->who};
    if (type == MESSAGE_CMD)
        c->waiting.cmd = &c->cmd;
    else if (type == MESSAGE_CKLIST)
        c->waiting.list = &c->list;
    else if (type == MESSAGE_CLAIM)
        c->waiting.claim = &c->claim;
    else
        c->waiting.result = &c->result;
    c->has_waiting = true;
}

static void
take_packet(struct control *c, const struct packet *packet, int64_t now)
{
    enum message_type type;
    enum refusal why;
    if (packet->malformed || packet->frames != 1 ||
        message_check(c->codec, packet->head, packet->head_bytes, LINK_CTL, FROM_CLIENT, &type,
                      &why) != STATUS_OK) {
        c->malformed++;
        return;
    }
    if (!message_is_small(type)) {
        take_request(c, packet->route, type, packet, now);
        return;
    }
    struct message message, answer;
    const struct link_peer *peer;
    if (message_read(c->codec, packet->head, packet->head_bytes, LINK_CTL, FROM_CLIENT, &message,
                     &why) != STATUS_OK) {
        c->malformed++;
        return;
    }
    if (links_receive(c->links, packet->route, &message, now, &answer, &peer) == LINKS_ANSWER)
        say_small(c, packet->route, &answer);
}

void
control_close(struct control **control)
{
    struct control *c = *control;
    if (!c)
        return;
    // What has arrived is read, and whoever asked is told.
    for (size_t i = 0; c->port && i < CONTROL_LINKS; i++) {
        (void)control_turn(c, c->now);
        if (!c->has_waiting)
            break;
        c->has_waiting = false;
    }
    for (size_t i = 0; c->port && i < CONTROL_OPEN_MOST; i++)
        if (c->open[i].ticket)
            refuse(c, c->open[i].route, c->open[i].i, REFUSAL_STATE, 0, "it leaves");
    for (size_t i = 0; i < CONTROL_REPLIES; i++)
        free(c->kept[i].frame);
    port_close(&c->port);
    links_free(&c->links);
    codec_free(&c->codec);
    free(c);
    *control = NULL;
}

int64_t
control_turn(struct control *c, int64_t now)
{
    links_expire(c->links, now);
    c->now = now;
    struct packet packet;
    for (int i = 0; i < 256 && !c->has_waiting && port_receive(c->port, &packet); i++) {
        take_packet(c, &packet, now);
        packet_release(&packet);
    }
    return c->has_waiting ? now : links_wake(c->links);
}

bool
control_next(struct control *c, struct request *out)
{
    if (!c->has_waiting)
        return false;
    *out = c->waiting;
    c->has_waiting = false;
    return true;
}

static struct open_request *
take_ticket(struct control *c, uint32_t ticket)
{
    for (size_t i = 0; i < CONTROL_OPEN_MOST; i++)
        if (c->open[i].ticket == ticket)
            return &c->open[i];
    assert(!"a ticket is answered once");
    return NULL;
}

void
control_reply(struct control *c, uint32_t ticket, struct msg_reply *reply)
{
    struct open_request *open = take_ticket(c, ticket);
    reply->r = open->i;
    if (!say_to(c, open->route, MESSAGE_REPLY, reply))
        refuse(c, open->route, open->i, REFUSAL_INTERNAL, 0, "the reply could not be encoded");
    else if (open->has_idem)
        keep(c, open->idem, reply);
    open->ticket = 0;
}

void
control_list(struct control *c, uint32_t ticket, struct msg_cklistr *list)
{
    struct open_request *open = take_ticket(c, ticket);
    list->r = open->i;
    if (!say_to(c, open->route, MESSAGE_CKLISTR, list))
        refuse(c, open->route, open->i, REFUSAL_INTERNAL, 0, "the list could not be encoded");
    open->ticket = 0;
}

void
control_done(struct control *c, uint32_t ticket)
{
    struct msg_reply reply;
    memset(&reply, 0, sizeof reply);
    reply.ok = true;
    control_reply(c, ticket, &reply);
}

void
control_refuse(struct control *c, uint32_t ticket, enum refusal code, const char *format, ...)
{
    struct msg_reply reply;
    memset(&reply, 0, sizeof reply);
    reply.code = (uint16_t)code;
    va_list args;
    va_start(args, format);
    vsnprintf(reply.words, sizeof reply.words, format, args);
    va_end(args);
    control_reply(c, ticket, &reply);
}

bool
control_peer(const struct control *control, size_t i, struct msg_hello *out)
{
    if (i >= control->links->count)
        return false;
    *out = control->links->at[i].hello;
    return true;
}

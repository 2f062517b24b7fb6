#include "proto/blobport.h"

#include "lib/base/fault.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "proto/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

// Chunks a turn: the same thread grants credit to producers, so it comes back within milliseconds.
enum { RECEIVE_MOST = 256, CHUNKS_MOST = 2, FULL_MS = 5, LINKS_MOST = 256, CHUNK_LEAST = 16 << 10 };

struct blobport {
    struct blobport_settings set;
    struct port *port;
    struct codec *codec;
    struct blobserver *server;
    int fds[BLOB_OBJECTS_MOST][BLOB_FILES_MOST]; // -1: closed
    struct blob_object object;
    struct msg_open open;
    uint64_t sent_bytes, malformed;
    unsigned char head[FRAME_MOST];
    unsigned char chunk[BLOB_CHUNK];
};

static uint32_t
chunk_bytes(uint64_t min_rate)
{
    uint64_t quarter = min_rate / 4; // of a second
    return (uint32_t)(quarter > BLOB_CHUNK    ? BLOB_CHUNK
                      : quarter < CHUNK_LEAST ? CHUNK_LEAST
                                              : quarter);
}

enum status
blobport_open(struct blobport **out, struct channel *channel, const char *endpoint,
              const struct blobport_settings *set)
{
    *out = NULL;
    struct blobport *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(CREATE, "no memory to serve checkpoints");
    p->set = *set;
    for (size_t s = 0; s < BLOB_OBJECTS_MOST; s++)
        for (size_t i = 0; i < BLOB_FILES_MOST; i++)
            p->fds[s][i] = -1;
    // A big frame counts only when it is whole.
    uint64_t slow_ms = 4000ull * BLOB_WINDOW / (set->min_rate ? set->min_rate : 1);
    slow_ms = slow_ms < 3600000 ? slow_ms : 3600000;
    struct blobserver_settings server = {
        .links = {.inst = set->inst,
                  .host = set->host,
                  .hb_ms = set->hb_ms,
                  .lease_ms = set->lease_ms > slow_ms ? set->lease_ms : (uint32_t)slow_ms,
                  .roles = endpoint_roles(endpoint, role_bit(ROLE_MONITOR)),
                  .win = 1,
                  .most = LINKS_MOST,
                  .seed = random_seed()},
        .chunk = chunk_bytes(set->min_rate),
        .window = BLOB_WINDOW};
    snprintf(server.links.name, sizeof server.links.name, "%s", set->name);
    enum status status;
    GOTRY(codec_new(&p->codec));
    GOTRY(blobserver_new(&p->server, &server, tick_ms()));
    GOTRY(channel_bind(channel, PORT_BLOB_SERVER, endpoint, &p->port));
    *out = p;
    return STATUS_OK;
done:
    blobport_close(&p);
    return status;
}

static void
shut(struct blobport *p, size_t slot)
{
    for (size_t i = 0; i < BLOB_FILES_MOST; i++) {
        if (p->fds[slot][i] >= 0)
            close(p->fds[slot][i]);
        p->fds[slot][i] = -1;
    }
}

void
blobport_close(struct blobport **port)
{
    struct blobport *p = *port;
    if (!p)
        return;
    for (size_t s = 0; s < BLOB_OBJECTS_MOST; s++)
        shut(p, s);
    port_close(&p->port);
    blobserver_free(&p->server);
    codec_free(&p->codec);
    free(p);
    *port = NULL;
}

const char *
blobport_endpoint(const struct blobport *port)
{
    return port_endpoint(port->port);
}

size_t
blobport_bytes(void)
{
    return sizeof(struct blobport) + (size_t)BLOB_OBJECTS_MOST * BLOB_WINDOW;
}

// ---------------------------------------------------------------- what arrived

static void
take(struct blobport *p, const struct packet *packet, int64_t now)
{
    enum message_type type;
    enum refusal why;
    union {
        struct message small;
        struct msg_want want;
        struct msg_close close;
    } in;
    enum status status = STATUS_DAMAGED;
    if (!packet->malformed && packet->frames == 1)
        status = message_check(p->codec, packet->head, packet->head_bytes, LINK_BLOB, FROM_CLIENT,
                               &type, &why);
    if (status == STATUS_OK && message_is_small(type)) {
        status = message_read(p->codec, packet->head, packet->head_bytes, LINK_BLOB, FROM_CLIENT,
                              &in.small, &why);
        if (status == STATUS_OK)
            blobserver_small(p->server, packet->route, &in.small, now);
    } else if (status == STATUS_OK && type == MESSAGE_OPEN) {
        status = message_decode(p->codec, packet->head, packet->head_bytes, type, &p->open, &why);
        if (status == STATUS_OK)
            blobserver_open(p->server, packet->route, &p->open, now);
    } else if (status == STATUS_OK && type == MESSAGE_WANT) {
        status = message_decode(p->codec, packet->head, packet->head_bytes, type, &in.want, &why);
        if (status == STATUS_OK)
            blobserver_want(p->server, packet->route, &in.want, now);
    } else if (status == STATUS_OK && type == MESSAGE_CLOSE) {
        status = message_decode(p->codec, packet->head, packet->head_bytes, type, &in.close, &why);
        if (status == STATUS_OK)
            blobserver_close(p->server, packet->route, &in.close, now);
    }
    if (status != STATUS_OK)
        p->malformed++;
}

// ---------------------------------------------------------------- what to do

static enum refusal
open_file(struct blobport *p, size_t slot, size_t i, const struct msg_blob_file *file, char *words,
          size_t room)
{
    char path[PATH_BYTES];
    struct stat info;
    if (path_join(path, p->object.folder, file->name) != STATUS_OK) {
        snprintf(words, room, "the path of %.64s is too long", file->name);
        return REFUSAL_IO;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        snprintf(words, room, "%.64s: cannot open: %.100s", file->name, strerror(errno));
        return errno == ENOENT                      ? REFUSAL_NOTFOUND
               : errno == EMFILE || errno == ENFILE ? REFUSAL_BUSY
                                                    : REFUSAL_IO;
    }
    p->fds[slot][i] = fd;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || (uint64_t)info.st_size != file->bytes) {
        snprintf(words, room, "%.64s: has not the size the manifest names", file->name);
        return REFUSAL_CORRUPT;
    }
    return REFUSAL_NONE;
}

static const struct msg_blob_file *
file_named(const struct blob_object *object, const char *name)
{
    for (size_t i = 0; i < object->count; i++)
        if (strcmp(object->files[i].name, name) == 0)
            return &object->files[i];
    return NULL;
}

static void
find(struct blobport *p, size_t slot, const struct msg_open *open)
{
    char words[WIRE_WORDS] = "there is no such checkpoint";
    struct msg_blob_file files[BLOB_FILES_MOST];
    uint64_t sum = 0;
    memset(&p->object, 0, sizeof p->object);
    enum refusal refusal = p->set.find(p->set.context, open->ck, &p->object);
    if (refusal != REFUSAL_NONE && refusal != REFUSAL_NOTFOUND)
        snprintf(words, sizeof words, "its folder cannot be read");
    size_t count = open->files.count ? open->files.count : p->object.count;
    if (refusal == REFUSAL_NONE && (count == 0 || count > BLOB_FILES_MOST)) {
        refusal = REFUSAL_ARG;
        snprintf(words, sizeof words, "too many files");
    }
    for (size_t i = 0; refusal == REFUSAL_NONE && i < count; i++) {
        const struct msg_blob_file *file =
            open->files.count ? file_named(&p->object, open->files.at[i]) : &p->object.files[i];
        if (!file) {
            refusal = REFUSAL_ARG;
            snprintf(words, sizeof words, "the checkpoint has no file of that name");
        } else if (__builtin_add_overflow(sum, file->bytes, &sum)) {
            refusal = REFUSAL_CORRUPT;
            snprintf(words, sizeof words, "its sizes add up to too much");
        } else {
            refusal = open_file(p, slot, i, file, words, sizeof words);
            files[i] = *file;
        }
    }
    if (refusal == REFUSAL_NONE && sum == 0) {
        refusal = REFUSAL_CORRUPT;
        snprintf(words, sizeof words, "its files are empty");
    }
    if (refusal != REFUSAL_NONE) {
        shut(p, slot);
        blobserver_lacks(p->server, slot, refusal, words);
        return;
    }
    blobserver_found(p->server, slot, p->object.manifest_hash, files, count);
}

static bool
read_all(int fd, unsigned char *at, size_t bytes, uint64_t offset)
{
    while (bytes > 0) {
        ssize_t got = fault("blob.read") ? (errno = EIO, -1) : pread(fd, at, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            errno = got < 0 ? errno : 0;
            return false;
        }
        at += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return true;
}

static bool
encode(struct blobport *p, enum message_type type, const void *message, size_t *bytes)
{
    if (message_encode(p->codec, p->head, sizeof p->head, bytes, type, message) == STATUS_OK)
        return true;
    say(SAY_ERROR, "%s", status_words());
    return false;
}

static enum port_sent
send_chunk(struct blobport *p, struct blobserver_action *action)
{
    size_t head, bytes = action->chunk.bytes;
    if (!read_all(p->fds[action->slot][action->file], p->chunk, bytes, action->at)) {
        char words[WIRE_WORDS];
        snprintf(words, sizeof words, "a file cannot be read: %.100s",
                 errno ? strerror(errno) : "it was cut");
        blobserver_broken(p->server, action->slot, errno ? REFUSAL_IO : REFUSAL_CORRUPT, words);
        return PORT_SENT;
    }
    action->chunk.hash = hash64(p->chunk, bytes);
    if (!encode(p, MESSAGE_CHUNK, &action->chunk, &head))
        return PORT_GONE;
    enum port_sent sent = port_send(p->port, action->route, p->head, head, p->chunk, bytes, NULL);
    if (sent == PORT_FULL)
        blobserver_unsent(p->server, action);
    else if (sent == PORT_SENT)
        p->sent_bytes += bytes;
    return sent;
}

static enum port_sent
perform(struct blobport *p, struct blobserver_action *action)
{
    size_t bytes;
    switch (action->what) {
    case BLOBSERVER_SAY:
        return encode(p, action->message.type, &action->message.hello, &bytes)
                   ? port_send(p->port, action->route, p->head, bytes, NULL, 0, NULL)
                   : PORT_SENT;
    case BLOBSERVER_OPENED:
        return encode(p, MESSAGE_OPENED, action->opened, &bytes)
                   ? port_send(p->port, action->route, p->head, bytes, NULL, 0, NULL)
                   : PORT_SENT;
    case BLOBSERVER_FIND:
        find(p, action->slot, action->open);
        return PORT_SENT;
    case BLOBSERVER_READ:
        return send_chunk(p, action);
    case BLOBSERVER_SHUT:
        shut(p, action->slot);
        return PORT_SENT;
    case BLOBSERVER_NOTHING:
        break;
    }
    return PORT_SENT;
}

int64_t
blobport_turn(struct blobport *p, int64_t now)
{
    struct packet packet;
    for (int i = 0; i < RECEIVE_MOST && port_receive(p->port, &packet); i++) {
        take(p, &packet, now);
        packet_release(&packet);
    }
    struct blobserver_action action;
    int chunks = 0;
    while (blobserver_next(p->server, now, &action) != BLOBSERVER_NOTHING) {
        enum port_sent sent = perform(p, &action);
        if (sent == PORT_GONE)
            blobserver_unreachable(p->server, action.route);
        if (action.what != BLOBSERVER_READ)
            continue;
        if (sent == PORT_FULL)
            return now + FULL_MS;
        if (++chunks == CHUNKS_MOST)
            return now;
    }
    return blobserver_wake(p->server);
}

void
blobport_look(const struct blobport *port, struct blobport_view *view)
{
    *view = (struct blobport_view){.objects = blobserver_objects(port->server),
                                   .sent_bytes = port->sent_bytes,
                                   .malformed = port->malformed};
}

#include "proto/blobfetch.h"

#include "lib/base/fault.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "proto/blobserver.h"
#include "proto/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOOK_MS = 100, PIECE = 1 << 20, FAREWELL_MS = 600, TURN_MOST = 2 };

struct blobfetch {
    struct channel *channel;
    char endpoint[WIRE_ENDPOINT];
    struct port *port;
    struct codec *codec;
    struct blobclient *client;
    const struct blobfetch_order *order;
    int fd; // of file `file`; -1: none is open
    size_t file;
    uint64_t bytes;
    struct msg_opened opened;
    unsigned char head[FRAME_MOST];
    unsigned char piece[PIECE];
};

enum status
blobfetch_open(struct blobfetch **out, struct channel *channel, const char *endpoint,
               const char *name)
{
    *out = NULL;
    TRY(channel_allows(channel, endpoint));
    struct blobfetch *f = calloc(1, sizeof *f);
    if (!f)
        return FAIL(CREATE, "no memory to fetch checkpoints");
    f->channel = channel;
    f->fd = -1;
    snprintf(f->endpoint, sizeof f->endpoint, "%s", endpoint);
    struct blobclient_settings set = blobclient_presets;
    set.seed = random_seed();
    enum status status;
    GOTRY(codec_new(&f->codec));
    GOTRY(hello_fill(&set.link.me, ROLE_EVALUATOR, name, "", 0));
    GOTRY(blobclient_new(&f->client, &set));
    *out = f;
    return STATUS_OK;
done:
    blobfetch_close(&f);
    return status;
}

// ---------------------------------------------------------------- files

static enum status
why(const char *path, const char *what)
{
    int error = errno;
    return error == ENOSPC || error == EDQUOT
               ? FAIL(CREATE, "%s: cannot %s: %s", path, what, strerror(error))
               : FAIL(IO, "%s: cannot %s: %s", path, what, strerror(error));
}

// Ends the open file. Whole files are synced: then their bytes outlive a crash.
static enum status
end_file(struct blobfetch *f, bool whole)
{
    if (f->fd < 0)
        return STATUS_OK;
    const char *name = f->order->names.at[f->file];
    enum status status = STATUS_OK;
    if (whole && (fault("fetch.sync") ? (errno = EIO, -1) : fsync(f->fd)) != 0)
        status = why(name, "sync");
    close(f->fd);
    f->fd = -1;
    return status;
}

static enum status
begin_file(struct blobfetch *f, size_t file, bool empty)
{
    char path[PATH_BYTES];
    if (f->fd >= 0 && f->file == file && !empty)
        return STATUS_OK;
    TRY(end_file(f, f->file != file));
    TRY(path_join(path, f->order->folder, f->order->names.at[file]));
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (empty ? O_TRUNC : 0);
    f->fd = fault("fetch.create") ? (errno = EIO, -1) : open(path, flags, 0600);
    f->file = file;
    return f->fd < 0 ? why(path, "create") : STATUS_OK;
}

static enum status
write_chunk(struct blobfetch *f, size_t file, uint64_t at, const unsigned char *payload,
            size_t bytes)
{
    TRY(begin_file(f, file, at == 0));
    while (bytes > 0) {
        ssize_t put =
            fault("fetch.write") ? (errno = ENOSPC, -1) : pwrite(f->fd, payload, bytes, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return why(f->order->names.at[file], "write");
        payload += put;
        at += (uint64_t)put;
        bytes -= (size_t)put;
    }
    return STATUS_OK;
}

// What an earlier call left of one file, as far as it goes; *whole: all of it.
static enum status
use_file(struct blobfetch *f, const struct msg_blob_file *file, bool *whole)
{
    char path[PATH_BYTES];
    uint64_t done = 0;
    *whole = file->bytes == 0;
    TRY(path_join(path, f->order->folder, file->name));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return STATUS_OK;
    struct stat info;
    bool usable =
        fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size <= file->bytes;
    while (usable && done < file->bytes) {
        uint64_t left = file->bytes - done;
        ssize_t got = read(fd, f->piece, left < PIECE ? (size_t)left : PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        blobclient_has(f->client, f->piece, (size_t)got);
        done += (uint64_t)got;
    }
    close(fd);
    struct blobclient_view view;
    blobclient_look(f->client, &view);
    *whole = done == file->bytes && view.badhash == 0;
    return STATUS_OK;
}

// The list is known: what is here already, and is there room for the rest?
static enum status
plan(struct blobfetch *f)
{
    struct blobclient_view view;
    uint64_t space;
    bool whole = true;
    blobclient_look(f->client, &view);
    f->opened = *view.opened;
    for (size_t i = 0; i < f->opened.count && whole; i++)
        TRY(use_file(f, &f->opened.at[i], &whole));
    blobclient_look(f->client, &view);
    TRY(path_free_bytes(&space, f->order->folder));
    uint64_t want = f->opened.bytes - view.verified;
    if (space < want || space - want < f->order->reserve)
        return FAIL(CREATE, "%s: %llu bytes free, fetching wants %llu with the reserve",
                    f->order->folder, (unsigned long long)space,
                    (unsigned long long)(want + f->order->reserve));
    blobclient_ready(f->client);
    return STATUS_OK;
}

// Every file there, also an empty one, and the folder's entries durable.
static enum status
settle(struct blobfetch *f)
{
    TRY(end_file(f, true));
    for (size_t i = 0; i < f->opened.count; i++)
        if (f->opened.at[i].bytes == 0) {
            TRY(begin_file(f, i, true));
            TRY(end_file(f, true));
        }
    return file_sync_folder(f->order->folder);
}

// ---------------------------------------------------------------- the socket

static void
tell(struct blobfetch *f, enum message_type type, const void *message)
{
    size_t bytes;
    if (!f->port)
        return;
    if (message_encode(f->codec, f->head, sizeof f->head, &bytes, type, message) != STATUS_OK)
        say(SAY_ERROR, "%s", status_words());
    else
        (void)port_send(f->port, 0, f->head, bytes, NULL, 0, NULL);
}

static enum status
perform_all(struct blobfetch *f, int64_t now)
{
    struct blobclient_action action;
    for (;;)
        switch (blobclient_next(f->client, now, &action)) {
        case BLOBCLIENT_NOTHING:
            return STATUS_OK;
        case BLOBCLIENT_CONNECT:
            // Failing (no descriptors left) is as a server that does not answer.
            if (channel_connect(f->channel, PORT_BLOB_CLIENT, f->endpoint, BLOB_CHUNK, &f->port) !=
                STATUS_OK)
                say(SAY_WARN, "%s", status_words());
            break;
        case BLOBCLIENT_SHUT:
            port_close(&f->port);
            break;
        case BLOBCLIENT_SAY:
            tell(f, action.message.type, &action.message.hello);
            break;
        case BLOBCLIENT_OPEN:
            tell(f, MESSAGE_OPEN, action.open);
            break;
        case BLOBCLIENT_WANT:
            tell(f, MESSAGE_WANT, &action.want);
            break;
        case BLOBCLIENT_CLOSE:
            tell(f, MESSAGE_CLOSE, &action.close);
            break;
        case BLOBCLIENT_REWIND:
            TRY(begin_file(f, action.file, true));
            break;
        }
}

static enum status
take_chunk(struct blobfetch *f, const struct packet *packet, int64_t now)
{
    struct msg_chunk chunk;
    enum refusal refusal;
    size_t file;
    uint64_t at;
    if (message_decode(f->codec, packet->head, packet->head_bytes, MESSAGE_CHUNK, &chunk,
                       &refusal) != STATUS_OK ||
        !packet->payload ||
        !blobclient_chunk(f->client, &chunk, packet->payload, packet->payload_bytes, now, &file,
                          &at))
        return STATUS_OK;
    TRY(write_chunk(f, file, at, packet->payload, packet->payload_bytes));
    blobclient_wrote(f->client, &chunk, packet->payload);
    f->bytes += packet->payload_bytes;
    return STATUS_OK;
}

static enum status
take(struct blobfetch *f, const struct packet *packet, int64_t now)
{
    enum message_type type;
    enum refusal refusal;
    struct message message;
    if (packet->malformed || message_check(f->codec, packet->head, packet->head_bytes, LINK_BLOB,
                                           FROM_SERVER, &type, &refusal) != STATUS_OK)
        return STATUS_OK; // foreign noise: silence will tell if nothing else comes
    if (type == MESSAGE_CHUNK)
        return take_chunk(f, packet, now);
    if (type == MESSAGE_OPENED) {
        static _Thread_local struct msg_opened opened;
        if (message_decode(f->codec, packet->head, packet->head_bytes, type, &opened, &refusal) ==
            STATUS_OK)
            blobclient_opened(f->client, &opened, now);
    } else if (message_is_small(type) &&
               message_read(f->codec, packet->head, packet->head_bytes, LINK_BLOB, FROM_SERVER,
                            &message, &refusal) == STATUS_OK) {
        blobclient_small(f->client, &message, now);
    }
    return STATUS_OK;
}

// One turn; OK also when nothing is over yet.
static enum status
turn(struct blobfetch *f)
{
    struct packet packet;
    int64_t now = tick_ms();
    TRY(perform_all(f, now));
    for (int i = 0; i < TURN_MOST && f->port && port_receive(f->port, &packet); i++) {
        enum status status = take(f, &packet, now);
        packet_release(&packet);
        if (status != STATUS_OK)
            return status;
        struct blobclient_view view;
        blobclient_look(f->client, &view);
        if (view.state == BLOBCLIENT_PLANNING)
            TRY(plan(f));
        TRY(perform_all(f, now));
    }
    return STATUS_OK;
}

static void
sleep_a_while(struct blobfetch *f)
{
    int64_t wait = blobclient_wake(f->client) - tick_ms();
    if (channel_pending(f->channel) || wait <= 0)
        return;
    struct pollfd fd = {.fd = channel_fd(f->channel), .events = POLLIN};
    poll(&fd, 1, wait < LOOK_MS ? (int)wait : LOOK_MS);
}

static enum status
until_done(struct blobfetch *f)
{
    const struct blobfetch_order *order = f->order;
    int64_t gained_at = tick_ms();
    uint64_t gained = 0;
    for (;;) {
        TRY(turn(f));
        struct blobclient_view view;
        blobclient_look(f->client, &view);
        if (view.state == BLOBCLIENT_DONE)
            return settle(f);
        if (view.state == BLOBCLIENT_GONE)
            return FAIL(MISSING, "%s: %s: %s", f->endpoint, order->ck, view.words);
        if (view.state == BLOBCLIENT_FAILED)
            return FAIL(DAMAGED, "%s: %s: %s", f->endpoint, order->ck, view.words);
        if (order->stop &&
            order->stop(order->context, view.verified, view.opened ? view.opened->bytes : 0))
            return FAIL(AGAIN, "%s: stopped while fetching", order->ck);
        int64_t now = tick_ms();
        if (view.verified != gained) {
            gained = view.verified;
            gained_at = now;
        }
        if (now - gained_at >= order->patience_ms)
            return FAIL(UNREACHABLE, "%s: nothing of %s came for %.1f s", f->endpoint, order->ck,
                        (double)order->patience_ms / 1000);
        sleep_a_while(f);
    }
}

enum status
blobfetch_get(struct blobfetch *fetch, const struct blobfetch_order *order)
{
    fetch->order = order;
    fetch->bytes = 0;
    if (order->backoff_cap_ms)
        blobclient_backoff(fetch->client, order->backoff_cap_ms);
    blobclient_start(fetch->client, order->ck, order->manifest_hash, &order->names, order->most);
    enum status status = until_done(fetch);
    if (status != STATUS_OK) {
        struct status_note note;
        status_note_take(&note, status);
        blobclient_fail(fetch->client, ""); // the server need not keep it open
        if (turn(fetch) != STATUS_OK)
            say(SAY_DEBUG, "%s", status_words());
        if (fetch->fd >= 0)
            close(fetch->fd);
        fetch->fd = -1;
        return status_note_give(&note);
    }
    return STATUS_OK;
}

void
blobfetch_close(struct blobfetch **fetch)
{
    struct blobfetch *f = *fetch;
    if (!f)
        return;
    if (f->client && f->port) {
        blobclient_leave(f->client);
        for (int64_t until = tick_ms() + FAREWELL_MS; f->port && tick_ms() < until;) {
            if (turn(f) != STATUS_OK)
                break;
            if (f->port)
                sleep_a_while(f);
        }
    }
    port_close(&f->port);
    blobclient_free(&f->client);
    codec_free(&f->codec);
    free(f);
    *fetch = NULL;
}

void
blobfetch_look(const struct blobfetch *fetch, struct blobfetch_view *view)
{
    struct blobclient_view client;
    blobclient_look(fetch->client, &client);
    *view = (struct blobfetch_view){
        .reopened = client.reopened, .badhash = client.badhash, .bytes = fetch->bytes};
}

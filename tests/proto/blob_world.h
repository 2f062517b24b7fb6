// A small world for the fetching of files: one server, one client, a connection that is cut when
// told, and disks. The seed decides everything.
#ifndef TESTS_PROTO_BLOB_WORLD_H
#define TESTS_PROTO_BLOB_WORLD_H

#include "lib/base/rng.h"
#include "proto/blobclient.h"
#include "proto/blobserver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { FILES = 4, FILE_MOST = 9000, CHUNK = 512, WINDOW = 2048, QUEUE = 256, HASH = 4711 };
static const size_t sizes[FILES] = {300, 0, 8192, 1025};
static const char *const names[FILES] = {"manifest.json", "empty", "weights", "cfg.json"};

struct parcel { // one message on its way
    int64_t at;
    uint64_t route;
    bool up;
    enum message_type type;
    union {
        struct message small;
        struct msg_open open;
        struct msg_opened opened;
        struct msg_want want;
        struct msg_close close;
        struct msg_chunk chunk;
    };
    unsigned char payload[CHUNK];
};

struct world {
    uint64_t seed, rolled;
    int64_t now;
    struct blobserver *server;
    struct blobclient *client;
    bool fetchable;               // the folder is there
    bool open[BLOB_OBJECTS_MOST]; // the server's driver holds descriptors
    unsigned char disk[FILES][FILE_MOST], got[FILES][FILE_MOST];
    uint64_t written[FILES], fetched; // bytes of each file that arrived; all bytes written
    unsigned rewinds;
    uint64_t route; // of the client's connection; 0: no socket
    uint64_t routes, carried;
    // faults
    uint64_t cut_at, restart_at, delete_at, flip_at; // when so many messages were carried; 0: never
    struct parcel *queue;
    size_t first, count;
};

static inline uint64_t
roll(struct world *w, uint64_t n)
{
    uint32_t words[4];
    rng_words(words, w->seed, 5, 0, w->rolled++);
    return ((uint64_t)words[1] << 32 | words[0]) % n;
}

static inline void
server_start(struct world *w)
{
    struct blobserver_settings set = {.links = {.name = "trainer",
                                                .inst = {w->rolled + 1, 2},
                                                .hb_ms = 2000,
                                                .lease_ms = 15000,
                                                .roles = ROLES_ALL,
                                                .win = 1,
                                                .most = 16,
                                                .seed = roll(w, UINT64_MAX)},
                                      .chunk = CHUNK,
                                      .window = WINDOW};
    assert_int_equal(blobserver_new(&w->server, &set, w->now), STATUS_OK);
}

static inline struct world *
world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->queue = calloc(QUEUE, sizeof *w->queue);
    assert_non_null(w->queue);
    w->seed = seed;
    w->fetchable = true;
    for (size_t i = 0; i < FILES; i++)
        for (size_t j = 0; j < sizes[i]; j++)
            w->disk[i][j] = (unsigned char)roll(w, 256);
    server_start(w);
    struct blobclient_settings set = blobclient_presets;
    set.link.me.role = ROLE_EVALUATOR;
    snprintf(set.link.me.name, sizeof set.link.me.name, "evaluator");
    set.window = WINDOW;
    set.seed = roll(w, UINT64_MAX);
    assert_int_equal(blobclient_new(&w->client, &set), STATUS_OK);
    struct texts list = {.count = FILES};
    for (size_t i = 0; i < FILES; i++)
        snprintf(list.at[i], TEXT_BYTES, "%s", names[i]);
    blobclient_start(w->client, "run/100-1", HASH, &list, 1 << 20);
    return w;
}

static inline void
world_free(struct world **w)
{
    blobserver_free(&(*w)->server);
    blobclient_free(&(*w)->client);
    free((*w)->queue);
    free(*w);
    *w = NULL;
}

static inline void
cut(struct world *w)
{
    w->count = 0; // what was under way is lost, in both directions
    if (w->route)
        w->route = ++w->routes; // the library connects again, as somebody else
}

static inline void
restart(struct world *w)
{
    blobserver_free(&w->server);
    memset(w->open, 0, sizeof w->open);
    cut(w);
    server_start(w);
}

static inline void
carry(struct world *w, const struct parcel *parcel)
{
    w->carried++;
    if (w->carried == w->cut_at)
        cut(w);
    if (w->carried == w->restart_at)
        restart(w);
    if (w->carried == w->delete_at)
        w->fetchable = false;
    assert_true(w->count < QUEUE);
    struct parcel *to = &w->queue[(w->first + w->count++) % QUEUE];
    *to = *parcel;
    to->at = w->now + 1 + (int64_t)roll(w, 3);
    if (parcel->type == MESSAGE_CHUNK && w->carried == w->flip_at)
        to->payload[roll(w, to->chunk.bytes)] ^= 4;
}

// ---- the two drivers

static inline void
drive_server(struct world *w)
{
    struct blobserver_action action;
    while (blobserver_next(w->server, w->now, &action) != BLOBSERVER_NOTHING) {
        struct parcel parcel = {.route = action.route};
        struct msg_blob_file files[FILES];
        switch (action.what) {
        case BLOBSERVER_SAY:
            parcel.type = action.message.type;
            parcel.small = action.message;
            carry(w, &parcel);
            break;
        case BLOBSERVER_OPENED:
            parcel.type = MESSAGE_OPENED;
            parcel.opened = *action.opened;
            carry(w, &parcel);
            break;
        case BLOBSERVER_FIND:
            assert_false(w->open[action.slot]);
            if (!w->fetchable) {
                blobserver_lacks(w->server, action.slot, REFUSAL_NOTFOUND, "it is gone");
                break;
            }
            memset(files, 0, sizeof files);
            for (size_t i = 0; i < FILES; i++) {
                snprintf(files[i].name, sizeof files[i].name, "%s", names[i]);
                files[i].bytes = sizes[i];
                files[i].hash = hash64(w->disk[i], sizes[i]);
            }
            blobserver_found(w->server, action.slot, HASH, files, FILES);
            w->open[action.slot] = true;
            break;
        case BLOBSERVER_READ:
            assert_true(w->open[action.slot]);
            assert_true(action.at + action.chunk.bytes <= sizes[action.file]);
            assert_true(action.chunk.bytes <= CHUNK);
            if (roll(w, 10) == 0) { // the pipe is full: once more, later
                blobserver_unsent(w->server, &action);
                return;
            }
            parcel.type = MESSAGE_CHUNK;
            memcpy(parcel.payload, w->disk[action.file] + action.at, action.chunk.bytes);
            action.chunk.hash = hash64(parcel.payload, action.chunk.bytes);
            parcel.chunk = action.chunk;
            carry(w, &parcel);
            break;
        case BLOBSERVER_SHUT:
            assert_true(w->open[action.slot]);
            w->open[action.slot] = false;
            break;
        case BLOBSERVER_NOTHING:
            break;
        }
    }
}

static inline void
drive_client(struct world *w)
{
    struct blobclient_action action;
    struct blobclient_view view;
    blobclient_look(w->client, &view);
    if (view.state == BLOBCLIENT_PLANNING) {
        for (size_t i = 0; i < FILES; i++) {
            if (w->written[i])
                blobclient_has(w->client, w->got[i], w->written[i]);
            if (w->written[i] < sizes[i])
                break;
        }
        blobclient_ready(w->client);
    }
    while (blobclient_next(w->client, w->now, &action) != BLOBCLIENT_NOTHING) {
        struct parcel parcel = {.up = true, .route = w->route};
        switch (action.what) {
        case BLOBCLIENT_CONNECT:
            w->route = ++w->routes;
            continue;
        case BLOBCLIENT_SHUT:
            w->route = 0;
            continue;
        case BLOBCLIENT_REWIND:
            w->written[action.file] = 0;
            w->rewinds++;
            continue;
        case BLOBCLIENT_SAY:
            parcel.type = action.message.type;
            parcel.small = action.message;
            break;
        case BLOBCLIENT_OPEN:
            parcel.type = MESSAGE_OPEN;
            parcel.open = *action.open;
            break;
        case BLOBCLIENT_WANT:
            parcel.type = MESSAGE_WANT;
            parcel.want = action.want;
            assert_true(action.want.upto - action.want.from <= WINDOW);
            break;
        case BLOBCLIENT_CLOSE:
            parcel.type = MESSAGE_CLOSE;
            parcel.close = action.close;
            break;
        case BLOBCLIENT_NOTHING:
            break;
        }
        if (w->route)
            carry(w, &parcel);
    }
}

static inline void
arrive(struct world *w, const struct parcel *p)
{
    size_t file;
    uint64_t at;
    if (p->up) {
        if (p->type == MESSAGE_OPEN)
            blobserver_open(w->server, p->route, &p->open, w->now);
        else if (p->type == MESSAGE_WANT)
            blobserver_want(w->server, p->route, &p->want, w->now);
        else if (p->type == MESSAGE_CLOSE)
            blobserver_close(w->server, p->route, &p->close, w->now);
        else
            blobserver_small(w->server, p->route, &p->small, w->now);
        return;
    }
    if (p->route != w->route) {
        blobserver_unreachable(w->server, p->route);
        return;
    }
    if (p->type == MESSAGE_OPENED) {
        blobclient_opened(w->client, &p->opened, w->now);
    } else if (p->type == MESSAGE_CHUNK) {
        if (!blobclient_chunk(w->client, &p->chunk, p->payload, p->chunk.bytes, w->now, &file, &at))
            return;
        assert_int_equal(at, w->written[file]); // nothing twice, nothing left out
        memcpy(w->got[file] + at, p->payload, p->chunk.bytes);
        w->written[file] += p->chunk.bytes;
        w->fetched += p->chunk.bytes;
        blobclient_wrote(w->client, &p->chunk, p->payload);
    } else {
        blobclient_small(w->client, &p->small, w->now);
    }
}

static inline enum blobclient_state
state_of(const struct world *w)
{
    struct blobclient_view view;
    blobclient_look(w->client, &view);
    return view.state;
}

static inline bool
is_over(const struct world *w)
{
    return state_of(w) >= BLOBCLIENT_DONE;
}

static inline enum blobclient_state
run(struct world *w)
{
    for (int turn = 0; turn < 200000 && !is_over(w); turn++) {
        drive_client(w);
        drive_server(w);
        int64_t wake = blobclient_wake(w->client), other = blobserver_wake(w->server);
        wake = other < wake ? other : wake;
        wake = wake < w->now + 100 ? wake : w->now + 100;
        if (w->count > 0 && w->queue[w->first].at < wake)
            wake = w->queue[w->first].at;
        w->now = wake > w->now ? wake : w->now + 1;
        while (w->count > 0 && w->queue[w->first].at <= w->now) {
            struct parcel parcel = w->queue[w->first];
            w->first = (w->first + 1) % QUEUE;
            w->count--;
            arrive(w, &parcel);
        }
    }
    return state_of(w);
}

static inline void
check_whole(const struct world *w)
{
    for (size_t i = 0; i < FILES; i++) {
        assert_int_equal(w->written[i], sizes[i]);
        assert_memory_equal(w->got[i], w->disk[i], sizes[i]);
    }
}

static inline uint64_t
total(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < FILES; i++)
        sum += sizes[i];
    return sum;
}

#endif

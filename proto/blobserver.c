#include "proto/blobserver.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { ANSWERS_MOST = 32, BUSY_RETRY_MS = 2000 };

enum object_state { OBJECT_FREE, OBJECT_ASKED, OBJECT_FOUND, OBJECT_OPEN, OBJECT_ENDING };

struct object {
    enum object_state state;
    uint64_t route, lk;
    int64_t touched_at;
    uint64_t from, upto, sent, total;
    size_t file; // that `sent` lies in
    uint64_t file_at;
    struct msg_open open;
    struct msg_opened opened;
};

struct blobserver {
    struct blobserver_settings set;
    struct links *links;
    uint32_t handles;
    size_t turn; // whose chunk comes next
    struct object objects[BLOB_OBJECTS_MOST];
    struct {
        uint64_t route;
        struct message message;
    } answers[ANSWERS_MOST];
    size_t answer_first, answer_count;
};

enum status
blobserver_new(struct blobserver **out, const struct blobserver_settings *set, int64_t now)
{
    assert(set->chunk > 0 && set->chunk <= BLOB_CHUNK && set->window >= set->chunk);
    *out = calloc(1, sizeof **out);
    if (!*out)
        return FAIL(CREATE, "no memory for the blob server");
    (*out)->set = *set;
    enum status status = links_new(&(*out)->links, &set->links, now);
    if (status != STATUS_OK)
        blobserver_free(out);
    else
        // A handle of an earlier life of this process is none of ours.
        (*out)->handles = (uint32_t)(set->links.seed & 0x3fffffff);
    return status;
}

void
blobserver_free(struct blobserver **server)
{
    if (*server)
        links_free(&(*server)->links);
    free(*server);
    *server = NULL;
}

// An answer that finds no room is lost, as on the wire: the client asks again.
static void
answer(struct blobserver *s, uint64_t route, const struct message *message)
{
    if (s->answer_count == ANSWERS_MOST)
        return;
    size_t at = (s->answer_first + s->answer_count++) % ANSWERS_MOST;
    s->answers[at].route = route;
    s->answers[at].message = *message;
}

static void
refuse(struct blobserver *s, uint64_t route, uint64_t request, enum refusal code, uint32_t retry_ms,
       const char *words)
{
    struct message message;
    message_refuse(&message, request, code, retry_ms, "%s", words);
    answer(s, route, &message);
}

static const struct link_peer *
peer_of(struct blobserver *s, uint64_t route, uint64_t lk, uint64_t request, int64_t now)
{
    const struct link_peer *peer = links_find(s->links, route, lk, now);
    struct message message;
    if (!peer && links_unknown(s->links, request, now, &message))
        answer(s, route, &message);
    return peer;
}

static void
end(struct object *object)
{
    // Before FIND the driver holds nothing of it.
    object->state =
        object->state == OBJECT_FREE || object->state == OBJECT_ASKED ? OBJECT_FREE : OBJECT_ENDING;
}

static struct object *
object_of(struct blobserver *s, uint64_t lk, uint32_t handle)
{
    for (size_t i = 0; i < BLOB_OBJECTS_MOST; i++) {
        struct object *object = &s->objects[i];
        if (object->state == OBJECT_OPEN && object->lk == lk && object->opened.fd == handle)
            return object;
    }
    return NULL;
}

// ---------------------------------------------------------------- what arrived

void
blobserver_small(struct blobserver *s, uint64_t route, const struct message *message, int64_t now)
{
    struct message reply;
    const struct link_peer *peer;
    if (links_receive(s->links, route, message, now, &reply, &peer) == LINKS_ANSWER)
        answer(s, route, &reply);
}

void
blobserver_open(struct blobserver *s, uint64_t route, const struct msg_open *open, int64_t now)
{
    const struct link_peer *peer = peer_of(s, route, open->lk, open->i, now);
    if (!peer)
        return;
    if (peer->hello.role != ROLE_EVALUATOR && peer->hello.role != ROLE_TRAINER) {
        refuse(s, route, open->i, REFUSAL_ROLE, 0, "only evaluators and trainers fetch files");
        return;
    }
    struct object *spare = NULL;
    for (size_t i = 0; i < BLOB_OBJECTS_MOST; i++) {
        struct object *object = &s->objects[i];
        if (object->state != OBJECT_FREE && object->lk == open->lk) {
            if (object->open.i >= open->i)
                return; // a late repetition of an OPEN that was replaced or is being answered
            end(object);
        }
        if (object->state == OBJECT_FREE && !spare)
            spare = object;
    }
    if (!spare) {
        refuse(s, route, open->i, REFUSAL_BUSY, BUSY_RETRY_MS, "too many objects are open");
        return;
    }
    memset(spare, 0, sizeof *spare);
    spare->state = OBJECT_ASKED;
    spare->route = route;
    spare->lk = open->lk;
    spare->touched_at = now;
    spare->open = *open;
}

void
blobserver_want(struct blobserver *s, uint64_t route, const struct msg_want *want, int64_t now)
{
    if (!peer_of(s, route, want->lk, 0, now))
        return;
    struct object *object = object_of(s, want->lk, want->fd);
    if (!object) {
        refuse(s, route, 0, REFUSAL_EXPIRED, 0, "this handle is not open");
        return;
    }
    if (want->from > object->total || want->upto > object->total || want->upto < want->from) {
        refuse(s, route, object->open.i, REFUSAL_WINDOW, 0, "beyond the end of the object");
        end(object);
        return;
    }
    object->touched_at = now;
    // The first WANT says where to begin; from then on `from` is what has arrived.
    if (object->sent == 0 && object->upto == 0) {
        object->sent = want->from;
        while (object->file + 1 < object->opened.count &&
               object->sent >= object->file_at + object->opened.at[object->file].bytes)
            object->file_at += object->opened.at[object->file++].bytes;
    }
    object->from = want->from > object->from ? want->from : object->from;
    object->upto = want->upto > object->upto ? want->upto : object->upto;
}

void
blobserver_close(struct blobserver *s, uint64_t route, const struct msg_close *close, int64_t now)
{
    if (!peer_of(s, route, close->lk, 0, now))
        return;
    struct object *object = object_of(s, close->lk, close->fd);
    if (object)
        end(object);
}

void
blobserver_unreachable(struct blobserver *s, uint64_t route)
{
    links_drop_route(s->links, route);
}

// ---------------------------------------------------------------- what to do

static bool
may_send(const struct blobserver *s, const struct object *object)
{
    return object->state == OBJECT_OPEN && object->sent < object->upto &&
           (object->sent <= object->from || object->sent - object->from < s->set.window);
}

static void
fill_chunk(struct blobserver *s, struct object *object, struct blobserver_action *action)
{
    const struct msg_opened *opened = &object->opened;
    // Empty files hold no byte of the object.
    while (object->sent == object->file_at + opened->at[object->file].bytes) {
        object->file_at += opened->at[object->file++].bytes;
        assert(object->file < opened->count);
    }
    uint64_t left = object->file_at + opened->at[object->file].bytes - object->sent;
    uint64_t wanted = object->upto - object->sent;
    uint64_t bytes = left < wanted ? left : wanted;
    bytes = bytes < s->set.chunk ? bytes : s->set.chunk;
    action->file = object->file;
    action->at = object->sent - object->file_at;
    action->chunk =
        (struct msg_chunk){.fd = opened->fd, .offset = object->sent, .bytes = (uint32_t)bytes};
    object->sent += bytes;
}

static void
expire(struct blobserver *s, int64_t now)
{
    links_expire(s->links, now);
    for (size_t i = 0; i < BLOB_OBJECTS_MOST; i++) {
        struct object *object = &s->objects[i];
        if (object->state != OBJECT_FREE && object->state != OBJECT_ENDING &&
            (!links_by_number(s->links, object->lk) ||
             now - object->touched_at >= (int64_t)object->open.ttl_s * 1000))
            end(object);
    }
}

enum blobserver_do
blobserver_next(struct blobserver *s, int64_t now, struct blobserver_action *action)
{
    expire(s, now);
    action->what = BLOBSERVER_NOTHING;
    for (size_t i = 0; i < BLOB_OBJECTS_MOST; i++)
        if (s->objects[i].state == OBJECT_ENDING) {
            s->objects[i].state = OBJECT_FREE;
            action->slot = i;
            return action->what = BLOBSERVER_SHUT;
        }
    if (s->answer_count > 0) {
        action->route = s->answers[s->answer_first].route;
        action->message = s->answers[s->answer_first].message;
        s->answer_first = (s->answer_first + 1) % ANSWERS_MOST;
        s->answer_count--;
        return action->what = BLOBSERVER_SAY;
    }
    for (size_t i = 0; i < BLOB_OBJECTS_MOST; i++) {
        size_t slot = (s->turn + i) % BLOB_OBJECTS_MOST;
        struct object *object = &s->objects[slot];
        action->slot = slot;
        action->route = object->route;
        if (object->state == OBJECT_ASKED) {
            action->open = &object->open;
            return action->what = BLOBSERVER_FIND;
        }
        if (object->state == OBJECT_FOUND) {
            object->state = OBJECT_OPEN;
            action->opened = &object->opened;
            return action->what = BLOBSERVER_OPENED;
        }
        if (may_send(s, object)) {
            s->turn = slot + 1;
            fill_chunk(s, object, action);
            return action->what = BLOBSERVER_READ;
        }
    }
    return BLOBSERVER_NOTHING;
}

void
blobserver_found(struct blobserver *s, size_t slot, uint64_t manifest_hash,
                 const struct msg_blob_file *files, size_t count)
{
    struct object *object = &s->objects[slot];
    assert(object->state == OBJECT_ASKED && count > 0 && count <= BLOB_FILES_MOST);
    struct msg_opened *opened = &object->opened;
    opened->r = object->open.i;
    opened->fd = ++s->handles;
    opened->manifest_hash = manifest_hash;
    opened->count = count;
    memcpy(opened->at, files, count * sizeof *files);
    for (size_t i = 0; i < count; i++) {
        bool overflow = __builtin_add_overflow(opened->bytes, files[i].bytes, &opened->bytes);
        assert(!overflow);
    }
    assert(opened->bytes > 0);
    object->total = opened->bytes;
    object->state = OBJECT_FOUND;
}

void
blobserver_lacks(struct blobserver *s, size_t slot, enum refusal code, const char *words)
{
    struct object *object = &s->objects[slot];
    assert(object->state == OBJECT_ASKED);
    refuse(s, object->route, object->open.i, code, 0, words);
    object->state = OBJECT_FREE;
}

void
blobserver_unsent(struct blobserver *s, const struct blobserver_action *action)
{
    struct object *object = &s->objects[action->slot];
    object->sent = action->chunk.offset;
}

void
blobserver_broken(struct blobserver *s, size_t slot, enum refusal code, const char *words)
{
    struct object *object = &s->objects[slot];
    refuse(s, object->route, object->open.i, code, 0, words);
    end(object);
}

int64_t
blobserver_wake(const struct blobserver *s)
{
    int64_t wake = links_wake(s->links);
    for (size_t i = 0; i < BLOB_OBJECTS_MOST; i++) {
        const struct object *object = &s->objects[i];
        int64_t ends = object->touched_at + (int64_t)object->open.ttl_s * 1000;
        if (object->state != OBJECT_FREE && ends < wake)
            wake = ends;
    }
    return wake;
}

size_t
blobserver_objects(const struct blobserver *s)
{
    size_t count = 0;
    for (size_t i = 0; i < BLOB_OBJECTS_MOST; i++)
        count += s->objects[i].state != OBJECT_FREE;
    return count;
}

// crashsim: what a disk may hold after a crash. A model of a folder is fed with the operations that
// libfaultio wrote down; at any moment it can draw a state in which a crash might have left the
// disk:
//
//   - all that was synced is there: the bytes of a file up to its fsync, the names of a folder up
//     to the folder's
//   - of what came after, per file and per folder: all, nothing, a beginning, or any part. A lost
//     write may leave the file longer all the same, with zeros or rubbish; a write may be cut at
//     any 512 bytes. A rename is there or not, never half.
#ifndef TESTS_FAULT_CRASHSIM_H
#define TESTS_FAULT_CRASHSIM_H

#include "lib/base/rng.h"
#include "tests/fault/faultio.h"
#include "tests/store/scratch.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { SIM_NODES = 512, SIM_NAMES = 64, SIM_PENDING = 256, SIM_NAME = 96, SIM_FILE = 1 << 17 };

struct sim_bytes {
    size_t size;
    unsigned char at[SIM_FILE];
};
struct sim_names {
    size_t count;
    char name[SIM_NAMES][SIM_NAME];
    int node[SIM_NAMES];
};
// One operation not yet synced. from, to: names in the folder.
struct sim_pending {
    enum faultio_what what;
    char from[SIM_NAME], to[SIM_NAME];
    int node;
    uint64_t at;
    const unsigned char *data; // in the log
    size_t bytes;
};
struct sim_node {
    bool folder;
    uint64_t inode;
    struct sim_bytes *bytes; // a file's
    struct sim_names *names; // a folder's
    struct sim_pending *pending;
    size_t pending_count;
};
struct crashsim {
    struct sim_node node[SIM_NODES]; // [0] is the root
    int count;
    uint64_t seed, draws;
};

static inline uint64_t
crash_draw(struct crashsim *sim, uint64_t below)
{
    uint32_t words[4];
    rng_words(words, sim->seed, 0x6372, 0, sim->draws++);
    return ((uint64_t)words[1] << 32 | words[0]) % below;
}

static inline int
crash_node(struct crashsim *sim, bool folder, uint64_t inode)
{
    assert_true(sim->count < SIM_NODES);
    struct sim_node *node = &sim->node[sim->count];
    *node = (struct sim_node){.folder = folder, .inode = inode};
    node->bytes = folder ? NULL : calloc(1, sizeof *node->bytes);
    node->names = folder ? calloc(1, sizeof *node->names) : NULL;
    node->pending = calloc(SIM_PENDING, sizeof *node->pending);
    return sim->count++;
}

// The newest node of this inode, or NULL: numbers come again after files are gone.
static inline struct sim_node *
crash_find(struct crashsim *sim, uint64_t inode)
{
    for (int i = sim->count - 1; i >= 0; i--)
        if (sim->node[i].inode == inode)
            return &sim->node[i];
    return NULL;
}

// ---- names

static inline int
names_find(const struct sim_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->name[i], name) == 0)
            return (int)i;
    return -1;
}

static inline void
names_put(struct sim_names *names, const char *name, int node)
{
    int at = names_find(names, name);
    if (at < 0) {
        assert_true(names->count < SIM_NAMES && strlen(name) < SIM_NAME);
        at = (int)names->count++;
        memcpy(names->name[at], name, strlen(name) + 1);
    }
    names->node[at] = node;
}

static inline void
names_drop(struct sim_names *names, int at)
{
    size_t last = --names->count;
    memmove(names->name[at], names->name[last], SIM_NAME);
    names->node[at] = names->node[last];
}

// What does not apply (an earlier one is lost) changes nothing.
static inline void
names_apply(struct sim_names *names, const struct sim_pending *change)
{
    int from = names_find(names, change->from), to;
    switch (change->what) {
    case FAULTIO_CREATE:
    case FAULTIO_MKDIR:
        names_put(names, change->from, change->node);
        break;
    case FAULTIO_UNLINK:
        if (from >= 0 && names->node[from] == change->node)
            names_drop(names, from);
        break;
    case FAULTIO_RENAME:
        if (from >= 0 && names->node[from] == change->node) {
            names_drop(names, from);
            names_put(names, change->to, change->node);
        }
        break;
    default: // FAULTIO_EXCHANGE
        to = names_find(names, change->to);
        if (from >= 0 && to >= 0) {
            int node = names->node[from];
            names->node[from] = names->node[to];
            names->node[to] = node;
        }
    }
}

// ---- bytes

static inline void
bytes_resize(struct sim_bytes *bytes, uint64_t size, int fill)
{
    assert_true(size <= SIM_FILE);
    if (size > bytes->size)
        memset(bytes->at + bytes->size, fill, size - bytes->size);
    bytes->size = size;
}

static inline void
bytes_apply(struct sim_bytes *bytes, const struct sim_pending *change, size_t some)
{
    if (change->what == FAULTIO_SIZE) {
        bytes_resize(bytes, change->at, 0);
        return;
    }
    if (some == 0)
        return;
    if (bytes->size < change->at + some)
        bytes_resize(bytes, change->at + some, 0);
    memcpy(bytes->at + change->at, change->data, some);
}

// ---- feeding

// The folder and last name of a path, with all that happened so far.
static inline struct sim_node *
crash_walk(struct crashsim *sim, const char *path, size_t length, char last[SIM_NAME], int *node)
{
    static struct sim_names now;
    int at = 0;
    for (;;) {
        size_t part = 0;
        while (part < length && path[part] != '/')
            part++;
        assert_true(part > 0 && part < SIM_NAME && sim->node[at].folder);
        memcpy(last, path, part);
        last[part] = '\0';
        now = *sim->node[at].names;
        for (size_t i = 0; i < sim->node[at].pending_count; i++)
            names_apply(&now, &sim->node[at].pending[i]);
        int found = names_find(&now, last);
        *node = found < 0 ? -1 : now.node[found];
        if (part == length)
            return &sim->node[at];
        assert_true(*node >= 0);
        at = *node;
        path += part + 1;
        length -= part + 1;
    }
}

static inline struct sim_pending *
crash_pend(struct sim_node *node, enum faultio_what what)
{
    assert_true(node->pending_count < SIM_PENDING);
    struct sim_pending *pending = &node->pending[node->pending_count++];
    *pending = (struct sim_pending){.what = what, .node = -1};
    return pending;
}

// `after`: the bytes behind the head, in memory as long as the sim.
static inline void
crash_feed(struct crashsim *sim, const struct faultio_head *head, const unsigned char *after)
{
    const char *from = (const char *)after, *to = from + head->from_bytes;
    char last[SIM_NAME], new[SIM_NAME];
    int node, other;
    struct sim_node *folder, *where;
    struct sim_pending *pending;
    switch ((enum faultio_what)head->what) {
    case FAULTIO_CREATE:
    case FAULTIO_MKDIR:
    case FAULTIO_UNLINK:
        folder = crash_walk(sim, from, head->from_bytes, last, &node);
        if (head->what != FAULTIO_UNLINK)
            node = crash_node(sim, head->what == FAULTIO_MKDIR, head->inode);
        pending = crash_pend(folder, (enum faultio_what)head->what);
        memcpy(pending->from, last, sizeof last);
        pending->node = node;
        break;
    case FAULTIO_RENAME:
    case FAULTIO_EXCHANGE:
        folder = crash_walk(sim, from, head->from_bytes, last, &node);
        where = crash_walk(sim, to, head->to_bytes, new, &other);
        assert_ptr_equal(folder, where); // all our renames stay in their folder
        pending = crash_pend(folder, (enum faultio_what)head->what);
        memcpy(pending->from, last, sizeof last);
        memcpy(pending->to, new, sizeof new);
        pending->node = node;
        break;
    case FAULTIO_WRITE:
    case FAULTIO_SIZE:
        folder = crash_find(sim, head->inode);
        assert_non_null(folder);
        pending = crash_pend(folder, (enum faultio_what)head->what);
        pending->at = head->at;
        pending->data = after;
        pending->bytes = head->data_bytes;
        break;
    case FAULTIO_SYNC:
        folder = crash_find(sim, head->inode); // none: the folder above the root
        for (size_t i = 0; folder && i < folder->pending_count; i++)
            if (folder->folder)
                names_apply(folder->names, &folder->pending[i]);
            else
                bytes_apply(folder->bytes, &folder->pending[i], folder->pending[i].bytes);
        if (folder)
            folder->pending_count = 0;
        break;
    case FAULTIO_MARK:
        break;
    }
}

// What lies in a folder now, as synced.
static inline void
crash_read(struct crashsim *sim, const char *path, int at)
{
    DIR *entries = opendir(path);
    assert_non_null(entries);
    const struct dirent *entry;
    while ((entry = readdir(entries))) {
        char below[PATH_BYTES];
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        assert_int_equal(path_join(below, path, entry->d_name), STATUS_OK);
        assert_int_equal(stat(below, &info), 0);
        int node = crash_node(sim, S_ISDIR(info.st_mode), (uint64_t)info.st_ino);
        names_put(sim->node[at].names, entry->d_name, node);
        if (S_ISDIR(info.st_mode)) {
            crash_read(sim, below, node);
            continue;
        }
        size_t bytes;
        char *text = file_get(below, &bytes);
        assert_true(bytes <= SIM_FILE);
        memcpy(sim->node[node].bytes->at, text, bytes);
        sim->node[node].bytes->size = bytes;
        free(text);
    }
    closedir(entries);
}

static inline void
crash_begin(struct crashsim *sim, const char *folder, uint64_t seed)
{
    struct stat info;
    assert_int_equal(stat(folder, &info), 0);
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    crash_node(sim, true, (uint64_t)info.st_ino);
    crash_read(sim, folder, 0);
}

static inline void
crash_end(struct crashsim *sim)
{
    for (int i = 0; i < sim->count; i++) {
        free(sim->node[i].bytes);
        free(sim->node[i].names);
        free(sim->node[i].pending);
    }
    sim->count = 0;
}

// ---- drawing a state

enum crash_luck { LUCK_ALL, LUCK_NONE, LUCK_FIRST, LUCK_ANY, LUCK_COUNT };

static inline void
crash_bytes(struct crashsim *sim, struct sim_bytes *out, const struct sim_node *file,
            enum crash_luck luck)
{
    *out = *file->bytes;
    size_t first = luck == LUCK_FIRST ? crash_draw(sim, file->pending_count + 1) : 0;
    for (size_t i = 0; i < file->pending_count; i++) {
        const struct sim_pending *change = &file->pending[i];
        bool whole = luck == LUCK_ALL || (luck == LUCK_FIRST && i < first) ||
                     (luck == LUCK_ANY && crash_draw(sim, 2));
        if (whole) {
            bytes_apply(out, change, change->bytes);
            continue;
        }
        if (change->what != FAULTIO_WRITE)
            continue;
        if (luck == LUCK_ANY || (luck == LUCK_FIRST && i == first)) { // cut at a sector, or lost
            size_t sector = 512 - change->at % 512, some = 0;
            while (some + sector < change->bytes && crash_draw(sim, 3)) {
                some += sector;
                sector = 512;
            }
            bytes_apply(out, change, some);
        }
        uint64_t end = change->at + change->bytes;
        uint64_t tail = crash_draw(sim, 3);
        if (tail && end > out->size && luck != LUCK_NONE)
            bytes_resize(out, end, tail == 1 ? 0 : 0xa5);
    }
}

static inline void
crash_names(struct crashsim *sim, struct sim_names *out, const struct sim_node *folder,
            enum crash_luck luck)
{
    *out = *folder->names;
    size_t first = luck == LUCK_FIRST ? crash_draw(sim, folder->pending_count + 1) : 0;
    for (size_t i = 0; i < folder->pending_count; i++)
        if (luck == LUCK_ALL || (luck == LUCK_FIRST && i < first) ||
            (luck == LUCK_ANY && crash_draw(sim, 2)))
            names_apply(out, &folder->pending[i]);
}

// One state into the (empty) folder at `path`. Luck is drawn for each file and folder by itself, or
// is the same for all.
static inline void
crash_write(struct crashsim *sim, int at, const char *path, int same)
{
    struct sim_names *names = malloc(sizeof *names);
    struct sim_bytes *bytes = malloc(sizeof *bytes);
    crash_names(sim, names, &sim->node[at],
                (enum crash_luck)(same >= 0 ? (uint64_t)same : crash_draw(sim, LUCK_COUNT)));
    for (size_t i = 0; i < names->count; i++) {
        char below[PATH_BYTES];
        const struct sim_node *node = &sim->node[names->node[i]];
        assert_int_equal(path_join(below, path, names->name[i]), STATUS_OK);
        if (node->folder) {
            assert_int_equal(mkdir(below, 0700), 0);
            crash_write(sim, names->node[i], below, same);
            continue;
        }
        crash_bytes(sim, bytes, node,
                    (enum crash_luck)(same >= 0 ? (uint64_t)same : crash_draw(sim, LUCK_COUNT)));
        int fd = open(below, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(fd >= 0 && file_write_all(fd, below, bytes->at, bytes->size) == STATUS_OK);
        close(fd);
    }
    free(names);
    free(bytes);
}

#endif

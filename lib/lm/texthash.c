#include "lib/lm/texthash.h"

#include "lib/base/file.h"
#include "lib/base/say.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MEMORY_MOST = 64 << 20, ENTRIES_MOST = 100000, BLOCK_BYTES = 4 << 20 };

struct texthash {
    char path[PATH_BYTES];
    json_t *entries; // absolute path -> [size, mtime, ctime, hash]
    bool changed;
};

enum status
texthash_open(struct texthash **out, const char *cache)
{
    *out = NULL;
    struct texthash *m = calloc(1, sizeof *m);
    if (!m)
        return FAIL(CREATE, "%s: no memory for the hashes of texts", cache);
    enum status status = path_join(m->path, cache, "text-hashes.json");
    if (status != STATUS_OK) {
        free(m);
        return status;
    }
    char *text;
    size_t bytes;
    if (path_exists(m->path) && file_read(&text, &bytes, m->path, MEMORY_MOST) == STATUS_OK) {
        m->entries = json_loadb(text, bytes, 0, NULL);
        free(text);
    }
    if (!json_is_object(m->entries) || json_object_size(m->entries) > ENTRIES_MOST) {
        json_decref(m->entries);
        m->entries = json_object();
    }
    if (!m->entries) {
        free(m);
        return FAIL(CREATE, "%s: no memory for the hashes of texts", cache);
    }
    *out = m;
    return STATUS_OK;
}

static void
forget_missing(json_t *entries)
{
    const char *path;
    json_t *entry;
    void *next;
    json_object_foreach_safe(entries, next, path, entry)
    {
        if (!path_exists(path))
            json_object_del(entries, path);
    }
}

void
texthash_close(struct texthash **memory)
{
    struct texthash *m = *memory;
    if (!m)
        return;
    if (m->changed) {
        forget_missing(m->entries);
        char *text = json_dumps(m->entries, JSON_COMPACT | JSON_SORT_KEYS);
        if (!text || file_replace(m->path, text, strlen(text)) != STATUS_OK)
            say(SAY_WARN, "%s: not written, texts will be hashed again: %s", m->path,
                text ? status_words() : "no memory");
        free(text);
    }
    json_decref(m->entries);
    free(m);
    *memory = NULL;
}

static int64_t
nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static enum status
look(struct texthash_file *out, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return errno == ENOENT ? FAIL(MISSING, "%s: no such file", path)
                               : FAIL(IO, "%s: cannot look at: %s", path, strerror(errno));
    *out = (struct texthash_file){.bytes = (uint64_t)info.st_size,
                                  .modified_ns = nanoseconds(info.st_mtim),
                                  .changed_ns = nanoseconds(info.st_ctim)};
    return STATUS_OK;
}

static bool
same_file(const struct texthash_file *a, const struct texthash_file *b)
{
    return a->bytes == b->bytes && a->modified_ns == b->modified_ns &&
           a->changed_ns == b->changed_ns;
}

static bool
remembered(const struct texthash *m, struct texthash_file *file, const char *path)
{
    const json_t *entry = json_object_get(m->entries, path);
    const char *hash = json_string_value(json_array_get(entry, 3));
    struct texthash_file known = {
        .bytes = (uint64_t)json_integer_value(json_array_get(entry, 0)),
        .modified_ns = json_integer_value(json_array_get(entry, 1)),
        .changed_ns = json_integer_value(json_array_get(entry, 2)),
    };
    return hash && same_file(&known, file) && hex128_parse(&file->hash, hash);
}

static enum status
remember(struct texthash *m, const struct texthash_file *file, const char *path)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t old_enough = nanoseconds(now) - 2000000000;
    if (file->modified_ns > old_enough || file->changed_ns > old_enough)
        return STATUS_OK;
    char hash[33];
    hex128(hash, file->hash);
    json_t *entry = json_pack("[IIIs]", (json_int_t)file->bytes, (json_int_t)file->modified_ns,
                              (json_int_t)file->changed_ns, hash);
    if (!entry || json_object_set_new(m->entries, path, entry) != 0)
        return STATUS_OK; // a path that is not UTF-8: hashed each time
    m->changed = true;
    return STATUS_OK;
}

static enum status
hash_file(struct hash128 *out, const char *path, texthash_watch *watch, void *context)
{
    enum status status = STATUS_OK;
    struct hasher *hasher = hasher_new();
    char *block = malloc(BLOCK_BYTES);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (!hasher || !block) {
        status = FAIL(CREATE, "%s: no memory to hash it", path);
        goto done;
    }
    if (fd < 0) {
        status = errno == EACCES ? FAIL(DENIED, "%s: cannot open: %s", path, strerror(errno))
                                 : FAIL(MISSING, "%s: cannot open: %s", path, strerror(errno));
        goto done;
    }
    for (;;) {
        ssize_t got = read(fd, block, BLOCK_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            status = FAIL(IO, "%s: cannot read: %s", path, strerror(errno));
            goto done;
        }
        if (got == 0)
            break;
        hasher_add(hasher, block, (size_t)got);
        if (watch)
            GOTRY(watch(context, (size_t)got));
    }
    *out = hasher_128(hasher);
done:
    if (fd >= 0)
        close(fd);
    free(block);
    hasher_free(&hasher);
    return status;
}

enum status
texthash_of(struct texthash *m, struct texthash_file *out, const char *path, texthash_watch *watch,
            void *context)
{
    TRY(look(out, path));
    char *whole = realpath(path, NULL);
    if (!whole)
        return FAIL(IO, "%s: cannot find its full name: %s", path, strerror(errno));
    enum status status = STATUS_OK;
    if (!remembered(m, out, whole)) {
        GOTRY(hash_file(&out->hash, path, watch, context));
        GOTRY(texthash_unchanged(out, path));
        GOTRY(remember(m, out, whole));
    }
done:
    free(whole);
    return status;
}

enum status
texthash_unchanged(const struct texthash_file *file, const char *path)
{
    struct texthash_file now;
    TRY(look(&now, path));
    if (!same_file(&now, file))
        return FAIL(DAMAGED, "%s: was changed while it was read: %llu bytes before, %llu now", path,
                    (unsigned long long)file->bytes, (unsigned long long)now.bytes);
    return STATUS_OK;
}

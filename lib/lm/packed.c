#include "lib/lm/packed.h"

#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/lm/packed_make.h"
#include "lib/lm/texthash.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { CONTEXT_MOST = 1 << 20, FACTS_MOST = 64 << 10, WAIT_MS = 100 };

static const char format[] = "osae tokens 1"; // raised when the same inputs give other ids

struct packed {
    struct packed_facts facts;
    size_t context;
    struct file_map map;
    bool made;
    char path[PATH_BYTES], facts_path[PATH_BYTES], lock_path[PATH_BYTES], new_path[PATH_BYTES];
    char folder[PATH_BYTES];
};

// ---- the key ------------------------------------------------------------------------------------

static enum status
hashing(void *context, size_t bytes)
{
    struct packed_teller *teller = context;
    teller->progress.bytes_done += bytes;
    return packed_tell(teller, false);
}

static void
add_u64(struct hasher *h, uint64_t value)
{
    hasher_add(h, &value, sizeof value);
}

// All that decides the ids, in a fixed order. The texts' own hashes go to `files` as well.
static enum status
make_key(struct hash128 *key, struct texthash_file *files, const struct tokenizer *t,
         const struct packed_settings *s, const struct corpus *corpus, struct packed_teller *teller)
{
    enum status status = STATUS_OK;
    struct texthash *memory = NULL;
    struct hasher *h = hasher_new();
    if (!h)
        return FAIL(CREATE, "no memory for a hash");
    struct hash128 tokenizer = tokenizer_hash(t, s->special);
    const char *field = s->field ? s->field : "text";
    hasher_add(h, format, sizeof format);
    hasher_add(h, &tokenizer, sizeof tokenizer);
    add_u64(h, s->special);
    add_u64(h, s->context);
    add_u64(h, s->bos);
    add_u64(h, s->separator);
    add_u64(h, s->tokens / s->context * s->context);
    hasher_add(h, field, strlen(field) + 1);
    GOTRY(texthash_open(&memory, s->cache));
    for (size_t i = 0; i < corpus_files(corpus); i++) {
        struct corpus_file file = corpus_file(corpus, i);
        GOTRY(texthash_of(memory, &files[i], file.path, hashing, teller));
        add_u64(h, file.kind);
        add_u64(h, file.zstd);
        add_u64(h, files[i].bytes);
        hasher_add(h, &files[i].hash, sizeof files[i].hash);
    }
    *key = hasher_128(h);
done:
    texthash_close(&memory);
    hasher_free(&h);
    return status;
}

// ---- the file beside ----------------------------------------------------------------------------

static enum status
write_facts(const struct packed *p, const struct tokenizer *t, const struct packed_settings *s)
{
    char hash[33], tokenizer[33];
    hex128(hash, p->facts.hash);
    hex128(tokenizer, tokenizer_hash(t, s->special));
    const struct packed_counts *c = &p->facts.counts;
    json_t *facts = json_pack(
        "{ss sI sI sI sI sI sI sI ss sI sI ss}", "format", format, "context",
        (json_int_t)p->context, "contexts", (json_int_t)p->facts.contexts, "tokens",
        (json_int_t)(p->facts.contexts * p->context), "documents", (json_int_t)c->documents,
        "text_bytes", (json_int_t)c->text_bytes, "invalid_utf8_parts", (json_int_t)c->invalid,
        "added_tokens", (json_int_t)c->added, "xxh3_128", hash, "bos",
        s->bos == TOKEN_ABSENT ? (json_int_t)-1 : (json_int_t)s->bos, "separator",
        s->separator == TOKEN_ABSENT ? (json_int_t)-1 : (json_int_t)s->separator, "tokenizer",
        tokenizer);
    char *text = facts ? json_dumps(facts, JSON_INDENT(1)) : NULL;
    enum status status = text ? file_replace(p->facts_path, text, strlen(text))
                              : FAIL(CREATE, "%s: no memory to write it", p->facts_path);
    free(text);
    json_decref(facts);
    return status;
}

static bool
read_facts(struct packed *p)
{
    char *text;
    size_t bytes;
    if (file_read(&text, &bytes, p->facts_path, FACTS_MOST) != STATUS_OK)
        return false;
    json_t *facts = json_loadb(text, bytes, 0, NULL);
    free(text);
    const char *found_format = "", *hash = "";
    json_int_t context = 0, contexts = 0, documents = 0, text_bytes = 0, invalid = 0, added = 0;
    bool good = json_unpack(facts, "{ss sI sI sI sI sI sI ss}", "format", &found_format, "context",
                            &context, "contexts", &contexts, "documents", &documents, "text_bytes",
                            &text_bytes, "invalid_utf8_parts", &invalid, "added_tokens", &added,
                            "xxh3_128", &hash) == 0 &&
                strcmp(found_format, format) == 0 && hex128_parse(&p->facts.hash, hash) &&
                context == (json_int_t)p->context && contexts > 0 && documents > 0 &&
                text_bytes >= 0 && invalid >= 0 && added >= 0;
    p->facts.contexts = (uint64_t)contexts;
    p->facts.counts = (struct packed_counts){(uint64_t)documents, (uint64_t)text_bytes,
                                             (uint64_t)invalid, (uint64_t)added};
    json_decref(facts);
    return good;
}

// ---- finding and making -------------------------------------------------------------------------

// Maps the finished file, if there is one and it is whole. With the lock held nobody is just making
// it, so what is not whole is damaged.
static bool
find(struct packed *p, bool locked)
{
    if (!path_exists(p->path) && !path_exists(p->facts_path))
        return false;
    size_t bytes, row = p->context * sizeof(uint32_t);
    const char *what = "its .json is missing or damaged";
    if (read_facts(p)) {
        what = "its size is not what its .json says";
        if (file_map_open(&p->map, p->path) == STATUS_OK &&
            times(&bytes, (size_t)p->facts.contexts, row) && bytes == p->map.bytes) {
            if (hash128_same(hash128(p->map.at, p->map.bytes), p->facts.hash))
                return true;
            what = "its bytes are not those its .json has the hash of";
        }
        file_map_close(&p->map);
    }
    if (locked)
        say(SAY_WARN, "%s: %s: it will be made again", p->path, what);
    return false;
}

// Waits for whoever makes the same file.
static enum status
lock(int *fd, const struct packed *p, struct packed_teller *teller)
{
    *fd = open(p->lock_path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*fd < 0)
        return FAIL(CREATE, "%s: cannot create: %s", p->lock_path, strerror(errno));
    while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return FAIL(IO, "%s: cannot lock: %s", p->lock_path, strerror(errno));
        if (teller->progress.phase != PACKED_WAITING)
            say(SAY_INFO, "%s: another process makes it: waiting", p->path);
        teller->progress.phase = PACKED_WAITING;
        TRY(packed_tell(teller, false));
        nanosleep(&(struct timespec){.tv_nsec = WAIT_MS * 1000000L}, NULL);
    }
    return STATUS_OK;
}

static enum status
check_space(const struct packed *p, const struct packed_settings *s, const struct corpus *corpus)
{
    // Text has two to five bytes a token, an id has four: about the bytes of the text, more for
    // compressed text. A bound on the tokens bounds this too.
    uint64_t want = corpus_counts(corpus).bytes_total, have;
    if (s->tokens > 0 && s->tokens < want / sizeof(uint32_t))
        want = s->tokens * sizeof(uint32_t);
    TRY(path_free_bytes(&have, p->folder));
    if (have < want)
        return FAIL(CREATE, "%s: %llu MiB free, wanted at least %llu MiB for the tokens", p->folder,
                    (unsigned long long)(have >> 20), (unsigned long long)(want >> 20) + 1);
    return STATUS_OK;
}

static enum status
make(struct packed *p, const struct texthash_file *files, const struct tokenizer *t,
     const struct packed_settings *s, struct corpus *corpus, struct packed_teller *teller)
{
    TRY(check_space(p, s, corpus));
    TRY(packed_make(&p->facts, p->new_path, t, s, corpus, teller));
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < corpus_files(corpus); i++)
        status = texthash_unchanged(&files[i], corpus_file(corpus, i).path);
    if (status == STATUS_OK && rename(p->new_path, p->path) != 0)
        status = FAIL(IO, "%s: cannot rename to: %s", p->path, strerror(errno));
    if (status != STATUS_OK) {
        unlink(p->new_path);
        return status;
    }
    TRY(write_facts(p, t, s));
    p->made = true;
    if (!find(p, true))
        return FAIL(IO, "%s: was made and cannot be read back", p->path);
    return STATUS_OK;
}

static enum status
name_files(struct packed *p, const char *cache, struct hash128 key)
{
    char hex[33], name[48];
    hex128(hex, key);
    TRY(path_join(p->folder, cache, "tokens"));
    TRY(path_make(p->folder, 0755));
    const struct {
        char *path;
        const char *end;
    } files[] = {
        {p->path, "u32"}, {p->facts_path, "json"}, {p->lock_path, "lock"}, {p->new_path, "new"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(name, sizeof name, "%s.%s", hex, files[i].end);
        TRY(path_join(files[i].path, p->folder, name));
    }
    return STATUS_OK;
}

static enum status
open_with(struct packed *p, const struct tokenizer *t, const struct packed_settings *s,
          struct corpus *corpus, struct packed_teller *teller)
{
    enum status status = STATUS_OK;
    int held = -1;
    struct hash128 key;
    struct texthash_file *files = calloc(corpus_files(corpus), sizeof *files);
    if (!files)
        return FAIL(CREATE, "no memory for %zu text files", corpus_files(corpus));
    teller->progress.bytes_total = corpus_counts(corpus).bytes_total;
    GOTRY(path_make(s->cache, 0755));
    GOTRY(make_key(&key, files, t, s, corpus, teller));
    GOTRY(name_files(p, s->cache, key));
    if (!find(p, false)) {
        GOTRY(lock(&held, p, teller));
        if (!find(p, true))
            GOTRY(make(p, files, t, s, corpus, teller));
    }
done:
    if (held >= 0)
        close(held); // and with it the lock
    free(files);
    return status;
}

enum status
packed_open(struct packed **out, const struct tokenizer *t, const struct packed_settings *s,
            packed_watch *watch, void *context)
{
    *out = NULL;
    if (s->context < 2 || s->context > CONTEXT_MOST)
        return FAIL(CONFIG, "a context of %zu tokens, wanted 2 to %d", s->context, CONTEXT_MOST);
    if (s->tokens > 0 && s->tokens < s->context)
        return FAIL(CONFIG, "%llu tokens of text, wanted 0 (all) or at least a context of %zu",
                    (unsigned long long)s->tokens, s->context);
    struct corpus *corpus = NULL;
    TRY(corpus_open(&corpus, s->files, s->field));
    enum status status;
    struct packed_teller teller = {.watch = watch, .context = context};
    struct packed *p = calloc(1, sizeof *p);
    if (!p) {
        status = FAIL(CREATE, "no memory for the packed corpus");
    } else {
        p->context = s->context;
        status = open_with(p, t, s, corpus, &teller);
    }
    corpus_close(&corpus);
    if (status != STATUS_OK)
        packed_close(&p);
    *out = p;
    return status;
}

void
packed_close(struct packed **packed)
{
    if (!*packed)
        return;
    file_map_close(&(*packed)->map);
    free(*packed);
    *packed = NULL;
}

const uint32_t *
packed_ids(const struct packed *packed)
{
    return (const uint32_t *)(const void *)packed->map.at; // a mapping begins on a page
}

size_t
packed_contexts(const struct packed *packed)
{
    return (size_t)packed->facts.contexts;
}

size_t
packed_context(const struct packed *packed)
{
    return packed->context;
}

struct hash128
packed_hash(const struct packed *packed)
{
    return packed->facts.hash;
}

const char *
packed_path(const struct packed *packed)
{
    return packed->path;
}

bool
packed_was_made(const struct packed *packed)
{
    return packed->made;
}

struct packed_counts
packed_counts(const struct packed *packed)
{
    return packed->facts.counts;
}

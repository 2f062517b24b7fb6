#include "evaluator/probing_stream.h"

#include "lib/base/file.h"
#include "lib/base/say.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct probing_stream {
    struct probing_plan plan;
    struct model *model;
    size_t count, width, rows;
    struct token_list ids; // of text after text
    size_t *from;          // [count + 1], in ids
    uint32_t *order;       // [count], by length
    struct hash128 key;
    char path[PATH_BYTES]; // of the file; "" for none
    struct file_map map;   // of it, once verified
    bool tried;            // a file was looked for
    // one piece
    size_t most; // rows of the model's buffers
    uint32_t *padded;
    float *x;
    uint32_t *text;
    size_t *start;
};

static bool
is_special(const struct probing_plan *plan, uint32_t id)
{
    for (size_t s = 0; s < plan->specials; s++)
        if (plan->special[s] == id)
            return true;
    return false;
}

static enum status
add_text(struct probing_stream *s, const struct tokenizer *tokenizer, struct tokenizer_cache *cache,
         struct token_list *scratch, size_t i, const char *text, size_t bytes)
{
    size_t kept = 0;
    scratch->count = 0;
    if (s->plan.bos != TOKEN_ABSENT)
        TRY(token_list_append(scratch, &s->plan.bos, 1));
    TRY(tokenizer_encode(tokenizer, cache, scratch, text, bytes, s->plan.split, NULL));
    if (scratch->count > s->plan.context)
        scratch->count = s->plan.context;
    for (size_t t = 0; t < scratch->count; t++)
        kept += !is_special(&s->plan, scratch->ids[t]);
    if (kept == 0)
        return FAIL(DAMAGED, "text %zu has no tokens but special ones", i);
    s->rows += kept;
    TRY(token_list_append(&s->ids, scratch->ids, scratch->count));
    s->from[i + 1] = s->ids.count;
    return STATUS_OK;
}

struct by_length {
    size_t length;
    uint32_t text;
};

static int
shorter(const void *a, const void *b)
{
    const struct by_length *x = a, *y = b;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return x->text < y->text ? -1 : x->text > y->text;
}

static enum status
sort_texts(struct probing_stream *s)
{
    struct by_length *all = calloc(s->count + 1, sizeof *all);
    if (!all)
        return FAIL(CREATE, "no memory for %zu texts", s->count);
    for (size_t i = 0; i < s->count; i++)
        all[i] = (struct by_length){s->from[i + 1] - s->from[i], (uint32_t)i};
    qsort(all, s->count, sizeof *all, shorter);
    for (size_t i = 0; i < s->count; i++)
        s->order[i] = all[i].text;
    free(all);
    return STATUS_OK;
}

static enum status
make_key(struct probing_stream *s)
{
    struct hasher *hasher = hasher_new();
    if (!hasher)
        return FAIL(CREATE, "no memory to hash the texts");
    char head[512], model[33];
    hex128(model, model_hash(s->model));
    int length =
        snprintf(head, sizeof head,
                 "probing 1\nmodel=%s\nlayer=%zu\nprecision=%s\ncontext=%zu\ncontexts=%zu\n"
                 "special=",
                 model, s->plan.layer, s->plan.precision, s->plan.context, s->plan.model_contexts);
    hasher_add(hasher, head, (size_t)length);
    hasher_add(hasher, s->plan.special, s->plan.specials * sizeof s->plan.special[0]);
    hasher_add(hasher, s->from, (s->count + 1) * sizeof *s->from);
    hasher_add(hasher, s->ids.ids, s->ids.count * sizeof *s->ids.ids);
    s->key = hasher_128(hasher);
    hasher_free(&hasher);
    if (!s->plan.cache)
        return STATUS_OK;
    char hex[33], name[64];
    hex128(hex, s->key);
    snprintf(name, sizeof name, "probing-%s.f32", hex);
    return path_join(s->path, s->plan.cache, name);
}

enum status
probing_stream_new(struct probing_stream **out, const struct probing_plan *plan,
                   struct model *model, const struct tokenizer *tokenizer, const char *const *texts,
                   const size_t *bytes, size_t count)
{
    enum status status = STATUS_OK;
    struct tokenizer_cache *cache = NULL;
    struct token_list scratch = {0};
    struct probing_stream *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return FAIL(CREATE, "no memory for the texts");
    s->plan = *plan;
    s->model = model;
    s->count = count;
    s->width = model_width(model);
    s->most = plan->context * plan->model_contexts;
    s->from = calloc(count + 1, sizeof *s->from);
    s->order = calloc(count + 1, sizeof *s->order);
    s->padded = calloc(s->most, sizeof *s->padded);
    s->x = calloc(s->most * s->width, sizeof *s->x);
    s->text = calloc(s->most, sizeof *s->text);
    s->start = calloc(s->most + 1, sizeof *s->start);
    if (!s->from || !s->order || !s->padded || !s->x || !s->text || !s->start)
        GOTRY(FAIL(CREATE, "no memory for %zu texts", count));
    GOTRY(tokenizer_cache_new(&cache, tokenizer));
    for (size_t i = 0; i < count; i++)
        GOTRY(add_text(s, tokenizer, cache, &scratch, i, texts[i], bytes[i]));
    GOTRY(sort_texts(s));
    GOTRY(make_key(s));
done:
    token_list_release(&scratch);
    tokenizer_cache_free(&cache);
    if (status != STATUS_OK)
        probing_stream_free(&s);
    *out = s;
    return status;
}

void
probing_stream_free(struct probing_stream **stream)
{
    struct probing_stream *s = *stream;
    if (!s)
        return;
    token_list_release(&s->ids);
    file_map_close(&s->map);
    void *const all[] = {s->from, s->order, s->padded, s->x, s->text, s->start};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    free(s);
    *stream = NULL;
}

struct hash128
probing_stream_key(const struct probing_stream *stream)
{
    return stream->key;
}

size_t
probing_stream_most(const struct probing_stream *stream)
{
    return stream->most;
}

// ---------------------------------------------------------------- the file

static size_t
file_bytes(const struct probing_stream *s)
{
    return s->rows * s->width * sizeof(float);
}

// Maps it if it is there and whole; a damaged one is said, and made again.
static void
look_up(struct probing_stream *s)
{
    s->tried = true;
    if (!s->path[0] || !path_exists(s->path))
        return;
    size_t bytes = file_bytes(s);
    if (file_map_open(&s->map, s->path) != STATUS_OK) {
        say(SAY_WARN, "%s; computing it again", status_words());
        s->map = (struct file_map){0};
        return;
    }
    bool whole = s->map.bytes == bytes + sizeof(struct hash128);
    if (whole) {
        struct hash128 said, found = hash128(s->map.at, bytes);
        said.low = load_u64(s->map.at + bytes);
        said.high = load_u64(s->map.at + bytes + 8);
        whole = hash128_same(said, found);
    }
    if (!whole) {
        say(SAY_WARN, "%s: damaged; computing it again", s->path);
        file_map_close(&s->map);
        s->map = (struct file_map){0};
    }
}

// Being written, beside its place. fd < 0: not.
struct writing {
    int fd;
    char tmp[PATH_BYTES + 32];
    struct hasher *hasher;
};

static void
give_up(struct writing *w)
{
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->tmp);
    }
    w->fd = -1;
    hasher_free(&w->hasher);
}

// Trouble is said, not returned: the numbers do not need the file.
static void
begin(struct writing *w, const struct probing_stream *s)
{
    *w = (struct writing){.fd = -1};
    uint64_t room;
    if (!s->path[0])
        return;
    if (path_make(s->plan.cache, 0755) != STATUS_OK ||
        path_free_bytes(&room, s->plan.cache) != STATUS_OK) {
        say(SAY_WARN, "%s; activations are computed anew each time", status_words());
        return;
    }
    if (room < file_bytes(s) + ((uint64_t)1 << 30)) {
        say(SAY_WARN, "%s: %.1f GiB free, too little to keep %.1f GiB of activations",
            s->plan.cache, (double)room / (1 << 30), (double)file_bytes(s) / (1 << 30));
        return;
    }
    snprintf(w->tmp, sizeof w->tmp, "%s.tmp-%d", s->path, (int)getpid());
    unlink(w->tmp);
    w->hasher = hasher_new();
    w->fd =
        w->hasher ? open(w->tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644) : -1;
    if (w->fd < 0) {
        say(SAY_WARN, "%s: cannot create: %s; activations are computed anew each time", w->tmp,
            strerror(errno));
        give_up(w);
    }
}

static void
add_rows(struct writing *w, const float *x, size_t values)
{
    if (w->fd < 0)
        return;
    hasher_add(w->hasher, x, values * sizeof *x);
    if (file_write_all(w->fd, w->tmp, x, values * sizeof *x) != STATUS_OK) {
        say(SAY_WARN, "%s; activations are computed anew each time", status_words());
        give_up(w);
    }
}

static void
finish(struct writing *w, const struct probing_stream *s)
{
    if (w->fd < 0)
        return;
    struct hash128 sum = hasher_128(w->hasher);
    const uint64_t words[2] = {sum.low, sum.high};
    if (file_write_all(w->fd, w->tmp, words, sizeof words) != STATUS_OK || fsync(w->fd) != 0 ||
        rename(w->tmp, s->path) != 0) {
        say(SAY_WARN, "%s: cannot be kept: %s", s->path, strerror(errno));
        give_up(w);
        return;
    }
    close(w->fd);
    hasher_free(&w->hasher);
}

// ---------------------------------------------------------------- visiting

// Texts from order[at] on that fill the model's buffers; they are sorted, so the last is longest.
static size_t
fill_piece(struct probing_stream *s, struct probing_piece *piece, size_t at, size_t *context)
{
    size_t n = 0;
    *context = 1;
    while (at + n < s->count) {
        uint32_t text = s->order[at + n];
        size_t length = s->from[text + 1] - s->from[text];
        if ((n + 1) * length > s->most)
            break;
        *context = length;
        s->text[n++] = text;
    }
    size_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        size_t from = s->from[s->text[i]], length = s->from[s->text[i] + 1] - from;
        s->start[i] = rows;
        for (size_t t = 0; t < *context; t++) {
            uint32_t id = s->ids.ids[from + (t < length ? t : length - 1)];
            s->padded[i * *context + t] = id; // what stands behind a text changes nothing
            rows += t < length && !is_special(&s->plan, id);
        }
    }
    s->start[n] = rows;
    *piece = (struct probing_piece){n, rows, s->text, s->start, s->x};
    return n;
}

// Rows of special tokens, and behind the end of a text, go.
static void
gather(struct probing_stream *s, const struct probing_piece *piece, size_t context)
{
    size_t to = 0, d = s->width;
    for (size_t i = 0; i < piece->count; i++) {
        size_t from = s->from[piece->text[i]], length = s->from[piece->text[i] + 1] - from;
        for (size_t t = 0; t < length; t++)
            if (!is_special(&s->plan, s->ids.ids[from + t]))
                memmove(s->x + to++ * d, s->x + (i * context + t) * d, d * sizeof *s->x);
    }
    assert(to == piece->rows);
}

enum status
probing_stream_visit(struct probing_stream *s, probing_visit *visit, void *context,
                     const struct score_watch *watch)
{
    enum status status = STATUS_OK;
    struct writing writing = {.fd = -1};
    if (!s->tried)
        look_up(s);
    const float *known = (const float *)(const void *)s->map.at;
    if (!known)
        begin(&writing, s);
    size_t done = 0;
    for (size_t at = 0; at < s->count;) {
        struct probing_piece piece;
        size_t length;
        at += fill_piece(s, &piece, at, &length);
        if (known) {
            piece.x = known + done * s->width;
        } else {
            GOTRY(model_below_short(s->model, s->padded, piece.count, length, s->x));
            gather(s, &piece, length);
            add_rows(&writing, s->x, piece.rows * s->width);
        }
        done += piece.rows;
        GOTRY(visit(context, &piece));
        if (watch && watch->stop(watch->context, known ? "probing" : "texts to probe",
                                 (double)at / (double)s->count))
            GOTRY(FAIL(AGAIN, "stopped while probing"));
    }
    finish(&writing, s);
    if (!known) { // the next time from the file
        s->tried = false;
        return STATUS_OK;
    }
done:
    if (status != STATUS_OK)
        give_up(&writing);
    return status;
}

#include "evaluator/tapped.h"

#include "lib/base/file.h"
#include "lib/base/memory.h"
#include "lib/base/say.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 128, HEAD_BYTES = 64 }; // rows of a piece; the head of the file

struct tapped {
    size_t count, width, pieces;
    struct hash128 key;
    size_t computed;
    char path[PATH_BYTES];
    int fd;     // of the file, or -1
    float *own; // [count x d], without a file
    const unsigned char *map;
    size_t data, bytes; // where the rows begin, and the whole file
    uint32_t *order;    // [count], prompts by their ids: those that begin alike are read together
    uint32_t *ids, *at; // [PIECE x context], [PIECE]: prompts of a piece, in that order
    float *x;           // what one call of the model writes
    float *piece;       // [PIECE x d]
    size_t model_rows;  // rows of x
};

struct head {
    char magic[8];
    uint64_t count, width, piece;
    struct hash128 key;
    uint64_t zeros[2];
};
_Static_assert(sizeof(struct head) == HEAD_BYTES, "the head has no holes");

static struct head
head_of(const struct tapped *t)
{
    struct head head = {.magic = "osaetap2", .count = t->count, .width = t->width, .piece = PIECE};
    head.key = t->key;
    return head;
}

static enum status
key_of(struct hash128 *out, const struct tapped_plan *plan, const struct model *model,
       const struct prompts *prompts)
{
    struct hasher *hasher = hasher_new();
    if (!hasher)
        return FAIL(CREATE, "no memory to hash %zu prompts", prompts->count);
    struct hash128 of = model_hash(model);
    const uint64_t sizes[4] = {plan->layer, prompts->count, prompts->context, PIECE};
    hasher_add(hasher, &of, sizeof of);
    hasher_add(hasher, sizes, sizeof sizes);
    hasher_add(hasher, plan->precision, strlen(plan->precision) + 1);
    hasher_add(hasher, prompts->ids, prompts->count * prompts->context * sizeof *prompts->ids);
    hasher_add(hasher, prompts->at, prompts->count * sizeof *prompts->at);
    *out = hasher_128(hasher);
    hasher_free(&hasher);
    return STATUS_OK;
}

// ---------------------------------------------------------------- the file

static enum status
transfer(const struct tapped *t, void *at, size_t bytes, size_t from, bool out)
{
    for (size_t done = 0; done < bytes;) {
        char *here = (char *)at + done;
        off_t place = (off_t)(from + done);
        ssize_t n = out ? pwrite(t->fd, here, bytes - done, place)
                        : pread(t->fd, here, bytes - done, place);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return FAIL(IO, "%s: cannot %s: %s", t->path, out ? "write" : "read",
                        n < 0 ? strerror(errno) : "it was cut short");
        done += (size_t)n;
    }
    return STATUS_OK;
}

static enum status
prepare_file(struct tapped *t, const char *cache)
{
    char hex[33], name[64];
    hex128(hex, t->key);
    snprintf(name, sizeof name, "tapped-%s", hex);
    TRY(path_make(cache, 0755));
    TRY(path_join(t->path, cache, name));
    t->fd = open(t->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (t->fd < 0)
        return FAIL(CREATE, "%s: cannot open: %s", t->path, strerror(errno));
    struct stat now;
    struct head want = head_of(t), found;
    if (fstat(t->fd, &now) != 0)
        return FAIL(IO, "%s: %s", t->path, strerror(errno));
    if ((size_t)now.st_size == t->bytes) {
        TRY(transfer(t, &found, sizeof found, 0, false));
        if (memcmp(&found, &want, sizeof found) == 0)
            return STATUS_OK;
    }
    if (now.st_size > 0)
        say(SAY_WARN, "%s: not as it was left; making it again", t->path);
    uint64_t room;
    TRY(path_free_bytes(&room, cache));
    if (room < t->bytes + ((uint64_t)256 << 20))
        return FAIL(CREATE, "%s: %llu bytes free, wanted %zu and 256 MiB to spare", cache,
                    (unsigned long long)room, t->bytes);
    // Blocks are taken now: a full disk is met here, not while the rows are read.
    int error = ftruncate(t->fd, 0) != 0 ? errno : posix_fallocate(t->fd, 0, (off_t)t->bytes);
    if (error != 0)
        return FAIL(CREATE, "%s: cannot take %zu bytes: %s", t->path, t->bytes, strerror(error));
    return transfer(t, &want, sizeof want, 0, true);
}

static size_t
piece_rows(const struct tapped *t, size_t piece)
{
    return t->count - piece * PIECE < PIECE ? t->count - piece * PIECE : PIECE;
}

// 0 stands for "not there".
static uint64_t
piece_hash(const struct tapped *t, size_t piece)
{
    uint64_t hash = hash64(t->piece, piece_rows(t, piece) * t->width * sizeof *t->piece);
    return hash ? hash : 1;
}

// Row i of a piece is prompt order[piece * PIECE + i]; in the file prompts stand as they came.
static size_t
place_of(const struct tapped *t, size_t piece, size_t i)
{
    return t->data + t->order[piece * PIECE + i] * t->width * sizeof(float);
}

// Is it there, and sound? Then it is in t->piece.
static enum status
look_up(bool *found, const struct tapped *t, size_t piece)
{
    uint64_t hash;
    size_t row_bytes = t->width * sizeof(float);
    *found = false;
    if (t->fd < 0)
        return STATUS_OK;
    TRY(transfer(t, &hash, sizeof hash, HEAD_BYTES + piece * sizeof hash, false));
    if (hash == 0)
        return STATUS_OK;
    for (size_t i = 0; i < piece_rows(t, piece); i++)
        TRY(transfer(t, t->piece + i * t->width, row_bytes, place_of(t, piece, i), false));
    *found = piece_hash(t, piece) == hash;
    return STATUS_OK;
}

static enum status
keep(struct tapped *t, size_t piece)
{
    size_t row_bytes = t->width * sizeof(float);
    for (size_t i = 0; i < piece_rows(t, piece); i++) {
        float *row = t->piece + i * t->width;
        if (t->fd < 0)
            memcpy(t->own + t->order[piece * PIECE + i] * t->width, row, row_bytes);
        else
            TRY(transfer(t, row, row_bytes, place_of(t, piece, i), true));
    }
    if (t->fd < 0)
        return STATUS_OK;
    uint64_t hash = piece_hash(t, piece);
    return transfer(t, &hash, sizeof hash, HEAD_BYTES + piece * sizeof hash, true);
}

// ---------------------------------------------------------------- the model

static enum status
run_piece(struct tapped *t, struct model *model, const struct prompts *prompts, size_t piece,
          const char *what, const struct score_watch *watch)
{
    size_t rows = piece_rows(t, piece), first = piece * PIECE, d = t->width, n;
    size_t context = prompts->context;
    for (size_t i = 0; i < rows; i++) {
        size_t prompt = t->order[first + i];
        memcpy(t->ids + i * context, prompts->ids + prompt * context, context * sizeof *t->ids);
        t->at[i] = prompts->at[prompt];
    }
    for (size_t r = 0; r < rows; r += n) {
        const uint32_t *ids = t->ids + r * context, *at = t->at + r;
        n = model_fit_at(t->model_rows, ids, rows - r, context, at);
        TRY(model_below_at(model, ids, n, context, at, t->x));
        memcpy(t->piece + r * d, t->x, n * d * sizeof *t->x);
        double share = (double)(first + r + n) / (double)t->count;
        if (watch && watch->stop(watch->context, what, share))
            return FAIL(AGAIN, "stopped while the model read %s", what);
    }
    for (size_t i = 0; i < rows * d; i++)
        if (!isfinite(t->piece[i]))
            return FAIL(DAMAGED, "the model's stream at the hook is not finite on %s (prompt %zu)",
                        what, (size_t)t->order[first + i / d]);
    t->computed += rows;
    return STATUS_OK;
}

struct sorted {
    const uint32_t *ids; // of one prompt
    uint32_t context, prompt;
};

static int
by_ids(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    for (size_t t = 0; t < x->context; t++)
        if (x->ids[t] != y->ids[t])
            return x->ids[t] < y->ids[t] ? -1 : 1;
    return (x->prompt > y->prompt) - (x->prompt < y->prompt);
}

static enum status
put_in_order(struct tapped *t, const struct prompts *prompts)
{
    struct sorted *all = calloc(t->count ? t->count : 1, sizeof *all);
    t->order = calloc(t->count ? t->count : 1, sizeof *t->order);
    if (!all || !t->order) {
        free(all);
        return FAIL(CREATE, "no memory to sort %zu prompts", t->count);
    }
    for (size_t i = 0; i < t->count; i++)
        all[i] = (struct sorted){prompts->ids + i * prompts->context, (uint32_t)prompts->context,
                                 (uint32_t)i};
    qsort(all, t->count, sizeof *all, by_ids);
    for (size_t i = 0; i < t->count; i++)
        t->order[i] = all[i].prompt;
    free(all);
    return STATUS_OK;
}

static enum status
take(struct tapped *t, const struct tapped_plan *plan, const struct prompts *prompts)
{
    size_t rows = plan->model_contexts * plan->context, all;
    t->model_rows = rows;
    if (!times(&all, t->count, t->width * sizeof(float)) || all > SIZE_MAX / 4)
        return FAIL(CREATE, "%s: %zu rows of %zu are too many", plan->what, t->count, t->width);
    t->data = (HEAD_BYTES + t->pieces * sizeof(uint64_t) + 4095) / 4096 * 4096;
    t->bytes = t->data + all;
    t->x = calloc(rows * t->width, sizeof *t->x);
    t->piece = calloc(PIECE * t->width, sizeof *t->piece);
    t->ids = calloc(PIECE * prompts->context, sizeof *t->ids);
    t->at = calloc(PIECE, sizeof *t->at);
    if (!t->x || !t->piece || !t->ids || !t->at)
        return FAIL(CREATE, "no memory to read %s with the model", plan->what);
    TRY(put_in_order(t, prompts));
    if (plan->cache) {
        if (prepare_file(t, plan->cache) == STATUS_OK)
            return STATUS_OK;
        say(SAY_WARN, "%s; the next process computes it again", status_words());
        if (t->fd >= 0)
            close(t->fd);
        t->fd = -1;
    }
    if ((double)all > memory_available())
        return FAIL(CREATE, "%s: %zu bytes of memory wanted, and the machine has %.0f", plan->what,
                    all, memory_available());
    t->own = malloc(all);
    if (!t->own)
        return FAIL(CREATE, "no memory for %zu rows of %s", t->count, plan->what);
    return STATUS_OK;
}

static enum status
fill(struct tapped *t, const struct tapped_plan *plan, struct model *model,
     const struct prompts *prompts, const struct score_watch *watch)
{
    for (size_t piece = 0; piece < t->pieces; piece++) {
        bool found;
        TRY(look_up(&found, t, piece));
        if (found)
            continue;
        TRY(run_piece(t, model, prompts, piece, plan->what, watch));
        TRY(keep(t, piece));
    }
    if (t->fd < 0)
        return STATUS_OK;
    void *map = mmap(NULL, t->bytes, PROT_READ, MAP_SHARED, t->fd, 0);
    if (map == MAP_FAILED)
        return FAIL(IO, "%s: cannot map: %s", t->path, strerror(errno));
    t->map = map;
    return STATUS_OK;
}

static void
release_work(struct tapped *t)
{
    free(t->order);
    free(t->ids);
    free(t->at);
    free(t->x);
    free(t->piece);
    t->order = t->ids = t->at = NULL;
    t->x = t->piece = NULL;
}

enum status
tapped_open(struct tapped **out, const struct tapped_plan *plan, struct model *model,
            const struct prompts *prompts, const struct score_watch *watch)
{
    if (prompts->context > plan->context)
        return FAIL(CONFIG, "%s: prompts have up to %zu tokens, and model.context is %zu",
                    plan->what, prompts->context, plan->context);
    enum status status = STATUS_OK;
    struct tapped *t = calloc(1, sizeof *t);
    if (!t)
        return FAIL(CREATE, "no memory to read %s with the model", plan->what);
    t->fd = -1;
    t->count = prompts->count;
    t->width = model_width(model);
    t->pieces = (t->count + PIECE - 1) / PIECE;
    GOTRY(key_of(&t->key, plan, model, prompts));
    GOTRY(take(t, plan, prompts));
    GOTRY(fill(t, plan, model, prompts, watch));
    release_work(t);
done:
    if (status != STATUS_OK)
        tapped_close(&t);
    else
        *out = t;
    return status;
}

void
tapped_close(struct tapped **tapped)
{
    struct tapped *t = *tapped;
    if (!t)
        return;
    if (t->map)
        munmap((void *)(uintptr_t)t->map, t->bytes);
    if (t->fd >= 0)
        close(t->fd);
    free(t->own);
    release_work(t);
    free(t);
    *tapped = NULL;
}

const float *
tapped_rows(const struct tapped *tapped)
{
    return tapped->own ? tapped->own : (const float *)(const void *)(tapped->map + tapped->data);
}

struct hash128
tapped_key(const struct tapped *tapped)
{
    return tapped->key;
}

size_t
tapped_computed(const struct tapped *tapped)
{
    return tapped->computed;
}

size_t
tapped_bytes(const struct tapped *tapped)
{
    return sizeof *tapped + (tapped->own ? tapped->count * tapped->width * sizeof(float) : 0);
}

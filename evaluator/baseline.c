#include "evaluator/baseline.h"

#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/store/safetensors.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct part {
    const char *name;
    enum dtype dtype;
    size_t rows, cols, row_bytes;
    void *own;      // memory, or NULL
    const void *at; // own, or in the mapped file; NULL: not kept
    bool *known;    // [rows]
    size_t missing; // rows not yet known
};

struct baseline {
    struct part parts[BASELINE_PARTS];
    struct safetensors *file; // mapped
    char path[PATH_BYTES];    // "": no cache
    bool saved;
};

static void
size_up(struct baseline *baseline, size_t core, size_t variance, size_t width)
{
    const size_t plain = sizeof(struct plain_at) / sizeof(double);
    baseline->parts[BASELINE_PLAIN] =
        (struct part){.name = "plain", .dtype = DTYPE_F64, .rows = core, .cols = plain};
    baseline->parts[BASELINE_HEAD] =
        (struct part){.name = "head", .dtype = DTYPE_F32, .rows = core, .cols = width};
    baseline->parts[BASELINE_CORE] =
        (struct part){.name = "core", .dtype = DTYPE_F32, .rows = core, .cols = width};
    baseline->parts[BASELINE_VARIANCE] =
        (struct part){.name = "variance", .dtype = DTYPE_F32, .rows = variance, .cols = width};
    for (size_t p = 0; p < BASELINE_PARTS; p++) {
        struct part *part = &baseline->parts[p];
        part->row_bytes = part->cols * dtype_block_bytes(part->dtype);
        part->missing = part->rows;
    }
}

// The hash of the parts that a file holds, to notice a damaged one.
static bool
contents(char hex[33], const struct baseline *baseline)
{
    struct hasher *hasher = hasher_new();
    if (!hasher)
        return false;
    for (size_t p = 0; p < BASELINE_PARTS; p++)
        if (baseline->parts[p].at)
            hasher_add(hasher, baseline->parts[p].at,
                       baseline->parts[p].rows * baseline->parts[p].row_bytes);
    hex128(hex, hasher_128(hasher));
    hasher_free(&hasher);
    return true;
}

static enum status
map_parts(struct baseline *baseline)
{
    TRY(safetensors_open(&baseline->file, baseline->path));
    for (size_t p = 0; p < BASELINE_PARTS; p++) {
        struct part *part = &baseline->parts[p];
        const size_t shape[2] = {part->rows, part->cols};
        const struct tensor *tensor = safetensors_find(baseline->file, part->name);
        if (!tensor && p != BASELINE_PLAIN)
            continue; // did not fit when the file was made
        TRY(safetensors_need(&tensor, baseline->file, part->name, 2, shape));
        if (tensor->dtype != part->dtype || (uintptr_t)tensor->at % sizeof(double) != 0)
            return FAIL(DAMAGED, "%s: %s is of another type", baseline->path, part->name);
        part->at = tensor->at;
    }
    char hex[33];
    const char *said = safetensors_metadata(baseline->file, "xxh3");
    if (!contents(hex, baseline))
        return FAIL(CREATE, "%s: no memory to hash it", baseline->path);
    if (!said || strcmp(said, hex) != 0)
        return FAIL(DAMAGED, "%s: its content has the hash %s, wanted %s", baseline->path, hex,
                    said ? said : "one in its head");
    return STATUS_OK;
}

// A file in the cache, if there is a sound one.
static void
look_up(struct baseline *baseline, const char *cache, struct hash128 key)
{
    char hex[33], name[64];
    hex128(hex, key);
    snprintf(name, sizeof name, "baseline-%s.safetensors", hex);
    if (path_join(baseline->path, cache, name) != STATUS_OK) {
        baseline->path[0] = 0;
        return;
    }
    if (!path_exists(baseline->path))
        return;
    if (map_parts(baseline) == STATUS_OK) {
        baseline->saved = true;
        return;
    }
    say(SAY_WARN, "%s; making it again", status_words());
    safetensors_close(&baseline->file);
    for (size_t p = 0; p < BASELINE_PARTS; p++)
        baseline->parts[p].at = NULL;
}

enum status
baseline_new(struct baseline **out, size_t core, size_t variance, size_t width, size_t keep_most,
             const char *cache, struct hash128 key)
{
    enum status status = STATUS_OK;
    struct baseline *baseline = calloc(1, sizeof *baseline);
    if (!baseline)
        return FAIL(CREATE, "no memory for what the checkpoints share");
    size_up(baseline, core, variance, width);
    if (cache)
        look_up(baseline, cache, key);
    for (size_t p = 0; p < BASELINE_PARTS; p++) {
        struct part *part = &baseline->parts[p];
        size_t bytes;
        if (part->at) {
            part->missing = 0;
            continue;
        }
        bool counted = times(&bytes, part->rows, part->row_bytes);
        if (p != BASELINE_PLAIN && (!counted || bytes > keep_most || bytes == 0))
            continue;
        part->known = calloc(part->rows, sizeof *part->known);
        // zeros: the places of special tokens are never filled, but they are saved
        part->own = counted ? calloc(part->rows, part->row_bytes) : NULL;
        part->at = part->own;
        if (!part->own || !part->known) {
            status = FAIL(CREATE, "no memory for what the checkpoints share, %zu bytes", bytes);
            goto done;
        }
        if (p != BASELINE_PLAIN)
            keep_most -= bytes;
    }
    // A file without a part that is kept now is made again when that is known.
    for (size_t p = 0; p < BASELINE_PARTS; p++)
        baseline->saved = baseline->saved && !baseline->parts[p].own;
done:
    if (status != STATUS_OK)
        baseline_free(&baseline);
    else
        *out = baseline;
    return status;
}

void
baseline_free(struct baseline **baseline)
{
    if (!*baseline)
        return;
    for (size_t p = 0; p < BASELINE_PARTS; p++) {
        free((*baseline)->parts[p].own);
        free((*baseline)->parts[p].known);
    }
    safetensors_close(&(*baseline)->file);
    free(*baseline);
    *baseline = NULL;
}

size_t
baseline_bytes(const struct baseline *baseline)
{
    size_t bytes = sizeof *baseline;
    for (size_t p = 0; p < BASELINE_PARTS; p++)
        if (baseline->parts[p].own)
            bytes += baseline->parts[p].rows * (baseline->parts[p].row_bytes + sizeof(bool));
    return bytes;
}

const void *
baseline_get(const struct baseline *baseline, enum baseline_part which, size_t row, size_t rows)
{
    const struct part *part = &baseline->parts[which];
    assert(row <= part->rows && rows <= part->rows - row);
    for (size_t r = row; part->known && r < row + rows; r++)
        if (!part->known[r])
            return NULL;
    return part->at ? (const char *)part->at + row * part->row_bytes : NULL;
}

void *
baseline_room(struct baseline *baseline, enum baseline_part which, size_t row)
{
    struct part *part = &baseline->parts[which];
    assert(row <= part->rows);
    return part->own ? (char *)part->own + row * part->row_bytes : NULL;
}

void
baseline_put(struct baseline *baseline, enum baseline_part which, size_t row, size_t rows)
{
    struct part *part = &baseline->parts[which];
    assert(row <= part->rows && rows <= part->rows - row && part->known);
    for (size_t r = row; r < row + rows; r++) {
        part->missing -= !part->known[r];
        part->known[r] = true;
    }
}

static enum status
write_file(const struct baseline *baseline)
{
    struct tensor_out tensors[BASELINE_PARTS];
    size_t count = 0;
    char hex[33], folder[PATH_BYTES];
    for (size_t p = 0; p < BASELINE_PARTS; p++) {
        const struct part *part = &baseline->parts[p];
        if (part->at)
            tensors[count++] =
                (struct tensor_out){part->name, part->dtype, 2, {part->rows, part->cols}, part->at};
    }
    if (!contents(hex, baseline))
        return FAIL(CREATE, "%s: no memory to hash it", baseline->path);
    const struct text_pair sum = {"xxh3", hex};
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(baseline->path, '/') - baseline->path),
             baseline->path);
    TRY(path_make(folder, 0755));
    uint64_t room, wanted = safetensors_size(tensors, count, &sum, 1);
    TRY(path_free_bytes(&room, folder));
    if (room < wanted + ((uint64_t)256 << 20))
        return FAIL(CREATE, "%s: %llu bytes free, wanted %llu and 256 MiB to spare", folder,
                    (unsigned long long)room, (unsigned long long)wanted);
    return safetensors_replace(baseline->path, tensors, count, &sum, 1);
}

void
baseline_save(struct baseline *baseline)
{
    if (baseline->saved || !baseline->path[0])
        return;
    for (size_t p = 0; p < BASELINE_PARTS; p++)
        if (baseline->parts[p].at && baseline->parts[p].missing > 0)
            return;
    baseline->saved = true; // once is enough, also where it fails
    if (write_file(baseline) != STATUS_OK)
        say(SAY_WARN, "%s; the next process computes it again", status_words());
}

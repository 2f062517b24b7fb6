// Reading. Rules, each with its case in tests/store/test_safetensors.c:
//  1. Nothing of the header is believed before it was compared with the size of the file.
//  2. Sorted by offset, each tensor begins where the one before ended, the first at 0, the last at
//     the end of the file: no hole, no overlap, nothing behind.
//  3. A type, a shape or a product that we cannot hold is refused by name.
#include "lib/store/safetensors.h"

#include "lib/base/field.h"
#include "lib/base/file.h"

#include <assert.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_MOST = 100000000, RANK_MOST = 8 };

struct safetensors {
    struct file_map map;
    char *path;
    json_t *header; // holds the names and the metadata
    size_t count;
    struct tensor *tensors;        // by offset
    const struct tensor **by_name; // for safetensors_find
};

// begin and end of a tensor's data, counted from the first data byte.
struct span {
    size_t begin, end;
};

static bool
is_plain(enum dtype dtype)
{
    return dtype <= DTYPE_BOOL;
}

static enum status
read_size(size_t *out, const json_t *value, const char *path, const char *name, const char *what)
{
    if (!json_is_integer(value))
        return FAIL(DAMAGED, "%s: tensor '%s': %s is not a whole number", path, name, what);
    json_int_t number = json_integer_value(value);
    if (number < 0)
        return FAIL(DAMAGED, "%s: tensor '%s': %s is %lld, wanted 0 or more", path, name, what,
                    (long long)number);
    *out = (size_t)number;
    return STATUS_OK;
}

static enum status
read_dtype(enum dtype *out, const json_t *value, const char *path, const char *name)
{
    const char *text = json_string_value(value);
    if (!text)
        return FAIL(DAMAGED, "%s: tensor '%s': dtype is missing or not a text", path, name);
    for (enum dtype d = 0; is_plain(d); d++)
        if (strcmp(dtype_name(d), text) == 0) {
            *out = d;
            return STATUS_OK;
        }
    return FAIL(DAMAGED,
                "%s: tensor '%s': dtype is %.32s, wanted F64, F32, F16, BF16, I64, I32, I16, I8, "
                "U8 or BOOL",
                path, name, text);
}

// One entry of the header: everything but where its data lies in memory.
static enum status
read_entry(struct tensor *t, struct span *span, const char *name, const json_t *entry,
           size_t data_bytes, const char *path)
{
    if (!json_is_object(entry))
        return FAIL(DAMAGED, "%s: tensor '%s': wanted an object", path, name);
    t->name = name;
    TRY(read_dtype(&t->dtype, json_object_get(entry, "dtype"), path, name));

    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return FAIL(DAMAGED, "%s: tensor '%s': shape is missing or not a list", path, name);
    t->rank = json_array_size(shape);
    if (t->rank > RANK_MOST)
        return FAIL(DAMAGED, "%s: tensor '%s': %zu dimensions, wanted at most %d", path, name,
                    t->rank, RANK_MOST);
    t->count = 1;
    bool fits = true;
    for (size_t i = 0; i < t->rank; i++) {
        TRY(read_size(&t->shape[i], json_array_get(shape, i), path, name, "a dimension"));
        fits = times(&t->count, t->count, t->shape[i]) && fits;
    }
    if (!fits || !times(&t->bytes, t->count, dtype_block_bytes(t->dtype)))
        return FAIL(DAMAGED, "%s: tensor '%s': the product of its shape overflows", path, name);

    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return FAIL(DAMAGED, "%s: tensor '%s': data_offsets is not a list of 2", path, name);
    TRY(read_size(&span->begin, json_array_get(offsets, 0), path, name, "data_offsets[0]"));
    TRY(read_size(&span->end, json_array_get(offsets, 1), path, name, "data_offsets[1]"));
    if (span->begin > span->end || span->end > data_bytes)
        return FAIL(DAMAGED, "%s: tensor '%s': data_offsets %zu to %zu, but the file has %zu bytes",
                    path, name, span->begin, span->end, data_bytes);
    if (span->end - span->begin != t->bytes)
        return FAIL(DAMAGED, "%s: tensor '%s': %zu bytes of data, wanted %zu for its shape", path,
                    name, span->end - span->begin, t->bytes);
    return STATUS_OK;
}

static int
by_offset(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); // the empty ones first
}

static int
by_name(const void *a, const void *b)
{
    const struct tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum status
check_metadata(const json_t *metadata, const char *path)
{
    if (!metadata)
        return STATUS_OK;
    if (!json_is_object(metadata))
        return FAIL(DAMAGED, "%s: __metadata__ is not an object", path);
    for (void *i = json_object_iter((json_t *)(uintptr_t)metadata); i;
         i = json_object_iter_next((json_t *)(uintptr_t)metadata, i))
        if (!json_is_string(json_object_iter_value(i)))
            return FAIL(DAMAGED, "%s: __metadata__: '%.100s' is not a text", path,
                        json_object_iter_key(i));
    return STATUS_OK;
}

static enum status
read_header(struct safetensors *file)
{
    const unsigned char *at = file->map.at;
    size_t bytes = file->map.bytes;
    if (bytes < 8)
        return FAIL(DAMAGED, "%s: has %zu bytes, too short for a safetensors file", file->path,
                    bytes);
    uint64_t length = load_u64(at);
    if (length > HEADER_MOST || length > bytes - 8)
        return FAIL(DAMAGED, "%s: says its header has %llu bytes, wanted at most %zu", file->path,
                    (unsigned long long)length,
                    bytes - 8 < HEADER_MOST ? bytes - 8 : (size_t)HEADER_MOST);
    const unsigned char *data = at + 8 + length;
    size_t data_bytes = bytes - 8 - (size_t)length;

    json_error_t error;
    file->header = json_loadb((const char *)at + 8, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!file->header)
        return FAIL(DAMAGED, "%s: header at byte %d: %s", file->path, 8 + error.position,
                    error.text);
    if (!json_is_object(file->header))
        return FAIL(DAMAGED, "%s: header is not a JSON object", file->path);
    TRY(check_metadata(json_object_get(file->header, "__metadata__"), file->path));

    size_t entries = json_object_size(file->header);
    file->tensors = calloc(entries + 1, sizeof *file->tensors);
    file->by_name = calloc(entries + 1, sizeof(struct tensor *));
    if (!file->tensors || !file->by_name)
        return FAIL(CREATE, "%s: no memory for a list of %zu tensors", file->path, entries);
    for (void *i = json_object_iter(file->header); i; i = json_object_iter_next(file->header, i)) {
        const char *name = json_object_iter_key(i);
        if (strcmp(name, "__metadata__") == 0)
            continue;
        struct tensor *t = &file->tensors[file->count];
        struct span span;
        TRY(read_entry(t, &span, name, json_object_iter_value(i), data_bytes, file->path));
        t->at = data + span.begin;
        file->count++;
    }

    qsort(file->tensors, file->count, sizeof *file->tensors, by_offset);
    size_t next = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct tensor *t = &file->tensors[i];
        size_t begin = (size_t)(t->at - data);
        if (begin != next)
            return FAIL(DAMAGED, "%s: tensor '%s': data begins at %zu, wanted %zu (%s)", file->path,
                        t->name, begin, next, begin < next ? "overlap" : "hole");
        next = begin + t->bytes;
        file->by_name[i] = t;
    }
    if (next != data_bytes)
        return FAIL(DAMAGED, "%s: %zu bytes behind the last tensor", file->path, data_bytes - next);
    qsort(file->by_name, file->count, sizeof(struct tensor *), by_name);
    return STATUS_OK;
}

enum status
safetensors_open(struct safetensors **out, const char *path)
{
    *out = NULL;
    enum status status = STATUS_OK;
    struct safetensors *file = calloc(1, sizeof *file);
    if (!file || !(file->path = strdup(path))) {
        free(file);
        return FAIL(CREATE, "%s: no memory to open it", path);
    }
    GOTRY(file_map_open(&file->map, path));
    GOTRY(read_header(file));
    *out = file;
    file = NULL;
done:
    safetensors_close(&file);
    return status;
}

void
safetensors_close(struct safetensors **file)
{
    struct safetensors *f = *file;
    if (f) {
        file_map_close(&f->map);
        json_decref(f->header);
        free(f->tensors);
        free((void *)f->by_name);
        free(f->path);
        free(f);
    }
    *file = NULL;
}

const char *
safetensors_path(const struct safetensors *file)
{
    return file->path;
}

size_t
safetensors_count(const struct safetensors *file)
{
    return file->count;
}

const struct tensor *
safetensors_at(const struct safetensors *file, size_t i)
{
    assert(i < file->count);
    return &file->tensors[i];
}

static int
is_named(const void *name, const void *at)
{
    return strcmp(name, (*(const struct tensor *const *)at)->name);
}

const struct tensor *
safetensors_find(const struct safetensors *file, const char *name)
{
    const struct tensor **at = bsearch(name, file->by_name, file->count, sizeof *at, is_named);
    return at ? *at : NULL;
}

const char *
safetensors_metadata(const struct safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

static void
print_shape(char *out, size_t room, size_t rank, const size_t *shape)
{
    int used = snprintf(out, room, "[");
    for (size_t i = 0; i < rank && used >= 0 && (size_t)used < room; i++)
        used += snprintf(out + used, room - (size_t)used, "%s%zu", i ? ", " : "", shape[i]);
    if (used >= 0 && (size_t)used < room)
        snprintf(out + used, room - (size_t)used, "]");
}

enum status
safetensors_need(const struct tensor **out, const struct safetensors *file, const char *name,
                 size_t rank, const size_t *shape)
{
    const struct tensor *t = safetensors_find(file, name);
    if (!t)
        return FAIL(DAMAGED, "%s: has no tensor '%s'", file->path, name);
    if (t->rank != rank || (rank > 0 && memcmp(t->shape, shape, rank * sizeof *shape) != 0)) {
        char found[192], wanted[192];
        print_shape(found, sizeof found, t->rank, t->shape);
        print_shape(wanted, sizeof wanted, rank, shape);
        return FAIL(DAMAGED, "%s: tensor '%s' has shape %s, wanted %s", file->path, name, found,
                    wanted);
    }
    *out = t;
    return STATUS_OK;
}

enum status
tensor_to_f32(float *out, const struct tensor *tensor, const char *path)
{
    if (!dtype_decodes(tensor->dtype))
        return FAIL(DAMAGED, "%s: tensor '%s' has type %s, wanted F32, F16, BF16 or F64", path,
                    tensor->name, dtype_name(tensor->dtype));
    return dtype_decode(out, tensor->dtype, tensor->at, tensor->count);
}

static enum status
scalar(void *out, const struct safetensors *file, const char *name, enum dtype dtype)
{
    const struct tensor *t;
    TRY(safetensors_need(&t, file, name, 0, NULL));
    if (t->dtype != dtype)
        return FAIL(DAMAGED, "%s: tensor '%s' has type %s, wanted %s", file->path, name,
                    dtype_name(t->dtype), dtype_name(dtype));
    memcpy(out, t->at, 8);
    return STATUS_OK;
}

enum status
tensor_scalar_f64(double *out, const struct safetensors *file, const char *name)
{
    return scalar(out, file, name, DTYPE_F64);
}

enum status
tensor_scalar_i64(int64_t *out, const struct safetensors *file, const char *name)
{
    return scalar(out, file, name, DTYPE_I64);
}

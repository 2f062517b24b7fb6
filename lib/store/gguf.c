// Reading GGUF. One pass over the header with a cursor that compares each length with the bytes
// that are left; after gguf_open every key, text, array and tensor is known to lie inside the file.
#include "lib/store/gguf_inside.h"

#include "lib/base/bytes.h"
#include "lib/base/field.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const struct value_kind gguf_value_kinds[VALUE_COUNT] = {
#define V(name, id, bytes) [id] = {#name, bytes},
    VALUE_LIST(V)
#undef V
};

// Tensor types that exist and that we do not decode, for the message.
static const struct {
    uint32_t id;
    const char *name;
} foreign_types[] = {
    {9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"},
    {29, "IQ1_M"},   {34, "TQ1_0"}, {35, "TQ2_0"},  {39, "MXFP4"},
};

// The least bytes of a key with its value, and of a tensor's entry: they bound the counts.
enum { PAIR_LEAST = 8 + 1 + 4 + 1, TENSOR_LEAST = 8 + 1 + 4 + 4 + 8 };

struct cursor {
    const unsigned char *at, *end;
    const char *path;
};

static enum status
take(const unsigned char **out, struct cursor *c, size_t bytes, const char *what)
{
    *out = c->at;
    if (bytes > (size_t)(c->end - c->at))
        return FAIL(DAMAGED, "%s: ends inside %s", c->path, what);
    c->at += bytes;
    return STATUS_OK;
}

static enum status
take_u32(uint32_t *out, struct cursor *c, const char *what)
{
    const unsigned char *at;
    TRY(take(&at, c, 4, what));
    *out = load_u32(at);
    return STATUS_OK;
}

static enum status
take_u64(uint64_t *out, struct cursor *c, const char *what)
{
    const unsigned char *at;
    TRY(take(&at, c, 8, what));
    *out = load_u64(at);
    return STATUS_OK;
}

static enum status
take_text(struct gguf_text *out, struct cursor *c, const char *what)
{
    uint64_t bytes;
    const unsigned char *at;
    TRY(take_u64(&bytes, c, what));
    TRY(take(&at, c, bytes, what));
    *out = (struct gguf_text){(const char *)at, (size_t)bytes};
    return STATUS_OK;
}

// A name for people and for strcmp: not empty, UTF-8, no NUL.
static bool
good_name(struct gguf_text text)
{
    return text.bytes > 0 && utf8_valid(text.at, text.bytes) && !memchr(text.at, 0, text.bytes);
}

// For messages: "%.*s" with a bound.
static int
width(struct gguf_text text)
{
    return text.bytes < 100 ? (int)text.bytes : 100;
}

static enum status
check_bools(const struct pair *p, const char *path)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->at[i] > 1)
            return FAIL(DAMAGED, "%s: %.*s: a bool of %d, wanted 0 or 1", path, width(p->key),
                        p->key.at, p->at[i]);
    return STATUS_OK;
}

static enum status
take_value_type(enum value_type *out, struct cursor *c, const struct pair *p)
{
    uint32_t type;
    TRY(take_u32(&type, c, "the type of a value"));
    if (type >= VALUE_COUNT)
        return FAIL(DAMAGED, "%s: %.*s has value type %u, wanted 0 to %d", c->path, width(p->key),
                    p->key.at, type, VALUE_COUNT - 1);
    *out = (enum value_type)type;
    return STATUS_OK;
}

static enum status
take_pair(struct pair *p, struct cursor *c)
{
    TRY(take_text(&p->key, c, "a key"));
    if (!good_name(p->key))
        return FAIL(DAMAGED, "%s: a key is empty or no valid UTF-8", c->path);
    TRY(take_value_type(&p->type, c, p));
    p->count = 1;
    p->is_array = p->type == VALUE_ARRAY;
    if (p->is_array) {
        uint64_t count;
        TRY(take_value_type(&p->type, c, p));
        TRY(take_u64(&count, c, "the length of an array"));
        if (p->type == VALUE_ARRAY)
            return FAIL(DAMAGED, "%s: %.*s is an array of arrays", c->path, width(p->key),
                        p->key.at);
        size_t least = p->type == VALUE_STRING ? 8 : gguf_value_kinds[p->type].bytes;
        if (count > (size_t)(c->end - c->at) / least)
            return FAIL(DAMAGED, "%s: %.*s says it has %llu elements, more than the file can hold",
                        c->path, width(p->key), p->key.at, (unsigned long long)count);
        p->count = (size_t)count;
    }
    p->at = c->at;
    if (p->type != VALUE_STRING)
        TRY(take(&p->at, c, p->count * gguf_value_kinds[p->type].bytes, "a value"));
    else
        for (size_t i = 0; i < p->count; i++) {
            struct gguf_text text;
            TRY(take_text(&text, c, "a text"));
            if (!p->is_array && !utf8_valid(text.at, text.bytes))
                return FAIL(DAMAGED, "%s: %.*s is no valid UTF-8", c->path, width(p->key),
                            p->key.at);
        }
    return p->type == VALUE_BOOL ? check_bools(p, c->path) : STATUS_OK;
}

static int
compare_text(struct gguf_text a, const char *at, size_t bytes)
{
    int order = memcmp(a.at, at, a.bytes < bytes ? a.bytes : bytes);
    return order ? order : (a.bytes > bytes) - (a.bytes < bytes);
}

static int
by_key(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return compare_text(x->key, y->key.at, y->key.bytes);
}

static int
by_name(const void *a, const void *b)
{
    const struct gguf_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum status
find_dtype(enum dtype *out, uint32_t id, const char *name, const char *path)
{
#define D(name, bytes, elements, gguf)                                                             \
    if ((gguf) >= 0 && id == (uint32_t)(gguf)) {                                                   \
        *out = DTYPE_##name;                                                                       \
        return STATUS_OK;                                                                          \
    }
    DTYPE_LIST(D)
#undef D
    for (size_t i = 0; i < sizeof foreign_types / sizeof foreign_types[0]; i++)
        if (foreign_types[i].id == id)
            return FAIL(DAMAGED, "%s: tensor '%s' has type %s, which is not supported", path, name,
                        foreign_types[i].name);
    return FAIL(DAMAGED, "%s: tensor '%s' has type %u, which does not exist", path, name, id);
}

// One tensor's entry. `offset` as the file has it: its data are placed when the header has ended.
static enum status
take_tensor(struct gguf_tensor *t, uint64_t *offset, struct cursor *c)
{
    struct gguf_text name;
    TRY(take_text(&name, c, "a tensor's name"));
    if (!good_name(name) || name.bytes >= sizeof t->name)
        return FAIL(DAMAGED,
                    "%s: a tensor's name has %zu bytes or is no valid UTF-8, wanted 1 to %zu",
                    c->path, name.bytes, sizeof t->name - 1);
    memcpy(t->name, name.at, name.bytes);

    uint32_t rank, type;
    TRY(take_u32(&rank, c, "a tensor's rank"));
    if (rank > 4)
        return FAIL(DAMAGED, "%s: tensor '%s' has %u dimensions, wanted at most 4", c->path,
                    t->name, rank);
    t->rank = rank;
    t->count = 1;
    bool fits = true;
    for (size_t i = rank; i-- > 0;) { // the file lists the fastest first
        uint64_t n;
        TRY(take_u64(&n, c, "a tensor's shape"));
        t->shape[i] = (size_t)n;
        fits = times(&t->count, t->count, (size_t)n) && fits;
    }
    TRY(take_u32(&type, c, "a tensor's type"));
    TRY(take_u64(offset, c, "a tensor's offset"));
    TRY(find_dtype(&t->dtype, type, t->name, c->path));
    size_t block = dtype_block_elements(t->dtype), row = rank ? t->shape[rank - 1] : 1;
    if (row % block != 0)
        return FAIL(DAMAGED, "%s: tensor '%s' has rows of %zu, wanted a multiple of %zu for %s",
                    c->path, t->name, row, block, dtype_name(t->dtype));
    if (!fits || !times(&t->bytes, t->count / block, dtype_block_bytes(t->dtype)))
        return FAIL(DAMAGED, "%s: tensor '%s': the product of its shape overflows", c->path,
                    t->name);
    return STATUS_OK;
}

const struct pair *
gguf_find_pair(const struct gguf *file, const char *key)
{
    size_t low = 0, high = file->pair_count, bytes = strlen(key);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_text(file->pairs[middle].key, key, bytes);
        if (order == 0)
            return &file->pairs[middle];
        if (order > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static enum status
read_version(struct cursor *c)
{
    const unsigned char *magic;
    uint32_t version;
    TRY(take(&magic, c, 4, "the magic number"));
    if (memcmp(magic, "GGUF", 4) != 0)
        return FAIL(DAMAGED, "%s: does not begin with GGUF", c->path);
    TRY(take_u32(&version, c, "the version"));
    if ((version & 0xffff) == 0)
        return FAIL(DAMAGED, "%s: is a big-endian GGUF file, wanted little-endian", c->path);
    if (version != 2 && version != 3)
        return FAIL(DAMAGED, "%s: GGUF version %u, wanted 2 or 3", c->path, version);
    return STATUS_OK;
}

static enum status
read_pairs(struct gguf *file, struct cursor *c, uint64_t count)
{
    if (count > (size_t)(c->end - c->at) / PAIR_LEAST)
        return FAIL(DAMAGED, "%s: says it has %llu keys, more than it can hold", file->path,
                    (unsigned long long)count);
    file->pairs = calloc((size_t)count + 1, sizeof *file->pairs);
    if (!file->pairs)
        return FAIL(CREATE, "%s: no memory for its %llu keys", file->path,
                    (unsigned long long)count);
    for (; file->pair_count < count; file->pair_count++)
        TRY(take_pair(&file->pairs[file->pair_count], c));
    qsort(file->pairs, file->pair_count, sizeof *file->pairs, by_key);
    for (size_t i = 1; i < file->pair_count; i++)
        if (by_key(&file->pairs[i - 1], &file->pairs[i]) == 0)
            return FAIL(DAMAGED, "%s: key '%.*s' is there twice", file->path,
                        width(file->pairs[i].key), file->pairs[i].key.at);
    return STATUS_OK;
}

static enum status
read_alignment(size_t *out, const struct gguf *file)
{
    *out = 32;
    const struct pair *p = gguf_find_pair(file, "general.alignment");
    if (!p)
        return STATUS_OK;
    if (p->is_array || p->type != VALUE_U32)
        return FAIL(DAMAGED, "%s: general.alignment has type %s, wanted U32", file->path,
                    gguf_value_kinds[p->type].name);
    *out = load_u32(p->at);
    if (*out == 0 || (*out & (*out - 1)) != 0)
        return FAIL(DAMAGED, "%s: general.alignment is %zu, wanted a power of two", file->path,
                    *out);
    return STATUS_OK;
}

// The entries, then the place of each tensor's data.
static enum status
read_tensors(struct gguf *file, struct cursor *c, uint64_t count)
{
    if (count > (size_t)(c->end - c->at) / TENSOR_LEAST)
        return FAIL(DAMAGED, "%s: says it has %llu tensors, more than it can hold", file->path,
                    (unsigned long long)count);
    file->tensors = calloc((size_t)count + 1, sizeof *file->tensors);
    file->by_name = calloc((size_t)count + 1, sizeof(struct gguf_tensor *));
    if (!file->tensors || !file->by_name)
        return FAIL(CREATE, "%s: no memory for its %llu tensors", file->path,
                    (unsigned long long)count);
    size_t align, next = 0; // next: where the next tensor must begin, counted from the data
    TRY(read_alignment(&align, file));
    for (size_t i = 0; i < count; i++) {
        struct gguf_tensor *t = &file->tensors[i];
        uint64_t offset;
        TRY(take_tensor(t, &offset, c));
        if (offset != next)
            return FAIL(DAMAGED, "%s: tensor '%s' has offset %llu, wanted %zu", file->path, t->name,
                        (unsigned long long)offset, next);
        if (t->bytes > SIZE_MAX - (align - 1) - next)
            return FAIL(DAMAGED, "%s: tensor '%s': its data overflow", file->path, t->name);
        next = (next + t->bytes + align - 1) & ~(align - 1);
        file->by_name[file->tensor_count++] = t;
    }

    // Data begin at the next multiple of align; the padding behind the last tensor may be missing.
    size_t header = (size_t)(c->at - file->map.at), at = 0;
    size_t pad = (align - header % align) % align, left = (size_t)(c->end - c->at);
    for (size_t i = 0; i < file->tensor_count; i++) {
        struct gguf_tensor *t = &file->tensors[i];
        if (pad > left || at > left - pad || t->bytes > left - pad - at)
            return FAIL(DAMAGED, "%s: ends inside the data of tensor '%s'", file->path, t->name);
        t->at = c->at + pad + at;
        at = (at + t->bytes + align - 1) & ~(align - 1);
    }

    qsort(file->by_name, file->tensor_count, sizeof(struct gguf_tensor *), by_name);
    for (size_t i = 1; i < file->tensor_count; i++)
        if (strcmp(file->by_name[i - 1]->name, file->by_name[i]->name) == 0)
            return FAIL(DAMAGED, "%s: tensor '%s' is there twice", file->path,
                        file->by_name[i]->name);
    return STATUS_OK;
}

static enum status
read_header(struct gguf *file)
{
    struct cursor c = {file->map.at, file->map.at + file->map.bytes, file->path};
    uint64_t tensors, pairs;
    TRY(read_version(&c));
    TRY(take_u64(&tensors, &c, "the number of tensors"));
    TRY(take_u64(&pairs, &c, "the number of keys"));
    TRY(read_pairs(file, &c, pairs));
    return read_tensors(file, &c, tensors);
}

enum status
gguf_open(struct gguf **out, const char *path)
{
    *out = NULL;
    enum status status = STATUS_OK;
    struct gguf *file = calloc(1, sizeof *file);
    if (!file || !(file->path = strdup(path))) {
        free(file);
        return FAIL(CREATE, "%s: no memory to open it", path);
    }
    GOTRY(file_map_open(&file->map, path));
    GOTRY(read_header(file));
    *out = file;
    file = NULL;
done:
    gguf_close(&file);
    return status;
}

void
gguf_close(struct gguf **file)
{
    struct gguf *f = *file;
    if (f) {
        file_map_close(&f->map);
        for (size_t i = 0; i < f->pair_count; i++) {
            free(f->pairs[i].texts);
            free(f->pairs[i].numbers);
        }
        free(f->pairs);
        free(f->tensors);
        free((void *)f->by_name);
        free(f->path);
        free(f);
    }
    *file = NULL;
}

const char *
gguf_path(const struct gguf *file)
{
    return file->path;
}

size_t
gguf_tensor_count(const struct gguf *file)
{
    return file->tensor_count;
}

const struct gguf_tensor *
gguf_tensor_at(const struct gguf *file, size_t i)
{
    assert(i < file->tensor_count);
    return &file->tensors[i];
}

static int
is_named(const void *name, const void *at)
{
    return strcmp(name, (*(const struct gguf_tensor *const *)at)->name);
}

const struct gguf_tensor *
gguf_find(const struct gguf *file, const char *name)
{
    const struct gguf_tensor **at =
        bsearch(name, file->by_name, file->tensor_count, sizeof *at, is_named);
    return at ? *at : NULL;
}

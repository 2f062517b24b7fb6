// torch's .pt (since 1.6): a ZIP of TOP/data.pkl, a pickle of protocol 2 that names the tensors,
// and TOP/data/KEY, the bytes of each storage. Five names may occur in it:
//
//     collections.OrderedDict  torch._utils._rebuild_tensor_v2  torch._utils._rebuild_parameter
//     torch.<Type>Storage (inside a persistent id)              torch.Size
#include "lib/base/bytes.h"
#include "lib/interop/arrays.h"
#include "lib/interop/pickle.h"
#include "lib/store/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PICKLE_MOST = 64 << 20, DEPTH_MOST = 4 };

enum kind { STORAGE, TENSOR }; // of the pickle's values that are ours: struct array

enum callable { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, SIZE, STORAGES };
static const struct {
    const char *module, *name;
} callables[STORAGES] = {
    {"collections", "OrderedDict"},
    {"torch._utils", "_rebuild_tensor_v2"},
    {"torch._utils", "_rebuild_parameter"},
    {"torch", "Size"},
};
static const struct {
    const char *name;
    enum dtype dtype;
} storages[] = {
    {"FloatStorage", DTYPE_F32},     {"DoubleStorage", DTYPE_F64}, {"HalfStorage", DTYPE_F16},
    {"BFloat16Storage", DTYPE_BF16}, {"IntStorage", DTYPE_I32},    {"LongStorage", DTYPE_I64},
    {"BoolStorage", DTYPE_BOOL},     {"ByteStorage", DTYPE_U8},
};
enum { STORAGE_TYPES = sizeof storages / sizeof storages[0] };

struct torch {
    struct arrays *arrays;
    struct zip *zip;
    char top[ZIP_NAME_MOST + 1]; // "archive/"
};

static bool
is_host(const struct pickle_value *value, enum kind kind)
{
    return value->type == PICKLE_HOST && value->host.kind == (int)kind;
}

static const struct array *
array_of(const struct pickle_value *value)
{
    return value->host.at;
}

static enum status
name_global(unsigned *out, void *context, const char *module, const char *name)
{
    const struct torch *t = context;
    for (unsigned i = 0; i < STORAGES; i++)
        if (strcmp(callables[i].module, module) == 0 && strcmp(callables[i].name, name) == 0) {
            *out = i;
            return STATUS_OK;
        }
    for (unsigned i = 0; i < STORAGE_TYPES && strcmp(module, "torch") == 0; i++)
        if (strcmp(storages[i].name, name) == 0) {
            *out = STORAGES + i;
            return STATUS_OK;
        }
    return FAIL(DAMAGED,
                "%s: it wants to call %.60s.%.60s, which no list of weights needs; save a state "
                "dict of plain tensors",
                t->arrays->path, module, name);
}

// ---------------------------------------------------------------- tensors

// ("storage", torch.FloatStorage, "0", "cpu", 12)
static enum status
load_storage(struct pickle *pickle, void *context, const struct pickle_value *tuple)
{
    struct torch *t = context;
    if (tuple->type != PICKLE_TUPLE || tuple->bytes != 5)
        return pickle_wrong(pickle, "a persistent id that is no storage");
    const struct pickle_value *kind = pickle_at(pickle, tuple->items[0]),
                              *type = pickle_at(pickle, tuple->items[1]),
                              *key = pickle_at(pickle, tuple->items[2]),
                              *count = pickle_at(pickle, tuple->items[4]);
    char name[ZIP_NAME_MOST + 160], short_key[128];
    if (!pickle_text_is(kind, "storage") || type->type != PICKLE_GLOBAL ||
        type->global < STORAGES || count->type != PICKLE_WHOLE || count->whole < 0 ||
        !pickle_text(short_key, sizeof short_key, key))
        return pickle_wrong(pickle, "a persistent id that is no storage");
    snprintf(name, sizeof name, "%sdata/%s", t->top, short_key);
    size_t i, bytes;
    if (!zip_find(&i, t->zip, name))
        return FAIL(DAMAGED, "%s: member '%.80s' is missing", t->arrays->path, name);
    struct array *array = calloc(1, sizeof *array);
    if (!array)
        return FAIL(CREATE, "%s: no memory for its pickle", t->arrays->path);
    array->dtype = storages[type->global - STORAGES].dtype;
    size_t wanted, room;
    enum status status = zip_content(&array->at, &bytes, t->zip, i, SIZE_MAX);
    room = bytes / dtype_block_bytes(array->dtype);
    wanted = (size_t)count->whole;
    if (status == STATUS_OK && wanted > room)
        status = FAIL(DAMAGED, "%s: storage '%.60s' holds %zu values, wanted %zu", t->arrays->path,
                      short_key, room, wanted);
    if (status != STATUS_OK) {
        free(array);
        return status;
    }
    array->shape[0] = wanted;
    return pickle_push_host(pickle, STORAGE, array);
}

static enum status
sizes(const struct pickle *pickle, size_t *rank, size_t out[ARRAY_RANK],
      const struct pickle_value *tuple)
{
    if (tuple->type != PICKLE_TUPLE || tuple->bytes > ARRAY_RANK)
        return pickle_wrong(pickle, "a tensor whose shape is no short tuple");
    for (size_t i = 0; i < tuple->bytes; i++) {
        const struct pickle_value *item = pickle_at(pickle, tuple->items[i]);
        if (item->type != PICKLE_WHOLE || item->whole < 0)
            return pickle_wrong(pickle, "a tensor whose shape or strides are no numbers");
        out[i] = (size_t)item->whole;
    }
    *rank = tuple->bytes;
    return STATUS_OK;
}

// _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)
static enum status
rebuild_tensor(struct torch *t, struct pickle *pickle, const struct pickle_value *args)
{
    if (args->bytes < 4)
        return pickle_wrong(pickle, "a tensor without storage, offset, shape and strides");
    const struct pickle_value *storage = pickle_at(pickle, args->items[0]),
                              *offset = pickle_at(pickle, args->items[1]);
    if (!is_host(storage, STORAGE) || offset->type != PICKLE_WHOLE || offset->whole < 0 ||
        (uint64_t)offset->whole > array_of(storage)->shape[0])
        return pickle_wrong(pickle, "a tensor outside its storage");
    struct array array = {.dtype = array_of(storage)->dtype};
    size_t rank, strides, size = dtype_block_bytes(array.dtype), skip = (size_t)offset->whole;
    TRY(sizes(pickle, &rank, array.shape, pickle_at(pickle, args->items[2])));
    TRY(sizes(pickle, &strides, array.stride, pickle_at(pickle, args->items[3])));
    if (rank != strides)
        return pickle_wrong(pickle, "a tensor with more strides than sizes, or fewer");
    array.rank = rank;
    array.at = array_of(storage)->at + skip * size;
    array.count = array_of(storage)->shape[0] - skip; // what it may reach; arrays_add checks
    struct array *own = malloc(sizeof *own);
    if (!own)
        return FAIL(CREATE, "%s: no memory for its pickle", t->arrays->path);
    *own = array;
    return pickle_push_host(pickle, TENSOR, own);
}

static enum status
call(struct pickle *pickle, void *context, unsigned global, const struct pickle_value *arguments)
{
    uint32_t first = arguments->bytes ? arguments->items[0] : 0;
    switch (global) {
    case ORDERED_DICT:
        if (arguments->bytes != 0)
            return pickle_wrong(pickle, "an OrderedDict with arguments");
        return pickle_push_dict(pickle);
    case REBUILD_TENSOR:
        return rebuild_tensor(context, pickle, arguments);
    case REBUILD_PARAMETER:
        if (arguments->bytes < 1 || !is_host(pickle_at(pickle, first), TENSOR))
            return pickle_wrong(pickle, "a parameter that is no tensor");
        return pickle_push(pickle, first);
    case SIZE:
        if (arguments->bytes != 1 || pickle_at(pickle, first)->type != PICKLE_TUPLE)
            return pickle_wrong(pickle, "a torch.Size that is no tuple");
        return pickle_push(pickle, first);
    default:
        return pickle_wrong(pickle, "a call of a storage");
    }
}

// ---------------------------------------------------------------- what came out

// Every tensor and plain value under a dict, by name. Pickles can hold a dict in itself: no deeper
// than DEPTH_MOST.
static enum status
flatten(struct torch *t, const struct pickle *pickle, uint32_t dict, const char *prefix,
        size_t depth)
{
    const struct pickle_value *from = pickle_at(pickle, dict);
    for (size_t i = 0; i + 1 < from->bytes; i += 2) {
        const struct pickle_value *value = pickle_at(pickle, from->items[i + 1]);
        struct array array = {.dtype = DTYPE_I64};
        char key[ARRAY_NAME];
        if (!pickle_text(key, sizeof key, pickle_at(pickle, from->items[i])))
            continue; // numbered things are no weights
        int length = snprintf(array.name, sizeof array.name, "%s%s", prefix, key);
        if (length < 0 || (size_t)length + 2 >= sizeof array.name)
            continue;
        size_t bytes = 0;
        switch (value->type) {
        case PICKLE_DICT: {
            char inner[ARRAY_NAME + 2];
            snprintf(inner, sizeof inner, "%s.", array.name);
            if (depth < DEPTH_MOST)
                TRY(flatten(t, pickle, from->items[i + 1], inner, depth + 1));
            continue;
        }
        case PICKLE_HOST: {
            if (!is_host(value, TENSOR))
                continue;
            const struct array *tensor = array_of(value);
            memcpy(array.shape, tensor->shape, sizeof array.shape);
            memcpy(array.stride, tensor->stride, sizeof array.stride);
            array.dtype = tensor->dtype;
            array.rank = tensor->rank;
            array.at = tensor->at;
            bytes = tensor->count * dtype_block_bytes(array.dtype);
            break;
        }
        case PICKLE_TRUTH:
        case PICKLE_WHOLE:
            array.plain.whole = value->whole;
            bytes = sizeof(int64_t);
            break;
        case PICKLE_REAL:
            array.dtype = DTYPE_F64;
            array.plain.real = value->real;
            bytes = sizeof(double);
            break;
        case PICKLE_TEXT:
            array.text = value->text;
            array.count = value->bytes;
            bytes = sizeof(int64_t);
            break;
        default:
            continue;
        }
        if (arrays_find(t->arrays, array.name))
            return FAIL(DAMAGED, "%s: two entries are named '%.80s'", t->arrays->path, array.name);
        TRY(arrays_add(t->arrays, &array, bytes));
    }
    return STATUS_OK;
}

static enum status
find_pickle(struct torch *t, const unsigned char **code, size_t *size)
{
    static const char name[] = "data.pkl";
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < zip_count(t->zip); i++) {
        const char *at = zip_name(t->zip, i), *slash = strchr(at, '/');
        if (slash && strcmp(slash + 1, name) == 0)
            found = i;
    }
    if (found == SIZE_MAX)
        return FAIL(DAMAGED, "%s: no data.pkl in it: no file of torch.save", t->arrays->path);
    const char *at = zip_name(t->zip, found);
    snprintf(t->top, sizeof t->top, "%.*s/", (int)(strchr(at, '/') - at), at);
    char order[sizeof t->top + 16];
    snprintf(order, sizeof order, "%sbyteorder", t->top);
    size_t i, bytes;
    const unsigned char *text;
    if (zip_find(&i, t->zip, order)) {
        TRY(zip_content(&text, &bytes, t->zip, i, 64));
        if (bytes != 6 || memcmp(text, "little", 6) != 0)
            return FAIL(DAMAGED, "%s: written on a big-endian machine; save it again on another",
                        t->arrays->path);
    }
    return zip_content(code, size, t->zip, found, PICKLE_MOST);
}

static enum status
run(struct torch *t)
{
    const struct pickle_host host = {t, name_global, call, load_storage};
    const unsigned char *code;
    size_t size;
    uint32_t top;
    struct pickle *pickle;
    TRY(find_pickle(t, &code, &size));
    TRY(pickle_new(&pickle, t->arrays->path, code, size, &host));
    enum status status = pickle_run(pickle, &top);
    if (status == STATUS_OK && pickle_at(pickle, top)->type != PICKLE_DICT)
        status = FAIL(DAMAGED, "%s: it holds no dict of tensors", t->arrays->path);
    if (status == STATUS_OK)
        status = flatten(t, pickle, top, "", 0);
    pickle_free(&pickle);
    return status;
}

static void
close_zip(void *file)
{
    struct zip *zip = file;
    zip_close(&zip);
}

enum status
arrays_read_torch(struct arrays *arrays, const char *path)
{
    struct torch t = {.arrays = arrays};
    enum status status = zip_open(&t.zip, path);
    if (status == STATUS_DAMAGED)
        return FAIL(DAMAGED,
                    "%s: no file of torch.save since 1.6 (a ZIP archive); save it again "
                    "with a newer torch",
                    path);
    TRY(status);
    arrays->file = t.zip;
    arrays->close = close_zip;
    return run(&t);
}

// torch's .pt (since 1.6): a ZIP of TOP/data.pkl, a pickle of protocol 2 that names the tensors,
// and TOP/data/KEY, the bytes of each storage. The pickle is run on a machine that can build dicts,
// lists, tuples, plain values and tensors, and has five names it may call:
//
//     collections.OrderedDict  torch._utils._rebuild_tensor_v2  torch._utils._rebuild_parameter
//     torch.<Type>Storage (inside a persistent id)              torch.Size
//
// Nothing is ever imported or executed. Values are numbers of a pool, so damaged or cyclic pickles
// cannot make it recurse; pool, stack and memo are bounded.
#include "lib/base/bytes.h"
#include "lib/interop/arrays.h"
#include "lib/store/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PICKLE_MOST = 64 << 20, VALUES_MOST = 1 << 20, DEPTH_MOST = 4 };

enum type { NONE, TRUTH, WHOLE, REAL, TEXT, TUPLE, LIST, DICT, CALLABLE, STORAGE, TENSOR, MARK };

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

struct value {
    enum type type;
    union {
        int64_t whole; // TRUTH too
        double real;
        const char *text;     // TEXT: of `bytes`
        uint32_t *items;      // TUPLE, LIST; DICT: key, value, key, value; `bytes` of them
        unsigned callable;    // an enum callable, or STORAGES + which storage
        struct array *tensor; // TENSOR; STORAGE: what is told of it, shape[0] elements
    };
    size_t bytes, room;
};

struct machine {
    struct arrays *arrays;
    struct zip *zip;
    char top[ZIP_NAME_MOST + 1]; // "archive/"
    const unsigned char *code;
    size_t size, at;
    struct value *values;
    size_t count, room;
    uint32_t *stack, *memo;
    size_t depth, stack_room, memo_count, memo_room;
};

static enum status
wrong(const struct machine *m, const char *what)
{
    return FAIL(DAMAGED, "%s: its pickle, byte %zu: %s", m->arrays->path, m->at, what);
}

// ---------------------------------------------------------------- memory

static enum status
grow(void **at, size_t *room, size_t want, size_t size, const struct machine *m)
{
    if (want <= *room)
        return STATUS_OK;
    size_t more = *room ? 2 * *room : 64;
    more = more < want ? want : more;
    if (more > VALUES_MOST)
        more = VALUES_MOST;
    if (want > more)
        return wrong(m, "it is too large to be a list of weights");
    void *grown = realloc(*at, more * size);
    if (!grown)
        return FAIL(CREATE, "%s: no memory for its pickle", m->arrays->path);
    *at = grown;
    *room = more;
    return STATUS_OK;
}

static enum status
push(struct machine *m, uint32_t value)
{
    void *at = m->stack;
    TRY(grow(&at, &m->stack_room, m->depth + 1, sizeof *m->stack, m));
    m->stack = at;
    m->stack[m->depth++] = value;
    return STATUS_OK;
}

// A new value, on the stack.
static enum status
make(struct machine *m, struct value value)
{
    void *at = m->values;
    TRY(grow(&at, &m->room, m->count + 1, sizeof *m->values, m));
    m->values = at;
    m->values[m->count] = value;
    return push(m, (uint32_t)m->count++);
}

static enum status
append(struct machine *m, uint32_t to, const uint32_t *items, size_t count)
{
    struct value *value = &m->values[to];
    void *at = value->items;
    TRY(grow(&at, &value->room, value->bytes + count, sizeof *items, m));
    value->items = at;
    memcpy(value->items + value->bytes, items, count * sizeof *items);
    value->bytes += count;
    return STATUS_OK;
}

static enum status
pop(struct machine *m, uint32_t *value)
{
    if (m->depth == 0 || m->values[m->stack[m->depth - 1]].type == MARK)
        return wrong(m, "nothing to take from the stack");
    *value = m->stack[--m->depth];
    return STATUS_OK;
}

// The items above the last mark; the mark goes too.
static enum status
pop_to_mark(struct machine *m, const uint32_t **items, size_t *count)
{
    size_t at = m->depth;
    while (at > 0 && m->values[m->stack[at - 1]].type != MARK)
        at--;
    if (at == 0)
        return wrong(m, "no mark on the stack");
    *items = m->stack + at;
    *count = m->depth - at;
    m->depth = at - 1;
    return STATUS_OK;
}

// ---------------------------------------------------------------- reading the code

static enum status
bytes_of(struct machine *m, const unsigned char **at, size_t count)
{
    if (count > m->size - m->at)
        return wrong(m, "cut short");
    *at = m->code + m->at;
    m->at += count;
    return STATUS_OK;
}

static enum status
line_of(struct machine *m, char out[128])
{
    size_t n = 0;
    while (m->at < m->size && m->code[m->at] != '\n' && n < 127)
        out[n++] = (char)m->code[m->at++];
    out[n] = '\0';
    if (m->at >= m->size || m->code[m->at] != '\n')
        return wrong(m, "a name without end");
    m->at++;
    return STATUS_OK;
}

static enum status
callable_named(struct machine *m, const char *module, const char *name)
{
    for (unsigned i = 0; i < STORAGES; i++)
        if (strcmp(callables[i].module, module) == 0 && strcmp(callables[i].name, name) == 0)
            return make(m, (struct value){.type = CALLABLE, .callable = i});
    for (unsigned i = 0; i < STORAGE_TYPES && strcmp(module, "torch") == 0; i++)
        if (strcmp(storages[i].name, name) == 0)
            return make(m, (struct value){.type = CALLABLE, .callable = STORAGES + i});
    return FAIL(DAMAGED,
                "%s: it wants to call %.60s.%.60s, which no list of weights needs; save a state "
                "dict of plain tensors",
                m->arrays->path, module, name);
}

static bool
text_is(const struct value *value, const char *text)
{
    return value->type == TEXT && value->bytes == strlen(text) &&
           memcmp(value->text, text, value->bytes) == 0;
}

static bool
text_copy(char *out, size_t room, const struct value *value)
{
    if (value->type != TEXT || value->bytes >= room || memchr(value->text, 0, value->bytes))
        return false;
    memcpy(out, value->text, value->bytes);
    out[value->bytes] = '\0';
    return true;
}

static enum status
stack_global(struct machine *m)
{
    uint32_t name, module;
    char names[2][128];
    TRY(pop(m, &name));
    TRY(pop(m, &module));
    if (!text_copy(names[0], 128, &m->values[module]) ||
        !text_copy(names[1], 128, &m->values[name]))
        return wrong(m, "a global without a name");
    return callable_named(m, names[0], names[1]);
}

// ---------------------------------------------------------------- tensors

// ("storage", torch.FloatStorage, "0", "cpu", 12)
static enum status
load_storage(struct machine *m)
{
    uint32_t id;
    TRY(pop(m, &id));
    const struct value *tuple = &m->values[id];
    if (tuple->type != TUPLE || tuple->bytes != 5)
        return wrong(m, "a persistent id that is no storage");
    const struct value *kind = &m->values[tuple->items[0]], *type = &m->values[tuple->items[1]],
                       *key = &m->values[tuple->items[2]], *count = &m->values[tuple->items[4]];
    char name[ZIP_NAME_MOST + 160], short_key[128];
    if (!text_is(kind, "storage") || type->type != CALLABLE || type->callable < STORAGES ||
        count->type != WHOLE || count->whole < 0 || !text_copy(short_key, sizeof short_key, key))
        return wrong(m, "a persistent id that is no storage");
    snprintf(name, sizeof name, "%sdata/%s", m->top, short_key);
    size_t i, bytes;
    if (!zip_find(&i, m->zip, name))
        return FAIL(DAMAGED, "%s: member '%.80s' is missing", m->arrays->path, name);
    struct array *array = calloc(1, sizeof *array);
    if (!array)
        return FAIL(CREATE, "%s: no memory for its pickle", m->arrays->path);
    array->dtype = storages[type->callable - STORAGES].dtype;
    size_t wanted, room;
    enum status status = zip_content(&array->at, &bytes, m->zip, i, SIZE_MAX);
    room = bytes / dtype_block_bytes(array->dtype);
    wanted = (size_t)count->whole;
    if (status == STATUS_OK && wanted > room)
        status = FAIL(DAMAGED, "%s: storage '%.60s' holds %zu values, wanted %zu", m->arrays->path,
                      short_key, room, wanted);
    if (status != STATUS_OK) {
        free(array);
        return status;
    }
    array->shape[0] = wanted;
    status = make(m, (struct value){.type = STORAGE, .tensor = array}); // the pool owns it
    if (status != STATUS_OK && (m->count == 0 || m->values[m->count - 1].tensor != array))
        free(array);
    return status;
}

static enum status
sizes(struct machine *m, size_t *rank, size_t out[ARRAY_RANK], const struct value *tuple)
{
    if (tuple->type != TUPLE || tuple->bytes > ARRAY_RANK)
        return wrong(m, "a tensor whose shape is no short tuple");
    for (size_t i = 0; i < tuple->bytes; i++) {
        const struct value *item = &m->values[tuple->items[i]];
        if (item->type != WHOLE || item->whole < 0)
            return wrong(m, "a tensor whose shape or strides are no numbers");
        out[i] = (size_t)item->whole;
    }
    *rank = tuple->bytes;
    return STATUS_OK;
}

// _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)
static enum status
rebuild_tensor(struct machine *m, const struct value *args)
{
    if (args->bytes < 4)
        return wrong(m, "a tensor without storage, offset, shape and strides");
    const struct value *storage = &m->values[args->items[0]], *offset = &m->values[args->items[1]];
    if (storage->type != STORAGE || offset->type != WHOLE || offset->whole < 0 ||
        (uint64_t)offset->whole > storage->tensor->shape[0])
        return wrong(m, "a tensor outside its storage");
    struct array array = {.dtype = storage->tensor->dtype};
    size_t rank, strides, size = dtype_block_bytes(array.dtype), skip = (size_t)offset->whole;
    TRY(sizes(m, &rank, array.shape, &m->values[args->items[2]]));
    TRY(sizes(m, &strides, array.stride, &m->values[args->items[3]]));
    if (rank != strides)
        return wrong(m, "a tensor with more strides than sizes, or fewer");
    array.rank = rank;
    array.at = storage->tensor->at + skip * size;
    array.count = storage->tensor->shape[0] - skip; // what it may reach; arrays_add checks
    struct array *own = malloc(sizeof *own);
    if (!own)
        return FAIL(CREATE, "%s: no memory for its pickle", m->arrays->path);
    *own = array;
    enum status status = make(m, (struct value){.type = TENSOR, .tensor = own});
    if (status != STATUS_OK && (m->count == 0 || m->values[m->count - 1].tensor != own))
        free(own);
    return status;
}

static enum status
reduce(struct machine *m)
{
    uint32_t args, function;
    TRY(pop(m, &args));
    TRY(pop(m, &function));
    const struct value *tuple = &m->values[args], *callable = &m->values[function];
    if (callable->type != CALLABLE || tuple->type != TUPLE)
        return wrong(m, "a call of what is no function");
    switch (callable->callable) {
    case ORDERED_DICT:
        if (tuple->bytes != 0)
            return wrong(m, "an OrderedDict with arguments");
        return make(m, (struct value){.type = DICT});
    case REBUILD_TENSOR:
        return rebuild_tensor(m, tuple);
    case REBUILD_PARAMETER:
        if (tuple->bytes < 1 || m->values[tuple->items[0]].type != TENSOR)
            return wrong(m, "a parameter that is no tensor");
        return push(m, tuple->items[0]);
    case SIZE:
        if (tuple->bytes != 1 || m->values[tuple->items[0]].type != TUPLE)
            return wrong(m, "a torch.Size that is no tuple");
        return push(m, tuple->items[0]);
    default:
        return wrong(m, "a call of a storage");
    }
}

// ---------------------------------------------------------------- the machine

static enum status
memo_put(struct machine *m, size_t at)
{
    uint32_t value;
    if (at >= VALUES_MOST)
        return wrong(m, "a memo number out of range");
    TRY(pop(m, &value));
    m->depth++;
    void *memo = m->memo;
    TRY(grow(&memo, &m->memo_room, at + 1, sizeof *m->memo, m));
    m->memo = memo;
    while (m->memo_count <= at)
        m->memo[m->memo_count++] = UINT32_MAX;
    m->memo[at] = value;
    return STATUS_OK;
}

static enum status
memo_get(struct machine *m, size_t at)
{
    if (at >= m->memo_count || m->memo[at] == UINT32_MAX)
        return wrong(m, "a memo number that nothing has");
    return push(m, m->memo[at]);
}

static enum status
make_tuple(struct machine *m, size_t count)
{
    if (count > m->depth)
        return wrong(m, "nothing to take from the stack");
    uint32_t items[3];
    for (size_t i = count; i-- > 0;)
        TRY(pop(m, &items[i]));
    TRY(make(m, (struct value){.type = TUPLE}));
    return append(m, m->stack[m->depth - 1], items, count);
}

// Items above the mark into the list, or pairs into the dict, below it.
static enum status
fill(struct machine *m, enum type type)
{
    const uint32_t *items;
    size_t count;
    TRY(pop_to_mark(m, &items, &count));
    if (m->depth == 0 || m->values[m->stack[m->depth - 1]].type != type ||
        (type == DICT && count % 2 != 0))
        return wrong(m, "items for no list, or no pairs for a dict");
    return append(m, m->stack[m->depth - 1], items, count);
}

static enum status
fill_one(struct machine *m, enum type type)
{
    uint32_t items[2];
    size_t count = type == DICT ? 2 : 1;
    for (size_t i = count; i-- > 0;)
        TRY(pop(m, &items[i]));
    if (m->depth == 0 || m->values[m->stack[m->depth - 1]].type != type)
        return wrong(m, "an item for no list or dict");
    return append(m, m->stack[m->depth - 1], items, count);
}

static enum status
long_number(struct machine *m)
{
    const unsigned char *at;
    TRY(bytes_of(m, &at, 1));
    size_t bytes = at[0];
    TRY(bytes_of(m, &at, bytes));
    if (bytes > 8)
        return wrong(m, "a number of more than 64 bits");
    uint64_t value = bytes && at[bytes - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return make(m, (struct value){.type = WHOLE, .whole = (int64_t)value});
}

static enum status
real_number(struct machine *m)
{
    const unsigned char *at;
    uint64_t bits = 0;
    double real;
    TRY(bytes_of(m, &at, 8)); // big-endian
    for (size_t i = 0; i < 8; i++)
        bits = bits << 8 | at[i];
    memcpy(&real, &bits, sizeof real);
    return make(m, (struct value){.type = REAL, .real = real});
}

static enum status
words(struct machine *m, size_t head)
{
    const unsigned char *at;
    TRY(bytes_of(m, &at, head));
    size_t bytes = head == 1 ? at[0] : load_u32(at);
    TRY(bytes_of(m, &at, bytes));
    return make(m, (struct value){.type = TEXT, .text = (const char *)at, .bytes = bytes});
}

static enum status
whole_number(struct machine *m, size_t bytes)
{
    const unsigned char *at;
    TRY(bytes_of(m, &at, bytes));
    int64_t value = bytes == 1 ? at[0] : bytes == 2 ? load_u16(at) : (int32_t)load_u32(at);
    return make(m, (struct value){.type = WHOLE, .whole = value});
}

static enum status
memo_at(struct machine *m, size_t bytes, enum status (*act)(struct machine *, size_t))
{
    const unsigned char *at;
    TRY(bytes_of(m, &at, bytes));
    return act(m, bytes == 1 ? at[0] : load_u32(at));
}

// One operation; *end at the last.
static enum status
step(struct machine *m, bool *end)
{
    const unsigned char *at;
    uint32_t value;
    char module[128], name[128];
    TRY(bytes_of(m, &at, 1));
    switch (at[0]) {
    case 0x80: // PROTO
        TRY(bytes_of(m, &at, 1));
        return at[0] <= 5 ? STATUS_OK : wrong(m, "a protocol above 5");
    case 0x95: // FRAME: only says how much follows
        return bytes_of(m, &at, 8);
    case '(':
        return make(m, (struct value){.type = MARK});
    case '.':
        *end = true;
        return STATUS_OK;
    case '}':
        return make(m, (struct value){.type = DICT});
    case ']':
        return make(m, (struct value){.type = LIST});
    case ')':
        return make(m, (struct value){.type = TUPLE});
    case 'N':
        return make(m, (struct value){.type = NONE});
    case 0x88:
    case 0x89:
        return make(m, (struct value){.type = TRUTH, .whole = at[0] == 0x88});
    case 'K':
        return whole_number(m, 1);
    case 'M':
        return whole_number(m, 2);
    case 'J':
        return whole_number(m, 4);
    case 0x8a:
        return long_number(m);
    case 'G':
        return real_number(m);
    case 0x8c:
        return words(m, 1);
    case 'X':
        return words(m, 4);
    case 0x85:
    case 0x86:
    case 0x87:
        return make_tuple(m, at[0] - 0x84u);
    case 't': {
        const uint32_t *items;
        size_t count;
        TRY(pop_to_mark(m, &items, &count));
        uint32_t *copy = malloc((count ? count : 1) * sizeof *copy); // making moves the stack
        if (!copy)
            return FAIL(CREATE, "%s: no memory for its pickle", m->arrays->path);
        memcpy(copy, items, count * sizeof *copy);
        enum status status = make(m, (struct value){.type = TUPLE});
        if (status == STATUS_OK)
            status = append(m, m->stack[m->depth - 1], copy, count);
        free(copy);
        return status;
    }
    case 'u':
        return fill(m, DICT);
    case 'e':
        return fill(m, LIST);
    case 's':
        return fill_one(m, DICT);
    case 'a':
        return fill_one(m, LIST);
    case 'q':
        return memo_at(m, 1, memo_put);
    case 'r':
        return memo_at(m, 4, memo_put);
    case 0x94:
        return memo_put(m, m->memo_count);
    case 'h':
        return memo_at(m, 1, memo_get);
    case 'j':
        return memo_at(m, 4, memo_get);
    case 'c':
        TRY(line_of(m, module));
        TRY(line_of(m, name));
        return callable_named(m, module, name);
    case 0x93:
        return stack_global(m);
    case 'R':
        return reduce(m);
    case 'Q':
        return load_storage(m);
    case 'b': // a state dict's _metadata: versions of modules
        TRY(pop(m, &value));
        if (m->depth == 0 || m->values[m->stack[m->depth - 1]].type != DICT)
            return wrong(m, "an object that is no dict is built");
        return STATUS_OK;
    default:
        return FAIL(DAMAGED,
                    "%s: its pickle, byte %zu: operation 0x%02x, which no list of weights "
                    "needs; save a state dict of plain tensors",
                    m->arrays->path, m->at - 1, at[0]);
    }
}

// ---------------------------------------------------------------- what came out

// Every tensor and plain value under a dict, by name. Pickles can hold a dict in itself: no deeper
// than DEPTH_MOST.
static enum status
flatten(struct machine *m, uint32_t dict, const char *prefix, size_t depth)
{
    const struct value *from = &m->values[dict];
    for (size_t i = 0; i + 1 < from->bytes; i += 2) {
        const struct value *value = &m->values[from->items[i + 1]];
        struct array array = {.dtype = DTYPE_I64};
        char key[ARRAY_NAME];
        if (!text_copy(key, sizeof key, &m->values[from->items[i]]))
            continue; // numbered things are no weights
        int length = snprintf(array.name, sizeof array.name, "%s%s", prefix, key);
        if (length < 0 || (size_t)length + 2 >= sizeof array.name)
            continue;
        size_t bytes = 0;
        switch (value->type) {
        case DICT: {
            char inner[ARRAY_NAME + 2];
            snprintf(inner, sizeof inner, "%s.", array.name);
            if (depth < DEPTH_MOST)
                TRY(flatten(m, from->items[i + 1], inner, depth + 1));
            continue;
        }
        case TENSOR:
            memcpy(array.shape, value->tensor->shape, sizeof array.shape);
            memcpy(array.stride, value->tensor->stride, sizeof array.stride);
            array.dtype = value->tensor->dtype;
            array.rank = value->tensor->rank;
            array.at = value->tensor->at;
            bytes = value->tensor->count * dtype_block_bytes(array.dtype);
            break;
        case TRUTH:
        case WHOLE:
            array.plain.whole = value->whole;
            bytes = sizeof(int64_t);
            break;
        case REAL:
            array.dtype = DTYPE_F64;
            array.plain.real = value->real;
            bytes = sizeof(double);
            break;
        case TEXT:
            array.text = value->text;
            array.count = value->bytes;
            bytes = sizeof(int64_t);
            break;
        default:
            continue;
        }
        if (arrays_find(m->arrays, array.name))
            return FAIL(DAMAGED, "%s: two entries are named '%.80s'", m->arrays->path, array.name);
        TRY(arrays_add(m->arrays, &array, bytes));
    }
    return STATUS_OK;
}

static enum status
find_pickle(struct machine *m)
{
    static const char name[] = "data.pkl";
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < zip_count(m->zip); i++) {
        const char *at = zip_name(m->zip, i), *slash = strchr(at, '/');
        if (slash && strcmp(slash + 1, name) == 0)
            found = i;
    }
    if (found == SIZE_MAX)
        return FAIL(DAMAGED, "%s: no data.pkl in it: no file of torch.save", m->arrays->path);
    const char *at = zip_name(m->zip, found);
    snprintf(m->top, sizeof m->top, "%.*s/", (int)(strchr(at, '/') - at), at);
    char order[sizeof m->top + 16];
    snprintf(order, sizeof order, "%sbyteorder", m->top);
    size_t i, bytes;
    const unsigned char *text;
    if (zip_find(&i, m->zip, order)) {
        TRY(zip_content(&text, &bytes, m->zip, i, 64));
        if (bytes != 6 || memcmp(text, "little", 6) != 0)
            return FAIL(DAMAGED, "%s: written on a big-endian machine; save it again on another",
                        m->arrays->path);
    }
    return zip_content(&m->code, &m->size, m->zip, found, PICKLE_MOST);
}

static enum status
run(struct machine *m)
{
    TRY(find_pickle(m));
    for (bool end = false; !end;)
        TRY(step(m, &end));
    uint32_t top;
    TRY(pop(m, &top));
    if (m->values[top].type != DICT)
        return FAIL(DAMAGED, "%s: it holds no dict of tensors", m->arrays->path);
    return flatten(m, top, "", 0);
}

static void
release(struct machine *m)
{
    for (size_t i = 0; i < m->count; i++) {
        struct value *value = &m->values[i];
        if (value->type == TUPLE || value->type == LIST || value->type == DICT)
            free(value->items);
        else if (value->type == TENSOR || value->type == STORAGE)
            free(value->tensor);
    }
    free(m->values);
    free(m->stack);
    free(m->memo);
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
    struct machine m = {.arrays = arrays};
    enum status status = zip_open(&m.zip, path);
    if (status == STATUS_DAMAGED)
        return FAIL(DAMAGED,
                    "%s: no file of torch.save since 1.6 (a ZIP archive); save it again "
                    "with a newer torch",
                    path);
    TRY(status);
    arrays->file = m.zip;
    arrays->close = close_zip;
    status = run(&m);
    release(&m);
    return status;
}

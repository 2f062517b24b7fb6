#include "lib/interop/pickle.h"

#include "lib/base/bytes.h"

#include <stdlib.h>
#include <string.h>

enum { VALUES_MOST = 1 << 20 };

struct pickle {
    const char *path;
    const struct pickle_host *host;
    const unsigned char *code;
    size_t size, at;
    struct pickle_value *values;
    size_t count, room;
    uint32_t *stack, *memo;
    size_t depth, stack_room, memo_count, memo_room;
};

enum status
pickle_wrong(const struct pickle *m, const char *what)
{
    return FAIL(DAMAGED, "%s: its pickle, byte %zu: %s", m->path, m->at, what);
}

// ---------------------------------------------------------------- memory

static enum status
grow(void **at, size_t *room, size_t want, size_t size, const struct pickle *m)
{
    if (want <= *room)
        return STATUS_OK;
    size_t more = *room ? 2 * *room : 64;
    more = more < want ? want : more;
    if (more > VALUES_MOST)
        more = VALUES_MOST;
    if (want > more)
        return pickle_wrong(m, "it is too large to be a list of weights");
    void *grown = realloc(*at, more * size);
    if (!grown)
        return FAIL(CREATE, "%s: no memory for its pickle", m->path);
    *at = grown;
    *room = more;
    return STATUS_OK;
}

enum status
pickle_push(struct pickle *m, uint32_t value)
{
    void *at = m->stack;
    TRY(grow(&at, &m->stack_room, m->depth + 1, sizeof *m->stack, m));
    m->stack = at;
    m->stack[m->depth++] = value;
    return STATUS_OK;
}

// A new value, on the stack.
static enum status
make(struct pickle *m, struct pickle_value value)
{
    void *at = m->values;
    TRY(grow(&at, &m->room, m->count + 1, sizeof *m->values, m));
    m->values = at;
    m->values[m->count] = value;
    return pickle_push(m, (uint32_t)m->count++);
}

static enum status
append(struct pickle *m, uint32_t to, const uint32_t *items, size_t count)
{
    struct pickle_value *value = &m->values[to];
    void *at = value->items;
    TRY(grow(&at, &value->room, value->bytes + count, sizeof *items, m));
    value->items = at;
    memcpy(value->items + value->bytes, items, count * sizeof *items);
    value->bytes += count;
    return STATUS_OK;
}

static enum status
pop(struct pickle *m, uint32_t *value)
{
    if (m->depth == 0 || m->values[m->stack[m->depth - 1]].type == PICKLE_MARK)
        return pickle_wrong(m, "nothing to take from the stack");
    *value = m->stack[--m->depth];
    return STATUS_OK;
}

// The items above the last mark; the mark goes too.
static enum status
pop_to_mark(struct pickle *m, const uint32_t **items, size_t *count)
{
    size_t at = m->depth;
    while (at > 0 && m->values[m->stack[at - 1]].type != PICKLE_MARK)
        at--;
    if (at == 0)
        return pickle_wrong(m, "no mark on the stack");
    *items = m->stack + at;
    *count = m->depth - at;
    m->depth = at - 1;
    return STATUS_OK;
}

// ---------------------------------------------------------------- reading the code

static enum status
bytes_of(struct pickle *m, const unsigned char **at, size_t count)
{
    if (count > m->size - m->at)
        return pickle_wrong(m, "cut short");
    *at = m->code + m->at;
    m->at += count;
    return STATUS_OK;
}

static enum status
line_of(struct pickle *m, char out[128])
{
    size_t n = 0;
    while (m->at < m->size && m->code[m->at] != '\n' && n < 127)
        out[n++] = (char)m->code[m->at++];
    out[n] = '\0';
    if (m->at >= m->size || m->code[m->at] != '\n')
        return pickle_wrong(m, "a name without end");
    m->at++;
    return STATUS_OK;
}

// ---------------------------------------------------------------- the host

const struct pickle_value *
pickle_at(const struct pickle *m, uint32_t value)
{
    return &m->values[value];
}

bool
pickle_text_is(const struct pickle_value *value, const char *text)
{
    return value->type == PICKLE_TEXT && value->bytes == strlen(text) &&
           memcmp(value->text, text, value->bytes) == 0;
}

bool
pickle_text(char *out, size_t room, const struct pickle_value *value)
{
    if (value->type != PICKLE_TEXT || value->bytes >= room || memchr(value->text, 0, value->bytes))
        return false;
    memcpy(out, value->text, value->bytes);
    out[value->bytes] = '\0';
    return true;
}

enum status
pickle_push_host(struct pickle *m, int kind, void *object)
{
    void *at = m->values;
    enum status status = grow(&at, &m->room, m->count + 1, sizeof *m->values, m);
    if (status != STATUS_OK) {
        free(object);
        return status;
    }
    m->values = at;
    return make(m, (struct pickle_value){.type = PICKLE_HOST, .host = {object, kind}});
}

enum status
pickle_push_dict(struct pickle *m)
{
    return make(m, (struct pickle_value){.type = PICKLE_DICT});
}

static enum status
name_global(struct pickle *m, const char *module, const char *name)
{
    unsigned global;
    TRY(m->host->global(&global, m->host->context, module, name));
    return make(m, (struct pickle_value){.type = PICKLE_GLOBAL, .global = global});
}

static enum status
stack_global(struct pickle *m)
{
    uint32_t name, module;
    char names[2][128];
    TRY(pop(m, &name));
    TRY(pop(m, &module));
    if (!pickle_text(names[0], 128, &m->values[module]) ||
        !pickle_text(names[1], 128, &m->values[name]))
        return pickle_wrong(m, "a global without a name");
    return name_global(m, names[0], names[1]);
}

static enum status
call(struct pickle *m)
{
    uint32_t arguments, function;
    TRY(pop(m, &arguments));
    TRY(pop(m, &function));
    if (m->values[function].type != PICKLE_GLOBAL || m->values[arguments].type != PICKLE_TUPLE)
        return pickle_wrong(m, "a call of no function, or without arguments");
    return m->host->call(m, m->host->context, m->values[function].global, &m->values[arguments]);
}

static enum status
load(struct pickle *m)
{
    uint32_t id;
    TRY(pop(m, &id));
    return m->host->load(m, m->host->context, &m->values[id]);
}

// ---------------------------------------------------------------- the machine

static enum status
memo_put(struct pickle *m, size_t at)
{
    uint32_t value;
    if (at >= VALUES_MOST)
        return pickle_wrong(m, "a memo number out of range");
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
memo_get(struct pickle *m, size_t at)
{
    if (at >= m->memo_count || m->memo[at] == UINT32_MAX)
        return pickle_wrong(m, "a memo number that nothing has");
    return pickle_push(m, m->memo[at]);
}

static enum status
make_tuple(struct pickle *m, size_t count)
{
    if (count > m->depth)
        return pickle_wrong(m, "nothing to take from the stack");
    uint32_t items[3];
    for (size_t i = count; i-- > 0;)
        TRY(pop(m, &items[i]));
    TRY(make(m, (struct pickle_value){.type = PICKLE_TUPLE}));
    return append(m, m->stack[m->depth - 1], items, count);
}

// Items above the mark into the list, or pairs into the dict, below it.
static enum status
fill(struct pickle *m, enum pickle_type type)
{
    const uint32_t *items;
    size_t count;
    TRY(pop_to_mark(m, &items, &count));
    if (m->depth == 0 || m->values[m->stack[m->depth - 1]].type != type ||
        (type == PICKLE_DICT && count % 2 != 0))
        return pickle_wrong(m, "items for no list, or no pairs for a dict");
    return append(m, m->stack[m->depth - 1], items, count);
}

static enum status
fill_one(struct pickle *m, enum pickle_type type)
{
    uint32_t items[2];
    size_t count = type == PICKLE_DICT ? 2 : 1;
    for (size_t i = count; i-- > 0;)
        TRY(pop(m, &items[i]));
    if (m->depth == 0 || m->values[m->stack[m->depth - 1]].type != type)
        return pickle_wrong(m, "an item for no list or dict");
    return append(m, m->stack[m->depth - 1], items, count);
}

static enum status
long_number(struct pickle *m)
{
    const unsigned char *at;
    TRY(bytes_of(m, &at, 1));
    size_t bytes = at[0];
    TRY(bytes_of(m, &at, bytes));
    if (bytes > 8)
        return pickle_wrong(m, "a number of more than 64 bits");
    uint64_t value = bytes && at[bytes - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return make(m, (struct pickle_value){.type = PICKLE_WHOLE, .whole = (int64_t)value});
}

static enum status
real_number(struct pickle *m)
{
    const unsigned char *at;
    uint64_t bits = 0;
    double real;
    TRY(bytes_of(m, &at, 8)); // big-endian
    for (size_t i = 0; i < 8; i++)
        bits = bits << 8 | at[i];
    memcpy(&real, &bits, sizeof real);
    return make(m, (struct pickle_value){.type = PICKLE_REAL, .real = real});
}

static enum status
words(struct pickle *m, size_t head)
{
    const unsigned char *at;
    TRY(bytes_of(m, &at, head));
    size_t bytes = head == 1 ? at[0] : load_u32(at);
    TRY(bytes_of(m, &at, bytes));
    return make(
        m, (struct pickle_value){.type = PICKLE_TEXT, .text = (const char *)at, .bytes = bytes});
}

static enum status
whole_number(struct pickle *m, size_t bytes)
{
    const unsigned char *at;
    TRY(bytes_of(m, &at, bytes));
    int64_t value = bytes == 1 ? at[0] : bytes == 2 ? load_u16(at) : (int32_t)load_u32(at);
    return make(m, (struct pickle_value){.type = PICKLE_WHOLE, .whole = value});
}

static enum status
memo_at(struct pickle *m, size_t bytes, enum status (*act)(struct pickle *, size_t))
{
    const unsigned char *at;
    TRY(bytes_of(m, &at, bytes));
    return act(m, bytes == 1 ? at[0] : load_u32(at));
}

// One operation; *end at the last.
static enum status
step(struct pickle *m, bool *end)
{
    const unsigned char *at;
    uint32_t value;
    char module[128], name[128];
    TRY(bytes_of(m, &at, 1));
    switch (at[0]) {
    case 0x80: // PROTO
        TRY(bytes_of(m, &at, 1));
        return at[0] <= 5 ? STATUS_OK : pickle_wrong(m, "a protocol above 5");
    case 0x95: // FRAME: only says how much follows
        return bytes_of(m, &at, 8);
    case '(':
        return make(m, (struct pickle_value){.type = PICKLE_MARK});
    case '.':
        *end = true;
        return STATUS_OK;
    case '}':
        return make(m, (struct pickle_value){.type = PICKLE_DICT});
    case ']':
        return make(m, (struct pickle_value){.type = PICKLE_LIST});
    case ')':
        return make(m, (struct pickle_value){.type = PICKLE_TUPLE});
    case 'N':
        return make(m, (struct pickle_value){.type = PICKLE_NONE});
    case 0x88:
    case 0x89:
        return make(m, (struct pickle_value){.type = PICKLE_TRUTH, .whole = at[0] == 0x88});
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
            return FAIL(CREATE, "%s: no memory for its pickle", m->path);
        memcpy(copy, items, count * sizeof *copy);
        enum status status = make(m, (struct pickle_value){.type = PICKLE_TUPLE});
        if (status == STATUS_OK)
            status = append(m, m->stack[m->depth - 1], copy, count);
        free(copy);
        return status;
    }
    case 'u':
        return fill(m, PICKLE_DICT);
    case 'e':
        return fill(m, PICKLE_LIST);
    case 's':
        return fill_one(m, PICKLE_DICT);
    case 'a':
        return fill_one(m, PICKLE_LIST);
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
        return name_global(m, module, name);
    case 0x93:
        return stack_global(m);
    case 'R':
        return call(m);
    case 'Q':
        return load(m);
    case 'b': // a state dict's _metadata: versions of modules
        TRY(pop(m, &value));
        if (m->depth == 0 || m->values[m->stack[m->depth - 1]].type != PICKLE_DICT)
            return pickle_wrong(m, "an object that is no dict is built");
        return STATUS_OK;
    default:
        return FAIL(DAMAGED,
                    "%s: its pickle, byte %zu: operation 0x%02x, which no list of weights "
                    "needs; save a state dict of plain tensors",
                    m->path, m->at - 1, at[0]);
    }
}

// ---------------------------------------------------------------- life

enum status
pickle_new(struct pickle **out, const char *path, const unsigned char *code, size_t size,
           const struct pickle_host *host)
{
    struct pickle *m = calloc(1, sizeof *m);
    *out = m;
    if (!m)
        return FAIL(CREATE, "%s: no memory for its pickle", path);
    m->path = path;
    m->host = host;
    m->code = code;
    m->size = size;
    return STATUS_OK;
}

void
pickle_free(struct pickle **pickle)
{
    struct pickle *m = *pickle;
    if (!m)
        return;
    for (size_t i = 0; i < m->count; i++) {
        struct pickle_value *value = &m->values[i];
        if (value->type == PICKLE_TUPLE || value->type == PICKLE_LIST || value->type == PICKLE_DICT)
            free(value->items);
        else if (value->type == PICKLE_HOST)
            free(value->host.at);
    }
    free(m->values);
    free(m->stack);
    free(m->memo);
    free(m);
    *pickle = NULL;
}

enum status
pickle_run(struct pickle *m, uint32_t *top)
{
    for (bool end = false; !end;)
        TRY(step(m, &end));
    return pop(m, top);
}

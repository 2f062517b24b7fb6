#include "proto/frame.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include <msgpack.h>

struct codec {
    struct hasher *hasher;
    msgpack_zone *zone;
};

enum status
codec_new(struct codec **out)
{
    struct codec *codec = calloc(1, sizeof *codec);
    if (codec) {
        codec->hasher = hasher_new();
        codec->zone = msgpack_zone_new(256 * 1024); // holds 4,096 nodes: never grows
    }
    *out = codec;
    if (!codec || !codec->hasher || !codec->zone) {
        codec_free(out);
        return FAIL(CREATE, "codec: out of memory");
    }
    return STATUS_OK;
}

void
codec_free(struct codec **codec)
{
    if (*codec) {
        hasher_free(&(*codec)->hasher);
        if ((*codec)->zone)
            msgpack_zone_free((*codec)->zone);
        free(*codec);
    }
    *codec = NULL;
}

static uint32_t
frame_hash(struct codec *codec, const unsigned char *at, size_t bytes)
{
    hasher_reset(codec->hasher);
    hasher_add(codec->hasher, at, 4);
    hasher_add(codec->hasher, at + FRAME_HEAD, bytes - FRAME_HEAD);
    return (uint32_t)hasher_64(codec->hasher);
}

static bool
name_valid(const char *text)
{
    if (*text == '\0' || *text == '.')
        return false;
    for (; *text; text++)
        if (!((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
              (*text >= '0' && *text <= '9') || *text == '.' || *text == '_' || *text == '-'))
            return false;
    return true;
}

// ---- encoding

struct sink {
    unsigned char *at;
    size_t used, room;
    bool full;
};

static int
sink_write(void *data, const char *at, size_t bytes)
{
    struct sink *sink = data;
    if (sink->full || bytes > sink->room - sink->used) {
        sink->full = true;
        return -1;
    }
    memcpy(sink->at + sink->used, at, bytes);
    sink->used += bytes;
    return 0;
}

static void
pack_text(msgpack_packer *packer, const char *text)
{
    size_t bytes = strlen(text);
    msgpack_pack_str(packer, bytes);
    msgpack_pack_str_body(packer, text, bytes);
}

static void
pack_bytes(msgpack_packer *packer, const void *at, size_t bytes)
{
    msgpack_pack_bin(packer, bytes);
    msgpack_pack_bin_body(packer, at, bytes);
}

// An optional member that is zero is left out.
static bool
is_absent(const void *object, const struct field *row)
{
    const unsigned char *at = (const unsigned char *)object + row->offset;
    if (!(row->flags & FIELD_OPTIONAL))
        return false;
    size_t bytes = row->type == FIELD_TEXT    ? 1
                   : row->type == FIELD_TEXTS ? sizeof(size_t)
                                              : row->bytes;
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != 0)
            return false;
    return true;
}

static void
pack_value(msgpack_packer *packer, const void *object, const struct field *row)
{
    const void *at = (const char *)object + row->offset;
    switch (row->type) {
    case FIELD_BOOL:
        *(const bool *)at ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
        break;
    case FIELD_U16:
        msgpack_pack_uint16(packer, *(const uint16_t *)at);
        break;
    case FIELD_U32:
        msgpack_pack_uint32(packer, *(const uint32_t *)at);
        break;
    case FIELD_U64:
        msgpack_pack_uint64(packer, *(const uint64_t *)at);
        break;
    case FIELD_I64:
        msgpack_pack_int64(packer, *(const int64_t *)at);
        break;
    case FIELD_F32:
        msgpack_pack_float(packer, *(const float *)at);
        break;
    case FIELD_F64:
        msgpack_pack_double(packer, *(const double *)at);
        break;
    case FIELD_CHOICE:
        pack_text(packer, row->choices[*(const int *)at]);
        break;
    case FIELD_TEXT:
        pack_text(packer, at);
        break;
    case FIELD_TEXTS: {
        const struct texts *list = at;
        msgpack_pack_array(packer, list->count);
        for (size_t i = 0; i < list->count; i++)
            pack_text(packer, list->at[i]);
        break;
    }
    case FIELD_HASH128: // low word first, each little-endian: as it lies in memory
    case FIELD_BYTES:
        pack_bytes(packer, at, row->bytes);
        break;
    }
}

static size_t
rows_present(const void *object, const struct field *rows, size_t count)
{
    size_t present = 0;
    for (size_t i = 0; i < count; i++)
        present += !is_absent(object, &rows[i]);
    return present;
}

static void
pack_rows(msgpack_packer *packer, const void *object, const struct field *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!is_absent(object, &rows[i])) {
            pack_text(packer, rows[i].name);
            pack_value(packer, object, &rows[i]);
        }
}

static enum status
rows_check(const void *object, const struct field *rows, size_t count, const char *where)
{
    for (size_t i = 0; i < count; i++) {
        if (is_absent(object, &rows[i]))
            continue;
        TRY(field_check(object, &rows[i], where));
        const char *text = (const char *)object + rows[i].offset;
        if ((rows[i].flags & FIELD_NAME) && !name_valid(text))
            return FAIL(DAMAGED,
                        "%s: %s is '%.64s', wanted letters, digits, . _ - and no dot first", where,
                        rows[i].name, text);
    }
    return STATUS_OK;
}

static void
pack_named(msgpack_packer *packer, const struct named *list)
{
    msgpack_pack_map(packer, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        const struct named_value *value = &list->at[i];
        pack_text(packer, value->name);
        switch ((enum named_type)value->type) {
        case NAMED_REAL:
            isfinite(value->real) ? msgpack_pack_double(packer, value->real)
                                  : msgpack_pack_nil(packer);
            break;
        case NAMED_WHOLE:
            msgpack_pack_int64(packer, value->whole);
            break;
        case NAMED_FLAG:
            value->flag ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
            break;
        case NAMED_WORDS:
            pack_text(packer, list->text + value->text);
            break;
        }
    }
}

enum status
message_encode(struct codec *codec, unsigned char *out, size_t room, size_t *bytes,
               enum message_type type, const void *object)
{
    struct message_info info = message_info(type);
    const struct named *map = NULL;
    size_t items = 0;
    *bytes = 0;
    if (rows_check(object, info.rows, info.row_count, info.name) != STATUS_OK)
        return FAIL(INTERNAL, "cannot send %s", status_words());
    if (info.map_key) {
        map = (const struct named *)(const void *)((const char *)object + info.map_at);
        if (map->lost > 0 || map->count > info.map_most)
            return FAIL(INTERNAL,
                        "cannot send %s: %s has %u values and lost %u, wanted at most %zu",
                        info.name, info.map_key, map->count, map->lost, info.map_most);
    }
    if (info.list) {
        memcpy(&items, (const char *)object + info.list->count, sizeof items);
        if (items > info.list->most)
            return FAIL(INTERNAL, "cannot send %s: %zu elements, wanted at most %zu", info.name,
                        items, info.list->most);
    }
    if (room < FRAME_LEAST)
        return FAIL(INTERNAL, "cannot send %s: no room", info.name);

    struct sink sink = {out, FRAME_HEAD, room < info.most ? room : info.most, false};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &sink, sink_write);
    msgpack_pack_map(&packer, rows_present(object, info.rows, info.row_count) +
                                  (map && map->count > 0) + (items > 0));
    pack_rows(&packer, object, info.rows, info.row_count);
    if (map && map->count > 0) {
        pack_text(&packer, info.map_key);
        pack_named(&packer, map);
    }
    if (items > 0) {
        pack_text(&packer, info.list->key);
        msgpack_pack_array(&packer, items);
        for (size_t i = 0; i < items; i++) {
            const char *item = (const char *)object + info.list->items + i * info.list->item_bytes;
            if (rows_check(item, info.list->rows, info.list->row_count, info.name) != STATUS_OK)
                return FAIL(INTERNAL, "cannot send %s", status_words());
            msgpack_pack_map(&packer, rows_present(item, info.list->rows, info.list->row_count));
            pack_rows(&packer, item, info.list->rows, info.list->row_count);
        }
    }
    if (sink.full)
        return FAIL(INTERNAL, "cannot send %s: more than %zu bytes", info.name, sink.room);
    out[0] = 'O';
    out[1] = 'S';
    out[2] = PROTOCOL_VERSION;
    out[3] = info.code;
    uint32_t hash = frame_hash(codec, out, sink.used);
    memcpy(out + 4, &hash, sizeof hash);
    *bytes = sink.used;
    return STATUS_OK;
}

// ---- decoding

static enum status
refused(enum refusal *why, enum refusal code, enum status status)
{
    if (why)
        *why = code;
    return status;
}

enum status
message_check(struct codec *codec, const unsigned char *at, size_t bytes, enum message_link link,
              enum message_from from, enum message_type *type, enum refusal *why)
{
    if (bytes < FRAME_LEAST || bytes > FRAME_MOST)
        return refused(
            why, bytes > FRAME_MOST ? REFUSAL_TOOBIG : REFUSAL_MALFORMED,
            FAIL(DAMAGED, "message: %zu bytes, wanted %d to %d", bytes, FRAME_LEAST, FRAME_MOST));
    if (at[0] != 'O' || at[1] != 'S')
        return refused(why, REFUSAL_MALFORMED,
                       FAIL(DAMAGED, "message: begins with 0x%02x%02x, wanted 'OS'", at[0], at[1]));
    int found = -1;
    struct message_info info = {0};
    for (int i = 0; i < MESSAGE_COUNT && found < 0; i++) {
        info = message_info((enum message_type)i);
        if (info.code == at[3])
            found = i;
    }
    if (found < 0)
        return refused(why, REFUSAL_MALFORMED,
                       FAIL(DAMAGED, "message: type 0x%02x is unknown", at[3]));
    if (!(info.links & (unsigned)link) || !(info.from & (unsigned)from))
        return refused(why, REFUSAL_ROLE,
                       FAIL(DAMAGED, "message: %s may not be said here", info.name));
    if (bytes > info.most)
        return refused(why, REFUSAL_TOOBIG,
                       FAIL(DAMAGED, "message: %s of %zu bytes, wanted at most %zu", info.name,
                            bytes, info.most));
    uint32_t hash = frame_hash(codec, at, bytes);
    if (hash != load_u32(at + 4))
        return refused(why, REFUSAL_MALFORMED,
                       FAIL(DAMAGED, "message: %s has hash %08x, wanted %08x", info.name,
                            load_u32(at + 4), hash));
    if (at[2] != PROTOCOL_VERSION)
        return refused(why, REFUSAL_VERSION,
                       FAIL(DAMAGED, "message: %s of protocol version %u, wanted %d", info.name,
                            at[2], PROTOCOL_VERSION));
    *type = (enum message_type)found;
    return STATUS_OK;
}

static bool
text_read(char *out, size_t room, const msgpack_object *value)
{
    if (value->type != MSGPACK_OBJECT_STR || value->via.str.size >= room ||
        !utf8_valid(value->via.str.ptr, value->via.str.size))
        return false;
    for (uint32_t i = 0; i < value->via.str.size; i++)
        if ((unsigned char)value->via.str.ptr[i] < 0x20 || value->via.str.ptr[i] == 0x7f)
            return false;
    memcpy(out, value->via.str.ptr, value->via.str.size);
    memset(out + value->via.str.size, 0, room - value->via.str.size);
    return true;
}

static bool
real_read(double *out, const msgpack_object *value)
{
    switch (value->type) {
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        *out = (double)value->via.u64;
        return true;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        *out = (double)value->via.i64;
        return true;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        *out = value->via.f64;
        return isfinite(*out);
    default:
        return false;
    }
}

// The value into the member, if it has the type and fits the width; ranges come after.
static bool
value_read(void *object, const struct field *row, const msgpack_object *value)
{
    void *at = (char *)object + row->offset;
    bool whole = value->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
    double real;
    switch (row->type) {
    case FIELD_BOOL:
        if (value->type != MSGPACK_OBJECT_BOOLEAN)
            return false;
        *(bool *)at = value->via.boolean;
        return true;
    case FIELD_U16:
        *(uint16_t *)at = (uint16_t)value->via.u64;
        return whole && value->via.u64 <= UINT16_MAX;
    case FIELD_U32:
        *(uint32_t *)at = (uint32_t)value->via.u64;
        return whole && value->via.u64 <= UINT32_MAX;
    case FIELD_U64:
        *(uint64_t *)at = value->via.u64;
        return whole;
    case FIELD_I64:
        *(int64_t *)at = value->via.i64;
        return (whole && value->via.u64 <= INT64_MAX) ||
               value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER;
    case FIELD_F32:
        if (!real_read(&real, value) || fabs(real) > 3.4028234663852886e38)
            return false;
        *(float *)at = (float)real;
        return true;
    case FIELD_F64:
        return real_read(at, value);
    case FIELD_CHOICE:
        if (value->type != MSGPACK_OBJECT_STR)
            return false;
        for (int i = 0; row->choices[i]; i++)
            if (strlen(row->choices[i]) == value->via.str.size &&
                memcmp(row->choices[i], value->via.str.ptr, value->via.str.size) == 0) {
                *(int *)at = i;
                return true;
            }
        return false;
    case FIELD_TEXT:
        return text_read(at, row->bytes, value) && (!(row->flags & FIELD_NAME) || name_valid(at));
    case FIELD_TEXTS: {
        struct texts *list = at;
        if (value->type != MSGPACK_OBJECT_ARRAY || value->via.array.size > TEXTS_MOST)
            return false;
        list->count = value->via.array.size;
        for (size_t i = 0; i < list->count; i++)
            if (!text_read(list->at[i], TEXT_BYTES, &value->via.array.ptr[i]))
                return false;
        return true;
    }
    case FIELD_HASH128:
    case FIELD_BYTES:
        if (value->type != MSGPACK_OBJECT_BIN || value->via.bin.size != row->bytes)
            return false;
        memcpy(at, value->via.bin.ptr, row->bytes);
        return true;
    }
    return false;
}

static bool
key_valid(const msgpack_object *key)
{
    if (key->type != MSGPACK_OBJECT_STR)
        return false;
    uint32_t marked = key->via.str.size > 0 && key->via.str.ptr[0] == '!';
    uint32_t bytes = key->via.str.size - marked;
    if (bytes < 1 || bytes > 8)
        return false;
    for (uint32_t i = 0; i < bytes; i++) {
        char c = key->via.str.ptr[marked + i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

static bool
key_is(const msgpack_object *key, const char *name)
{
    return strlen(name) == key->via.str.size &&
           memcmp(name, key->via.str.ptr, key->via.str.size) == 0;
}

static bool
keys_same(const msgpack_object *a, const msgpack_object *b)
{
    return a->via.str.size == b->via.str.size &&
           memcmp(a->via.str.ptr, b->via.str.ptr, a->via.str.size) == 0;
}

enum { KEYS_MOST = 64 };

// A map into a struct. What the rows do not name goes to `extra` (may be NULL), which says whether
// it knew the key; *bad is set when its value was wrong.
static enum status
rows_read(void *object, const struct field *rows, size_t count, const msgpack_object *map,
          const char *where,
          bool (*extra)(void *self, const msgpack_object *key, const msgpack_object *value,
                        bool *bad),
          void *self)
{
    uint64_t seen = 0;
    assert(count <= KEYS_MOST);
    if (map->type != MSGPACK_OBJECT_MAP || map->via.map.size > KEYS_MOST)
        return FAIL(DAMAGED, "%s: not a map of at most %d keys", where, KEYS_MOST);
    for (uint32_t e = 0; e < map->via.map.size; e++) {
        const msgpack_object *key = &map->via.map.ptr[e].key, *value = &map->via.map.ptr[e].val;
        if (!key_valid(key))
            return FAIL(DAMAGED, "%s: key %u is not 1 to 8 letters", where, e);
        int shown = (int)key->via.str.size;
        for (uint32_t f = 0; f < e; f++)
            if (keys_same(key, &map->via.map.ptr[f].key))
                return FAIL(DAMAGED, "%s: key %.*s twice", where, shown, key->via.str.ptr);
        size_t r = 0;
        while (r < count && !key_is(key, rows[r].name))
            r++;
        if (r < count) {
            if (value->type == MSGPACK_OBJECT_NIL)
                continue; // absent
            if (!value_read(object, &rows[r], value))
                return FAIL(DAMAGED, "%s: %s has the wrong type, size or characters", where,
                            rows[r].name);
            TRY(field_check(object, &rows[r], where));
            seen |= (uint64_t)1 << r;
            continue;
        }
        bool bad = false;
        bool known = extra && extra(self, key, value, &bad);
        if (bad)
            return FAIL(DAMAGED, "%s: %.*s is not what it should be", where, shown,
                        key->via.str.ptr);
        if (!known && key->via.str.ptr[0] == '!')
            return FAIL(DAMAGED, "%s: %.*s must be understood and is not", where, shown,
                        key->via.str.ptr);
    }
    for (size_t r = 0; r < count; r++)
        if (!(seen >> r & 1) && !(rows[r].flags & FIELD_OPTIONAL))
            return FAIL(DAMAGED, "%s: %s is missing", where, rows[r].name);
    return STATUS_OK;
}

// Duplicates are found through a small hash table: 512 names, 1,024 places.
static bool
named_read(struct named *list, size_t most, const msgpack_object *map)
{
    uint16_t places[1024] = {0};
    if (map->type != MSGPACK_OBJECT_MAP || map->via.map.size > most)
        return false;
    for (uint32_t e = 0; e < map->via.map.size; e++) {
        const msgpack_object *key = &map->via.map.ptr[e].key, *value = &map->via.map.ptr[e].val;
        char name[NAMED_NAME], text[TEXT_BYTES];
        if (key->type != MSGPACK_OBJECT_STR ||
            !named_name_valid(key->via.str.ptr, key->via.str.size))
            return false;
        memcpy(name, key->via.str.ptr, key->via.str.size);
        name[key->via.str.size] = '\0';
        size_t place = hash64(name, key->via.str.size) % 1024;
        for (; places[place]; place = (place + 1) % 1024)
            if (strcmp(list->at[places[place] - 1].name, name) == 0)
                return false;
        places[place] = (uint16_t)(list->count + 1);
        switch (value->type) {
        case MSGPACK_OBJECT_NIL:
            named_real(list, name, (double)NAN);
            break;
        case MSGPACK_OBJECT_BOOLEAN:
            named_flag(list, name, value->via.boolean);
            break;
        case MSGPACK_OBJECT_POSITIVE_INTEGER:
            if (value->via.u64 > INT64_MAX)
                return false;
            named_whole(list, name, (int64_t)value->via.u64);
            break;
        case MSGPACK_OBJECT_NEGATIVE_INTEGER:
            named_whole(list, name, value->via.i64);
            break;
        case MSGPACK_OBJECT_FLOAT32:
        case MSGPACK_OBJECT_FLOAT64:
            if (!isfinite(value->via.f64))
                return false;
            named_real(list, name, value->via.f64);
            break;
        case MSGPACK_OBJECT_STR:
            if (!text_read(text, sizeof text, value))
                return false;
            named_words(list, name, text);
            break;
        default:
            return false;
        }
    }
    return list->lost == 0;
}

struct extra {
    const struct message_info *info;
    void *object;
};

static bool
extra_read(void *self, const msgpack_object *key, const msgpack_object *value, bool *bad)
{
    struct extra *extra = self;
    const struct message_info *info = extra->info;
    char *object = extra->object;
    if (info->map_key && key_is(key, info->map_key)) {
        if (value->type != MSGPACK_OBJECT_NIL)
            *bad =
                !named_read((struct named *)(void *)(object + info->map_at), info->map_most, value);
        return true;
    }
    if (!info->list || !key_is(key, info->list->key))
        return false;
    if (value->type == MSGPACK_OBJECT_NIL)
        return true;
    *bad = value->type != MSGPACK_OBJECT_ARRAY || value->via.array.size > info->list->most;
    for (uint32_t i = 0; !*bad && i < value->via.array.size; i++)
        *bad = rows_read(object + info->list->items + i * info->list->item_bytes, info->list->rows,
                         info->list->row_count, &value->via.array.ptr[i], info->name, NULL,
                         NULL) != STATUS_OK;
    if (!*bad) {
        size_t count = value->via.array.size;
        memcpy(object + info->list->count, &count, sizeof count);
    }
    return true;
}

enum status
message_decode(struct codec *codec, const unsigned char *at, size_t bytes, enum message_type type,
               void *object, enum refusal *why)
{
    struct message_info info = message_info(type);
    assert(bytes >= FRAME_LEAST && at[3] == info.code);
    memset(object, 0, info.bytes);
    if (!message_precheck(at + FRAME_HEAD, bytes - FRAME_HEAD, info.nodes))
        return refused(why, REFUSAL_MALFORMED,
                       FAIL(DAMAGED, "message: %s is not one bounded msgpack map", info.name));
    msgpack_object map;
    size_t offset = 0;
    msgpack_zone_clear(codec->zone);
    if (msgpack_unpack((const char *)at + FRAME_HEAD, bytes - FRAME_HEAD, &offset, codec->zone,
                       &map) != MSGPACK_UNPACK_SUCCESS)
        return refused(why, REFUSAL_MALFORMED,
                       FAIL(DAMAGED, "message: %s cannot be unpacked", info.name));
    struct extra extra = {&info, object};
    enum status status =
        rows_read(object, info.rows, info.row_count, &map, info.name, extra_read, &extra);
    if (status != STATUS_OK) {
        memset(object, 0, info.bytes);
        return refused(why, REFUSAL_SCHEMA, FAIL(DAMAGED, "message %s", status_words()));
    }
    return STATUS_OK;
}

enum status
message_read(struct codec *codec, const unsigned char *at, size_t bytes, enum message_link link,
             enum message_from from, struct message *out, enum refusal *why)
{
    enum message_type type;
    TRY(message_check(codec, at, bytes, link, from, &type, why));
    if (!message_is_small(type))
        return refused(why, REFUSAL_ROLE, FAIL(DAMAGED, "message: type 0x%02x not here", at[3]));
    TRY(message_decode(codec, at, bytes, type, &out->hello, why));
    out->type = type;
    return STATUS_OK;
}

#include "proto/frame_inside.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

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

uint32_t
frame_hash(struct codec *codec, const unsigned char *at, size_t bytes)
{
    hasher_reset(codec->hasher);
    hasher_add(codec->hasher, at, 4);
    hasher_add(codec->hasher, at + FRAME_HEAD, bytes - FRAME_HEAD);
    return (uint32_t)hasher_64(codec->hasher);
}

bool
frame_name_valid(const char *text)
{
    if (*text == '\0' || *text == '.')
        return false;
    for (; *text; text++)
        if (!((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
              (*text >= '0' && *text <= '9') || *text == '.' || *text == '_' || *text == '-'))
            return false;
    return true;
}

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
        return text_read(at, row->bytes, value) &&
               (!(row->flags & FIELD_NAME) || frame_name_valid(at));
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

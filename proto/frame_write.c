// A struct as a frame: the rows say how (messages.h).
#include "proto/frame_inside.h"

#include <math.h>
#include <string.h>

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
        if ((rows[i].flags & FIELD_NAME) && !frame_name_valid(text))
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

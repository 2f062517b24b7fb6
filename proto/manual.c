// docs/protocol.md's tables, from the rows.
#include "proto/frame.h"

#include <stdio.h>

static const char *
wire_type(const struct field *row, char *room, size_t bytes)
{
    switch (row->type) {
    case FIELD_BOOL:
        return "bool";
    case FIELD_U16:
    case FIELD_U32:
    case FIELD_U64:
        if (row->high >= 18446744073709551615.0)
            return "u64";
        snprintf(room, bytes, "int %.0f..%.0f", row->low, row->high);
        return room;
    case FIELD_I64:
        return "i64";
    case FIELD_F32:
    case FIELD_F64:
        snprintf(room, bytes, "real %g..%g", row->low, row->high);
        return room;
    case FIELD_CHOICE: {
        size_t used = 0;
        for (int i = 0; row->choices[i] && used < bytes; i++)
            used +=
                (size_t)snprintf(room + used, bytes - used, "%s%s", i ? ", " : "", row->choices[i]);
        return room;
    }
    case FIELD_TEXT:
        snprintf(room, bytes, "%s of at most %zu bytes", row->flags & FIELD_NAME ? "name" : "text",
                 row->bytes - 1);
        return room;
    case FIELD_TEXTS:
        snprintf(room, bytes, "array of at most %d texts", TEXTS_MOST);
        return room;
    case FIELD_HASH128:
    case FIELD_BYTES:
        snprintf(room, bytes, "%zu bytes", row->bytes);
        return room;
    }
    return "?";
}

static void
rows_print(FILE *out, const struct field *rows, size_t count)
{
    char room[160];
    for (size_t i = 0; i < count; i++)
        fprintf(out, "| `%s`%s | %s | %s |\n", rows[i].name,
                rows[i].flags & FIELD_OPTIONAL ? "?" : "", wire_type(&rows[i], room, sizeof room),
                rows[i].doc);
}

static void
links_print(FILE *out, unsigned links)
{
    static const char *const names[] = {"data", "ctl", "blob", "pub"};
    const char *comma = "";
    for (int i = 0; i < 4; i++)
        if (links & 1u << i) {
            fprintf(out, "%s%s", comma, names[i]);
            comma = ", ";
        }
}

void
messages_print(void *file)
{
    static const char *const from[] = {"", "client", "server", "both"};
    FILE *out = file;
    fprintf(out, "| code | message | said by | socket | most bytes | meaning |\n"
                 "|---|---|---|---|---|---|\n");
    for (int i = 0; i < MESSAGE_COUNT; i++) {
        struct message_info info = message_info((enum message_type)i);
        fprintf(out, "| 0x%02x | %s | %s | ", info.code, info.name, from[info.from]);
        links_print(out, info.links);
        fprintf(out, " | %zu | %s |\n", info.most, info.doc);
    }
    for (int i = 0; i < MESSAGE_COUNT; i++) {
        struct message_info info = message_info((enum message_type)i);
        fprintf(out, "\n### %s\n\n| key | value | meaning |\n|---|---|---|\n", info.name);
        rows_print(out, info.rows, info.row_count);
        if (info.map_key)
            fprintf(out, "| `%s`? | map of at most %zu names to numbers, texts, bools | |\n",
                    info.map_key, info.map_most);
        if (info.list) {
            fprintf(out, "| `%s`? | array of at most %zu maps, each: | |\n", info.list->key,
                    info.list->most);
            rows_print(out, info.list->rows, info.list->row_count);
        }
    }
    fprintf(out, "\n## Codes of ERR, DETACHED and REPLY\n\n| code | name | meaning |\n"
                 "|---|---|---|\n");
#define E(name, code, text) fprintf(out, "| %d | E_%s | %s |\n", code, #name, text);
    REFUSAL_LIST(E)
#undef E
}

#include "lib/base/field.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool
utf8_valid(const char *at, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)at;
    for (size_t i = 0; i < bytes;) {
        unsigned char c = s[i];
        size_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : 3;
        if (more == 3 && (c < 0xf0 || c > 0xf4))
            return false;
        if (more > bytes - i - 1)
            return false;
        for (size_t j = 1; j <= more; j++)
            if ((s[i + j] & 0xc0) != 0x80)
                return false;
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) ||
            (c == 0xf0 && s[i + 1] < 0x90) || (c == 0xf4 && s[i + 1] > 0x8f))
            return false;
        i += more + 1;
    }
    return true;
}

static bool
is_integer(enum field_type type)
{
    return type == FIELD_U16 || type == FIELD_U32 || type == FIELD_U64 || type == FIELD_I64;
}

static void *
member(void *object, const struct field *row)
{
    return (char *)object + row->offset;
}

static const void *
member_const(const void *object, const struct field *row)
{
    return (const char *)object + row->offset;
}

static enum status
out_of_range(const char *where, const struct field *row, const char *text)
{
    const char *kind = is_integer(row->type) ? "an integer" : "a number";
    return FAIL(CONFIG, "%s: %s is '%.80s', wanted %s from %.10g to %.10g", where, row->name, text,
                kind, row->low, row->high);
}

static void
number_store(void *at, enum field_type type, int64_t whole, double real)
{
    switch (type) {
    case FIELD_U16:
        *(uint16_t *)at = (uint16_t)whole;
        break;
    case FIELD_U32:
        *(uint32_t *)at = (uint32_t)whole;
        break;
    case FIELD_U64:
        *(uint64_t *)at = (uint64_t)whole;
        break;
    case FIELD_I64:
        *(int64_t *)at = whole;
        break;
    case FIELD_F32:
        *(float *)at = (float)real;
        break;
    default:
        assert(type == FIELD_F64);
        *(double *)at = real;
    }
}

// "64MiB" -> 64 * 2^20 for rows of sizes; others take no suffix.
static enum status
parse_integer(void *object, const struct field *row, const char *text, const char *where)
{
    char *end = NULL;
    errno = 0;
    long long whole = strtoll(text, &end, 10);
    bool bad = end == text || errno != 0 || isspace((unsigned char)*text);
    if (!bad && (row->flags & FIELD_SIZE) && *end) {
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
        int shift = -1;
        for (int i = 0; i < 5; i++)
            if (strcmp(end, units[i]) == 0)
                shift = 10 * i;
        bad = shift < 0 || __builtin_mul_overflow(whole, 1LL << shift, &whole);
    } else if (!bad) {
        bad = *end != '\0';
    }
    if (bad || (double)whole < row->low || (double)whole > row->high)
        return out_of_range(where, row, text);
    number_store(member(object, row), row->type, whole, 0);
    return STATUS_OK;
}

static enum status
parse_real(void *object, const struct field *row, const char *text, const char *where)
{
    char *end = NULL;
    double real = strtod(text, &end);
    // A hexadecimal or infinite literal is a typing error in a config, not a wish.
    if (end == text || *end != '\0' || isspace((unsigned char)*text) || strpbrk(text, "xXnN") ||
        !(real >= row->low && real <= row->high))
        return out_of_range(where, row, text);
    number_store(member(object, row), row->type, 0, real);
    return STATUS_OK;
}

static enum status
parse_choice(void *object, const struct field *row, const char *text, const char *where)
{
    char all[256] = "";
    for (int i = 0; row->choices[i]; i++) {
        if (strcmp(row->choices[i], text) == 0) {
            *(int *)member(object, row) = i;
            return STATUS_OK;
        }
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", used ? ", " : "", row->choices[i]);
    }
    return FAIL(CONFIG, "%s: %s is '%.80s', wanted one of %s", where, row->name, text, all);
}

static enum status
text_fits(const struct field *row, const char *text, size_t room, const char *where)
{
    size_t length = strlen(text);
    if (length >= room)
        return FAIL(CONFIG, "%s: %s has %zu bytes, wanted at most %zu", where, row->name, length,
                    room - 1);
    if (!utf8_valid(text, length))
        return FAIL(CONFIG, "%s: %s is not valid UTF-8", where, row->name);
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return FAIL(CONFIG, "%s: %s holds a control byte (0x%02x)", where, row->name,
                        (unsigned)(unsigned char)*c);
    return STATUS_OK;
}

enum status
field_parse(void *object, const struct field *row, const char *text, const char *where)
{
    void *at = member(object, row);
    if ((row->flags & FIELD_AUTO) && strcmp(text, "auto") == 0) {
        memset(at, 0, row->bytes);
        return STATUS_OK;
    }
    switch (row->type) {
    case FIELD_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return FAIL(CONFIG, "%s: %s is '%.80s', wanted true or false", where, row->name, text);
        *(bool *)at = text[0] == 't';
        return STATUS_OK;
    case FIELD_U16:
    case FIELD_U32:
    case FIELD_U64:
    case FIELD_I64:
        return parse_integer(object, row, text, where);
    case FIELD_F32:
    case FIELD_F64:
        return parse_real(object, row, text, where);
    case FIELD_CHOICE:
        return parse_choice(object, row, text, where);
    case FIELD_TEXT:
        TRY(text_fits(row, text, row->bytes, where));
        memset(at, 0, row->bytes);
        memcpy(at, text, strlen(text));
        return STATUS_OK;
    case FIELD_TEXTS: {
        struct texts *list = at;
        TRY(text_fits(row, text, TEXT_BYTES, where));
        if (list->count == TEXTS_MOST)
            return FAIL(CONFIG, "%s: %s has more than %d elements", where, row->name, TEXTS_MOST);
        memcpy(list->at[list->count++], text, strlen(text) + 1);
        return STATUS_OK;
    }
    case FIELD_HASH128:
        if (!hex128_parse(at, text))
            return FAIL(CONFIG, "%s: %s is '%.80s', wanted 32 hex digits", where, row->name, text);
        return STATUS_OK;
    case FIELD_BYTES:
        break;
    }
    return FAIL(CONFIG, "%s: %s cannot be written as text", where, row->name);
}

enum status
field_presets(void *object, const struct field *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!rows[i].preset)
            continue;
        if (rows[i].type != FIELD_TEXTS) {
            TRY(field_parse(object, &rows[i], rows[i].preset, "preset"));
            continue;
        }
        memset(member(object, &rows[i]), 0, rows[i].bytes);
        char copy[1024], *rest = copy;
        snprintf(copy, sizeof copy, "%s", rows[i].preset);
        for (char *part; (part = strsep(&rest, ",")) != NULL;) {
            part += strspn(part, " ");
            if (*part)
                TRY(field_parse(object, &rows[i], part, "preset"));
        }
    }
    return STATUS_OK;
}

static void
print_size(char *out, size_t room, uint64_t bytes)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    while (unit < 4 && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, room, "%" PRIu64 "%s", bytes, units[unit]);
}

// The shortest decimal that reads back to the same bits, as people write it: 20000, 0.04, 7e-6.
static void
print_real(char *out, size_t room, double real, bool single)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, room, "%.*g", digits, real);
        double back = strtod(out, NULL);
        if (single ? (float)back == (float)real : back == real)
            break;
    }
    char *e = strchr(out, 'e');
    if (!e)
        return;
    if (e[1] == '+' && fabs(real) < 1e9) { // such a number is whole
        snprintf(out, room, "%.0f", real);
        return;
    }
    size_t zeros = strspn(e + 2, "0");
    memmove(e + 2, e + 2 + zeros, strlen(e + 2 + zeros) + 1);
}

void
field_print(char *out, size_t room, const void *object, const struct field *row)
{
    const void *at = member_const(object, row);
    switch (row->type) {
    case FIELD_BOOL:
        snprintf(out, room, "%s", *(const bool *)at ? "true" : "false");
        return;
    case FIELD_U16:
    case FIELD_U32:
    case FIELD_U64: {
        uint64_t value = row->type == FIELD_U16   ? *(const uint16_t *)at
                         : row->type == FIELD_U32 ? *(const uint32_t *)at
                                                  : *(const uint64_t *)at;
        if (row->flags & FIELD_AUTO && value == 0)
            snprintf(out, room, "auto");
        else if (row->flags & FIELD_SIZE)
            print_size(out, room, value);
        else
            snprintf(out, room, "%" PRIu64, value);
        return;
    }
    case FIELD_I64:
        snprintf(out, room, "%" PRId64, *(const int64_t *)at);
        return;
    case FIELD_F32:
        if (row->flags & FIELD_AUTO && !(*(const float *)at > 0 || *(const float *)at < 0))
            snprintf(out, room, "auto");
        else
            print_real(out, room, (double)*(const float *)at, true);
        return;
    case FIELD_F64:
        if (row->flags & FIELD_AUTO && !(*(const double *)at > 0 || *(const double *)at < 0))
            snprintf(out, room, "auto");
        else
            print_real(out, room, *(const double *)at, false);
        return;
    case FIELD_CHOICE:
        snprintf(out, room, "%s", row->choices[*(const int *)at]);
        return;
    case FIELD_TEXT:
        snprintf(out, room, "%s", (const char *)at);
        return;
    case FIELD_TEXTS: {
        const struct texts *list = at;
        size_t used = 0;
        out[0] = '\0';
        for (size_t i = 0; i < list->count && used < room; i++)
            used += (size_t)snprintf(out + used, room - used, "%s%s", i ? ", " : "", list->at[i]);
        return;
    }
    case FIELD_HASH128: {
        char hex[33];
        hex128(hex, *(const struct hash128 *)at);
        snprintf(out, room, "%s", hex);
        return;
    }
    case FIELD_BYTES:
        snprintf(out, room, "(%zu bytes)", row->bytes);
        return;
    }
}

double
field_number(const void *object, const struct field *row)
{
    const void *at = member_const(object, row);
    switch (row->type) {
    case FIELD_BOOL:
        return *(const bool *)at;
    case FIELD_U16:
        return *(const uint16_t *)at;
    case FIELD_U32:
        return *(const uint32_t *)at;
    case FIELD_U64:
        return (double)*(const uint64_t *)at;
    case FIELD_I64:
        return (double)*(const int64_t *)at;
    case FIELD_F32:
        return (double)*(const float *)at;
    case FIELD_F64:
        return *(const double *)at;
    case FIELD_CHOICE:
        return *(const int *)at;
    default:
        return 0;
    }
}

enum status
field_check(const void *object, const struct field *row, const char *where)
{
    const void *at = member_const(object, row);
    char shown[64];
    switch (row->type) {
    case FIELD_U16:
    case FIELD_U32:
    case FIELD_U64:
    case FIELD_I64:
    case FIELD_F32:
    case FIELD_F64: {
        double value = field_number(object, row);
        if (!isfinite(value) || value < row->low || value > row->high) {
            field_print(shown, sizeof shown, object, row);
            return out_of_range(where, row, shown);
        }
        return STATUS_OK;
    }
    case FIELD_CHOICE: {
        int count = 0;
        while (row->choices[count])
            count++;
        int value = *(const int *)at;
        if (value < 0 || value >= count)
            return FAIL(CONFIG, "%s: %s is choice %d, wanted 0 to %d", where, row->name, value,
                        count - 1);
        return STATUS_OK;
    }
    case FIELD_TEXT:
        if (!memchr(at, 0, row->bytes))
            return FAIL(CONFIG, "%s: %s does not end", where, row->name);
        return text_fits(row, at, row->bytes, where);
    default:
        return STATUS_OK;
    }
}

const struct field *
field_find(const struct field *rows, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

// Levenshtein's.
size_t
name_distance(const char *a, const char *b)
{
    size_t row[64], length = strlen(b);
    if (length > 63 || strlen(a) > 63)
        return 64;
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[length];
}

// Further apart than a third of the name is another word, not a slip.
static void
nearer(const char **nearest, size_t *least, const char *candidate, const char *name)
{
    size_t apart = name_distance(name, candidate);
    if (apart < *least) {
        *least = apart;
        *nearest = candidate;
    }
}

const char *
field_nearest(const struct field *rows, size_t count, const char *name)
{
    const char *nearest = NULL;
    size_t least = strlen(name) / 3 + 2;
    for (size_t i = 0; i < count; i++)
        nearer(&nearest, &least, rows[i].name, name);
    return nearest;
}

const char *
name_nearest(const char *const *names, size_t count, const char *name)
{
    const char *nearest = NULL;
    size_t least = strlen(name) / 3 + 2;
    for (size_t i = 0; i < count; i++)
        nearer(&nearest, &least, names[i], name);
    return nearest;
}

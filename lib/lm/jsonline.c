#include "lib/lm/jsonline.h"

#include "lib/lm/tokenizer.h"
#include "lib/lm/unicode.h"

#include <stdio.h>
#include <string.h>

// A reader stands at text[at]. Each step returns false where the text is no JSON, and leaves what
// it wanted there in `wanted`.
struct reader {
    const char *text;
    size_t bytes, at;
    const char *wanted;
};

static bool
want(struct reader *r, const char *what)
{
    r->wanted = what;
    return false;
}

static int
peek(const struct reader *r)
{
    return r->at < r->bytes ? (unsigned char)r->text[r->at] : -1;
}

static void
skip_space(struct reader *r)
{
    while (r->at < r->bytes && (r->text[r->at] == ' ' || r->text[r->at] == '\t' ||
                                r->text[r->at] == '\r' || r->text[r->at] == '\n'))
        r->at++;
}

static bool
skip_character(struct reader *r, char c, const char *what)
{
    if (peek(r) != c)
        return want(r, what);
    r->at++;
    return true;
}

static bool
skip_digits(struct reader *r)
{
    if (peek(r) < '0' || peek(r) > '9')
        return want(r, "a digit");
    while (peek(r) >= '0' && peek(r) <= '9')
        r->at++;
    return true;
}

static bool
skip_number(struct reader *r)
{
    if (peek(r) == '-')
        r->at++;
    if (peek(r) == '0')
        r->at++; // and no digit may follow, which whoever looks for a comma finds out
    else if (!skip_digits(r))
        return false;
    if (peek(r) == '.') {
        r->at++;
        if (!skip_digits(r))
            return false;
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        r->at++;
        if (peek(r) == '+' || peek(r) == '-')
            r->at++;
        if (!skip_digits(r))
            return false;
    }
    return true;
}

static int
hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f')
        return (c | 32) - 'a' + 10;
    return -1;
}

// What stands between the quotes, escapes checked but not resolved.
static bool
read_string(struct reader *r, const char **from, size_t *bytes)
{
    if (!skip_character(r, '"', "a string"))
        return false;
    *from = r->text + r->at;
    size_t begin = r->at;
    for (;;) {
        while (r->at < r->bytes && (unsigned char)r->text[r->at] >= 0x20 && r->text[r->at] != '"' &&
               r->text[r->at] != '\\')
            r->at++;
        int c = peek(r);
        if (c == '"')
            break;
        if (c != '\\')
            return want(r, c < 0 ? "the end of the string" : "no control character in a string");
        r->at++;
        c = peek(r);
        if (c == 'u') {
            r->at++;
            for (int i = 0; i < 4; i++, r->at++)
                if (hex_digit(peek(r)) < 0)
                    return want(r, "four hex digits after \\u");
        } else {
            if (c < 0 || !memchr("\"\\/bfnrt", c, 8))
                return want(r, "an escape");
            r->at++;
        }
    }
    *bytes = r->at - begin;
    r->at++;
    return true;
}

static bool
skip_word(struct reader *r, const char *word)
{
    size_t bytes = strlen(word);
    if (r->bytes - r->at < bytes || memcmp(r->text + r->at, word, bytes) != 0)
        return want(r, "a value");
    r->at += bytes;
    return true;
}

static bool skip_value(struct reader *r, int depth);

// Calls for each element or member; the bracket has been seen.
static bool
skip_nested(struct reader *r, int depth, char close)
{
    const char *from;
    size_t bytes;
    if (depth == JSONLINE_DEPTH)
        return want(r, "less nesting");
    r->at++;
    skip_space(r);
    if (peek(r) == close) {
        r->at++;
        return true;
    }
    for (;;) {
        skip_space(r);
        if (close == '}') {
            if (!read_string(r, &from, &bytes))
                return false;
            skip_space(r);
            if (!skip_character(r, ':', "':'"))
                return false;
            skip_space(r);
        }
        if (!skip_value(r, depth + 1))
            return false;
        skip_space(r);
        if (peek(r) == close) {
            r->at++;
            return true;
        }
        if (!skip_character(r, ',', close == '}' ? "',' or '}'" : "',' or ']'"))
            return false;
    }
}

static bool
skip_value(struct reader *r, int depth)
{
    const char *from;
    size_t bytes;
    switch (peek(r)) {
    case '{':
        return skip_nested(r, depth, '}');
    case '[':
        return skip_nested(r, depth, ']');
    case '"':
        return read_string(r, &from, &bytes);
    case 't':
        return skip_word(r, "true");
    case 'f':
        return skip_word(r, "false");
    case 'n':
        return skip_word(r, "null");
    default:
        if (peek(r) != '-' && (peek(r) < '0' || peek(r) > '9'))
            return want(r, "a value");
        return skip_number(r);
    }
}

static uint32_t
read_hex4(const char *at)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 4 | (uint32_t)hex_digit((unsigned char)at[i]);
    return value;
}

// Resolves the escapes of a string that read_string has accepted. It never becomes longer.
static enum status
unescape(struct text_list *out, size_t *lone, const char *from, size_t bytes)
{
    out->bytes = 0;
    TRY(text_list_reserve(out, bytes));
    for (size_t i = 0; i < bytes;) {
        const char *escape = memchr(from + i, '\\', bytes - i);
        size_t plain = escape ? (size_t)(escape - from) - i : bytes - i;
        memcpy(out->at + out->bytes, from + i, plain);
        out->bytes += plain;
        i += plain;
        if (!escape)
            break;
        static const char names[] = "bfnrt", values[] = "\b\f\n\r\t";
        char c = from[i + 1];
        i += 2;
        if (c != 'u') {
            const char *name = strchr(names, c);
            out->at[out->bytes++] = name ? values[name - names] : c;
            continue;
        }
        uint32_t code = read_hex4(from + i);
        i += 4;
        if (code >= 0xD800 && code <= 0xDBFF && bytes - i >= 6 && from[i] == '\\' &&
            from[i + 1] == 'u') {
            uint32_t low = read_hex4(from + i + 2);
            if (low >= 0xDC00 && low <= 0xDFFF) {
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                i += 6;
            }
        }
        if (code >= 0xD800 && code <= 0xDFFF) {
            code = 0xFFFD;
            ++*lone;
        }
        out->bytes += utf8_write(out->at + out->bytes, code);
    }
    return STATUS_OK;
}

static enum status
no_json(const struct reader *r, const char *where)
{
    int c = peek(r);
    char found[32] = "the end of the line";
    if (c > 0x20 && c < 0x7F)
        snprintf(found, sizeof found, "'%c'", c);
    else if (c >= 0)
        snprintf(found, sizeof found, "byte 0x%02X", (unsigned)c);
    return FAIL(DAMAGED, "%s: column %zu: found %s, wanted %s", where, r->at + 1, found, r->wanted);
}

// A key that has escapes is compared resolved.
static enum status
same_key(bool *same, const char *key, size_t bytes, const char *field)
{
    if (!memchr(key, '\\', bytes)) {
        *same = bytes == strlen(field) && memcmp(key, field, bytes) == 0;
        return STATUS_OK;
    }
    struct text_list plain = {0};
    size_t lone = 0;
    enum status status = unescape(&plain, &lone, key, bytes);
    *same = status == STATUS_OK && plain.bytes == strlen(field) &&
            memcmp(plain.at, field, plain.bytes) == 0;
    text_list_release(&plain);
    return status;
}

// The value of a field: where it begins in the line and how long it is; 0 bytes: absent.
struct value {
    size_t at, bytes;
};

// Reads the whole line. `keys` receives some of the object's keys, for messages.
static enum status
find_fields(struct value *values, const char *const *fields, size_t count, char keys[80],
            const char *line, size_t bytes, const char *where)
{
    struct reader r = {line, bytes, 0, ""};
    const char *key;
    size_t key_bytes;
    keys[0] = '\0';
    skip_space(&r);
    if (peek(&r) != '{') {
        r.wanted = "an object";
        return no_json(&r, where);
    }
    r.at++;
    skip_space(&r);
    bool more = peek(&r) != '}';
    r.at += !more;
    while (more) {
        skip_space(&r);
        if (!read_string(&r, &key, &key_bytes))
            return no_json(&r, where);
        size_t used = strlen(keys);
        if (used + key_bytes + 3 < 80)
            snprintf(keys + used, 80 - used, "%s%.*s", used ? ", " : "", (int)key_bytes, key);
        skip_space(&r);
        if (!skip_character(&r, ':', "':'"))
            return no_json(&r, where);
        skip_space(&r);
        size_t begin = r.at;
        if (!skip_value(&r, 1))
            return no_json(&r, where);
        for (size_t i = 0; i < count; i++) {
            bool same;
            TRY(same_key(&same, key, key_bytes, fields[i]));
            if (same)
                values[i] = (struct value){begin, r.at - begin};
        }
        skip_space(&r);
        more = peek(&r) == ',';
        if (!more && !skip_character(&r, '}', "',' or '}'"))
            return no_json(&r, where);
        r.at += more;
    }
    skip_space(&r);
    if (r.at < bytes) {
        r.wanted = "the end of the line";
        return no_json(&r, where);
    }
    return STATUS_OK;
}

static const char *
kind_of(char first)
{
    switch (first) {
    case '{':
        return "an object";
    case '[':
        return "a list";
    case '"':
        return "a string";
    case 'n':
        return "null";
    case 't':
    case 'f':
        return "a truth value";
    default:
        return "a number";
    }
}

enum status
jsonline_text(struct text_list *out, size_t *lone, const char *line, size_t bytes,
              const char *field, const char *where)
{
    struct value value = {0, 0};
    char keys[80];
    out->bytes = 0;
    TRY(find_fields(&value, &field, 1, keys, line, bytes, where));
    if (value.bytes == 0)
        return FAIL(DAMAGED, "%s: no field '%s' (it has: %s)", where, field, keys);
    if (line[value.at] != '"')
        return FAIL(DAMAGED, "%s: field '%s' is %s, wanted a string", where, field,
                    kind_of(line[value.at]));
    return unescape(out, lone, line + value.at + 1, value.bytes - 2);
}

enum status
jsonline_ids(struct token_list *out, size_t most, const char *line, size_t bytes, const char *field,
             const char *other, const char *where)
{
    struct value values[2] = {{0, 0}, {0, 0}};
    const char *fields[2] = {field, other};
    char keys[80];
    out->count = 0;
    TRY(find_fields(values, fields, other ? 2 : 1, keys, line, bytes, where));
    size_t which = values[0].bytes == 0 && values[1].bytes > 0;
    struct value v = values[which];
    if (v.bytes == 0)
        return FAIL(DAMAGED, "%s: no field '%s' (it has: %s)", where, field, keys);
    if (line[v.at] != '[')
        return FAIL(DAMAGED, "%s: field '%s' is %s, wanted a list of ids", where, fields[which],
                    kind_of(line[v.at]));
    // find_fields has checked that this is JSON: only the kind of the elements is open.
    struct reader r = {line, v.at + v.bytes, v.at + 1, ""};
    for (;;) {
        while (skip_space(&r), peek(&r) == ',')
            r.at++;
        if (peek(&r) == ']')
            return STATUS_OK;
        uint64_t id = 0;
        size_t begin = r.at;
        while (peek(&r) >= '0' && peek(&r) <= '9' && id < TOKEN_ABSENT)
            id = id * 10 + (uint64_t)(line[r.at++] - '0');
        int after = peek(&r);
        if (r.at == begin || id >= TOKEN_ABSENT ||
            (after != ',' && after != ']' && after != ' ' && after != '\t' && after != '\r')) {
            size_t end = begin + 1;
            while (end < r.bytes - 1 && end - begin < 24 && line[end] != ',' && line[end] != ']')
                end++;
            return FAIL(DAMAGED, "%s: column %zu: field '%s' holds '%.*s', wanted ids only", where,
                        begin + 1, fields[which], (int)(end - begin), line + begin);
        }
        uint32_t narrow = (uint32_t)id;
        if (out->count < most)
            TRY(token_list_append(out, &narrow, 1));
    }
}

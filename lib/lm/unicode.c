#include "lib/lm/unicode.h"

#include "lib/base/bytes.h"

#include <assert.h>
#include <string.h>

// What may follow a lead byte: how many bytes in all, and the range of the second one (RFC 3629:
// the range shuts out overlong forms, surrogates and everything above U+10FFFF).
static size_t
lead(unsigned char first, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (first < 0x80)
        return 1;
    if (first < 0xC2 || first > 0xF4)
        return 0;
    if (first < 0xE0)
        return 2;
    if (first < 0xF0) {
        if (first == 0xE0)
            *low = 0xA0;
        if (first == 0xED)
            *high = 0x9F;
        return 3;
    }
    if (first == 0xF0)
        *low = 0x90;
    if (first == 0xF4)
        *high = 0x8F;
    return 4;
}

size_t
utf8_read(uint32_t *code, const char *at, size_t bytes)
{
    assert(bytes > 0);
    unsigned char low, high, first = (unsigned char)at[0];
    size_t wanted = lead(first, &low, &high);
    if (wanted == 1) {
        *code = first;
        return 1;
    }
    *code = UTF8_BAD;
    if (wanted == 0)
        return 1;
    uint32_t value = first & (0x7Fu >> wanted);
    for (size_t i = 1; i < wanted; i++) {
        if (i == bytes)
            return i;
        unsigned char byte = (unsigned char)at[i];
        if (byte < low || byte > high)
            return i;
        value = value << 6 | (byte & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *code = value;
    return wanted;
}

size_t
utf8_write(char *out, uint32_t code)
{
    assert(code <= 0x10FFFF && !(code >= 0xD800 && code <= 0xDFFF));
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t count = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = count - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    static const unsigned char mark[] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(mark[count] | code);
    return count;
}

// Length of the ASCII run at the beginning.
static size_t
ascii_run(const char *at, size_t bytes)
{
    size_t i = 0;
    while (bytes - i >= 8 && (load_u64(at + i) & 0x8080808080808080u) == 0)
        i += 8;
    while (i < bytes && (unsigned char)at[i] < 0x80)
        i++;
    return i;
}

size_t
utf8_repaired_bytes(size_t *parts, const char *at, size_t bytes)
{
    *parts = 0;
    size_t total = 0;
    for (size_t i = 0; i < bytes;) {
        size_t run = ascii_run(at + i, bytes - i);
        i += run;
        total += run;
        if (i == bytes)
            break;
        uint32_t code;
        size_t step = utf8_read(&code, at + i, bytes - i);
        i += step;
        total += code == UTF8_BAD ? 3 : step;
        *parts += code == UTF8_BAD;
    }
    return total;
}

void
utf8_repair(char *out, const char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes;) {
        uint32_t code;
        size_t step = utf8_read(&code, at + i, bytes - i);
        if (code == UTF8_BAD) {
            memcpy(out, "\xEF\xBF\xBD", 3);
            out += 3;
        } else {
            memcpy(out, at + i, step);
            out += step;
        }
        i += step;
    }
}

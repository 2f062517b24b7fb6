#include "lib/lm/tokenizer_split.h"

#include "lib/lm/unicode.h"

#include <assert.h>
#include <string.h>

// Class of the code point at i and its length; END where the segment ends. Bytes that are no UTF-8
// are OTHER.
enum { END = 8 };

// unicode_class of ASCII, spelled out for speed: o OTHER, l LETTER, s SPACE, d NUMBER and DIGIT.
// clang-format off
enum { o = UNICODE_OTHER, l = UNICODE_LETTER, s = UNICODE_SPACE, d = UNICODE_NUMBER | UNICODE_DIGIT };
static const unsigned char ascii[128] = {
    o, o, o, o, o, o, o, o, o, s, s, s, s, s, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o,
    s, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, d, d, d, d, d, d, d, d, d, d, o, o, o, o, o, o,
    o, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, o, o, o, o, o,
    o, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, o, o, o, o, o,
};
// clang-format on

static inline unsigned
class_at(size_t *length, const char *text, size_t bytes, size_t i, bool digits)
{
    if (i == bytes)
        return END;
    unsigned char first = (unsigned char)text[i];
    unsigned class;
    if (first < 128) {
        *length = 1;
        class = ascii[first];
    } else {
        uint32_t code;
        *length = utf8_read(&code, text + i, bytes - i);
        class = unicode_class(code);
    }
    if (digits && class & UNICODE_DIGIT)
        return END;
    return class & UNICODE_CLASS;
}

size_t
split_gpt2(const char *text, size_t bytes, size_t at, bool digits)
{
    assert(at < bytes);
    size_t length = 0, next = 0;
    unsigned class = class_at(&length, text, bytes, at, digits);
    if (class == END)
        return at + length; // a digit: a segment of its own
    if (text[at] == '\'' && bytes - at >= 2) {
        char a = text[at + 1], b = bytes - at >= 3 ? text[at + 2] : '\0';
        if (a == 's' || a == 't' || a == 'm' || a == 'd')
            return at + 2;
        if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
            return at + 3;
    }
    size_t i = at;
    if (text[at] == ' ') { // only U+0020 is glued to what follows it
        unsigned follows = class_at(&next, text, bytes, at + 1, digits);
        if (follows != END && follows != UNICODE_SPACE) {
            class = follows;
            i = at + 1;
            length = next;
        }
    }
    size_t last = i;
    unsigned beyond;
    do {
        last = i;
        i += length;
        beyond = class_at(&length, text, bytes, i, digits);
    } while (beyond == class);
    // White space leaves its last code point to the word that follows in the segment.
    if (class == UNICODE_SPACE && beyond != END && last > at)
        return last;
    return i;
}

static inline size_t
space_at(const char *text, size_t bytes, size_t i)
{
    if (text[i] == ' ')
        return 1;
    return bytes - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0 ? 3 : 0;
}

size_t
split_spaces(const char *text, size_t bytes, size_t at)
{
    size_t i = at, step;
    while (i < bytes && (step = space_at(text, bytes, i)) > 0)
        i += step;
    while (i < bytes && space_at(text, bytes, i) == 0)
        i++;
    return i;
}

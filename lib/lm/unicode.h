// unicode: what the tokenizers need of it: four classes of code points, and UTF-8.
// The classes are those of the `tokenizers` library 0.23.3 (Unicode 16), not of the C library or of
// PCRE2, which differ in thousands of letters; scripts/unicode_table.py makes the table.
#ifndef LIB_LM_UNICODE_H
#define LIB_LM_UNICODE_H

#include <stddef.h>
#include <stdint.h>

// Exactly one class, and DIGIT beside it (a superset of NUMBER: all of \p{N} and 13 more).
enum {
    UNICODE_OTHER = 0,
    UNICODE_LETTER = 1, // regex \p{L}
    UNICODE_NUMBER = 2, // regex \p{N}
    UNICODE_SPACE = 3,  // regex \s
    UNICODE_CLASS = 3,  // mask of the above
    UNICODE_DIGIT = 4,  // what the Digits pre-tokenizer isolates
};

// Two levels: unicode_page[c / 128] names a block of 128 classes, four bits each, low nibble first.
// Everything from UNICODE_LIMIT on is OTHER.
enum { UNICODE_LIMIT = 0x32400 };
extern const uint8_t unicode_page[UNICODE_LIMIT / 128];
extern const uint8_t unicode_block[][64];

static inline unsigned
unicode_class(uint32_t c)
{
    if (c >= UNICODE_LIMIT)
        return UNICODE_OTHER;
    unsigned two = unicode_block[unicode_page[c / 128]][c % 128 / 2];
    return c % 2 ? two >> 4 : two & 15;
}

// The code point at the beginning of `at` (bytes > 0); returns how many bytes it takes. When they
// are not valid UTF-8 (RFC 3629), *code is UTF8_BAD and the result is the length of the maximal
// invalid part, which the Unicode standard (chapter 3.9) replaces by one U+FFFD.
#define UTF8_BAD UINT32_MAX
size_t utf8_read(uint32_t *code, const char *at, size_t bytes);
// At most 4 bytes; `code` must be a code point and no surrogate. Returns how many.
size_t utf8_write(char *out, uint32_t code);

// How many bytes the text has once each maximal invalid part is U+FFFD; *parts is their number.
// No part: the text is valid, and the result is `bytes`.
size_t utf8_repaired_bytes(size_t *parts, const char *at, size_t bytes);
// Writes those; `out` has room for them and does not overlap the text.
void utf8_repair(char *out, const char *at, size_t bytes);

#endif

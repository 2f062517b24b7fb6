// random_settings: settings with every row drawn at random within its range, for properties.
#ifndef TESTS_CONFIG_RANDOM_SETTINGS_H
#define TESTS_CONFIG_RANDOM_SETTINGS_H

#include "config/config.h"
#include "lib/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// What a name in a file may hold, and what a writer of YAML may stumble over.
static const char *const odd_pieces[] = {
    "a",
    "Z",
    "0",
    ".",
    "-",
    "/",
    ":",
    ": ",
    " #",
    "#",
    "'",
    "\"",
    "\\",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&",
    "*",
    "!",
    "|",
    ">",
    "%",
    "@",
    "`",
    "~",
    "null",
    "true",
    "off",
    "?",
    "- ",
    " ",
    "  ",
    "---",
    "...",
    "\\n",
    "<<",
    "=",
    "\xc3\xa9",
    "\xe6\x97\xa5",
    "\xf0\x9f\x98\x80",
    "1e5",
    "cache://",
    "~/",
    "\xc2\x85",
    "\xe2\x80\xa8",
    "\xe2\x80\xa9",
    "\xef\xbb\xbf",
    "\xc2\x80",
    "\xc2\xa0",
    "\xef\xbf\xbe",
    "\xef\xbf\xbf",
    "\xf4\x8f\xbf\xbf",
};

struct draw {
    uint64_t seed, index;
};

static inline uint32_t
draw(struct draw *d)
{
    uint32_t words[4];
    rng_words(words, d->seed, 0x7e57, 1, d->index++);
    return words[0];
}

static inline void
draw_text(char *out, size_t room, struct draw *d, bool empty_too)
{
    size_t used = 0, pieces = draw(d) % 8 + !empty_too;
    for (size_t i = 0; i < pieces; i++) {
        const char *piece = odd_pieces[draw(d) % (sizeof odd_pieces / sizeof odd_pieces[0])];
        if (used + strlen(piece) < room) {
            memcpy(out + used, piece, strlen(piece));
            used += strlen(piece);
        }
    }
    if (used == 0 && !empty_too)
        out[used++] = 'x';
    memset(out + used, 0, room - used);
}

// Between the bounds: either end, or spread over the orders of magnitude between.
static inline double
draw_number(double low, double high, struct draw *d)
{
    double u = draw(d) / 4294967296.0;
    switch (draw(d) % 4) {
    case 0:
        return draw(d) % 2 ? low : high;
    case 1:
        return low + u * (high - low);
    default: {
        double least = low > 0 ? low : fmin(1e-9, high);
        return fmin(high, fmax(low, least * pow(high / least, u)));
    }
    }
}

static inline void
draw_row(struct settings *set, const struct field *row, struct draw *d)
{
    void *at = (char *)set + row->offset;
    double number = draw_number(row->low, row->high, d);
    switch (row->type) {
    case FIELD_BOOL:
        *(bool *)at = draw(d) % 2;
        return;
    case FIELD_U16:
        *(uint16_t *)at = (uint16_t)number;
        return;
    case FIELD_U32:
        *(uint32_t *)at = (uint32_t)number;
        return;
    case FIELD_U64:
        *(uint64_t *)at = (uint64_t)number;
        return;
    case FIELD_F64:
        *(double *)at = number;
        return;
    case FIELD_CHOICE: {
        uint32_t count = 0;
        while (row->choices[count])
            count++;
        *(int *)at = (int)(draw(d) % count);
        return;
    }
    case FIELD_TEXT:
        do
            draw_text(at, row->bytes, d, true);
        while ((row->flags & FIELD_AUTO) && strcmp(at, "auto") == 0);
        return;
    case FIELD_TEXTS: {
        struct texts *list = at;
        memset(list, 0, sizeof *list);
        list->count = draw(d) % 4 ? draw(d) % 4 : draw(d) % (TEXTS_MOST + 1);
        for (size_t i = 0; i < list->count; i++)
            draw_text(list->at[i], TEXT_BYTES, d, false);
        return;
    }
    default:
        assert(!"no setting has this type");
    }
}

static inline void
draw_settings(struct settings *set, uint64_t seed)
{
    struct draw d = {seed, 0};
    for (size_t i = 0; i < settings_count; i++)
        draw_row(set, &settings_rows[i], &d);
}

// Member by member: padding does not count.
static inline const struct field *
first_difference(const struct settings *a, const struct settings *b)
{
    for (size_t i = 0; i < settings_count; i++)
        if (memcmp((const char *)a + settings_rows[i].offset,
                   (const char *)b + settings_rows[i].offset, settings_rows[i].bytes) != 0)
            return &settings_rows[i];
    return NULL;
}

#endif

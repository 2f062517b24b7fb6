// field: one row per thing that must agree. Settings, messages, metrics and checkpoint scalars are
// plain structs plus rows of `struct field`; parsing, checks, --help, YAML, msgpack and docs walk
// the rows. A row's type is taken from the member itself (_Generic), so it cannot lie.
#ifndef LIB_BASE_FIELD_H
#define LIB_BASE_FIELD_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A list of texts of bounded length (paths, endpoints, roles).
enum { TEXTS_MOST = 32, TEXT_BYTES = 512 };
struct texts {
    size_t count;
    char at[TEXTS_MOST][TEXT_BYTES];
};

enum field_type {
    FIELD_BOOL,
    FIELD_U16,
    FIELD_U32,
    FIELD_U64,
    FIELD_I64,
    FIELD_F32,
    FIELD_F64,
    FIELD_CHOICE,  // an int: index into `choices`
    FIELD_TEXT,    // char[n], NUL-terminated UTF-8 without control bytes
    FIELD_TEXTS,   // struct texts
    FIELD_HASH128, // struct hash128: 32 hex digits as text, 16 bytes on the wire
    FIELD_BYTES,   // unsigned char[n], exactly n
};

enum field_flag {
    FIELD_OPTIONAL = 1,   // messages: may be absent (then zero)
    FIELD_TRAJECTORY = 2, // settings: decides the run's numbers
    FIELD_HOT = 4,        // settings: may be changed while running
    FIELD_SIZE = 8,       // settings: a byte count, may be written 64MiB
    FIELD_AUTO = 16,      // settings: the word `auto` is allowed and reads as 0 (texts: as "")
    FIELD_PATH = 32,      // settings: a file or folder, or a list of them
};

struct field {
    const char *name;
    enum field_type type;
    unsigned flags;
    size_t offset, bytes;       // of the member
    const char *preset;         // the default, as text; NULL: must be given
    double low, high;           // closed range of numbers
    const char *const *choices; // NULL-terminated, FIELD_CHOICE only
    const char *doc;            // one line for people
    const char *unit;           // "ms", "tokens"; NULL: none
};

#define FIELD_TYPE(member)                                                                         \
    _Generic((member),                                                                             \
        bool: FIELD_BOOL,                                                                          \
        uint16_t: FIELD_U16,                                                                       \
        uint32_t: FIELD_U32,                                                                       \
        uint64_t: FIELD_U64,                                                                       \
        int64_t: FIELD_I64,                                                                        \
        float: FIELD_F32,                                                                          \
        double: FIELD_F64,                                                                         \
        int: FIELD_CHOICE,                                                                         \
        char *: FIELD_TEXT,                                                                        \
        struct texts: FIELD_TEXTS,                                                                 \
        struct hash128: FIELD_HASH128,                                                             \
        unsigned char *: FIELD_BYTES)

// The member may be nested: FIELD(settings, sae.latents, ...). `name` is the member as written.
#define FIELD_ROW(type_, member_, name_, preset_, low_, high_, choices_, flags_, doc_)             \
    {                                                                                              \
        .name = (name_), .type = FIELD_TYPE(((struct type_ *)NULL)->member_), .flags = (flags_),   \
        .offset = offsetof(struct type_, member_),                                                 \
        .bytes = sizeof(((struct type_ *)NULL)->member_), .preset = (preset_), .low = (low_),      \
        .high = (high_), .choices = (choices_), .doc = (doc_)                                      \
    }
#define FIELD(type, member, preset, low, high, flags, doc)                                         \
    FIELD_ROW(type, member, #member, preset, low, high, NULL, flags, doc)
#define FIELD_PICK(type, member, preset, choices, flags, doc)                                      \
    FIELD_ROW(type, member, #member, preset, 0, 0, choices, flags, doc)

// Sets a member from text: checks form and range, touches nothing on failure. `where`
// ("run.yaml:14") begins the message: "run.yaml:14: lambda_s is '-1', wanted a number from 0 to
// 1000". FIELD_TEXTS: appends one element. Sizes take B, KiB, MiB, GiB; bools true/false.
CHECKED enum status field_parse(void *object, const struct field *row, const char *text,
                                const char *where);
// The preset of every row that has one. Lists become empty unless the preset is "a, b".
CHECKED enum status field_presets(void *object, const struct field *rows, size_t count);
// The value as text that field_parse reads back to the same bits; lists joined by ", ".
void field_print(char *out, size_t room, const void *object, const struct field *row);
// In the range of its row, finite, a choice that exists, valid text?
CHECKED enum status field_check(const void *object, const struct field *row, const char *where);
// The value of a numeric member as a double (choices: the index, bools: 0 or 1).
double field_number(const void *object, const struct field *row);
// The row of that name, or NULL; and the name with the least edit distance (NULL when none is
// near).
const struct field *field_find(const struct field *rows, size_t count, const char *name);
const char *field_nearest(const struct field *rows, size_t count, const char *name);
// The same for plain names: how far apart (64 when longer than 63 bytes), and the nearest of a
// list.
size_t name_distance(const char *a, const char *b);
const char *name_nearest(const char *const *names, size_t count, const char *name);

// Valid UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF)?
bool utf8_valid(const char *at, size_t bytes);

#endif

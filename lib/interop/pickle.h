// pickle: a machine for Python's pickles (protocols 2 to 5) that can build dicts, lists, tuples and
// plain values, and call nothing: what a pickle names, calls, or keeps outside itself goes to a
// host, which knows some and refuses the rest.
//
// 1. Nothing is ever imported or executed.
// 2. Values are numbers of a pool, so damaged or cyclic pickles cannot make it recurse; pool, stack
//    and memo are bounded.
#ifndef LIB_INTEROP_PICKLE_H
#define LIB_INTEROP_PICKLE_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pickle_type {
    PICKLE_NONE,
    PICKLE_TRUTH,
    PICKLE_WHOLE,
    PICKLE_REAL,
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_GLOBAL, // a name the host knows
    PICKLE_HOST,   // made by the host
    PICKLE_MARK
};

struct pickle_value {
    enum pickle_type type;
    union {
        int64_t whole; // TRUTH too
        double real;
        const char *text; // TEXT: of `bytes`, in the code
        uint32_t *items;  // TUPLE, LIST; DICT: key, value, key, value; `bytes` of them
        unsigned global;  // the host's number of it
        struct {
            void *at; // the pool's: freed with it
            int kind; // the host's
        } host;
    };
    size_t bytes, room;
};

struct pickle;

struct pickle_host {
    void *context;
    // Its number of a name, or an error that names it.
    enum status (*global)(unsigned *out, void *context, const char *module, const char *name);
    // Pushes what calling `global` with these arguments gives.
    enum status (*call)(struct pickle *pickle, void *context, unsigned global,
                        const struct pickle_value *arguments);
    // Pushes what a persistent id stands for.
    enum status (*load)(struct pickle *pickle, void *context, const struct pickle_value *id);
};

// `path` is for words; code [size] is borrowed as long as the values are looked at.
CHECKED enum status pickle_new(struct pickle **out, const char *path, const unsigned char *code,
                               size_t size, const struct pickle_host *host);
void pickle_free(struct pickle **pickle);
// Runs it to its end; *top is what it was all about. DAMAGED with the place otherwise.
CHECKED enum status pickle_run(struct pickle *pickle, uint32_t *top);

// Valid until the next push.
const struct pickle_value *pickle_at(const struct pickle *pickle, uint32_t value);
bool pickle_text_is(const struct pickle_value *value, const char *text);
// False where it is no text, or does not fit, or has a NUL in it.
bool pickle_text(char *out, size_t room, const struct pickle_value *value);

// For hosts: a new value (an object `at` of theirs becomes the pickle's, even when that fails), an
// old one, an empty one; and what is wrong, with the place.
CHECKED enum status pickle_push_host(struct pickle *pickle, int kind, void *at);
CHECKED enum status pickle_push(struct pickle *pickle, uint32_t value);
CHECKED enum status pickle_push_dict(struct pickle *pickle);
CHECKED enum status pickle_wrong(const struct pickle *pickle, const char *what);

#endif

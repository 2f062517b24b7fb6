// sealed: a line of JSON that carries its own hash, so a flipped bit anywhere in it is seen.
//     {...,"sum":"0123456789abcdef"}\n        sum: XXH3_64 of the bytes before `,"sum"`
#ifndef LIB_STORE_SEALED_H
#define LIB_STORE_SEALED_H

#include "lib/base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

// An object without `sum` that is not empty. The caller frees *line; `bytes` counts the line end,
// and a NUL stands behind it. CREATE when out of memory.
CHECKED enum status sealed_print(char **line, size_t *bytes, const json_t *object);

// Is this what json_dumps should have made of the object?
bool sealed_reads_back(const char *text, const json_t *object);

// The JSON of a text whose bytes were checked; NULL: it is none, or, with *starved, no memory was
// there to tell.
json_t *sealed_load(const char *text, size_t bytes, json_error_t *error, bool *starved);

// Is this (without the line end) a line whose sum is right? Its JSON may still be anything.
bool sealed_is_sound(const char *line, size_t bytes);

#endif

// The values of a GGUF file's keys, by type. Where they lie was checked when it was opened.
#include "lib/store/gguf_inside.h"

#include "lib/base/bytes.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum status
wrong_type(const struct gguf *file, const char *key, const struct pair *p, const char *wanted)
{
    return FAIL(DAMAGED, "%s: %s has type %s%s, wanted %s", file->path, key,
                p->is_array ? "array of " : "", gguf_value_kinds[p->type].name, wanted);
}

// Element i of a pair of numbers; false for texts.
static bool
number_at(double *out, const struct pair *p, size_t i)
{
    const unsigned char *at = p->at + i * gguf_value_kinds[p->type].bytes;
    float f;
    double d;
    switch (p->type) {
    case VALUE_U8:
    case VALUE_BOOL:
        *out = at[0];
        return true;
    case VALUE_I8:
        *out = (int8_t)at[0];
        return true;
    case VALUE_U16:
        *out = load_u16(at);
        return true;
    case VALUE_I16:
        *out = (int16_t)load_u16(at);
        return true;
    case VALUE_U32:
        *out = load_u32(at);
        return true;
    case VALUE_I32:
        *out = (int32_t)load_u32(at);
        return true;
    case VALUE_U64:
        *out = (double)load_u64(at);
        return true;
    case VALUE_I64:
        *out = (double)(int64_t)load_u64(at);
        return true;
    case VALUE_F32:
        memcpy(&f, at, sizeof f);
        *out = (double)f;
        return true;
    case VALUE_F64:
        memcpy(&d, at, sizeof d);
        *out = d;
        return true;
    default:
        return false;
    }
}

enum status
gguf_u64(bool *found, uint64_t *out, const struct gguf *file, const char *key)
{
    const struct pair *p = gguf_find_pair(file, key);
    *found = p != NULL;
    if (!p)
        return STATUS_OK;
    double rough;
    if (p->is_array || p->type == VALUE_BOOL || p->type == VALUE_F32 || p->type == VALUE_F64 ||
        !number_at(&rough, p, 0))
        return wrong_type(file, key, p, "an integer");
    if (rough < 0)
        return FAIL(DAMAGED, "%s: %s is %.0f, wanted 0 or more", file->path, key, rough);
    *out = gguf_value_kinds[p->type].bytes == 8 ? load_u64(p->at) : (uint64_t)rough;
    return STATUS_OK;
}

enum status
gguf_f64(bool *found, double *out, const struct gguf *file, const char *key)
{
    const struct pair *p = gguf_find_pair(file, key);
    *found = p != NULL;
    if (!p)
        return STATUS_OK;
    double value;
    if (p->is_array || (p->type != VALUE_F32 && p->type != VALUE_F64) || !number_at(&value, p, 0))
        return wrong_type(file, key, p, "F32 or F64");
    if (!isfinite(value))
        return FAIL(DAMAGED, "%s: %s is %g, wanted a finite number", file->path, key, value);
    *out = value;
    return STATUS_OK;
}

enum status
gguf_bool(bool *found, bool *out, const struct gguf *file, const char *key)
{
    const struct pair *p = gguf_find_pair(file, key);
    *found = p != NULL;
    if (!p)
        return STATUS_OK;
    if (p->is_array || p->type != VALUE_BOOL)
        return wrong_type(file, key, p, "BOOL");
    *out = p->at[0] != 0;
    return STATUS_OK;
}

static struct gguf_text
text_at(const unsigned char *at)
{
    return (struct gguf_text){(const char *)at + 8, (size_t)load_u64(at)};
}

enum status
gguf_string(bool *found, struct gguf_text *out, const struct gguf *file, const char *key)
{
    const struct pair *p = gguf_find_pair(file, key);
    *found = p != NULL;
    if (!p)
        return STATUS_OK;
    if (p->is_array || p->type != VALUE_STRING)
        return wrong_type(file, key, p, "STRING");
    *out = text_at(p->at);
    return STATUS_OK;
}

// The pair of an array, or NULL; its caches may be filled.
static struct pair *
find_array(const struct gguf *file, const char *key)
{
    const struct pair *p = gguf_find_pair(file, key);
    return p ? &file->pairs[p - file->pairs] : NULL;
}

enum status
gguf_strings(bool *found, const struct gguf_text **out, size_t *count, const struct gguf *file,
             const char *key)
{
    struct pair *p = find_array(file, key);
    *found = p != NULL;
    *count = 0;
    if (!p)
        return STATUS_OK;
    if (!p->is_array || p->type != VALUE_STRING)
        return wrong_type(file, key, p, "array of STRING");
    if (!p->texts) {
        p->texts = calloc(p->count + 1, sizeof *p->texts);
        if (!p->texts)
            return FAIL(CREATE, "%s: no memory for the %zu texts of %s", file->path, p->count, key);
        const unsigned char *at = p->at;
        for (size_t i = 0; i < p->count; i++) {
            p->texts[i] = text_at(at);
            at += 8 + p->texts[i].bytes;
        }
    }
    *out = p->texts;
    *count = p->count;
    return STATUS_OK;
}

enum status
gguf_numbers(bool *found, const double **out, size_t *count, const struct gguf *file,
             const char *key)
{
    struct pair *p = find_array(file, key);
    *found = p != NULL;
    *count = 0;
    if (!p)
        return STATUS_OK;
    if (!p->is_array || p->type == VALUE_STRING)
        return wrong_type(file, key, p, "array of numbers");
    if (!p->numbers) {
        p->numbers = calloc(p->count + 1, sizeof *p->numbers);
        if (!p->numbers)
            return FAIL(CREATE, "%s: no memory for the %zu numbers of %s", file->path, p->count,
                        key);
        for (size_t i = 0; i < p->count; i++) {
            bool is_number = number_at(&p->numbers[i], p, i);
            assert(is_number);
        }
    }
    *out = p->numbers;
    *count = p->count;
    return STATUS_OK;
}

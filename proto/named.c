#include "proto/named.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool
named_name_valid(const char *name, size_t bytes)
{
    if (bytes == 0 || bytes >= NAMED_NAME)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '.' || c == '/' || c == '-'))
            return false;
    }
    return true;
}

void
named_clear(struct named *list)
{
    list->count = list->lost = list->text_used = 0;
}

// The next free place with this name, or NULL: counted as lost.
static struct named_value *
add(struct named *list, const char *name, enum named_type type)
{
    size_t bytes = strlen(name);
    if (list->count == NAMED_MOST || !named_name_valid(name, bytes)) {
        list->lost++;
        return NULL;
    }
    struct named_value *value = &list->at[list->count++];
    memset(value, 0, sizeof *value);
    memcpy(value->name, name, bytes);
    value->type = (uint8_t)type;
    return value;
}

void
named_real(struct named *list, const char *name, double real)
{
    struct named_value *value = add(list, name, NAMED_REAL);
    if (value)
        value->real = real;
}

void
named_whole(struct named *list, const char *name, int64_t whole)
{
    struct named_value *value = add(list, name, NAMED_WHOLE);
    if (value)
        value->whole = whole;
}

void
named_flag(struct named *list, const char *name, bool flag)
{
    struct named_value *value = add(list, name, NAMED_FLAG);
    if (value)
        value->flag = flag;
}

void
named_words(struct named *list, const char *name, const char *text)
{
    size_t bytes = strlen(text) + 1;
    if (bytes > NAMED_TEXT - list->text_used) {
        list->lost++;
        return;
    }
    struct named_value *value = add(list, name, NAMED_WORDS);
    if (!value)
        return;
    value->text = list->text_used;
    memcpy(list->text + list->text_used, text, bytes);
    list->text_used += (uint32_t)bytes;
}

void
named_print(struct named *list, const char *name, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    named_words(list, name, text);
}

const struct named_value *
named_find(const struct named *list, const char *name)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (strcmp(list->at[i].name, name) == 0)
            return &list->at[i];
    return NULL;
}

double
named_get_real(const struct named *list, const char *name, double otherwise)
{
    const struct named_value *value = named_find(list, name);
    if (value && value->type == NAMED_REAL)
        return value->real;
    return value && value->type == NAMED_WHOLE ? (double)value->whole : otherwise;
}

int64_t
named_get_whole(const struct named *list, const char *name, int64_t otherwise)
{
    const struct named_value *value = named_find(list, name);
    return value && value->type == NAMED_WHOLE ? value->whole : otherwise;
}

bool
named_get_flag(const struct named *list, const char *name, bool otherwise)
{
    const struct named_value *value = named_find(list, name);
    return value && value->type == NAMED_FLAG ? value->flag : otherwise;
}

const char *
named_get_words(const struct named *list, const char *name, const char *otherwise)
{
    const struct named_value *value = named_find(list, name);
    return value && value->type == NAMED_WORDS ? list->text + value->text : otherwise;
}

void
named_copy(struct named *to, const struct named *from)
{
    to->count = from->count;
    to->lost = from->lost;
    to->text_used = from->text_used;
    memcpy(to->at, from->at, from->count * sizeof from->at[0]);
    memcpy(to->text, from->text, from->text_used);
}

static bool
same_value(const struct named *a, const struct named *b, uint32_t i)
{
    const struct named_value *x = &a->at[i], *y = &b->at[i];
    if (strcmp(x->name, y->name) != 0 || x->type != y->type)
        return false;
    switch ((enum named_type)x->type) {
    case NAMED_REAL:
        return (isnan(x->real) && isnan(y->real)) || memcmp(&x->real, &y->real, 8) == 0;
    case NAMED_WHOLE:
        return x->whole == y->whole;
    case NAMED_FLAG:
        return x->flag == y->flag;
    case NAMED_WORDS:
        return strcmp(a->text + x->text, b->text + y->text) == 0;
    }
    return false;
}

bool
named_same(const struct named *a, const struct named *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (!same_value(a, b, i))
            return false;
    return true;
}

#include "lib/lm/grow.h"

#include "lib/base/bytes.h"

#include <stdlib.h>
#include <string.h>

enum status
grow_array(void **at, size_t *room, size_t want, size_t size)
{
    if (want <= *room)
        return STATUS_OK;
    size_t next = *room < SIZE_MAX / 2 ? *room * 2 : want;
    if (next < want)
        next = want;
    if (next < 16)
        next = 16;
    size_t bytes;
    void *grown = times(&bytes, next, size) ? realloc(*at, bytes) : NULL;
    if (!grown)
        return FAIL(CREATE, "no memory for %zu elements of %zu bytes", next, size);
    *at = grown;
    *room = next;
    return STATUS_OK;
}

enum status
token_list_reserve(struct token_list *list, size_t more)
{
    if (more <= list->room - list->count)
        return STATUS_OK;
    if (more > SIZE_MAX / 2 - list->count)
        return FAIL(CREATE, "no memory for %zu more token ids", more);
    void *at = list->ids;
    enum status status = grow_array(&at, &list->room, list->count + more, sizeof *list->ids);
    list->ids = at;
    return status;
}

enum status
token_list_append(struct token_list *list, const uint32_t *ids, size_t count)
{
    TRY(token_list_reserve(list, count));
    if (count > 0)
        memcpy(list->ids + list->count, ids, count * sizeof *ids);
    list->count += count;
    return STATUS_OK;
}

void
token_list_release(struct token_list *list)
{
    free(list->ids);
    *list = (struct token_list){0};
}

enum status
text_list_reserve(struct text_list *list, size_t more)
{
    if (more <= list->room - list->bytes)
        return STATUS_OK;
    if (more > SIZE_MAX / 2 - list->bytes)
        return FAIL(CREATE, "no memory for %zu more bytes of text", more);
    void *at = list->at;
    enum status status = grow_array(&at, &list->room, list->bytes + more, 1);
    list->at = at;
    return status;
}

enum status
text_list_append(struct text_list *list, const char *at, size_t bytes)
{
    TRY(text_list_reserve(list, bytes));
    if (bytes > 0)
        memcpy(list->at + list->bytes, at, bytes);
    list->bytes += bytes;
    return STATUS_OK;
}

void
text_list_release(struct text_list *list)
{
    free(list->at);
    *list = (struct text_list){0};
}

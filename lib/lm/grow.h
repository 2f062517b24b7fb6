// grow: arrays that grow: of token ids and of bytes. Appending cannot lose what is there: when
// memory runs out the list is as before and the status says so.
#ifndef LIB_LM_GROW_H
#define LIB_LM_GROW_H

#include "lib/base/status.h"

#include <stddef.h>
#include <stdint.h>

// Begin as {0}; release with the functions below, which leave {0} behind.
struct token_list {
    uint32_t *ids;
    size_t count, room;
};
struct text_list { // bytes; no NUL behind them
    char *at;
    size_t bytes, room;
};

// Room for `more` elements behind the last (at least doubling, so appending is linear in the sum).
CHECKED enum status token_list_reserve(struct token_list *list, size_t more);
CHECKED enum status token_list_append(struct token_list *list, const uint32_t *ids, size_t count);
void token_list_release(struct token_list *list);

CHECKED enum status text_list_reserve(struct text_list *list, size_t more);
CHECKED enum status text_list_append(struct text_list *list, const char *at, size_t bytes);
void text_list_release(struct text_list *list);

// The same for any array: *at has room for *room elements of `size` bytes; afterwards for at least
// `want`. Fails with CREATE on overflow or when memory is out, touching nothing.
CHECKED enum status grow_array(void **at, size_t *room, size_t want, size_t size);

#endif

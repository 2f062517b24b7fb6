#include "lib/kern/active.h"

#include "lib/base/bytes.h"

#include <assert.h>

// One memory, cut in pieces of whole cache lines.
struct cut {
    size_t at;
    bool fits;
};

static size_t
take(struct cut *cut, size_t count, size_t each)
{
    size_t bytes, from = cut->at;
    cut->fits = cut->fits && times(&bytes, count, each) && bytes <= SIZE_MAX - 64 - cut->at;
    if (cut->fits)
        cut->at += (bytes + 63) / 64 * 64;
    return from;
}

static bool
lay_out(struct active *a, size_t *bytes, char *memory, size_t B, size_t k, size_t room)
{
    struct cut cut = {.fits = B < UINT32_MAX && k < UINT32_MAX && room < UINT32_MAX};
    size_t fired = take(&cut, k, sizeof *a->fired);
    size_t row_at = take(&cut, B + 1, sizeof *a->row_at);
    size_t col = take(&cut, room, sizeof *a->col);
    size_t value = take(&cut, room, sizeof *a->value);
    size_t grad = take(&cut, room, sizeof *a->grad);
    size_t col_at = take(&cut, k + 1, sizeof *a->col_at);
    size_t place = take(&cut, room, sizeof *a->place);
    size_t row = take(&cut, room, sizeof *a->row);
    size_t row_sum = take(&cut, B, sizeof *a->row_sum);
    *bytes = cut.fits ? cut.at : SIZE_MAX;
    if (!memory || !cut.fits)
        return cut.fits;
    *a = (struct active){
        .rows = B,
        .cols = k,
        .room = room,
        .fired = (void *)(memory + fired),
        .row_at = (void *)(memory + row_at),
        .col = (void *)(memory + col),
        .value = (void *)(memory + value),
        .grad = (void *)(memory + grad),
        .col_at = (void *)(memory + col_at),
        .place = (void *)(memory + place),
        .row = (void *)(memory + row),
        .row_sum = (void *)(memory + row_sum),
    };
    return true;
}

static size_t
clip(size_t B, size_t k, size_t room)
{
    size_t all;
    return times(&all, B, k) && all < room ? all : room;
}

bool
active_bytes(size_t *bytes, size_t B, size_t k, size_t room)
{
    return lay_out(NULL, bytes, NULL, B, k, clip(B, k, room));
}

void
active_init(struct active *active, void *memory, size_t B, size_t k, size_t room)
{
    size_t bytes;
    bool fits = memory && lay_out(active, &bytes, memory, B, k, clip(B, k, room));
    assert(fits);
}

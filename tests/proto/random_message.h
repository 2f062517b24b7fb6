// Random valid messages, from the rows: for round trips and as food for mutation.
#ifndef TESTS_PROTO_RANDOM_MESSAGE_H
#define TESTS_PROTO_RANDOM_MESSAGE_H

#include "lib/base/rng.h"
#include "proto/messages.h"

#include <math.h>
#include <stdio.h>

struct draw {
    uint64_t seed, at;
};

static inline uint64_t
draw_u64(struct draw *draw)
{
    uint32_t words[4];
    rng_words(words, draw->seed, 77, 0, draw->at++);
    return (uint64_t)words[1] << 32 | words[0];
}

static inline uint64_t
draw_below(struct draw *draw, uint64_t n)
{
    return draw_u64(draw) % n;
}

static inline double
draw_unit(struct draw *draw)
{
    return (double)(draw_u64(draw) >> 11) * 0x1p-53;
}

// Edges as often as the middle.
static inline uint64_t
draw_whole(struct draw *draw, double low, double high)
{
    uint64_t least = (uint64_t)low;
    uint64_t most = high >= 18446744073709551615.0 ? UINT64_MAX : (uint64_t)high;
    switch (draw_below(draw, 4)) {
    case 0:
        return least;
    case 1:
        return most;
    default: {
        uint64_t small = draw_u64(draw) >> draw_below(draw, 64), span = most - least;
        return least + (span == UINT64_MAX ? small : small % (span + 1));
    }
    }
}

static inline void
draw_text(struct draw *draw, char *out, size_t room, bool name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    static const char *const odd[] = {" ", "/", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                                      "\""};
    size_t most = draw_below(draw, 3) == 0 ? room - 1 : draw_below(draw, room), used = 0;
    memset(out, 0, room);
    if (name && most == 0)
        most = 1;
    while (used < most) {
        if (!name && draw_below(draw, 8) == 0) {
            const char *piece = odd[draw_below(draw, 6)];
            if (strlen(piece) > most - used)
                break;
            memcpy(out + used, piece, strlen(piece));
            used += strlen(piece);
        } else {
            // The dot stands last in the letters: a name does not begin with it.
            out[used] = letters[draw_below(draw, sizeof letters - 1 - (used == 0))];
            used++;
        }
    }
}

static inline void
draw_rows(struct draw *draw, void *object, const struct field *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct field *row = &rows[i];
        void *at = (char *)object + row->offset;
        if (row->flags & FIELD_OPTIONAL && draw_below(draw, 3) == 0)
            continue; // stays zero
        switch (row->type) {
        case FIELD_BOOL:
            *(bool *)at = draw_below(draw, 2);
            break;
        case FIELD_U16:
            *(uint16_t *)at = (uint16_t)draw_whole(draw, row->low, row->high);
            break;
        case FIELD_U32:
            *(uint32_t *)at = (uint32_t)draw_whole(draw, row->low, row->high);
            break;
        case FIELD_U64:
            *(uint64_t *)at = draw_whole(draw, row->low, row->high);
            break;
        case FIELD_F64:
            *(double *)at = row->low + (row->high - row->low) * draw_unit(draw);
            break;
        case FIELD_CHOICE: {
            int choices = 0;
            while (row->choices[choices])
                choices++;
            *(int *)at = (int)draw_below(draw, (uint64_t)choices);
            break;
        }
        case FIELD_TEXT:
            draw_text(draw, at, row->bytes, row->flags & FIELD_NAME);
            break;
        case FIELD_TEXTS: {
            struct texts *list = at;
            list->count = draw_below(draw, 6);
            for (size_t t = 0; t < list->count; t++)
                draw_text(draw, list->at[t], 100, false);
            break;
        }
        default:
            for (size_t b = 0; b < row->bytes; b++)
                ((unsigned char *)at)[b] = (unsigned char)draw_u64(draw);
        }
    }
}

static inline void
draw_named(struct draw *draw, struct named *list, size_t most)
{
    static const double reals[] = {0, -0.0, 1e-310, 1.7e308, -3.5, 1.0 / 3};
    named_clear(list);
    size_t count = draw_below(draw, most + 1);
    for (size_t i = 0; i < count; i++) {
        char name[NAMED_NAME], text[40];
        snprintf(name, sizeof name, "losses/%zu.%llx", i,
                 (unsigned long long)draw_below(draw, 4096));
        switch (draw_below(draw, 5)) {
        case 0:
            named_real(list, name, reals[draw_below(draw, 6)]);
            break;
        case 1:
            named_real(list, name, (double)NAN);
            break;
        case 2:
            named_whole(list, name, (int64_t)draw_u64(draw) >> draw_below(draw, 64));
            break;
        case 3:
            named_flag(list, name, draw_below(draw, 2));
            break;
        default:
            draw_text(draw, text, sizeof text, false);
            named_words(list, name, text);
        }
    }
}

// `object` has the bytes of the message's struct. `small`: few enough values that every map fits
// the frame's limit.
static inline void
draw_message(struct draw *draw, enum message_type type, void *object)
{
    struct message_info info = message_info(type);
    memset(object, 0, info.bytes);
    draw_rows(draw, object, info.rows, info.row_count);
    if (info.map_key) {
        size_t most = info.most >= 65536 ? 256 : info.most / 160;
        draw_named(draw, (struct named *)(void *)((char *)object + info.map_at),
                   most < info.map_most ? most : info.map_most);
    }
    if (info.list) {
        size_t count = draw_below(draw, (info.list->most < 150 ? info.list->most : 150) + 1);
        memcpy((char *)object + info.list->count, &count, sizeof count);
        for (size_t i = 0; i < count; i++)
            draw_rows(draw, (char *)object + info.list->items + i * info.list->item_bytes,
                      info.list->rows, info.list->row_count);
    }
}

#endif

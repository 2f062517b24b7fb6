#include "lib/lm/tokenizer_added.h"

#include <stdlib.h>
#include <string.h>

void
added_release(struct added *added)
{
    free(added->nodes);
    *added = (struct added){0};
}

struct entry {
    struct tokenizer_text text;
    uint32_t id;
};

static int
by_text(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    size_t least = x->text.bytes < y->text.bytes ? x->text.bytes : y->text.bytes;
    int order = memcmp(x->text.at, y->text.at, least);
    if (order != 0)
        return order;
    return x->text.bytes < y->text.bytes ? -1 : x->text.bytes > y->text.bytes;
}

static enum status
add_node(struct added *added, unsigned char byte)
{
    void *at = added->nodes;
    TRY(grow_array(&at, &added->room, added->count + 1, sizeof *added->nodes));
    added->nodes = at;
    added->nodes[added->count++] = (struct added_node){.id = TOKEN_ABSENT, .byte = byte};
    return STATUS_OK;
}

// The entries below a node, and how many bytes of them lead there.
struct range {
    size_t from, to, depth;
};

static enum status
grow_ranges(struct range **ranges, size_t *room, size_t want)
{
    void *at = *ranges;
    TRY(grow_array(&at, room, want, sizeof **ranges));
    *ranges = at;
    return STATUS_OK;
}

static enum status
build(struct added *added, const struct entry *entries, size_t count)
{
    enum status status = STATUS_OK;
    struct range *ranges = NULL; // of each node
    size_t room = 0;
    GOTRY(add_node(added, 0));
    GOTRY(grow_ranges(&ranges, &room, 1));
    ranges[0] = (struct range){0, count, 0};
    for (size_t n = 0; n < added->count; n++) {
        struct range r = ranges[n];
        if (r.from < r.to && entries[r.from].text.bytes == r.depth)
            added->nodes[n].id = entries[r.from++].id;
        added->nodes[n].child = (uint32_t)added->count;
        for (size_t i = r.from; i < r.to;) {
            char byte = entries[i].text.at[r.depth];
            size_t end = i;
            while (end < r.to && entries[end].text.at[r.depth] == byte)
                end++;
            GOTRY(grow_ranges(&ranges, &room, added->count + 1));
            ranges[added->count] = (struct range){i, end, r.depth + 1};
            GOTRY(add_node(added, (unsigned char)byte));
            added->nodes[n].children++;
            i = end;
        }
    }
done:
    free(ranges);
    return status;
}

enum status
added_build(struct added *added, const struct vocab *v)
{
    enum status status = STATUS_OK;
    size_t count = 0;
    for (uint32_t id = 0; id < v->count; id++)
        count += v->pieces[id].added;
    struct entry *entries = malloc((count ? count : 1) * sizeof *entries);
    if (!entries)
        return FAIL(CREATE, "%s: no memory for %zu added tokens", v->path, count);
    for (uint32_t id = 0; id < v->count; id++) {
        if (!v->pieces[id].added)
            continue;
        struct tokenizer_text text = vocab_spelling(v, id);
        if (text.bytes == 0) {
            status = FAIL(DAMAGED, "%s: added token %u is empty", v->path, id);
            goto done;
        }
        entries[added->tokens++] = (struct entry){text, id};
        added->first[(unsigned char)text.at[0]] = true;
        for (size_t i = 1; i < text.bytes; i++)
            added->newline_inside |= text.at[i] == '\n' && text.at[i - 1] != '\n';
    }
    if (count > 0)
        qsort(entries, count, sizeof *entries, by_text);
    GOTRY(build(added, entries, count));
done:
    free(entries);
    return status;
}

uint32_t
added_match(const struct added *added, size_t *length, const char *text, size_t bytes)
{
    uint32_t found = TOKEN_ABSENT;
    const struct added_node *node = added->nodes;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        const struct added_node *low = added->nodes + node->child, *high = low + node->children;
        while (low < high) {
            const struct added_node *middle = low + (high - low) / 2;
            if (middle->byte < byte)
                low = middle + 1;
            else
                high = middle;
        }
        if (low == added->nodes + node->child + node->children || low->byte != byte)
            break;
        node = low;
        if (node->id != TOKEN_ABSENT) {
            found = node->id;
            *length = i + 1;
        }
    }
    return found;
}

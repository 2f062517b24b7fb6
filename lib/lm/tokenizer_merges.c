#include "lib/lm/tokenizer_merges.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SCAN_MOST = 24 }; // symbols up to which rescanning beats the heap

void
merges_release(struct merges *m)
{
    free(m->slots);
    free(m->list);
    *m = (struct merges){0};
}

static enum status
put(struct merges *m, uint32_t left, uint32_t right, uint32_t merged)
{
    void *at = m->list;
    TRY(grow_array(&at, &m->room, m->count + 1, sizeof *m->list));
    m->list = at;
    m->list[m->count] = (struct merge){left, right, (uint32_t)m->count, merged};
    m->count++;
    return STATUS_OK;
}

enum status
merges_put(struct merges *m, const struct vocab *v, const char *left, size_t left_bytes,
           const char *right, size_t right_bytes)
{
    char both[2 * PIECE_BYTES];
    if (left_bytes == 0 || right_bytes == 0)
        return FAIL(DAMAGED, "%s: merge %zu has an empty part", v->path, m->count);
    if (left_bytes > PIECE_BYTES || right_bytes > PIECE_BYTES)
        return FAIL(DAMAGED, "%s: merge %zu has a part of %zu bytes, wanted at most %d", v->path,
                    m->count, left_bytes > right_bytes ? left_bytes : right_bytes, PIECE_BYTES);
    memcpy(both, left, left_bytes);
    memcpy(both + left_bytes, right, right_bytes);
    uint32_t a = vocab_find(v, left, left_bytes), b = vocab_find(v, right, right_bytes);
    uint32_t c = vocab_find(v, both, left_bytes + right_bytes);
    if (a == TOKEN_ABSENT || b == TOKEN_ABSENT || c == TOKEN_ABSENT)
        return FAIL(DAMAGED,
                    "%s: merge %zu joins '%.*s' and '%.*s', but %s is not in the vocabulary",
                    v->path, m->count, shown(left_bytes), left, shown(right_bytes), right,
                    a == TOKEN_ABSENT   ? "the first"
                    : b == TOKEN_ABSENT ? "the second"
                                        : "the result");
    return put(m, a, b, c);
}

struct cut { // a merge before it has a rank
    float score;
    uint32_t merged, left, right;
};

static int
by_order(const void *a, const void *b)
{
    const struct cut *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->merged != y->merged)
        return x->merged < y->merged ? -1 : 1;
    return x->left < y->left ? -1 : x->left > y->left;
}

// All cuts of one piece. The hash of the left part grows with it, so a piece costs as many steps
// as it has bytes unless its parts are pieces.
static enum status
cuts_of(struct cut **cuts, size_t *count, size_t *room, const struct vocab *v, uint32_t id)
{
    struct tokenizer_text whole = vocab_spelling(v, id);
    uint64_t hash = TEXT_HASH_BEGIN;
    for (size_t i = 1; i < whole.bytes; i++) {
        hash = text_hash_step(hash, whole.at[i - 1]);
        uint32_t left = vocab_find_hashed(v, whole.at, i, text_hash_end(hash));
        if (left == TOKEN_ABSENT)
            continue;
        uint32_t right = vocab_find(v, whole.at + i, whole.bytes - i);
        if (right == TOKEN_ABSENT)
            continue;
        void *at = *cuts;
        TRY(grow_array(&at, room, *count + 1, sizeof **cuts));
        *cuts = at;
        (*cuts)[(*count)++] = (struct cut){v->pieces[id].score, id, left, right};
    }
    return STATUS_OK;
}

enum status
merges_rebuild(struct merges *m, const struct vocab *v)
{
    enum status status = STATUS_OK;
    struct cut *cuts = NULL;
    size_t count = 0, room = 0;
    for (uint32_t id = 0; id < v->count; id++) {
        if (v->pieces[id].kind != PIECE_NORMAL && v->pieces[id].kind != PIECE_USER)
            continue;
        if (!isfinite(v->pieces[id].score)) {
            status = FAIL(DAMAGED, "%s: the score of token %u is not finite", v->path, id);
            goto done;
        }
        GOTRY(cuts_of(&cuts, &count, &room, v, id));
    }
    if (count > 0)
        qsort(cuts, count, sizeof *cuts, by_order);
    for (size_t i = 0; i < count; i++)
        GOTRY(put(m, cuts[i].left, cuts[i].right, cuts[i].merged));
done:
    free(cuts);
    return status;
}

enum status
merges_index(struct merges *m, const char *path)
{
    size_t slots = 64;
    while (slots < m->count * 2)
        slots *= 2;
    size_t bytes;
    m->slots = times(&bytes, slots, sizeof *m->slots) ? malloc(bytes) : NULL;
    if (!m->slots)
        return FAIL(CREATE, "%s: no memory for a table of %zu merges", path, m->count);
    m->mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        m->slots[i] = (struct merge){.left = TOKEN_ABSENT};
    for (size_t i = 0; i < m->count; i++) {
        struct merge *known =
            (struct merge *)(uintptr_t)merges_find(m, m->list[i].left, m->list[i].right);
        if (known) {
            *known = m->list[i];
            continue;
        }
        uint64_t hash = ((uint64_t)m->list[i].left << 32 | m->list[i].right) * 0x9E3779B97F4A7C15u;
        size_t at = (size_t)(hash >> 20) & m->mask;
        while (m->slots[at].left != TOKEN_ABSENT)
            at = (at + 1) & m->mask;
        m->slots[at] = m->list[i];
    }
    return STATUS_OK;
}

void
merge_scratch_release(struct merge_scratch *scratch)
{
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (struct merge_scratch){0};
}

void
merge_by_scan(const struct merges *m, uint32_t *ids, size_t *count)
{
    enum { MOST = 64 };
    const struct merge *pair[MOST]; // pair[i]: the merge of ids[i] and ids[i + 1], or NULL
    size_t n = *count;
    assert(n <= MOST);
    for (size_t i = 0; i + 1 < n; i++)
        pair[i] = merges_find(m, ids[i], ids[i + 1]);
    while (n > 1) {
        const struct merge *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            if (pair[i] && (!best || pair[i]->rank < best->rank)) {
                best = pair[i];
                at = i;
            }
        if (!best)
            break;
        ids[at] = best->merged;
        n--;
        for (size_t i = at + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            pair[i - 1] = pair[i];
        }
        // Only the pairs that contain the new symbol have changed.
        if (at > 0)
            pair[at - 1] = merges_find(m, ids[at - 1], ids[at]);
        if (at + 1 < n)
            pair[at] = merges_find(m, ids[at], ids[at + 1]);
    }
    *count = n;
}

static bool
earlier(struct merge_entry a, struct merge_entry b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static enum status
heap_push(struct merge_scratch *s, size_t *held, struct merge_entry entry)
{
    void *at = s->heap;
    TRY(grow_array(&at, &s->heap_room, *held + 1, sizeof *s->heap));
    s->heap = at;
    size_t i = (*held)++;
    for (; i > 0 && earlier(entry, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = entry;
    return STATUS_OK;
}

static struct merge_entry
heap_pop(struct merge_scratch *s, size_t *held)
{
    struct merge_entry top = s->heap[0], last = s->heap[--*held];
    size_t i = 0, n = *held;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && earlier(s->heap[child + 1], s->heap[child]))
            child++;
        if (!earlier(s->heap[child], last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

static enum status
push_pair(const struct merges *m, struct merge_scratch *s, size_t *held, uint32_t at)
{
    uint32_t after = s->symbols[at].after;
    if (after == UINT32_MAX)
        return STATUS_OK;
    const struct merge *merge = merges_find(m, s->symbols[at].id, s->symbols[after].id);
    if (!merge)
        return STATUS_OK;
    return heap_push(s, held, (struct merge_entry){merge->rank, at, merge->merged});
}

enum status
merge_by_heap(const struct merges *m, struct merge_scratch *s, uint32_t *ids, size_t *count)
{
    size_t n = *count, held = 0;
    assert(n < 1u << 31);
    void *symbols = s->symbols;
    TRY(grow_array(&symbols, &s->symbol_room, n, sizeof *s->symbols));
    s->symbols = symbols;
    for (uint32_t i = 0; i < n; i++)
        s->symbols[i] =
            (struct merge_symbol){ids[i], i ? i - 1 : UINT32_MAX, i + 1 < n ? i + 1 : UINT32_MAX};
    for (uint32_t i = 0; i < n; i++)
        TRY(push_pair(m, s, &held, i));
    while (held > 0) {
        struct merge_entry top = heap_pop(s, &held);
        struct merge_symbol *left = &s->symbols[top.at];
        if (left->id == TOKEN_ABSENT || left->after == UINT32_MAX)
            continue; // swallowed, or its right neighbour was
        struct merge_symbol *right = &s->symbols[left->after];
        const struct merge *merge = merges_find(m, left->id, right->id);
        if (!merge || merge->merged != top.merged)
            continue; // the pair has changed since
        left->id = merge->merged;
        right->id = TOKEN_ABSENT;
        left->after = right->after;
        if (left->after != UINT32_MAX)
            s->symbols[left->after].before = top.at;
        if (left->before != UINT32_MAX)
            TRY(push_pair(m, s, &held, left->before));
        TRY(push_pair(m, s, &held, top.at));
    }
    size_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s->symbols[i].id != TOKEN_ABSENT)
            ids[kept++] = s->symbols[i].id;
    *count = kept;
    return STATUS_OK;
}

enum status
merge_word(const struct merges *m, struct merge_scratch *scratch, uint32_t *ids, size_t *count)
{
    if (*count <= SCAN_MOST) {
        merge_by_scan(m, ids, count);
        return STATUS_OK;
    }
    return merge_by_heap(m, scratch, ids, count);
}

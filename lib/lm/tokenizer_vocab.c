#include "lib/lm/tokenizer_vocab.h"

#include "lib/base/field.h"

#include <stdlib.h>
#include <string.h>

void
vocab_release(struct vocab *v)
{
    free(v->pieces);
    free(v->slots);
    text_list_release(&v->spellings);
    text_list_release(&v->texts);
    *v = (struct vocab){0};
}

enum status
vocab_put(struct vocab *v, uint64_t id, const char *spelling, size_t bytes, enum piece_kind kind)
{
    if (id >= VOCAB_MOST)
        return FAIL(DAMAGED, "%s: a token has the id %llu, wanted less than %d", v->path,
                    (unsigned long long)id, VOCAB_MOST);
    if (bytes > PIECE_BYTES)
        return FAIL(DAMAGED, "%s: token %llu has %zu bytes, wanted at most %d", v->path,
                    (unsigned long long)id, bytes, PIECE_BYTES);
    if (!utf8_valid(spelling, bytes))
        return FAIL(DAMAGED, "%s: token %llu is not valid UTF-8", v->path, (unsigned long long)id);
    if (id < v->count && v->pieces[id].kind != PIECE_ABSENT)
        return FAIL(DAMAGED, "%s: two tokens have the id %llu: '%.*s' and '%.*s'", v->path,
                    (unsigned long long)id, shown(v->pieces[id].spelling_bytes),
                    v->spellings.at + v->pieces[id].spelling_at, shown(bytes), spelling);
    if (id >= v->count) {
        void *at = v->pieces;
        TRY(grow_array(&at, &v->room, (size_t)id + 1, sizeof *v->pieces));
        v->pieces = at;
        memset(v->pieces + v->count, 0, ((size_t)id + 1 - v->count) * sizeof *v->pieces);
        v->count = (size_t)id + 1;
    }
    struct piece *p = &v->pieces[id];
    p->spelling_at = v->spellings.bytes;
    p->spelling_bytes = (uint32_t)bytes;
    TRY(text_list_append(&v->spellings, spelling, bytes));
    p->kind = (uint8_t)kind;
    p->added = kind == PIECE_UNKNOWN || kind == PIECE_CONTROL || kind == PIECE_USER;
    p->special = kind == PIECE_UNKNOWN || kind == PIECE_CONTROL;
    return STATUS_OK;
}

static uint64_t
text_hash(const char *at, size_t bytes)
{
    uint64_t hash = TEXT_HASH_BEGIN;
    for (size_t i = 0; i < bytes; i++)
        hash = text_hash_step(hash, at[i]);
    return text_hash_end(hash);
}

enum status
vocab_index(struct vocab *v)
{
    size_t slots = 64;
    while (slots < v->count * 2)
        slots *= 2;
    v->slots = malloc(slots * sizeof *v->slots);
    if (!v->slots)
        return FAIL(CREATE, "%s: no memory for a table of %zu tokens", v->path, v->count);
    v->mask = slots - 1;
    memset(v->slots, 0xFF, slots * sizeof *v->slots);
    for (uint32_t id = 0; id < v->count; id++) {
        if (v->pieces[id].kind == PIECE_ABSENT)
            continue;
        struct tokenizer_text mine = vocab_spelling(v, id);
        size_t at = (size_t)text_hash(mine.at, mine.bytes) & v->mask;
        for (; v->slots[at] != TOKEN_ABSENT; at = (at + 1) & v->mask) {
            struct tokenizer_text other = vocab_spelling(v, v->slots[at]);
            if (other.bytes == mine.bytes && memcmp(other.at, mine.at, mine.bytes) == 0)
                return FAIL(DAMAGED, "%s: tokens %u and %u are both '%.*s'", v->path, v->slots[at],
                            id, shown(mine.bytes), mine.at);
        }
        v->slots[at] = id;
    }
    return STATUS_OK;
}

uint32_t
vocab_find_hashed(const struct vocab *v, const char *spelling, size_t bytes, uint64_t hash)
{
    for (size_t at = (size_t)hash & v->mask; v->slots[at] != TOKEN_ABSENT;
         at = (at + 1) & v->mask) {
        struct tokenizer_text other = vocab_spelling(v, v->slots[at]);
        if (other.bytes == bytes && memcmp(other.at, spelling, bytes) == 0)
            return v->slots[at];
    }
    return TOKEN_ABSENT;
}

uint32_t
vocab_find(const struct vocab *v, const char *spelling, size_t bytes)
{
    return vocab_find_hashed(v, spelling, bytes, text_hash(spelling, bytes));
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int
byte_spelling(struct tokenizer_text s)
{
    if (s.bytes != 6 || memcmp(s.at, "<0x", 3) != 0 || s.at[5] != '>')
        return -1;
    int high = hex_digit(s.at[3]), low = hex_digit(s.at[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

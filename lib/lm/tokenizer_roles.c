#include "lib/lm/tokenizer_inside.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char end_of_text[] = "<|endoftext|>";

const char *
tokenizer_path(const struct tokenizer *t)
{
    return t->path;
}

struct tokenizer_text
tokenizer_piece(const struct tokenizer *t, uint32_t id)
{
    if (id >= t->vocab.count || t->vocab.pieces[id].kind == PIECE_ABSENT)
        return (struct tokenizer_text){NULL, 0};
    const struct piece *p = &t->vocab.pieces[id];
    return (struct tokenizer_text){t->vocab.texts.at + p->text_at, p->text_bytes};
}

bool
tokenizer_is_added(const struct tokenizer *t, uint32_t id)
{
    return id < t->vocab.count && t->vocab.pieces[id].added;
}

bool
tokenizer_is_special(const struct tokenizer *t, uint32_t id)
{
    return id < t->vocab.count && t->vocab.pieces[id].special;
}

size_t
tokenizer_count(const struct tokenizer *t)
{
    return t->vocab.count;
}

struct tokenizer_roles
tokenizer_roles(const struct tokenizer *t)
{
    return t->roles;
}

static uint32_t
end_of_text_id(const struct tokenizer *t)
{
    uint32_t id = vocab_find(&t->vocab, end_of_text, sizeof end_of_text - 1);
    return id != TOKEN_ABSENT && t->vocab.pieces[id].special ? id : TOKEN_ABSENT;
}

uint32_t
tokenizer_bos(const struct tokenizer *t)
{
    if (t->front != TOKEN_ABSENT)
        return t->front;
    if (t->kind == TOKENIZER_BYTE_LEVEL) {
        uint32_t id = end_of_text_id(t);
        if (id != TOKEN_ABSENT)
            return id;
    }
    return t->roles.bos;
}

enum status
tokenizer_pick(uint32_t *out, const struct tokenizer *t, const char *text, uint32_t bos,
               const char *where)
{
    static const char *const names[] = {"auto", "bos", "eos", "pad", "none"};
    uint32_t ids[] = {tokenizer_bos(t), bos, t->roles.eos, t->roles.pad, TOKEN_ABSENT};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        if (ids[i] == TOKEN_ABSENT && strcmp(text, "none") != 0)
            return FAIL(CONFIG, "%s is '%s', but %s names no such token: give its id, or none",
                        where, text, t->path);
        *out = ids[i];
        return STATUS_OK;
    }
    uint32_t id = vocab_find(&t->vocab, text, strlen(text));
    if (id != TOKEN_ABSENT && t->vocab.pieces[id].added) {
        *out = id;
        return STATUS_OK;
    }
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9 || text[digits] != '\0')
        return FAIL(
            CONFIG,
            "%s is '%.60s', wanted auto, bos, eos, pad, none, an id or an added token of %s", where,
            text, t->path);
    uint64_t number = strtoull(text, NULL, 10);
    if (number >= t->vocab.count || t->vocab.pieces[number].kind == PIECE_ABSENT)
        return FAIL(CONFIG, "%s is %s, wanted an id of the vocabulary of %zu in %s", where, text,
                    t->vocab.count, t->path);
    *out = (uint32_t)number;
    return STATUS_OK;
}

size_t
tokenizer_special_ids(uint32_t out[3], const struct tokenizer *t, uint32_t bos)
{
    uint32_t eos = t->roles.eos != TOKEN_ABSENT ? t->roles.eos : end_of_text_id(t);
    uint32_t ids[3] = {eos, t->roles.pad != TOKEN_ABSENT ? t->roles.pad : eos,
                       bos != TOKEN_ABSENT            ? bos
                       : t->roles.bos != TOKEN_ABSENT ? t->roles.bos
                                                      : eos};
    size_t count = 0;
    for (size_t i = 0; i < 3; i++) {
        size_t at = 0;
        while (at < count && out[at] < ids[i])
            at++;
        if (ids[i] == TOKEN_ABSENT || (at < count && out[at] == ids[i]))
            continue;
        memmove(out + at + 1, out + at, (count - at) * sizeof *out);
        out[at] = ids[i];
        count++;
    }
    return count;
}

struct hash128
tokenizer_hash(const struct tokenizer *t, enum tokenizer_special special)
{
    const struct vocab *v = &t->vocab;
    struct hasher *h = hasher_new();
    assert(h);
    hasher_add(h, "osae tokenizer 1", 16);
    uint32_t head[] = {(uint32_t)t->kind, t->digits, (uint32_t)v->count, (uint32_t)t->merges.count};
    hasher_add(h, head, sizeof head);
    for (uint32_t id = 0; id < v->count; id++) {
        const struct piece *p = &v->pieces[id];
        uint32_t entry[] = {p->kind == PIECE_ABSENT ? UINT32_MAX : p->spelling_bytes, p->added,
                            special == TOKENIZER_TEXT && p->special};
        hasher_add(h, entry, sizeof entry);
        hasher_add(h, v->spellings.at + p->spelling_at, p->spelling_bytes);
    }
    for (size_t i = 0; i < t->merges.count; i++) {
        const struct merge *m = &t->merges.list[i];
        uint32_t entry[] = {m->left, m->right, m->merged};
        hasher_add(h, entry, sizeof entry);
    }
    struct hash128 hash = hasher_128(h);
    hasher_free(&h);
    return hash;
}

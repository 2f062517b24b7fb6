#include "lib/lm/tokenizer_inside.h"

#include "lib/lm/tokenizer_split.h"
#include "lib/lm/unicode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char lower_block[] = "\xE2\x96\x81"; // U+2581, which stands for a space

struct tokenizer_cache {
    const struct tokenizer *owner;
    struct words words;
    struct merge_scratch merging;
    uint32_t *symbols;
    size_t symbol_room;
};

enum status
tokenizer_cache_new(struct tokenizer_cache **out, const struct tokenizer *t)
{
    *out = NULL;
    struct tokenizer_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return FAIL(CREATE, "no memory for a tokenizer's cache");
    cache->owner = t;
    enum status status = words_init(&cache->words);
    if (status != STATUS_OK)
        tokenizer_cache_free(&cache);
    *out = cache;
    return status;
}

void
tokenizer_cache_free(struct tokenizer_cache **cache)
{
    if (!*cache)
        return;
    words_release(&(*cache)->words);
    merge_scratch_release(&(*cache)->merging);
    free((*cache)->symbols);
    free(*cache);
    *cache = NULL;
}

// The symbols of a word, before merging; `out` has room for one per byte.
static size_t
symbols_of(const struct tokenizer *t, uint32_t *out, const char *word, size_t bytes)
{
    size_t n = 0;
    if (t->kind == TOKENIZER_BYTE_LEVEL) {
        for (size_t i = 0; i < bytes; i++) {
            out[n] = t->byte[(unsigned char)word[i]];
            n += out[n] != TOKEN_ABSENT; // a byte without token vanishes
        }
        return n;
    }
    for (size_t i = 0, step; i < bytes; i += step) {
        uint32_t code, id;
        step = utf8_read(&code, word + i, bytes - i);
        if (code < 128)
            id = t->ascii[code];
        else
            id = code == UTF8_BAD ? TOKEN_ABSENT : vocab_find(&t->vocab, word + i, step);
        if (id != TOKEN_ABSENT) {
            out[n++] = id;
            continue;
        }
        const char *as = code == ' ' ? lower_block : word + i;
        size_t count = code == ' ' ? 3 : step;
        for (size_t k = 0; k < count; k++) {
            out[n] = t->byte[(unsigned char)as[k]];
            n += out[n] != TOKEN_ABSENT;
        }
    }
    return n;
}

// A word that is not in the cache.
static enum status
encode_new(const struct tokenizer *t, struct tokenizer_cache *cache, const char *word, size_t bytes,
           size_t *count)
{
    void *at = cache->symbols;
    // Three per byte: a space without a piece of its own becomes the three bytes of U+2581.
    TRY(grow_array(&at, &cache->symbol_room, bytes * 3, sizeof *cache->symbols));
    cache->symbols = at;
    *count = symbols_of(t, cache->symbols, word, bytes);
    return merge_word(&t->merges, &cache->merging, cache->symbols, count);
}

// `left` bytes may be read at `word`, whose length is `bytes`.
static inline enum status
encode_word(const struct tokenizer *t, struct tokenizer_cache *cache, struct token_list *out,
            const char *word, size_t bytes, size_t left)
{
    size_t count;
    if (bytes > WORD_BYTES) {
        TRY(encode_new(t, cache, word, bytes, &count));
        return token_list_append(out, cache->symbols, count);
    }
    uint64_t key[WORD_BYTES / 8];
    word_key(key, word, bytes, left);
    struct word *set = words_set(&cache->words, key);
    const struct word *hit = word_is(&set[0], key, bytes)   ? &set[0]
                             : word_is(&set[1], key, bytes) ? &set[1]
                                                            : NULL;
    if (hit) {
        if (out->room - out->count < WORD_IDS)
            TRY(token_list_reserve(out, WORD_IDS));
        memcpy(out->ids + out->count, hit->ids, sizeof hit->ids); // all of them: a fixed size
        out->count += hit->count;
        return STATUS_OK;
    }
    TRY(encode_new(t, cache, word, bytes, &count));
    TRY(token_list_append(out, cache->symbols, count));
    if (count > WORD_IDS)
        return STATUS_OK;
    set[1] = set[0];
    struct word fresh = {.bytes = (uint8_t)bytes, .count = (uint8_t)count};
    memcpy(fresh.key, key, sizeof key);
    memcpy(fresh.ids, cache->symbols, count * sizeof *fresh.ids);
    set[0] = fresh;
    return STATUS_OK;
}

// Where splitting stops at the latest: at the end, or TOKENIZER_WORD_MOST on, between characters. A
// word that reaches a limit before the end is a huge one and is cut there; for any other word the
// splitter has seen what follows it, so the limit changes nothing.
static size_t
split_limit(const char *text, size_t bytes, size_t at)
{
    if (bytes - at <= TOKENIZER_WORD_MOST)
        return bytes;
    size_t limit = at + TOKENIZER_WORD_MOST;
    for (int back = 0; back < 3 && ((unsigned char)text[limit] & 0xC0) == 0x80; back++)
        limit--;
    return limit;
}

static enum status
encode_gap(const struct tokenizer *t, struct tokenizer_cache *cache, struct token_list *out,
           const char *text, size_t bytes)
{
    for (size_t at = 0, end; at < bytes; at = end) {
        size_t limit = split_limit(text, bytes, at);
        if (t->kind == TOKENIZER_BYTE_LEVEL)
            end = split_gpt2(text, limit, at, t->digits);
        else
            end = t->spaces ? split_spaces(text, limit, at) : limit;
        TRY(encode_word(t, cache, out, text + at, end - at, bytes - at));
    }
    return STATUS_OK;
}

enum status
tokenizer_encode(const struct tokenizer *t, struct tokenizer_cache *cache, struct token_list *out,
                 const char *text, size_t bytes, enum tokenizer_special special, size_t *added)
{
    assert(cache->owner == t);
    size_t gap = 0, found = 0; // where the gap before `at` begins
    for (size_t at = 0; at < bytes;) {
        size_t length = 0;
        uint32_t id = TOKEN_ABSENT;
        if (t->added.first[(unsigned char)text[at]])
            id = added_match(&t->added, &length, text + at, bytes - at);
        if (id == TOKEN_ABSENT) {
            at++;
            continue;
        }
        found++;
        if (special == TOKENIZER_SPLIT || !t->vocab.pieces[id].special) {
            TRY(encode_gap(t, cache, out, text + gap, at - gap));
            TRY(token_list_append(out, &id, 1));
            gap = at + length;
        }
        at += length;
    }
    if (added)
        *added += found;
    return encode_gap(t, cache, out, text + gap, bytes - gap);
}

size_t
tokenizer_cut(const struct tokenizer *t, const char *text, size_t bytes, size_t at)
{
    if (!t->newlines)
        return bytes;
    for (size_t i = at ? at : 1; i < bytes; i++) {
        const char *newline = memchr(text + i, '\n', bytes - i);
        if (!newline)
            return bytes;
        i = (size_t)(newline - text);
        // The character before it: a word ends there in any case unless it is white space.
        size_t begin = i - 1;
        while (begin > 0 && i - begin < 4 && ((unsigned char)text[begin] & 0xC0) == 0x80)
            begin--;
        uint32_t code;
        size_t length = utf8_read(&code, text + begin, i - begin);
        if (code != UTF8_BAD && begin + length == i &&
            (unicode_class(code) & UNICODE_CLASS) != UNICODE_SPACE)
            return i;
    }
    return bytes;
}

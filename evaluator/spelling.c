#include "evaluator/spelling.h"

#include <stdlib.h>
#include <string.h>

static bool
is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool
spelling_word(struct spelled *out, const char *text, size_t bytes)
{
    size_t first = bytes > 0 && text[0] == ' ';
    if (first == bytes)
        return false;
    for (size_t at = first; at < bytes; at++)
        if (!is_letter(text[at]))
            return false;
    *out = (struct spelled){.at = text,
                            .bytes = bytes,
                            .id = TOKEN_ABSENT,
                            .letter = (uint8_t)((text[first] | 0x20) - 'a')};
    return true;
}

enum status
spelling_find(struct spelling *list, const struct tokenizer *t)
{
    size_t ids = tokenizer_count(t);
    *list = (struct spelling){.at = calloc(ids ? ids : 1, sizeof *list->at)};
    if (!list->at)
        return FAIL(CREATE, "%s: no memory for its words", tokenizer_path(t));
    for (uint32_t id = 0; id < ids; id++) {
        struct tokenizer_text text = tokenizer_piece(t, id);
        if (!text.at || !spelling_word(&list->at[list->count], text.at, text.bytes))
            continue;
        list->at[list->count++].id = id;
    }
    return STATUS_OK;
}

void
spelling_release(struct spelling *list)
{
    free(list->at);
    *list = (struct spelling){0};
}

static bool
same_text(const struct spelled *a, const struct spelled *b)
{
    return a->bytes == b->bytes && memcmp(a->at, b->at, a->bytes) == 0;
}

enum status
spelling_thin(struct spelling *list, size_t most, uint64_t seed)
{
    if (list->count <= most)
        return STATUS_OK;
    struct pyrandom random;
    uint32_t *drawn = calloc(most ? most : 1, sizeof *drawn);
    uint32_t *scratch = calloc(list->count, sizeof *scratch);
    bool *kept = calloc(list->count, sizeof *kept);
    if (!drawn || !scratch || !kept) {
        free(kept);
        free(scratch);
        free(drawn);
        return FAIL(CREATE, "no memory to draw %zu words", most);
    }
    pyrandom_seed(&random, seed);
    pyrandom_sample(&random, drawn, scratch, (uint32_t)list->count, (uint32_t)most);
    for (size_t i = 0; i < most; i++)
        kept[drawn[i]] = true;
    size_t n = 0;
    for (size_t i = 0; i < list->count; i++)
        if (kept[i])
            list->at[n++] = list->at[i];
    list->count = n;
    free(kept);
    free(scratch);
    free(drawn);
    return STATUS_OK;
}

enum status
spelling_examples(struct pyrandom *random, uint32_t *out, size_t count, const struct spelled *from,
                  size_t from_count, const struct spelled *word, uint32_t *scratch)
{
    enum { TRIES = 1000 };
    if (count > from_count)
        return FAIL(CONFIG, "%zu examples of %zu words, wanted fewer", count, from_count);
    for (int i = 0; i < TRIES; i++) {
        bool among = false;
        pyrandom_sample(random, out, scratch, (uint32_t)from_count, (uint32_t)count);
        for (size_t e = 0; e < count; e++)
            among = among || same_text(&from[out[e]], word);
        if (!among)
            return STATUS_OK;
    }
    return FAIL(CONFIG, "'%.*s' is among its own examples %d times in a row: too few words",
                (int)word->bytes, word->at, (int)TRIES);
}

static enum status
add(struct text_list *text, const char *at, size_t bytes)
{
    return text_list_append(text, at, bytes);
}

enum status
spelling_text(struct text_list *text, const struct spelled *word,
              const struct spelled *const *examples, size_t count)
{
    static const char ask[] = " has the first letter:";
    for (size_t i = 0; i < count; i++) {
        char letter[2] = {' ', (char)('A' + examples[i]->letter)};
        TRY(add(text, "\n", 1));
        TRY(add(text, examples[i]->at, examples[i]->bytes));
        TRY(add(text, ask, sizeof ask - 1));
        TRY(add(text, letter, sizeof letter));
    }
    TRY(add(text, "\n", 1));
    TRY(add(text, word->at, word->bytes));
    TRY(add(text, ask, sizeof ask - 1));
    return STATUS_OK;
}

enum status
spelling_place(struct token_list *out, size_t *place, const struct tokenizer *t,
               struct tokenizer_cache *cache, uint32_t bos, const struct spelled *word,
               const char *text, size_t bytes)
{
    enum { BEHIND = 5 }; // tokens of " has the first letter:"
    out->count = 0;
    if (bos != TOKEN_ABSENT)
        TRY(token_list_append(out, &bos, 1));
    TRY(tokenizer_encode(t, cache, out, text, bytes, TOKENIZER_SPLIT, NULL));
    // The same text, but perhaps another token of it: byte tokens never come out of text.
    struct tokenizer_text found = {NULL, 0};
    if (out->count > BEHIND)
        found = tokenizer_piece(t, out->ids[out->count - BEHIND - 1]);
    if (!found.at || found.bytes != word->bytes || memcmp(found.at, word->at, word->bytes) != 0)
        return FAIL(CONFIG,
                    "%s: '%.*s' is not the sixth token from the end of its prompt but "
                    "'%.*s': the first-letter evaluation does not fit this tokenizer",
                    tokenizer_path(t), (int)word->bytes, word->at, (int)found.bytes,
                    found.at ? found.at : "");
    out->count -= BEHIND;
    *place = out->count - 1;
    return STATUS_OK;
}

enum status
spelling_prompt(struct token_list *out, size_t *place, const struct tokenizer *t,
                struct tokenizer_cache *cache, uint32_t bos, const struct spelled *word,
                const struct spelled *const *examples, size_t count)
{
    struct text_list text = {0};
    enum status status = spelling_text(&text, word, examples, count);
    if (status == STATUS_OK)
        status = spelling_place(out, place, t, cache, bos, word, text.at, text.bytes);
    text_list_release(&text);
    return status;
}

enum status
spelling_fit(struct spelling *list, const struct tokenizer *t, struct tokenizer_cache *cache,
             uint32_t bos)
{
    struct token_list ids = {0};
    enum status status = STATUS_OK;
    size_t n = 0, place;
    for (size_t i = 0; i < list->count; i++) {
        status = spelling_prompt(&ids, &place, t, cache, bos, &list->at[i], NULL, 0);
        if (status == STATUS_OK)
            list->at[n++] = list->at[i];
        else if (status != STATUS_CONFIG)
            break;
    }
    token_list_release(&ids);
    if (status != STATUS_OK && status != STATUS_CONFIG)
        return status;
    list->count = n;
    return STATUS_OK;
}

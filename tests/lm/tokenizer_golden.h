// tokenizer_golden: runs one tokenizer over one file of goldens {"text", "ids", "decoded"}.
#ifndef TESTS_LM_TOKENIZER_GOLDEN_H
#define TESTS_LM_TOKENIZER_GOLDEN_H

#include "lib/lm/tokenizer.h"
#include "tests/lm/golden_lines.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

struct golden_run {
    struct tokenizer *t;
    struct tokenizer_cache *cache;
    struct text_list all; // the texts so far, a newline between them
    size_t wrong;
};

static inline void
golden_check(json_t *line, void *context)
{
    struct golden_run *run = context;
    const json_t *text = json_object_get(line, "text"), *ids = json_object_get(line, "ids");
    const json_t *decoded = json_object_get(line, "decoded");
    struct token_list got = {0};
    struct text_list back = {0};
    enum status status = tokenizer_encode(run->t, run->cache, &got, json_string_value(text),
                                          json_string_length(text), TOKENIZER_SPLIT, NULL);
    bool same = status == STATUS_OK && got.count == json_array_size(ids);
    for (size_t i = 0; same && i < got.count; i++)
        same = got.ids[i] == (uint64_t)json_integer_value(json_array_get(ids, i));
    if (status == STATUS_OK)
        status = tokenizer_decode(run->t, &back, got.ids, got.count);
    same = same && status == STATUS_OK && back.bytes == json_string_length(decoded) &&
           (back.bytes == 0 || memcmp(back.at, json_string_value(decoded), back.bytes) == 0);
    if (!same) {
        run->wrong++;
        char *shown = json_dumps(line, JSON_COMPACT);
        fprintf(stderr, "wrong: %.300s\n  got", shown);
        for (size_t i = 0; i < got.count && i < 40; i++)
            fprintf(stderr, " %u", got.ids[i]);
        fprintf(stderr, " = '%.*s'\n", (int)back.bytes, back.at);
        free(shown);
    }
    if (text_list_append(&run->all, json_string_value(text), json_string_length(text)) ||
        text_list_append(&run->all, "\n", 1))
        run->wrong++;
    token_list_release(&got);
    text_list_release(&back);
}

// Every prefix that tokenizer_cut allows must have, with its rest, the ids of the whole.
static inline size_t
golden_cuts(struct golden_run *run)
{
    size_t cuts = 0, begin = 0;
    struct token_list whole = {0}, parts = {0};
    if (tokenizer_encode(run->t, run->cache, &whole, run->all.at, run->all.bytes, TOKENIZER_SPLIT,
                         NULL))
        return 0;
    while (begin < run->all.bytes) {
        size_t end = tokenizer_cut(run->t, run->all.at, run->all.bytes, begin + 1);
        if (tokenizer_encode(run->t, run->cache, &parts, run->all.at + begin, end - begin,
                             TOKENIZER_SPLIT, NULL))
            return 0;
        cuts++;
        begin = end;
    }
    if (parts.count != whole.count ||
        memcmp(parts.ids, whole.ids, whole.count * sizeof *whole.ids) != 0)
        cuts = 0;
    token_list_release(&whole);
    token_list_release(&parts);
    return cuts;
}

// How many of the goldens are right; `total` of them are expected. 0 when the tokenizer cannot be
// opened or when cutting the joined texts changes ids.
static inline size_t
golden_run(const char *model, const char *goldens, size_t total)
{
    struct golden_run run = {0};
    size_t right = 0;
    if (tokenizer_open(&run.t, model) != STATUS_OK ||
        tokenizer_cache_new(&run.cache, run.t) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_words());
    } else {
        size_t count = golden_lines(goldens, golden_check, &run);
        right = count == total ? count - run.wrong : 0;
        size_t cuts = golden_cuts(&run);
        if (cuts < 100) {
            fprintf(stderr, "%s: cutting: %zu parts, or other ids\n", model, cuts);
            right = 0;
        }
    }
    text_list_release(&run.all);
    tokenizer_cache_free(&run.cache);
    tokenizer_free(&run.t);
    return right;
}

#endif

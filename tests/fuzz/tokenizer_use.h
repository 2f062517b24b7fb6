// What a tokenizer that opened must be able to do with any text.
#ifndef TESTS_FUZZ_TOKENIZER_USE_H
#define TESTS_FUZZ_TOKENIZER_USE_H

#include "lib/lm/tokenizer.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

static inline void
tokenizer_use(const char *path)
{
    static const char words[] = "Hello  world\xc3\xa9\n\n<s> 12345 \xf0\x9f\x98\x80 \xff";
    struct tokenizer *t;
    struct tokenizer_cache *cache;
    struct token_list ids = {0};
    struct text_list text = {0};
    if (tokenizer_open(&t, path) != STATUS_OK)
        return;
    if (tokenizer_cache_new(&cache, t) == STATUS_OK) {
        if (tokenizer_encode(t, cache, &ids, words, strlen(words), TOKENIZER_SPLIT, NULL) ==
            STATUS_OK) {
            for (size_t i = 0; i < ids.count; i++)
                assert(ids.ids[i] < tokenizer_count(t));
            if (tokenizer_decode(t, &text, ids.ids, ids.count) == STATUS_OK)
                fuzz_read(text.at, text.bytes);
        }
        tokenizer_cache_free(&cache);
    }
    uint32_t special[3];
    (void)tokenizer_special_ids(special, t, tokenizer_bos(t));
    (void)tokenizer_hash(t, TOKENIZER_TEXT);
    token_list_release(&ids);
    text_list_release(&text);
    tokenizer_free(&t);
}

#endif

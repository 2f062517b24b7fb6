// Word lists and prompts. What needs SmolLM2's own tokenizer (OSAE_SMOLLM2, or cache/models/ under
// the source root) is left out where the file is not.
#include "evaluator/spelling.h"

#include "lib/base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct tokenizer *
opened(const char *path)
{
    struct tokenizer *t = NULL;
    if (tokenizer_open(&t, path) != STATUS_OK)
        fail_msg("%s", status_words());
    return t;
}

// Against a telling of the rule in other words; and the byte tokens are there twice.
static void
tiny_vocabularies(void **unused)
{
    (void)unused;
    static const char *const folders[] = {OSAE_TESTS "/golden/tiny-llama",
                                          OSAE_TESTS "/golden/tiny-gemma2"};
    for (int i = 0; i < 2; i++) {
        struct tokenizer *t = opened(folders[i]);
        struct spelling list = {0};
        assert_int_equal(spelling_find(&list, t), STATUS_OK);
        size_t n = 0, single_a = 0;
        for (uint32_t id = 0; id < tokenizer_count(t); id++) {
            struct tokenizer_text p = tokenizer_piece(t, id);
            char text[64] = "";
            if (p.bytes < sizeof text && p.at)
                memcpy(text, p.at, p.bytes);
            const char *letters = text + (text[0] == ' ');
            static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
            if (p.bytes == 0 || p.bytes >= sizeof text || !*letters ||
                letters[strspn(letters, alphabet)] != 0 || strlen(text) != p.bytes)
                continue;
            assert_true(n < list.count && list.at[n].id == id);
            assert_int_equal(list.at[n].letter, (letters[0] | 32) - 'a');
            single_a += strcmp(text, "a") == 0;
            n++;
        }
        assert_int_equal(n, list.count);
        assert_true(n > 100);
        assert_int_equal(single_a, i == 0 ? 1 : 2);
        spelling_release(&list);
        tokenizer_free(&t);
    }
}

static void
thinned(void **unused)
{
    (void)unused;
    struct tokenizer *t = opened(OSAE_TESTS "/golden/tiny-llama");
    struct spelling all = {0}, some = {0};
    assert_int_equal(spelling_find(&all, t), STATUS_OK);
    assert_int_equal(spelling_find(&some, t), STATUS_OK);
    assert_int_equal(spelling_thin(&some, all.count, 1), STATUS_OK);
    assert_int_equal(some.count, all.count);
    assert_int_equal(spelling_thin(&some, 20, 1234), STATUS_OK);
    assert_int_equal(some.count, 20);
    uint32_t drawn[20], scratch[1024];
    struct pyrandom random;
    pyrandom_seed(&random, 1234);
    pyrandom_sample(&random, drawn, scratch, (uint32_t)all.count, 20);
    for (size_t i = 0; i < 20; i++) {
        bool found = false;
        for (size_t j = 0; j < 20; j++)
            found = found || all.at[drawn[j]].id == some.at[i].id;
        assert_true(found && (i == 0 || some.at[i].id > some.at[i - 1].id));
    }
    // examples never hold the word; from two words of which one is it, there is no way
    uint32_t out[10];
    for (int i = 0; i < 50; i++) {
        assert_int_equal(
            spelling_examples(&random, out, 10, some.at, 20, &some.at[i % 20], scratch), STATUS_OK);
        for (size_t e = 0; e < 10; e++)
            assert_true(out[e] != (uint32_t)i % 20);
    }
    assert_int_equal(spelling_examples(&random, out, 2, some.at, 2, &some.at[1], scratch),
                     STATUS_CONFIG);
    assert_int_equal(spelling_examples(&random, out, 3, some.at, 2, &some.at[1], scratch),
                     STATUS_CONFIG);
    spelling_release(&some);
    spelling_release(&all);
    tokenizer_free(&t);
}

// A tokenizer whose vocabulary is too small for the template is refused, not misread.
static void
prompts_of_a_misfit(void **unused)
{
    (void)unused;
    struct tokenizer *t = opened(OSAE_TESTS "/golden/tiny-llama");
    struct tokenizer_cache *cache = NULL;
    struct spelling list = {0};
    struct token_list tokens = {0};
    size_t place;
    assert_int_equal(tokenizer_cache_new(&cache, t), STATUS_OK);
    assert_int_equal(spelling_find(&list, t), STATUS_OK);
    assert_int_equal(spelling_prompt(&tokens, &place, t, cache, 0, &list.at[60], NULL, 0),
                     STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "sixth token"));
    token_list_release(&tokens);
    spelling_release(&list);
    tokenizer_cache_free(&cache);
    tokenizer_free(&t);
}

static void
smollm2(void **unused)
{
    (void)unused;
    const char *model = getenv("OSAE_SMOLLM2");
    if (!model)
        model = OSAE_TESTS "/../cache/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (!path_exists(model))
        skip();
    // counted with Hugging Face's tokenizers
    static const size_t by_letter[26] = {4144, 2002, 4275, 2333, 2693, 1782, 1255, 1517, 3069,
                                         394,  419,  1533, 2300, 1046, 2046, 3469, 210,  2771,
                                         4180, 2141, 1225, 806,  1051, 75,   220,  122};
    struct tokenizer *t = opened(model);
    struct spelling list = {0};
    assert_int_equal(spelling_find(&list, t), STATUS_OK);
    assert_int_equal(list.count, 47078);
    size_t found[26] = {0};
    for (size_t i = 0; i < list.count; i++)
        found[list.at[i].letter]++;
    assert_memory_equal(found, by_letter, sizeof found);
    struct tokenizer_cache *cache = NULL;
    struct token_list tokens = {0};
    assert_int_equal(tokenizer_cache_new(&cache, t), STATUS_OK);
    const struct spelled *examples[10];
    for (size_t i = 0; i < 300; i++) {
        const struct spelled *word = &list.at[i * 151];
        size_t place = 0;
        for (size_t e = 0; e < 10; e++)
            examples[e] = &list.at[(i * 7919 + e * 4001) % list.count];
        if (spelling_prompt(&tokens, &place, t, cache, tokenizer_bos(t), word, examples, 10) !=
            STATUS_OK)
            fail_msg("%s", status_words());
        assert_true(place == 82 && tokens.count == 83 && tokens.ids[0] == 0);
        assert_int_equal(tokens.ids[82], word->id);
    }
    token_list_release(&tokens);
    spelling_release(&list);
    tokenizer_cache_free(&cache);
    tokenizer_free(&t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_vocabularies),
        cmocka_unit_test(thinned),
        cmocka_unit_test(prompts_of_a_misfit),
        cmocka_unit_test(smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

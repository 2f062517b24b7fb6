// The tiny tokenizers, from every kind of file, against the goldens of the reference library.
#include "tests/lm/tokenizer_golden.h"

#include <setjmp.h>

#include <cmocka.h>

#define GOLDEN OSAE_TESTS "/golden/"
#define GEMMA GOLDEN "tiny-gemma2/"
#define LLAMA GOLDEN "tiny-llama/"

static void
opened(struct tokenizer **t, struct tokenizer_cache **cache, const char *path)
{
    if (tokenizer_open(t, path) != STATUS_OK || tokenizer_cache_new(cache, *t) != STATUS_OK)
        fail_msg("%s", status_words());
}

static void
closed(struct tokenizer **t, struct tokenizer_cache **cache)
{
    tokenizer_cache_free(cache);
    tokenizer_free(t);
}

static void
encoded(struct token_list *out, const struct tokenizer *t, struct tokenizer_cache *cache,
        const char *text, size_t bytes, enum tokenizer_special special)
{
    out->count = 0;
    assert_int_equal(tokenizer_encode(t, cache, out, text, bytes, special, NULL), STATUS_OK);
}

static void
gemma_goldens_from_all_three_files(void **state)
{
    (void)state;
    const char *goldens = GOLDEN "tokenizer-goldens/tiny-gemma2.jsonl";
    assert_int_equal(golden_run(GEMMA, goldens, 505), 505);
    assert_int_equal(golden_run(GEMMA "tokenizer.model", goldens, 505), 505);
    assert_int_equal(golden_run(GEMMA "tiny-gemma2.gguf", goldens, 505), 505);
}

static void
llama_goldens_from_both_files(void **state)
{
    (void)state;
    const char *goldens = GOLDEN "tokenizer-goldens/tiny-llama.jsonl";
    assert_int_equal(golden_run(LLAMA, goldens, 490), 490);
    assert_int_equal(golden_run(LLAMA "tiny-llama-q4_1.gguf", goldens, 490), 490);
}

static void
one_tokenizer_has_one_hash_whatever_the_file(void **state)
{
    (void)state;
    const char *paths[] = {GEMMA, GEMMA "tokenizer.model", GEMMA "tiny-gemma2.gguf", LLAMA,
                           LLAMA "tiny-llama-q4_1.gguf"};
    struct hash128 hash[5];
    for (size_t i = 0; i < 5; i++) {
        struct tokenizer *t;
        assert_int_equal(tokenizer_open(&t, paths[i]), STATUS_OK);
        hash[i] = tokenizer_hash(t, TOKENIZER_SPLIT);
        if (i == 3) // no special piece differs between the two files of this one
            assert_false(hash128_same(hash[i], tokenizer_hash(t, TOKENIZER_TEXT)));
        tokenizer_free(&t);
    }
    assert_true(hash128_same(hash[0], hash[1]));
    assert_true(hash128_same(hash[0], hash[2]));
    assert_true(hash128_same(hash[3], hash[4]));
    assert_false(hash128_same(hash[0], hash[3]));
}

static void
roles_bos_and_special_ids(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        uint32_t bos, eos, pad, unk, auto_bos;
        size_t count, specials;
        uint32_t special[3];
    } rows[] = {
        {GEMMA, 2, 1, 0, 3, 2, 1024, 3, {0, 1, 2}},
        {GEMMA "tokenizer.model", 2, 1, 0, 3, 2, 1024, 3, {0, 1, 2}},
        {GEMMA "tiny-gemma2.gguf", 2, 1, 0, 3, 2, 1024, 3, {0, 1, 2}},
        {LLAMA, 1, 2, 2, TOKEN_ABSENT, 0, 512, 2, {0, 2}},
        {LLAMA "tiny-llama-q4_1.gguf", 1, 2, 2, 0, 0, 512, 2, {0, 2}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tokenizer *t;
        uint32_t ids[3];
        assert_int_equal(tokenizer_open(&t, rows[i].path), STATUS_OK);
        struct tokenizer_roles roles = tokenizer_roles(t);
        assert_int_equal(roles.bos, rows[i].bos);
        assert_int_equal(roles.eos, rows[i].eos);
        assert_int_equal(roles.pad, rows[i].pad);
        assert_int_equal(roles.unk, rows[i].unk);
        assert_int_equal(tokenizer_bos(t), rows[i].auto_bos);
        assert_int_equal(tokenizer_count(t), rows[i].count);
        assert_int_equal(tokenizer_special_ids(ids, t, tokenizer_bos(t)), rows[i].specials);
        assert_memory_equal(ids, rows[i].special, rows[i].specials * sizeof *ids);
        tokenizer_free(&t);
    }
}

static void
a_setting_names_a_token(void **state)
{
    (void)state;
    struct tokenizer *t;
    uint32_t id;
    assert_int_equal(tokenizer_open(&t, LLAMA), STATUS_OK);
    static const struct {
        const char *text;
        uint32_t id;
    } good[] = {{"auto", 0},
                {"bos", 7},
                {"eos", 2},
                {"pad", 2},
                {"511", 511},
                {"<|im_start|>", 1},
                {"none", TOKEN_ABSENT}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(tokenizer_pick(&id, t, good[i].text, 7, "x"), STATUS_OK);
        assert_int_equal(id, good[i].id);
    }
    static const char *const bad[] = {"", "512", "-1", "2x", "the", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(tokenizer_pick(&id, t, bad[i], 7, "run.yaml:7: model.bos"), STATUS_CONFIG);
        assert_non_null(strstr(status_words(), "run.yaml:7: model.bos is "));
    }
    tokenizer_free(&t);
}

static void
special_tokens_in_text_are_text_if_asked(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    struct tokenizer_cache *cache = NULL;
    struct token_list ids = {0};
    struct text_list back = {0};
    const char text[] = "a<|im_end|>b<|endoftext|>";
    opened(&t, &cache, LLAMA);
    size_t added = 3;
    assert_int_equal(tokenizer_encode(t, cache, &ids, text, strlen(text), TOKENIZER_SPLIT, &added),
                     STATUS_OK);
    assert_int_equal(added, 5);
    assert_int_equal(ids.count, 4);
    assert_int_equal(ids.ids[1], 2);
    ids.count = 0;
    assert_int_equal(tokenizer_encode(t, cache, &ids, text, strlen(text), TOKENIZER_TEXT, &added),
                     STATUS_OK);
    assert_int_equal(added, 7); // they are counted all the same
    for (size_t i = 0; i < ids.count; i++)
        assert_false(tokenizer_is_special(t, ids.ids[i]));
    assert_int_equal(tokenizer_decode(t, &back, ids.ids, ids.count), STATUS_OK);
    assert_int_equal(back.bytes, strlen(text));
    assert_memory_equal(back.at, text, back.bytes);
    closed(&t, &cache);

    // Gemma's runs of newlines are added, but not special: tokens either way.
    opened(&t, &cache, GEMMA);
    encoded(&ids, t, cache, "\n\n<bos>", 7, TOKENIZER_TEXT);
    assert_int_equal(ids.ids[0], 8);
    for (size_t i = 0; i < ids.count; i++)
        assert_int_not_equal(ids.ids[i], 2);
    closed(&t, &cache);
    token_list_release(&ids);
    text_list_release(&back);
}

static void
pieces_are_bytes(void **state)
{
    (void)state;
    struct tokenizer *t;
    assert_int_equal(tokenizer_open(&t, GEMMA), STATUS_OK);
    struct tokenizer_text p = tokenizer_piece(t, 16);
    assert_int_equal(p.bytes, 3);
    assert_memory_equal(p.at, "   ", 3); // spelled with U+2581 in the file
    p = tokenizer_piece(t, 29 + 0xE2);
    assert_int_equal(p.bytes, 1);
    assert_memory_equal(p.at, "\xE2", 1);
    assert_true(tokenizer_is_added(t, 7) && !tokenizer_is_special(t, 7));
    assert_true(tokenizer_is_added(t, 2) && tokenizer_is_special(t, 2));
    assert_false(tokenizer_is_added(t, 1023));
    assert_null(tokenizer_piece(t, 1024).at);
    assert_false(tokenizer_is_added(t, 1024));
    uint32_t outside[] = {5, 1024};
    struct text_list out = {0};
    assert_int_equal(tokenizer_decode(t, &out, outside, 2), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "token 1 of 2 is 1024"));
    text_list_release(&out);
    tokenizer_free(&t);
}

static void
any_bytes_are_safe_and_the_cache_changes_nothing(void **state)
{
    (void)state;
    const char *paths[] = {GEMMA, LLAMA};
    for (size_t k = 0; k < 2; k++) {
        struct tokenizer *t;
        struct tokenizer_cache *warm, *cold;
        struct token_list a = {0}, b = {0};
        opened(&t, &warm, paths[k]);
        uint64_t seed = 1;
        for (size_t round = 0; round < 2000; round++) {
            char text[97];
            size_t bytes = (size_t)(seed >> 33) % sizeof text;
            static const char alphabet[] = "  \n'sat\xE2\x96\x81\xF0\x9F\xFF<b>1\xC2\xA0|";
            for (size_t i = 0; i < bytes; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                text[i] =
                    round % 2 ? (char)(seed >> 56) : alphabet[(seed >> 40) % (sizeof alphabet - 1)];
            }
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            char *exact = malloc(bytes ? bytes : 1); // the sanitizer sees a byte too much
            memcpy(exact, text, bytes);
            encoded(&a, t, warm, exact, bytes, TOKENIZER_SPLIT);
            if (round % 50 == 0) {
                assert_int_equal(tokenizer_cache_new(&cold, t), STATUS_OK);
                encoded(&b, t, cold, exact, bytes, TOKENIZER_SPLIT);
                assert_int_equal(a.count, b.count);
                if (a.count > 0)
                    assert_memory_equal(a.ids, b.ids, a.count * sizeof *a.ids);
                tokenizer_cache_free(&cold);
            }
            free(exact);
        }
        token_list_release(&a);
        token_list_release(&b);
        closed(&t, &warm);
    }
}

// A huge text without any white space is cut at TOKENIZER_WORD_MOST, not refused, not quadratic.
static void
a_word_of_megabytes_is_bounded(void **state)
{
    (void)state;
    const char *paths[] = {GEMMA, LLAMA};
    size_t bytes = (5 * (size_t)TOKENIZER_WORD_MOST) / 2;
    char *text = malloc(bytes);
    assert_non_null(text);
    for (size_t i = 0; i < bytes; i++)
        text[i] = "\xC3\xA9"[i % 2];
    for (size_t k = 0; k < 2; k++) {
        struct tokenizer *t;
        struct tokenizer_cache *cache;
        struct token_list ids = {0};
        struct text_list back = {0};
        opened(&t, &cache, paths[k]);
        encoded(&ids, t, cache, text, bytes, TOKENIZER_SPLIT);
        assert_int_equal(tokenizer_decode(t, &back, ids.ids, ids.count), STATUS_OK);
        assert_int_equal(back.bytes, bytes);
        assert_memory_equal(back.at, text, bytes);
        token_list_release(&ids);
        text_list_release(&back);
        closed(&t, &cache);
    }
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemma_goldens_from_all_three_files),
        cmocka_unit_test(llama_goldens_from_both_files),
        cmocka_unit_test(one_tokenizer_has_one_hash_whatever_the_file),
        cmocka_unit_test(roles_bos_and_special_ids),
        cmocka_unit_test(a_setting_names_a_token),
        cmocka_unit_test(special_tokens_in_text_are_text_if_asked),
        cmocka_unit_test(pieces_are_bytes),
        cmocka_unit_test(any_bytes_are_safe_and_the_cache_changes_nothing),
        cmocka_unit_test(a_word_of_megabytes_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

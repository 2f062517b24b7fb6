// The stream's rules against a slow second telling of them.
#include "producer/mixer.h"

#include "lib/base/rng.h"
#include "lib/store/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { CONTEXT = 8, WIDTH = 5, ROWS = 6, BLOCK = 4 };

static struct provenance
facts(void)
{
    return (struct provenance){.tokens = {1, 2},
                               .model = {3, 4},
                               .layer = 2,
                               .context = CONTEXT,
                               .contexts = 40,
                               .rows = ROWS,
                               .width = WIDTH,
                               .payload = PROVENANCE_F32,
                               .seed = 42,
                               .shuffle_block = BLOCK,
                               .shuffle = PROVENANCE_SHUFFLE_ROWS,
                               .epochs = 2,
                               .drop_first = true,
                               .drop_special = true,
                               .drop_norm_above = 10,
                               .special = {0, 2},
                               .specials = 2};
}

// Row i of the block is filled so that it can be told apart: x[0] = i. Some are massive, some
// special.
static void
fill(float *x, uint32_t *ids, size_t rows, uint64_t seed)
{
    for (size_t i = 0; i < rows; i++) {
        uint32_t words[4];
        rng_words(words, seed, 77, 0, i);
        ids[i] = words[0] % 12;
        for (size_t j = 0; j < WIDTH; j++)
            x[i * WIDTH + j] = rng_uniform(words[j % 4]) + (words[1] % 9 == 0 ? 1000 : 1);
        x[i * WIDTH] = (float)i;
    }
    for (size_t i = 0; i < rows; i++)
        if (i % CONTEXT != 0) // keep the typical norm near the index's scale
            for (size_t j = 1; j < WIDTH; j++)
                x[i * WIDTH + j] *= 20;
}

static bool
dropped(const struct provenance *s, const float *x, const uint32_t *ids, size_t i, double median)
{
    if (s->drop_first && i % CONTEXT == 0)
        return true;
    if (s->drop_special && (ids[i] == 0 || ids[i] == 2))
        return true;
    double sum = 0;
    for (size_t j = 0; j < WIDTH; j++)
        sum += (double)x[i * WIDTH + j] * (double)x[i * WIDTH + j];
    return median > 0 && sqrt(sum) > s->drop_norm_above * median;
}

static double
lower_median(const struct provenance *s, const float *x, const uint32_t *ids, size_t rows)
{
    double norms[512];
    size_t n = 0;
    for (size_t i = 0; i < rows; i++) {
        if (dropped(s, x, ids, i, 0))
            continue;
        double sum = 0;
        for (size_t j = 0; j < WIDTH; j++)
            sum += (double)x[i * WIDTH + j] * (double)x[i * WIDTH + j];
        norms[n++] = sqrt(sum);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            if (norms[j] < norms[i]) {
                double held = norms[i];
                norms[i] = norms[j];
                norms[j] = held;
            }
    return norms[(n - 1) / 2];
}

static void
batches_follow_the_rules_of_the_stream(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed < 30; seed++) {
        struct provenance s = facts();
        s.seed = seed;
        struct provenance_sizes sizes;
        assert_int_equal(provenance_measure(&sizes, &s, 1), STATUS_OK);
        assert_int_equal(sizes.block_contexts, 4); // ceil(101 * 4 * 6 / (100 * 7))
        size_t rows = (size_t)sizes.block_contexts * CONTEXT;
        struct mixer *mixer;
        assert_int_equal(mixer_new(&mixer, &s, &sizes), STATUS_OK);
        uint32_t ids[512];
        fill(mixer_rows(mixer), ids, rows, seed);
        assert_int_equal(mixer_order(mixer, ids, 3), STATUS_OK);

        const float *x = mixer_rows(mixer);
        double median = lower_median(&s, x, ids, rows);
        uint32_t kept[512], order[512];
        size_t left = 0;
        for (size_t i = 0; i < rows; i++)
            if (!dropped(&s, x, ids, i, median))
                kept[left++] = (uint32_t)i;
        rng_shuffle(order, left, seed, 3);
        const struct mixer_counts *counts = mixer_counts(mixer);
        assert_int_equal(counts->rows - counts->dropped_first - counts->dropped_special -
                             counts->dropped_norm,
                         left);
        assert_int_equal(counts->unused + BLOCK * ROWS, left + counts->repeated);
        for (uint64_t r = 0; r < BLOCK; r++) {
            float batch[ROWS * WIDTH];
            assert_int_equal(mixer_batch(mixer, batch, NULL, r), STATUS_OK);
            for (size_t i = 0; i < ROWS; i++) {
                size_t at = kept[order[(r * ROWS + i) % left]];
                assert_memory_equal(batch + i * WIDTH, x + at * WIDTH, WIDTH * sizeof *x);
            }
        }
        mixer_free(&mixer);
    }
}

static void
contexts_stay_together_and_their_pairs_are_marked(void **unused)
{
    (void)unused;
    struct provenance s = facts();
    s.shuffle = PROVENANCE_SHUFFLE_CONTEXTS;
    s.payload = PROVENANCE_BF16;
    struct provenance_sizes sizes;
    assert_int_equal(provenance_measure(&sizes, &s, 1), STATUS_OK);
    size_t rows = (size_t)sizes.block_contexts * CONTEXT;
    struct mixer *mixer;
    assert_int_equal(mixer_new(&mixer, &s, &sizes), STATUS_OK);
    uint32_t ids[512];
    fill(mixer_rows(mixer), ids, rows, 5);
    assert_int_equal(mixer_order(mixer, ids, 0), STATUS_OK);
    bool seen_pair = false, seen_gap = false;
    for (uint64_t r = 0; r < BLOCK; r++) {
        uint16_t batch[ROWS * WIDTH];
        unsigned char pairs[(ROWS + 7) / 8];
        assert_int_equal(mixer_batch(mixer, batch, pairs, r), STATUS_OK);
        assert_false(pairs[0] & 1); // row 0 has no row above it
        for (size_t i = 1; i < ROWS; i++) {
            // small integers are exact in bf16, so x[0] tells the row
            int here = (int)bf16_to_f32(batch[i * WIDTH]);
            int before = (int)bf16_to_f32(batch[(i - 1) * WIDTH]);
            bool pair = pairs[i / 8] >> (i % 8) & 1;
            assert_int_equal(pair, here == before + 1 && here % CONTEXT != 0);
            seen_pair |= pair;
            seen_gap |= !pair;
        }
    }
    assert_true(seen_pair && seen_gap);
    mixer_free(&mixer);
}

static void
what_is_not_finite_is_refused(void **unused)
{
    (void)unused;
    struct provenance s = facts();
    s.drop_norm_above = 0;
    struct provenance_sizes sizes;
    assert_int_equal(provenance_measure(&sizes, &s, 1), STATUS_OK);
    size_t rows = (size_t)sizes.block_contexts * CONTEXT;
    struct mixer *mixer;
    assert_int_equal(mixer_new(&mixer, &s, &sizes), STATUS_OK);
    uint32_t ids[512];
    fill(mixer_rows(mixer), ids, rows, 5);
    for (size_t i = 0; i < rows; i++)
        mixer_rows(mixer)[i * WIDTH + 2] = i % 2 ? INFINITY : NAN;
    assert_int_equal(mixer_order(mixer, ids, 0), STATUS_OK);
    float batch[ROWS * WIDTH];
    assert_int_equal(mixer_batch(mixer, batch, NULL, 0), STATUS_DAMAGED);
    for (size_t i = 0; i < rows; i++)
        ids[i] = 0; // all special
    assert_int_equal(mixer_order(mixer, ids, 0), STATUS_DAMAGED);
    mixer_free(&mixer);
}

static void
every_fact_is_part_of_the_identity(void **unused)
{
    (void)unused;
    struct provenance s = facts(), other;
    struct hash128 id = provenance_id(&s);
    other = facts();
    assert_true(hash128_same(id, provenance_id(&other)));
#define CHANGED(member)                                                                            \
    other = facts();                                                                               \
    other.member;                                                                                  \
    assert_false(hash128_same(id, provenance_id(&other)))
    CHANGED(tokens.low++);
    CHANGED(model.high++);
    CHANGED(layer++);
    CHANGED(context++);
    CHANGED(rows++);
    CHANGED(width++);
    CHANGED(payload = PROVENANCE_BF16);
    CHANGED(seed++);
    CHANGED(shuffle_block++);
    CHANGED(shuffle = PROVENANCE_SHUFFLE_CONTEXTS);
    CHANGED(epochs++);
    CHANGED(drop_first = false);
    CHANGED(drop_special = false);
    CHANGED(drop_norm_above = 9);
    CHANGED(special[1] = 1);
    CHANGED(bf16_products = true);
}

static void
sizes_match_the_paper(void **unused)
{
    (void)unused;
    struct provenance s = facts();
    s.context = 128;
    s.rows = 2048;
    s.shuffle_block = 16;
    s.epochs = 1;
    s.contexts = 40000;
    struct provenance_sizes sizes;
    assert_int_equal(provenance_measure(&sizes, &s, 2441), STATUS_OK);
    assert_int_equal(sizes.block_contexts, 261);
    assert_int_equal(sizes.blocks, 153);
    assert_int_equal(sizes.batches, 2448);
    assert_int_equal(provenance_measure(&sizes, &s, 2449), STATUS_CONFIG);
    s.contexts = 260;
    assert_int_equal(provenance_measure(&sizes, &s, 1), STATUS_CONFIG);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_follow_the_rules_of_the_stream),
        cmocka_unit_test(contexts_stay_together_and_their_pairs_are_marked),
        cmocka_unit_test(what_is_not_finite_is_refused),
        cmocka_unit_test(every_fact_is_part_of_the_identity),
        cmocka_unit_test(sizes_match_the_paper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The board: who works on what, what is done, what retention must spare.
//
// Invariants: E1 E2
#include "trainer/board.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct board *
board_of(size_t count)
{
    struct board *board;
    assert_int_equal(board_new(&board, "run"), STATUS_OK);
    for (uint64_t step = 1; step <= count; step++) {
        struct kept kept = {.step = step, .mh = step * 11, .bytes = 7, .incarnation = 2};
        board_add(board, &kept);
    }
    return board;
}

static struct board_entry *
entry_of(struct board *board, unsigned step)
{
    char ck[WIRE_TOPIC];
    snprintf(ck, sizeof ck, "run/%u-2", step);
    struct board_entry *entry = board_find(board, ck);
    assert_non_null(entry);
    return entry;
}

static void
a_claim_is_its_owners_until_it_ends(void **state)
{
    (void)state;
    struct board *board = board_of(2);
    struct board_entry *entry = entry_of(board, 1);
    assert_true(board_claim(entry, "a", 1000, 5000));
    assert_false(board_claim(entry, "b", 1000, 5999));
    assert_true(board_claim(entry, "a", 1000, 5999)); // renewed
    assert_false(board_claim(entry, "b", 1000, 6998));
    assert_true(board_claim(entry, "b", 1000, 6999)); // a fell silent
    assert_false(board_claim(entry, "a", 1000, 7000));
    assert_true(board_claim(entry, "b", 0, 7000)); // given back
    assert_true(board_claim(entry, "a", 1000, 7000));
    assert_true(board_claim(entry_of(board, 2), "b", 1000, 7000)); // another is another
    board_free(&board);
}

static void
what_is_claimed_is_spared(void **state)
{
    (void)state;
    struct board *board = board_of(20);
    uint64_t pins[64];
    for (unsigned step = 1; step <= 20; step++)
        (void)board_result(entry_of(board, step), (struct hash128){1, 1}, step == 3,
                           step == 7 ? 2 : 1);
    assert_int_equal(board_pins(board, 100, pins, 1, 8), 2);
    assert_int_equal(pins[0], 7); // the best
    assert_int_equal(pins[1], 3); // more of it is to come
    assert_true(board_claim(entry_of(board, 5), "a", 1000, 100));
    assert_int_equal(board_pins(board, 1099, pins, 1, 8), 3);
    assert_int_equal(pins[2], 5);
    assert_int_equal(board_pins(board, 1100, pins, 1, 8), 2);
    for (unsigned step = 8; step <= 20; step++) // more than can be: bounded
        assert_true(board_claim(entry_of(board, step), "b", 1000, 100));
    assert_int_equal(board_pins(board, 200, pins, 1, 8), 2 + BOARD_CLAIMS);
    board_free(&board);
}

static void
a_checkpoint_is_done_with_its_last_kind(void **state)
{
    (void)state;
    struct board *board = board_of(1);
    struct board_entry *entry = entry_of(board, 1);
    struct hash128 core = {1, 1}, absorption = {2, 2};
    assert_true(board_result(entry, core, true, 0.9));
    assert_false(entry->done);
    assert_false(board_result(entry, core, true, 0.9)); // said twice: nothing new
    assert_true(board_result(entry, absorption, false, (double)NAN));
    assert_true(entry->done);
    assert_true(entry->score == 0.9); // the other kind has no such number
    assert_false(board_result(entry, absorption, false, (double)NAN));
    assert_true(board_all_done(board));
    struct msg_cklistr *list = calloc(1, sizeof *list);
    assert_non_null(list);
    board_list(board, &(struct msg_cklist){.most = 5}, 1, list);
    assert_int_equal(list->count, 1);
    assert_true(list->at[0].done && list->at[0].last);
    board_list(board, &(struct msg_cklist){.most = 5}, 2, list);
    assert_false(list->at[0].last);
    free(list);
    board_free(&board);
}

static void
one_that_was_told_to_come_and_does_not_is_done_by_the_word_of_the_next(void **state)
{
    (void)state;
    struct board *board = board_of(1);
    struct board_entry *entry = entry_of(board, 1);
    struct hash128 core = {1, 1};
    assert_true(board_result(entry, core, true, 0.9));
    assert_true(board_result(entry, core, false, 0.9)); // the other kind was switched off since
    assert_true(entry->done);
    board_free(&board);
}

// An evaluator that sees no files of others knows from the list what of its own is missing.
static void
a_list_says_of_which_specifications_there_are_results(void **state)
{
    (void)state;
    struct board *board = board_of(2);
    struct board_entry *entry = entry_of(board, 1);
    struct hash128 spec = {0, 0};
    for (uint64_t i = 1; i <= BOARD_SPECS + 1; i++) { // one more than are remembered
        spec.low = i;
        assert_true(board_result(entry, spec, i < BOARD_SPECS + 1, 0.9));
    }
    assert_false(board_result(entry, spec, false, 0.9));
    static struct msg_cklist ask = {.most = 5};
    struct msg_cklistr *list = calloc(1, sizeof *list);
    assert_non_null(list);
    const uint64_t asked[] = {1, 2, BOARD_SPECS + 2, BOARD_SPECS + 1}; // the first was forgotten
    for (size_t i = 0; i < 4; i++) {
        spec.low = asked[i];
        hex128(ask.specs.at[ask.specs.count++], spec);
    }
    snprintf(ask.specs.at[ask.specs.count++], TEXT_BYTES, "%s", "");
    snprintf(ask.specs.at[ask.specs.count++], TEXT_BYTES, "%033d", 2);
    snprintf(ask.specs.at[ask.specs.count++], TEXT_BYTES, "%031dx", 2);
    board_list(board, &ask, 2, list);
    assert_int_equal(list->count, 2);
    assert_int_equal(list->at[0].has, 1u << 1 | 1u << 3);
    assert_int_equal(list->at[1].has, 0);
    free(list);
    board_free(&board);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claim_is_its_owners_until_it_ends),
        cmocka_unit_test(what_is_claimed_is_spared),
        cmocka_unit_test(a_checkpoint_is_done_with_its_last_kind),
        cmocka_unit_test(one_that_was_told_to_come_and_does_not_is_done_by_the_word_of_the_next),
        cmocka_unit_test(a_list_says_of_which_specifications_there_are_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

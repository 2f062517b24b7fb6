// What `osae set` leaves in a run's journal, and what holds at a step because of it.
// Invariants: C2 D5
#include "trainer/changes.h"

#include "config/settings.h"
#include "lib/base/fault.h"
#include "lib/base/file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];
static struct journal *journal;
static struct changes *changes;

static void
reopen(void)
{
    changes_free(&changes);
    journal_close(&journal);
    assert_int_equal(journal_open(&journal, path, false), STATUS_OK);
    if (changes_new(&changes, journal) != STATUS_OK)
        fail_msg("%s", status_words());
}

static int
set_up(void **unused)
{
    (void)unused;
    snprintf(path, sizeof path, "/tmp/osae-changes-%d.jsonl", (int)getpid());
    unlink(path);
    reopen();
    return 0;
}

static int
tear_down(void **unused)
{
    (void)unused;
    changes_free(&changes);
    journal_close(&journal);
    return unlink(path);
}

static struct change
say(uint64_t id, enum hot key, double value, uint64_t at)
{
    struct change change = {.id = {id, ~id}, .key = key, .value = value, .at = at};
    assert_int_equal(changes_add(changes, &change), STATUS_OK);
    return change;
}

static void
holds(uint64_t step, double lr, double lambda_s, double lambda_o)
{
    double values[HOT_KEYS] = {1, 2, 3};
    bool any = changes_at(values, changes, step);
    assert_true(any == !(lr == 1 && lambda_s == 2 && lambda_o == 3));
    if (values[HOT_LR] != lr || values[HOT_LAMBDA_S] != lambda_s ||
        values[HOT_LAMBDA_O] != lambda_o)
        fail_msg("step %llu: %g %g %g, wanted %g %g %g", (unsigned long long)step, values[HOT_LR],
                 values[HOT_LAMBDA_S], values[HOT_LAMBDA_O], lr, lambda_s, lambda_o);
}

static void
a_change_holds_from_its_step(void **unused)
{
    (void)unused;
    holds(0, 1, 2, 3);
    say(1, HOT_LR, 0.1, 10);
    say(2, HOT_LAMBDA_O, 0, 5);
    say(3, HOT_LR, 1.0 / 3, 20);
    for (int life = 0; life < 2; life++) {
        holds(4, 1, 2, 3);
        holds(5, 1, 2, 0);
        holds(9, 1, 2, 0);
        holds(10, 0.1, 2, 0);
        holds(19, 0.1, 2, 0);
        holds(20, 1.0 / 3, 2, 0); // to the last bit, from the journal too
        holds(UINT64_MAX - 1, 1.0 / 3, 2, 0);
        reopen();
    }
}

// A run that went back to an earlier checkpoint is changed again: what was to come still comes.
static void
the_last_one_said_of_a_step_holds(void **unused)
{
    (void)unused;
    say(1, HOT_LAMBDA_S, 8, 60);
    say(2, HOT_LAMBDA_S, 7, 40);
    say(3, HOT_LAMBDA_S, 9, 60);
    for (int life = 0; life < 2; life++) {
        holds(39, 1, 2, 3);
        holds(40, 1, 7, 3);
        holds(59, 1, 7, 3);
        holds(60, 1, 9, 3);
        reopen();
    }
}

static void
a_command_is_known_again(void **unused)
{
    (void)unused;
    struct change said = say(7, HOT_LR, 0.5, 3);
    for (int life = 0; life < 2; life++) {
        const struct change *found = changes_find(changes, said.id);
        assert_non_null(found);
        assert_true(found->value == said.value && found->at == said.at && found->key == said.key);
        assert_null(changes_find(changes, (struct hash128){7, 7}));
        reopen();
    }
}

static void
a_run_begun_anew_knows_none(void **unused)
{
    (void)unused;
    say(1, HOT_LR, 0.5, 3);
    assert_int_equal(journal_append(journal, "abandoned", "{s:s}", "to", "abandoned-1"), STATUS_OK);
    reopen();
    holds(100, 1, 2, 3);
    say(2, HOT_LAMBDA_S, 6, 3);
    reopen();
    holds(100, 1, 6, 3);
}

static void
what_is_not_durable_does_not_hold(void **unused)
{
    (void)unused;
    const struct change change = {.id = {1, 2}, .key = HOT_LR, .value = 0.5, .at = 3};
    fault_set("journal.sync:1");
    assert_int_equal(changes_add(changes, &change), STATUS_IO);
    fault_set(NULL);
    holds(100, 1, 2, 3);
    assert_null(changes_find(changes, change.id));
    assert_int_equal(changes_add(changes, &change), STATUS_OK); // asked again
    reopen();
    holds(100, 0.5, 2, 3);
}

static void
what_cannot_be_changed_is_said(void **unused)
{
    (void)unused;
    enum hot key;
    // What the settings call hot is what can be changed.
    size_t hot = 0;
    for (size_t i = 0; i < settings_count; i++)
        if (settings_rows[i].flags & FIELD_HOT)
            assert_int_equal(change_check(&key, settings_rows[i].name, 0.5), (hot++, STATUS_OK));
    assert_int_equal(hot, HOT_KEYS);
    static const double never[] = {-0.1, 10.5, (double)INFINITY, (double)NAN};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        assert_int_equal(change_check(&key, "optimiser.lr", never[i]), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "wanted a number from 0 to 10"));
    for (size_t i = 0; i < HOT_KEYS; i++) {
        assert_int_equal(change_check(&key, hot_names[i], 0.5), STATUS_OK);
        assert_int_equal(key, i);
    }
    static const char *const others[] = {"", "sae.latents", "optimiser.l", "optimiser.lr "};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(change_check(&key, others[i], 0.5), STATUS_CONFIG);
        assert_non_null(
            strstr(status_words(), "only optimiser.lr, loss.lambda_s and loss.lambda_o"));
    }
    for (size_t i = 0; i < CHANGES_MOST; i++)
        say(i + 1, HOT_LR, 1, i);
    const struct change more = {.id = {1, 2}, .key = HOT_LR, .value = 0.5, .at = 3};
    assert_int_equal(changes_add(changes, &more), STATUS_CONFIG);
    reopen();
    assert_non_null(changes_find(changes, (struct hash128){CHANGES_MOST, ~(uint64_t)CHANGES_MOST}));
}

// Sound lines of a journal that mean nothing to us.
static void
other_versions_are_refused(void **unused)
{
    (void)unused;
    static const char *const id = "00000000000000010000000000000002";
    static const struct {
        const char *id, *key;
        json_int_t at;
        const char *words;
    } cases[] = {
        {"12", "optimiser.lr", 3, "a change of settings that this version cannot read"},
        {id, "optimiser.lr", -3, "a change of settings that this version cannot read"},
        {id, "net.hb_ms", 3, "net.hb_ms cannot be changed while training"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unlink(path);
        reopen();
        assert_int_equal(journal_append(journal, "set", "{s:s, s:s, s:f, s:I}", "idem",
                                        cases[i].id ? cases[i].id : id, "k", cases[i].key, "v", 1.0,
                                        "at", cases[i].at),
                         STATUS_OK);
        changes_free(&changes);
        assert_int_equal(changes_new(&changes, journal), STATUS_CONFIG);
        assert_non_null(strstr(status_words(), cases[i].words));
        assert_null(changes);
    }
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_change_holds_from_its_step),      T(the_last_one_said_of_a_step_holds),
        T(a_command_is_known_again),          T(a_run_begun_anew_knows_none),
        T(what_is_not_durable_does_not_hold), T(what_cannot_be_changed_is_said),
        T(other_versions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The table of settings: every row sound, every default the paper's.
#include "config/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void
every_default_is_in_its_own_range(void **unused)
{
    (void)unused;
    struct settings *set = malloc(sizeof *set);
    settings_presets(set);
    for (size_t i = 0; i < settings_count; i++)
        assert_int_equal(field_check(set, &settings_rows[i], "preset"), STATUS_OK);
    free(set);
}

static void
defaults_are_written_as_they_are_printed(void **unused)
{
    (void)unused;
    struct settings *set = malloc(sizeof *set);
    settings_presets(set);
    for (size_t i = 0; i < settings_count; i++)
        if (!settings_is_preset(set, &settings_rows[i]))
            fail_msg("%s: '%s'", settings_rows[i].name, settings_rows[i].preset);
    set->loss.lambda_s = 1;
    set->text.files.count = 1;
    set->text.files.at[0][0] = 'x';
    set->storage.cache[0] = 'x';
    assert_false(settings_is_preset(set, settings_row("loss.lambda_s")));
    assert_false(settings_is_preset(set, settings_row("text.files")));
    assert_false(settings_is_preset(set, settings_row("storage.cache")));
    free(set);
}

static void
rows_stand_in_known_sections_one_after_the_other_under_unique_names(void **unused)
{
    (void)unused;
    size_t at = 0;
    for (size_t i = 0; i < settings_count; i++) {
        const struct section *section = settings_section(&settings_rows[i]);
        size_t now = (size_t)(section - settings_sections);
        assert_true(now == at || (i > 0 && now == at + 1));
        at = now;
        assert_ptr_equal(settings_row(settings_rows[i].name), &settings_rows[i]);
        assert_true(strlen(settings_rows[i].name) < 48);
        assert_true(strlen(settings_rows[i].doc) > 5 && strlen(settings_rows[i].doc) < 100);
        const char *key = settings_key(&settings_rows[i]);
        assert_true(*key && strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(key));
    }
    assert_int_equal(at + 1, settings_section_count);
}

static void
rows_cover_the_struct_without_overlap(void **unused)
{
    (void)unused;
    unsigned char *seen = calloc(1, sizeof(struct settings));
    for (size_t i = 0; i < settings_count; i++)
        for (size_t j = 0; j < settings_rows[i].bytes; j++)
            assert_int_equal(seen[settings_rows[i].offset + j]++, 0);
    // What no row covers is padding: never 8 bytes in a row.
    size_t bare = 0;
    for (size_t j = 0; j < sizeof(struct settings); j++) {
        bare = seen[j] ? 0 : bare + 1;
        assert_true(bare < 8);
    }
    free(seen);
}

static void
defaults_are_those_of_the_paper(void **unused)
{
    (void)unused;
    struct settings *set = malloc(sizeof *set);
    settings_presets(set);
    assert_int_equal(set->model.layer, 12);
    assert_int_equal(set->model.context, 128);
    assert_int_equal(set->stream.rows, 2048);
    assert_int_equal(set->trainer.steps, 5000000 / 2048);
    assert_int_equal(set->sae.arch, ARCH_RELU);
    assert_int_equal(set->sae.latents, 16384);
    assert_int_equal(set->sae.topk, 40);
    assert_int_equal(set->sae.unit_norm, UNIT_NORM_BOTH);
    assert_true(set->sae.bandwidth == 0.001);
    assert_true(set->loss.lambda_s == 0.04 && set->loss.lambda_o == 0.01);
    assert_true(set->loss.lambda_t == 0.001);
    assert_true(set->curriculum.enabled);
    assert_int_equal(set->curriculum.recon_end, 1200);
    assert_int_equal(set->curriculum.sparsity_end, 2000);
    assert_int_equal(set->curriculum.theta_steps, 400);
    assert_true(set->curriculum.theta_start == 0.7 && set->curriculum.theta_end == 0.3);
    assert_true(set->optimiser.lr == 7e-6 && set->optimiser.beta1 == 0);
    assert_true(set->optimiser.beta2 == 0.999 && set->optimiser.clip == 1);
    assert_int_equal(set->competition.gradient, GRADIENT_DETACHED);
    assert_int_equal(set->temporal.pairing, PAIRING_STEP);
    // Another room keeps the same values; they must stay the same.
    struct recipe paper = recipe_paper(), ours = settings_recipe(set, 2304);
    assert_int_equal(recipe_check(&ours, "x"), STATUS_OK);
    assert_memory_equal(&ours.loss, &paper.loss, sizeof paper.loss);
    assert_memory_equal(&ours.curriculum, &paper.curriculum, sizeof paper.curriculum);
    assert_memory_equal(&ours.optimiser, &paper.optimiser, sizeof paper.optimiser);
    assert_true(ours.width == paper.width && ours.rows == paper.rows);
    assert_true(ours.steps == paper.steps && ours.competition.every == paper.competition.every);
    assert_true(ours.sae.latents == paper.sae.latents && ours.sae.topk == paper.sae.topk);
    assert_true(ours.sae.bandwidth == paper.sae.bandwidth);
    assert_true(ours.sae.threshold_init == paper.sae.threshold_init);
    assert_true(ours.sae.arch == paper.sae.arch && ours.sae.unit_norm == paper.sae.unit_norm);
    assert_true(ours.sae.tie_init == paper.sae.tie_init);
    assert_true(ours.sae.pre_bias == paper.sae.pre_bias);
    assert_true(ours.sae.normalize == paper.sae.normalize);
    assert_true(ours.sae.b_dec_init == paper.sae.b_dec_init && ours.sae.seed == paper.sae.seed);
    // What follows from them.
    assert_int_equal(settings_lag(set), 16);
    set->pace.mode = SET_PACE_LOCKSTEP;
    assert_int_equal(settings_lag(set), 1);
    free(set);
}

static void
token_words_are_names_or_ids(void **unused)
{
    (void)unused;
    uint32_t id = 7;
    assert_int_equal(token_word(&id, ""), TOKEN_AUTO);
    assert_int_equal(token_word(&id, "auto"), TOKEN_AUTO);
    assert_int_equal(token_word(&id, "none"), TOKEN_NONE);
    assert_int_equal(token_word(&id, "bos"), TOKEN_BOS);
    assert_int_equal(token_word(&id, "eos"), TOKEN_EOS);
    assert_int_equal(id, 7);
    assert_int_equal(token_word(&id, "0"), TOKEN_ID);
    assert_int_equal(id, 0);
    assert_int_equal(token_word(&id, "255999"), TOKEN_ID);
    assert_int_equal(id, 255999);
    static const char *const bad[] = {"-1", "+1", "1.0", "BOS", "0x1", "4294967296", "1 "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(token_word(&id, bad[i]), TOKEN_BAD);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_default_is_in_its_own_range),
        cmocka_unit_test(defaults_are_written_as_they_are_printed),
        cmocka_unit_test(rows_stand_in_known_sections_one_after_the_other_under_unique_names),
        cmocka_unit_test(rows_cover_the_struct_without_overlap),
        cmocka_unit_test(defaults_are_those_of_the_paper),
        cmocka_unit_test(token_words_are_names_or_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

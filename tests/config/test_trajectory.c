// The trajectory: what changes it, what does not, and that its hash stays what it was.
#include "config/trajectory.h"
#include "tests/config/random_settings.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct hash128 stream = {0x0123456789abcdef, 0xfedcba9876543210};

static void
the_hash_of_the_defaults_stays_what_it_was(void **unused)
{
    (void)unused;
    struct settings *set = malloc(sizeof *set);
    char text[TRAJECTORY_BYTES], hex[33];
    settings_presets(set);
    trajectory_text(text, set);
    assert_string_equal(text, "competition.every=1\n"
                              "competition.gradient=detached\n"
                              "curriculum.enabled=true\n"
                              "curriculum.recon_end=1200\n"
                              "curriculum.sparsity_end=2000\n"
                              "curriculum.theta_end=0.3\n"
                              "curriculum.theta_start=0.7\n"
                              "curriculum.theta_steps=400\n"
                              "loss.lambda_o=0.01\n"
                              "loss.lambda_s=0.04\n"
                              "loss.lambda_t=0.001\n"
                              "loss.sparsity=auto\n"
                              "loss.target_l0=40\n"
                              "optimiser.beta1=0\n"
                              "optimiser.beta2=0.999\n"
                              "optimiser.clip=1\n"
                              "optimiser.decay=0\n"
                              "optimiser.eps=1e-8\n"
                              "optimiser.lr=7e-6\n"
                              "optimiser.threshold_lr=auto\n"
                              "optimiser.warmup=0\n"
                              "sae.arch=relu\n"
                              "sae.b_dec_init=zero\n"
                              "sae.bandwidth=0.001\n"
                              "sae.latents=16384\n"
                              "sae.normalize=none\n"
                              "sae.pre_bias=false\n"
                              "sae.seed=0\n"
                              "sae.threshold=value\n"
                              "sae.threshold_init=0.01\n"
                              "sae.tie_init=false\n"
                              "sae.topk=40\n"
                              "sae.unit_norm=both\n"
                              "temporal.pairing=step\n"
                              "trainer.precision=f32\n");
    hex128(hex, trajectory_hash(set, stream));
    // Changing this refuses to continue every run there is: say so in the notes of the version.
    assert_string_equal(hex, "d4cb7b8b428f5c875497f976727f3320");
    free(set);
}

static void
each_row_changes_the_hash_if_and_only_if_it_decides_numbers(void **unused)
{
    (void)unused;
    struct settings *set = malloc(sizeof *set), *other = malloc(sizeof *other);
    struct draw d = {11, 0};
    char said[256];
    settings_presets(set);
    const struct hash128 hash = trajectory_hash(set, stream);
    for (size_t i = 0; i < settings_count; i++) {
        const struct field *row = &settings_rows[i];
        memcpy(other, set, sizeof *other);
        if (row->type == FIELD_CHOICE && !row->choices[1])
            continue; // nothing else to choose yet
        while (settings_is_preset(other, row))
            draw_row(other, row, &d);
        bool counts = row->flags & FIELD_TRAJECTORY;
        assert_int_equal(trajectory_differences(said, sizeof said, set, other), counts);
        assert_int_equal(hash128_same(hash, trajectory_hash(other, stream)), !counts);
        assert_int_equal(strncmp(said, row->name, strlen(row->name)) == 0, counts);
    }
    const struct hash128 elsewhere = {stream.low + 1, stream.high};
    assert_false(hash128_same(hash, trajectory_hash(set, elsewhere)));
    free(set);
    free(other);
}

static void
steps_count_only_when_the_rate_decays_towards_their_end(void **unused)
{
    (void)unused;
    struct settings *set = malloc(sizeof *set), *other = malloc(sizeof *other);
    char said[256];
    settings_presets(set);
    memcpy(other, set, sizeof *other);
    other->trainer.steps = 5000;
    assert_int_equal(trajectory_differences(said, sizeof said, set, other), 0);
    assert_string_equal(said, "");
    set->optimiser.decay = other->optimiser.decay = 100;
    assert_int_equal(trajectory_differences(said, sizeof said, set, other), 1);
    assert_string_equal(said, "trainer.steps 2441 -> 5000");
    assert_false(hash128_same(trajectory_hash(set, stream), trajectory_hash(other, stream)));
    free(set);
    free(other);
}

static void
differences_are_listed_old_to_new_and_cut_to_fit(void **unused)
{
    (void)unused;
    struct settings *set = malloc(sizeof *set), *other = malloc(sizeof *other);
    char said[64], tiny[8];
    settings_presets(set);
    memcpy(other, set, sizeof *other);
    other->sae.arch = ARCH_TOPK;
    other->loss.lambda_s = 0;
    assert_int_equal(trajectory_differences(said, sizeof said, set, other), 2);
    assert_string_equal(said, "loss.lambda_s 0.04 -> 0, sae.arch relu -> topk");
    assert_int_equal(trajectory_differences(tiny, sizeof tiny, set, other), 2);
    assert_string_equal(tiny, "loss.la");
    draw_settings(other, 5);
    assert_true(trajectory_differences(said, sizeof said, set, other) > 20);
    assert_true(strlen(said) < sizeof said);
    free(set);
    free(other);
}

static void
any_settings_fit_the_text(void **unused)
{
    (void)unused;
    struct settings *set = malloc(sizeof *set);
    char text[TRAJECTORY_BYTES];
    for (uint64_t seed = 1; seed < 100; seed++) {
        settings_presets(set);
        draw_settings(set, seed);
        trajectory_text(text, set); // asserts that it fits
        assert_true(strlen(text) < TRAJECTORY_BYTES / 2);
    }
    free(set);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hash_of_the_defaults_stays_what_it_was),
        cmocka_unit_test(each_row_changes_the_hash_if_and_only_if_it_decides_numbers),
        cmocka_unit_test(steps_count_only_when_the_rate_decays_towards_their_end),
        cmocka_unit_test(differences_are_listed_old_to_new_and_cut_to_fit),
        cmocka_unit_test(any_settings_fit_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// `osae fsck` on folders that the real writers made: sound ones, what a crash leaves, and damage.
#include "lib/store/failure.h"
#include "tests/front/made_run.h"

static void
append(const char *path, const char *text)
{
    size_t bytes;
    char *before = file_get(path, &bytes), after[65536];
    int length = snprintf(after, sizeof after, "%s%s", before, text);
    assert_true(length > 0 && (size_t)length < sizeof after);
    file_put(path, after, (size_t)length);
    free(before);
}

static void
a_sound_folder_is_said_to_be(void **unused)
{
    (void)unused;
    write_whole("fine");
    assert_int_equal(osae("fsck fine"), 0);
    assert_string_equal(said, "fine: sound: 2 sound checkpoints, the newest of step 120, 3 journal "
                              "records, 140 lines of metrics, 2 results\n");
    assert_string_equal(complained, "");
    assert_int_equal(osae("fsck"), 64);
    assert_int_equal(osae("fsck nowhere"), 66);
    assert_int_equal(path_make(scratch_path("empty"), 0700), STATUS_OK);
    assert_int_equal(osae("fsck empty"), 66);

    // what a crash leaves is no damage
    append(scratch_path("fine/metrics/m-000000000061.jsonl"), "{\"t\":1,\"st");
    append(scratch_path("fine/journal.jsonl"), "{\"lsn\":4,");
    assert_int_equal(path_make(scratch_path("fine/checkpoints/step-000000000130.tmp-1-x"), 0700),
                     STATUS_OK);
    assert_int_equal(osae("fsck fine"), 0);
    says("note: fine/journal.jsonl: its last line is torn by a crash; the next start cuts it\n");
    says("note: fine/checkpoints: 1 being written or left by a crash (.tmp-*)");
    says("note: fine/metrics/m-000000000061.jsonl: 1 of 61 lines torn by a crash");
    says("fine: sound: 2 sound checkpoints");

    // nor is what an evaluator gave up, or was at when it died
    const struct failure failure = {.ck = "fine/120-1",
                                    .run = "fine",
                                    .kind = "absorption",
                                    .step = 120,
                                    .attempts = 3,
                                    .reason = "no letter"};
    assert_int_equal(failure_write(scratch_path("fine/eval"), &failure), STATUS_OK);
    assert_int_equal(failure_begin(scratch_path("fine/eval"), &failure), STATUS_OK);
    write_absorption("fine", 60, 0.1, "quick");
    assert_int_equal(osae("fsck fine"), 0);
    says("note: fine/eval: 1 given up; `osae report` shows why\n");
    says("note: fine/eval: 1 going on, or cut off by a crash");
    says(", 3 results\n");
}

static void
every_damage_is_a_line_with_its_recovery(void **unused)
{
    (void)unused;
    write_whole("sick");
    flip(scratch_path("sick/checkpoints/step-000000000120/sae_weights.safetensors"), 300, 1);
    assert_int_equal(osae("fsck sick"), 65);
    says("sick/checkpoints/step-000000000120/sae_weights.safetensors: ");
    says("; recovery puts it aside as .bad-hash and goes on from step 60\n");
    says("sick: DAMAGED: 1 sound checkpoint, the newest of step 60,");
    complains("sick: is damaged in 1 place\n");

    append(scratch_path("sick/metrics/m-000000000001.jsonl"), "{\"step\":\"x\"}\nnonsense}\n");
    file_put(scratch_path("sick/eval/core/sick_step-000000000060_eval_results.json"), "{}", 2);
    file_put(scratch_path("sick/config.yaml"), "x: y\n", 5);
    flip(scratch_path("sick/journal.jsonl"), 20, 4);
    write_absorption("sick", 60, 0.1, "quick");
    flip(scratch_path("sick/eval/absorption/sick_step-000000000060_eval_results.json"), 2, 1);
    assert_int_equal(osae("fsck sick fine"), 65);
    says("sick/metrics/m-000000000001.jsonl:81: is no line of metrics (no whole number `step`); "
         "readers skip it\n");
    says("sick/metrics/m-000000000001.jsonl:82: is no line of metrics");
    says("sick_step-000000000060_eval_results.json");
    says("it counts as none: the evaluator scores that checkpoint again\n");
    says("config.yaml:1: ");
    says("; the trainer refuses to start without --salvage");
    says("fine: sound:");
    complains("sick: is damaged in 7 places\n");

    flip(scratch_path("sick/checkpoints/step-000000000060/manifest.json"), 30, 1);
    assert_int_equal(osae("fsck sick"), 65);
    says("finds no sound one and refuses to start over without --from-scratch\n");
    says("sick: DAMAGED: 0 sound checkpoints,");

    // an older one is not in the way
    write_whole("old");
    assert_int_equal(unlink(scratch_path("old/checkpoints/step-000000000060/cfg.json")), 0);
    assert_int_equal(osae("fsck old"), 65);
    says("; recovery goes on from step 120 and leaves it alone\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_folder_is_said_to_be),
        cmocka_unit_test(every_damage_is_a_line_with_its_recovery),
    };
    return cmocka_run_group_tests(tests, typed_start, typed_finish);
}

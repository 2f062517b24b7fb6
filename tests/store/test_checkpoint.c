// Checkpoint folders: what is written is found again, what is damaged is not, what is kept.
//
// Invariants: D1 D2 D4 D6 D8
#include "lib/base/fault.h"
#include "lib/base/rng.h"
#include "lib/base/say.h"
#include "lib/store/sealed.h"
#include "tests/store/training.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

static char folder[PATH_BYTES]; // the run of the case

static int
fresh(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%.3000s/run", scratch);
    fault_set(NULL);
    return path_remove(folder) == STATUS_OK ? 0 : -1;
}

static struct runfolder *
opened(void)
{
    struct runfolder *run;
    if (training_open(&run, folder) != STATUS_OK)
        fail_msg("%s", status_words());
    return run;
}

static const char *
step_path(uint64_t step, const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.3000s/checkpoints/step-%012llu%s", folder,
             (unsigned long long)step, name);
    return path;
}

static struct checkpoint_found
recovered(struct runfolder *run)
{
    struct checkpoint_found found;
    if (checkpoint_recover(&found, run, false) != STATUS_OK)
        fail_msg("%s", status_words());
    if (found.found)
        assert_true(training_is_whole(found.path, &found.facts));
    return found;
}

static void
a_checkpoint_comes_back_with_its_facts(void **unused)
{
    (void)unused;
    struct runfolder *run = opened();
    struct checkpoint_found found = recovered(run);
    assert_false(found.found);
    uint64_t step, mh;
    assert_false(runfolder_durable(run, &step));
    assert_int_equal(training_save(run, 7, 8, &keep_two, &mh), STATUS_OK);
    assert_true(runfolder_durable(run, &step) && step == 7);
    runfolder_close(&run);

    struct stat info;
    assert_int_equal(stat(step_path(7, ""), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(stat(step_path(7, "/cfg.json"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(folder, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);

    run = opened();
    assert_int_equal(runfolder_incarnation(run), 2);
    found = recovered(run);
    assert_true(found.found && found.facts.step == 7 && found.facts.next == 8);
    assert_int_equal(found.facts.incarnation, 1);
    assert_string_equal(found.facts.run, "tiny");
    assert_string_equal(found.facts.environment, "cpu, test");
    assert_int_equal(strlen(found.facts.created), 20);
    assert_true(found.mh == mh);
    assert_string_equal(found.path, step_path(7, ""));
    size_t bytes;
    char *text = file_get(step_path(7, "/manifest.json"), &bytes);
    assert_true(hash64(text, bytes) == mh);
    json_t *manifest = json_loads(text, 0, NULL); // what jq sees
    assert_int_equal(json_integer_value(json_object_get(manifest, "format")), 1);
    assert_string_equal(json_string_value(json_object_get(manifest, "stream")),
                        "00000000000000020000000000000001");
    assert_int_equal(json_array_size(json_object_get(manifest, "files")), 3);
    json_decref(manifest);
    free(text);
    runfolder_close(&run);
}

static void
the_same_state_is_not_written_twice_another_one_is(void **unused)
{
    (void)unused;
    struct runfolder *run = opened();
    assert_false(recovered(run).found);
    uint64_t first, second;
    struct stat before, after;
    assert_int_equal(training_save(run, 5, 6, &keep_two, &first), STATUS_OK);
    assert_int_equal(stat(step_path(5, ""), &before), 0);
    assert_int_equal(training_save(run, 5, 6, &keep_two, &second), STATUS_OK);
    assert_int_equal(stat(step_path(5, ""), &after), 0);
    assert_true(before.st_ino == after.st_ino && first == second);

    assert_int_equal(training_save(run, 5, 60, &keep_two, &second), STATUS_OK);
    assert_int_equal(recovered(run).facts.next, 60);
    assert_int_equal(checkpoint_verify(step_path(5, ".bad-replaced"), NULL, &second, NULL),
                     STATUS_OK); // the old one is aside, whole
    assert_true(first == second);
    fault_set("checkpoint.noreplace:0"); // a system without renameat2
    assert_int_equal(training_save(run, 5, 61, &keep_two, NULL), STATUS_OK);
    assert_int_equal(recovered(run).facts.next, 61);
    assert_int_equal(training_save(run, 9, 62, &keep_two, NULL), STATUS_OK);
    assert_int_equal(recovered(run).facts.step, 9);
    assert_int_equal(names_with(runfolder_checkpoints(run), ".bad-replaced"), 2);
    // A damaged one of the step is replaced as well.
    flip(step_path(9, "/cfg.json"), 3, 4);
    assert_int_equal(training_save(run, 9, 62, &keep_two, NULL), STATUS_OK);
    fault_set(NULL);
    assert_int_equal(recovered(run).facts.step, 9);
    runfolder_close(&run);
}

static void
a_flip_anywhere_is_found(void **unused)
{
    (void)unused;
    struct runfolder *run = opened();
    assert_false(recovered(run).found);
    assert_int_equal(training_save(run, 3, 4, &keep_two, NULL), STATUS_OK);
    static const char *const names[] = {"/manifest.json", "/cfg.json", "/sae_weights.safetensors",
                                        "/train_state.safetensors"};
    static const char *const flaws[] = {"manifest", "hash", "hash", "hash"};
    for (size_t n = 0; n < 4; n++) {
        size_t bytes;
        char *text = file_get(step_path(3, names[n]), &bytes);
        for (size_t at = 0; at < bytes; at += at < 700 ? 1 : 41) {
            const char *flaw;
            uint32_t w[4];
            rng_words(w, 5, 99, (uint32_t)n, at);
            unsigned char mask = (unsigned char)(1u << w[0] % 8);
            flip(step_path(3, names[n]), at, mask);
            assert_int_equal(checkpoint_verify(step_path(3, ""), NULL, NULL, &flaw),
                             STATUS_DAMAGED);
            assert_string_equal(flaw, flaws[n]);
            flip(step_path(3, names[n]), at, mask);
        }
        for (size_t cut = 0; cut < bytes; cut += cut < 700 ? 1 : 211) { // and a cut as well
            const char *flaw;
            file_put(step_path(3, names[n]), text, cut);
            assert_int_equal(checkpoint_verify(step_path(3, ""), NULL, NULL, &flaw),
                             STATUS_DAMAGED);
            assert_string_equal(flaw, n == 0 ? "manifest" : "size");
        }
        file_put(step_path(3, names[n]), text, bytes);
        assert_int_equal(checkpoint_verify(step_path(3, ""), NULL, NULL, NULL), STATUS_OK);
        free(text);
    }
    runfolder_close(&run);
}

static void
what_is_not_a_plain_file_is_refused(void **unused)
{
    (void)unused;
    struct runfolder *run = opened();
    assert_false(recovered(run).found);
    assert_int_equal(training_save(run, 3, 4, &keep_two, NULL), STATUS_OK);
    const char *flaw;
    size_t bytes;
    char *text = file_get(step_path(3, "/cfg.json"), &bytes);
    file_put(step_path(3, "/README"), text, bytes); // not named in the manifest: nobody's concern
    assert_int_equal(checkpoint_verify(step_path(3, ""), NULL, NULL, &flaw), STATUS_OK);
    unlink(step_path(3, "/cfg.json"));
    assert_int_equal(checkpoint_verify(step_path(3, ""), NULL, NULL, &flaw), STATUS_MISSING);
    assert_string_equal(flaw, "missing");
    assert_int_equal(symlink("README", step_path(3, "/cfg.json")), 0); // right bytes, but a link
    assert_int_equal(checkpoint_verify(step_path(3, ""), NULL, NULL, &flaw), STATUS_MISSING);
    unlink(step_path(3, "/cfg.json"));
    assert_int_equal(mkfifo(step_path(3, "/cfg.json"), 0600), 0); // must not hang
    assert_int_equal(checkpoint_verify(step_path(3, ""), NULL, NULL, &flaw), STATUS_DAMAGED);
    unlink(step_path(3, "/cfg.json"));
    assert_int_equal(mkdir(step_path(3, "/cfg.json"), 0700), 0);
    assert_int_equal(checkpoint_verify(step_path(3, ""), NULL, NULL, &flaw), STATUS_DAMAGED);
    assert_int_equal(rmdir(step_path(3, "/cfg.json")), 0);
    file_put(step_path(3, "/cfg.json"), text, bytes);
    free(text);
    // A whole checkpoint under another step's name.
    char old[PATH_BYTES];
    snprintf(old, sizeof old, "%s", step_path(3, ""));
    assert_int_equal(rename(old, step_path(4, "")), 0);
    assert_int_equal(checkpoint_verify(step_path(4, ""), NULL, NULL, &flaw), STATUS_DAMAGED);
    assert_string_equal(flaw, "step");
    runfolder_close(&run);
}

// A manifest with one member replaced, sealed as if it were ours.
static void
hostile_manifests_are_refused(void **unused)
{
    (void)unused;
    static const char good[] =
        "{\"format\":1,\"run\":\"r\",\"step\":1,\"incarnation\":1,"
        "\"stream\":\"00000000000000000000000000000000\",\"next\":1,"
        "\"chain\":\"00000000000000000000000000000000\","
        "\"trajectory\":\"00000000000000000000000000000000\",\"environment\":\"e\","
        "\"created\":\"c\",\"files\":[]}";
    static const char *const cases[][2] = {
        {"format", "2"},
        {"format", "\"1\""},
        {"run", "7"},
        {"step", "-1"},
        {"step", "1000000000000"},
        {"step", "1.5"},
        {"incarnation", "4294967296"},
        {"stream", "\"0000000000000000000000000000000\""},
        {"chain", "\"0000000000000000000000000000000G\""},
        {"trajectory", "null"},
        {"next", "-1"},
        {"environment", "[]"},
        {"files", "{}"},
        {"files", "[7]"},
        {"files", "[{\"name\":\"../x\",\"bytes\":1,\"xxh3\":\"0000000000000000\"}]"},
        {"files", "[{\"name\":\"/etc/passwd\",\"bytes\":1,\"xxh3\":\"0000000000000000\"}]"},
        {"files", "[{\"name\":\"..\",\"bytes\":1,\"xxh3\":\"0000000000000000\"}]"},
        {"files", "[{\"name\":\"\",\"bytes\":1,\"xxh3\":\"0000000000000000\"}]"},
        {"files", "[{\"name\":\"manifest.json\",\"bytes\":1,\"xxh3\":\"0000000000000000\"}]"},
        {"files", "[{\"name\":\"x\",\"bytes\":-1,\"xxh3\":\"0000000000000000\"}]"},
        {"files", "[{\"name\":\"x\",\"bytes\":1,\"xxh3\":\"000000000000000\"}]"},
        {"files", "[{\"name\":\"x\",\"bytes\":1}]"},
        {"files", "[{\"name\":\"x\",\"bytes\":1,\"xxh3\":\"0000000000000000\"},"
                  "{\"name\":\"x\",\"bytes\":1,\"xxh3\":\"0000000000000000\"}]"},
        {"files", "[{\"name\":\"0123456789012345678901234567890123456789012345678901234567890123\","
                  "\"bytes\":1,\"xxh3\":\"0000000000000000\"}]"},
        {"files", "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"},
    };
    struct manifest manifest;
    for (size_t i = 0; i <= sizeof cases / sizeof cases[0]; i++) {
        json_t *object = json_loads(good, 0, NULL);
        assert_non_null(object);
        if (i > 0) {
            json_t *value = json_loads(cases[i - 1][1], JSON_DECODE_ANY, NULL);
            assert_non_null(value);
            json_object_set_new(object, cases[i - 1][0], value);
        }
        char *text;
        size_t bytes;
        assert_int_equal(sealed_print(&text, &bytes, object), STATUS_OK);
        enum status status = manifest_parse(&manifest, text, bytes, "manifest.json");
        if (status != (i > 0 ? STATUS_DAMAGED : STATUS_OK))
            fail_msg("%s: %s", text, status_words());
        free(text);
        if (i == 0)
            for (const char *key = "run"; json_object_get(object, key); key = "step") {
                json_object_del(object, key); // each must be there
                assert_int_equal(sealed_print(&text, &bytes, object), STATUS_OK);
                assert_int_equal(manifest_parse(&manifest, text, bytes, "x"), STATUS_DAMAGED);
                free(text);
            }
        json_decref(object);
    }
    assert_int_equal(manifest_parse(&manifest, good, sizeof good - 1, "x"), STATUS_DAMAGED);
    assert_int_equal(manifest_parse(&manifest, "", 0, "x"), STATUS_DAMAGED);
    memset(&manifest, 0, sizeof manifest);
    memcpy(manifest.facts.run, "\xff", 2);
    char *text;
    size_t bytes;
    assert_int_equal(manifest_print(&text, &bytes, &manifest), STATUS_CONFIG);
}

static void
a_damaged_one_goes_aside_and_the_older_one_is_loaded(void **unused)
{
    (void)unused;
    const struct checkpoint_policy all = {.keep_last = 100};
    struct runfolder *run = opened();
    assert_false(recovered(run).found);
    for (uint64_t step = 1; step <= 4; step++)
        assert_int_equal(training_save(run, step, step, &all, NULL), STATUS_OK);
    flip(step_path(4, "/train_state.safetensors"), 500, 1);
    unlink(step_path(3, "/manifest.json"));
    struct checkpoint_found found = recovered(run);
    assert_true(found.found && found.facts.step == 2);
    assert_true(path_is_folder(step_path(4, ".bad-hash")));
    assert_true(path_is_folder(step_path(3, ".bad-manifest")));
    // The same again: the names are taken.
    assert_int_equal(training_save(run, 4, 4, &all, NULL), STATUS_OK);
    flip(step_path(4, "/cfg.json"), 0, 1);
    assert_int_equal(recovered(run).facts.step, 2);
    assert_true(path_is_folder(step_path(4, ".bad-hash-2")));
    // A failing read is not damage, once or for ever: nothing is put aside for it.
    fault_set("checkpoint.read:1");
    assert_int_equal(recovered(run).facts.step, 2);
    size_t aside = names_with(runfolder_checkpoints(run), ".bad-");
    fault_set("checkpoint.read:0");
    assert_int_equal(checkpoint_recover(&found, run, false), STATUS_IO);
    fault_set(NULL);
    assert_int_equal(names_with(runfolder_checkpoints(run), ".bad-"), aside);
    assert_int_equal(recovered(run).facts.step, 2);
    runfolder_close(&run);
}

static void
a_run_with_history_does_not_start_over_by_itself(void **unused)
{
    (void)unused;
    struct runfolder *run = opened();
    assert_false(recovered(run).found);
    assert_int_equal(training_save(run, 1, 1, &keep_two, NULL), STATUS_OK);
    assert_int_equal(training_save(run, 2, 2, &keep_two, NULL), STATUS_OK);
    runfolder_close(&run);
    flip(step_path(1, "/manifest.json"), 30, 1);
    flip(step_path(2, "/cfg.json"), 3, 1);
    struct checkpoint_found found;
    for (int i = 0; i < 2; i++) { // also when all is quarantined already
        run = opened();
        assert_int_equal(checkpoint_recover(&found, run, false), STATUS_DAMAGED);
        assert_non_null(strstr(status_words(), "--from-scratch"));
        assert_int_equal(names_with(runfolder_checkpoints(run), ".bad-"), 2);
        runfolder_close(&run);
    }
    // The journal alone is history too, and so are the folders alone.
    char path[PATH_BYTES], aside[PATH_BYTES];
    snprintf(path, sizeof path, "%.3000s/checkpoints", folder);
    snprintf(aside, sizeof aside, "%.3000s/aside", folder);
    assert_int_equal(rename(path, aside), 0);
    run = opened();
    assert_int_equal(checkpoint_recover(&found, run, false), STATUS_DAMAGED);
    runfolder_close(&run);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(aside, path), 0);
    snprintf(aside, sizeof aside, "%.3000s/journal.jsonl", folder);
    unlink(aside);
    run = opened();
    assert_int_equal(checkpoint_recover(&found, run, false), STATUS_DAMAGED);

    // Asked to: what was there is put aside whole, and later starts do not mind it.
    assert_int_equal(checkpoint_recover(&found, run, true), STATUS_OK);
    assert_false(found.found);
    assert_int_equal(names_with(folder, "checkpoints.abandoned-"), 1);
    assert_false(recovered(run).found);
    assert_int_equal(training_save(run, 1, 10, &keep_two, NULL), STATUS_OK);
    runfolder_close(&run);
    run = opened();
    assert_int_equal(recovered(run).facts.next, 10);
    // From scratch over a sound one as well; a fresh run has nothing to put aside.
    assert_int_equal(checkpoint_recover(&found, run, true), STATUS_OK);
    assert_int_equal(checkpoint_recover(&found, run, true), STATUS_OK);
    assert_int_equal(names_with(folder, "checkpoints.abandoned-"), 2);
    assert_false(recovered(run).found);
    runfolder_close(&run);
}

static void
retention_keeps_what_it_must(void **unused)
{
    (void)unused;
    const uint64_t pinned[] = {20, 50, 999};
    const struct checkpoint_policy all = {.keep_last = 100}, policy = {.keep_last = 2,
                                                                       .keep_every = 40,
                                                                       .pinned = pinned,
                                                                       .pinned_count = 3};
    struct runfolder *run = opened();
    assert_int_equal(checkpoint_retain(run, &policy), STATUS_OK); // nothing there
    assert_false(recovered(run).found);
    for (uint64_t step = 10; step <= 100; step += 10)
        assert_int_equal(training_save(run, step, step, &all, NULL), STATUS_OK);
    assert_int_equal(checkpoint_retain(run, &policy), STATUS_OK);
    struct checkpoint_list list;
    assert_int_equal(checkpoint_list(&list, runfolder_checkpoints(run)), STATUS_OK);
    static const uint64_t want[] = {100, 90, 80, 50, 40, 20};
    assert_int_equal(list.count, 6);
    assert_memory_equal(list.steps, want, sizeof want);
    checkpoint_list_release(&list);

    // A newest one that may not be durable does not cost the newest durable one its life.
    fault_set("checkpoint.sync_parent:0");
    assert_int_equal(training_save(run, 110, 110, &all, NULL), STATUS_IO);
    assert_int_equal(training_save(run, 120, 120, &all, NULL), STATUS_IO);
    fault_set(NULL);
    assert_true(path_is_folder(step_path(120, "")));
    const struct checkpoint_policy none = {.keep_last = 0};
    assert_int_equal(checkpoint_retain(run, &none), STATUS_OK);
    assert_int_equal(checkpoint_list(&list, runfolder_checkpoints(run)), STATUS_OK);
    assert_int_equal(list.count, 3);
    assert_int_equal(list.steps[2], 100);
    checkpoint_list_release(&list);
    // Written again, it is only made durable.
    assert_int_equal(training_save(run, 120, 120, &all, NULL), STATUS_OK);
    assert_int_equal(checkpoint_retain(run, &none), STATUS_OK);
    assert_int_equal(checkpoint_list(&list, runfolder_checkpoints(run)), STATUS_OK);
    assert_true(list.count == 1 && list.steps[0] == 120);
    checkpoint_list_release(&list);

    // Of quarantined ones the newest three stay.
    for (uint64_t step = 130; step <= 180; step += 10) {
        assert_int_equal(training_save(run, step, step, &all, NULL), STATUS_OK);
        flip(step_path(step, "/cfg.json"), 1, 1);
    }
    assert_int_equal(recovered(run).facts.step, 120);
    assert_int_equal(names_with(runfolder_checkpoints(run), ".bad-"), 6);
    assert_int_equal(checkpoint_retain(run, &none), STATUS_OK);
    assert_int_equal(names_with(runfolder_checkpoints(run), ".bad-"), 3);
    assert_true(path_is_folder(step_path(180, ".bad-hash")));
    assert_false(path_is_folder(step_path(150, ".bad-hash")));
    assert_true(path_is_folder(step_path(120, "")));
    runfolder_close(&run);
}

static void
a_full_disk_costs_nothing_but_the_new_checkpoint(void **unused)
{
    (void)unused;
    const struct checkpoint_policy all = {.keep_last = 100},
                                   huge = {.keep_last = 1, .reserve_bytes = UINT64_MAX / 2};
    struct runfolder *run = opened();
    assert_false(recovered(run).found);
    for (uint64_t step = 1; step <= 4; step++)
        assert_int_equal(training_save(run, step, step, &all, NULL), STATUS_OK);
    // Once full: old ones go, and it works.
    fault_set("checkpoint.space:1");
    assert_int_equal(training_save(run, 5, 5, &keep_two, NULL), STATUS_OK);
    assert_int_equal(fault_visits(), 2);
    assert_false(path_exists(step_path(2, "")));
    assert_true(path_exists(step_path(3, "")) && path_exists(step_path(5, "")));
    // Full: refused before a byte is written; nothing but what retention drops is lost.
    fault_set(NULL);
    assert_int_equal(training_save(run, 6, 6, &huge, NULL), STATUS_CREATE);
    assert_false(path_exists(step_path(6, "")));
    assert_int_equal(recovered(run).facts.step, 5);
    // Full in the middle.
    fault_set("checkpoint.allocate:2");
    assert_int_equal(training_save(run, 6, 6, &keep_two, NULL), STATUS_CREATE);
    assert_int_equal(fault_visits(), 2); // no second attempt: it would not help
    fault_set(NULL);
    assert_int_equal(names_with(runfolder_checkpoints(run), ".tmp-"), 0);
    assert_int_equal(recovered(run).facts.step, 5);
    assert_int_equal(training_save(run, 6, 6, &keep_two, NULL), STATUS_OK);
    runfolder_close(&run);
}

static void
after_a_failed_sync_everything_is_written_anew(void **unused)
{
    (void)unused;
    struct runfolder *run = opened();
    assert_false(recovered(run).found);
    for (int file = 1; file <= 4; file++) {
        char plan[64];
        snprintf(plan, sizeof plan, "checkpoint.sync:%d", file);
        fault_set(plan);
        assert_int_equal(training_save(run, (uint64_t)file, 1, &keep_two, NULL), STATUS_OK);
        assert_int_equal(fault_visits(), file + 4); // to the failure, then all four files again
        assert_int_equal(names_with(runfolder_checkpoints(run), ".tmp-"), 0);
    }
    fault_set("checkpoint.sync:0");
    assert_int_equal(training_save(run, 9, 1, &keep_two, NULL), STATUS_IO);
    assert_int_equal(fault_visits(), 3);
    fault_set(NULL);
    assert_false(path_exists(step_path(9, "")));
    assert_int_equal(recovered(run).facts.step, 4);
    runfolder_close(&run);
}

int
main(void)
{
    say_level(SAY_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_checkpoint_comes_back_with_its_facts, fresh),
        cmocka_unit_test_setup(the_same_state_is_not_written_twice_another_one_is, fresh),
        cmocka_unit_test_setup(a_flip_anywhere_is_found, fresh),
        cmocka_unit_test_setup(what_is_not_a_plain_file_is_refused, fresh),
        cmocka_unit_test_setup(hostile_manifests_are_refused, fresh),
        cmocka_unit_test_setup(a_damaged_one_goes_aside_and_the_older_one_is_loaded, fresh),
        cmocka_unit_test_setup(a_run_with_history_does_not_start_over_by_itself, fresh),
        cmocka_unit_test_setup(retention_keeps_what_it_must, fresh),
        cmocka_unit_test_setup(a_full_disk_costs_nothing_but_the_new_checkpoint, fresh),
        cmocka_unit_test_setup(after_a_failed_sync_everything_is_written_anew, fresh),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

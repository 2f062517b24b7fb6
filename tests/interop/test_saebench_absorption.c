// Absorption results out and in: our own come back whole, SAEBench's are understood, damaged ones
// are refused with one line.
#include "lib/interop/saebench_absorption.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char folder[] = "/tmp/osae-saebench-XXXXXX";

static int
make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int
remove_folder(void **state)
{
    (void)state;
    return path_remove(folder) == STATUS_OK ? 0 : -1;
}

static struct absorption_file
example(void)
{
    struct absorption_file file = {
        .absorption = {.fraction = {0.25, 0.125, 0.1, 0.4},
                       .full = {0.0625, UNDEFINED, 0, 0.5},
                       .splits = {1.5, 0.5, UNDEFINED, UNDEFINED},
                       .missed = {0.03125, 0.25, 0.01, 0.02},
                       .count = 2,
                       .used = 1,
                       .words = 8000,
                       .train = 6400,
                       .test = 1600,
                       .unfit = 3,
                       .examples = 3,
                       .resamples = 1000,
                       .mean_f1 = 0.75},
        .seed = 42,
        .batch = 16,
        .jump = 0.03,
        .least_f1 = 0.6,
        .most_latents = 10,
        .least_letters = 20,
        .head = {.mh = 0x123456789abcdef0,
                 .step = 200,
                 .spec = {7, 9},
                 .width = 576,
                 .latents = 4608,
                 .layer = 6,
                 .training_tokens = 409600,
                 .created_ms = 1795356426445,
                 .seconds = 4.5},
    };
    file.absorption.letters[0] = (struct absorption_letter){.letter = 'a',
                                                            .used = true,
                                                            .f1 = 0.875,
                                                            .true_positives = 11,
                                                            .fraction = 0.5,
                                                            .full = 2,
                                                            .missed = 1,
                                                            .mains = 2,
                                                            .main = {17, 4000},
                                                            .tried = 3,
                                                            .k_f1 = {0.25, 0.5, 0.5}};
    file.absorption.letters[1] = (struct absorption_letter){
        .letter = 'x', .f1 = 0.125, .fraction = UNDEFINED, .mains = 1, .tried = 1};
    snprintf(file.head.model_name, sizeof file.head.model_name, "SmolLM2");
    snprintf(file.head.dtype, sizeof file.head.dtype, "float32");
    snprintf(file.head.ck, sizeof file.head.ck, "run/200-1");
    snprintf(file.head.profile, sizeof file.head.profile, "quick");
    snprintf(file.head.run, sizeof file.head.run, "run");
    snprintf(file.head.architecture, sizeof file.head.architecture, "orthogonal");
    snprintf(file.head.hook_name, sizeof file.head.hook_name, "blocks.6.hook_resid_post");
    snprintf(file.head.eval_id, sizeof file.head.eval_id, "55375457-d2a2-4774-81d9-8cda18e5bc91");
    snprintf(file.head.version, sizeof file.head.version, "0.1");
    return file;
}

static void
same_mean(const struct absorption_mean *a, const struct absorption_mean *b)
{
    const double x[4] = {a->value, a->std_dev, a->low, a->high};
    const double y[4] = {b->value, b->std_dev, b->low, b->high};
    for (size_t i = 0; i < 4; i++)
        assert_true(isnan(x[i]) ? isnan(y[i]) : x[i] >= y[i] && x[i] <= y[i]);
}

static void
out_and_in(void **state)
{
    (void)state;
    struct absorption_file file = example(), back;
    const struct absorption *a = &file.absorption, *b = &back.absorption;
    char path[PATH_BYTES], results[PATH_BYTES];
    assert_int_equal(path_join(results, folder, "run/eval/absorption"), STATUS_OK);
    assert_int_equal(saebench_path(path, results, &file.head), STATUS_OK);
    assert_non_null(strstr(path, "/run_step-000000000200_eval_results.json"));
    assert_int_equal(saebench_absorption_write(path, &file), STATUS_OK);
    if (saebench_absorption_read(&back, path) != STATUS_OK)
        fail_msg("%s", status_words());
    same_mean(&b->fraction, &a->fraction);
    same_mean(&b->full, &a->full);
    same_mean(&b->splits, &a->splits);
    same_mean(&b->missed, &a->missed);
    assert_true(b->count == 2 && b->used == 1 && b->words == 8000 && b->unfit == 3);
    assert_memory_equal(&b->letters[0], &a->letters[0], sizeof a->letters[0]);
    assert_true(b->letters[1].letter == 'x' && !b->letters[1].used);
    assert_true(isnan(b->letters[1].fraction) && b->letters[1].mains == 1);
    assert_true(back.head.mh == file.head.mh && hash128_same(back.head.spec, file.head.spec) &&
                back.head.step == 200);
    assert_string_equal(back.head.ck, "run/200-1");
    assert_string_equal(back.head.profile, "quick");
    assert_string_equal(back.head.version, "0.1");
    assert_true(back.head.seconds > 4.49 && back.head.width == 576 && back.seed == 42);

    bool found;
    assert_int_equal(saebench_find(&found, path, results, &file.head), STATUS_OK);
    assert_true(found);
    struct saebench_head other = file.head;
    other.spec = (struct hash128){1, 2};
    assert_int_equal(saebench_find(&found, path, results, &other), STATUS_OK);
    assert_false(found);
    assert_int_equal(saebench_path(path, results, &other), STATUS_OK);
    assert_non_null(strstr(path, "_spec-00000000_eval_results.json"));
}

// The keys that SAEBench's schema asks for, at their places.
static void
the_shape(void **state)
{
    (void)state;
    static const char *const top[] = {
        "eval_config",           "eval_id",     "datetime_epoch_millis", "eval_result_metrics",
        "sae_bench_commit_hash", "sae_lens_id", "sae_lens_release_id",   "sae_lens_version",
        "sae_cfg_dict"};
    static const char *const means[] = {
        "mean_absorption_fraction_score", "mean_full_absorption_score",
        "mean_num_split_features",        "std_dev_absorption_fraction_score",
        "std_dev_full_absorption_score",  "std_dev_num_split_features"};
    static const char *const config[] = {"model_name",
                                         "random_seed",
                                         "f1_jump_threshold",
                                         "max_k_value",
                                         "prompt_template",
                                         "prompt_token_pos",
                                         "llm_batch_size",
                                         "llm_dtype",
                                         "k_sparse_probe_l1_decay",
                                         "k_sparse_probe_batch_size",
                                         "k_sparse_probe_num_epochs",
                                         "min_GT_probe_f1",
                                         "min_feats_for_eval",
                                         "eval_k_sparse_probe_batch_size",
                                         "precalc_k_sparse_probe_sae_acts"};
    char path[PATH_BYTES];
    struct absorption_file file = example();
    assert_int_equal(path_join(path, folder, "shape.json"), STATUS_OK);
    assert_int_equal(saebench_absorption_write(path, &file), STATUS_OK);
    json_t *whole = json_load_file(path, 0, NULL);
    for (size_t i = 0; i < sizeof top / sizeof top[0]; i++)
        assert_non_null(json_object_get(whole, top[i]));
    json_t *mean = json_object_get(json_object_get(whole, "eval_result_metrics"), "mean");
    assert_int_equal(json_object_size(mean), 6);
    for (size_t i = 0; i < sizeof means / sizeof means[0]; i++)
        assert_true(json_is_number(json_object_get(mean, means[i])));
    json_t *how = json_object_get(whole, "eval_config");
    assert_int_equal(json_object_size(how), sizeof config / sizeof config[0]);
    for (size_t i = 0; i < sizeof config / sizeof config[0]; i++)
        assert_non_null(json_object_get(how, config[i]));
    // Undefined: -1 in its place, and told of.
    assert_true(json_number_value(json_object_get(mean, "std_dev_full_absorption_score")) < 0);
    json_t *ours = json_object_get(json_object_get(whole, "eval_result_unstructured"), "osae");
    assert_string_equal(json_string_value(json_array_get(json_object_get(ours, "undefined"), 0)),
                        "eval_result_metrics.mean.std_dev_full_absorption_score");
    assert_string_equal(json_string_value(json_object_get(ours, "letters_used")), "a");
    json_t *details = json_object_get(whole, "eval_result_details");
    assert_int_equal(json_array_size(details), 1); // only letters that are used
    assert_int_equal(json_object_size(json_array_get(details, 0)), 6);
    json_decref(whole);
}

static void
put(char path[PATH_BYTES], const char *text)
{
    assert_int_equal(path_join(path, folder, "other.json"), STATUS_OK);
    assert_int_equal(file_replace(path, text, strlen(text)), STATUS_OK);
}

static const char theirs[] =
    "{\"eval_type_id\": \"absorption_first_letter\", \"eval_config\": {\"model_name\": "
    "\"gemma-2-2b\"}, \"eval_result_metrics\": {\"mean\": {\"mean_absorption_fraction_score\": "
    "0.602, \"mean_full_absorption_score\": 0.0241, \"mean_num_split_features\": 1.77, "
    "\"std_dev_absorption_fraction_score\": 0.287, \"std_dev_full_absorption_score\": 0.0539, "
    "\"std_dev_num_split_features\": 1.11}}, \"eval_result_details\": [{\"first_letter\": \"a\", "
    "\"mean_absorption_fraction\": 0.7659, \"full_absorption_rate\": 0.0, "
    "\"num_full_absorption\": 0, \"num_probe_true_positives\": 11, \"num_split_features\": 3}], "
    "\"eval_result_unstructured\": null}";

static void
saebench_itself(void **state)
{
    (void)state;
    char path[PATH_BYTES];
    struct absorption_file file;
    put(path, theirs);
    assert_int_equal(saebench_absorption_read(&file, path), STATUS_OK);
    const struct absorption *a = &file.absorption;
    assert_true(a->fraction.value > 0.6019 && a->fraction.value < 0.6021);
    assert_true(isnan(a->missed.value) && isnan(a->fraction.low) && isnan(a->mean_f1));
    assert_true(a->count == 1 && a->used == 1 && a->letters[0].mains == 3);
    assert_true(a->letters[0].true_positives == 11 && isnan(a->letters[0].f1));
}

static void
damaged(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *words;
    } cases[] = {
        {"absorption_first_letter", "core", "wanted 'absorption_first_letter'"},
        {"0.0241", "\"x\"", "mean_full_absorption_score is no number"},
        {"\"a\"", "\"A\"", "'A' is not the next letter"},
        {"\"eval_config\"", "\"eval_type_id\"", "duplicate"},
        {"null}", "{\"osae\": {}}}", "osae.mh and osae.spec"},
        {"null}",
         "{\"osae\": {\"mh\": \"0123456789abcdef\", \"spec\": "
         "\"0123456789abcdef0123456789abcdef\", \"letters\": [3]}}}",
         "'' is not the next letter"},
        {"{\"mean\"", "[\"mean\"", "not JSON"},
    };
    char path[PATH_BYTES], text[2048];
    struct absorption_file file;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *at = strstr(theirs, cases[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - theirs), theirs, cases[i].to,
                 at + strlen(cases[i].from));
        put(path, text);
        assert_int_equal(saebench_absorption_read(&file, path), STATUS_DAMAGED);
        if (!strstr(status_words(), cases[i].words) || strchr(status_words(), '\n'))
            fail_msg("%zu: '%s' says nothing of '%s'", i, status_words(), cases[i].words);
    }
    // Any beginning of a file is refused; none is read beyond its end.
    for (size_t n = 0; n < sizeof theirs - 1; n += 7) {
        snprintf(text, sizeof text, "%.*s", (int)n, theirs);
        put(path, text);
        assert_int_equal(saebench_absorption_read(&file, path), STATUS_DAMAGED);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_and_in),
        cmocka_unit_test(the_shape),
        cmocka_unit_test(saebench_itself),
        cmocka_unit_test(damaged),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

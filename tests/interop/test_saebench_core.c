// Result files: the shape SAEBench asks for, there and back, and what is refused.
#include "lib/interop/saebench_core.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/osae-saebench-XXXXXX";

static int
make_folder(void **unused)
{
    (void)unused;
    return mkdtemp(folder) ? 0 : -1;
}

static int
drop_folder(void **unused)
{
    (void)unused;
    return path_remove(folder) == STATUS_OK ? 0 : -1;
}

static struct core_file
sample(void)
{
    struct core_file file = {
        .head = {.model_name = "smollm2-135m \"quoted\" \xc3\xa9",
                 .dtype = "float32",
                 .ck = "quick/2400-1",
                 .profile = "full",
                 .run = "quick/er",
                 .mh = 0xfedcba9876543210u,
                 .step = 2400,
                 .spec = {1, 0xabcdef0000000000u},
                 .architecture = "orthogonal",
                 .hook_name = "blocks.12.hook_resid_post",
                 .width = 64,
                 .latents = 3,
                 .layer = 12,
                 .training_tokens = 5000000,
                 .version = "0.1.0",
                 .created_ms = 1795355664987,
                 .seconds = 12.5},
        .dataset = "held-out.jsonl",
        .batch_contexts = 16,
        .core_batches = 10,
        .variance_batches = 32,
        .context = 128,
        .exclude_special = true,
        .prepend_bos = true,
    };
    for (size_t i = 0; i < CORE_COUNT; i++) {
        double value = 1.0 / 3 + (double)i;
        bool tokens = strcmp(core_rows[i].unit, "tokens") == 0;
        if (tokens || i == CORE_AT_dead_latents || i == CORE_AT_dense_latents)
            value = 1000 + (double)i;
        memcpy((char *)&file.core + core_rows[i].offset, &value, sizeof value);
    }
    for (size_t b = 0; b < DENSITY_BINS; b++)
        file.histogram.counts[b] = b;
    file.histogram.dead = 7;
    assert_int_equal(saebench_eval_id(file.head.eval_id), STATUS_OK);
    return file;
}

static const struct latent_detail details[3] = {
    {0.39965182541234, 50.21875, -0.178149268, 0.491365999, 0.9342266917, 0.4134612083, 0.45},
    {0, UNDEFINED, 0, 1e300, -1.0, 1.0, 1.0},
    {1, 1, 0, 1, 0.5, 0.25, 0.125},
};

static void
there_and_back(void **unused)
{
    (void)unused;
    struct core_file file = sample(), *got = calloc(1, sizeof *got);
    assert_non_null(got);
    file.core.kl_div_score = UNDEFINED;
    file.core.error_norm_median = INFINITY;
    char path[PATH_BYTES], deep[PATH_BYTES];
    assert_int_equal(path_join(deep, folder, "eval/core"), STATUS_OK);
    assert_int_equal(saebench_path(path, deep, &file.head), STATUS_OK);
    assert_non_null(strstr(path, "/eval/core/quick_er_step-000000002400_eval_results.json"));
    assert_int_equal(saebench_core_write(path, &file, details), STATUS_OK);
    assert_int_equal(saebench_core_read(got, path), STATUS_OK);
    for (size_t i = 0; i < CORE_COUNT; i++) {
        double wrote = core_number(&file.core, i), read = core_number(&got->core, i);
        if (isfinite(wrote))
            assert_true(fabs(wrote - read) <= 1e-14 * fabs(wrote));
        else
            assert_true(isnan(read));
    }
    assert_string_equal(got->head.model_name, file.head.model_name);
    assert_string_equal(got->head.ck, file.head.ck);
    assert_string_equal(got->head.run, file.head.run);
    assert_string_equal(got->head.architecture, file.head.architecture);
    assert_string_equal(got->head.eval_id, file.head.eval_id);
    assert_string_equal(got->head.version, file.head.version);
    assert_true(got->head.mh == file.head.mh && hash128_same(got->head.spec, file.head.spec));
    assert_true(got->head.step == 2400 && got->head.training_tokens == 5000000 &&
                got->head.latents == 3);
    assert_true(got->exclude_special && got->prepend_bos && !got->apply_b_dec_to_input);
    assert_true(got->head.created_ms == file.head.created_ms && got->variance_batches == 32);
    assert_true(got->head.seconds == 12.5);
    assert_memory_equal(&got->histogram, &file.histogram, sizeof file.histogram);
    free(got);
}

static void
has_keys(const json_t *object, const char *const *keys)
{
    const char *key;
    json_t *value;
    size_t n = 0;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        (void)value;
        assert_non_null(keys[n]);
        assert_string_equal(key, keys[n]);
        n++;
    }
    assert_null(keys[n]);
}

// Every key SAEBench's schema asks for, in its order; -1 for what is undefined, and said so.
static void
shape(void **unused)
{
    (void)unused;
    static const char *const top[] = {"eval_type_id",
                                      "eval_config",
                                      "eval_id",
                                      "datetime_epoch_millis",
                                      "eval_result_metrics",
                                      "eval_result_details",
                                      "sae_bench_commit_hash",
                                      "sae_lens_id",
                                      "sae_lens_release_id",
                                      "sae_lens_version",
                                      "sae_cfg_dict",
                                      "eval_result_unstructured",
                                      NULL};
    static const char *const config[] = {"model_name",
                                         "llm_dtype",
                                         "batch_size_prompts",
                                         "n_eval_reconstruction_batches",
                                         "n_eval_sparsity_variance_batches",
                                         "dataset",
                                         "context_size",
                                         "compute_kl",
                                         "compute_ce_loss",
                                         "compute_l2_norms",
                                         "compute_sparsity_metrics",
                                         "compute_variance_metrics",
                                         "compute_featurewise_density_statistics",
                                         "compute_featurewise_weight_based_metrics",
                                         "exclude_special_tokens_from_reconstruction",
                                         "verbose",
                                         NULL};
    static const char *const categories[] = {"model_behavior_preservation",
                                             "model_performance_preservation",
                                             "reconstruction_quality",
                                             "shrinkage",
                                             "sparsity",
                                             "token_stats",
                                             "misc_metrics",
                                             NULL};
    static const char *const misc[] = {"freq_over_1_percent",
                                       "freq_over_10_percent",
                                       "normalized_freq_over_1_percent",
                                       "normalized_freq_over_10_percent",
                                       "average_max_encoder_cosine_sim",
                                       "average_max_decoder_cosine_sim",
                                       "frac_alive",
                                       NULL};
    static const char *const latent[] = {"index",
                                         "feature_density",
                                         "consistent_activation_heuristic",
                                         "encoder_bias",
                                         "encoder_norm",
                                         "encoder_decoder_cosine_sim",
                                         "max_decoder_cosine_sim",
                                         "max_encoder_cosine_sim",
                                         NULL};
    struct core_file file = sample();
    file.core.cossim = UNDEFINED;
    file.core.fvu = UNDEFINED;
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, folder, "shape.json"), STATUS_OK);
    assert_int_equal(saebench_core_write(path, &file, details), STATUS_OK);
    json_t *whole = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(whole);
    has_keys(whole, top);
    has_keys(json_object_get(whole, "eval_config"), config);
    const json_t *metrics = json_object_get(whole, "eval_result_metrics");
    has_keys(metrics, categories);
    has_keys(json_object_get(metrics, "misc_metrics"), misc);
    const json_t *list = json_object_get(whole, "eval_result_details");
    assert_int_equal(json_array_size(list), 3);
    has_keys(json_array_get(list, 1), latent);
    const json_t *one = json_array_get(list, 0);
    assert_true(json_real_value(json_object_get(one, "feature_density")) == 0.3996518254);
    one = json_array_get(list, 1);
    assert_int_equal(json_integer_value(json_object_get(one, "consistent_activation_heuristic")),
                     -1);
    const json_t *cossim =
        json_object_get(json_object_get(metrics, "reconstruction_quality"), "cossim");
    assert_int_equal(json_integer_value(cossim), -1);
    const json_t *stats = json_object_get(metrics, "token_stats");
    assert_true(json_is_integer(json_object_get(stats, "total_tokens_eval_reconstruction")));
    const json_t *ours =
        json_object_get(json_object_get(whole, "eval_result_unstructured"), "osae");
    const json_t *undefined = json_object_get(ours, "undefined");
    assert_int_equal(json_array_size(undefined), 2);
    assert_string_equal(json_string_value(json_array_get(undefined, 0)),
                        "eval_result_metrics.reconstruction_quality.cossim");
    assert_string_equal(json_string_value(json_array_get(undefined, 1)), "osae.fvu");
    assert_string_equal(json_string_value(json_object_get(ours, "mh")), "fedcba9876543210");
    assert_string_equal(json_string_value(json_object_get(ours, "spec")),
                        "abcdef00000000000000000000000001");
    json_decref(whole);
}

static void
overwrite(const char *path, const char *text)
{
    assert_int_equal(file_replace(path, text, strlen(text)), STATUS_OK);
}

static void
hostile(void **unused)
{
    (void)unused;
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"eval_type_id\": \"absorption_first_letter\"}",
        "{\"eval_type_id\": \"core\", \"eval_config\": {}, \"eval_result_metrics\": {}}",
        "{\"eval_config\": {}, \"sae_cfg_dict\": {}, \"eval_result_metrics\": {}}",
        "{\"eval_config\": {}, \"sae_cfg_dict\": [], \"eval_result_metrics\": 5}",
        "{\"eval_config\": {}, \"eval_config\": {}}",
        "{\"a\": NaN}",
    };
    struct core_file file;
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, folder, "hostile.json"), STATUS_OK);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        overwrite(path, texts[i]);
        assert_int_equal(saebench_core_read(&file, path), STATUS_DAMAGED);
        assert_non_null(strstr(status_words(), "hostile.json"));
    }
    // a whole file, cut at every 97th byte
    struct core_file good = sample();
    char *text;
    size_t bytes;
    assert_int_equal(saebench_core_write(path, &good, details), STATUS_OK);
    assert_int_equal(file_read(&text, &bytes, path, 1 << 20), STATUS_OK);
    for (size_t cut = 0; cut < bytes - 2; cut += 97) {
        assert_int_equal(file_replace(path, text, cut), STATUS_OK);
        assert_int_equal(saebench_core_read(&file, path), STATUS_DAMAGED);
    }
    free(text);
    assert_int_equal(path_join(path, folder, "absent.json"), STATUS_OK);
    assert_int_equal(saebench_core_read(&file, path), STATUS_MISSING);
    // a name that is no text cannot be written, and leaves nothing
    snprintf(good.dataset, sizeof good.dataset, "\xff\xfe");
    assert_int_equal(saebench_core_write(path, &good, NULL), STATUS_CREATE);
    assert_false(path_exists(path));
}

// A file of SAEBench's own has none of our part.
static void
theirs(void **unused)
{
    (void)unused;
    struct core_file file = sample();
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, folder, "theirs.json"), STATUS_OK);
    assert_int_equal(saebench_core_write(path, &file, details), STATUS_OK);
    json_t *whole = json_load_file(path, 0, NULL);
    json_object_set_new(whole, "eval_result_unstructured", json_object());
    json_object_del(whole, "eval_type_id");
    json_dump_file(whole, path, 0);
    json_decref(whole);
    struct core_file got;
    assert_int_equal(saebench_core_read(&got, path), STATUS_OK);
    assert_true(fabs(got.core.mse - file.core.mse) < 1e-12 && isnan(got.core.mse_sum));
    assert_true(got.head.mh == 0 && got.head.ck[0] == 0);
}

// Keyed by (mh, spec): found when there, not attached to another manifest, two specs side by side.
static void
keyed(void **unused)
{
    (void)unused;
    struct core_file file = sample();
    snprintf(file.head.run, sizeof file.head.run, "keyed");
    file.head.step = 5;
    struct saebench_head other = file.head, repeated = file.head;
    other.spec = (struct hash128){9, 9};
    repeated.mh++;
    char path[PATH_BYTES], second[PATH_BYTES];
    bool found = true;
    assert_int_equal(saebench_find(&found, path, folder, &file.head), STATUS_OK);
    assert_false(found);
    assert_int_equal(saebench_path(path, folder, &file.head), STATUS_OK);
    assert_int_equal(saebench_core_write(path, &file, NULL), STATUS_OK);
    assert_int_equal(saebench_find(&found, second, folder, &file.head), STATUS_OK);
    assert_true(found);
    assert_string_equal(path, second);
    assert_int_equal(saebench_find(&found, second, folder, &repeated), STATUS_OK);
    assert_false(found);
    // the same checkpoint under another configuration does not push the first aside
    assert_int_equal(saebench_path(second, folder, &other), STATUS_OK);
    assert_non_null(strstr(second, "keyed_step-000000000005_spec-00000000_eval_results.json"));
    const struct saebench_head first = file.head;
    file.head = other;
    assert_int_equal(saebench_core_write(second, &file, NULL), STATUS_OK);
    assert_int_equal(saebench_find(&found, path, folder, &other), STATUS_OK);
    assert_true(found);
    assert_string_equal(path, second);
    // another checkpoint of that step (the run was repeated) takes the usual name
    repeated.spec = other.spec;
    assert_int_equal(saebench_path(path, folder, &repeated), STATUS_OK);
    assert_non_null(strstr(path, "keyed_step-000000000005_eval_results.json"));
    // whoever still scores the damaged one that a newer one replaced does not replace its result
    struct saebench_head older = repeated;
    older.mh += 7;
    snprintf(file.head.ck, sizeof file.head.ck, "keyed/5-12");
    snprintf(older.ck, sizeof older.ck, "keyed/5-9");
    file.head.mh = repeated.mh;
    file.head.spec = repeated.spec;
    assert_int_equal(saebench_core_write(path, &file, NULL), STATUS_OK);
    assert_int_equal(saebench_path(second, folder, &older), STATUS_OK);
    assert_string_not_equal(second, path);
    assert_int_equal(saebench_core_write(second, &file, NULL), STATUS_OK);
    assert_int_equal(saebench_path(second, folder, &older), STATUS_OK);
    assert_non_null(strstr(second, "_spec-00000000_mh-"));
    file.head = older;
    assert_int_equal(saebench_core_write(second, &file, NULL), STATUS_OK);
    assert_int_equal(saebench_find(&found, path, folder, &older), STATUS_OK);
    assert_true(found);
    assert_string_equal(path, second);
    assert_int_equal(saebench_find(&found, path, folder, &repeated), STATUS_OK);
    assert_true(found);
    assert_non_null(strstr(path, "keyed_step-000000000005_eval_results.json"));
    // a damaged file counts as none
    overwrite(path, "{");
    assert_int_equal(saebench_find(&found, path, folder, &first), STATUS_OK);
    assert_false(found);
    // a name with more bytes than a file's may have
    memset(other.run, 'a', sizeof other.run - 1);
    char deepest[PATH_BYTES];
    memset(deepest, 'd', sizeof deepest - 1);
    deepest[sizeof deepest - 1] = '\0';
    assert_int_equal(saebench_path(path, deepest, &other), STATUS_CONFIG);
}

static void
misleading(void **unused)
{
    (void)unused;
    assert_null(saebench_misleading("/runs/a/eval/core/a_step-1_eval_results.json", "core"));
    assert_string_equal(saebench_misleading("/scratch/a/eval/core/x", "core"), "scr");
    assert_string_equal(saebench_misleading("/runs/absorption-2/eval/core/x", "core"),
                        "absorption");
    assert_null(saebench_misleading("/core/eval/absorption/x", "absorption"));
    assert_null(saebench_misleading("/runs/x", "core"));
}

// docs/evaluation.md has a line for every number, with its category and unit.
static void
documented(void **unused)
{
    (void)unused;
    char *text;
    size_t bytes;
    assert_int_equal(file_read(&text, &bytes, OSAE_TESTS "/../docs/evaluation.md", 1 << 20),
                     STATUS_OK);
    static const char *const better[] = {"lower", "higher", "to 1", "-"};
    for (size_t i = 0; i < CORE_COUNT; i++) {
        char line[256];
        snprintf(line, sizeof line, "\n| `%s` | %s | %s | %s | ", core_rows[i].key,
                 core_rows[i].category, core_rows[i].unit, better[core_rows[i].better]);
        if (!strstr(text, line))
            fail_msg("docs/evaluation.md lacks the line%s", line);
    }
    free(text);
}

static void
eval_ids(void **unused)
{
    (void)unused;
    char a[37], b[37];
    assert_int_equal(saebench_eval_id(a), STATUS_OK);
    assert_int_equal(saebench_eval_id(b), STATUS_OK);
    assert_string_not_equal(a, b);
    assert_true(strlen(a) == 36 && a[8] == '-' && a[14] == '4' && strchr("89ab", a[19]));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(shape),    cmocka_unit_test(hostile),
        cmocka_unit_test(theirs),         cmocka_unit_test(keyed),    cmocka_unit_test(misleading),
        cmocka_unit_test(documented),     cmocka_unit_test(eval_ids),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}

// `osae-evaluator eval`: SAEs of the command line on a tiny model, results found again, bad input.
#include "config/settings.h"
#include "lib/interop/saebench_absorption.h"
#include "lib/interop/saebench_core.h"
#include "tests/evaluator/eval_once.h"
#include "tests/evaluator/golden.h"
#include "tests/evaluator/planted.h"

static int
set_up(void **unused)
{
    (void)unused;
    if (eval_start() != 0)
        return -1;
    write_identity("sae", 1, 1);
    write_identity("nowhere", -1, 1);
    FILE *rows = fopen("rows.jsonl", "w");
    if (!rows)
        return -1;
    for (unsigned r = 0; r < 6; r++) {
        fprintf(rows, "{\"input_ids\": [1");
        for (unsigned t = 1; t < EVAL_CONTEXT + r; t++) // longer rows are cut
            fprintf(rows, ", %u", 3 + (r * 31 + t * 17) % 500);
        fprintf(rows, "]}\n");
    }
    return fclose(rows);
}

static enum status
eval(const char *line)
{
    return eval_once("--set model.path=" OSAE_TESTS "/golden/tiny-llama --set model.context=16 "
                     "--set eval.batch_contexts=2 --set eval.core_batches=1 "
                     "--set eval.core_variance_batches=2 ",
                     line);
}

static void
any_sae_is_scored_and_found_again(void **unused)
{
    (void)unused;
    char path[PATH_BYTES], *table;
    size_t bytes;
    static struct core_file first, second;
    assert_int_equal(eval("sae --tokens rows.jsonl --set eval.out=out"), STATUS_OK);
    assert_int_equal(results(path, "out/core"), 1);
    assert_int_equal(saebench_core_read(&first, path), STATUS_OK);
    near(first.core.ce_loss_score, 1, 1e-6);
    near(first.core.kl_div_score, 1, 1e-6);
    assert_true(first.core.mse_sum < 1e-9);
    assert_int_equal(first.head.layer, 1); // as the SAE says
    assert_int_equal(first.head.latents, EVAL_LATENTS);
    assert_string_equal(first.head.model_name, "tiny-llama");
    assert_int_equal(first.core.total_tokens_eval_sparsity_variance, 2 * 2 * EVAL_CONTEXT);
    assert_int_equal(file_read(&table, &bytes, "table", 1 << 20), STATUS_OK);
    assert_non_null(strstr(table, "ce_loss_score"));
    free(table);
    // The second time nothing is written; another specification is another file.
    assert_int_equal(eval("sae/sae_weights.safetensors --tokens rows.jsonl --set eval.out=out"),
                     STATUS_OK);
    assert_int_equal(results(path, "out/core"), 1);
    assert_int_equal(saebench_core_read(&second, path), STATUS_OK);
    assert_int_equal(second.head.created_ms, first.head.created_ms);
    assert_string_equal(second.head.eval_id, first.head.eval_id);
    assert_int_equal(
        eval("sae --tokens rows.jsonl --set eval.out=out --set eval.core_variance_batches=1"),
        STATUS_OK);
    assert_int_equal(results(path, "out/core"), 2);
}

// A model in whose stream the truth is known (planted.h), without any held-out text.
static void
absorption_from_the_command_line(void **unused)
{
    (void)unused;
    static struct absorption_file first, second;
    struct planted_sae planted = {0};
    struct tokenizer *tokenizer;
    struct model *model;
    char path[PATH_BYTES], *table;
    size_t bytes;
    planted_open(&tokenizer, &model, "planted", 1);
    model_free(&model);
    tokenizer_free(&tokenizer);
    for (size_t l = 0; l < 26; l++)
        for (size_t r = 0; r < RESTS; r++)
            planted.kind[l][r] = (l + r) % 3 == 0 ? ABSORBED : PLAIN;
    planted_sae_write("absorbs", &planted);
    static const char line[] =
        "absorbs --only absorption --set eval.out=out --set model.path=planted "
        "--set model.context=64 --set eval.profile=quick";
    if (eval(line) != STATUS_OK)
        fail_msg("%s", status_words());
    assert_int_equal(results(path, "out/absorption"), 1);
    assert_int_equal(saebench_absorption_read(&first, path), STATUS_OK);
    const struct absorption *a = &first.absorption;
    assert_true(a->used == 26 && a->count == 26 && a->words == 1421);
    near(a->splits.value, 1, 1e-9);
    assert_true(a->full.low < 1.0 / 3 && 1.0 / 3 < a->full.high); // a third of all is absorbed
    near(a->fraction.value, a->full.value, 1e-9);
    assert_true(a->full.low < a->full.value && a->full.value < a->full.high);
    assert_string_equal(first.head.profile, "quick");
    assert_true(first.head.layer == 0 && first.head.latents == PLANTED_LATENTS && first.seed == 42);
    assert_int_equal(file_read(&table, &bytes, "table", 1 << 20), STATUS_OK);
    assert_non_null(strstr(table, "mean_full_absorption_score"));
    free(table);
    assert_int_equal(eval(line), STATUS_OK); // found, not done again
    assert_int_equal(results(path, "out/absorption"), 1);
    assert_int_equal(saebench_absorption_read(&second, path), STATUS_OK);
    assert_int_equal(second.head.created_ms, first.head.created_ms);
    // found again, but not what it was made of: that is made, and the score is the same
    assert_int_equal(eval("absorbs --only absorption --set eval.out=out --set model.path=planted "
                          "--set model.context=64 --set eval.profile=quick --state words"),
                     STATUS_OK);
    assert_true(path_exists("words/probe.safetensors") && path_exists("words/state.json"));
    assert_int_equal(results(path, "out/absorption"), 1);
    assert_int_equal(saebench_absorption_read(&second, path), STATUS_OK);
    assert_memory_equal(&second.absorption, &first.absorption, sizeof first.absorption);
    // the same words scored again from the folder: no result file, the same score
    assert_int_equal(eval("absorbs --only absorption --set eval.out=given --set model.path=planted "
                          "--set model.context=64 --given words --state again"),
                     STATUS_OK);
    assert_false(path_exists("given/absorption"));
    assert_int_equal(file_read(&table, &bytes, "table", 1 << 20), STATUS_OK);
    const char *row = strstr(table, "full_differences");
    assert_non_null(row);
    near(strtod(row + strlen("full_differences"), NULL), 0, 0);
    near(strtod(strstr(table, "mean_full_absorption_score") + 26, NULL), a->full.value,
         1e-5); // six digits
    free(table);
    assert_true(path_exists("again/probe.safetensors") && path_exists("again/state.json"));
    // a tokenizer that does not fit: one line, no file
    assert_int_equal(eval("sae --only absorption --set eval.out=none"), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "the first-letter evaluation does not fit"));
    assert_false(path_exists("none/absorption"));
}

static void
text_is_packed_and_bounded(void **unused)
{
    (void)unused;
    static struct core_file file;
    char path[PATH_BYTES];
    assert_int_equal(eval("sae --set eval.out=text --tokens 160 --set eval.text=" OSAE_TESTS
                          "/golden/README.md"),
                     STATUS_OK);
    assert_int_equal(results(path, "text/core"), 1);
    assert_int_equal(saebench_core_read(&file, path), STATUS_OK);
    // 160 tokens are 5 batches of 2 windows of 16: one for predictions, as 1 of 3 settings' batches
    assert_int_equal(file.core.total_tokens_eval_reconstruction, 32);
    assert_int_equal(file.core.total_tokens_eval_sparsity_variance, 128);
}

static void
bad_input_is_one_line(void **unused)
{
    (void)unused;
    static const struct {
        const char *line;
        enum status status;
        const char *words;
    } cases[] = {
        {"", STATUS_USAGE, "osae eval: which SAE? (osae eval --help)"},
        {"gone", STATUS_MISSING, "gone: No such file or directory"},
        {"sae", STATUS_CONFIG, "osae eval: --text is missing: "},
        {"sae --state words", STATUS_USAGE, "osae eval: --state is of --only absorption"},
        {"sae sae --only absorption --state words", STATUS_USAGE,
         "osae eval: --state words is of one SAE, found 2"},
        {"sae --given words", STATUS_USAGE, "osae eval: --given is of --only absorption"},
        {"sae --only core,absorption --given words", STATUS_USAGE,
         "osae eval: --given is of --only absorption"},
        {"sae --tokens 0", STATUS_USAGE, "osae eval: --tokens 0: wanted a number above 0"},
        {"sae --only corn", STATUS_USAGE, "osae eval: --only corn: wanted some of: core, "},
        {"sae --tokens gone.jsonl", STATUS_MISSING, "gone.jsonl: "},
        {"nowhere --tokens rows.jsonl", STATUS_CONFIG,
         "nowhere does not say which block's output it reads (hook ''): --layer is missing"},
        {"sae --tokens rows.jsonl --set model.layer=2", STATUS_CONFIG,
         "sae/cfg.json: the SAE is of the output of block 1 (blocks.1.hook_resid_post), wanted "
         "block 2"},
        {"sae --tokens rows.jsonl --set model.context=32", STATUS_DAMAGED,
         "rows.jsonl:1: a row of 16 ids, wanted at least 32 (model.context)"},
        {"table --tokens rows.jsonl", STATUS_MISSING, ".: no SAE: found "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum status status = eval(cases[i].line);
        if (status != cases[i].status ||
            strncmp(status_words(), cases[i].words, strlen(cases[i].words)) != 0)
            fail_msg("'%s' gave %s, '%s'", cases[i].line, status_name(status), status_words());
    }
    assert_false(path_exists("eval"));
}

static void
one_bad_sae_does_not_stop_the_others(void **unused)
{
    (void)unused;
    char path[PATH_BYTES];
    assert_int_equal(eval("gone sae --tokens rows.jsonl --set eval.out=both"), STATUS_MISSING);
    assert_int_equal(results(path, "both/core"), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_sae_is_scored_and_found_again),
        cmocka_unit_test(absorption_from_the_command_line),
        cmocka_unit_test(text_is_packed_and_bounded),
        cmocka_unit_test(bad_input_is_one_line),
        cmocka_unit_test(one_bad_sae_does_not_stop_the_others),
    };
    return cmocka_run_group_tests(tests, set_up, eval_finish);
}

// Every config we ship loads, needs no advice, and says what its name promises.
#include "config/config.h"
#include "config/explain.h"
#include "config/notes.h"
#include "config/rules.h"
#include "config/trajectory.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char folder[] = OSAE_TESTS "/../config";

static struct config *
shipped(const char *name)
{
    char path[PATH_BYTES];
    struct config *config = NULL;
    assert_int_equal(path_join(path, folder, name), STATUS_OK);
    if (config_load(&config, path, NULL, 0) != STATUS_OK)
        fail_msg("%s", status_words());
    return config;
}

static size_t found;

static int
load_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)where;
    const char *ending = strrchr(path, '.');
    if (type != FTW_F || !ending || strcmp(ending, ".yaml") != 0)
        return 0;
    struct config *config = NULL;
    struct texts *advice = calloc(1, sizeof *advice);
    found++;
    if (config_load(&config, path, NULL, 0) != STATUS_OK)
        fail_msg("%s", status_words());
    rules_advise(config, advice);
    if (advice->count)
        fail_msg("%s: %s", path, advice->at[0]);
    free(advice);
    config_free(&config);
    return 0;
}

static void
every_file_loads_and_needs_no_advice(void **unused)
{
    (void)unused;
    assert_int_equal(nftw(folder, load_one, 8, FTW_PHYS), 0);
    assert_true(found >= 9);
}

// The keys of the trajectory in which two of them differ.
static void
differ_in(const char *one, const char *other, const char *differences)
{
    struct config *a = shipped(one), *b = shipped(other);
    char said[1024];
    trajectory_differences(said, sizeof said, &a->set, &b->set);
    assert_string_equal(said, differences);
    config_free(&a);
    config_free(&b);
}

static void
the_paper_s_config_is_the_paper_and_each_other_differs_by_its_name(void **unused)
{
    (void)unused;
    static const char paper[] = "paper-gemma2-2b-l12.yaml";
    struct config *config = shipped(paper), *bare = NULL;
    char said[1024];
    assert_int_equal(config_load(&bare, NULL, NULL, 0), STATUS_OK);
    assert_int_equal(trajectory_differences(said, sizeof said, &bare->set, &config->set), 0);
    assert_int_equal(config->set.trainer.steps, 2441);
    assert_int_equal(config->set.stream.rows, 2048);
    assert_int_equal(config->set.model.layer, 12);
    // Blocks of 16 batches from 261 contexts each: 153 of them make 2441 steps.
    assert_int_equal(config->set.text.tokens, 153 * 261 * 128);
    assert_string_equal(config->set.run.name, "paper-gemma2-2b-l12");
    config_free(&config);
    config_free(&bare);
    differ_in(paper, "paper-ablations/no-curriculum.yaml", "curriculum.enabled true -> false");
    differ_in(paper, "paper-ablations/fixed-threshold.yaml", "curriculum.theta_end 0.3 -> 0.7");
    differ_in(paper, "paper-ablations/no-temporal.yaml", "loss.lambda_t 0.001 -> 0");
    differ_in(paper, "baselines/standard.yaml",
              "curriculum.enabled true -> false, loss.lambda_o 0.01 -> 0, "
              "loss.lambda_t 0.001 -> 0");
    differ_in(paper, "baselines/topk.yaml",
              "curriculum.enabled true -> false, loss.lambda_o 0.01 -> 0, "
              "loss.lambda_s 0.04 -> 0, loss.lambda_t 0.001 -> 0, sae.arch relu -> topk");
    differ_in(paper, "baselines/batchtopk.yaml",
              "curriculum.enabled true -> false, loss.lambda_o 0.01 -> 0, "
              "loss.lambda_s 0.04 -> 0, loss.lambda_t 0.001 -> 0, sae.arch relu -> batchtopk");
    differ_in(paper, "baselines/jumprelu.yaml",
              "curriculum.enabled true -> false, loss.lambda_o 0.01 -> 0, "
              "loss.lambda_t 0.001 -> 0, loss.sparsity auto -> l0, sae.arch relu -> jumprelu");
}

static void
the_quickstart_reads_what_the_scripts_fetch(void **unused)
{
    (void)unused;
    struct config *config = shipped("quickstart.yaml");
    const struct settings *set = &config->set;
    assert_int_equal(config_given(config, "model.path"), STATUS_OK);
    assert_int_equal(config_given(config, "text.files"), STATUS_OK);
    assert_int_equal(config_given(config, "eval.text"), STATUS_OK);
    assert_non_null(strstr(set->model.path, "/models/SmolLM2-135M-Instruct.Q4_1.gguf"));
    assert_non_null(strstr(set->text.files.at[0], "/text/quickstart/train.jsonl"));
    assert_non_null(strstr(set->eval.text.at[0], "/text/quickstart/heldout.jsonl"));
    assert_int_equal(strncmp(set->model.path, set->storage.cache, strlen(set->storage.cache)), 0);
    // The text suffices: whole blocks of contexts, protocol.md's count of them.
    uint64_t batches = (set->trainer.steps + set->stream.shuffle_block - 1) /
                       set->stream.shuffle_block * set->stream.shuffle_block;
    uint64_t group = (101 * (uint64_t)set->stream.shuffle_block * set->stream.rows +
                      100 * (set->model.context - 1) - 1) /
                     (100 * (set->model.context - 1));
    uint64_t tokens = batches / set->stream.shuffle_block * group * set->model.context;
    assert_true(set->text.tokens >= tokens);
    assert_true(set->text.tokens < tokens + tokens / 5);
    config_free(&config);
}

static void
the_page_of_settings_is_the_one_the_table_prints(void **unused)
{
    (void)unused;
    char *now = NULL, *page = NULL;
    size_t now_bytes = 0, page_bytes = 0;
    FILE *out = open_memstream(&now, &now_bytes);
    assert_non_null(out);
    explain_page(out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(file_read(&page, &page_bytes, OSAE_TESTS "/../docs/config.md", 1 << 20),
                     STATUS_OK);
    if (now_bytes != page_bytes || memcmp(now, page, now_bytes) != 0)
        fail_msg("docs/config.md is old: osae config --markdown > docs/config.md");
    free(now);
    free(page);
}

static void
notes_are_about_keys_there_are_once_each(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < notes_count; i++) {
        const struct field *row = settings_row(notes[i].key);
        if (!row)
            fail_msg("a note on %s, which is no key", notes[i].key);
        assert_ptr_equal(explain_note(row), notes[i].text);
    }
}

static void
a_key_is_explained_with_all_there_is_to_know(void **unused)
{
    (void)unused;
    struct config *config = NULL;
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(config_new(&config), STATUS_OK);
    assert_int_equal(config_flag(config, "loss.lambda_o=0.5"), STATUS_OK);
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    explain_key(out, config, settings_row("loss.lambda_o"));
    assert_int_equal(fclose(out), 0);
    assert_string_equal(
        text,
        "loss.lambda_o: 0.5\n"
        "  weight of the competition term, eq. (4); 0: off\n\n"
        "  now         from --set\n"
        "  default     0.01\n"
        "  wanted      0 to 1000\n"
        "  eq. (4)     L = |x - x_hat|^2 + lambda_s |f|_1 + lambda_o sum_ij c_ij 1[c_ij > theta] "
        "(w_i . w_j)^2\n"
        "  also set by --set loss.lambda_o=VALUE, OSAE_LOSS__LAMBDA_O=VALUE\n"
        "  It decides the run's numbers: a run is continued only with the same value.\n"
        "  It may be changed while the run goes on; the change is recorded with its step.\n\n"
        "  Scales the sum over pairs of latents that fire together (c_ij > theta) of the squared\n"
        "  product of their decoder rows. 0 removes the term and its cost: Standard, TopK and\n"
        "  JumpReLU of the paper have none.\n");
    free(text);
    config_free(&config);
}

static void
ranges_read_as_people_say_them(void **unused)
{
    (void)unused;
    static const char *const said[][2] = {
        {"sae.latents", "1 to 16777216"},
        {"sae.arch", "one of relu, topk, batchtopk, jumprelu"},
        {"sae.tie_init", "true or false"},
        {"text.tokens", "0 or more tokens"},
        {"net.hb_ms", "50 to 600000 ms"},
        {"net.min_rate", "1KiB or more a second"},
        {"metrics.segment", "64KiB or more"},
        {"data.max_payload", "4KiB to 2GiB"},
        {"optimiser.threshold_lr", "0 to 10, or auto"},
        {"run.name", "text of at most 64 bytes"},
        {"text.files", "a list of at most 32 texts of at most 511 bytes"},
    };
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        char range[256];
        explain_range(range, sizeof range, settings_row(said[i][0]));
        assert_string_equal(range, said[i][1]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_loads_and_needs_no_advice),
        cmocka_unit_test(the_paper_s_config_is_the_paper_and_each_other_differs_by_its_name),
        cmocka_unit_test(the_quickstart_reads_what_the_scripts_fetch),
        cmocka_unit_test(the_page_of_settings_is_the_one_the_table_prints),
        cmocka_unit_test(notes_are_about_keys_there_are_once_each),
        cmocka_unit_test(a_key_is_explained_with_all_there_is_to_know),
        cmocka_unit_test(ranges_read_as_people_say_them),
    };
    if (setenv("HOME", "/home/ada", 0) != 0) // a bare container has none
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

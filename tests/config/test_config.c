// Layers: default < file < environment < flag, what each value remembers, and how paths, the run's
// name and empty endpoints are filled in.
#include "config/config.h"
#include "config/paths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/osae-config-XXXXXX";
static char path[PATH_BYTES];

static void
write_config(const char *name, const char *text)
{
    assert_int_equal(path_join(path, folder, name), STATUS_OK);
    assert_int_equal(file_replace(path, text, strlen(text)), STATUS_OK);
}

static int
start(void **unused)
{
    (void)unused;
    if (unsetenv("OSAE_CACHE") != 0 || setenv("HOME", "/home/ada", 1) != 0)
        return -1;
    return mkdtemp(folder) ? 0 : -1;
}

static int
finish(void **unused)
{
    (void)unused;
    return path_remove(folder) == STATUS_OK ? 0 : -1;
}

static const struct origin *
origin(const struct config *config, const char *key)
{
    return config_origin(config, settings_row(key));
}

static void
later_sources_win_and_are_remembered(void **unused)
{
    (void)unused;
    struct config *config = NULL;
    write_config("a.yaml", "loss: {lambda_s: 1, lambda_o: 1, lambda_t: 1}\n");
    assert_int_equal(setenv("OSAE_LOSS__LAMBDA_O", "2", 1), 0);
    assert_int_equal(setenv("OSAE_LOSS__LAMBDA_T", "2", 1), 0);
    const char *const sets[] = {"loss.lambda_t=3", "text.files=[a, 'b, c']", "eval.text=d=e,f"};
    assert_int_equal(config_load(&config, path, sets, 3), STATUS_OK);
    assert_true(config->set.loss.lambda_s == 1 && config->set.loss.lambda_o == 2);
    assert_true(config->set.loss.lambda_t == 3 && config->set.loss.target_l0 == 40);
    assert_int_equal(config->set.text.files.count, 2);
    assert_non_null(strstr(config->set.text.files.at[1], "/b, c"));
    assert_int_equal(config->set.eval.text.count, 1);
    assert_non_null(strstr(config->set.eval.text.at[0], "/d=e,f"));
    assert_int_equal(origin(config, "loss.lambda_s")->source, SOURCE_FILE);
    assert_int_equal(origin(config, "loss.lambda_o")->source, SOURCE_ENVIRONMENT);
    assert_string_equal(origin(config, "loss.lambda_o")->where, "OSAE_LOSS__LAMBDA_O");
    assert_int_equal(origin(config, "loss.lambda_t")->source, SOURCE_FLAG);
    assert_string_equal(origin(config, "loss.lambda_t")->where, "--set");
    assert_int_equal(origin(config, "loss.target_l0")->source, SOURCE_PRESET);
    config_free(&config);
    assert_null(config);

    // The frozen copy of a run does not listen to the environment.
    assert_int_equal(config_frozen(&config, path), STATUS_OK);
    assert_true(config->set.loss.lambda_o == 1);
    config_free(&config);
    assert_int_equal(unsetenv("OSAE_LOSS__LAMBDA_O"), 0);
    assert_int_equal(unsetenv("OSAE_LOSS__LAMBDA_T"), 0);
}

static void
load_refused(const char *set, enum status status, const char *words)
{
    struct config *config = NULL;
    assert_int_equal(config_load(&config, path, &set, 1), status);
    assert_null(config);
    assert_string_equal(status_words(), words);
}

static void
wrong_flags_and_variables_are_named(void **unused)
{
    (void)unused;
    write_config("a.yaml", "loss: {}\n");
    load_refused("loss.lambda_s", STATUS_USAGE,
                 "--set loss.lambda_s: wanted section.key=value, as in loss.lambda_s=0.1");
    load_refused("=3", STATUS_CONFIG, "--set: unknown key  (osae config lists the known ones)");
    load_refused("lambda_s=3", STATUS_CONFIG,
                 "--set: unknown key lambda_s, did you mean loss.lambda_s?");
    load_refused("loss.lamda_s=3", STATUS_CONFIG,
                 "--set: unknown key loss.lamda_s, did you mean loss.lambda_s?");
    load_refused("los.lambda_s=3", STATUS_CONFIG,
                 "--set: unknown key los.lambda_s, did you mean loss.lambda_s?");
    load_refused("loss.lambda_s=x", STATUS_CONFIG,
                 "--set: loss.lambda_s is 'x', wanted a number from 0 to 1000");
    load_refused("text.files=[a", STATUS_CONFIG,
                 "--set: not YAML: did not find expected ',' or ']' while parsing a flow sequence");
    load_refused("text.files=[a], b", STATUS_CONFIG,
                 "--set: not YAML: did not find expected <document start>");
    load_refused("text.files=[&a b]", STATUS_CONFIG, "--set: anchors (&name) are not taken");
    struct config *config = NULL;
    assert_int_equal(setenv("OSAE_LOSS__LAMDA_S", "2", 1), 0);
    assert_int_equal(config_load(&config, NULL, NULL, 0), STATUS_CONFIG);
    assert_string_equal(
        status_words(),
        "OSAE_LOSS__LAMDA_S: unknown key loss.lamda_s, did you mean loss.lambda_s?");
    assert_int_equal(unsetenv("OSAE_LOSS__LAMDA_S"), 0);
    char long_name[160] = "OSAE_SAE__";
    memset(long_name + 10, 'A', 120);
    assert_int_equal(setenv(long_name, "2", 1), 0);
    assert_int_equal(config_load(&config, NULL, NULL, 0), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), ": unknown key sae.aaaa"));
    assert_int_equal(unsetenv(long_name), 0);
    assert_int_equal(setenv("OSAE_FAULT_NOT_A_KEY", "2", 1), 0); // one underscore: not ours
    assert_int_equal(config_load(&config, NULL, NULL, 0), STATUS_OK);
    config_free(&config);
    assert_int_equal(unsetenv("OSAE_FAULT_NOT_A_KEY"), 0);
}

static void
the_run_is_named_after_its_file(void **unused)
{
    (void)unused;
    static const char *const names[][2] = {
        {"my run.yaml", "my-run"}, {"a.b.yml", "a.b"},         {".hidden.yaml", "-hidden"},
        {".yaml", "-yaml"},        {"sweep-3_x", "sweep-3_x"},
    };
    struct config *config = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        write_config(names[i][0], "loss: {}\n");
        assert_int_equal(config_load(&config, path, NULL, 0), STATUS_OK);
        assert_string_equal(config->set.run.name, names[i][1]);
        config_free(&config);
    }
    write_config("a.yaml", "run: {name: given}\n");
    assert_int_equal(config_load(&config, path, NULL, 0), STATUS_OK);
    assert_string_equal(config->set.run.name, "given");
    config_free(&config);
    assert_int_equal(config_load(&config, NULL, NULL, 0), STATUS_OK);
    assert_string_equal(config->set.run.name, "run");
    config_free(&config);
}

static void
paths_become_absolute(void **unused)
{
    (void)unused;
    struct config *config = NULL;
    char here[PATH_BYTES], want[2 * PATH_BYTES];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(setenv("HOME", "/home/ada", 1), 0);
    assert_int_equal(unsetenv("XDG_CACHE_HOME"), 0);
    write_config("a.yaml", "model: {path: cache://models/x.gguf}\n"
                           "text: {files: [a/b.txt, ./c.txt, .//d, ~/e, /f, \"~g\", cache://h]}\n"
                           "eval: {text: .}\n");
    assert_int_equal(config_load(&config, path, NULL, 0), STATUS_OK);
    const struct settings *set = &config->set;
    assert_string_equal(set->storage.cache, "/home/ada/.cache/osae");
    assert_string_equal(origin(config, "storage.cache")->where, "HOME");
    assert_string_equal(set->model.path, "/home/ada/.cache/osae/models/x.gguf");
    static const char *const ends[] = {"/a/b.txt", "/c.txt", "/d", NULL, NULL, "/~g", NULL};
    for (size_t i = 0; i < 7; i++)
        if (ends[i]) {
            snprintf(want, sizeof want, "%s%s", here, ends[i]);
            assert_string_equal(set->text.files.at[i], want);
        }
    assert_string_equal(set->text.files.at[3], "/home/ada/e");
    assert_string_equal(set->text.files.at[4], "/f");
    assert_string_equal(set->text.files.at[6], "/home/ada/.cache/osae/h");
    assert_string_equal(set->eval.text.at[0], here);
    snprintf(want, sizeof want, "%s/runs", here);
    assert_string_equal(set->storage.runs, want);
    assert_string_equal(set->eval.out, "");
    config_free(&config);

    assert_int_equal(setenv("XDG_CACHE_HOME", "/big/cache", 1), 0);
    assert_int_equal(config_load(&config, path, NULL, 0), STATUS_OK);
    assert_string_equal(config->set.storage.cache, "/big/cache/osae");
    config_free(&config);
    // OSAE_CACHE is the environment's word for storage.cache: above the file, below --set.
    assert_int_equal(setenv("OSAE_CACHE", "/env/cache", 1), 0);
    assert_int_equal(config_load(&config, path, NULL, 0), STATUS_OK);
    assert_string_equal(config->set.model.path, "/env/cache/models/x.gguf");
    assert_string_equal(origin(config, "storage.cache")->where, "OSAE_CACHE");
    config_free(&config);
    const char *sets[] = {"storage.cache=~/c"};
    assert_int_equal(config_load(&config, path, sets, 1), STATUS_OK);
    assert_string_equal(config->set.model.path, "/home/ada/c/models/x.gguf");
    config_free(&config);
    assert_int_equal(setenv("OSAE_CACHE", "", 1), 0); // as good as not set
    assert_int_equal(config_load(&config, path, NULL, 0), STATUS_OK);
    assert_string_equal(config->set.storage.cache, "/big/cache/osae");
    config_free(&config);
    assert_int_equal(unsetenv("OSAE_CACHE"), 0);
    load_refused(
        "storage.runs=cache://runs", STATUS_CONFIG,
        "--set: storage.runs is 'cache://runs', which is relative to storage.cache itself");

    char set_long[TEXT_BYTES + 32], long_path[TEXT_BYTES];
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    snprintf(set_long, sizeof set_long, "text.files=%s", long_path);
    load_refused(set_long, STATUS_CONFIG,
                 "--set: text.files becomes a path of more than 511 bytes");

    assert_int_equal(unsetenv("XDG_CACHE_HOME"), 0);
    assert_int_equal(setenv("HOME", "not/absolute", 1), 0);
    load_refused("run.name=x", STATUS_CONFIG,
                 "storage.cache is auto, but neither XDG_CACHE_HOME nor HOME is set");
    assert_int_equal(setenv("HOME", "/home/ada", 1), 0);
}

static void
what_is_needed_and_not_given_is_asked_for(void **unused)
{
    (void)unused;
    struct config *config = NULL;
    write_config("a.yaml", "model: {path: x}\n");
    assert_int_equal(config_load(&config, path, NULL, 0), STATUS_OK);
    assert_int_equal(config_given(config, "model.path"), STATUS_OK);
    assert_int_equal(config_given(config, "text.files"), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "/a.yaml: text.files is not given ("));
    assert_non_null(strstr(status_words(), "--set text.files=..."));
    config_free(&config);
}

static void
a_place_too_long_to_keep_keeps_its_end(void **unused)
{
    (void)unused;
    struct config *config = NULL;
    char where[400];
    memset(where, 'x', sizeof where);
    memcpy(where + sizeof where - 6, "y:123", 6);
    assert_int_equal(config_new(&config), STATUS_OK);
    config_note(config, settings_row("sae.topk"), SOURCE_FILE, where);
    const char *kept = origin(config, "sae.topk")->where;
    assert_int_equal(strlen(kept), WHERE_BYTES - 1);
    assert_string_equal(kept + strlen(kept) - 6, "xy:123");
    config_free(&config);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_sources_win_and_are_remembered),
        cmocka_unit_test(wrong_flags_and_variables_are_named),
        cmocka_unit_test(the_run_is_named_after_its_file),
        cmocka_unit_test(paths_become_absolute),
        cmocka_unit_test(what_is_needed_and_not_given_is_asked_for),
        cmocka_unit_test(a_place_too_long_to_keep_keeps_its_end),
    };
    return cmocka_run_group_tests(tests, start, finish);
}

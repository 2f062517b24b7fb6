// What is written reads back to the same settings, for any settings.
#include "config/render.h"
#include "config/yaml.h"
#include "tests/config/random_settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

static void
reads_back(const struct config *config, enum render style)
{
    char *text = NULL;
    size_t bytes = 0;
    struct config *back = NULL;
    assert_int_equal(render_yaml(&text, &bytes, config, style), STATUS_OK);
    assert_int_equal(config_new(&back), STATUS_OK);
    enum status status = yaml_read_bytes(back, "written.yaml", text, bytes);
    if (status != STATUS_OK)
        fail_msg("%s", status_words());
    const struct field *row = first_difference(&config->set, &back->set);
    if (row)
        fail_msg("%s came back different", row->name);
    config_free(&back);
    free(text);
}

static void
any_settings_written_read_back_to_the_same_bits(void **unused)
{
    (void)unused;
    struct config *config = NULL;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        assert_int_equal(config_new(&config), STATUS_OK);
        if (seed > 1)
            draw_settings(&config->set, seed);
        for (size_t i = 0; i < settings_count; i++) {
            assert_int_equal(field_check(&config->set, &settings_rows[i], "drawn"), STATUS_OK);
            if (i % 3 == seed % 3)
                config_note(config, &settings_rows[i], SOURCE_FILE, "odd \" # name\xe2\x80\xa8:3");
        }
        reads_back(config, RENDER_COMMENTED);
        reads_back(config, RENDER_FROZEN);
        config_free(&config);
    }
}

static void
the_commented_file_is_for_people(void **unused)
{
    (void)unused;
    struct config *config = NULL;
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(config_new(&config), STATUS_OK);
    assert_int_equal(config_flag(config, "text.files=[a b.jsonl, c.txt]"), STATUS_OK);
    assert_int_equal(render_yaml(&text, &bytes, config, RENDER_COMMENTED), STATUS_OK);
    assert_non_null(strstr(
        text, "\n# the sparse autoencoder, eq. (1)\nsae:\n"
              "  arch: relu                      # sigma of eq. (1): what turns z into features; "
              "one of relu, topk, batchtopk, jumprelu\n"
              "  latents: 16384                  # k, the number of latents\n"));
    assert_non_null(strstr(text, "  files:                          # training text"));
    assert_non_null(strstr(text, "\n    - \"a b.jsonl\"\n    - c.txt\n"));
    assert_non_null(strstr(text, "  bos: auto "));
    assert_non_null(strstr(text, "  threads: auto "));
    assert_non_null(strstr(text, "  reserve: 256MiB "));
    assert_non_null(strstr(text, "  lr: 7e-6 "));
    for (const char *c = text; *c; c++)
        assert_true(*c == '\n' || (*c >= 0x20 && *c < 0x7f));
    free(text);
    config_free(&config);
}

static void
the_frozen_copy_says_where_values_came_from_and_loads_alone(void **unused)
{
    (void)unused;
    char folder[] = "/tmp/osae-render-XXXXXX", path[PATH_BYTES], want[2 * PATH_BYTES];
    struct config *config = NULL, *back = NULL;
    struct stat info;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(path_join(path, folder, "in.yaml"), STATUS_OK);
    static const char in[] = "model: {path: m.gguf}\nloss:\n  lambda_s: 2\n";
    assert_int_equal(file_replace(path, in, sizeof in - 1), STATUS_OK);
    const char *sets[] = {"sae.seed=7"};
    assert_int_equal(config_load(&config, path, sets, 1), STATUS_OK);
    snprintf(want, sizeof want, "  lambda_s: 2                     # \"%s:3\"\n", path);
    assert_int_equal(path_join(path, folder, "frozen.yaml"), STATUS_OK);
    assert_int_equal(render_freeze(config, path), STATUS_OK);
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(file_read(&text, &bytes, path, 1 << 20), STATUS_OK);
    assert_non_null(strstr(text, want));
    assert_non_null(strstr(text, "  seed: 7                         # \"--set\"\n"));
    assert_non_null(strstr(text, "\n  lambda_o: 0.01\n"));
    free(text);
    assert_int_equal(config_frozen(&back, path), STATUS_OK);
    const struct field *row = first_difference(&config->set, &back->set);
    if (row)
        fail_msg("%s came back different", row->name);
    assert_int_equal(stat(path, &info), 0);
    config_free(&config);
    config_free(&back);
    assert_int_equal(path_remove(folder), STATUS_OK);
}

static void
the_list_shows_each_value_and_its_source(void **unused)
{
    (void)unused;
    struct config *config = NULL;
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(config_new(&config), STATUS_OK);
    assert_int_equal(config_flag(config, "loss.lambda_s=2"), STATUS_OK);
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    render_list(out, config, true);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "loss.lambda_s                   2   (--set)\n");
    free(text);
    out = open_memstream(&text, &bytes);
    assert_non_null(out);
    render_list(out, config, false);
    assert_int_equal(fclose(out), 0);
    size_t lines = 0;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, settings_count);
    assert_non_null(strstr(text, "\nloss.lambda_o                   0.01   (default)\n"));
    free(text);
    config_free(&config);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_settings_written_read_back_to_the_same_bits),
        cmocka_unit_test(the_commented_file_is_for_people),
        cmocka_unit_test(the_frozen_copy_says_where_values_came_from_and_loads_alone),
        cmocka_unit_test(the_list_shows_each_value_and_its_source),
    };
    if (setenv("HOME", "/home/ada", 0) != 0) // a bare container has none
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The `osae` command as a user types it: output, errors, exit codes.
#include "config/config.h"
#include "config/yaml.h"
#include "tests/front/typed.h"

static int
start(void **unused)
{
    if (setenv("HOME", "/home/ada", 1) != 0 || unsetenv("OSAE_CACHE") != 0)
        return -1;
    return typed_start(unused);
}

static void
write_config(char path[PATH_BYTES], const char *name, const char *text)
{
    assert_int_equal(path_join(path, scratch, name), STATUS_OK);
    assert_int_equal(file_replace(path, text, strlen(text)), STATUS_OK);
}

static void
help_and_version_are_where_people_look(void **unused)
{
    (void)unused;
    static const char *const asks[] = {"--help", "-h", "help"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(osae(asks[i]), 0);
        assert_non_null(strstr(said, "usage: osae COMMAND"));
        for (size_t c = 0; c < commands_count; c++)
            assert_non_null(strstr(said, commands[c].doc));
        assert_non_null(strstr(said, "  78  the configuration is wrong"));
        assert_string_equal(complained, "");
    }
    assert_int_equal(osae("--version"), 0);
    assert_string_equal(said, "osae " OSAE_VERSION "\n");
    assert_int_equal(osae(""), 64);
    assert_string_equal(said, "");
    assert_non_null(strstr(complained, "usage: osae COMMAND"));
    assert_non_null(strstr(complained, "\nosae: error: a command is missing\n"));
}

static void
every_command_has_a_manual(void **unused)
{
    (void)unused;
    for (size_t c = 0; c < commands_count; c++) {
        char line[128], *first;
        snprintf(line, sizeof line, "help %s", commands[c].name);
        assert_int_equal(osae(line), 0);
        assert_string_equal(complained, "");
        first = strdup(said);
        snprintf(line, sizeof line, "usage: osae %s", commands[c].name);
        assert_int_equal(strncmp(said, line, strlen(line)), 0);
        snprintf(line, sizeof line, "%s --help", commands[c].name);
        assert_int_equal(osae(line), 0);
        assert_string_equal(said, first);
        free(first);
        for (size_t other = 0; other < c; other++)
            assert_string_not_equal(commands[c].name, commands[other].name);
    }
}

static void
an_unknown_command_names_the_nearest(void **unused)
{
    (void)unused;
    assert_int_equal(osae("confg"), 64);
    assert_string_equal(complained, "osae: error: unknown command 'confg', did you mean config?\n");
    assert_int_equal(osae("help inti"), 64);
    assert_string_equal(complained, "osae: error: unknown command 'inti', did you mean init?\n");
    assert_int_equal(osae("frobnicate"), 64);
    assert_string_equal(complained,
                        "osae: error: unknown command 'frobnicate' (osae --help lists them)\n");
}

static void
init_prints_a_config_that_loads(void **unused)
{
    (void)unused;
    char path[PATH_BYTES];
    assert_int_equal(osae("init --model m.gguf --layer 9 --text a.jsonl --text b.jsonl "
                          "--eval-text h.jsonl --set loss.lambda_s=2 --set sae.arch=jumprelu"),
                     0);
    assert_string_equal(complained, "");
    write_config(path, "run.yaml", said);
    struct config *config = NULL;
    assert_int_equal(config_load(&config, path, NULL, 0), STATUS_OK);
    const struct settings *set = &config->set;
    assert_int_equal(set->model.layer, 9);
    assert_int_equal(set->text.files.count, 2);
    assert_int_equal(set->eval.text.count, 1);
    assert_true(set->loss.lambda_s == 2 && set->sae.arch == ARCH_JUMPRELU);
    assert_string_equal(set->run.name, "run");
    config_free(&config);

    // Without any flag: every default, each section once.
    assert_int_equal(osae("init"), 0);
    assert_int_equal(config_new(&config), STATUS_OK);
    struct config *read = NULL;
    assert_int_equal(config_new(&read), STATUS_OK);
    assert_int_equal(yaml_read_bytes(read, "init.yaml", said, strlen(said)), STATUS_OK);
    for (size_t i = 0; i < settings_count; i++) {
        assert_true(settings_is_preset(&read->set, &settings_rows[i]));
        assert_int_equal(config_origin(read, &settings_rows[i])->source, SOURCE_FILE);
    }
    config_free(&config);
    config_free(&read);
}

static void
init_refuses_what_could_not_run(void **unused)
{
    (void)unused;
    static const char *const wrong[][2] = {
        {"init run.yaml", "osae init: takes no 'run.yaml' (osae init --help)"},
        {"init --layers 3", "osae init: unknown flag --layers, did you mean --layer?"},
        {"init --layer", "osae init: --layer wants a value: --layer N"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char line[256];
        assert_int_equal(osae(wrong[i][0]), 64);
        assert_string_equal(said, "");
        snprintf(line, sizeof line, "osae: error: %s\n", wrong[i][1]);
        assert_string_equal(complained, line);
    }
    assert_int_equal(osae("init --layer -1"), 78);
    assert_string_equal(
        complained,
        "osae: error: --layer: model.layer is '-1', wanted an integer from 0 to 1023\n");
    assert_int_equal(osae("init --set sae.arch=topk --set sae.topk=20000"), 78);
    assert_string_equal(complained, "osae: error: --set: sae.topk is '20000', wanted at most "
                                    "sae.latents, which is 16384\n");
    assert_string_equal(said, "");
    // Allowed, but hardly meant: said on stderr.
    assert_int_equal(osae("init --set trainer.steps=100"), 0);
    assert_non_null(strstr(complained, "osae: warning: --set: the run ends after 100 steps"));
}

static void
config_shows_values_sources_and_faults(void **unused)
{
    (void)unused;
    char path[PATH_BYTES], line[2 * PATH_BYTES], want[2 * PATH_BYTES];
    write_config(path, "r.yaml", "loss:\n  lambda_s: 2\n");
    snprintf(line, sizeof line, "config %s --changed --set sae.seed=3", path);
    assert_int_equal(osae(line), 0);
    snprintf(want, sizeof want,
             "sae.seed                        3   (--set)\n"
             "loss.lambda_s                   2   (%s:2)\n",
             path);
    assert_string_equal(said, want);
    assert_string_equal(complained, "");

    snprintf(line, sizeof line, "config %s", path);
    assert_int_equal(osae(line), 0);
    assert_non_null(strstr(said, "run.name                        r   (the file's name)\n"));

    snprintf(line, sizeof line, "config %s --yaml", path);
    assert_int_equal(osae(line), 0);
    struct config *read = NULL;
    assert_int_equal(config_new(&read), STATUS_OK);
    assert_int_equal(yaml_read_bytes(read, "again.yaml", said, strlen(said)), STATUS_OK);
    assert_true(read->set.loss.lambda_s == 2);
    config_free(&read);

    write_config(path, "r.yaml", "loss:\n  lambda_s: -2\n");
    snprintf(line, sizeof line, "config %s", path);
    assert_int_equal(osae(line), 78);
    snprintf(want, sizeof want,
             "osae: error: %s:2: loss.lambda_s is '-2', wanted a number from 0 to 1000\n", path);
    assert_string_equal(complained, want);
    assert_string_equal(said, "");
    assert_int_equal(osae("config /nowhere/x.yaml"), 66);
    assert_int_equal(osae("config a.yaml b.yaml"), 64);
    assert_string_equal(complained,
                        "osae: error: osae config: one file at a time, and 'b.yaml' is a second\n");
}

static void
config_explains_a_key_a_section_and_a_bare_name(void **unused)
{
    (void)unused;
    assert_int_equal(osae("config --explain curriculum.theta_steps"), 0);
    assert_int_equal(strncmp(said, "curriculum.theta_steps: 400\n", 28), 0);
    assert_non_null(strstr(said, "\n  eq. (6)     L_3 = "));
    assert_int_equal(osae("config --explain theta_steps"), 0);
    assert_int_equal(strncmp(said, "curriculum.theta_steps: 400\n", 28), 0);
    assert_int_equal(osae("config --explain competition"), 0);
    assert_non_null(strstr(said, "competition.gradient: detached\n"));
    assert_non_null(strstr(said, "\ncompetition.every: 1\n"));
    assert_int_equal(osae("config --explain loss.lamda_s"), 78);
    assert_string_equal(complained, "osae: error: osae config: unknown key loss.lamda_s, did you "
                                    "mean loss.lambda_s?\n");
    assert_int_equal(osae("config --explain lamda_s"), 78);
    assert_string_equal(complained, "osae: error: osae config: unknown key lamda_s, did you mean "
                                    "loss.lambda_s?\n");
}

static void
output_that_nobody_takes_is_an_error(void **unused)
{
    (void)unused;
    char init[] = "init", name[] = "osae", *const argv[] = {name, init, NULL};
    assert_int_equal(fflush(stdout), 0);
    int before = dup(STDOUT_FILENO), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(before >= 0 && full >= 0);
    assert_true(dup2(full, STDOUT_FILENO) >= 0);
    assert_int_equal(close(full), 0);
    int stderr_before = divert(STDERR_FILENO, scratch_path("err"));
    int code = commands_main(2, argv);
    clearerr(stdout);
    restore(STDOUT_FILENO, before);
    restore(STDERR_FILENO, stderr_before);
    assert_int_equal(code, 74);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version_are_where_people_look),
        cmocka_unit_test(every_command_has_a_manual),
        cmocka_unit_test(an_unknown_command_names_the_nearest),
        cmocka_unit_test(init_prints_a_config_that_loads),
        cmocka_unit_test(init_refuses_what_could_not_run),
        cmocka_unit_test(config_shows_values_sources_and_faults),
        cmocka_unit_test(config_explains_a_key_a_section_and_a_bare_name),
        cmocka_unit_test(output_that_nobody_takes_is_an_error),
    };
    return cmocka_run_group_tests(tests, start, typed_finish);
}

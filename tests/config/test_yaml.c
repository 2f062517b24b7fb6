// Reading YAML: what is taken, what is refused and in which words, and that no bytes do harm.
#include "config/events.h"
#include "config/yaml.h"
#include "lib/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct config *config;

static int
fresh(void **unused)
{
    (void)unused;
    config_free(&config);
    return config_new(&config) == STATUS_OK ? 0 : -1;
}

static int
gone(void **unused)
{
    (void)unused;
    config_free(&config);
    return 0;
}

static enum status
read_text(const char *text)
{
    return yaml_read_bytes(config, "run.yaml", text, strlen(text));
}

static void
refused(const char *text, const char *words)
{
    fresh(NULL);
    assert_int_equal(read_text(text), STATUS_CONFIG);
    assert_string_equal(status_words(), words);
}

static void
values_are_taken_with_their_line(void **unused)
{
    (void)unused;
    assert_int_equal(read_text("# a run\n"
                               "loss:\n"
                               "  lambda_s: 1.7   # tuned\n"
                               "sae: {arch: topk, 'topk': \"64\"}\n"
                               "text:\n"
                               "  files:\n"
                               "    - a.jsonl.zst\n"
                               "    - \"b c.txt\"\n"
                               "eval:\n"
                               "  text: held.jsonl\n"
                               "ckpt:\n"
                               "storage: {reserve: 1GiB}\n"),
                     STATUS_OK);
    assert_true(config->set.loss.lambda_s == 1.7);
    assert_int_equal(config->set.sae.arch, ARCH_TOPK);
    assert_int_equal(config->set.sae.topk, 64);
    assert_int_equal(config->set.text.files.count, 2);
    assert_string_equal(config->set.text.files.at[0], "a.jsonl.zst");
    assert_string_equal(config->set.text.files.at[1], "b c.txt");
    assert_int_equal(config->set.eval.text.count, 1);
    assert_true(config->set.storage.reserve == 1u << 30);
    assert_string_equal(config_origin(config, settings_row("loss.lambda_s"))->where, "run.yaml:3");
    assert_string_equal(config_origin(config, settings_row("sae.topk"))->where, "run.yaml:4");
    assert_string_equal(config_origin(config, settings_row("text.files"))->where, "run.yaml:7");
    assert_int_equal(config_origin(config, settings_row("sae.seed"))->source, SOURCE_PRESET);
}

static void
line_ends_a_byte_order_mark_and_a_document_mark_do_not_matter(void **unused)
{
    (void)unused;
    assert_int_equal(read_text("\xef\xbb\xbf---\r\nloss:\r\n  lambda_s: 2\r\nsae:\r\n  topk: 3\r\n"
                               "...\r\n"),
                     STATUS_OK);
    assert_true(config->set.loss.lambda_s == 2);
    assert_int_equal(config->set.sae.topk, 3);
    assert_string_equal(config_origin(config, settings_row("sae.topk"))->where, "run.yaml:5");
    refused("loss:\r\n\r\n  lambda_s: -2\r\n",
            "run.yaml:3: loss.lambda_s is '-2', wanted a number from 0 to 1000");
}

static void
a_list_replaces_the_one_before(void **unused)
{
    (void)unused;
    assert_int_equal(read_text("text: {files: [a, b, c]}\n"), STATUS_OK);
    assert_int_equal(read_text("text: {files: d}\n"), STATUS_OK);
    assert_int_equal(config->set.text.files.count, 1);
    assert_string_equal(config->set.text.files.at[0], "d");
    assert_int_equal(read_text("text: {files: []}\n"), STATUS_OK);
    assert_int_equal(config->set.text.files.count, 0);
    assert_int_equal(read_text("text: {files: [a]}\n"), STATUS_OK);
    assert_int_equal(read_text("text:\n  files:\n"), STATUS_OK);
    assert_int_equal(config->set.text.files.count, 0);
}

static void
wrong_values_and_keys_are_named_with_file_line_and_what_was_wanted(void **unused)
{
    (void)unused;
    static const char *const wrong[][2] = {
        {"loss:\n  lambda_s: -1\n",
         "run.yaml:2: loss.lambda_s is '-1', wanted a number from 0 to 1000"},
        {"sae:\n\n  latents: 3.5\n",
         "run.yaml:3: sae.latents is '3.5', wanted an integer from 1 to 16777216"},
        {"sae: {arch: gated}\n",
         "run.yaml:1: sae.arch is 'gated', wanted one of relu, topk, batchtopk, jumprelu"},
        {"sae: {tie_init: yes}\n", "run.yaml:1: sae.tie_init is 'yes', wanted true or false"},
        {"sae: {seed: null}\n",
         "run.yaml:1: sae.seed is null; leave the key out to get the default"},
        {"sae:\n  seed:\n", "run.yaml:2: sae.seed is '', wanted an integer from 0 to 9e+15"},
        {"sae:\n  latent: 5\n", "run.yaml:2: unknown key sae.latent, did you mean sae.latents?"},
        {"loss:\n  latents: 5\n",
         "run.yaml:2: unknown key loss.latents, did you mean sae.latents?"},
        {"loss:\n  zebra_crossing: 5\n", "run.yaml:2: unknown key loss.zebra_crossing (osae config "
                                         "lists the known ones)"},
        {"lose: {}\n", "run.yaml:1: unknown section lose, did you mean loss?"},
        {"latents: 5\n", "run.yaml:1: unknown section latents; the key latents stands below sae:"},
        {"zebra: 5\n", "run.yaml:1: unknown section zebra (osae config lists the known ones)"},
        {"sae: 5\n", "run.yaml:1: sae holds a value or a list, wanted keys below it"},
        {"sae: [latents]\n", "run.yaml:1: sae holds a value or a list, wanted keys below it"},
        {"sae: {latents: [5]}\n", "run.yaml:1: sae.latents holds a list, wanted one value"},
        {"sae: {latents: {a: 5}}\n", "run.yaml:1: sae.latents holds a map, wanted one value"},
        {"text: {files: {a: b}}\n", "run.yaml:1: text.files holds a map, wanted a list of words"},
        {"text: {files: [[a]]}\n",
         "run.yaml:1: text.files holds a list or map in its list, wanted words"},
        {"text: {files: ['']}\n", "run.yaml:1: text.files holds an empty element"},
        {"sae: {topk: 1}\nloss: {}\nsae: {seed: 1}\n", "run.yaml:3: section sae is given twice"},
        {"sae:\n  topk: 1\n  topk: 1\n", "run.yaml:3: sae.topk is given twice"},
        {"- sae\n", "run.yaml:1: begins with a value or a list, wanted sections such as sae:"},
        {"relu\n", "run.yaml:1: begins with a value or a list, wanted sections such as sae:"},
        {"", "run.yaml:1: holds no settings (osae init writes a file)"},
        {"# nothing\n\n# here\n", "run.yaml:4: holds no settings (osae init writes a file)"},
        {"---\n", "run.yaml:2: holds no settings (osae init writes a file)"},
        {"{}\n", "run.yaml:1: holds no settings (osae init writes a file)"},
        {"? [a]\n: b\n", "run.yaml:1: a list or map stands where a key is wanted"},
        {"'': b\n", "run.yaml:1: an empty key"},
        {"sae: {topk: 1}\n---\nsae: {topk: 2}\n",
         "run.yaml:2: a second document begins, wanted one"},
        {"sae: &a {topk: 1}\n", "run.yaml:1: anchors (&name) are not taken"},
        {"sae: {topk: &a 1}\n", "run.yaml:1: anchors (&name) are not taken"},
        {"sae: {topk: *a}\n", "run.yaml:1: aliases (*name) are not taken"},
        {"&x [*x]\n", "run.yaml:1: anchors (&name) are not taken"},
        {"sae: {topk: !!int 1}\n", "run.yaml:1: tags (!name) are not taken"},
        {"sae: {topk: ! 1}\n", "run.yaml:1: tags (!name) are not taken"},
        {"%TAG ! tag:x,2000:\n---\nsae: {}\n", "run.yaml:1: %TAG directives are not taken"},
        {"sae: {<<: {topk: 1}}\n", "run.yaml:1: merge keys (<<) are not taken"},
        {"sae: {topk: \"1\\0\"}\n", "run.yaml:1: a value holds a NUL byte"},
        {"run: {name: \"a\\nb\"}\n", "run.yaml:1: run.name holds a control byte (0x0a)"},
        {"sae:\n\ttopk: 1\n",
         "run.yaml:2: not YAML: found character that cannot start any token while scanning for "
         "the next token"},
        {"sae: {topk: 1\n",
         "run.yaml:2: not YAML: did not find expected ',' or '}' while parsing a flow mapping"},
        {"sae: {topk: 1\nloss: {}\n",
         "run.yaml:1: sae.topk is '1 loss', wanted an integer from 1 to 16777216"},
        {"sae:\n  topk: \x01\n", "run.yaml:2: holds a control byte (0x01)"},
        {"sae:\n  topk: \xc3(\n", "run.yaml:2: is not valid UTF-8"},
        {"loss: {}\ninclude: x.yaml\n", "run.yaml:2: include must be the first key of its file"},
        {"include: [a]\n", "run.yaml:1: include wants the path of one file"},
        {"include:\n", "run.yaml:1: include wants the path of one file"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        refused(wrong[i][0], wrong[i][1]);
}

static void
a_nul_byte_and_other_encodings_are_refused(void **unused)
{
    (void)unused;
    static const char nul[] = "sae:\n  topk: 1\0\n";
    assert_int_equal(yaml_read_bytes(config, "run.yaml", nul, sizeof nul - 1), STATUS_CONFIG);
    assert_string_equal(status_words(), "run.yaml:2: holds a control byte (0x00)");
    static const char wide[] = "\xff\xfes\0a\0e\0:\0 \0{\0}\0";
    assert_int_equal(yaml_read_bytes(config, "run.yaml", wide, sizeof wide - 1), STATUS_CONFIG);
}

// What a hostile file may cost; a build that checks itself is four times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const double ms_most = 40;
#else
static const double ms_most = 10;
#endif

// CPU time of one refusal, in milliseconds.
static double
refusal_ms(const char *text, size_t bytes)
{
    struct timespec from, to;
    fresh(NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    enum status status = yaml_read_bytes(config, "bomb.yaml", text, bytes);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    assert_int_equal(status, STATUS_CONFIG);
    return (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) * 1e-6;
}

// The best of a few, so that a busy machine does not fail the test.
static void
refused_at_once(const char *what, const char *piece, size_t bytes)
{
    char *text = malloc(bytes + 1);
    size_t length = strlen(piece);
    for (size_t i = 0; i < bytes; i++)
        text[i] = piece[i % length];
    text[bytes] = '\0';
    double best = 1e9;
    for (int i = 0; i < 5 && best > ms_most; i++) {
        double now = refusal_ms(text, bytes);
        best = now < best ? now : best;
    }
    free(text);
    if (best > ms_most)
        fail_msg("%s: %.1f ms, wanted at most %g", what, best, ms_most);
}

static void
bombs_are_refused_within_10_ms(void **unused)
{
    (void)unused;
    size_t whole = YAML_BYTES_MOST;
    refused_at_once("brackets", "[", whole);
    refused_at_once("braces", "{", whole);
    refused_at_once("maps in maps", "{a: ", whole);
    refused_at_once("lists in lists", "- ", whole);
    refused_at_once("complex keys", "? ", whole);
    refused_at_once("anchors", "&a ", whole);
    refused_at_once("anchors of lists", "- &a x\n", whole);
    refused_at_once("one long word", "a", whole);
    refused_at_once("one long quoted word", "\"aaaa aaaa\\n", whole);
    refused_at_once("one long key", "a ", whole);
    refused_at_once("colons", "a:", whole);
    refused_at_once("empty lines", "\n", whole);
    refused_at_once("comments", "# ###\n", whole);
    refused_at_once("spaces", " ", whole);
    refused_at_once("tags", "!a ", whole);
    refused_at_once("percent", "%", whole);
    refused_at_once("a block scalar", "|\n aaaa\n", whole);
    refused_at_once("documents", "---\n", whole);
    refused_at_once("quotes", "'", whole);
    refused_at_once("too large", "#\n", whole + 1);
    refused_at_once("NUL bytes", "\1", whole);
    // Nearly right: unknown keys are compared with all known ones.
    refused_at_once("long unknown key", "zebra_crossing_", 4000);
}

static void
many_elements_and_many_events_are_bounded(void **unused)
{
    (void)unused;
    char text[64 * 1024];
    size_t used = (size_t)snprintf(text, sizeof text, "text: {files: [");
    for (int i = 0; i < TEXTS_MOST + 1; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "f%d, ", i);
    snprintf(text + used, sizeof text - used, "]}\n");
    refused(text, "run.yaml:1: text.files has more than 32 elements");
    used = 0;
    for (int i = 0; i < 4100; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s", i ? "a: 1\n" : "sae: {");
    fresh(NULL);
    assert_int_equal(read_text(text), STATUS_CONFIG);
    memset(text, 'a', 5000);
    memcpy(text, "run: {name: ", 12);
    memcpy(text + 5000, "}\n", 3);
    refused(text, "run.yaml:1: a value of 4988 bytes, wanted at most 4096");
}

static void
write_file(const char *folder, const char *name, const char *text)
{
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, folder, name), STATUS_OK);
    assert_int_equal(file_replace(path, text, strlen(text)), STATUS_OK);
}

static void
include_reads_the_base_first_from_beside_the_file(void **unused)
{
    (void)unused;
    char folder[] = "/tmp/osae-yaml-XXXXXX", path[PATH_BYTES], want[2 * PATH_BYTES];
    assert_non_null(mkdtemp(folder));
    write_file(folder, "base.yaml", "loss: {lambda_s: 3, lambda_o: 4}\ntext: {files: [a, b]}\n");
    write_file(folder, "top.yaml", "include: base.yaml\nloss:\n  lambda_s: 5\ntext: {files: c}\n");
    assert_int_equal(path_join(path, folder, "top.yaml"), STATUS_OK);
    assert_int_equal(yaml_read(config, path), STATUS_OK);
    assert_true(config->set.loss.lambda_s == 5 && config->set.loss.lambda_o == 4);
    assert_int_equal(config->set.text.files.count, 1);
    assert_string_equal(config->path, path);
    snprintf(want, sizeof want, "%s:3", path);
    assert_string_equal(config_origin(config, settings_row("loss.lambda_s"))->where, want);
    snprintf(want, sizeof want, "%s/base.yaml:1", folder);
    assert_string_equal(config_origin(config, settings_row("loss.lambda_o"))->where, want);

    // A wrong value in the base is reported there; a file that includes itself ends.
    write_file(folder, "base.yaml", "loss: {lambda_s: x}\n");
    assert_int_equal(yaml_read(config, path), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "/base.yaml:1: loss.lambda_s is 'x'"));
    write_file(folder, "base.yaml", "include: top.yaml\n");
    assert_int_equal(yaml_read(config, path), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), ":1: include goes more than 4 files deep"));
    assert_int_equal(unlink((path_join(path, folder, "base.yaml") == STATUS_OK) ? path : ""), 0);
    assert_int_equal(path_join(path, folder, "top.yaml"), STATUS_OK);
    assert_int_equal(yaml_read(config, path), STATUS_MISSING);
    snprintf(want, sizeof want, "%s:1: include: %s/base.yaml is not there", path, folder);
    assert_string_equal(status_words(), want);
    assert_int_equal(path_remove(folder), STATUS_OK);
}

static void
a_file_that_is_missing_too_large_or_a_folder_is_one_clear_line(void **unused)
{
    (void)unused;
    char folder[] = "/tmp/osae-yaml-XXXXXX", path[PATH_BYTES];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(path_join(path, folder, "none.yaml"), STATUS_OK);
    assert_int_equal(yaml_read(config, path), STATUS_MISSING);
    assert_int_equal(yaml_read(config, folder), STATUS_MISSING);
    char *large = malloc(YAML_BYTES_MOST + 2);
    memset(large, '#', YAML_BYTES_MOST + 1);
    large[YAML_BYTES_MOST + 1] = '\0';
    write_file(folder, "none.yaml", large);
    free(large);
    assert_int_equal(yaml_read(config, path), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "has 262145 bytes, wanted at most 262144"));
    assert_int_equal(path_remove(folder), STATUS_OK);
}

// A file that touches every part of the grammar, then broken in thousands of ways.
static const char valid[] = "# a config\n"
                            "run: {name: demo}\n"
                            "text:\n"
                            "  files: [a.jsonl, \"b \\x41.txt\", 'c''s']\n"
                            "  tokens: 100000\n"
                            "model:\n"
                            "  path: |-\n"
                            "    models/gemma\n"
                            "  layer: 12\n"
                            "sae:\n"
                            "  ? arch\n"
                            "  : relu\n"
                            "  latents: 4608\n"
                            "loss: {lambda_s: 1.7e-1, lambda_o: 0.01,\n"
                            "       lambda_t: 0.001}\n"
                            "eval:\n"
                            "  text:\n"
                            "  - held.jsonl\n"
                            "  - >\n"
                            "    folded\n"
                            "ckpt:\n"
                            "  every_s: 60   # often\n";

static void
ten_thousand_mutations_of_a_valid_file_do_no_harm(void **unused)
{
    (void)unused;
    static const char spice[] = ":-?,[]{}#&*!|>'\"%@`\\ \n\t\r~<=.0aA_\0\x01\x7f\x80\xc3\xef\xff";
    const uint64_t seed = 20240;
    size_t taken = 0, length = sizeof valid - 1;
    assert_int_equal(read_text("eval: {text: [x]}\n"), STATUS_OK);
    char text[2 * sizeof valid];
    for (uint64_t i = 0; i < 10000; i++) {
        size_t bytes = length;
        memcpy(text, valid, length);
        uint32_t words[4];
        rng_words(words, seed, 0x7e57, 0, 2 * i);
        for (uint32_t n = 0; n <= words[3] % 4; n++) {
            uint32_t w[4];
            rng_words(w, seed, 0x7e57, n + 1, 2 * i);
            size_t at = w[0] % bytes, run = 1 + w[1] % 9;
            char c = spice[w[2] % (sizeof spice - 1)];
            switch (w[3] % 5) {
            case 0: // one byte becomes another
                text[at] = c;
                break;
            case 1: // a few vanish
                run = run < bytes - at ? run : bytes - at - 1;
                memmove(text + at, text + at + run, bytes - at - run);
                bytes -= run;
                break;
            case 2: // a few come in
                memmove(text + at + run, text + at, bytes - at);
                memset(text + at, c, run);
                bytes += run;
                break;
            case 3: // a part is doubled
                run = run * 8 < bytes - at ? run * 8 : bytes - at;
                memmove(text + at + run, text + at, bytes - at);
                bytes += run;
                break;
            default: // cut short
                bytes = at + 1;
            }
        }
        struct timespec from, to;
        char *exact = malloc(bytes); // so that a read past the end is seen
        memcpy(exact, text, bytes);
        if (i % 100 == 0)
            fresh(NULL);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        enum status status = yaml_read_bytes(config, "run.yaml", exact, bytes);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        free(exact);
        double ms =
            (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) * 1e-6;
        if (ms > ms_most)
            fail_msg("mutation %llu of seed %llu took %.1f ms", (unsigned long long)i,
                     (unsigned long long)seed, ms);
        if (status == STATUS_OK) {
            taken++;
            for (size_t r = 0; r < settings_count; r++)
                assert_int_equal(field_check(&config->set, &settings_rows[r], "x"), STATUS_OK);
        } else {
            // One line with a place, nothing a terminal would obey.
            assert_int_equal(strncmp(status_words(), "run.yaml:", 9), 0);
            assert_true(status == STATUS_CONFIG || status == STATUS_MISSING);
            for (const char *c = status_words(); *c; c++)
                assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
        }
    }
    // Both happen often, or the test has lost its teeth.
    assert_true(taken > 300 && taken < 9000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(values_are_taken_with_their_line, fresh),
        cmocka_unit_test_setup(line_ends_a_byte_order_mark_and_a_document_mark_do_not_matter,
                               fresh),
        cmocka_unit_test_setup(a_list_replaces_the_one_before, fresh),
        cmocka_unit_test_setup(wrong_values_and_keys_are_named_with_file_line_and_what_was_wanted,
                               fresh),
        cmocka_unit_test_setup(a_nul_byte_and_other_encodings_are_refused, fresh),
        cmocka_unit_test_setup(bombs_are_refused_within_10_ms, fresh),
        cmocka_unit_test_setup(many_elements_and_many_events_are_bounded, fresh),
        cmocka_unit_test_setup(include_reads_the_base_first_from_beside_the_file, fresh),
        cmocka_unit_test_setup(a_file_that_is_missing_too_large_or_a_folder_is_one_clear_line,
                               fresh),
        cmocka_unit_test_setup(ten_thousand_mutations_of_a_valid_file_do_no_harm, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, gone);
}

// A state folder that somebody else made is scored again (absorbing_given.h): its words, probe and
// main latents by hand, on a model and an SAE of which the truth is known (planted.h).
#include "evaluator/absorbing_given.h"
#include "tests/evaluator/planted.h"

#include <stdio.h>
#include <unistd.h>

enum { OF_A_LETTER = 6 };
static const char classes[] = "abz"; // of the letters; the others have no words
static char root[40];
static struct tokenizer *tokenizer;
static struct model *model;

static enum planted_kind
kind_of(size_t letter, size_t rest)
{
    return (letter + rest) % 3 == 0 ? ABSORBED : (letter + rest) % 3 == 1 ? HALF : PLAIN;
}

static void
in_root(char path[PATH_BYTES], const char *name)
{
    assert_int_equal(path_join(path, root, name), STATUS_OK);
}

static void
write_sae(void)
{
    char folder[PATH_BYTES];
    struct planted_sae sae = {0};
    for (size_t l = 0; l < 26; l++)
        for (size_t r = 0; r < RESTS; r++)
            sae.kind[l][r] = kind_of(l, r);
    in_root(folder, "sae");
    planted_sae_write(folder, &sae);
}

static int
set_up(void **unused)
{
    (void)unused;
    char folder[PATH_BYTES];
    snprintf(root, sizeof root, "/tmp/osae-given-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    in_root(folder, "model");
    planted_open(&tokenizer, &model, folder, 4);
    write_sae();
    return 0;
}

static int
tear_down(void **unused)
{
    (void)unused;
    model_free(&model);
    tokenizer_free(&tokenizer);
    return path_remove(root) == STATUS_OK ? 0 : -1;
}

// Words a?, b?, z? with what is true of them.
static json_t *
state_of_all(void)
{
    static const double fraction[] = {[PLAIN] = 0, [ABSORBED] = 1, [HALF] = 0.5};
    json_t *f1 = json_object(), *letters = json_object();
    for (const char *c = classes; *c; c++) {
        const char key[2] = {*c, 0};
        json_t *words = json_array();
        size_t l = (size_t)(*c - 'a');
        for (size_t r = 0; r < OF_A_LETTER; r++) {
            char word[3] = {*c, (char)('a' + r), 0}, prompt[96];
            enum planted_kind kind = kind_of(l, planted_rest(word, 2));
            snprintf(prompt, sizeof prompt,
                     "\ndo has the first letter: D\n%s has the first letter:", word);
            json_t *one = json_pack("{s:s, s:s, s:f, s:b}", "word", word, "prompt", prompt,
                                    "fraction", fraction[kind], "full", kind == ABSORBED);
            json_array_append_new(words, one);
        }
        json_object_set_new(f1, key, json_real(*c == 'z' ? 0.5 : 1)); // z is not good enough
        json_object_set_new(
            letters, key, json_pack("{s:[I], s:o}", "main_latents", (json_int_t)l, "words", words));
    }
    return json_pack("{s:o, s:o}", "probe_f1", f1, "absorption", letters);
}

static void
write_state(const json_t *state, size_t width)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    float weight[26 * (PLANTED_WIDTH + 1)] = {0}, bias[26] = {0};
    for (size_t l = 0; l < 26; l++)
        for (size_t c = 0; c < 26; c++)
            weight[l * width + c] = planted_letter(l, c);
    const struct tensor_out tensors[] = {
        {"probe.weight", DTYPE_F32, 2, {26, width}, weight},
        {"probe.bias", DTYPE_F32, 1, {26}, bias},
    };
    in_root(folder, "state");
    assert_int_equal(path_make(folder, 0755), STATUS_OK);
    assert_int_equal(path_join(path, folder, "probe.safetensors"), STATUS_OK);
    assert_int_equal(safetensors_replace(path, tensors, 2, NULL, 0), STATUS_OK);
    assert_int_equal(path_join(path, folder, "state.json"), STATUS_OK);
    assert_int_equal(json_dump_file(state, path, 0), 0);
}

static enum status
measure(struct absorption *got, struct given_agreement *to, const char *written)
{
    struct letters_plan plan = letters_profile(true);
    struct absorbing_plan measuring = absorbing_defaults();
    struct given *given;
    struct saelens sae = {0};
    char folder[PATH_BYTES], out[PATH_BYTES];
    enum status status;
    plan.context = PLANTED_CONTEXT;
    plan.model_contexts = 4;
    plan.precision = "f32";
    plan.bos = 0;
    in_root(folder, "state");
    TRY(given_open(&given, folder, &plan, model, tokenizer, NULL));
    in_root(folder, "sae");
    assert_int_equal(saelens_open(&sae, folder, 64, &kern_cpu), STATUS_OK);
    status = given_measure(got, to, given, &measuring, &sae, NULL);
    if (status == STATUS_OK && written) {
        in_root(out, written);
        assert_int_equal(given_write(out, given), STATUS_OK);
    }
    saelens_close(&sae);
    given_close(&given);
    return status;
}

static json_t *
word_at(const json_t *state, const char *letter, size_t i)
{
    const json_t *of = json_object_get(json_object_get(state, "absorption"), letter);
    return json_array_get(json_object_get(of, "words"), i);
}

static void
the_truth_is_found_again(void **unused)
{
    (void)unused;
    struct absorption got;
    struct given_agreement to;
    json_t *state = state_of_all();
    write_state(state, PLANTED_WIDTH);
    if (measure(&got, &to, NULL) != STATUS_OK)
        fail_msg("%s", status_words());
    assert_int_equal(to.words, 3 * OF_A_LETTER);
    assert_int_equal(to.fractions, to.words);
    assert_int_equal(to.fulls, to.words);
    assert_true(to.fraction < 1e-5);
    assert_int_equal(to.full, 0);
    assert_int_equal(got.count, 3);
    assert_int_equal(got.used, 2);
    assert_true(fabs(got.fraction.value - 0.5) < 1e-5 && fabs(got.full.value - 1.0 / 3) < 1e-9);
    assert_true(isnan(got.missed.value) && got.splits.value == 1);
    json_decref(state);
}

static void
what_differs_is_named(void **unused)
{
    (void)unused;
    struct absorption got;
    struct given_agreement to;
    char path[PATH_BYTES];
    json_t *state = state_of_all(), *one = word_at(state, "b", 1);
    json_object_set_new(one, "full", json_boolean(!json_is_true(json_object_get(one, "full"))));
    one = word_at(state, "b", 3);
    json_object_set_new(one, "fraction",
                        json_real(json_real_value(json_object_get(one, "fraction")) + 0.25));
    json_object_del(word_at(state, "z", 0), "fraction");
    json_object_del(word_at(state, "z", 1), "full");
    write_state(state, PLANTED_WIDTH);
    if (measure(&got, &to, "again") != STATUS_OK)
        fail_msg("%s", status_words());
    assert_int_equal(to.fractions, to.words - 1);
    assert_int_equal(to.fulls, to.words - 1);
    assert_int_equal(to.full, 1);
    assert_true(fabs(to.fraction - 0.25) < 1e-5);
    assert_string_equal(to.word, "bd");
    json_decref(state);
    // What is written says what is true, and is a state itself.
    state = state_of_all();
    in_root(path, "again/state.json");
    json_t *again = json_load_file(path, 0, NULL);
    for (const char *c = classes; *c; c++)
        for (size_t i = 0; i < OF_A_LETTER; i++) {
            const char key[2] = {*c, 0};
            const json_t *a = word_at(again, key, i), *b = word_at(state, key, i);
            assert_true(json_equal(json_object_get(a, "full"), json_object_get(b, "full")));
            assert_true(fabs(json_number_value(json_object_get(a, "fraction")) -
                             json_number_value(json_object_get(b, "fraction"))) < 1e-5);
            assert_string_equal(json_string_value(json_object_get(a, "word")),
                                json_string_value(json_object_get(b, "word")));
        }
    write_state(again, PLANTED_WIDTH);
    assert_int_equal(measure(&got, &to, NULL), STATUS_OK);
    assert_true(to.fraction < 1e-5 && to.full == 0 && to.fulls == to.words);
    json_decref(again);
    json_decref(state);
}

// ---------------------------------------------------------------- what is wrong

static void
no_letters(json_t *state)
{
    json_object_set_new(state, "absorption", json_array());
}
static void
no_words(json_t *state)
{
    json_t *of = json_object_get(json_object_get(state, "absorption"), "b");
    json_object_set_new(of, "words", json_string("ba"));
}
static void
no_f1(json_t *state)
{
    json_object_set_new(json_object_get(state, "probe_f1"), "a", json_null());
}
static void
mains(json_t *state, json_t *list)
{
    json_object_set_new(json_object_get(json_object_get(state, "absorption"), "a"), "main_latents",
                        list);
}
static void
no_mains(json_t *state)
{
    mains(state, json_array());
}
static void
negative_main(json_t *state)
{
    mains(state, json_pack("[i, i]", 3, -1));
}
static void
a_main_beyond(json_t *state)
{
    mains(state, json_pack("[i]", PLANTED_LATENTS));
}
static void
no_prompt(json_t *state)
{
    json_object_del(word_at(state, "z", 2), "prompt");
}
static void
another_letter(json_t *state)
{
    json_object_set_new(word_at(state, "a", 1), "word", json_string("ba"));
}
static void
no_word(json_t *state)
{
    json_object_set_new(word_at(state, "a", 1), "word", json_string("a\x1b[31m"));
}
static void
another_prompt(json_t *state)
{
    json_object_set_new(word_at(state, "a", 0), "prompt",
                        json_string("\nab has the first letter:"));
}
static void
an_empty_prompt(json_t *state)
{
    json_object_set_new(word_at(state, "a", 0), "prompt", json_string(""));
}

static void
bad_input_is_one_line(void **unused)
{
    (void)unused;
    static const struct {
        void (*spoil)(json_t *state);
        enum status status;
        const char *words;
    } cases[] = {
        {no_letters, STATUS_DAMAGED, "state.json: absorption is missing or another kind of value"},
        {no_words, STATUS_DAMAGED, "state.json: absorption.b.words is missing or another"},
        {no_f1, STATUS_DAMAGED, "state.json: probe_f1.a is missing or another kind of value"},
        {no_mains, STATUS_DAMAGED, "absorption.a.main_latents is missing or another kind of"},
        {negative_main, STATUS_DAMAGED, "absorption.a.main_latents is missing or another kind of"},
        {a_main_beyond, STATUS_CONFIG, "absorption.a.main_latents: latent 1638, wanted below 1638"},
        {no_prompt, STATUS_DAMAGED,
         "absorption.z.words[2] is missing or another kind of value, "
         "wanted a word of z and its prompt, as text"},
        {another_letter, STATUS_DAMAGED, "absorption.a.words[1] is missing or another kind of"},
        {no_word, STATUS_DAMAGED, "absorption.a.words[1] is missing or another kind of value"},
        {another_prompt, STATUS_CONFIG, "'aa' is not the sixth token from the end of its prompt"},
        {an_empty_prompt, STATUS_CONFIG, "'aa' is not the sixth token from the end of its prompt"},
    };
    struct absorption got;
    struct given_agreement to;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *state = state_of_all();
        cases[i].spoil(state);
        write_state(state, PLANTED_WIDTH);
        json_decref(state);
        assert_int_equal(measure(&got, &to, NULL), cases[i].status);
        if (!strstr(status_words(), cases[i].words) || strchr(status_words(), '\n'))
            fail_msg("%zu: '%s' says nothing of '%s'", i, status_words(), cases[i].words);
    }
    // The files themselves.
    char path[PATH_BYTES];
    json_t *state = state_of_all();
    write_state(state, PLANTED_WIDTH - 1);
    assert_int_equal(measure(&got, &to, NULL), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "probe.safetensors: "));
    write_state(state, PLANTED_WIDTH);
    json_decref(state);
    in_root(path, "state/probe.safetensors");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(measure(&got, &to, NULL), STATUS_MISSING);
    in_root(path, "state/state.json");
    assert_int_equal(file_replace(path, "{\"absorption\": ", 15), STATUS_OK);
    assert_int_equal(measure(&got, &to, NULL), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "state.json:1: not JSON: "));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(measure(&got, &to, NULL), STATUS_MISSING);
}

// Bytes of both files changed, cut and repeated: a score, or one line, and no crash.
static void
any_bytes_are_survived(void **unused)
{
    (void)unused;
    enum { ROUNDS = 400 };
    static const char *const names[] = {"state/state.json", "state/probe.safetensors"};
    struct absorption got;
    struct given_agreement to;
    uint64_t dice = 7;
    size_t scored = 0;
    json_t *state = state_of_all();
    for (size_t round = 0; round < ROUNDS; round++) {
        char path[PATH_BYTES], *bytes;
        size_t count;
        write_state(state, PLANTED_WIDTH);
        in_root(path, names[round % 2]);
        assert_int_equal(file_read(&bytes, &count, path, 1 << 20), STATUS_OK);
        size_t head = round % 2 ? 200 : count; // the probe's numbers are only numbers
        for (size_t changes = 1 + round % 3; changes > 0; changes--) {
            dice = dice * 6364136223846793005 + 1442695040888963407;
            size_t at = (dice >> 33) % head;
            bytes[at] = (char)(dice >> 20);
            if ((dice >> 13) % 16 == 0)
                count = head = at + 1; // cut
        }
        assert_int_equal(file_replace(path, bytes, count), STATUS_OK);
        free(bytes);
        enum status status = measure(&got, &to, NULL);
        assert_true(status == STATUS_OK || status == STATUS_DAMAGED || status == STATUS_CONFIG);
        assert_true(status == STATUS_OK || !strchr(status_words(), '\n'));
        scored += status == STATUS_OK;
    }
    assert_in_range(scored, 1, ROUNDS - 100); // most changes are noticed
    json_decref(state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_truth_is_found_again),
        cmocka_unit_test(what_differs_is_named),
        cmocka_unit_test(bad_input_is_one_line),
        cmocka_unit_test(any_bytes_are_survived),
    };
    return cmocka_run_group_tests_name("given", tests, set_up, tear_down);
}

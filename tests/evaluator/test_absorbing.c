// First-letter absorption from the vocabulary to the score, on a model in whose stream the truth is
// known (planted.h): rates that are known by construction are found, word by word.
#include "evaluator/absorbing_state.h"
#include "lib/store/safetensors.h"
#include "tests/evaluator/planted.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <omp.h>
#include <stdio.h>
#include <unistd.h>

static char root[40];
static struct tokenizer *tokenizer;
static struct model *model;
static struct letters letters;
static struct absorbed_word words[1024]; // of the SAE measured last

static struct letters_plan
plan(const char *cache)
{
    struct letters_plan plan = letters_profile(true);
    plan.context = PLANTED_CONTEXT;
    plan.model_contexts = 16;
    plan.precision = "f32";
    plan.bos = 0;
    plan.cache = cache;
    return plan;
}

static int
set_up(void **unused)
{
    (void)unused;
    char folder[PATH_BYTES];
    snprintf(root, sizeof root, "/tmp/osae-absorbing-XXXXXX");
    if (!mkdtemp(root) || path_join(folder, root, "model") != STATUS_OK)
        return -1;
    planted_open(&tokenizer, &model, folder, 16);
    struct letters_plan how = plan(NULL);
    if (letters_open(&letters, &how, model, tokenizer, NULL) != STATUS_OK)
        fail_msg("%s", status_words());
    return 0;
}

static int
tear_down(void **unused)
{
    (void)unused;
    letters_close(&letters);
    model_free(&model);
    tokenizer_free(&tokenizer);
    return path_remove(root) == STATUS_OK ? 0 : -1;
}

static struct absorption
measured(const struct letters *of, const struct planted_sae *sae, size_t rows)
{
    char folder[PATH_BYTES];
    struct saelens opened;
    struct absorption got;
    struct absorbing_plan how = absorbing_defaults();
    how.rows = rows;
    assert_int_equal(path_join(folder, root, "sae"), STATUS_OK);
    planted_sae_write(folder, sae);
    assert_int_equal(saelens_open(&opened, folder, 64, &kern_cpu), STATUS_OK);
    assert_true(of->asked <= sizeof words / sizeof words[0]);
    if (absorbing_measure(&got, words, &how, of, NULL, &opened, NULL) != STATUS_OK)
        fail_msg("%s", status_words());
    saelens_close(&opened);
    return got;
}

static void
near(double got, double want, double eps)
{
    if (!(fabs(got - want) <= eps))
        fail_msg("got %.9g, wanted %.9g within %g", got, want, eps);
}

static const struct spelled *
asked_word(size_t i)
{
    return &letters.split[letters.train + letters.asked_test[i]];
}

static void
the_truth_is_learned(void **unused)
{
    (void)unused;
    assert_int_equal(letters.classes, 26);
    assert_int_equal(letters.used, 26);
    assert_int_equal(letters.unfit, 0);
    // pairs, single letters, and " h", " ha", ... of the four words
    assert_int_equal(letters.train + letters.test, 2 * 676 + 52 + 3 + 3 + 5 + 6);
    assert_int_equal(letters.train, letters.words.count * 8 / 10);
    for (size_t c = 0; c < letters.classes; c++)
        assert_true(letters.f1[c] > 0.85 && letters.f1[c] <= 1);
    assert_true(letters.asked <= letters.test && letters.asked * 50 > letters.test * 49);
    for (size_t c = 0; c < letters.classes; c++)
        for (size_t i = letters.start[c]; i < letters.start[c + 1]; i++) {
            const struct spelled *word = asked_word(i);
            const float *x = letters.asked_x + i * letters.width;
            assert_int_equal(word->letter, c);
            for (size_t d = 0; d < letters.width; d++)
                near((double)x[d],
                     0.4 * ((double)planted_letter(c, d) +
                            (d == 26 + planted_rest(word->at, word->bytes))),
                     1e-6);
        }
}

// Of a half word the letter's latent carries half of SIZE g, the word's own half of SIZE (g + v):
// the share of the second, cut at what the first leaves of p, as the probe sees g and v.
static double
half_fraction(size_t c, size_t rest)
{
    const float *u = letters.weights + c * letters.width;
    double g = 0, v = (double)u[26 + rest];
    for (size_t d = 0; d < 26; d++)
        g += (double)(u[d] * planted_letter(c, d));
    double p = g + v, main = 0.5 * g, others = 0.5 * (g + v);
    if (main >= p || others / p < 0.4)
        return 0;
    double absorbed = fmin(others, p - main);
    return absorbed / (absorbed + main);
}

// What the construction says: of a letter's words, how many are absorbed, and how much.
static void
compare(const struct absorption *got, const struct planted_sae *sae)
{
    double fraction = 0, full = 0;
    assert_int_equal(got->count, 26);
    assert_int_equal(got->used, 26);
    for (size_t c = 0; c < 26; c++) {
        const struct absorption_letter *l = &got->letters[c];
        double share = 0;
        size_t absorbed = 0, n = letters.start[c + 1] - letters.start[c];
        for (size_t i = letters.start[c]; i < letters.start[c + 1]; i++) {
            const struct spelled *word = asked_word(i);
            size_t rest = planted_rest(word->at, word->bytes);
            enum planted_kind kind = sae->kind[c][rest];
            absorbed += kind == ABSORBED;
            assert_true(words[i].full == (kind == ABSORBED));
            near(words[i].fraction,
                 kind == ABSORBED ? 1
                 : kind == HALF   ? half_fraction(c, rest)
                                  : 0,
                 1e-5);
            share += kind == ABSORBED ? 1 : kind == HALF ? half_fraction(c, rest) : 0;
        }
        assert_int_equal(l->true_positives, n);
        assert_int_equal(l->mains, 1);
        assert_int_equal(sae->order ? sae->order[l->main[0]] : l->main[0], c);
        assert_int_equal(l->full, absorbed);
        assert_int_equal(l->missed, absorbed); // the k-sparse probe hears only its silent main
        near(l->fraction, share / (double)n, 1e-5);
        fraction += l->fraction / 26;
        full += (double)l->full / (double)n / 26;
    }
    near(got->fraction.value, fraction, 1e-12);
    near(got->full.value, full, 1e-12);
    near(got->missed.value, full, 1e-12);
    near(got->splits.value, 1, 1e-12);
    near(got->splits.std_dev, 0, 1e-12);
    assert_true(got->full.low <= full && full <= got->full.high);
    assert_true(got->fraction.low <= fraction && fraction <= got->fraction.high);
}

// The share of the words that are planted as absorbed comes out, in each letter and in the mean.
static void
a_planted_rate_is_found(void **unused)
{
    (void)unused;
    struct planted_sae sae = {0};
    for (size_t l = 0; l < 26; l++)
        for (size_t r = 0; r < RESTS; r++)
            sae.kind[l][r] = (7 * l + 3 * r) % 5 == 0   ? ABSORBED
                             : (7 * l + 3 * r) % 5 == 1 ? HALF
                                                        : PLAIN;
    struct absorption got = measured(&letters, &sae, 1024);
    compare(&got, &sae);
    near(got.full.value, 0.2, 0.06); // of 284 words
    assert_true(got.fraction.value > got.full.value + 0.02 && got.fraction.value < 0.32);
    assert_true(got.full.high - got.full.low > 0.05 && got.full.high - got.full.low < 0.3);
}

static void
none_and_all(void **unused)
{
    (void)unused;
    struct planted_sae none = {0}, all = {0};
    struct absorption got = measured(&letters, &none, 1024);
    compare(&got, &none);
    assert_true(got.full.value == 0 && got.fraction.value == 0 && got.missed.value == 0);
    assert_true(got.full.low == 0 && got.full.high == 0);
    // Every word that is looked at; those the probes were trained on stay plain.
    for (size_t i = 0; i < letters.asked; i++) {
        const struct spelled *word = asked_word(i);
        all.kind[word->letter][planted_rest(word->at, word->bytes)] = ABSORBED;
    }
    got = measured(&letters, &all, 1024);
    assert_int_equal(got.used, 26);
    near(got.full.value, 1, 1e-12);
    near(got.fraction.value, 1, 1e-12);
    near(got.missed.value, 1, 1e-12);
}

static void
what_must_not_matter(void **unused)
{
    (void)unused;
    struct planted_sae sae = {0};
    uint32_t order[PLANTED_LATENTS];
    for (size_t l = 0; l < 26; l++)
        for (size_t r = 0; r < RESTS; r++)
            sae.kind[l][r] = (l + r) % 4 == 0 ? ABSORBED : PLAIN;
    struct absorption one = measured(&letters, &sae, 1024), two = measured(&letters, &sae, 7);
    assert_memory_equal(&one, &two, sizeof one);
    omp_set_num_threads(1);
    two = measured(&letters, &sae, 1024);
    omp_set_num_threads(2);
    assert_memory_equal(&one, &two, sizeof one);
    for (uint32_t j = 0; j < PLANTED_LATENTS; j++) // 1638 = 2 * 9 * 7 * 13
        order[j] = j * 5 % PLANTED_LATENTS;
    sae.order = order;
    two = measured(&letters, &sae, 1024);
    compare(&two, &sae);
    near(two.full.value, one.full.value, 1e-12);
    near(two.fraction.value, one.fraction.value, 1e-9);
    near(two.full.low, one.full.low, 1e-12);
}

// The watch says stop at its n-th question.
struct patience {
    size_t left;
};
static bool
run_out(void *context, const char *what, double share)
{
    (void)what;
    assert_true(share >= 0 && share <= 1 + 1e-9);
    struct patience *patience = context;
    return patience->left-- == 0;
}

// The last byte of every file in the folder whose name begins so.
static void
damage(const char *folder, const char *begins)
{
    struct dirent **names;
    int count = scandir(folder, &names, NULL, alphasort);
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        char path[PATH_BYTES], last;
        if (strncmp(names[i]->d_name, begins, strlen(begins)) == 0) {
            assert_int_equal(path_join(path, folder, names[i]->d_name), STATUS_OK);
            int fd = open(path, O_RDWR | O_CLOEXEC);
            off_t at = lseek(fd, -1, SEEK_END);
            assert_true(at > 0 && pread(fd, &last, 1, at) == 1);
            last ^= 1;
            assert_true(pwrite(fd, &last, 1, at) == 1 && close(fd) == 0);
        }
        free(names[i]);
    }
    free(names);
}

static void
same(const struct letters *a, const struct letters *b)
{
    assert_int_equal(a->asked, b->asked);
    assert_memory_equal(a->weights, b->weights, a->classes * a->width * sizeof(float));
    assert_memory_equal(a->f1, b->f1, sizeof a->f1);
    assert_memory_equal(a->x, b->x, (a->train + a->test) * a->width * sizeof(float));
    assert_memory_equal(a->asked_x, b->asked_x, a->asked * a->width * sizeof(float));
}

// Stopped at any point and begun again, the model reads nothing twice and the probe is trained
// once; what is damaged is made again; other batches make the same bits.
static void
nothing_is_done_twice(void **unused)
{
    (void)unused;
    char cache[PATH_BYTES];
    assert_int_equal(path_join(cache, root, "cache"), STATUS_OK);
    struct letters_plan how = plan(cache);
    struct letters l;
    size_t rounds = 0, trained = 0;
    for (enum status status = STATUS_AGAIN; status != STATUS_OK; rounds++) {
        struct patience patience = {20};
        struct score_watch watch = {run_out, &patience};
        assert_true(rounds < 40);
        status = letters_open(&l, &how, model, tokenizer, &watch);
        trained += l.trained;
        if (status != STATUS_OK) {
            assert_int_equal(status, STATUS_AGAIN);
            letters_close(&l);
        }
        how.model_contexts = how.model_contexts == 16 ? 5 : 16;
        if (trained == 0 && rounds > 4) { // 50 epochs want more questions than 20
            patience.left = SIZE_MAX;
            status = letters_open(&l, &how, model, tokenizer, &watch);
            assert_int_equal(status, STATUS_OK);
            trained += l.trained;
        }
    }
    assert_true(rounds > 3);
    assert_int_equal(trained, 1);
    same(&l, &letters);
    letters_close(&l);
    static const struct {
        const char *file;
        bool computes, trains;
    } cases[] = {{"nothing-", false, false},
                 {"tapped-", true, false},
                 {"letters-", false, true},
                 {"nothing-", false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (strcmp(cases[i].file, "nothing-") != 0)
            damage(cache, cases[i].file);
        assert_int_equal(letters_open(&l, &how, model, tokenizer, NULL), STATUS_OK);
        assert_int_equal(l.trained, cases[i].trains);
        assert_true(cases[i].computes ? l.computed > 0 && l.computed <= 256 : l.computed == 0);
        same(&l, &letters);
        letters_close(&l);
    }
}

static void
refused(const struct letters_plan *how, struct tokenizer *of, const char *complaint)
{
    struct letters l;
    assert_int_equal(letters_open(&l, how, model, of, NULL), STATUS_CONFIG);
    if (!strstr(status_words(), complaint) || strchr(status_words(), '\n'))
        fail_msg("'%s' says nothing of '%s', or more than a line", status_words(), complaint);
    letters_close(&l);
}

static void
what_does_not_fit_is_refused(void **unused)
{
    (void)unused;
    struct tokenizer *tiny;
    char cache[PATH_BYTES];
    assert_int_equal(path_join(cache, root, "cache"), STATUS_OK);
    struct letters_plan how = plan(cache); // what the last case left is quicker
    // Its prompts are cut into other tokens: no word stands where it is looked for.
    assert_int_equal(tokenizer_open(&tiny, OSAE_TESTS "/golden/tiny-llama"), STATUS_OK);
    refused(&how, tiny, "1 of them one token in a prompt, wanted at least 20: the first-letter");
    tokenizer_free(&tiny);
    how.least_f1 = 1;
    refused(&how, tokenizer,
            "0 letters can be read off the model's stream (F1 above 1), wanted at");
    assert_non_null(strstr(status_words(), " a 1.00 b 1.00 "));
    how = plan(NULL);
    how.examples = 30;
    refused(&how, tokenizer, "and model.context is 64");
    // An SAE that answers with infinity, and one that is too dense to be probed.
    char folder[PATH_BYTES];
    struct planted_sae sae = {0};
    struct saelens opened;
    struct absorption got;
    struct absorbing_plan measuring = absorbing_defaults();
    assert_int_equal(path_join(folder, root, "sae"), STATUS_OK);
    planted_sae_write(folder, &sae);
    assert_int_equal(saelens_open(&opened, folder, 64, &kern_cpu), STATUS_OK);
    measuring.most_bytes = 1000;
    assert_int_equal(absorbing_measure(&got, words, &measuring, &letters, NULL, &opened, NULL),
                     STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "too many to probe"));
    struct patience patience = {3};
    struct score_watch watch = {run_out, &patience};
    measuring = absorbing_defaults();
    assert_int_equal(absorbing_measure(&got, words, &measuring, &letters, NULL, &opened, &watch),
                     STATUS_AGAIN);
    sae_param(opened.sae, SAE_W_ENC).at[3] = INFINITY;
    assert_int_equal(absorbing_measure(&got, words, &measuring, &letters, NULL, &opened, NULL),
                     STATUS_DAMAGED);
    opened.card.width = 63;
    assert_int_equal(absorbing_measure(&got, words, &measuring, &letters, NULL, &opened, NULL),
                     STATUS_CONFIG);
    saelens_close(&opened);
}

static const char *
text_at(const json_t *list, size_t i)
{
    const char *text = json_string_value(json_array_get(list, i));
    assert_non_null(text);
    return text;
}

// "\nEXAMPLE has the first letter: X" for each example, then the word: the examples are words of
// the list, with their letters, and not the word.
static void
check_prompt(const char *prompt, const char *word, const json_t *from)
{
    static const char ask[] = " has the first letter:";
    char line[64];
    for (size_t e = 0; e < letters.plan.examples; e++) {
        const char *end = strstr(prompt, ask);
        assert_true(*prompt == '\n' && end);
        int length = snprintf(line, sizeof line, "%.*s", (int)(end - prompt - 1), prompt + 1);
        assert_in_range(length, 1, 32);
        bool known = false;
        for (size_t i = 0; i < json_array_size(from); i++)
            known = known || strcmp(line, text_at(from, i)) == 0;
        assert_true(known);
        assert_string_not_equal(line, word);
        prompt = end + sizeof ask - 1;
        assert_int_equal(prompt[0], ' ');
        assert_int_equal(prompt[1] | 0x20, (line[0] == ' ' ? line[1] : line[0]) | 0x20);
        prompt += 2;
    }
    snprintf(line, sizeof line, "\n%s%s", word, ask);
    assert_string_equal(prompt, line);
}

static void
every_word_is_told(void **unused)
{
    (void)unused;
    struct planted_sae sae = {0};
    for (size_t l = 0; l < 26; l++)
        for (size_t r = 0; r < RESTS; r++)
            sae.kind[l][r] = (l + r) % 3 == 0 ? ABSORBED : PLAIN;
    struct absorption got = measured(&letters, &sae, 1024);
    char folder[PATH_BYTES], path[PATH_BYTES];
    assert_int_equal(path_join(folder, root, "state/of/it"), STATUS_OK);
    assert_int_equal(absorbing_state_write(folder, &letters, &got, words), STATUS_OK);
    assert_int_equal(path_join(path, folder, "state.json"), STATUS_OK);
    json_t *state = json_load_file(path, 0, NULL);
    assert_non_null(state);
    const json_t *of_words = json_object_get(state, "words"),
                 *prompts = json_object_get(state, "prompts"),
                 *all = json_object_get(state, "absorption");
    const json_t *parts[2] = {json_object_get(of_words, "train"),
                              json_object_get(of_words, "test")};
    assert_int_equal(json_array_size(parts[0]), letters.train);
    assert_int_equal(json_array_size(parts[1]), letters.test);
    json_t *everything = json_array();
    for (size_t part = 0; part < 2; part++) {
        const json_t *asked = json_object_get(prompts, part ? "test" : "train");
        assert_int_equal(json_array_size(asked), json_array_size(parts[part]));
        for (size_t i = 0; i < json_array_size(asked); i++)
            check_prompt(text_at(asked, i), text_at(parts[part], i), parts[part]);
        for (size_t i = 0; i < json_array_size(parts[part]); i++)
            json_array_append(everything, json_array_get(parts[part], i));
    }
    size_t told = 0;
    for (size_t c = 0; c < 26; c++) {
        const char key[2] = {(char)('a' + c), 0};
        const json_t *letter = json_object_get(all, key), *list = json_object_get(letter, "words");
        near(json_real_value(json_object_get(json_object_get(state, "probe_f1"), key)),
             letters.f1[c], 1e-9);
        const json_t *best = json_object_get(json_object_get(state, "k_sparse_latents"), key);
        assert_int_equal(json_array_size(best), got.letters[c].tried);
        assert_int_equal(json_array_size(json_array_get(best, 1)), 2);
        const json_t *mains = json_object_get(letter, "main_latents");
        assert_int_equal(json_array_size(mains), 1);
        assert_int_equal(json_integer_value(json_array_get(mains, 0)), c);
        assert_int_equal(json_array_size(list), letters.start[c + 1] - letters.start[c]);
        for (size_t i = 0; i < json_array_size(list); i++, told++) {
            const json_t *one = json_array_get(list, i);
            const char *word = json_string_value(json_object_get(one, "word"));
            const struct spelled *asked = asked_word(told);
            assert_int_equal(strlen(word), asked->bytes);
            assert_memory_equal(word, asked->at, asked->bytes);
            check_prompt(json_string_value(json_object_get(one, "prompt")), word, everything);
            bool full = sae.kind[c][planted_rest(word, asked->bytes)] == ABSORBED;
            assert_int_equal(json_is_true(json_object_get(one, "full")), full);
            near(json_real_value(json_object_get(one, "fraction")), full, 1e-9);
            assert_true(full ==
                        (json_integer_value(json_object_get(one, "top_latent")) != (json_int_t)c));
            assert_true(json_real_value(json_object_get(one, "top_share")) >= 0.4);
        }
    }
    assert_int_equal(told, letters.asked);
    json_decref(everything);
    json_decref(state);
    // The probe is the truth probe.
    struct safetensors *file;
    const struct tensor *tensor;
    const size_t shape[2] = {26, letters.width};
    assert_int_equal(path_join(path, folder, "probe.safetensors"), STATUS_OK);
    assert_int_equal(safetensors_open(&file, path), STATUS_OK);
    assert_int_equal(safetensors_need(&tensor, file, "probe.weight", 2, shape), STATUS_OK);
    assert_memory_equal(tensor->at, letters.weights, tensor->bytes);
    assert_int_equal(safetensors_need(&tensor, file, "probe.bias", 1, shape), STATUS_OK);
    assert_memory_equal(tensor->at, letters.bias, tensor->bytes);
    safetensors_close(&file);
    assert_int_not_equal(absorbing_state_write("/proc/none", &letters, &got, words), STATUS_OK);
    assert_non_null(strstr(status_words(), "/proc/none"));
}

static void
the_spec_is_of_what_decides(void **unused)
{
    (void)unused;
    struct letters_plan how = plan(NULL);
    struct hash128 first = letters_spec(&how, model, tokenizer);
    how.cache = "elsewhere";
    how.model_contexts = 3;
    assert_true(hash128_same(first, letters_spec(&how, model, tokenizer)));
    how.seed++;
    assert_false(hash128_same(first, letters_spec(&how, model, tokenizer)));
    how = plan(NULL);
    how.examples++;
    assert_false(hash128_same(first, letters_spec(&how, model, tokenizer)));
    struct letters_plan full = letters_profile(false);
    assert_true(full.examples == 10 && full.most_words == 0 && full.seed == 42 &&
                full.least_letters == 20 && full.least_f1 == 0.6);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_truth_is_learned),  cmocka_unit_test(a_planted_rate_is_found),
        cmocka_unit_test(none_and_all),          cmocka_unit_test(what_must_not_matter),
        cmocka_unit_test(nothing_is_done_twice), cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(every_word_is_told),    cmocka_unit_test(the_spec_is_of_what_decides),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

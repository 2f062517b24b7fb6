// Sparse probing: SAEBench's own pooling and choice of columns, planted and random labels, sets
// that must be refused, and whole evaluations on a tiny model.
#include "evaluator/probing.h"
#include "lib/interop/saebench_probing.h"
#include "tests/evaluator/eval_once.h"
#include "tests/evaluator/golden.h"

#include <omp.h>

static uint32_t
noise(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

// Three classes told apart by their words, and by nothing but chance in `guess`.
static void
write_sets(void)
{
    static const char *const words[3][3] = {{"one two three", "two three four", "three one two"},
                                            {"{ int x; }", "for (;;) x++;", "return x * 2;"},
                                            {"HELLO THERE", "HOW ARE YOU", "GOOD BYE"}};
    static const char *const names[3] = {"count", "code", "shout"};
    uint64_t state = 3;
    assert_int_equal(path_make("sets", 0755), STATUS_OK);
    FILE *known = fopen("sets/known.jsonl", "w"), *guess = fopen("guess.jsonl", "w");
    assert_true(known && guess);
    for (size_t i = 0; i < 240; i++) {
        size_t c = i % 3;
        char text[256] = "";
        for (size_t n = 1 + noise(&state) % 3; n-- > 0;) {
            strncat(text, words[c][noise(&state) % 3], sizeof text - strlen(text) - 2);
            strncat(text, " ", sizeof text - strlen(text) - 1);
        }
        const char *split = i < 180 ? "train" : "test";
        fprintf(known, "{\"text\": \"%s\", \"label\": \"%s\", \"split\": \"%s\"}\n", text, names[c],
                split);
        fprintf(guess, "{\"text\": \"%s%u\", \"label\": %u}\n", text, noise(&state) % 1000,
                noise(&state) % 2);
    }
    assert_int_equal(fclose(known), 0);
    assert_int_equal(fclose(guess), 0);
}

static int
set_up(void **unused)
{
    (void)unused;
    if (eval_start() != 0)
        return -1;
    write_identity("sae", 1, 1);
    write_identity("turned", 1, 37);
    write_sets();
    return 0;
}

// ---------------------------------------------------------------- rules

static void
pooling_and_choice_are_saebenchs(void **unused)
{
    (void)unused;
    json_t *golden = golden_open();
    float x[3][4][3], want[3][3], got[3];
    assert_int_equal(
        golden_floats(&x[0][0][0], 36, golden_at(golden, "sparse_probing.acts_zeroed_at_special")),
        36);
    assert_int_equal(golden_floats(&want[0][0], 9, golden_at(golden, "sparse_probing.pooled_acts")),
                     9);
    for (size_t i = 0; i < 3; i++) {
        float kept[4][3];
        size_t n = 0;
        for (size_t t = 0; t < 4; t++) // special tokens are rows of zeros there
            if (fabsf(x[i][t][0]) + fabsf(x[i][t][1]) + fabsf(x[i][t][2]) > 0)
                memcpy(kept[n++], x[i][t], sizeof kept[0]);
        probing_pool(got, &kept[0][0], n, 3, false);
        for (size_t c = 0; c < 3; c++)
            near((double)got[c], (double)want[i][c], 1e-5);
        probing_pool(got, &kept[0][0], n, 3, true);
        for (size_t t = 0; t < n; t++)
            for (size_t c = 0; c < 3; c++)
                assert_true(got[c] >= kept[t][c]);
    }
    float input[8][6];
    double labels[8], scratch[6];
    assert_int_equal(
        golden_floats(&input[0][0], 48, golden_at(golden, "sparse_probing.topk_input")), 48);
    assert_int_equal(golden_numbers(labels, 8, golden_at(golden, "sparse_probing.topk_labels")), 8);
    uint32_t rows[8], top[6];
    bool positive[8];
    for (uint32_t i = 0; i < 8; i++) {
        rows[i] = i;
        positive[i] = labels[i] > 0;
    }
    const struct probing_task task = {rows, positive, 8};
    static const unsigned ks[] = {1, 2, 5};
    for (size_t k = 0; k < 3; k++) {
        char path[64];
        double indexes[6];
        snprintf(path, sizeof path, "sparse_probing.topk.%u", ks[k]);
        size_t n = golden_numbers(indexes, 6, golden_at(golden, path));
        assert_int_equal(probing_top(top, ks[k], &input[0][0], 6, &task, scratch), n);
        for (size_t i = 0; i < n; i++) { // SAEBench's mask has no order
            bool found = false;
            for (size_t j = 0; j < n; j++)
                found |= top[j] == (uint32_t)indexes[i];
            assert_true(found);
        }
    }
    json_decref(golden);
}

enum { ROWS = 1200, WIDTH = 40, CLASSES = 3 };

static void
draws_are_balanced_and_repeat(void **unused)
{
    (void)unused;
    uint32_t ids[CLASSES][100], *members[CLASSES];
    size_t counts[CLASSES] = {60, 100, 20};
    for (uint32_t c = 0; c < CLASSES; c++) {
        members[c] = ids[c];
        for (uint32_t i = 0; i < 100; i++)
            ids[c][i] = 100 * c + i;
    }
    static struct pyrandom random;
    static const struct {
        size_t which;
        double share;
        size_t positives, negatives;
    } cases[] = {{0, 0.5, 50, 50}, // 30 + 20 others: as many positives
                 {1, 0.5, 70, 70},
                 {2, 0.5, 20, 20},
                 {2, 0.2, 20, 80},
                 {0, 0.75, 60, 20}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct probing_task one, two;
        pyrandom_seed(&random, 9);
        assert_int_equal(
            probing_draw(&one, members, counts, CLASSES, cases[i].which, cases[i].share, &random),
            STATUS_OK);
        pyrandom_seed(&random, 9);
        assert_int_equal(
            probing_draw(&two, members, counts, CLASSES, cases[i].which, cases[i].share, &random),
            STATUS_OK);
        size_t positives = 0;
        bool seen[300] = {false};
        for (size_t r = 0; r < one.count; r++) {
            positives += one.positive[r];
            assert_int_equal(one.positive[r], one.rows[r] / 100 == cases[i].which);
            assert_false(seen[one.rows[r]]);
            seen[one.rows[r]] = true;
            assert_int_equal(one.rows[r], two.rows[r]);
        }
        assert_int_equal(positives, cases[i].positives);
        assert_int_equal(one.count - positives, cases[i].negatives);
        probing_task_free(&one);
        probing_task_free(&two);
    }
}

static void
planted_features_are_found_and_chance_is_chance(void **unused)
{
    (void)unused;
    static float pooled[ROWS * WIDTH];
    static uint32_t rows[2][ROWS];
    static bool planted[2][ROWS], random[2][ROWS];
    uint64_t state = 5;
    for (uint32_t i = 0; i < ROWS; i++) {
        size_t side = i >= ROWS * 2 / 3, at = side ? i - ROWS * 2 / 3 : i;
        rows[side][at] = i;
        planted[side][at] = noise(&state) % 2;
        random[side][at] = noise(&state) % 2;
        for (size_t c = 0; c < WIDTH; c++)
            pooled[i * WIDTH + c] = (float)(noise(&state) % 1000) / 1000;
        pooled[i * WIDTH + 17] = planted[side][at] ? 2 : 0.5f; // this latent tells it
    }
    const size_t counts[2] = {ROWS * 2 / 3, ROWS - ROWS * 2 / 3};
    double scratch[WIDTH], accuracy, all[2];
    uint32_t top[5];
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        struct probing_task train = {rows[0], planted[0], counts[0]},
                            test = {rows[1], planted[1], counts[1]};
        assert_int_equal(probing_top(top, 5, pooled, WIDTH, &train, scratch), 5);
        assert_int_equal(top[0], 17);
        assert_int_equal(probing_columns(&accuracy, pooled, WIDTH, &train, &test, top, 1),
                         STATUS_OK);
        near(accuracy, 1, 0);
        assert_int_equal(probing_all(&accuracy, pooled, WIDTH, &train, &test, 1), STATUS_OK);
        assert_true(accuracy > 0.99);
        train.positive = random[0];
        test.positive = random[1];
        probing_top(top, 5, pooled, WIDTH, &train, scratch);
        for (size_t k = 1; k <= 5; k += 4) {
            assert_int_equal(probing_columns(&accuracy, pooled, WIDTH, &train, &test, top, k),
                             STATUS_OK);
            assert_true(fabs(accuracy - 0.5) < 0.075); // 3 standard deviations of 400 rows
        }
        assert_int_equal(probing_all(&all[threads - 1], pooled, WIDTH, &train, &test, 1),
                         STATUS_OK);
        assert_true(all[threads - 1] < 0.6); // its best on the test rows: a little above chance
    }
    assert_true(all[0] >= all[1] && all[0] <= all[1]); // the same bits
}

// ---------------------------------------------------------------- sets

static void
bad_sets_are_one_line(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        enum status status;
        const char *words;
    } cases[] = {
        {"\n", STATUS_CONFIG,
         "bad.jsonl: 0 classes with rows to train and to test, wanted at least"},
        {"{\"text\": \"a\", \"label\": 1, \"split\": \"train\"}\n{\"text\": \"a\", \"label\": 1, "
         "\"split\": \"test\"}\n",
         STATUS_CONFIG, "bad.jsonl: 1 class with rows"},
        {"{\"text\": \"a\", \"label\": 1}\nnot json\n", STATUS_DAMAGED, "bad.jsonl:2: not JSON: "},
        {"\n[1]\n", STATUS_DAMAGED, "bad.jsonl:2: wanted a JSON object"},
        {"{\"label\": 1}", STATUS_DAMAGED, "bad.jsonl:1: text is missing"},
        {"{\"text\": 5, \"label\": 1}", STATUS_DAMAGED, "bad.jsonl:1: text is no text"},
        {"{\"text\": \"a\"}", STATUS_DAMAGED, "bad.jsonl:1: label is missing"},
        {"{\"text\": \"a\", \"label\": []}", STATUS_DAMAGED, "bad.jsonl:1: label is no such thing"},
        {"{\"text\": \"a\", \"label\": \"\"}", STATUS_DAMAGED, "bad.jsonl:1: label is no such"},
        {"{\"text\": \"a\", \"label\": 1, \"split\": \"dev\"}", STATUS_DAMAGED,
         "bad.jsonl:1: split is 'dev', wanted train or test"},
        {"{\"text\": \"\xff\", \"label\": 1}", STATUS_DAMAGED, "bad.jsonl:1: not JSON: "},
    };
    const struct probing_choice choice = {0};
    struct probing_set set;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(file_replace("bad.jsonl", cases[i].text, strlen(cases[i].text)),
                         STATUS_OK);
        enum status status = probing_set_open(&set, "bad.jsonl", &choice);
        if (status != cases[i].status ||
            strncmp(status_words(), cases[i].words, strlen(cases[i].words)) != 0)
            fail_msg("case %zu: %s, '%s'", i, status_name(status), status_words());
        probing_set_close(&set);
    }
    FILE *many = fopen("bad.jsonl", "w");
    for (int i = 0; i < 70; i++)
        fprintf(many, "{\"text\": \"a\", \"label\": %d}\n", i);
    assert_int_equal(fclose(many), 0);
    assert_int_equal(probing_set_open(&set, "bad.jsonl", &choice), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "one more than 64 different ones"));
    assert_int_equal(probing_set_open(&set, "gone.jsonl", &choice), STATUS_MISSING);
}

static void
sets_choose_large_classes_and_skip_fronts(void **unused)
{
    (void)unused;
    static const char text[] =
        "{\"text\": \"\xc3\xa4\xc3\xb6 b\", \"label\": \"x\", \"split\": \"train\"}\n"
        "{\"text\": \"c\", \"label\": \"x\", \"split\": \"test\"}\n"
        "{\"text\": \"d\", \"label\": \"m\", \"split\": \"train\"}\n"
        "{\"text\": \"d\", \"label\": \"m\", \"split\": \"train\"}\n"
        "{\"text\": \"e\", \"label\": \"m\", \"split\": \"test\"}\n"
        "{\"text\": \"f\", \"label\": \"a\", \"split\": \"train\"}\n"
        "{\"text\": \"g\", \"label\": \"a\", \"split\": \"test\"}\n"
        "{\"text\": \"h\", \"label\": \"only-train\", \"split\": \"train\"}\n";
    assert_int_equal(file_replace("some set.jsonl", text, strlen(text)), STATUS_OK);
    struct probing_set set;
    assert_int_equal(
        probing_set_open(&set, "some set.jsonl", &(struct probing_choice){.classes = 2, .skip = 1}),
        STATUS_OK);
    assert_string_equal(set.name, "some-set");
    assert_int_equal(set.class_count, 2); // m by size, a by name before x
    assert_string_equal(set.classes[0], "a");
    assert_string_equal(set.classes[1], "m");
    assert_int_equal(set.count, 5);
    assert_int_equal(set.counts[1][PROBING_TRAIN], 2);
    assert_int_equal(set.texts[0].bytes, 0); // "d" without its first byte
    probing_set_close(&set);
    assert_int_equal(probing_set_open(&set, "some set.jsonl", &(struct probing_choice){.skip = 1}),
                     STATUS_OK);
    assert_int_equal(set.class_count, 3);
    assert_int_equal(set.texts[0].bytes, 4); // cut at the next character
    assert_memory_equal(set.texts[0].at, "\xc3\xb6 b", 4);
    probing_set_close(&set);
}

// ---------------------------------------------------------------- whole

static enum status
eval(const char *line)
{
    return eval_once(
        "--only probing --set model.path=" OSAE_TESTS "/golden/tiny-llama "
        "--set model.context=16 --set model.batch_contexts=4 --set eval.probing_train=80 "
        "--set eval.probing_test=30 ",
        line);
}

static void
result(struct probing_file *file, const char *folder)
{
    char path[PATH_BYTES] = "";
    assert_true(results(path, folder) > 0);
    if (saebench_probing_read(file, path) != STATUS_OK)
        fail_msg("%s", status_words());
}

static void
same_scores(const struct probing_file *a, const struct probing_file *b)
{
    for (size_t of = 0; of < PROBING_OF; of++)
        for (size_t k = 0; k < 3; k++)
            near(a->of[of].top[k], b->of[of].top[k], 0);
}

static void
a_whole_set_is_probed_cached_and_found_again(void **unused)
{
    (void)unused;
    struct probing_file first, again;
    assert_int_equal(eval("sae --set eval.probe_sets=sets --set eval.out=one"), STATUS_OK);
    result(&first, "one/sparse_probing");
    assert_int_equal(first.count, 1);
    assert_string_equal(first.sets[0].name, "known");
    assert_int_equal(first.sets[0].count, 3);
    assert_string_equal(first.sets[0].classes[0].name, "code");
    assert_int_equal(first.sets[0].classes[0].train, 80);
    assert_int_equal(first.sets[0].classes[0].test, 30);
    assert_true(first.of[PROBING_SAE].top[2] > 0.9); // K = 5: the classes differ in every token
    assert_true(first.of[PROBING_LLM].top[2] > 0.9);
    assert_true(first.of[PROBING_SAE].all > 0.9);
    assert_true(isnan(first.of[PROBING_SAE].top[6]));
    // Another SAE: its latents in another order, the same numbers; the stream from its file.
    assert_int_equal(eval("turned --set eval.probe_sets=sets --set eval.out=two"), STATUS_OK);
    result(&again, "two/sparse_probing");
    same_scores(&first, &again);
    probing_file_release(&again);
    // The same again: nothing is written.
    assert_int_equal(eval("sae --set eval.probe_sets=sets --set eval.out=one"), STATUS_OK);
    result(&again, "one/sparse_probing");
    assert_int_equal(again.head.created_ms, first.head.created_ms);
    probing_file_release(&again);
    // A damaged file of streams is noticed; other batches of the model change nothing.
    char *name = NULL;
    DIR *dir = opendir(".");
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strncmp(entry->d_name, "probing-", 8) == 0)
            name = strdup(entry->d_name);
    closedir(dir);
    assert_non_null(name);
    FILE *stream = fopen(name, "r+b");
    assert_non_null(stream);
    assert_int_equal(fputc(77, stream), 77);
    assert_int_equal(fclose(stream), 0);
    free(name);
    assert_int_equal(eval("sae --set eval.probe_sets=sets --set eval.out=three"), STATUS_OK);
    result(&again, "three/sparse_probing");
    same_scores(&first, &again);
    probing_file_release(&again);
    assert_int_equal(eval("sae --set eval.probe_sets=sets --set eval.out=four --set "
                          "model.batch_contexts=9"),
                     STATUS_OK);
    result(&again, "four/sparse_probing");
    same_scores(&first, &again);
    probing_file_release(&again);
    probing_file_release(&first);
}

static void
variants_and_bad_settings(void **unused)
{
    (void)unused;
    struct probing_file file;
    assert_int_equal(eval("sae --set eval.probe_sets=[sets,guess.jsonl] --set eval.out=max --set "
                          "eval.probing_pool=max --set eval.probing_k=[1,20] --set "
                          "eval.probing_classes=2 --set eval.probing_share=0.2"),
                     STATUS_OK);
    result(&file, "max/sparse_probing");
    assert_int_equal(file.count, 2);
    assert_int_equal(file.sets[0].count, 2);
    assert_string_equal(file.pool, "max");
    assert_string_equal(file.head.profile, "custom");
    assert_true(isfinite(file.of[PROBING_SAE].top[4]) && isnan(file.of[PROBING_SAE].top[1]));
    assert_string_equal(file.sets[1].name, "guess");
    probing_file_release(&file);
    assert_int_equal(eval("sae"), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "eval.probe_sets: no labelled sets"));
    assert_int_equal(eval("sae --set eval.probe_sets=gone"), STATUS_MISSING);
    assert_int_equal(eval("sae --set eval.probe_sets=sae"), STATUS_MISSING);
    assert_int_equal(eval("sae --set eval.probe_sets=sets --set eval.probing_k=3"), STATUS_CONFIG);
    assert_int_equal(eval("sae --set eval.probe_sets=[sets,sets]"), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "two sets are named 'known'"));
    assert_int_equal(eval("sae --set eval.probing=sometimes"), STATUS_CONFIG);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pooling_and_choice_are_saebenchs),
        cmocka_unit_test(draws_are_balanced_and_repeat),
        cmocka_unit_test(planted_features_are_found_and_chance_is_chance),
        cmocka_unit_test(bad_sets_are_one_line),
        cmocka_unit_test(sets_choose_large_classes_and_skip_fronts),
        cmocka_unit_test(a_whole_set_is_probed_cached_and_found_again),
        cmocka_unit_test(variants_and_bad_settings),
    };
    return cmocka_run_group_tests(tests, set_up, eval_finish);
}

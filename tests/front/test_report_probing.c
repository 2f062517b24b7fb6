// Sparse probing in a report: from the files that the real writer makes, in all three styles.
#include "front/report_probing.h"
#include "lib/interop/saebench_probing.h"
#include "tests/front/made_run.h"

// Two sets of two and three classes; `ks`: how many of the format's K's were asked for. Accuracies
// are 0.5 + set / 10 + class / 100 + K / 1000, of the stream a ten-thousandth more.
static void
write_result(const char *run, uint64_t step, uint64_t created_ms, size_t ks, const char *pool)
{
    static struct probing_class_result classes[2][3];
    static struct probing_set_result sets[2];
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct probing_file file = {.count = 2,
                                .sets = sets,
                                .seed = 42,
                                .context = 128,
                                .batch = 16,
                                .train = 4000,
                                .test = 1000,
                                .share = 0.5};
    file.head = (struct saebench_head){.step = step, .mh = step, .created_ms = created_ms};
    file.head.spec.low = ks;
    snprintf(file.head.run, sizeof file.head.run, "%s", run);
    snprintf(file.pool, sizeof file.pool, "%s", pool);
    for (size_t s = 0; s < 2; s++) {
        snprintf(sets[s].name, sizeof sets[s].name, "%s", s ? "kind|<of> text" : "lang");
        sets[s].count = 2 + s;
        sets[s].classes = classes[s];
        for (size_t c = 0; c < sets[s].count; c++) {
            snprintf(classes[s][c].name, sizeof classes[s][c].name, "class %zu", c);
            classes[s][c].train = 4000;
            classes[s][c].test = 1000;
            for (size_t of = 0; of < PROBING_OF; of++) {
                struct probing_scores *to = &classes[s][c].of[of];
                double base = 0.5 + (double)s / 10 + (double)c / 100 + (of == PROBING_LLM) * 1e-4;
                to->all = base + 0.2;
                for (size_t k = 0; k < PROBING_KS; k++)
                    to->top[k] = k < ks ? base + probing_ks[k] / 1000.0 : (double)NAN;
            }
        }
    }
    probing_file_means(&file);
    assert_int_equal(saebench_eval_id(file.head.eval_id), STATUS_OK);
    assert_int_equal(path_join(folder, scratch_path(run), "eval/sparse_probing"), STATUS_OK);
    assert_int_equal(saebench_path(path, folder, &file.head), STATUS_OK);
    assert_int_equal(saebench_probing_write(path, &file), STATUS_OK);
}

static char *
printed(const char *run, enum table_style style)
{
    struct report_run got;
    char *text = NULL;
    size_t bytes;
    assert_int_equal(report_run_read(&got, run), STATUS_OK);
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    assert_int_equal(report_probing_print(out, &got, style), STATUS_OK);
    assert_int_equal(fclose(out), 0);
    report_run_release(&got);
    return text;
}

static void
tells(const char *run, enum table_style style, const char *const *wanted)
{
    char *text = printed(run, style);
    for (; *wanted; wanted++)
        if (!strstr(text, *wanted))
            fail_msg("'%s' is not in:\n%s", *wanted, text);
    free(text);
}

static void
set_by_set_and_their_mean(void **unused)
{
    (void)unused;
    write_config("run", NULL, 0);
    write_result("run", 100, 1000, 1, "mean"); // an older step
    write_result("run", 200, 3000, 3, "mean");
    // lang: classes 0.5 and 0.51; kind: 0.6, 0.61, 0.62; the mean is of the sets.
    tells("run", TABLE_TEXT,
          (const char *const[]){
              "Sparse probing\n", "best 1", "best 2", "best 5", "all columns",
              "lang                  2  0.5060  0.5061  0.5070  0.5071  0.5100  0.5101  0.7050  "
              "0.7051",
              "kind|<of> text        3  0.6110  0.6111  0.6120  0.6121  0.6150  0.6151  0.8100  "
              "0.8101",
              "mean                  -  0.5585  0.5586  0.5595  0.5596  0.5625  0.5626  0.7575  "
              "0.7576",
              "Step 200, test accuracy of one class against the rest;",
              "At most 4000 texts to train and 1000 to test, mean pooling.\n", NULL});
    tells("run", TABLE_MARKDOWN,
          (const char *const[]){"| set | classes | best 1 SAE | best 1 stream |",
                                "| kind\\|\\<of> text | 3 | 0.6110 | 0.6111 |",
                                "| mean | - | 0.5585 | 0.5586 |", " |\n\nStep 200, ", NULL});
    char *page = printed("run", TABLE_HTML);
    assert_non_null(strstr(page, "kind|&lt;of&gt; text"));
    assert_null(strstr(page, "<of>"));
    assert_null(strstr(page, "nan"));
    assert_non_null(strstr(page, "0.7576"));
    free(page);
}

static void
the_newest_of_a_step_with_at_most_three_ks_in_lines_that_fit(void **unused)
{
    (void)unused;
    write_config("many", NULL, 0);
    write_result("many", 200, 9000, 7, "max");
    write_result("many", 200, 2000, 2, "mean"); // another specification, made before
    char *text = printed("many", TABLE_TEXT);
    assert_non_null(strstr(text, "best 5"));
    assert_null(strstr(text, "best 10"));
    assert_non_null(strstr(text, "max pooling"));
    lines_fit(text);
    free(text);
}

static void
a_run_without_says_nothing_and_damage_is_left_out(void **unused)
{
    (void)unused;
    write_config("without", NULL, 0);
    char *text = printed("without", TABLE_TEXT);
    assert_string_equal(text, "");
    free(text);
    write_config("hurt", NULL, 0);
    write_result("hurt", 100, 1000, 1, "mean");
    write_result("hurt", 200, 1000, 1, "mean");
    file_put(scratch_path("hurt/eval/sparse_probing/hurt_step-000000000200_eval_results.json"), "{",
             1);
    tells("hurt", TABLE_TEXT, (const char *const[]){"Step 100, ", NULL});
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_by_set_and_their_mean),
        cmocka_unit_test(the_newest_of_a_step_with_at_most_three_ks_in_lines_that_fit),
        cmocka_unit_test(a_run_without_says_nothing_and_damage_is_left_out),
    };
    return cmocka_run_group_tests(tests, typed_start, typed_finish);
}

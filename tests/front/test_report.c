// `osae report` on folders that the real writers made.
#include "front/report_paper.h"
#include "tests/front/made_run.h"

// ---------------------------------------------------------------- one run

static void
one_run_is_told_in_lines_that_fit(void **unused)
{
    (void)unused;
    write_whole("whole");
    assert_int_equal(osae("report whole"), 0);
    assert_string_equal(complained, "");
    says("run       whole\n");
    says("model     tiny|<model> at model.layers.3\n");
    says("SAE       orthogonal, k = 32 latents, 2 x 16, lambda_s 0.04, lambda_o 0.01, "
         "lambda_t 0.001\n");
    // 120 steps of a second each, those before the kill counted once
    says("trained   120 of 120 steps, 7,680 tokens in 2 min 0 s (64 tokens/s, 25 % of it "
         "waiting)\n");
    says("\n  60  0.9000  3.250  3.750  10.803  0.8000  12.2  0.1234  61.25       -  8  25.0 %    "
         "  1\n");
    says("\n 120  0.9500  3.250  3.700  10.803  0.8500  12.2  0.0734  61.25       -  8  25.0 %    "
         "  1\n");
    says("On 20,320 tokens of held?out.jsonl for CE and KL, and 65,024 for the rest.");
    // the last line of step 69 counts: 600 exp(-2.3), without the 5 of the first life
    says("\n   1      64  585.3       -  17.9  0   0.0 %\n");
    says("\n  69   4,416  60.16  0.3166   8.8  4  12.5 %\n");
    says("\n 120   7,680  10.99  0.1353   2.0  8  25.0 %\n");
    says("(log)");
    assert_null(strchr(said, '\033'));
    lines_fit(said);
}

static void
markdown_escapes_and_keeps_its_columns(void **unused)
{
    (void)unused;
    assert_int_equal(osae("report whole --markdown"), 0);
    says("## whole\n\n- **model** tiny\\|\\<model> at model.layers.3\n");
    says("| step | CE score | CE model | CE SAE | CE zeros | KL score | L0 | FVU | MSE | cosine | "
         "dead N | dead share | dense |\n|--:|");
    says("| 60 | 0.9000 | 3.250 | 3.750 | 10.803 | 0.8000 | 12.2 | 0.1234 | 61.25 | - | 8 | 25.0 % "
         "| 1 |\n");
}

static size_t
count_of(const char *text, const char *what)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what))
        count++;
    return count;
}

static void
html_stands_alone(void **unused)
{
    (void)unused;
    assert_int_equal(osae("report whole --html page.html"), 0);
    complains("wrote page.html");
    size_t bytes;
    char *page = file_get(scratch_path("page.html"), &bytes);
    assert_non_null(strstr(page, "tiny|&lt;model&gt;"));
    assert_null(strstr(page, "<model>"));
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http"));
    assert_null(strstr(page, "src="));
    assert_null(strstr(page, "nan"));
    assert_null(strstr(page, "inf "));
    assert_int_equal(count_of(page, "<figure>"), 6); // loss, FVU, L0, dead, CE, KL
    assert_int_equal(count_of(page, "</figure>"), 6);
    assert_int_equal(count_of(page, "<circle"), 4); // two scores in two plots
    assert_non_null(strstr(page, "<title>whole, step 120: 0.9500</title>"));
    assert_non_null(strstr(page, ">competition</text>"));
    assert_non_null(strstr(page, "prefers-color-scheme:dark"));
    free(page);
    assert_int_equal(osae("report whole --html /nowhere/page.html"), 66);
}

static void
what_is_missing_or_damaged_is_one_line(void **unused)
{
    (void)unused;
    assert_int_equal(osae("report"), 64);
    assert_int_equal(osae("report nowhere"), 66);
    assert_string_equal(
        complained, "osae: error: nowhere: is no folder of a run, and there is no runs/nowhere\n");
    assert_int_equal(path_make(scratch_path("empty"), 0700), STATUS_OK);
    assert_int_equal(osae("report empty"), 66);
    complains("empty: is no folder of a run: no config.yaml");

    // a run that only began
    write_config("young", NULL, 0);
    assert_int_equal(osae("report young"), 0);
    says("trained   0 of 120 steps, 0 tokens\n");
    says("No scores yet: no evaluator has written to young/eval/core.\n");
    says("No steps yet: young/metrics has none.\n");

    // damage in one place leaves the others readable
    write_whole("hurt");
    file_put(scratch_path("hurt/eval/core/hurt_step-000000000060_eval_results.json"), "{", 1);
    file_put(scratch_path("hurt/config.yaml"), "loss: [", 7);
    assert_int_equal(osae("report hurt"), 0);
    complains("hurt_step-000000000060_eval_results.json");
    complains("config.yaml");
    assert_int_equal(count_of(complained, "\n"), 2);
    says("\n 120  0.9500  3.250");
    says("trained   120 steps, 7,680 tokens");
    assert_null(strstr(said, "\n  60  0.9000"));

    // the run that is there is reported, the other is an exit code
    assert_int_equal(osae("report whole nowhere gone"), 66);
    says("Table 1");
    complains("nowhere: is no folder of a run");
    complains("gone: is no folder of a run");
}

// ---------------------------------------------------------------- the tables

static enum paper_place
place_of(const char *run, const char *const *sets, size_t count)
{
    struct report_run got;
    write_config(run, sets, count);
    assert_int_equal(report_run_read(&got, run), STATUS_OK);
    enum paper_place place = report_paper_place(&got);
    report_run_release(&got);
    return place;
}

static void
settings_alone_decide_the_row(void **unused)
{
    (void)unused;
    static const struct {
        const char *run, *sets[4];
        size_t count;
        enum paper_place place;
    } cases[] = {
        {"p0", {"loss.lambda_o=0", "loss.lambda_t=0"}, 2, PAPER_STANDARD},
        {"p1", {"loss.lambda_o=0"}, 1, PAPER_NOWHERE},
        {"p2", {"sae.arch=topk", "loss.lambda_o=0", "loss.lambda_t=0"}, 3, PAPER_TOPK},
        {"p3", {"sae.arch=jumprelu", "loss.lambda_o=0", "loss.lambda_t=0"}, 3, PAPER_JUMPRELU},
        {"p4", {"sae.arch=batchtopk", "loss.lambda_o=0", "loss.lambda_t=0"}, 3, PAPER_NOWHERE},
        {"p5", {"run.name=standard"}, 1, PAPER_ORTHOGONAL}, // whatever its name says
        {"p6", {"curriculum.enabled=false"}, 1, PAPER_NO_CURRICULUM},
        {"p7", {"curriculum.theta_end=0.7"}, 1, PAPER_FIXED_THRESHOLD},
        {"p8", {"loss.lambda_t=0"}, 1, PAPER_NO_TEMPORAL},
        {"p9", {"loss.lambda_t=0", "curriculum.enabled=false"}, 2, PAPER_NOWHERE},
        {"p10", {"sae.arch=topk"}, 1, PAPER_NOWHERE}, // topk-orthogonal
        {"p11", {"curriculum.enabled=false", "curriculum.theta_end=0.7"}, 2, PAPER_NO_CURRICULUM},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (place_of(cases[i].run, cases[i].sets, cases[i].count) != cases[i].place)
            fail_msg("case %s", cases[i].run);
}

static void
absorption_letter_by_letter(void **unused)
{
    (void)unused;
    write_config("lettered", NULL, 0);
    assert_int_equal(osae("report lettered"), 0);
    assert_null(strstr(said, "First-letter"));
    write_absorption("lettered", 60, 0.25, "full");
    write_absorption("lettered", 120, 0.0625, "quick");
    assert_int_equal(osae("report lettered --html lettered.html"), 0);
    says("\nFirst-letter absorption\n\n");
    says("\n  60  0.2500  0.125 to 0.500  0.5000  0.450 to 0.550  0.0125   1.50     1  0.900  "
         "8,000  full\n");
    says("\n 120  0.0625  0.031 to 0.125  0.5000  0.450 to 0.550  0.0125   1.50     1  0.900  "
         "8,000  quick\n");
    says("\na       0.900    40  10  25.0 %     0.500  2  0.750  17, 4000\n");
    says("\nx *     0.250     1   0   0.0 %     0.000  1  0.125  3\n");
    says("Step 120, letter by letter");
    says("(F1 of at most 0.6)");
    says("Quick profile: 8000 words and 3 examples");
    size_t bytes;
    char *page = file_get(scratch_path("lettered.html"), &bytes);
    assert_non_null(strstr(page, "First-letter absorption"));
    assert_non_null(strstr(page, "17, 4000"));
    free(page);
    assert_int_equal(osae("report lettered --markdown"), 0);
    says("| a | 0.900 | 40 | 10 | 25.0 % | 0.500 | 2 | 0.750 | 17, 4000 |");
}

// Damaged, written again by the next life, and the first one's result came last.
static void
a_replaced_checkpoint_is_not_told(void **unused)
{
    (void)unused;
    write_config("replaced", NULL, 0);
    write_score_of("replaced", 60, 9, 0.02);
    write_score_of("replaced", 60, 10, 0.03);
    write_score_of("replaced", 60, 9, 0.04);
    write_score_of("replaced", 60, 2, 0.05);
    assert_int_equal(osae("report replaced"), 0);
    assert_string_equal(complained, "");
    says("\n  60  0.9300  3.250");
    assert_int_equal(count_of(said, "\n  60  "), 1);
}

static void
tables_stand_beside_the_papers(void **unused)
{
    (void)unused;
    static const char *const baseline[] = {"sae.arch=topk", "loss.lambda_o=0", "loss.lambda_t=0"};
    write_config("topk", baseline, 3);
    write_score("topk", 120, -0.1);
    write_config("untemporal", (const char *const[]){"loss.lambda_t=0"}, 1);
    write_score("untemporal", 60, 0.01);
    write_absorption("topk", 120, 0.0321, "full");
    write_absorption("topk", 120, 0.9, "quick"); // another spec: the full one counts
    write_absorption("untemporal", 60, 0.25, "quick");
    assert_int_equal(osae("report whole topk untemporal young"), 0);
    assert_string_equal(complained, "");
    says("Table 1: architectures\n");
    says("\nStandard SAE         -         -     -         -         -     -       -      -       "
         "-  "
         "-\n");
    says("\nTopK            0.0321    0.5000  61.2    0.7000    0.8000  12.2  25.0 %    120   "
         "7,680  "
         "topk\n");
    says("\nOrthogonal SAE       -         -  61.2    0.8500    0.9500  12.2  25.0 %    120   "
         "7,680  "
         "whole\n");
    says("\nOrthogonal SAE       -         -     -         -         -     -       -      0       "
         "0  "
         "young\n");
    says("Table 2: ablations\n");
    says("\nNo temporal      0.2500    0.5000  61.2    0.8100    0.9100  12.2  25.0 %     60   "
         "3,840  "
         "untemporal\n");
    says("Some of it is of the quick profile");
    says("\npaper, Gemma-2-2B layer 12  Absorption    MSE  KL Div\n");
    says("\nOrthogonal SAE                  0.0055  176.0  0.9514\n");
    says("\nNo curriculum                   0.0090  248.0\n");
    says("These numbers are of tiny|<model> at model.layers.3; tiny at model.layers.3: not of the "
         "paper's model.\n");
    says("MSE is mse_sum,");
    assert_null(strstr(said, "Runs that are in neither table"));

    // one run with --tables, Markdown; a hostile absorption file is a warning
    assert_int_equal(path_remove(scratch_path("topk/eval/absorption")), STATUS_OK);
    assert_int_equal(path_make(scratch_path("topk/eval/absorption"), 0700), STATUS_OK);
    file_put(scratch_path("topk/eval/absorption/topk_step-000000000120_eval_results.json"), "[", 1);
    assert_int_equal(osae("report topk --tables --markdown"), 0);
    complains("eval_results.json:1: not JSON");
    says("## Table 1: architectures\n\n| model | Absorption full | Absorption fraction |");
    says("| TopK | - | - | 61.2 | 0.7000 |");
    assert_null(strstr(said, "Table 2"));
    assert_int_equal(osae("report p4 p9 --html both.html"), 0);
    says("Runs that are in neither table\n");
    says("batchtopk ");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_run_is_told_in_lines_that_fit),
        cmocka_unit_test(markdown_escapes_and_keeps_its_columns),
        cmocka_unit_test(html_stands_alone),
        cmocka_unit_test(what_is_missing_or_damaged_is_one_line),
        cmocka_unit_test(settings_alone_decide_the_row),
        cmocka_unit_test(absorption_letter_by_letter),
        cmocka_unit_test(a_replaced_checkpoint_is_not_told),
        cmocka_unit_test(tables_stand_beside_the_papers),
    };
    return cmocka_run_group_tests(tests, typed_start, typed_finish);
}

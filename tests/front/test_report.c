// `osae report` and `osae fsck` on folders that the real writers made.
#include "config/render.h"
#include "front/commands.h"
#include "front/report_paper.h"
#include "lib/host/meter.h"
#include "lib/interop/card.h"
#include "lib/interop/saebench_absorption.h"
#include "lib/store/failure.h"
#include "tests/store/training.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { STEPS = 120, ROWS = 64, LATENTS = 32, WIDTH = 16 };

static char *said, *complained; // stdout and stderr of the last command

static int
divert(int fd, const char *path)
{
    int before = dup(fd), to = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(before >= 0 && to >= 0);
    assert_true(dup2(to, fd) >= 0);
    assert_int_equal(close(to), 0);
    return before;
}

// "report a b", run in the scratch folder; names of runs are relative to it.
static int
osae(const char *line)
{
    char copy[1024], out[PATH_BYTES], err[PATH_BYTES], *argv[64], *left = copy;
    size_t bytes;
    int argc = 0;
    snprintf(copy, sizeof copy, "osae %s", line);
    for (char *word; (word = strsep(&left, " ")) != NULL;)
        if (*word)
            argv[argc++] = word;
    argv[argc] = NULL;
    snprintf(out, sizeof out, "%s", scratch_path("out"));
    snprintf(err, sizeof err, "%s", scratch_path("err"));
    assert_int_equal(fflush(stdout), 0);
    int stdout_before = divert(STDOUT_FILENO, out), stderr_before = divert(STDERR_FILENO, err);
    int code = commands_main(argc, argv);
    fflush(stdout);
    assert_true(dup2(stdout_before, STDOUT_FILENO) >= 0 && close(stdout_before) == 0);
    assert_true(dup2(stderr_before, STDERR_FILENO) >= 0 && close(stderr_before) == 0);
    free(said);
    free(complained);
    said = file_get(out, &bytes);
    complained = file_get(err, &bytes);
    return code;
}

static void
says(const char *what)
{
    if (!strstr(said, what))
        fail_msg("'%s' is not in:\n%s", what, said);
}

static void
complains(const char *what)
{
    if (!strstr(complained, what))
        fail_msg("'%s' is not in:\n%s", what, complained);
}

// ---------------------------------------------------------------- making a run

static void
write_config(const char *run, const char *const *sets, size_t count)
{
    char name[128], path[PATH_BYTES];
    struct config *config = NULL;
    const char *all[16] = {"model.path=/models/tiny.gguf",
                           "model.layer=3",
                           "trainer.steps=120",
                           "stream.rows=64",
                           "sae.latents=32",
                           "sae.topk=4",
                           "curriculum.recon_end=20",
                           "curriculum.sparsity_end=60"};
    size_t used = 8;
    snprintf(name, sizeof name, "run.name=%s", run);
    all[used++] = name;
    for (size_t i = 0; i < count; i++)
        all[used++] = sets[i];
    assert_int_equal(config_load(&config, NULL, all, used), STATUS_OK);
    assert_int_equal(path_make(scratch_path(run), 0700), STATUS_OK);
    assert_int_equal(path_join(path, scratch_path(run), "config.yaml"), STATUS_OK);
    assert_int_equal(render_freeze(config, path), STATUS_OK);
    config_free(&config);
}

// Lines of a run that went to 80, was killed, and went on from 60: those from 61 on come twice.
static void
write_metrics(const char *run)
{
    char folder[PATH_BYTES];
    struct meter *meter;
    assert_int_equal(path_join(folder, scratch_path(run), "metrics"), STATUS_OK);
    for (int life = 0; life < 2; life++) {
        assert_int_equal(meter_open(&meter, folder, 64 << 20, 0), STATUS_OK);
        for (uint64_t step = life ? 61 : 1; step <= (life ? STEPS : 80); step++) {
            double x = (double)step / STEPS;
            const struct reading readings[] = {
                {"loss", 600 * exp(-4 * x) + (life ? 0 : 5)},
                {"mse_sum", 500 * exp(-4 * x)},
                {"fvu", step == 1 ? (double)NAN : exp(-2 * x)},
                {"l0", 16 * (1 - x) + 2},
                {"dead_latents", floor(8 * x)},
                {"tokens_trained", (double)(step * ROWS)},
                {"step_seconds", 0.75},
                {"wait_seconds", 0.25},
                {"unheard_of", 1},
            };
            assert_int_equal(meter_write(meter, step, readings, 9), STATUS_OK);
        }
        meter_close(&meter);
    }
}

static void
write_checkpoints(const char *run, const uint64_t *steps, size_t count)
{
    struct runfolder *folder;
    struct card card = {.arch = ARCH_RELU,
                        .width = WIDTH,
                        .latents = LATENTS,
                        .context = 128,
                        .ours = true,
                        .lambda_o = 0.01};
    snprintf(card.model_name, sizeof card.model_name, "tiny|<model>");
    snprintf(card.architecture, sizeof card.architecture, "orthogonal");
    snprintf(card.version, sizeof card.version, "0.1.0");
    card_hook(&card, 3, false);
    char *text;
    assert_int_equal(card_write(&text, &card), STATUS_OK);
    assert_int_equal(training_open(&folder, scratch_path(run)), STATUS_OK);
    float weights[WEIGHTS] = {0};
    const struct tensor_out sae[] = {{"W_dec", DTYPE_F32, 2, {20, WEIGHTS / 20}, weights}};
    const struct checkpoint_file files[] = {
        {.name = "cfg.json", .text = text, .text_bytes = strlen(text)},
        {.name = "sae_weights.safetensors", .tensors = sae, .tensor_count = 1},
    };
    for (size_t i = 0; i < count; i++) {
        struct checkpoint_facts facts = training_facts(steps[i], steps[i]);
        assert_int_equal(checkpoint_write(NULL, folder, &facts, files, 2,
                                          &(struct checkpoint_policy){.keep_last = 9}),
                         STATUS_OK);
    }
    runfolder_close(&folder);
    free(text);
}

static void
write_score(const char *run, uint64_t step, double better)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct core_file file = {.head = {.step = step,
                                      .mh = step,
                                      .spec = {1, 2},
                                      .latents = LATENTS,
                                      .width = WIDTH,
                                      .layer = 3,
                                      .created_ms = 1795355664987},
                             .context = 128};
    core_undefined(&file.core);
    file.core.ce_loss_score = 0.9 + better;
    file.core.ce_loss_without_sae = 3.25;
    file.core.ce_loss_with_sae = 3.75 - better;
    file.core.ce_loss_with_ablation = 10.803;
    file.core.kl_div_score = 0.8 + better;
    file.core.l0 = 12.25;
    file.core.fvu = 0.1234 - better;
    file.core.mse_sum = 61.25;
    file.core.dead_latents = 8;
    file.core.dense_latents = 1;
    file.core.tokens_ce = 20320;
    file.core.tokens_variance = 65024;
    snprintf(file.head.run, sizeof file.head.run, "%s", run);
    snprintf(file.head.model_name, sizeof file.head.model_name, "tiny");
    snprintf(file.dataset, sizeof file.dataset, "held\033out.jsonl"); // an escape sequence
    snprintf(file.head.hook_name, sizeof file.head.hook_name, "model.layers.3");
    snprintf(file.head.architecture, sizeof file.head.architecture, "orthogonal");
    snprintf(file.head.version, sizeof file.head.version, "0.1.0");
    assert_int_equal(saebench_eval_id(file.head.eval_id), STATUS_OK);
    assert_int_equal(path_join(folder, scratch_path(run), "eval/core"), STATUS_OK);
    assert_int_equal(saebench_path(path, folder, &file.head), STATUS_OK);
    assert_int_equal(saebench_core_write(path, &file, NULL), STATUS_OK);
}

static void
write_whole(const char *run)
{
    static const uint64_t steps[] = {60, 120};
    write_config(run, NULL, 0);
    write_checkpoints(run, steps, 2);
    write_metrics(run);
    write_score(run, 60, 0);
    write_score(run, 120, 0.05);
}

static void
append(const char *path, const char *text)
{
    size_t bytes;
    char *before = file_get(path, &bytes), after[65536];
    int length = snprintf(after, sizeof after, "%s%s", before, text);
    assert_true(length > 0 && (size_t)length < sizeof after);
    file_put(path, after, (size_t)length);
    free(before);
}

static int
start(void **unused)
{
    return scratch_make(unused) == 0 && chdir(scratch) == 0 ? 0 : -1;
}

static int
finish(void **unused)
{
    free(said);
    free(complained);
    return chdir("/") == 0 ? scratch_remove(unused) : -1;
}

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
    for (const char *line = said; *line;) {
        char copy[1024];
        size_t length = strcspn(line, "\n");
        snprintf(copy, sizeof copy, "%.*s", (int)length, line);
        if (words_width(copy) > 100)
            fail_msg("%zu columns: %s", words_width(copy), copy);
        line += length + (line[length] != '\0');
    }
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
write_absorption(const char *run, uint64_t step, double full, const char *profile)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct absorption_file *file = calloc(1, sizeof *file);
    assert_non_null(file);
    struct absorption *a = &file->absorption;
    a->full = (struct absorption_mean){full, 0.01, full / 2, full * 2};
    a->fraction = (struct absorption_mean){0.5, 0.1, 0.45, 0.55};
    a->splits = (struct absorption_mean){1.5, 0.2, (double)NAN, (double)NAN};
    a->missed = (struct absorption_mean){0.0125, 0.2, 0, 0.1};
    a->letters[0] = (struct absorption_letter){
        'a', true, 0.9, 40, 0.5, 10, 9, 2, {17, 4000}, 3, {0.5, 0.75, 0.7}};
    a->letters[1] = (struct absorption_letter){'x', false, 0.25, 1, 0, 0, 0, 1, {3}, 1, {0.125}};
    a->count = 2;
    a->used = 1;
    a->words = 8000;
    a->examples = 3;
    a->mean_f1 = 0.9;
    file->least_f1 = 0.6;
    file->head.step = step;
    file->head.mh = 7;
    file->head.spec.low = strlen(profile);
    snprintf(file->head.run, sizeof file->head.run, "%s", run);
    snprintf(file->head.profile, sizeof file->head.profile, "%s", profile);
    assert_int_equal(path_join(folder, scratch_path(run), "eval/absorption"), STATUS_OK);
    assert_int_equal(saebench_path(path, folder, &file->head), STATUS_OK);
    assert_int_equal(saebench_absorption_write(path, file), STATUS_OK);
    free(file);
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

// ---------------------------------------------------------------- fsck

static void
a_sound_folder_is_said_to_be(void **unused)
{
    (void)unused;
    write_whole("fine");
    assert_int_equal(osae("fsck fine"), 0);
    assert_string_equal(said, "fine: sound: 2 sound checkpoints, the newest of step 120, 3 journal "
                              "records, 140 lines of metrics, 2 results\n");
    assert_string_equal(complained, "");
    assert_int_equal(osae("fsck"), 64);
    assert_int_equal(osae("fsck nowhere"), 66);
    assert_int_equal(osae("fsck empty"), 66);

    // what a crash leaves is no damage
    append(scratch_path("fine/metrics/m-000000000061.jsonl"), "{\"t\":1,\"st");
    append(scratch_path("fine/journal.jsonl"), "{\"lsn\":4,");
    assert_int_equal(path_make(scratch_path("fine/checkpoints/step-000000000130.tmp-1-x"), 0700),
                     STATUS_OK);
    assert_int_equal(osae("fsck fine"), 0);
    says("note: fine/journal.jsonl: its last line is torn by a crash; the next start cuts it\n");
    says("note: fine/checkpoints: 1 being written or left by a crash (.tmp-*)");
    says("note: fine/metrics/m-000000000061.jsonl: 1 of 61 lines torn by a crash");
    says("fine: sound: 2 sound checkpoints");

    // nor is what an evaluator gave up, or was at when it died
    const struct failure failure = {.ck = "fine/120-1",
                                    .run = "fine",
                                    .kind = "absorption",
                                    .step = 120,
                                    .attempts = 3,
                                    .reason = "no letter"};
    assert_int_equal(failure_write(scratch_path("fine/eval"), &failure), STATUS_OK);
    assert_int_equal(failure_begin(scratch_path("fine/eval"), &failure), STATUS_OK);
    write_absorption("fine", 60, 0.1, "quick");
    assert_int_equal(osae("fsck fine"), 0);
    says("note: fine/eval: 1 given up; `osae report` shows why\n");
    says("note: fine/eval: 1 going on, or cut off by a crash");
    says(", 3 results\n");
}

static void
every_damage_is_a_line_with_its_recovery(void **unused)
{
    (void)unused;
    write_whole("sick");
    flip(scratch_path("sick/checkpoints/step-000000000120/sae_weights.safetensors"), 300, 1);
    assert_int_equal(osae("fsck sick"), 65);
    says("sick/checkpoints/step-000000000120/sae_weights.safetensors: ");
    says("; recovery puts it aside as .bad-hash and goes on from step 60\n");
    says("sick: DAMAGED: 1 sound checkpoint, the newest of step 60,");
    complains("sick: is damaged in 1 place\n");

    append(scratch_path("sick/metrics/m-000000000001.jsonl"), "{\"step\":\"x\"}\nnonsense}\n");
    file_put(scratch_path("sick/eval/core/sick_step-000000000060_eval_results.json"), "{}", 2);
    file_put(scratch_path("sick/config.yaml"), "x: y\n", 5);
    flip(scratch_path("sick/journal.jsonl"), 20, 4);
    write_absorption("sick", 60, 0.1, "quick");
    flip(scratch_path("sick/eval/absorption/sick_step-000000000060_eval_results.json"), 2, 1);
    assert_int_equal(osae("fsck sick fine"), 65);
    says("sick/metrics/m-000000000001.jsonl:81: is no line of metrics (no whole number `step`); "
         "readers skip it\n");
    says("sick/metrics/m-000000000001.jsonl:82: is no line of metrics");
    says("sick_step-000000000060_eval_results.json");
    says("it counts as none: the evaluator scores that checkpoint again\n");
    says("config.yaml:1: ");
    says("; the trainer refuses to start without --salvage");
    says("fine: sound:");
    complains("sick: is damaged in 7 places\n");

    flip(scratch_path("sick/checkpoints/step-000000000060/manifest.json"), 30, 1);
    assert_int_equal(osae("fsck sick"), 65);
    says("finds no sound one and refuses to start over without --from-scratch\n");
    says("sick: DAMAGED: 0 sound checkpoints,");

    // an older one is not in the way
    write_whole("old");
    assert_int_equal(unlink(scratch_path("old/checkpoints/step-000000000060/cfg.json")), 0);
    assert_int_equal(osae("fsck old"), 65);
    says("; recovery goes on from step 120 and leaves it alone\n");
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
        cmocka_unit_test(tables_stand_beside_the_papers),
        cmocka_unit_test(a_sound_folder_is_said_to_be),
        cmocka_unit_test(every_damage_is_a_line_with_its_recovery),
    };
    return cmocka_run_group_tests(tests, start, finish);
}

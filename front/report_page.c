#include "front/report_page.h"

#include "front/report_plot.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

enum { CURVE_LINES = 8, SPARK_WIDTH = 60, FACT_BYTES = 2048 };

void
report_page_heading(FILE *out, const char *text, enum table_style style)
{
    static const char *const forms[][2] = {{"\n", "\n\n"}, {"\n### ", "\n\n"}, {"<h3>", "</h3>\n"}};
    fprintf(out, "%s%s%s", forms[style][0], text, forms[style][1]);
}

void
report_page_paragraph(FILE *out, enum table_style style, const char *format, ...)
{
    static const char *const forms[][2] = {
        {"", "\n"}, {"", "\n"}, {"<p class=\"note\">", "</p>\n"}};
    char text[FACT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    words_clean(text); // a cut may split a letter
    fputs(forms[style][0], out);
    words_print(out, text, style);
    fputs(forms[style][1], out);
}

// ---------------------------------------------------------------- facts

static void fact(FILE *out, enum table_style style, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void
fact(FILE *out, enum table_style style, const char *name, const char *format, ...)
{
    char text[FACT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    words_clean(text);
    if (style == TABLE_TEXT)
        fprintf(out, "%-9s ", name);
    else
        fprintf(out, style == TABLE_MARKDOWN ? "- **%s** " : "<dt>%s</dt><dd>", name);
    words_print(out, text, style);
    fputs(style == TABLE_HTML ? "</dd>\n" : "\n", out);
}

// " 0.5", or where `osae set` changed it " 0.5 (then 0.9)".
static void
weight(char out[64], double begun, double last)
{
    if (isfinite(last) && last != begun)
        snprintf(out, 64, "%g (then %g)", begun, last);
    else
        snprintf(out, 64, "%g", begun);
}

static void
fact_sae(FILE *out, const struct report_run *run, enum table_style style)
{
    char latents[CELL_BYTES], times_width[2 * CELL_BYTES] = "", weights[256] = "";
    number_print(latents, (double)run->latents, 0);
    if (run->width > 0) {
        char factor[CELL_BYTES];
        double by = (double)run->latents / (double)run->width;
        number_print(factor, by, fabs(by - round(by)) < 1e-9 ? 0 : 1);
        snprintf(times_width, sizeof times_width, ", %.20s x %llu", factor,
                 (unsigned long long)run->width);
    }
    if (run->config) {
        const struct recipe_loss *loss = &run->config->set.loss;
        const struct curve_point *last =
            run->curve_count ? &run->curve[run->curve_count - 1] : NULL;
        char s[64], o[64];
        weight(s, loss->lambda_s, last ? last->lambda_s : loss->lambda_s);
        weight(o, loss->lambda_o, last ? last->lambda_o : loss->lambda_o);
        snprintf(weights, sizeof weights, ", lambda_s %s, lambda_o %s, lambda_t %g", s, o,
                 loss->lambda_t);
    }
    fact(out, style, "SAE", "%s, k = %s latents%s%s", run->arch[0] ? run->arch : "?", latents,
         times_width, weights);
}

static void
fact_trained(FILE *out, const struct report_run *run, enum table_style style)
{
    char steps[CELL_BYTES], of[CELL_BYTES] = "", tokens[CELL_BYTES], rate[CELL_BYTES];
    char took[CELL_BYTES], speed[256] = "";
    number_print(steps, (double)run->steps, 0);
    if (run->steps_planned > 0)
        number_print(of, (double)run->steps_planned, 0);
    number_print(tokens, run->tokens, 0);
    if (run->seconds > 0) {
        duration_print(took, run->seconds);
        number_print(rate, run->tokens / run->seconds, 0);
        snprintf(speed, sizeof speed, " in %s (%s tokens/s, %.0f %% of it waiting)", took, rate,
                 100 * run->waiting / run->seconds);
    }
    fact(out, style, "trained", "%s%s%s steps, %s tokens%s", steps, of[0] ? " of " : "", of, tokens,
         speed);
}

void
report_page_facts(FILE *out, const struct report_run *run, enum table_style style)
{
    if (style == TABLE_MARKDOWN) {
        fputs("## ", out);
        words_print(out, run->name, style);
        fputs("\n\n", out);
    }
    fputs(style == TABLE_HTML ? "<dl>\n" : "", out);
    if (style == TABLE_TEXT)
        fact(out, style, "run", "%s", run->name);
    if (run->model[0] || run->hook[0])
        fact(out, style, "model", "%s at %s", run->model[0] ? run->model : "?",
             run->hook[0] ? run->hook : "?");
    fact_sae(out, run, style);
    fact_trained(out, run, style);
    fputs(style == TABLE_HTML ? "</dl>\n" : "", out);
}

// ---------------------------------------------------------------- scores

static void
score_notes(FILE *out, const struct report_run *run, enum table_style style)
{
    const struct core_file *file = &report_run_last(run)->file;
    char reconstruction[CELL_BYTES], variance[CELL_BYTES];
    size_t specs = 1;
    for (size_t i = 1; i < run->score_count; i++)
        specs += !hash128_same(run->scores[i].file.head.spec, run->scores[i - 1].file.head.spec);
    number_print(reconstruction, file->core.tokens_ce, 0);
    number_print(variance, file->core.tokens_variance, 0);
    fputs(style == TABLE_HTML ? "" : "\n", out);
    report_page_paragraph(out, style, "On %s tokens of %.300s for CE and KL, and %s for the rest.",
                          reconstruction, file->dataset[0] ? file->dataset : "held-out text",
                          variance);
    report_page_paragraph(
        out, style,
        "CE in nats: of the model itself, with the reconstruction in its stream, with zeros.");
    report_page_paragraph(out, style,
                          "MSE is mse_sum: summed over the width. Dead: silent on all tokens; "
                          "dense: active on over 10 %%.");
    report_page_paragraph(out, style,
                          "Scores: 1 is the model untouched, 0 is zeros in its stream.");
    if (specs > 1)
        report_page_paragraph(out, style,
                              "The rows were scored in more than one way (text, windows or "
                              "batches): compare with care.");
}

enum status
report_page_scores(FILE *out, const struct report_run *run, enum table_style style)
{
    static const struct column columns[] = {
        {NULL, "step", false},   {"CE", "score", false}, {"CE", "model", false},
        {"CE", "SAE", false},    {"CE", "zeros", false}, {"KL", "score", false},
        {NULL, "L0", false},     {NULL, "FVU", false},   {NULL, "MSE", false},
        {NULL, "cosine", false}, {"dead", "N", false},   {"dead", "share", false},
        {NULL, "dense", false},  {NULL, NULL, false},
    };
    report_page_heading(out, "Scores on held-out text", style);
    if (run->score_count == 0) {
        report_page_paragraph(
            out, style, "No scores yet: no evaluator has written to %s/eval/core.", run->path);
        return STATUS_OK;
    }
    struct report_table *table;
    enum status status;
    GOTRY(report_table_new(&table, columns));
    for (size_t i = 0; i < run->score_count; i++) {
        const struct core_file *file = &run->scores[i].file;
        const struct core *core = &file->core;
        GOTRY(report_table_row(table));
        report_table_number(table, (double)file->head.step, 0);
        report_table_number(table, core->ce_loss_score, 4);
        report_table_number(table, core->ce_loss_without_sae, 3);
        report_table_number(table, core->ce_loss_with_sae, 3);
        report_table_number(table, core->ce_loss_with_ablation, 3);
        report_table_number(table, core->kl_div_score, 4);
        report_table_number(table, core->l0, 1);
        report_table_number(table, core->fvu, 4);
        report_table_number(table, core->mse_sum, -1);
        report_table_number(table, core->cossim, 4);
        report_table_number(table, core->dead_latents, 0);
        report_table_share(table, core->dead_latents, (double)file->head.latents);
        report_table_number(table, core->dense_latents, 0);
    }
    report_table_print(out, table, style);
    score_notes(out, run, style);
done:
    report_table_free(&table);
    return status;
}

// ---------------------------------------------------------------- the course of training

static enum status
sparks(FILE *out, const struct report_run *run)
{
    size_t count = run->curve_count;
    struct plot_point *at = calloc(count, sizeof *at);
    if (!at)
        return FAIL(CREATE, "no memory for a curve of %zu points", count);
    for (size_t row = 0; row < CURVE_ROWS; row++) {
        char spark[3 * SPARK_WIDTH + 1], first[CELL_BYTES], last[CELL_BYTES];
        for (size_t i = 0; i < count; i++)
            at[i] =
                (struct plot_point){(double)run->curve[i].step, curve_number(&run->curve[i], row)};
        bool log = report_plot_wants_log(at, count);
        number_print(first, at[0].y, curve_rows[row].decimals);
        number_print(last, at[count - 1].y, curve_rows[row].decimals);
        report_plot_spark(spark, SPARK_WIDTH, at, count, log);
        fprintf(out, "%-5s %9s  %s  %s%s\n", curve_rows[row].name, first, spark, last,
                log ? " (log)" : "");
    }
    fputc('\n', out);
    free(at);
    return STATUS_OK;
}

enum status
report_page_curve(FILE *out, const struct report_run *run, enum table_style style)
{
    static const struct column columns[] = {
        {NULL, "step", false},    {NULL, "tokens", false}, {NULL, "loss", false},
        {NULL, "FVU", false},     {NULL, "L0", false},     {"dead", "N", false},
        {"dead", "share", false}, {NULL, NULL, false},
    };
    report_page_heading(out, "Training", style);
    if (run->curve_count == 0) {
        report_page_paragraph(out, style, "No steps yet: %s/metrics has none.", run->path);
        return STATUS_OK;
    }
    if (style == TABLE_TEXT)
        TRY(sparks(out, run));
    struct report_table *table;
    enum status status;
    GOTRY(report_table_new(&table, columns));
    size_t lines = run->curve_count < CURVE_LINES ? run->curve_count : CURVE_LINES;
    for (size_t line = 0; line < lines; line++) {
        size_t i = lines > 1 ? line * (run->curve_count - 1) / (lines - 1) : 0;
        const struct curve_point *point = &run->curve[i];
        GOTRY(report_table_row(table));
        report_table_number(table, (double)point->step, 0);
        report_table_number(table, point->tokens, 0);
        for (size_t row = 0; row < CURVE_ROWS; row++)
            report_table_number(table, curve_number(point, row), curve_rows[row].decimals);
        report_table_share(table, point->dead, (double)run->latents);
    }
    report_table_print(out, table, style);
done:
    report_table_free(&table);
    return status;
}

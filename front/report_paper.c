#include "front/report_paper.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { TABLES = 2, LINES_MOST = 4 };

// The paper's numbers; its Table 2 has no third column.
static const struct paper_table {
    const char *title;
    struct paper_line {
        enum paper_place place;
        const char *name;
        double absorption, mse, kl;
    } lines[LINES_MOST];
} tables[TABLES] = {
    {"Table 1: architectures",
     {{PAPER_STANDARD, "Standard SAE", 0.016, 248.0, 0.62},
      {PAPER_TOPK, "TopK", 0.140, 179.6, 0.71},
      {PAPER_JUMPRELU, "JumpReLU", 0.011, 176.8, 0.77},
      {PAPER_ORTHOGONAL, "Orthogonal SAE", 0.0055, 176.0, 0.9514}}},
    {"Table 2: ablations",
     {{PAPER_ORTHOGONAL, "Full model", 0.0055, 176.0, (double)NAN},
      {PAPER_NO_CURRICULUM, "No curriculum", 0.009, 248.0, (double)NAN},
      {PAPER_FIXED_THRESHOLD, "Fixed threshold", 0.006, 245.0, (double)NAN},
      {PAPER_NO_TEMPORAL, "No temporal", 0.007, 178.0, (double)NAN}}},
};

enum paper_place
report_paper_place(const struct report_run *run)
{
    if (!run->config)
        return PAPER_NOWHERE;
    const struct settings *set = &run->config->set;
    bool relu = set->sae.arch == ARCH_RELU;
    bool temporal = set->loss.lambda_t > 0;
    if (set->loss.lambda_o <= 0) {
        if (set->sae.arch == ARCH_TOPK)
            return temporal ? PAPER_NOWHERE : PAPER_TOPK;
        if (set->sae.arch == ARCH_JUMPRELU)
            return temporal ? PAPER_NOWHERE : PAPER_JUMPRELU;
        return relu && !temporal ? PAPER_STANDARD : PAPER_NOWHERE;
    }
    // Without the curriculum theta stands at its end from step 0: then its start means nothing.
    bool curriculum = set->curriculum.enabled;
    bool fixed = curriculum && fabs(set->curriculum.theta_start - set->curriculum.theta_end) < 1e-9;
    int missing = !curriculum + fixed + !temporal;
    if (!relu || missing > 1)
        return PAPER_NOWHERE;
    if (!curriculum)
        return PAPER_NO_CURRICULUM;
    if (fixed)
        return PAPER_FIXED_THRESHOLD;
    return temporal ? PAPER_ORTHOGONAL : PAPER_NO_TEMPORAL;
}

// ---------------------------------------------------------------- ours

static const struct column our_columns[] = {
    {NULL, "model", true},   {"Absorption", "full", false}, {"Absorption", "fraction", false},
    {NULL, "MSE", false},    {NULL, "KL score", false},     {NULL, "CE score", false},
    {NULL, "L0", false},     {NULL, "dead", false},         {NULL, "steps", false},
    {NULL, "tokens", false}, {NULL, "run", true},           {NULL, NULL, false},
};

static enum status
our_row(struct report_table *table, const char *name, const struct report_run *run)
{
    TRY(report_table_row(table));
    report_table_words(table, name);
    if (!run)
        return STATUS_OK;
    const struct report_score *score = report_run_last(run);
    struct core none;
    core_undefined(&none);
    const struct core *core = score ? &score->file.core : &none;
    const struct absorption_file *absorption =
        score ? report_run_absorption(run, score->file.head.step) : NULL;
    report_table_number(table, absorption ? absorption->absorption.full.value : (double)NAN, 4);
    report_table_number(table, absorption ? absorption->absorption.fraction.value : (double)NAN, 4);
    report_table_number(table, core->mse_sum, 1);
    report_table_number(table, core->kl_div_score, 4);
    report_table_number(table, core->ce_loss_score, 4);
    report_table_number(table, core->l0, 1);
    report_table_share(table, core->dead_latents, (double)run->latents);
    // What was scored, not what was trained since.
    uint64_t steps = score ? score->file.head.step : run->steps;
    report_table_number(table, (double)steps, 0);
    double tokens = run->config ? (double)steps * run->config->set.stream.rows : run->tokens;
    report_table_number(table, tokens, 0);
    report_table_words(table, run->name);
    return STATUS_OK;
}

static enum status
our_rows(struct report_table *table, const struct paper_table *of, const struct report_run *runs,
         size_t count)
{
    for (size_t l = 0; l < LINES_MOST; l++) {
        const struct paper_line *line = &of->lines[l];
        bool any = false;
        for (size_t i = 0; i < count; i++) {
            if (report_paper_place(&runs[i]) != line->place)
                continue;
            TRY(our_row(table, line->name, &runs[i]));
            any = true;
        }
        if (!any)
            TRY(our_row(table, line->name, NULL));
    }
    return STATUS_OK;
}

static bool
has_place(const struct paper_table *of, const struct report_run *runs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t l = 0; l < LINES_MOST; l++)
            // The orthogonal run alone makes no ablation.
            if (report_paper_place(&runs[i]) == of->lines[l].place &&
                (of == &tables[0] || of->lines[l].place != PAPER_ORTHOGONAL))
                return true;
    return false;
}

// ---------------------------------------------------------------- the page

static void
title(FILE *out, const char *text, enum table_style style)
{
    static const char *const forms[][2] = {{"", "\n"}, {"## ", "\n\n"}, {"<h2>", "</h2>\n"}};
    fprintf(out, "%s%s%s", forms[style][0], text, forms[style][1]);
}

static void
note(FILE *out, const char *text, enum table_style style)
{
    fputs(style == TABLE_HTML ? "<p class=\"note\">" : "", out);
    words_print(out, text, style);
    fputs(style == TABLE_HTML ? "</p>\n" : "\n", out);
}

static void
gap(FILE *out, enum table_style style)
{
    if (style != TABLE_HTML)
        fputc('\n', out);
}

// Every run's model, each once: "SmolLM2-135M after model.layers.9".
static void
models_of(char *out, size_t room, const struct report_run *runs, size_t count)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count && used < room; i++) {
        bool seen = false;
        for (size_t before = 0; before < i; before++)
            seen |= strcmp(runs[before].model, runs[i].model) == 0 &&
                    strcmp(runs[before].hook, runs[i].hook) == 0;
        if (seen || !runs[i].model[0])
            continue;
        used += (size_t)snprintf(out + used, room - used, "%s%.200s at %.100s", used ? "; " : "",
                                 runs[i].model, runs[i].hook);
    }
}

static void
notes(FILE *out, const struct report_run *runs, size_t count, enum table_style style)
{
    char models[1024], line[2048];
    models_of(models, sizeof models, runs, count);
    snprintf(line, sizeof line, "These numbers are of %s: not of the paper's model.",
             models[0] ? models : "a model that no file names yet");
    if (strstr(models, "gemma-2-2b at blocks.12.hook"))
        snprintf(line, sizeof line, "These numbers are of %s, the paper's model and layer.",
                 models);
    note(out, line, style);
    note(out,
         "MSE is mse_sum, the squared error summed over the model's width, mean over held-out "
         "tokens.",
         style);
    note(out, "The paper does not say which MSE it gives; compare ours with one another only.",
         style);
    note(out,
         "Absorption is SAEBench's mean over letters: full, the nearest to the paper's, and the "
         "newer fraction.",
         style);
    bool quick = false;
    for (size_t i = 0; i < count; i++) {
        const struct report_score *last = report_run_last(&runs[i]);
        const struct absorption_file *file =
            last ? report_run_absorption(&runs[i], last->file.head.step) : NULL;
        quick |= file && strcmp(file->head.profile, "quick") == 0;
    }
    if (quick)
        note(out,
             "Some of it is of the quick profile (8,000 words, 3 examples): compare it with quick "
             "ones only.",
             style);
    note(out,
         "Each row is a run's newest scored checkpoint, after that many steps and tokens. "
         "- : not measured.",
         style);
}

static enum status
print_theirs(FILE *out, const struct paper_table *of, enum table_style style)
{
    static const struct column columns[] = {
        {NULL, "paper, Gemma-2-2B layer 12", true},
        {NULL, "Absorption", false},
        {NULL, "MSE", false},
        {NULL, "KL Div", false},
        {NULL, NULL, false},
    };
    static const struct column fewer[] = {
        {NULL, "paper, Gemma-2-2B layer 12", true},
        {NULL, "Absorption", false},
        {NULL, "MSE", false},
        {NULL, NULL, false},
    };
    bool with_kl = isfinite(of->lines[0].kl);
    struct report_table *table;
    enum status status;
    GOTRY(report_table_new(&table, with_kl ? columns : fewer));
    for (size_t l = 0; l < LINES_MOST; l++) {
        GOTRY(report_table_row(table));
        report_table_words(table, of->lines[l].name);
        report_table_number(table, of->lines[l].absorption, 4);
        report_table_number(table, of->lines[l].mse, 1);
        if (with_kl)
            report_table_number(table, of->lines[l].kl, 4);
    }
    report_table_print(out, table, style);
done:
    report_table_free(&table);
    return status;
}

static enum status
print_one(FILE *out, const struct paper_table *of, const struct report_run *runs, size_t count,
          enum table_style style)
{
    struct report_table *table;
    enum status status;
    GOTRY(report_table_new(&table, our_columns));
    GOTRY(our_rows(table, of, runs, count));
    title(out, of->title, style);
    gap(out, style == TABLE_MARKDOWN ? TABLE_HTML : style);
    report_table_print(out, table, style);
    gap(out, style);
    GOTRY(print_theirs(out, of, style));
    gap(out, style);
done:
    report_table_free(&table);
    return status;
}

static enum status
print_others(FILE *out, const struct report_run *runs, size_t count, enum table_style style)
{
    struct report_table *table;
    enum status status;
    size_t rows = 0;
    GOTRY(report_table_new(&table, our_columns));
    for (size_t i = 0; i < count; i++)
        if (report_paper_place(&runs[i]) == PAPER_NOWHERE) {
            GOTRY(our_row(table, runs[i].arch, &runs[i]));
            rows++;
        }
    if (rows == 0)
        goto done;
    title(out, "Runs that are in neither table", style);
    gap(out, style == TABLE_MARKDOWN ? TABLE_HTML : style);
    report_table_print(out, table, style);
    gap(out, style);
done:
    report_table_free(&table);
    return status;
}

enum status
report_paper_print(FILE *out, const struct report_run *runs, size_t count, enum table_style style)
{
    bool any = false;
    for (size_t i = 0; i < TABLES; i++) {
        if (!has_place(&tables[i], runs, count))
            continue;
        TRY(print_one(out, &tables[i], runs, count, style));
        any = true;
    }
    TRY(print_others(out, runs, count, style));
    if (any)
        notes(out, runs, count, style);
    return STATUS_OK;
}

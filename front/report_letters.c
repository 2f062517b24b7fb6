#include "front/report_letters.h"

#include "front/report_page.h"

#include <math.h>
#include <string.h>

// "0.12 to 0.20", or nothing.
static void
interval(struct report_table *table, const struct absorption_mean *mean)
{
    char text[CELL_BYTES] = "-";
    if (isfinite(mean->low) && isfinite(mean->high))
        snprintf(text, sizeof text, "%.3f to %.3f", mean->low, mean->high);
    report_table_words(table, text);
}

static enum status
print_steps(FILE *out, const struct report_run *run, enum table_style style)
{
    static const struct column columns[] = {
        {NULL, "step", false},       {"full", "mean", false},     {"full", "95 %", false},
        {"fraction", "mean", false}, {"fraction", "95 %", false}, {NULL, "2024", false},
        {NULL, "split", false},      {"letters", "used", false},  {"letters", "F1", false},
        {NULL, "words", false},      {NULL, "profile", true},     {NULL, NULL, false},
    };
    struct report_table *table;
    enum status status;
    GOTRY(report_table_new(&table, columns));
    for (size_t i = 0; i < run->absorption_count; i++) {
        const struct absorption_file *file = &run->absorptions[i];
        const struct absorption *a = &file->absorption;
        GOTRY(report_table_row(table));
        report_table_number(table, (double)file->head.step, 0);
        report_table_number(table, a->full.value, 4);
        interval(table, &a->full);
        report_table_number(table, a->fraction.value, 4);
        interval(table, &a->fraction);
        report_table_number(table, a->missed.value, 4);
        report_table_number(table, a->splits.value, 2);
        report_table_number(table, (double)a->used, 0);
        report_table_number(table, a->mean_f1, 3);
        report_table_number(table, a->words ? (double)a->words : (double)NAN, 0);
        report_table_words(table, file->head.profile[0] ? file->head.profile : "-");
    }
    report_table_print(out, table, style);
done:
    report_table_free(&table);
    return status;
}

static void
mains_of(char out[CELL_BYTES], const struct absorption_letter *letter)
{
    size_t used = 0;
    snprintf(out, CELL_BYTES, "-");
    for (size_t i = 0; i < letter->mains && i < ABSORPTION_MAINS && letter->tried > 0; i++)
        used +=
            (size_t)snprintf(out + used, CELL_BYTES - used, "%s%u", i ? ", " : "", letter->main[i]);
}

static enum status
print_letters(FILE *out, const struct absorption_file *file, enum table_style style)
{
    static const struct column columns[] = {
        {NULL, "letter", true},          {"truth probe", "F1", false},
        {"truth probe", "hits", false},  {"full", "N", false},
        {"full", "share", false},        {NULL, "fraction", false},
        {"main latents", "N", false},    {"main latents", "F1", false},
        {"main latents", "which", true}, {NULL, NULL, false},
    };
    const struct absorption *a = &file->absorption;
    struct report_table *table;
    char mains[CELL_BYTES];
    enum status status;
    GOTRY(report_table_new(&table, columns));
    for (size_t i = 0; i < a->count; i++) {
        const struct absorption_letter *l = &a->letters[i];
        const char name[4] = {l->letter, l->used ? 0 : ' ', '*', 0};
        GOTRY(report_table_row(table));
        report_table_words(table, name);
        report_table_number(table, l->f1, 3);
        report_table_number(table, (double)l->true_positives, 0);
        report_table_number(table, (double)l->full, 0);
        report_table_share(table, (double)l->full, (double)l->true_positives);
        report_table_number(table, l->fraction, 3);
        report_table_number(table, (double)l->mains, 0);
        report_table_number(
            table, l->mains && l->mains <= l->tried ? l->k_f1[l->mains - 1] : (double)NAN, 3);
        mains_of(mains, l);
        report_table_words(table, mains);
    }
    report_table_print(out, table, style);
done:
    report_table_free(&table);
    return status;
}

static void
notes(FILE *out, const struct absorption_file *file, enum table_style style)
{
    const struct absorption *a = &file->absorption;
    fputs(style == TABLE_HTML ? "" : "\n", out);
    report_page_paragraph(
        out, style,
        "Step %llu, letter by letter: on test words that the truth probe gets "
        "right (hits), is the letter carried by other latents than its main ones?",
        (unsigned long long)file->head.step);
    if (a->used < a->count)
        report_page_paragraph(out, style,
                              "*: not in the means, because the model's stream does not tell the "
                              "letter (F1 of at most %g).",
                              isfinite(file->least_f1) ? file->least_f1 : 0.6);
    report_page_paragraph(
        out, style,
        "2024: SAEBench's score of the paper's time, over all letters. 95 %%: the "
        "words drawn anew. An undertrained SAE scores low too.");
    if (strcmp(file->head.profile, "quick") == 0)
        report_page_paragraph(
            out, style,
            "Quick profile: %llu words and %llu examples a prompt; not comparable "
            "with SAEBench's numbers.",
            (unsigned long long)a->words, (unsigned long long)a->examples);
}

enum status
report_letters_print(FILE *out, const struct report_run *run, enum table_style style)
{
    if (run->absorption_count == 0)
        return STATUS_OK;
    uint64_t newest = run->absorptions[run->absorption_count - 1].head.step;
    const struct absorption_file *file = report_run_absorption(run, newest);
    report_page_heading(out, "First-letter absorption", style);
    TRY(print_steps(out, run, style));
    fputs(style == TABLE_HTML ? "" : "\n", out);
    TRY(print_letters(out, file, style));
    notes(out, file, style);
    return STATUS_OK;
}

#include "front/report_probing.h"

#include "front/report_page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    SHOWN = 3
}; // K's of a table: the smallest that were asked for; more make it wider than a screen

static void
cells(struct report_table *table, const struct probing_scores of[PROBING_OF], const size_t *shown,
      size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t side = 0; side < PROBING_OF; side++)
            report_table_number(table, of[PROBING_OF - 1 - side].top[shown[i]], 4);
    for (size_t side = 0; side < PROBING_OF; side++)
        report_table_number(table, of[PROBING_OF - 1 - side].all, 4);
}

static enum status
print_sets(FILE *out, const struct probing_file *file, enum table_style style)
{
    char groups[SHOWN][24];
    struct column columns[4 + 2 * (SHOWN + 1)] = {{NULL, "set", true}, {NULL, "classes", false}};
    size_t shown[SHOWN], count = 0, at = 2;
    for (size_t k = 0; k < PROBING_KS && count < SHOWN; k++)
        if (isfinite(file->of[PROBING_SAE].top[k]))
            shown[count++] = k;
    for (size_t i = 0; i <= count; i++) {
        const char *group = "all columns";
        if (i < count) {
            snprintf(groups[i], sizeof groups[i], "best %u", probing_ks[shown[i]]);
            group = groups[i];
        }
        columns[at++] = (struct column){group, "SAE", false};
        columns[at++] = (struct column){group, "stream", false};
    }
    struct report_table *table;
    enum status status;
    GOTRY(report_table_new(&table, columns));
    for (size_t s = 0; s < file->count; s++) {
        GOTRY(report_table_row(table));
        report_table_words(table, file->sets[s].name);
        report_table_number(table, (double)file->sets[s].count, 0);
        cells(table, file->sets[s].of, shown, count);
    }
    GOTRY(report_table_row(table));
    report_table_words(table, "mean");
    report_table_words(table, "-");
    cells(table, file->of, shown, count);
    report_table_print(out, table, style);
done:
    report_table_free(&table);
    return status;
}

enum status
report_probing_print(FILE *out, const struct report_run *run, enum table_style style)
{
    if (!run->probing)
        return STATUS_OK;
    const struct probing_file *file = run->probing;
    report_page_heading(out, "Sparse probing", style);
    TRY(print_sets(out, file, style));
    fputs(style == TABLE_HTML ? "" : "\n", out); // else Markdown takes what follows for a row
    report_page_paragraph(out, style,
                          "Step %llu, test accuracy of one class against the rest; stream: the "
                          "model's own, without the SAE.",
                          (unsigned long long)file->head.step);
    report_page_paragraph(out, style, "At most %llu texts to train and %llu to test, %s pooling.",
                          (unsigned long long)file->train, (unsigned long long)file->test,
                          strcmp(file->pool, "max") == 0 ? "max" : "mean");
    return STATUS_OK;
}

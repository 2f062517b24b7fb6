#include "front/report_html.h"

#include "front/report_failed.h"
#include "front/report_letters.h"
#include "front/report_page.h"
#include "front/report_paper.h"
#include "front/report_plot.h"
#include "front/report_probing.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

static const char style_sheet[] =
    ":root{color-scheme:light dark;--paper:#fdfdfc;--ink:#23252b;--soft:#6d717b;--hair:#e6e6e2;"
    "--s0:#2f6db5;--s1:#c8642c;--s2:#3a8a57;--s3:#8c5bb0;--s4:#b0344f;--s5:#7a6a2b;--s6:#2a8c93;"
    "--s7:#5d6470}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#16181c;--ink:#d9dbe0;--soft:#8f949e;"
    "--hair:#2b2e35;--s0:#77a9e0;--s1:#e09767;--s2:#76bd91;--s3:#bb96d9;--s4:#e07f93;--s5:#c4b46e;"
    "--s6:#6cc2c8;--s7:#a3a9b4}}\n"
    "body{margin:0 auto;max-width:62rem;padding:2.5rem 1.25rem 4rem;background:var(--paper);"
    "color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.6rem;font-weight:600;margin:0 0 .75rem}"
    "h2{font-size:1.15rem;font-weight:600;margin:2.75rem 0 .75rem}"
    "h3{font-size:1rem;font-weight:600;margin:2.25rem 0 .75rem}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1.25rem;margin:0}"
    "dt{color:var(--soft)}dd{margin:0}\n"
    ".note{color:var(--soft);font-size:.85rem;margin:.15rem 0}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));"
    "gap:1.75rem 2rem;margin:2rem 0}\n"
    "figure{margin:0}figcaption{font-size:.85rem;color:var(--soft);margin-bottom:.25rem}"
    "figcaption b{color:var(--ink);font-weight:600}\n"
    "svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--soft)}"
    ".grid{stroke:var(--hair)}line.mark{stroke:var(--soft);stroke-dasharray:2 4;opacity:.7}"
    "text.mark{font-size:10px}\n"
    ".line{fill:none;stroke-width:1.75;stroke-linejoin:round}.dot{stroke:var(--paper);"
    "stroke-width:1.5}\n"
    ".s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}"
    ".s4{stroke:var(--s4)}.s5{stroke:var(--s5)}.s6{stroke:var(--s6)}.s7{stroke:var(--s7)}\n"
    ".dot.s0{fill:var(--s0)}.dot.s1{fill:var(--s1)}.dot.s2{fill:var(--s2)}.dot.s3{fill:var(--s3)}"
    ".dot.s4{fill:var(--s4)}.dot.s5{fill:var(--s5)}.dot.s6{fill:var(--s6)}.dot.s7{fill:var(--s7)}"
    ".dot{stroke:var(--paper)}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;font-size:.9rem;margin:1.5rem 0 0;"
    "padding:0;list-style:none}.legend svg{display:inline-block;width:22px;height:8px;"
    "margin-right:.5rem;vertical-align:middle}\n"
    ".wide{overflow-x:auto;margin-bottom:.75rem}"
    "table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}"
    "th,td{padding:.3rem .7rem;text-align:right;white-space:nowrap;font-weight:400}"
    ".left{text-align:left}thead th{color:var(--soft);border-bottom:1px solid var(--hair)}"
    "th.group{text-align:center}thead tr:first-child:not(:last-child) th{border-bottom:0;"
    "padding-bottom:0}tbody tr+tr>*{border-top:1px solid var(--hair)}"
    "th:first-child{padding-left:0}\n";

static void
open_page(FILE *out, const char *title)
{
    fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>",
          out);
    words_print(out, title, TABLE_HTML);
    fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<h1>", style_sheet);
    words_print(out, title, TABLE_HTML);
    fputs("</h1>\n", out);
}

static void
legend(FILE *out, const struct report_run *runs, size_t count)
{
    fputs("<ul class=\"legend\">\n", out);
    for (size_t i = 0; i < count; i++) {
        fprintf(out,
                "<li><svg viewBox=\"0 0 22 8\"><path class=\"line s%zu\" d=\"M0 4H22\"/></svg>",
                i % PLOT_COLOURS);
        words_print(out, runs[i].name, TABLE_HTML);
        fputs("</li>\n", out);
    }
    fputs("</ul>\n", out);
}

// ---------------------------------------------------------------- plots

static size_t
most_points(const struct report_run *runs, size_t count)
{
    size_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += runs[i].curve_count + runs[i].score_count;
    return sum;
}

static void
plot_curve(FILE *out, struct plot plot, struct plot_point *room, const struct report_run *runs,
           size_t count, size_t row)
{
    plot.title = curve_rows[row].name;
    plot.doc = curve_rows[row].doc;
    plot.log = row != CURVE_DEAD;
    for (size_t i = 0; i < count; i++) {
        plot.series[plot.count++] =
            (struct plot_series){runs[i].name, room, runs[i].curve_count, false, i};
        for (size_t p = 0; p < runs[i].curve_count; p++)
            *room++ = (struct plot_point){(double)runs[i].curve[p].step,
                                          curve_number(&runs[i].curve[p], row)};
    }
    report_plot_svg(out, &plot);
}

static void
plot_score(FILE *out, struct plot plot, struct plot_point *room, const struct report_run *runs,
           size_t count, size_t row)
{
    for (size_t i = 0; i < count; i++) {
        plot.series[plot.count++] =
            (struct plot_series){runs[i].name, room, runs[i].score_count, true, i};
        for (size_t p = 0; p < runs[i].score_count; p++)
            *room++ = (struct plot_point){(double)runs[i].scores[p].file.head.step,
                                          core_number(&runs[i].scores[p].file.core, row)};
    }
    report_plot_svg(out, &plot);
}

// Where the curriculum of eq. (5) and (6) turns; of one run, for several may differ.
static void
mark_phases(struct plot *plot, const struct report_run *run)
{
    if (!run->config || !run->config->set.curriculum.enabled)
        return;
    const struct recipe_curriculum *phases = &run->config->set.curriculum;
    plot->mark[plot->marks].x = (double)phases->recon_end;
    plot->mark[plot->marks++].word = "sparsity";
    plot->mark[plot->marks].x = (double)phases->sparsity_end;
    plot->mark[plot->marks++].word = "competition";
}

static enum status
plots(FILE *out, const struct report_run *runs, size_t count)
{
    struct plot empty = {.count = 0};
    struct plot_point *room = calloc(most_points(runs, count) + 1, sizeof *room);
    if (!room)
        return FAIL(CREATE, "no memory for the plots");
    count = count < PLOT_SERIES ? count : PLOT_SERIES;
    fputs("<div class=\"plots\">\n", out);
    if (count == 1)
        mark_phases(&empty, &runs[0]);
    for (size_t row = 0; row < CURVE_ROWS; row++)
        plot_curve(out, empty, room, runs, count, row);
    static const struct {
        size_t row;
        const char *title, *doc;
    } scores[] = {
        {CORE_AT_ce_loss_score, "CE score", "of each checkpoint; 1 is the model untouched"},
        {CORE_AT_kl_div_score, "KL score", "of each checkpoint; 1 is the model untouched"},
    };
    for (size_t i = 0; i < 2; i++) {
        empty.title = scores[i].title;
        empty.doc = scores[i].doc;
        plot_score(out, empty, room, runs, count, scores[i].row);
    }
    fputs("</div>\n", out);
    free(room);
    return STATUS_OK;
}

// ---------------------------------------------------------------- the page

static enum status
page(FILE *out, const struct report_run *runs, size_t count, bool tables)
{
    bool one = count == 1 && !tables;
    open_page(out, count == 1 ? runs[0].name : "Sparse autoencoders, side by side");
    if (count == 1)
        report_page_facts(out, &runs[0], TABLE_HTML);
    else
        legend(out, runs, count);
    if (!one)
        TRY(report_paper_print(out, runs, count, TABLE_HTML));
    TRY(plots(out, runs, count));
    for (size_t i = 0; i < count; i++) {
        if (count > 1) {
            fputs("<h2>", out);
            words_print(out, runs[i].name, TABLE_HTML);
            fputs("</h2>\n", out);
            report_page_facts(out, &runs[i], TABLE_HTML);
        }
        TRY(report_page_scores(out, &runs[i], TABLE_HTML));
        TRY(report_letters_print(out, &runs[i], TABLE_HTML));
        TRY(report_probing_print(out, &runs[i], TABLE_HTML));
        TRY(report_failed(out, &runs[i], TABLE_HTML));
        if (count == 1)
            TRY(report_page_curve(out, &runs[i], TABLE_HTML));
    }
    fputs("</body>\n</html>\n", out);
    return STATUS_OK;
}

enum status
report_html_write(const char *path, const struct report_run *runs, size_t count, bool tables)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return FAIL(CREATE, "no memory for %s", path);
    enum status status = page(out, runs, count, tables);
    if (fclose(out) != 0 && status == STATUS_OK)
        status = FAIL(CREATE, "no memory for %s: %s", path, strerror(errno));
    if (status == STATUS_OK)
        status = file_replace(path, text, bytes);
    free(text);
    return status;
}

// osae report: what runs came to: scores, courses, the paper's tables.
#include "front/commands.h"
#include "front/report_failed.h"
#include "front/report_html.h"
#include "front/report_letters.h"
#include "front/report_page.h"
#include "front/report_paper.h"
#include "front/report_probing.h"
#include "lib/base/flags.h"
#include "lib/base/say.h"

#include <stdlib.h>

static const char manual[] =
    "usage: osae report RUN... [--tables] [--markdown] [--html FILE]\n\n"
    "RUN is the folder of a run, or the name of one in ./runs. One run: its scores on held-out "
    "text\n"
    "checkpoint by checkpoint, and the course of its training. Several, or --tables: the tables "
    "of\n"
    "the paper, each run in the row that its settings make it.\n\n"
    "Nothing is computed: the numbers are those of RUN/eval and RUN/metrics.\n\n";

static enum status
print_run(const struct report_run *run, enum table_style style)
{
    report_page_facts(stdout, run, style);
    TRY(report_page_scores(stdout, run, style));
    TRY(report_letters_print(stdout, run, style));
    TRY(report_probing_print(stdout, run, style));
    TRY(report_failed(stdout, run, style));
    return report_page_curve(stdout, run, style);
}

static enum status
show(const struct report_run *runs, size_t count, bool tables, enum table_style style,
     const char *html)
{
    if (tables)
        TRY(report_paper_print(stdout, runs, count, style));
    else
        TRY(print_run(&runs[0], style));
    if (!html)
        return STATUS_OK;
    TRY(commands_flush(stdout));
    TRY(report_html_write(html, runs, count, tables));
    say(SAY_INFO, "wrote %s", html);
    return STATUS_OK;
}

enum status
report_command(int argc, char *const *argv)
{
    bool tables = false, markdown = false;
    const char *html = NULL;
    struct words names = {0};
    const struct flag flags[] = {
        {"--tables", NULL, "the paper's tables, also for one run", .on = &tables},
        {"--markdown", NULL, "as Markdown", .on = &markdown},
        {"--html", "FILE", "also as one HTML file with plots", .text = &html},
    };
    if (flags_help_wanted(argc, argv)) {
        fputs(manual, stdout);
        flags_print(stdout, flags, FLAGS_COUNT(flags));
        return STATUS_OK;
    }
    TRY(flags_read(flags, FLAGS_COUNT(flags), "osae report", argc, argv, &names));
    if (names.count == 0)
        return FAIL(USAGE, "osae report: a run is missing (osae report --help)");
    struct report_run *runs = calloc(names.count, sizeof *runs);
    if (!runs)
        return FAIL(CREATE, "no memory for %zu runs", names.count);
    size_t count = 0;
    struct status_note worst = {0}; // of the first run that could not be read
    enum status status = STATUS_OK;
    for (size_t i = 0; i < names.count; i++) {
        status = report_run_read(&runs[count], names.at[i]);
        if (status == STATUS_OK) {
            count++;
            continue;
        }
        if (worst.code != STATUS_OK)
            say(SAY_ERROR, "%s", status_words());
        else
            status_note_take(&worst, status);
    }
    status = STATUS_OK;
    if (count > 0)
        status = show(runs, count, tables || names.count > 1,
                      markdown ? TABLE_MARKDOWN : TABLE_TEXT, html);
    for (size_t i = 0; i < count; i++)
        report_run_release(&runs[i]);
    free(runs);
    if (status == STATUS_OK && worst.code != STATUS_OK)
        return status_note_give(&worst);
    return status;
}

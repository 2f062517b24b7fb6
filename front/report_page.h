// report_page: the parts of a report on one run, in every style: who it is, its scores, its course.
#ifndef FRONT_REPORT_PAGE_H
#define FRONT_REPORT_PAGE_H

#include "front/report_run.h"
#include "front/report_table.h"

void report_page_facts(FILE *out, const struct report_run *run, enum table_style style);
CHECKED enum status report_page_scores(FILE *out, const struct report_run *run,
                                       enum table_style style);
CHECKED enum status report_page_curve(FILE *out, const struct report_run *run,
                                      enum table_style style);

// A heading under the run's, and a line of small print.
void report_page_heading(FILE *out, const char *text, enum table_style style);
void report_page_paragraph(FILE *out, enum table_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif

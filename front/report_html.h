// report_html: one file that needs nothing else: a style sheet for light and dark, plots as inline
// SVG, the tables. No script, nothing fetched.
#ifndef FRONT_REPORT_HTML_H
#define FRONT_REPORT_HTML_H

#include "front/report_run.h"

// Replaces the file in one rename. One run: its course and scores. Several: their courses over one
// another, and the paper's tables.
CHECKED enum status report_html_write(const char *path, const struct report_run *runs, size_t count,
                                      bool tables);

#endif

// report_failed: the evaluations of a run that were given up, and why.
#ifndef FRONT_REPORT_FAILED_H
#define FRONT_REPORT_FAILED_H

#include "front/report_run.h"
#include "front/report_table.h"

// Nothing is printed when there are none. A damaged record is said and left out.
CHECKED enum status report_failed(FILE *out, const struct report_run *run, enum table_style style);

#endif

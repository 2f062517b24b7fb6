// report_letters: first-letter absorption of a run's checkpoints, and of the newest letter by
// letter.
#ifndef FRONT_REPORT_LETTERS_H
#define FRONT_REPORT_LETTERS_H

#include "front/report_run.h"
#include "front/report_table.h"

// Nothing where a run has no such result.
CHECKED enum status report_letters_print(FILE *out, const struct report_run *run,
                                         enum table_style style);

#endif

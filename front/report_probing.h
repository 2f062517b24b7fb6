// report_probing: sparse probing of a run's newest probed checkpoint, set by set: what the best K
// latents and, beside them, the best K channels of the raw stream tell.
#ifndef FRONT_REPORT_PROBING_H
#define FRONT_REPORT_PROBING_H

#include "front/report_run.h"
#include "front/report_table.h"

// Nothing where a run has no such result.
CHECKED enum status report_probing_print(FILE *out, const struct report_run *run,
                                         enum table_style style);

#endif

// report_run: what a run's folder says about the run, read once, for `osae report`. Nothing here is
// computed anew: numbers are those of the files, and what no file has is NaN, 0 or "".
#ifndef FRONT_REPORT_RUN_H
#define FRONT_REPORT_RUN_H

#include "config/config.h"
#include "lib/interop/saebench_absorption.h"
#include "lib/interop/saebench_core.h"
#include "lib/interop/saebench_probing.h"

// A line of RUN/metrics: one a step, the newest where a step was computed again after a resume.
struct curve_point {
    uint64_t step; // steps done
    double t;      // seconds since 1970
    double loss, mse_sum, fvu, l0, dead, tokens;
    double step_seconds, wait_seconds; // computing this step, and waiting for its batch
    double lambda_s, lambda_o;         // `osae set` may change them
};

// What is shown of them.
enum { CURVE_LOSS, CURVE_FVU, CURVE_L0, CURVE_DEAD, CURVE_ROWS };
struct curve_row {
    const char *name, *doc;
    size_t offset; // in struct curve_point
    int decimals;  // as number_print takes them
};
extern const struct curve_row curve_rows[CURVE_ROWS];
double curve_number(const struct curve_point *point, size_t row);

// A core result.
struct report_score {
    struct core_file file;
};

struct report_run {
    char path[PATH_BYTES];
    char name[SAEBENCH_TEXT], model[SAEBENCH_TEXT], hook[SAEBENCH_TEXT];
    char arch[64];         // "orthogonal", "topk", ...
    struct config *config; // the frozen one; NULL when it is missing or damaged
    uint64_t latents, width, steps, steps_planned;
    double tokens;
    double seconds, waiting; // of training, estimated from the steps that were measured
    size_t curve_count, curve_room;
    struct curve_point *curve; // by step
    size_t score_count, score_room;
    struct report_score *scores; // by step
    size_t absorption_count, absorption_room;
    struct absorption_file *absorptions; // by step
    struct probing_file *probing;        // of the newest step that was probed, or NULL
    size_t unreadable;                   // files that were left out; each was said
};

// Damaged files are said (one line each) and left out. MISSING: no such folder, or nothing in it is
// of a run. NAME may be that of a run in ./runs.
CHECKED enum status report_run_read(struct report_run *out, const char *path);
void report_run_release(struct report_run *run);

// The newest score, or NULL.
const struct report_score *report_run_last(const struct report_run *run);
// The absorption of the checkpoint of a step, or NULL; where there are several, the newest of the
// full profile if one is.
const struct absorption_file *report_run_absorption(const struct report_run *run, uint64_t step);

// For report_results.c alone: says why a file is left out, and counts it.
void report_run_leave_out(struct report_run *run);
// Reads RUN/eval, or the folder that eval.out names.
CHECKED enum status report_results_read(struct report_run *run);

#endif

// report_paper: runs in the shape of the paper's two tables, beside the paper's own numbers.
//     Table 1   Standard SAE, TopK, JumpReLU, Orthogonal SAE
//     Table 2   the Orthogonal SAE without one part of it: ablations
// A run's place follows from its frozen settings alone, never from its name.
#ifndef FRONT_REPORT_PAPER_H
#define FRONT_REPORT_PAPER_H

#include "front/report_run.h"
#include "front/report_table.h"

enum paper_place {
    PAPER_STANDARD,   // relu, lambda_o 0, lambda_t 0
    PAPER_TOPK,       // topk, lambda_o 0
    PAPER_JUMPRELU,   // jumprelu, lambda_o 0
    PAPER_ORTHOGONAL, // relu, lambda_o > 0, lambda_t > 0, the curriculum with a moving theta
    PAPER_NO_CURRICULUM,
    PAPER_FIXED_THRESHOLD,
    PAPER_NO_TEMPORAL,
    PAPER_NOWHERE, // anything else, or its config is missing
};
enum paper_place report_paper_place(const struct report_run *run);

CHECKED enum status report_paper_print(FILE *out, const struct report_run *runs, size_t count,
                                       enum table_style style);

#endif

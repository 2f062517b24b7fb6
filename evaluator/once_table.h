// once_table: findings as a person reads them: a column for each SAE, a row for each number, with
// its unit and which way is better where a table of ours says so (saebench_core.h).
#ifndef EVALUATOR_ONCE_TABLE_H
#define EVALUATOR_ONCE_TABLE_H

#include "proto/named.h"

#include <stdio.h>

struct once_column {
    const char *name;
    const struct named *values;
};
// The numbers of the first column decide which rows there are.
void once_table(FILE *out, const char *kind, const struct once_column *columns, size_t count);

#endif

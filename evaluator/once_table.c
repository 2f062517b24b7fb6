#include "evaluator/once_table.h"

#include "lib/interop/saebench_core.h"

#include <math.h>
#include <string.h>

enum { KEY = 36, COLUMN = 14, UNIT = 22 };

static const char *
direction(enum core_better better)
{
    switch (better) {
    case CORE_LOWER:
        return "lower";
    case CORE_HIGHER:
        return "higher";
    case CORE_TO_ONE:
        return "to 1";
    default:
        return "";
    }
}

static const struct core_row *
row_of(const char *key)
{
    for (size_t i = 0; i < CORE_COUNT; i++)
        if (strcmp(core_rows[i].key, key) == 0)
            return &core_rows[i];
    return NULL;
}

static void
number(FILE *out, const struct named *values, const char *key)
{
    double value = named_get_real(values, key, NAN);
    if (isfinite(value))
        fprintf(out, " %*.6g", COLUMN, value);
    else
        fprintf(out, " %*s", COLUMN, "-");
}

void
once_table(FILE *out, const char *kind, const struct once_column *columns, size_t count)
{
    if (count == 0)
        return;
    fprintf(out, "%-*s", KEY, kind);
    for (size_t i = 0; i < count; i++) { // names may be long: their end tells them apart
        size_t length = strlen(columns[i].name);
        fprintf(out, " %*s", COLUMN, columns[i].name + (length > COLUMN ? length - COLUMN : 0));
    }
    fputc('\n', out);
    const char *category = "";
    for (size_t n = 0; n < columns[0].values->count; n++) {
        const char *key = columns[0].values->at[n].name;
        const struct core_row *row = strcmp(kind, "core") == 0 ? row_of(key) : NULL;
        if (row && strcmp(row->category, category) != 0)
            fprintf(out, "%s\n", category = row->category);
        fprintf(out, "  %-*s", KEY - 2, key);
        for (size_t i = 0; i < count; i++)
            number(out, columns[i].values, key);
        if (row && direction(row->better)[0])
            fprintf(out, "  %-*s %s", UNIT, row->unit, direction(row->better));
        else if (row)
            fprintf(out, "  %s", row->unit);
        fputc('\n', out);
    }
}

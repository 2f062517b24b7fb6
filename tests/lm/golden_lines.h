// golden_lines: the lines of a JSONL file of goldens, for the tests of this folder.
#ifndef TESTS_LM_GOLDEN_LINES_H
#define TESTS_LM_GOLDEN_LINES_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

// Calls `each` with every line as JSON; returns how many there were, 0 when the file is missing or
// a line is not JSON.
static inline size_t
golden_lines(const char *path, void (*each)(json_t *line, void *context), void *context)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0, count = 0;
    if (!file)
        return 0;
    for (ssize_t bytes; (bytes = getline(&line, &room, file)) > 0; count++) {
        json_t *value = json_loadb(line, (size_t)bytes, JSON_ALLOW_NUL, NULL);
        if (!value) {
            count = 0;
            break;
        }
        each(value, context);
        json_decref(value);
    }
    free(line);
    fclose(file);
    return count;
}

#endif

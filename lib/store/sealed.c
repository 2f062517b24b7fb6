#include "lib/store/sealed.h"

#include "lib/base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// `,"sum":"` 16 digits `"}`
enum { SUM_BYTES = 8 + 16 + 2 };

static void
print_sum(char out[SUM_BYTES + 1], const char *line, size_t bytes)
{
    char digits[17];
    hex64(digits, hash64(line, bytes));
    snprintf(out, SUM_BYTES + 1, ",\"sum\":\"%s\"}", digits);
}

bool
sealed_is_sound(const char *line, size_t bytes)
{
    char sum[SUM_BYTES + 1];
    if (bytes <= SUM_BYTES)
        return false;
    print_sum(sum, line, bytes - SUM_BYTES);
    return memcmp(line + bytes - SUM_BYTES, sum, SUM_BYTES) == 0;
}

// Jansson calls a failed allocation a syntax error, or nothing; the C library leaves ENOMEM behind.
json_t *
sealed_load(const char *text, size_t bytes, json_error_t *error, bool *starved)
{
    errno = 0;
    json_t *object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, error);
    *starved = !object && errno == ENOMEM;
    return object;
}

// Jansson's writer may lose a piece of the text when memory is lacking, and say nothing.
bool
sealed_reads_back(const char *text, const json_t *object)
{
    json_t *back = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    bool same = back && json_equal(back, object);
    json_decref(back);
    return same;
}

enum status
sealed_print(char **line, size_t *bytes, const json_t *object)
{
    assert(json_object_size(object) > 0 && !json_object_get(object, "sum"));
    *line = NULL;
    char *body = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
    size_t length = body ? strlen(body) - 1 : 0; // without the last brace
    char *text = body ? malloc(length + SUM_BYTES + 2) : NULL;
    if (!text || !sealed_reads_back(body, object)) {
        free(text);
        free(body);
        return FAIL(CREATE, "no memory for a line of JSON");
    }
    memcpy(text, body, length);
    print_sum(text + length, body, length);
    memcpy(text + length + SUM_BYTES, "\n", 2);
    free(body);
    *line = text;
    *bytes = length + SUM_BYTES + 1;
    return STATUS_OK;
}

#include "config/trajectory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static int
by_name(const void *a, const void *b)
{
    const struct field *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

// The rows that count for these settings, sorted.
static size_t
rows_that_count(const struct field *out[SETTINGS_MOST], const struct settings *set)
{
    size_t count = 0;
    for (size_t i = 0; i < settings_count; i++)
        if (settings_rows[i].flags & FIELD_TRAJECTORY)
            out[count++] = &settings_rows[i];
    if (set->optimiser.decay > 0)
        out[count++] = settings_row("trainer.steps");
    qsort(out, count, sizeof out[0], by_name);
    return count;
}

void
trajectory_text(char out[TRAJECTORY_BYTES], const struct settings *set)
{
    const struct field *rows[SETTINGS_MOST];
    size_t count = rows_that_count(rows, set), used = 0;
    for (size_t i = 0; i < count; i++) {
        char value[64];
        field_print(value, sizeof value, set, rows[i]);
        int length = snprintf(out + used, TRAJECTORY_BYTES - used, "%s=%s\n", rows[i]->name, value);
        assert(length > 0 && (size_t)length < TRAJECTORY_BYTES - used);
        used += (size_t)length;
    }
}

struct hash128
trajectory_hash(const struct settings *set, struct hash128 stream)
{
    char text[TRAJECTORY_BYTES + sizeof stream];
    trajectory_text(text, set);
    size_t length = strlen(text);
    memcpy(text + length, &stream, sizeof stream); // low word first, little-endian
    return hash128(text, length + sizeof stream);
}

size_t
trajectory_differences(char *out, size_t room, const struct settings *before,
                       const struct settings *after)
{
    const struct field *rows[SETTINGS_MOST];
    // Steps count when either run decays towards its end.
    size_t count = rows_that_count(rows, before->optimiser.decay > 0 ? before : after);
    size_t differing = 0, used = 0;
    if (room > 0)
        out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        char old[64], new[64];
        field_print(old, sizeof old, before, rows[i]);
        field_print(new, sizeof new, after, rows[i]);
        if (strcmp(old, new) == 0)
            continue;
        if (used < room) {
            int length = snprintf(out + used, room - used, "%s%s %s -> %s", differing ? ", " : "",
                                  rows[i]->name, old, new);
            used += length > 0 ? (size_t)length : 0;
        }
        differing++;
    }
    return differing;
}

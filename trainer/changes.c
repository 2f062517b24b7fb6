#include "trainer/changes.h"

#include "config/settings.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const hot_names[] = {
    [HOT_LR] = "optimiser.lr",
    [HOT_LAMBDA_S] = "loss.lambda_s",
    [HOT_LAMBDA_O] = "loss.lambda_o",
    [HOT_KEYS] = NULL,
};

struct changes {
    struct journal *journal;
    size_t count; // as they were said
    struct change at[CHANGES_MOST];
};

enum status
change_check(enum hot *out, const char *key, double value)
{
    for (size_t i = 0; i < HOT_KEYS; i++) {
        if (strcmp(key, hot_names[i]) != 0)
            continue;
        const struct field *row = settings_row(key);
        *out = (enum hot)i;
        if (!(value >= row->low && value <= row->high))
            return FAIL(CONFIG, "%s is %g, wanted a number from %g to %g", key, value, row->low,
                        row->high);
        return STATUS_OK;
    }
    return FAIL(CONFIG, "%.60s cannot be changed while training, only %s, %s and %s", key,
                hot_names[HOT_LR], hot_names[HOT_LAMBDA_S], hot_names[HOT_LAMBDA_O]);
}

static enum status
read_one(struct changes *changes, const json_t *record)
{
    const char *id = json_string_value(json_object_get(record, "idem"));
    const char *key = json_string_value(json_object_get(record, "k"));
    const json_t *value = json_object_get(record, "v"), *at = json_object_get(record, "at");
    struct change *change = &changes->at[changes->count];
    if (changes->count == CHANGES_MOST || !id || strlen(id) != 32 ||
        !hex128_parse(&change->id, id) || !key || !json_is_number(value) || !json_is_integer(at) ||
        json_integer_value(at) < 0)
        return FAIL(CONFIG, "the journal has a change of settings that this version cannot read");
    change->value = json_number_value(value);
    TRY(change_check(&change->key, key, change->value));
    change->at = (uint64_t)json_integer_value(at);
    changes->count++;
    return STATUS_OK;
}

static enum status
read_all(struct changes *changes)
{
    size_t at = 0;
    for (;;) {
        json_t *record;
        enum status status = STATUS_OK;
        TRY(journal_next(&record, changes->journal, &at));
        if (!record)
            return STATUS_OK;
        const char *type = json_string_value(json_object_get(record, "type"));
        if (type && strcmp(type, "abandoned") == 0)
            changes->count = 0;
        else if (type && strcmp(type, "set") == 0)
            status = read_one(changes, record);
        json_decref(record);
        TRY(status);
    }
}

enum status
changes_new(struct changes **out, struct journal *journal)
{
    struct changes *changes = *out = calloc(1, sizeof *changes);
    if (!changes)
        return FAIL(CREATE, "no memory for changed settings");
    changes->journal = journal;
    enum status status = read_all(changes);
    if (status != STATUS_OK)
        changes_free(out);
    return status;
}

void
changes_free(struct changes **changes)
{
    free(*changes);
    *changes = NULL;
}

const struct change *
changes_find(const struct changes *changes, struct hash128 id)
{
    for (size_t i = 0; i < changes->count; i++)
        if (hash128_same(changes->at[i].id, id))
            return &changes->at[i];
    return NULL;
}

enum status
changes_add(struct changes *changes, const struct change *change)
{
    char id[33];
    if (changes->count == CHANGES_MOST)
        return FAIL(CONFIG, "the settings were changed %d times: no more", (int)CHANGES_MOST);
    hex128(id, change->id);
    TRY(journal_append(changes->journal, "set", "{s:s, s:s, s:f, s:I}", "idem", id, "k",
                       hot_names[change->key], "v", change->value, "at", (json_int_t)change->at));
    changes->at[changes->count++] = *change;
    return STATUS_OK;
}

uint64_t
changes_after(const struct changes *changes, uint64_t step)
{
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < changes->count; i++)
        if (changes->at[i].at > step && changes->at[i].at < first)
            first = changes->at[i].at;
    return first;
}

bool
changes_at(double values[HOT_KEYS], const struct changes *changes, uint64_t step)
{
    uint64_t since[HOT_KEYS] = {0};
    bool any = false;
    for (size_t i = 0; i < changes->count; i++) {
        const struct change *change = &changes->at[i];
        if (change->at > step || change->at < since[change->key])
            continue;
        since[change->key] = change->at;
        values[change->key] = change->value;
        any = true;
    }
    return any;
}

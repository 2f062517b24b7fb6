#include "evaluator/probing_set.h"

#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/lm/grow.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MOST = 16 << 20, TEXTS_IN_SET_MOST = 4 << 20 };

struct reading {
    struct probing_set *set;
    const char *path;
    size_t line;
    struct text_list bytes;
    size_t room;    // of set->texts
    size_t *starts; // in bytes, until it grows no more
    size_t starts_room;
    size_t skip;
};

static void
name_set(struct probing_set *set, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    snprintf(set->name, sizeof set->name, "%.63s", name);
    char *dot = strrchr(set->name, '.');
    if (dot && dot != set->name)
        *dot = '\0';
    for (char *c = set->name; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
              *c == '_' || *c == '-'))
            *c = '-';
}

static enum status
label_of(char out[PROBING_NAME], const struct reading *r, const json_t *line)
{
    const json_t *label = json_object_get(line, "label");
    const char *words = json_string_value(label);
    int length = -1;
    if (words && words[0])
        length = snprintf(out, PROBING_NAME, "%s", words);
    else if (json_is_integer(label))
        length = snprintf(out, PROBING_NAME, "%lld", (long long)json_integer_value(label));
    if (length < 1 || length >= PROBING_NAME)
        return FAIL(DAMAGED, "%s:%zu: label is %s, wanted words of at most %d bytes, or a number",
                    r->path, r->line, label ? "no such thing" : "missing", PROBING_NAME - 1);
    return STATUS_OK;
}

static enum status
class_of(uint16_t *out, struct probing_set *set, const char *label, const struct reading *r)
{
    size_t i = 0;
    while (i < set->class_count && strcmp(set->classes[i], label) != 0)
        i++;
    if (i == PROBING_CLASSES)
        return FAIL(DAMAGED, "%s:%zu: label '%.40s' is one more than %d different ones", r->path,
                    r->line, label, PROBING_CLASSES);
    if (i == set->class_count)
        memcpy(set->classes[set->class_count++], label, strlen(label) + 1);
    *out = (uint16_t)i;
    return STATUS_OK;
}

static enum status
add_text(struct reading *r, const json_t *line)
{
    struct probing_set *set = r->set;
    const json_t *value = json_object_get(line, "text");
    const char *text = json_string_value(value), *split;
    char label[PROBING_NAME];
    if (!text)
        return FAIL(DAMAGED, "%s:%zu: text is %s, wanted words", r->path, r->line,
                    value ? "no text" : "missing");
    size_t bytes = json_string_length(value), skip = r->skip < bytes ? r->skip : bytes;
    while (skip < bytes && ((unsigned char)text[skip] & 0xc0) == 0x80)
        skip++;
    TRY(label_of(label, r, line));
    const json_t *side = json_object_get(line, "split");
    split = json_string_value(side);
    bool test = split && strcmp(split, "test") == 0;
    if (side && !test && !(split && strcmp(split, "train") == 0))
        return FAIL(DAMAGED, "%s:%zu: split is '%.40s', wanted train or test", r->path, r->line,
                    split ? split : "no text");
    if (!side)
        test = hash64(text, bytes) % 5 == 0;
    if (set->count == TEXTS_IN_SET_MOST)
        return FAIL(DAMAGED, "%s: more than %d texts", r->path, TEXTS_IN_SET_MOST);
    struct probing_text *to;
    void *texts = set->texts, *starts = r->starts;
    TRY(grow_array(&texts, &r->room, set->count + 1, sizeof *set->texts));
    set->texts = texts;
    TRY(grow_array(&starts, &r->starts_room, set->count + 1, sizeof *r->starts));
    r->starts = starts;
    to = &set->texts[set->count];
    TRY(class_of(&to->class, set, label, r));
    to->side = test ? PROBING_TEST : PROBING_TRAIN;
    to->bytes = bytes - skip;
    r->starts[set->count++] = r->bytes.bytes;
    return text_list_append(&r->bytes, text + skip, bytes - skip);
}

static enum status
read_lines(struct reading *r, const struct file_map *map)
{
    const char *at = (const char *)map->at, *end = at + map->bytes;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        size_t bytes = (size_t)(stop - at);
        r->line++;
        if (bytes > LINE_MOST)
            return FAIL(DAMAGED, "%s:%zu: a line of %zu bytes, wanted at most %d", r->path, r->line,
                        bytes, LINE_MOST);
        bool blank = true;
        for (size_t i = 0; i < bytes && blank; i++)
            blank = at[i] == ' ' || at[i] == '\t' || at[i] == '\r';
        if (!blank) {
            json_error_t error;
            json_t *line = json_loadb(at, bytes, JSON_ALLOW_NUL, &error);
            if (!line)
                return FAIL(DAMAGED, "%s:%zu: not JSON: %s", r->path, r->line, error.text);
            enum status status =
                json_is_object(line)
                    ? add_text(r, line)
                    : FAIL(DAMAGED, "%s:%zu: wanted a JSON object", r->path, r->line);
            json_decref(line);
            TRY(status);
        }
        at = stop + (stop < end);
    }
    return STATUS_OK;
}

// Classes of the file -> those that are kept, by name; -1 for the others.
static enum status
pick_classes(int16_t number[PROBING_CLASSES], struct probing_set *set,
             const struct probing_choice *choice, const char *path)
{
    size_t counts[PROBING_CLASSES][PROBING_SIDES] = {{0}}, kept[PROBING_CLASSES], n = 0;
    for (size_t i = 0; i < set->count; i++)
        counts[set->texts[i].class][set->texts[i].side]++;
    for (size_t c = 0; c < set->class_count; c++) {
        number[c] = -1;
        if (counts[c][PROBING_TRAIN] && counts[c][PROBING_TEST])
            kept[n++] = c;
        else
            say(SAY_WARN, "%s: class '%s' is left out: %zu rows to train, %zu to test", path,
                set->classes[c], counts[c][PROBING_TRAIN], counts[c][PROBING_TEST]);
    }
    for (size_t i = 1; i < n; i++) // by size, then by name
        for (size_t j = i; j > 0; j--) {
            size_t a = kept[j - 1], b = kept[j];
            size_t more = counts[b][PROBING_TRAIN], than = counts[a][PROBING_TRAIN];
            if (more < than || (more == than && strcmp(set->classes[a], set->classes[b]) < 0))
                break;
            kept[j - 1] = b;
            kept[j] = a;
        }
    if (choice->classes && n > choice->classes)
        n = choice->classes;
    if (n < 2)
        return FAIL(CONFIG, "%s: %zu class%s with rows to train and to test, wanted at least two",
                    path, n, n == 1 ? "" : "es");
    static const struct probing_set none;
    char names[PROBING_CLASSES][PROBING_NAME];
    memcpy(names, set->classes, sizeof names);
    memcpy(set->classes, none.classes, sizeof names);
    for (size_t i = 0; i < n; i++) { // the number of each is its place by name
        size_t place = 0;
        for (size_t j = 0; j < n; j++)
            place += strcmp(names[kept[j]], names[kept[i]]) < 0;
        number[kept[i]] = (int16_t)place;
        memcpy(set->classes[place], names[kept[i]], PROBING_NAME);
        memcpy(set->counts[place], counts[kept[i]], sizeof set->counts[place]);
    }
    set->class_count = n;
    return STATUS_OK;
}

enum status
probing_set_open(struct probing_set *out, const char *path, const struct probing_choice *choice)
{
    struct probing_set set = {.count = 0};
    struct reading reading = {.set = &set, .path = path, .skip = choice->skip};
    struct file_map map = {0};
    int16_t number[PROBING_CLASSES];
    enum status status;
    *out = (struct probing_set){.count = 0};
    name_set(&set, path);
    GOTRY(file_map_open(&map, path));
    GOTRY(read_lines(&reading, &map));
    GOTRY(pick_classes(number, &set, choice, path));
    set.bytes = reading.bytes.at;
    reading.bytes = (struct text_list){0};
    size_t n = 0;
    for (size_t i = 0; i < set.count; i++) {
        struct probing_text text = set.texts[i];
        if (number[text.class] < 0)
            continue;
        text.class = (uint16_t)number[text.class];
        text.at = set.bytes ? set.bytes + reading.starts[i] : "";
        set.texts[n++] = text;
    }
    set.count = n;
done:
    text_list_release(&reading.bytes);
    free(reading.starts);
    file_map_close(&map);
    if (status != STATUS_OK)
        probing_set_close(&set);
    else
        *out = set;
    return status;
}

void
probing_set_close(struct probing_set *set)
{
    free(set->texts);
    free(set->bytes);
    *set = (struct probing_set){.count = 0};
}

#include "config/yaml.h"

#include "config/events.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct reader {
    struct config *config;
    size_t level; // of include
    struct events events;
    bool section_seen[64], row_seen[SETTINGS_MOST];
};

// `key:` with nothing behind it.
static bool
is_nothing(const yaml_event_t *event)
{
    return event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0 &&
           event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool
is_null_word(const yaml_event_t *event)
{
    static const char *const words[] = {"~", "null", "Null", "NULL"};
    if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp((const char *)event->data.scalar.value, words[i]) == 0)
            return true;
    return false;
}

// A key of a map, or the map's end (then `key` is "").
static enum status
take_key(struct reader *reader, char key[YAML_WORD_MOST + 1])
{
    yaml_event_t event;
    TRY(events_next(&reader->events, &event));
    enum status status = STATUS_OK;
    key[0] = '\0';
    if (event.type == YAML_SCALAR_EVENT) {
        memcpy(key, event.data.scalar.value, event.data.scalar.length + 1);
        if (key[0] == '\0')
            status = FAIL(CONFIG, "%s: an empty key", reader->events.where);
        else if (strcmp(key, "<<") == 0)
            status = FAIL(CONFIG, "%s: merge keys (<<) are not taken", reader->events.where);
    } else if (event.type != YAML_MAPPING_END_EVENT) {
        status =
            FAIL(CONFIG, "%s: a list or map stands where a key is wanted", reader->events.where);
    }
    yaml_event_delete(&event);
    return status;
}

static enum status
put_word(struct reader *reader, const struct field *row, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    if (is_null_word(event))
        return FAIL(CONFIG, "%s: %s is %s; leave the key out to get the default",
                    reader->events.where, row->name, text);
    if (row->type == FIELD_TEXTS && text[0] == '\0')
        return FAIL(CONFIG, "%s: %s holds an empty element", reader->events.where, row->name);
    return field_parse(&reader->config->set, row, text, reader->events.where);
}

// The elements of a list, up to its end.
static enum status
read_list(struct reader *reader, const struct field *row)
{
    for (bool more = true; more;) {
        yaml_event_t event;
        TRY(events_next(&reader->events, &event));
        enum status status = STATUS_OK;
        if (event.type == YAML_SCALAR_EVENT)
            status = put_word(reader, row, &event);
        else if (event.type == YAML_SEQUENCE_END_EVENT)
            more = false;
        else
            status = FAIL(CONFIG, "%s: %s holds a list or map in its list, wanted words",
                          reader->events.where, row->name);
        yaml_event_delete(&event);
        TRY(status);
    }
    return STATUS_OK;
}

static enum status
read_value(struct reader *reader, const struct field *row)
{
    yaml_event_t event;
    char where[sizeof reader->events.where];
    TRY(events_next(&reader->events, &event));
    memcpy(where, reader->events.where, sizeof where);
    bool list = row->type == FIELD_TEXTS;
    if (list)
        memset((char *)&reader->config->set + row->offset, 0, row->bytes);
    enum status status = STATUS_OK;
    if (event.type == YAML_SCALAR_EVENT) {
        if (!(list && is_nothing(&event)))
            status = put_word(reader, row, &event);
    } else if (event.type == YAML_SEQUENCE_START_EVENT && list) {
        status = read_list(reader, row);
    } else {
        status = FAIL(CONFIG, "%s: %s holds a %s, wanted %s", reader->events.where, row->name,
                      event.type == YAML_MAPPING_START_EVENT ? "map" : "list",
                      list ? "a list of words" : "one value");
    }
    yaml_event_delete(&event);
    TRY(status);
    config_note(reader->config, row, SOURCE_FILE, where);
    return STATUS_OK;
}

static enum status
read_section(struct reader *reader, const struct section *section)
{
    yaml_event_t event;
    TRY(events_next(&reader->events, &event));
    bool map = event.type == YAML_MAPPING_START_EVENT, nothing = is_nothing(&event);
    yaml_event_delete(&event);
    if (nothing) // all its keys are commented out
        return STATUS_OK;
    if (!map)
        return FAIL(CONFIG, "%s: %s holds a value or a list, wanted keys below it",
                    reader->events.where, section->name);
    for (;;) {
        char key[YAML_WORD_MOST + 1], name[YAML_WORD_MOST + 64];
        TRY(take_key(reader, key));
        if (!key[0])
            return STATUS_OK;
        snprintf(name, sizeof name, "%s.%s", section->name, key);
        const struct field *row = settings_row(name);
        if (!row)
            return config_unknown(reader->events.where, section->name, key);
        if (reader->row_seen[settings_index(row)])
            return FAIL(CONFIG, "%s: %s is given twice", reader->events.where, row->name);
        reader->row_seen[settings_index(row)] = true;
        TRY(read_value(reader, row));
    }
}

static enum status
unknown_section(struct reader *reader, const char *key)
{
    const char *names[64];
    for (size_t i = 0; i < settings_section_count; i++)
        names[i] = settings_sections[i].name;
    const char *near = name_nearest(names, settings_section_count, key);
    if (near)
        return FAIL(CONFIG, "%s: unknown section %.60s, did you mean %s?", reader->events.where,
                    key, near);
    for (size_t i = 0; i < settings_count; i++)
        if (strcmp(settings_key(&settings_rows[i]), key) == 0)
            return FAIL(CONFIG, "%s: unknown section %.60s; the key %s stands below %s:",
                        reader->events.where, key, key, settings_section(&settings_rows[i])->name);
    return FAIL(CONFIG, "%s: unknown section %.60s (osae config lists the known ones)",
                reader->events.where, key);
}

static enum status read_file(struct config *config, const char *path, size_t level);

static enum status
read_include(struct reader *reader, bool first)
{
    yaml_event_t event;
    char path[PATH_BYTES];
    if (!first)
        return FAIL(CONFIG, "%s: include must be the first key of its file", reader->events.where);
    if (reader->level == YAML_INCLUDES_MOST)
        return FAIL(CONFIG, "%s: include goes more than %d files deep", reader->events.where,
                    YAML_INCLUDES_MOST);
    TRY(events_next(&reader->events, &event));
    const char *slash = strrchr(reader->events.name, '/');
    enum status status = STATUS_OK;
    if (event.type != YAML_SCALAR_EVENT || event.data.scalar.length == 0) {
        status = FAIL(CONFIG, "%s: include wants the path of one file", reader->events.where);
    } else {
        const char *text = (const char *)event.data.scalar.value;
        int folder = text[0] == '/' || !slash ? 0 : (int)(slash - reader->events.name) + 1;
        int length = snprintf(path, sizeof path, "%.*s%s", folder, reader->events.name, text);
        if (length < 0 || (size_t)length >= sizeof path)
            status = FAIL(CONFIG, "%s: include is a path of %d bytes, wanted at most %d",
                          reader->events.where, length, PATH_BYTES - 1);
        else if (!path_exists(path))
            status = FAIL(MISSING, "%s: include: %s is not there", reader->events.where, path);
    }
    yaml_event_delete(&event);
    TRY(status);
    return read_file(reader->config, path, reader->level + 1);
}

static enum status
read_sections(struct reader *reader)
{
    for (bool first = true;; first = false) {
        char key[YAML_WORD_MOST + 1];
        TRY(take_key(reader, key));
        if (!key[0] && first)
            return FAIL(CONFIG, "%s: holds no settings (osae init writes a file)",
                        reader->events.where);
        if (!key[0])
            return STATUS_OK;
        if (strcmp(key, "include") == 0) {
            TRY(read_include(reader, first));
            continue;
        }
        size_t at = 0;
        while (at < settings_section_count && strcmp(settings_sections[at].name, key) != 0)
            at++;
        if (at == settings_section_count)
            return unknown_section(reader, key);
        if (reader->section_seen[at])
            return FAIL(CONFIG, "%s: section %s is given twice", reader->events.where, key);
        reader->section_seen[at] = true;
        TRY(read_section(reader, &settings_sections[at]));
    }
}

// Takes one event that must be of this type.
static enum status
expect(struct reader *reader, yaml_event_type_t type, const char *otherwise)
{
    yaml_event_t event;
    TRY(events_next(&reader->events, &event));
    bool right = event.type == type;
    yaml_event_delete(&event);
    if (!right)
        return FAIL(CONFIG, "%s: %s", reader->events.where, otherwise);
    return STATUS_OK;
}

static enum status
read_document(struct reader *reader)
{
    static const char nothing[] = "holds no settings (osae init writes a file)";
    yaml_event_t event;
    TRY(expect(reader, YAML_STREAM_START_EVENT, "not YAML"));
    TRY(expect(reader, YAML_DOCUMENT_START_EVENT, nothing));
    TRY(events_next(&reader->events, &event));
    bool map = event.type == YAML_MAPPING_START_EVENT, empty = is_nothing(&event);
    yaml_event_delete(&event);
    if (empty)
        return FAIL(CONFIG, "%s: %s", reader->events.where, nothing);
    if (!map)
        return FAIL(CONFIG, "%s: begins with a value or a list, wanted sections such as sae:",
                    reader->events.where);
    TRY(read_sections(reader));
    TRY(expect(reader, YAML_DOCUMENT_END_EVENT, "not YAML"));
    return expect(reader, YAML_STREAM_END_EVENT, "a second document begins, wanted one");
}

static void
reader_free(struct reader **reader)
{
    if (*reader)
        events_close(&(*reader)->events);
    free(*reader);
    *reader = NULL;
}

// The bytes are borrowed until reader_free.
static enum status
reader_new(struct reader **out, struct config *config, const char *name, const char *at,
           size_t bytes)
{
    *out = NULL;
    struct reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return FAIL(CREATE, "%s: no memory to read it", name);
    enum status status = events_open(&reader->events, name, at, bytes);
    if (status != STATUS_OK) {
        free(reader);
        return status_pass(status, __FILE__, __LINE__);
    }
    assert(settings_section_count <= sizeof reader->section_seen);
    reader->config = config;
    *out = reader;
    return STATUS_OK;
}

static enum status
read_bytes(struct config *config, const char *name, const char *at, size_t bytes, size_t level)
{
    enum status status;
    struct reader *reader = NULL;
    GOTRY(reader_new(&reader, config, name, at, bytes));
    reader->level = level;
    GOTRY(read_document(reader));
done:
    reader_free(&reader);
    return status;
}

static enum status
read_file(struct config *config, const char *path, size_t level)
{
    char *at = NULL;
    size_t bytes = 0;
    enum status status = file_read(&at, &bytes, path, YAML_BYTES_MOST);
    if (status == STATUS_DAMAGED) // too large: a wrong config, not a damaged one
        return FAIL(CONFIG, "%s", status_words());
    GOTRY(status);
    GOTRY(read_bytes(config, path, at, bytes, level));
done:
    free(at);
    return status;
}

enum status
yaml_read(struct config *config, const char *path)
{
    size_t length = strlen(path);
    if (length >= sizeof config->path)
        return FAIL(CONFIG, "%.100s...: a path of %zu bytes, wanted at most %zu", path, length,
                    sizeof config->path - 1);
    memcpy(config->path, path, length + 1);
    return read_file(config, path, 0);
}

enum status
yaml_read_bytes(struct config *config, const char *name, const char *at, size_t bytes)
{
    return read_bytes(config, name, at, bytes, 0);
}

enum status
yaml_list(struct config *config, const struct field *row, const char *text, const char *where)
{
    static const char behind[] = "something stands behind the list";
    enum status status;
    struct reader *reader = NULL;
    yaml_event_t event;
    GOTRY(reader_new(&reader, config, where, text, strlen(text)));
    reader->events.one_line = true;
    GOTRY(expect(reader, YAML_STREAM_START_EVENT, "wanted a list: [a, b]"));
    GOTRY(expect(reader, YAML_DOCUMENT_START_EVENT, "wanted a list: [a, b]"));
    GOTRY(events_next(&reader->events, &event));
    bool list = event.type == YAML_SEQUENCE_START_EVENT;
    yaml_event_delete(&event);
    if (!list)
        GOTRY(FAIL(CONFIG, "%s: %s is '%.80s', wanted a list: [a, b]", where, row->name, text));
    GOTRY(read_list(reader, row));
    GOTRY(expect(reader, YAML_DOCUMENT_END_EVENT, behind));
    GOTRY(expect(reader, YAML_STREAM_END_EVENT, behind));
done:
    reader_free(&reader);
    return status;
}

#include "config/events.h"

#include "lib/base/field.h"

#include <stdio.h>
#include <string.h>

// What libyaml would refuse without saying where, or read in another encoding.
static enum status
check_bytes(const char *name, const char *at, size_t bytes)
{
    size_t line = 1, begin = 0;
    if (bytes > YAML_BYTES_MOST)
        return FAIL(CONFIG, "%s: has %zu bytes, wanted at most %d", name, bytes, YAML_BYTES_MOST);
    for (size_t i = 0; i <= bytes; i++) {
        unsigned char c = i < bytes ? (unsigned char)at[i] : '\n';
        if (c == '\n') {
            if (!utf8_valid(at + begin, i - begin))
                return FAIL(CONFIG, "%s:%zu: is not valid UTF-8", name, line);
            line++;
            begin = i + 1;
        } else if ((c < 0x20 && c != '\t' && c != '\r') || c == 0x7f) {
            return FAIL(CONFIG, "%s:%zu: holds a control byte (0x%02x)", name, line, (unsigned)c);
        }
    }
    return STATUS_OK;
}

static void
place(struct events *events, size_t line)
{
    if (events->one_line)
        snprintf(events->where, sizeof events->where, "%s", events->name);
    else
        snprintf(events->where, sizeof events->where, "%s:%zu", events->name, line + 1);
}

static enum status
parser_trouble(struct events *events)
{
    const yaml_parser_t *parser = &events->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return FAIL(CREATE, "%s: no memory to read it", events->name);
    place(events, parser->problem_mark.line);
    return FAIL(CONFIG, "%s: not YAML: %s%s%s", events->where,
                parser->problem ? parser->problem : "unknown trouble", parser->context ? " " : "",
                parser->context ? parser->context : "");
}

static enum status
check_scalar(struct events *events, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (length > YAML_WORD_MOST)
        return FAIL(CONFIG, "%s: a value of %zu bytes, wanted at most %d", events->where, length,
                    YAML_WORD_MOST);
    if (strlen(text) != length)
        return FAIL(CONFIG, "%s: a value holds a NUL byte", events->where);
    return STATUS_OK;
}

// What no file of ours may hold, whatever it stands for.
static enum status
check_event(struct events *events, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (++events->count > YAML_EVENTS_MOST)
        return FAIL(CONFIG, "%s: more than %d keys, values and brackets", events->where,
                    YAML_EVENTS_MOST);
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return FAIL(CONFIG, "%s: aliases (*name) are not taken", events->where);
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        TRY(check_scalar(events, event));
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        events->depth++;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        events->depth++;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        events->depth--;
        break;
    case YAML_DOCUMENT_START_EVENT:
        if (event->data.document_start.tag_directives.start !=
            event->data.document_start.tag_directives.end)
            return FAIL(CONFIG, "%s: %%TAG directives are not taken", events->where);
        break;
    default:
        break;
    }
    if (events->depth > YAML_DEPTH_MOST)
        return FAIL(CONFIG, "%s: brackets or indents more than %d deep", events->where,
                    YAML_DEPTH_MOST);
    if (anchor)
        return FAIL(CONFIG, "%s: anchors (&name) are not taken", events->where);
    if (tag)
        return FAIL(CONFIG, "%s: tags (!name) are not taken", events->where);
    return STATUS_OK;
}

enum status
events_next(struct events *events, yaml_event_t *event)
{
    if (!yaml_parser_parse(&events->parser, event))
        return parser_trouble(events);
    place(events, event->start_mark.line);
    enum status status = check_event(events, event);
    if (status != STATUS_OK) {
        yaml_event_delete(event);
        return status_pass(status, __FILE__, __LINE__);
    }
    return STATUS_OK;
}

enum status
events_open(struct events *events, const char *name, const char *at, size_t bytes)
{
    TRY(check_bytes(name, at, bytes));
    memset(events, 0, sizeof *events);
    if (bytes >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0) { // a byte order mark
        at += 3;
        bytes -= 3;
    }
    if (!yaml_parser_initialize(&events->parser))
        return FAIL(CREATE, "%s: no memory to read it", name);
    events->name = name;
    yaml_parser_set_encoding(&events->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&events->parser, (const unsigned char *)at, bytes);
    return STATUS_OK;
}

void
events_close(struct events *events)
{
    yaml_parser_delete(&events->parser);
}

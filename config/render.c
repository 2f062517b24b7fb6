#include "config/render.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

// May it stand without quotes, for every reader of YAML 1.1 and 1.2? Rather too often no.
static bool
is_plain(const char *text)
{
    static const char *const reserved[] = {"true", "false", "yes", "no", "on",
                                           "off",  "null",  "y",   "n"};
    if (!isalpha((unsigned char)text[0]) && text[0] != '/')
        return false;
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (strcasecmp(text, reserved[i]) == 0)
            return false;
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._/+-", *c) && !(c[0] == ':' && c[1] == '/'))
            return false;
    return true;
}

// One code point of valid UTF-8; returns its bytes.
static size_t
code_point(uint32_t *out, const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    size_t length = c[0] < 0x80 ? 1 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
    uint32_t value = length == 1 ? c[0] : c[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++)
        value = value << 6 | (c[i] & 0x3f);
    *out = value;
    return length;
}

// Letters of any script stay readable; line ends and what YAML does not count as printable does
// not.
static void
write_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    while (*text) {
        uint32_t c;
        size_t length = code_point(&c, text);
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", (char)c);
        else if (c < 0xa0 && (c < 0x20 || c >= 0x7f))
            fprintf(out, "\\x%02x", c);
        else if (c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe || c == 0xffff)
            fprintf(out, "\\u%04x", c);
        else
            fwrite(text, 1, length, out);
        text += length;
    }
    fputc('"', out);
}

static void
write_word(FILE *out, const char *text)
{
    if (is_plain(text))
        fputs(text, out);
    else
        write_quoted(out, text);
}

static const struct texts *
list_of(const struct settings *set, const struct field *row)
{
    const void *at = (const char *)set + row->offset;
    return row->type == FIELD_TEXTS ? at : NULL;
}

void
render_value(FILE *out, const struct settings *set, const struct field *row)
{
    const struct texts *list = list_of(set, row);
    char text[FOLDER_BYTES];
    if (list) {
        fputc('[', out);
        for (size_t i = 0; i < list->count; i++) {
            fputs(i ? ", " : "", out);
            write_word(out, list->at[i]);
        }
        fputc(']', out);
        return;
    }
    field_print(text, sizeof text, set, row);
    if (row->type == FIELD_TEXT && (row->flags & FIELD_AUTO) && !text[0])
        fputs("auto", out);
    else if (row->type == FIELD_TEXT || row->type == FIELD_CHOICE)
        write_word(out, text);
    else
        fputs(text, out);
}

// What stands behind a value.
static void
write_remark(FILE *out, const struct config *config, const struct field *row, enum render style)
{
    if (style == RENDER_FROZEN) {
        write_quoted(out, config_origin(config, row)->where);
        return;
    }
    fputs(row->doc, out);
    if (row->type == FIELD_CHOICE)
        for (int i = 0; row->choices[i]; i++)
            fprintf(out, "%s%s", i ? ", " : "; one of ", row->choices[i]);
    else if (row->unit && !strstr(row->doc, row->unit))
        fprintf(out, " (%s)", row->unit);
}

enum { REMARK_COLUMN = 34 };

// `out` is memory, so that ftell counts.
static void
write_row(FILE *out, const struct config *config, const struct field *row, enum render style)
{
    const struct texts *list = list_of(&config->set, row);
    bool block = list && list->count > 0;
    long begin = ftell(out);
    fprintf(out, "  %s:", settings_key(row));
    if (!block) {
        fputc(' ', out);
        render_value(out, &config->set, row);
    }
    if (style == RENDER_COMMENTED || config_origin(config, row)->source != SOURCE_PRESET) {
        int used = (int)(ftell(out) - begin);
        fprintf(out, "%*s# ", used < REMARK_COLUMN ? REMARK_COLUMN - used : 1, "");
        write_remark(out, config, row, style);
    }
    fputc('\n', out);
    for (size_t i = 0; block && i < list->count; i++) {
        fputs("    - ", out);
        write_word(out, list->at[i]);
        fputc('\n', out);
    }
}

static void
write_all(FILE *out, const struct config *config, enum render style)
{
    const struct section *section = NULL;
    if (style == RENDER_COMMENTED)
        fputs("# Settings of an osae run: `osae run FILE` starts it, and goes on with it.\n"
              "# Every key stands here with its value; one that is deleted has its default.\n"
              "# `osae config --explain loss.lambda_s` says more about a key.\n",
              out);
    else
        fputs("# The settings this run was started with, all of them. A remark says where a value\n"
              "# came from that is not the default.\n",
              out);
    for (size_t i = 0; i < settings_count; i++) {
        const struct field *row = &settings_rows[i];
        if (settings_section(row) != section) {
            section = settings_section(row);
            fputc('\n', out);
            if (style == RENDER_COMMENTED)
                fprintf(out, "# %s\n", section->doc);
            fprintf(out, "%s:\n", section->name);
        }
        write_row(out, config, row, style);
    }
}

enum status
render_yaml(char **out, size_t *bytes, const struct config *config, enum render style)
{
    *out = NULL;
    FILE *to = open_memstream(out, bytes);
    if (!to)
        return FAIL(CREATE, "no memory to write the settings");
    write_all(to, config, style);
    bool failed = ferror(to) != 0;
    if (fclose(to) == 0 && !failed)
        return STATUS_OK;
    free(*out);
    *out = NULL;
    return FAIL(CREATE, "no memory to write the settings");
}

enum status
render_freeze(const struct config *config, const char *path)
{
    char *text;
    size_t bytes;
    TRY(render_yaml(&text, &bytes, config, RENDER_FROZEN));
    enum status status = file_replace(path, text, bytes);
    free(text);
    return status;
}

void
render_list(FILE *out, const struct config *config, bool changed)
{
    for (size_t i = 0; i < settings_count; i++) {
        const struct field *row = &settings_rows[i];
        const struct origin *origin = config_origin(config, row);
        if (changed && (origin->source == SOURCE_PRESET || settings_is_preset(&config->set, row)))
            continue;
        fprintf(out, "%-31s ", row->name);
        render_value(out, &config->set, row);
        fprintf(out, "   (%s)\n", origin->where);
    }
}

#include "config/explain.h"

#include "config/notes.h"
#include "config/render.h"

// The paper's numbered equations, with the names of the settings in them.
static const char *const equations[] = {
    [1] = "f = sigma(W_e x + b_e),  x_hat = W_d f + b_d",
    [2] = "L = |x - x_hat|^2 + lambda |f|_1",
    [3] = "c_ij = <f_i, f_j> / (|f_i| |f_j|) for i != j, over the rows of a batch",
    [4] = "L = |x - x_hat|^2 + lambda_s |f|_1 + lambda_o sum_ij c_ij 1[c_ij > theta] (w_i . w_j)^2",
    [5] = "L_2 = L_1 + alpha(t) lambda_s |f|_1,  alpha(t) = min(1, (t - t1) / (t2 - t1))",
    [6] = "L_3 = L_2 + competition term,  "
          "theta(t) = theta_start - (theta_start - theta_end) min(1, (t - t2) / T)",
    [7] = "L_temp = lambda_t |E(x_t) - E(x_{t-1})|^2,  E(x_{t-1}) a constant",
};
enum { EQUATIONS = sizeof equations / sizeof equations[0] };

const char *
explain_note(const struct field *row)
{
    for (size_t i = 0; i < notes_count; i++)
        if (strcmp(notes[i].key, row->name) == 0)
            return notes[i].text;
    return NULL;
}

// Through field_print, so that sizes are written as sizes.
static void
print_bound(char *out, size_t room, const struct field *row, double bound)
{
    struct {
        uint64_t whole;
        double real;
    } value = {(uint64_t)bound, bound};
    struct field as = {.name = row->name, .flags = row->flags & FIELD_SIZE};
    bool real = row->type == FIELD_F64;
    as.type = real ? FIELD_F64 : FIELD_U64;
    as.offset = real ? (size_t)((char *)&value.real - (char *)&value) : 0;
    field_print(out, room, &value, &as);
}

void
explain_range(char *out, size_t room, const struct field *row)
{
    const char *or_auto = row->flags & FIELD_AUTO ? ", or auto" : "";
    char low[32], high[32];
    size_t used;
    switch (row->type) {
    case FIELD_BOOL:
        snprintf(out, room, "true or false");
        return;
    case FIELD_CHOICE:
        used = (size_t)snprintf(out, room, "one of");
        for (int i = 0; row->choices[i] && used < room; i++)
            used +=
                (size_t)snprintf(out + used, room - used, "%s %s", i ? "," : "", row->choices[i]);
        return;
    case FIELD_TEXT:
        snprintf(out, room, "text of at most %zu bytes%s", row->bytes - 1, or_auto);
        return;
    case FIELD_TEXTS:
        snprintf(out, room, "a list of at most %d texts of at most %d bytes", TEXTS_MOST,
                 TEXT_BYTES - 1);
        return;
    default:
        print_bound(low, sizeof low, row, row->low);
        print_bound(high, sizeof high, row, row->high);
        used = (size_t)snprintf(out, room, "%s", low);
        if (row->high < 1e12) // beyond, it stands for "as many as you like"
            used += (size_t)snprintf(out + used, room - used, " to %s", high);
        else
            used += (size_t)snprintf(out + used, room - used, " or more");
        bool told = !row->unit || strcmp(row->unit, "bytes") == 0;
        const char *unit = told ? "" : row->flags & FIELD_SIZE ? "a second" : row->unit;
        snprintf(out + used, room - used, "%s%s%s", told ? "" : " ", unit, or_auto);
    }
}

// Breaks at blanks before the line is full.
static void
print_wrapped(FILE *out, const char *text, size_t width)
{
    size_t column = 0;
    while (*text) {
        size_t length = strcspn(text, " ");
        if (column > 0 && column + 1 + length > width) {
            fputc('\n', out);
            column = 0;
        }
        fputs(column ? " " : "  ", out);
        fwrite(text, 1, length, out);
        column += length + (column ? 1 : 2);
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

// Those whose number a text names: "eq. (3)", "eq. (5) and (6)".
static void
print_equations(FILE *out, const char *text)
{
    text = strstr(text, "eq. (");
    for (int i = 1; text && i < EQUATIONS; i++) {
        const char number[] = {'(', (char)('0' + i), ')', '\0'};
        if (strstr(text, number))
            fprintf(out, "  eq. (%d)     %s\n", i, equations[i]);
    }
}

void
explain_key(FILE *out, const struct config *config, const struct field *row)
{
    char range[256];
    const struct origin *origin = config_origin(config, row);
    explain_range(range, sizeof range, row);
    fprintf(out, "%s: ", row->name);
    render_value(out, &config->set, row);
    fprintf(out, "\n  %s\n\n", row->doc);
    fprintf(out, "  now         from %s\n", origin->where);
    fprintf(out, "  default     %s\n", row->preset[0] ? row->preset : "empty");
    fprintf(out, "  wanted      %s\n", range);
    print_equations(out, row->doc);
    char variable[64] = "OSAE_";
    size_t used = strlen(variable);
    for (const char *c = row->name; *c; c++) {
        variable[used++] = *c == '.' ? '_' : (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
        if (*c == '.')
            variable[used++] = '_';
    }
    variable[used] = '\0';
    fprintf(out, "  also set by --set %s=VALUE, %s=VALUE\n", row->name, variable);
    if (row->flags & FIELD_TRAJECTORY)
        fputs("  It decides the run's numbers: a run is continued only with the same value.\n",
              out);
    if (row->flags & FIELD_HOT)
        fputs("  It may be changed while the run goes on; the change is recorded with its step.\n",
              out);
    const char *note = explain_note(row);
    if (note) {
        fputc('\n', out);
        print_wrapped(out, note, 90);
    }
}

// A cell of a table: `|` would end it.
static void
print_cell(FILE *out, const char *text)
{
    for (; *text; text++)
        fprintf(out, *text == '|' ? "\\%c" : "%c", *text);
}

static void
page_section(FILE *out, const struct section *section)
{
    fprintf(out, "\n## %s\n\n%s.\n\n", section->name, section->doc);
    fputs("| key | default | wanted | what |\n|---|---|---|---|\n", out);
    for (size_t i = 0; i < settings_count; i++) {
        const struct field *row = &settings_rows[i];
        char range[256];
        if (settings_section(row) != section)
            continue;
        explain_range(range, sizeof range, row);
        fprintf(out, "| `%s`%s%s | %s%s%s | ", settings_key(row),
                row->flags & FIELD_TRAJECTORY ? " **t**" : "",
                row->flags & FIELD_HOT ? " **h**" : "", row->preset[0] ? "`" : "",
                row->preset[0] ? row->preset : "empty", row->preset[0] ? "`" : "");
        print_cell(out, range);
        fputs(" | ", out);
        print_cell(out, row->doc);
        fputs(" |\n", out);
    }
    bool first = true;
    for (size_t i = 0; i < settings_count; i++) {
        const struct field *row = &settings_rows[i];
        const char *note = explain_note(row);
        if (settings_section(row) != section || !note)
            continue;
        fprintf(out, "%s- `%s`: %s\n", first ? "\n" : "", settings_key(row), note);
        first = false;
    }
}

void
explain_page(FILE *out)
{
    fputs(
        "# Settings\n\n"
        "Written by `osae config --markdown` from the table in `config/settings.c`; do not "
        "edit.\n\n"
        "A config is a YAML file of sections; each key has a default, so a file says only what "
        "differs. `osae init` writes one with every key, `osae config FILE` shows what it comes to "
        "and where each value is from, `osae config --explain loss.lambda_s` says more about "
        "one.\n\n"
        "    osae run run.yaml --set loss.lambda_s=0.1 --set text.files='[a.jsonl, b.jsonl]'\n\n"
        "- **Which value counts**: default < file < environment (`OSAE_LOSS__LAMBDA_S=0.1`) < "
        "`--set loss.lambda_s=0.1`. `OSAE_CACHE` is `storage.cache`.\n"
        "- **`include: base.yaml`** as the first key of a file reads that one first; its path is "
        "relative to the file it stands in, and it may include another (4 deep).\n"
        "- **Paths** are relative to the folder the program was started in; `~/x` is in the home "
        "folder, `cache://x` in `storage.cache`.\n"
        "- **Lists** may be one word: `files: a.txt`.\n"
        "- **Sizes** take B, KiB, MiB, GiB, TiB. Switches are `true` and `false`.\n"
        "- **Endpoints** are `ipc:///path` (at most 100 bytes), `tcp://127.0.0.1:PORT` or "
        "`tcp://[::1]:PORT`; an empty one becomes `ipc://DIR/<run>.<process>.<link>` with DIR = "
        "`$XDG_RUNTIME_DIR/osae`, or `/tmp/osae-<uid>`.\n"
        "- A wrong value is one line, `run.yaml:14: loss.lambda_s is '-1', wanted a number from 0 "
        "to "
        "1000`, and exit code 78.\n"
        "- A file has at most 256 KiB; anchors, aliases, tags, merge keys, several documents and "
        "keys given twice are refused.\n\n"
        "**t** (trajectory): decides the numbers of a run, which is continued only with the same "
        "value. The keys of `text`, `model` and `stream` do the same through the identity of the "
        "stream. **h** (hot): may be changed while the run goes on.\n\n"
        "Equations are those of the paper:\n\n",
        out);
    for (int i = 1; i < EQUATIONS; i++)
        fprintf(out, "    (%d)  %s\n", i, equations[i]);
    for (size_t i = 0; i < settings_section_count; i++)
        page_section(out, &settings_sections[i]);
}

#include "front/report_table.h"

#include "lib/base/bytes.h"
#include "lib/base/field.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct cell {
    char text[CELL_BYTES];
};

struct report_table {
    const struct column *columns;
    size_t count, rows, room, next; // next: the cell to be set
    struct cell *cells;             // [rows x count]
};

enum status
report_table_new(struct report_table **out, const struct column *columns)
{
    struct report_table *table = *out = calloc(1, sizeof *table);
    if (!table)
        return FAIL(CREATE, "no memory for a table");
    table->columns = columns;
    while (columns[table->count].name)
        table->count++;
    assert(table->count <= TABLE_COLUMNS);
    return STATUS_OK;
}

void
report_table_free(struct report_table **table)
{
    if (*table)
        free((*table)->cells);
    free(*table);
    *table = NULL;
}

enum status
report_table_row(struct report_table *table)
{
    if (table->rows == table->room) {
        size_t room = table->room ? 2 * table->room : 16, bytes;
        struct cell *grown = NULL;
        if (times(&bytes, room * table->count, sizeof *grown))
            grown = realloc(table->cells, bytes);
        if (!grown)
            return FAIL(CREATE, "no memory for a table of %zu rows", room);
        table->cells = grown;
        table->room = room;
    }
    for (size_t i = 0; i < table->count; i++)
        snprintf(table->cells[table->rows * table->count + i].text, CELL_BYTES, "-");
    table->rows++;
    table->next = 0;
    return STATUS_OK;
}

static char *
next_cell(struct report_table *table)
{
    assert(table->rows > 0 && table->next < table->count);
    return table->cells[(table->rows - 1) * table->count + table->next++].text;
}

void
report_table_words(struct report_table *table, const char *words)
{
    char *cell = next_cell(table);
    if (*words)
        snprintf(cell, CELL_BYTES, "%.*s", CELL_BYTES - 1, words);
    words_clean(cell); // also what the cut left of a letter
}

void
report_table_number(struct report_table *table, double value, int decimals)
{
    number_print(next_cell(table), value, decimals);
}

void
report_table_share(struct report_table *table, double part, double whole)
{
    char *cell = next_cell(table), number[CELL_BYTES];
    if (!isfinite(part) || !(whole > 0))
        return;
    number_print(number, 100 * part / whole, 1);
    snprintf(cell, CELL_BYTES, "%.40s %%", number);
}

// ---------------------------------------------------------------- printing

static const char *
cell_at(const struct report_table *table, size_t row, size_t column)
{
    return table->cells[row * table->count + column].text;
}

static void
spaces(FILE *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fputc(' ', out);
}

static void
padded(FILE *out, const char *text, size_t width, bool left)
{
    size_t used = words_width(text), gap = used < width ? width - used : 0;
    if (!left)
        spaces(out, gap);
    fputs(text, out);
    if (left)
        spaces(out, gap);
}

static bool
same_group(const struct report_table *table, size_t a, size_t b)
{
    const char *x = table->columns[a].group, *y = table->columns[b].group;
    return x && y && strcmp(x, y) == 0;
}

// How far the group that begins at `from` goes: the column behind it.
static size_t
group_end(const struct report_table *table, size_t from)
{
    size_t end = from + 1;
    while (end < table->count && same_group(table, from, end))
        end++;
    return end;
}

// "-- CE ------" over its columns.
static void
print_groups(FILE *out, const struct report_table *table, const size_t *width)
{
    size_t owed = 0; // spaces, printed only when something follows
    for (size_t i = 0, end; i < table->count; i = end) {
        size_t all = 0;
        end = group_end(table, i);
        for (size_t c = i; c < end; c++)
            all += width[c] + (c > i ? 2 : 0);
        owed += i > 0 ? 2 : 0;
        const char *group = table->columns[i].group;
        if (!group) {
            owed += all;
            continue;
        }
        spaces(out, owed);
        size_t used = words_width(group), bars = all > used ? all - used : 0;
        if (end - i > 1 && bars > 3) {
            size_t before = (bars - 2) / 2;
            for (size_t b = 0; b < before; b++)
                fputs("\xe2\x94\x80", out);
            fprintf(out, " %s ", group);
            for (size_t b = before; b < bars - 2; b++)
                fputs("\xe2\x94\x80", out);
        } else {
            padded(out, group, all, false);
        }
        owed = 0;
    }
    fputc('\n', out);
}

static void
print_text(FILE *out, const struct report_table *table)
{
    size_t width[TABLE_COLUMNS];
    bool groups = false;
    for (size_t c = 0; c < table->count; c++) {
        width[c] = words_width(table->columns[c].name);
        groups |= table->columns[c].group != NULL;
        for (size_t r = 0; r < table->rows; r++)
            if (words_width(cell_at(table, r, c)) > width[c])
                width[c] = words_width(cell_at(table, r, c));
    }
    if (groups)
        print_groups(out, table, width);
    for (size_t r = 0; r <= table->rows; r++) {
        for (size_t c = 0; c < table->count; c++) {
            const struct column *column = &table->columns[c];
            bool last = c + 1 == table->count;
            spaces(out, c ? 2 : 0);
            padded(out, r ? cell_at(table, r - 1, c) : column->name,
                   last && column->left ? 0 : width[c], column->left);
        }
        fputc('\n', out);
    }
}

static void
print_markdown(FILE *out, const struct report_table *table)
{
    for (size_t c = 0; c < table->count; c++) {
        const struct column *column = &table->columns[c];
        fputs("| ", out);
        if (column->group)
            fprintf(out, "%s ", column->group);
        words_print(out, column->name, TABLE_MARKDOWN);
        fputc(' ', out);
    }
    fputs("|\n", out);
    for (size_t c = 0; c < table->count; c++)
        fputs(table->columns[c].left ? "|---" : "|--:", out);
    fputs("|\n", out);
    for (size_t r = 0; r < table->rows; r++) {
        for (size_t c = 0; c < table->count; c++) {
            fputs("| ", out);
            words_print(out, cell_at(table, r, c), TABLE_MARKDOWN);
            fputc(' ', out);
        }
        fputs("|\n", out);
    }
}

static void
print_html(FILE *out, const struct report_table *table)
{
    fputs("<div class=\"wide\"><table>\n<thead>", out);
    bool groups = false;
    for (size_t c = 0; c < table->count; c++)
        groups |= table->columns[c].group != NULL;
    if (groups) {
        fputs("<tr>", out);
        for (size_t c = 0, end; c < table->count; c = end) {
            end = group_end(table, c);
            const char *group = table->columns[c].group;
            fprintf(out, "<th class=\"%s\" colspan=\"%zu\">%s</th>", group ? "group" : "", end - c,
                    group ? group : "");
        }
        fputs("</tr>\n", out);
    }
    for (size_t r = 0; r <= table->rows; r++) {
        fputs("<tr>", out);
        for (size_t c = 0; c < table->count; c++) {
            const char *tag = r == 0 || c == 0 ? "th" : "td";
            fprintf(out, "<%s%s>", tag, table->columns[c].left ? " class=\"left\"" : "");
            words_print(out, r ? cell_at(table, r - 1, c) : table->columns[c].name, TABLE_HTML);
            fprintf(out, "</%s>", tag);
        }
        fputs(r == 0 ? "</tr></thead>\n<tbody>\n" : "</tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

void
report_table_print(FILE *out, const struct report_table *table, enum table_style style)
{
    if (style == TABLE_TEXT)
        print_text(out, table);
    else if (style == TABLE_MARKDOWN)
        print_markdown(out, table);
    else
        print_html(out, table);
}

// ---------------------------------------------------------------- words and numbers

void
number_print(char out[CELL_BYTES], double value, int decimals)
{
    if (!isfinite(value)) {
        snprintf(out, CELL_BYTES, "-");
        return;
    }
    if (decimals < 0) {
        double size = fabs(value);
        decimals = size >= 1000 || value == 0 ? 0 : size >= 1 ? 3 - (int)floor(log10(size)) : 4;
        if (value != 0 && size < 0.001)
            decimals = size < 1e-9 ? 12 : 3 - (int)floor(log10(size));
    }
    char plain[400];
    int length = snprintf(plain, sizeof plain, "%.*f", decimals, fabs(value));
    size_t whole = strcspn(plain, "."), used = 0;
    bool zero = strspn(plain, "0.") == (size_t)length;
    if (length > 60) { // nothing we measure is that large
        snprintf(out, CELL_BYTES, "%.3e", value);
        return;
    }
    if (value < 0 && !zero)
        out[used++] = '-';
    for (size_t i = 0; plain[i]; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = plain[i];
    }
    out[used] = '\0';
}

void
duration_print(char out[CELL_BYTES], double seconds)
{
    if (!(seconds >= 0) || seconds > 1e12) {
        snprintf(out, CELL_BYTES, "-");
        return;
    }
    unsigned long long s = (unsigned long long)(seconds + 0.5);
    if (seconds < 9.95)
        snprintf(out, CELL_BYTES, "%.1f s", seconds);
    else if (s < 60)
        snprintf(out, CELL_BYTES, "%llu s", s);
    else if (s < 3600)
        snprintf(out, CELL_BYTES, "%llu min %llu s", s / 60, s % 60);
    else
        snprintf(out, CELL_BYTES, "%llu h %llu min", s / 3600, s % 3600 / 60);
}

void
words_clean(char *text)
{
    size_t bytes = strlen(text);
    for (size_t i = 0; i < bytes;) {
        size_t most = bytes - i < 4 ? bytes - i : 4, length = 1;
        while (length <= most && !utf8_valid(text + i, length))
            length++;
        unsigned char first = (unsigned char)text[i];
        bool c1 = first == 0xc2 && length == 2 && (unsigned char)text[i + 1] < 0xa0;
        if (length > most || first < 0x20 || first == 0x7f || c1) {
            text[i] = '?';
            if (c1)
                text[i + 1] = '?';
            length = c1 ? 2 : 1;
        }
        i += length;
    }
}

size_t
words_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void
words_print(FILE *out, const char *text, enum table_style style)
{
    for (; *text; text++) {
        const char *instead = NULL;
        if (style == TABLE_HTML && *text == '<')
            instead = "&lt;";
        else if (style == TABLE_HTML && *text == '>')
            instead = "&gt;";
        else if (style == TABLE_HTML && *text == '&')
            instead = "&amp;";
        else if (style == TABLE_HTML && *text == '"')
            instead = "&quot;";
        else if (style == TABLE_MARKDOWN && strchr("|<*_`[\\", *text))
            fputc('\\', out);
        if (instead)
            fputs(instead, out);
        else
            fputc(*text, out);
    }
}

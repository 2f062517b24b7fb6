// report_table: cells in columns, once, and printed as aligned text, as Markdown or as HTML.
// Numbers stand to the right; what does not exist is "-".
#ifndef FRONT_REPORT_TABLE_H
#define FRONT_REPORT_TABLE_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS = 16, CELL_BYTES = 96 };
enum table_style { TABLE_TEXT, TABLE_MARKDOWN, TABLE_HTML };

// A column belongs to a group of neighbours under one heading ("CE"), or to none (NULL). `name`
// NULL ends the list.
struct column {
    const char *group, *name;
    bool left; // words, not numbers
};

struct report_table;

// `columns` is borrowed.
CHECKED enum status report_table_new(struct report_table **out, const struct column *columns);
void report_table_free(struct report_table **table);
CHECKED enum status report_table_row(struct report_table *table); // all "-"
// Sets the next cell of the newest row; a number that is not finite stays "-".
void report_table_words(struct report_table *table, const char *words);
void report_table_number(struct report_table *table, double value, int decimals);
void report_table_share(struct report_table *table, double part, double whole); // in percent
void report_table_print(FILE *out, const struct report_table *table, enum table_style style);

// 12,345,678; decimals < 0: four significant digits, no exponent; not finite: "-".
void number_print(char out[CELL_BYTES], double value, int decimals);
// "3 min 12 s"
void duration_print(char out[CELL_BYTES], double seconds);

// Text of files by others: control bytes and what is no UTF-8 become '?'.
void words_clean(char *text);
// How many columns a clean text takes on a terminal.
size_t words_width(const char *text);
// A clean text inside HTML or Markdown.
void words_print(FILE *out, const char *text, enum table_style style);

#endif

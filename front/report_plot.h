// report_plot: one quantity over steps as a self-contained SVG, or as a line of block characters.
// Colours are the classes s0..s7 of the page's style sheet, so one plot serves light and dark.
#ifndef FRONT_REPORT_PLOT_H
#define FRONT_REPORT_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct plot_point {
    double x, y; // y NaN: a gap
};

enum { PLOT_SERIES = 16, PLOT_COLOURS = 8, PLOT_LINE_POINTS = 300, PLOT_MARKS = 4 };
struct plot_series {
    const char *name;
    const struct plot_point *at; // by x
    size_t count;
    bool dots; // the points themselves matter (scores), not only their course
    size_t colour;
};

struct plot {
    const char *title, *doc;
    bool log; // y on a logarithmic axis; falls back to linear where a value is not positive
    size_t count;
    struct plot_series series[PLOT_SERIES];
    size_t marks; // vertical lines, with a word each
    struct {
        double x;
        const char *word;
    } mark[PLOT_MARKS];
};

// false when there is nothing to draw.
bool report_plot_svg(FILE *out, const struct plot *plot);

// `width` block characters, low to high; buckets of several points show their mean. The text has
// room for 3 * width + 1 bytes.
void report_plot_spark(char *out, size_t width, const struct plot_point *at, size_t count,
                       bool log);
// Is the range wide enough for a logarithmic axis (all positive, a factor of 20)?
bool report_plot_wants_log(const struct plot_point *at, size_t count);

#endif

#include "front/report_plot.h"

#include "front/report_table.h"

#include <assert.h>
#include <float.h>
#include <math.h>

// The picture, in its own units: the text is 12 of them high.
enum { WIDE = 460, HIGH = 230, LEFT = 52, RIGHT = 14, TOP = 14, BOTTOM = 30 };
#define LOG_FACTOR 20.0

struct axis {
    double low, high; // of the data, or their log10
    bool log;
    double step; // between ticks
};

static double
on_axis(const struct axis *axis, double value)
{
    return axis->log ? log10(value) : value;
}

// 1, 2 or 5 times a power of ten: about `ticks` of them in the range.
static double
nice_step(double range, int ticks)
{
    double raw = range / ticks, power = pow(10, floor(log10(raw))), lead = raw / power;
    return power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

// The nearest 1 or 3 times a power of ten below or above; in and out as log10.
static double
log_end(double value, bool above)
{
    const double three = log10(3);
    double power = floor(value), rest = value - power;
    if (above)
        return power + (rest <= 0 ? 0 : rest <= three ? three : 1);
    return power + (rest >= three ? three : 0);
}

static struct axis
axis_of(double low, double high, bool log, int ticks)
{
    struct axis axis = {low, high, log, 1};
    if (log) {
        axis.low = log_end(log10(low), false);
        axis.high = log_end(log10(high), true);
        return axis;
    }
    if (!(high > low)) {
        double slack = fabs(low) > 0 ? fabs(low) * 0.1 : 1;
        axis.low -= slack;
        axis.high += slack;
    }
    axis.step = nice_step(axis.high - axis.low, ticks);
    axis.low = floor(axis.low / axis.step) * axis.step;
    axis.high = ceil(axis.high / axis.step) * axis.step;
    return axis;
}

static bool
range_of(const struct plot *plot, struct plot_point *low, struct plot_point *high)
{
    *low = (struct plot_point){DBL_MAX, DBL_MAX};
    *high = (struct plot_point){-DBL_MAX, -DBL_MAX};
    for (size_t s = 0; s < plot->count; s++)
        for (size_t i = 0; i < plot->series[s].count; i++) {
            struct plot_point p = plot->series[s].at[i];
            if (!isfinite(p.y) || !isfinite(p.x) || fabs(p.y) > 1e30)
                continue;
            low->x = p.x < low->x ? p.x : low->x;
            low->y = p.y < low->y ? p.y : low->y;
            high->x = p.x > high->x ? p.x : high->x;
            high->y = p.y > high->y ? p.y : high->y;
        }
    return low->x <= high->x;
}

static double
place_x(const struct axis *axis, double x)
{
    return LEFT + (x - axis->low) / (axis->high - axis->low) * (WIDE - LEFT - RIGHT);
}

static double
place_y(const struct axis *axis, double y)
{
    double share = (on_axis(axis, y) - axis->low) / (axis->high - axis->low);
    return HIGH - BOTTOM - share * (HIGH - TOP - BOTTOM);
}

// 0.25, 12, 1,200, 35k, 1.2M: short enough for the margin.
static void
tick_print(char out[CELL_BYTES], double value, double step)
{
    double size = fabs(value);
    const char *unit = size >= 1e6 ? "M" : size >= 1e4 ? "k" : "";
    double by = size >= 1e6 ? 1e6 : size >= 1e4 ? 1e3 : 1, fine = step / by;
    char number[CELL_BYTES];
    int decimals = fine >= 0.999 ? 0 : (int)ceil(-log10(fine) - 1e-9);
    number_print(number, value / by, decimals > 6 ? -1 : decimals);
    snprintf(out, CELL_BYTES, "%.40s%s", number, unit);
}

static void
tick_y(FILE *out, const struct axis *y, double value, double step)
{
    char text[CELL_BYTES];
    double at = place_y(y, value);
    tick_print(text, value, step);
    fprintf(out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT,
            WIDE - RIGHT, at, at);
    fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 8, at + 4,
            text);
}

static void
draw_axes(FILE *out, const struct axis *x, const struct axis *y)
{
    char text[CELL_BYTES];
    if (y->log) {
        bool few = y->high - y->low < 2.1;
        int stride = 1 + (int)((y->high - y->low) / 6);
        for (int power = (int)floor(y->low); power <= (int)ceil(y->high); power += stride)
            for (int lead = 1; lead < 10; lead = lead == 1 ? 3 : 10) {
                double value = lead * pow(10, power), at = log10(value);
                if (at > y->low - 1e-9 && at < y->high + 1e-9 && (lead == 1 || few))
                    tick_y(out, y, value, pow(10, power));
            }
    } else {
        int ticks = (int)lround((y->high - y->low) / y->step);
        for (int i = 0; i <= ticks; i++)
            tick_y(out, y, y->low + i * y->step, y->step);
    }
    bool first = true;
    for (double at = ceil(x->low / x->step - 1e-9) * x->step; at <= x->high + 1e-9 * x->step;
         at += x->step) {
        tick_print(text, at, x->step);
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s%s</text>\n",
                place_x(x, at), HIGH - BOTTOM + 18, first ? "step " : "", text);
        first = false;
    }
}

static void
draw_marks(FILE *out, const struct plot *plot, const struct axis *x)
{
    for (size_t i = 0; i < plot->marks; i++) {
        double at = place_x(x, plot->mark[i].x);
        if (plot->mark[i].x <= x->low || plot->mark[i].x >= x->high)
            continue;
        fprintf(out,
                "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
                "<text class=\"mark\" x=\"%.1f\" y=\"%d\">%s</text>\n",
                at, at, TOP, HIGH - BOTTOM, at + 4, TOP + 9, plot->mark[i].word);
    }
}

// The mean of the points that fall into bucket b of n; NaN when none is finite.
static struct plot_point
bucket(const struct plot_point *at, size_t count, size_t b, size_t n)
{
    size_t from = b * count / n, to = (b + 1) * count / n, used = 0;
    struct plot_point mean = {0, 0};
    for (size_t i = from; i < to || i == from; i++) {
        if (i >= count || !isfinite(at[i].y))
            continue;
        mean.x += at[i].x;
        mean.y += at[i].y;
        used++;
    }
    return used ? (struct plot_point){mean.x / (double)used, mean.y / (double)used}
                : (struct plot_point){at[from].x, (double)NAN};
}

static void
draw_line(FILE *out, const struct plot_series *series, const struct axis *x, const struct axis *y)
{
    size_t n = series->count < PLOT_LINE_POINTS ? series->count : PLOT_LINE_POINTS;
    bool pen = false;
    fprintf(out, "<path class=\"line s%zu\" d=\"", series->colour % PLOT_COLOURS);
    for (size_t i = 0; i < n; i++) {
        struct plot_point p = bucket(series->at, series->count, i, n);
        if (!isfinite(p.y) || fabs(p.y) > 1e30) {
            pen = false;
            continue;
        }
        fprintf(out, "%c%.1f %.1f", pen ? 'L' : 'M', place_x(x, p.x), place_y(y, p.y));
        pen = true;
    }
    fputs("\"/>\n", out);
}

static void
draw_dots(FILE *out, const struct plot_series *series, const struct axis *x, const struct axis *y)
{
    for (size_t i = 0; i < series->count; i++) {
        struct plot_point p = series->at[i];
        char step[CELL_BYTES], value[CELL_BYTES];
        if (!isfinite(p.y) || fabs(p.y) > 1e30)
            continue;
        number_print(step, p.x, 0);
        number_print(value, p.y, -1);
        fprintf(out, "<circle class=\"dot s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>",
                series->colour % PLOT_COLOURS, place_x(x, p.x), place_y(y, p.y));
        words_print(out, series->name, TABLE_HTML);
        fprintf(out, ", step %s: %s</title></circle>\n", step, value);
    }
}

bool
report_plot_svg(FILE *out, const struct plot *plot)
{
    struct plot_point low, high;
    if (!range_of(plot, &low, &high))
        return false;
    bool log = plot->log && low.y > 0 && high.y >= LOG_FACTOR * low.y;
    struct axis x = axis_of(low.x < high.x ? 0 : low.x, high.x, false, 5);
    if (low.x < high.x) { // the last step is the end of the picture, not the next round number
        x.low = 0;
        x.high = high.x;
    }
    struct axis y = axis_of(low.y, high.y, log, 4);
    fprintf(out,
            "<figure><figcaption><b>%s</b> %s%s</figcaption>\n<svg viewBox=\"0 0 %d %d\" "
            "role=\"img\" aria-label=\"%s over steps\">\n",
            plot->title, plot->doc, log ? ", logarithmic" : "", WIDE, HIGH, plot->title);
    draw_axes(out, &x, &y);
    draw_marks(out, plot, &x);
    for (size_t s = 0; s < plot->count; s++)
        draw_line(out, &plot->series[s], &x, &y);
    for (size_t s = 0; s < plot->count; s++)
        if (plot->series[s].dots)
            draw_dots(out, &plot->series[s], &x, &y);
    fputs("</svg></figure>\n", out);
    return true;
}

bool
report_plot_wants_log(const struct plot_point *at, size_t count)
{
    double low = DBL_MAX, high = -DBL_MAX;
    for (size_t i = 0; i < count; i++)
        if (isfinite(at[i].y)) {
            low = at[i].y < low ? at[i].y : low;
            high = at[i].y > high ? at[i].y : high;
        }
    return low > 0 && low <= high && high >= LOG_FACTOR * low;
}

void
report_plot_spark(char *out, size_t width, const struct plot_point *at, size_t count, bool log)
{
    static const char *const blocks[] = {"\xe2\x96\x81", "\xe2\x96\x82", "\xe2\x96\x83",
                                         "\xe2\x96\x84", "\xe2\x96\x85", "\xe2\x96\x86",
                                         "\xe2\x96\x87", "\xe2\x96\x88"};
    double low = DBL_MAX, high = -DBL_MAX;
    size_t n = count < width ? count : width, used = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i++) {
            double y = bucket(at, count, i, n).y;
            y = log && y > 0 ? log10(y) : y;
            if (pass == 0 && isfinite(y)) {
                low = y < low ? y : low;
                high = y > high ? y : high;
            } else if (pass == 1) {
                double share = high > low ? (y - low) / (high - low) : 0;
                const char *block = isfinite(y) ? blocks[(size_t)(share * 7 + 0.5)] : " ";
                size_t bytes = isfinite(y) ? 3 : 1;
                for (size_t b = 0; b < bytes; b++)
                    out[used++] = block[b];
            }
        }
    assert(used <= 3 * width);
    out[used] = '\0';
}

/*
 * report_chart.c: charts as inline SVG, and the style sheet they share with the page.
 *
 * A plot has a fixed size in units of its own and is scaled to the page's
 * column; colours are the style sheet's, by class, so that one drawing serves
 * light and dark. Coordinates are rounded to a tenth.
 */
#include "postgres.h"

#include <math.h>

#include "extension/report_page.h"

#define WIDTH  420.0
#define HEIGHT 290.0
#define LEFT   52.0
#define RIGHT  14.0
#define TOP    26.0
#define BOTTOM 44.0
#define TICKS  5

#define SCALED 440.0 /* drawings up to this width shrink with the page; wider ones scroll */

#define BAR_ROW     34.0
#define BAR_COLUMNS 50 /* of a label */

const char *const moe_html_style =
    ":root{color-scheme:light dark;--page:#f5f5f2;--card:#fcfcfb;--ink:#1c1c1a;--soft:#5b5a55;--line:#dddcd6;"
    "--c1:#2a78d6;--c2:#b25a00;--c3:#1a8a60;--c4:#6a4fc4;--c5:#c2413f;--c6:#8a6d00;--bar:#2a78d6}\n"
    "@media (prefers-color-scheme:dark){:root{--page:#121211;--card:#1c1c1b;--ink:#eeede8;--soft:#a8a69e;"
    "--line:#3a3936;--c1:#5a9ff0;--c2:#f09a4a;--c3:#40bb8a;--c4:#a594f5;--c5:#f07d7a;--c6:#d0b040;--bar:#4a90e6}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n"
    "main{max-width:960px;margin:0 auto;padding:24px 16px 48px}\n"
    "h1{font-size:26px;line-height:1.2;margin:0 0 8px;overflow-wrap:anywhere}h2{font-size:18px;margin:0 0 12px}\n"
    "p{margin:0 0 12px;overflow-wrap:anywhere}.soft,.note{color:var(--soft)}.note{font-size:13px;margin:6px 0 0}\n"
    "section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:16px;margin:16px 0}\n"
    "pre{background:var(--page);border-radius:6px;padding:12px;margin:0 0 12px;white-space:pre-wrap;"
    "overflow-wrap:anywhere;max-height:20em;overflow-y:auto;font:13px/1.5 ui-monospace,monospace}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:20px 28px}\n"
    "figure{margin:0;min-width:0}figcaption{font-weight:600;margin:0 0 6px}\n"
    "svg{display:block;width:100%;height:auto;max-width:520px;font:13px system-ui,sans-serif}\n"
    ".scroll{overflow-x:auto}.scroll svg{max-width:none;width:auto}.scroll "
    "table{width:auto;min-width:min(100%,520px)}\n"
    "table{border-collapse:collapse;width:100%;font-size:14px}caption{text-align:left;font-weight:600;padding:0 0 "
    "6px}\n"
    "th,td{text-align:left;padding:5px 8px;border-bottom:1px solid var(--line);vertical-align:top}\n"
    "th{color:var(--soft);font-weight:500}td.number,th.number{text-align:right;white-space:nowrap;"
    "font-variant-numeric:tabular-nums}td.best{font-weight:700}"
    "@media (max-width:480px){table{font-size:13px}th,td{padding:5px 4px}section{padding:14px 12px}}\n"
    ".facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,150px),1fr));gap:10px 24px;margin:0}\n"
    ".facts div{min-width:0}dt{color:var(--soft);font-size:13px}dd{margin:0;overflow-wrap:anywhere}\n"
    ".legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 14px;margin:6px 0 0;padding:0;font-size:13px}\n"
    ".legend i{display:inline-block;width:12px;height:3px;margin-right:6px;vertical-align:middle}\n"
    ".key1{background:var(--c1)}.key2{background:var(--c2)}.key3{background:var(--c3)}.key4{background:var(--c4)}"
    ".key5{background:var(--c5)}.key6{background:var(--c6)}.keyd{background:var(--soft)}\n"
    "text{fill:var(--ink)}text.s{fill:var(--soft)}.e{text-anchor:end}.m{text-anchor:middle}text.b{font-weight:600}\n"
    ".rule{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}\n"
    ".l{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\n"
    ".l1{stroke:var(--c1)}.l2{stroke:var(--c2)}.l3{stroke:var(--c3)}.l4{stroke:var(--c4)}.l5{stroke:var(--c5)}"
    ".l6{stroke:var(--c6)}.ld{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4}\n"
    ".d1{fill:var(--c1)}.d2{fill:var(--c2)}.d3{fill:var(--c3)}.d4{fill:var(--c4)}.d5{fill:var(--c5)}.d6{fill:var(--c6)}"
    ".ds{fill:var(--c1);fill-opacity:.35}.bar{fill:var(--bar)}.less{fill:var(--c2)}.quiet{fill:var(--soft);fill-"
    "opacity:.6}\n"
    ".cell{fill:var(--bar)}.frame{fill:none;stroke:var(--line)}\n"
    ".box{fill:var(--page);stroke:var(--soft)}.entity{stroke:var(--c1);stroke-width:2}"
    ".edge{fill:none;stroke:var(--soft);stroke-width:1.3}.head{fill:var(--soft)}\n"
    "@media print{section{break-inside:avoid}}\n";

/* The distance between marks: 1, 2 or 5 times a power of ten. */
static double
step_of(const moe_axis *axis)
{
    double rough = (axis->high - axis->low) / TICKS;
    double power = pow(10, floor(log10(rough)));
    double step = rough / power <= 1   ? power
                  : rough / power <= 2 ? 2 * power
                  : rough / power <= 5 ? 5 * power
                                       : 10 * power;

    return axis->whole ? Max(step, 1) : step;
}

/* Make a range that has a length and ends at marks. */
static void
widen(moe_axis *axis)
{
    if (!(axis->high - axis->low > 1e-9 * Max(fabs(axis->low), fabs(axis->high))))
    {
        double by = axis->whole || axis->low == 0 ? 1 : fabs(axis->low) / 10;

        axis->low -= axis->whole ? 0 : by;
        axis->high += by;
    }
    axis->step = step_of(axis);
    if (axis->whole)
        return;
    axis->low = floor(axis->low / axis->step + 1e-9) * axis->step;
    axis->high = ceil(axis->high / axis->step - 1e-9) * axis->step;
}

static double
tenth(double value)
{
    return rint(value * 10) / 10 + 0.0;
}

static double
place(const moe_axis *axis, double value, double from, double to)
{
    double share = (Max(axis->low, Min(value, axis->high)) - axis->low) / (axis->high - axis->low);

    return tenth(from + share * (to - from));
}

static double
x_of(const moe_chart *chart, double x)
{
    return place(&chart->x, x, LEFT, WIDTH - RIGHT);
}

static double
y_of(const moe_chart *chart, double y)
{
    return place(&chart->y, y, HEIGHT - BOTTOM, TOP);
}

/* The number at a mark, as short as the step allows. */
static const char *
tick_text(double value, double step)
{
    static const char *const suffix[] = {"", "k", "M", "G", "T"};
    double size = Max(fabs(value), step);
    int thousands = 0, decimals;

    if (fabs(value) < step / 2)
        return "0";
    if (size >= 1e15 || size < 1e-4)
        return psprintf("%.3g", value);
    while (size >= 10000 && step >= 10 && thousands < 4)
    {
        size /= 1000;
        step /= 1000;
        value /= 1000;
        thousands++;
    }
    decimals = step >= 1 ? 0 : (int) ceil(-log10(step) - 1e-9);
    return psprintf("%s%.*f%s", value < 0 ? "&#x2212;" : "", decimals, fabs(value), suffix[thousands]);
}

static void
draw_x_axis(const moe_chart *chart)
{
    double step = chart->x.step;

    for (double t = ceil(chart->x.low / step - 1e-9); t * step <= chart->x.high + step * 1e-9; t++)
        appendStringInfo(chart->out, "<text class=\"s m\" x=\"%g\" y=\"%g\">%s</text>\n", x_of(chart, t * step),
                         HEIGHT - BOTTOM + 17, tick_text(t * step, step));
    appendStringInfo(chart->out, "<text class=\"s m\" x=\"%g\" y=\"%g\">%s</text>\n", (LEFT + WIDTH - RIGHT) / 2,
                     HEIGHT - 8, chart->x.label);
}

static void
draw_y_axis(const moe_chart *chart)
{
    double step = chart->y.step;

    for (double t = ceil(chart->y.low / step - 1e-9); t * step <= chart->y.high + step * 1e-9; t++)
    {
        double y = y_of(chart, t * step);

        appendStringInfo(chart->out, "<line class=\"rule\" x1=\"%g\" x2=\"%g\" y1=\"%g\" y2=\"%g\"/>", LEFT,
                         WIDTH - RIGHT, y, y);
        appendStringInfo(chart->out, "<text class=\"s e\" x=\"%g\" y=\"%g\">%s</text>\n", LEFT - 7, y + 4,
                         tick_text(t * step, step));
    }
    appendStringInfo(chart->out, "<text class=\"s\" x=\"2\" y=\"12\">%s</text>\n", chart->y.label);
}

static void
begin_figure(StringInfo out, const char *title)
{
    appendStringInfo(out, "<figure>\n<figcaption>%s</figcaption>\n", title);
}

static void
end_figure(StringInfo out, const char *note)
{
    if (note != NULL)
        appendStringInfo(out, "<p class=\"note\">%s</p>\n", note);
    appendStringInfoString(out, "</figure>\n");
}

void
moe_chart_begin(moe_chart *chart, StringInfo out, const char *title, moe_axis x, moe_axis y)
{
    *chart = (moe_chart){out, x, y};
    widen(&chart->x);
    widen(&chart->y);
    begin_figure(out, title);
    appendStringInfo(out, "<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">\n", WIDTH, HEIGHT, title);
    draw_x_axis(chart);
    draw_y_axis(chart);
    appendStringInfo(out, "<line class=\"axis\" x1=\"%g\" x2=\"%g\" y1=\"%g\" y2=\"%g\"/>\n", LEFT, WIDTH - RIGHT,
                     HEIGHT - BOTTOM, HEIGHT - BOTTOM);
}

void
moe_chart_line(const moe_chart *chart, const char *kind, int n, const double *x, const double *y)
{
    appendStringInfo(chart->out, "<polyline class=\"l %s\" points=\"", kind);
    for (int i = 0; i < n; i++)
        appendStringInfo(chart->out, "%s%g,%g", i == 0 ? "" : " ", x_of(chart, x[i]), y_of(chart, y[i]));
    appendStringInfoString(chart->out, "\"/>\n");
}

void
moe_chart_dot(const moe_chart *chart, const char *kind, double x, double y, double radius)
{
    appendStringInfo(chart->out, "<circle class=\"%s\" cx=\"%g\" cy=\"%g\" r=\"%g\"/>\n", kind, x_of(chart, x),
                     y_of(chart, y), tenth(radius));
}

void
moe_chart_column(const moe_chart *chart, double from, double to, double y)
{
    double left = x_of(chart, from), top = y_of(chart, y);

    /* A hair of surface between neighbours. */
    appendStringInfo(chart->out, "<rect class=\"bar\" x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\"/>\n", left + 0.5,
                     top, tenth(Max(x_of(chart, to) - left - 1, 0.5)), tenth(y_of(chart, 0) - top));
}

void
moe_chart_end(const moe_chart *chart, const char *note)
{
    appendStringInfoString(chart->out, "</svg>\n");
    end_figure(chart->out, note);
}

/* One bar with its label and value above. */
static void
draw_bar(StringInfo out, const moe_bar *bar, const moe_axis *axis, double top, bool share)
{
    double zero = place(axis, 0, 1, WIDTH - 1);
    double end = isnan(bar->value) ? zero : place(axis, bar->value, 1, WIDTH - 1);

    appendStringInfo(out, "<text x=\"1\" y=\"%g\">", top + 12);
    moe_html_short(out, bar->label, BAR_COLUMNS);
    appendStringInfo(out, "</text><text class=\"e\" x=\"%g\" y=\"%g\">", WIDTH - 1, top + 12);
    if (share)
        appendStringInfo(out, "%.1f%%", 100 * bar->value);
    else
        moe_html_number(out, bar->value);
    appendStringInfoString(out, "</text>");
    appendStringInfo(out, "<rect class=\"%s\" x=\"%g\" y=\"%g\" width=\"%g\" height=\"9\" rx=\"2\"/>\n",
                     end < zero   ? "less"
                     : bar->quiet ? "quiet"
                                  : "bar",
                     Min(zero, end), top + 17, tenth(Max(fabs(end - zero), 0.5)));
    if (axis->low < 0)
        appendStringInfo(out, "<line class=\"axis\" x1=\"%g\" x2=\"%g\" y1=\"%g\" y2=\"%g\"/>\n", zero, zero, top + 15,
                         top + 28);
}

void
moe_html_bars(StringInfo out, const char *title, const moe_bar *bars, int n, bool share, const char *note)
{
    moe_axis axis = {0};

    for (int i = 0; i < n; i++)
    {
        axis.low = isnan(bars[i].value) ? axis.low : Min(axis.low, bars[i].value);
        axis.high = isnan(bars[i].value) ? axis.high : Max(axis.high, bars[i].value);
    }
    if (axis.low == axis.high)
        axis.high = 1;
    begin_figure(out, title);
    appendStringInfo(out, "<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">\n", WIDTH, BAR_ROW * Max(n, 1),
                     title);
    for (int i = 0; i < n; i++)
        draw_bar(out, &bars[i], &axis, BAR_ROW * i, share);
    appendStringInfoString(out, "</svg>\n");
    end_figure(out, note);
}

void
moe_html_drawing(StringInfo out, const char *title, double width, double height)
{
    begin_figure(out, title);
    appendStringInfo(out,
                     "<div%s><svg viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" role=\"img\" aria-label=\"%s\">\n",
                     width > SCALED ? " class=\"scroll\"" : "", width, height, width, height, title);
}

void
moe_html_drawing_end(StringInfo out, const char *note)
{
    appendStringInfoString(out, "</svg></div>\n");
    end_figure(out, note);
}

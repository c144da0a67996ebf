/*
 * report_page.h: what a report is written with: HTML that is XML too, and charts as inline SVG.
 *
 * Everything written is ASCII: other characters become references, so that the
 * page reads the same whatever the encodings of database and client are.
 */
#ifndef MOE_REPORT_PAGE_H
#define MOE_REPORT_PAGE_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* The style sheet: light, and dark where the reader prefers it. */
extern const char *const moe_html_style;

/* Text in the database's encoding, escaped for content and quoted attributes; short: cut to so many columns. */
void moe_html_text(StringInfo out, const char *text);
void moe_html_short(StringInfo out, const char *text, int columns);
/* A number to about three digits (NaN: a dash), and a count in full. */
void moe_html_number(StringInfo out, double value);
const char *moe_number_text(double value);
void moe_html_count(StringInfo out, int64 n);
/* A span of microseconds in its largest whole unit. */
void moe_html_span(StringInfo out, int64 microseconds);
/* Open and close a section with a heading of ours; what is between them is divs, tables and figures. */
void moe_html_section(StringInfo out, const char *heading);
void moe_html_section_end(StringInfo out);
/* A cell of a row: a heading's, a text's, a number's. */
void moe_html_th(StringInfo out, const char *text);
void moe_html_td(StringInfo out, const char *text);
void moe_html_td_number(StringInfo out, double value, bool best);

typedef struct moe_axis
{
    const char *label; /* ours: not escaped */
    double low, high;
    bool whole;  /* only whole numbers are marked, and the range is kept as it is */
    double step; /* between marks; set by moe_chart_begin */
} moe_axis;

typedef struct moe_chart
{
    StringInfo out;
    moe_axis x, y;
} moe_chart;

/* Begin a figure of a plot with its axes; title and labels are ours. Ranges widen to whole steps. */
void moe_chart_begin(moe_chart *chart, StringInfo out, const char *title, moe_axis x, moe_axis y);
/* Marks; kind is a class of the style sheet. Places outside the ranges are moved to their edge. */
void moe_chart_line(const moe_chart *chart, const char *kind, int n, const double *x, const double *y);
void moe_chart_dot(const moe_chart *chart, const char *kind, double x, double y, double radius);
void moe_chart_column(const moe_chart *chart, double from, double to, double y);
/* End it with a note below, ours and possibly with markup; or NULL. */
void moe_chart_end(const moe_chart *chart, const char *note);

typedef struct moe_bar
{
    const char *label; /* escaped here */
    double value;      /* NaN: no bar */
    bool quiet;        /* stands beside the others for comparison */
} moe_bar;

/* A figure of horizontal bars from zero, labels above them. share: values are written as percentages. */
void moe_html_bars(StringInfo out, const char *title, const moe_bar *bars, int n, bool share, const char *note);

/* Begin and end a figure with a drawing of this size, which shrinks or, if it is wide, scrolls where the page is
 * narrower. */
void moe_html_drawing(StringInfo out, const char *title, double width, double height);
void moe_html_drawing_end(StringInfo out, const char *note);

#endif

/*
 * report_text.c: text, numbers and tables of a report.
 *
 * Names and labels are anybody's: they are taken apart into characters, and
 * what is not allowed in XML, or would turn the text around it (the Unicode
 * bidirectional controls), is shown as U+FFFD. All else that is not printable
 * ASCII becomes a numeric reference.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "mb/pg_wchar.h"

#include "extension/report_page.h"

#define REPLACEMENT 0xFFFD
#define ELLIPSIS    "&#x2026;"
#define DASH        "&#x2013;"
#define MINUS       "&#x2212;"

/* Is it a character that a page may hold as it is meant? */
static bool
acceptable(pg_wchar c)
{
    if (c < 0x20)
        return c == '\n' || c == '\t';
    if (c >= 0x7F && c < 0xA0)
        return false;
    if ((c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069))
        return false;
    return !(c >= 0xD800 && c <= 0xDFFF) && (c & 0xFFFE) != 0xFFFE && c <= 0x10FFFF;
}

static void
put_character(StringInfo out, pg_wchar c)
{
    if (c < 0x80 && strchr("<>&\"'", (int) c) == NULL)
        appendStringInfoChar(out, (char) c);
    else
        appendStringInfo(out, "&#x%X;", (unsigned) c);
}

/* The next character of UTF-8; *length: its bytes, *columns: that it takes on the screen. */
static pg_wchar
next_character(const char *text, int *length, int *columns)
{
    const unsigned char *bytes = (const unsigned char *) text;
    pg_wchar c = REPLACEMENT;

    *columns = 1;
    *length = pg_utf_mblen(bytes);
    if (strnlen(text, *length) < *length || !pg_utf8_islegal(bytes, *length))
        *length = 1;
    else if (acceptable(utf8_to_unicode(bytes)))
    {
        c = utf8_to_unicode(bytes);
        *columns = Max(pg_encoding_dsplen(PG_UTF8, text), 0);
    }
    return c;
}

void
moe_html_short(StringInfo out, const char *text, int columns)
{
    const char *utf8 = GetDatabaseEncoding() == PG_SQL_ASCII ? text : pg_server_to_any(text, strlen(text), PG_UTF8);
    int width = 0, marks = 0, length, wide;
    int cut = out->len; /* where an ellipsis would stand */

    for (; *utf8 != '\0'; utf8 += length)
    {
        pg_wchar c = next_character(utf8, &length, &wide);

        /* What stacks on one place counts, too, or it would grow without end. */
        marks = wide == 0 ? marks + 1 : 0;
        if (marks > 8)
            continue;
        if (width + wide > columns)
        {
            out->len = cut;
            out->data[cut] = '\0';
            appendStringInfoString(out, ELLIPSIS);
            return;
        }
        put_character(out, c);
        width += wide;
        if (width < columns)
            cut = out->len;
    }
}

void
moe_html_text(StringInfo out, const char *text)
{
    moe_html_short(out, text, INT_MAX - 2);
}

/* Digits with a comma before every third. */
static void
put_grouped(StringInfo out, const char *digits)
{
    int n = (int) strlen(digits);

    for (int i = 0; i < n; i++)
    {
        if (i > 0 && (n - i) % 3 == 0)
            appendStringInfoChar(out, ',');
        appendStringInfoChar(out, digits[i]);
    }
}

void
moe_html_count(StringInfo out, int64 n)
{
    put_grouped(out, psprintf(INT64_FORMAT, Max(n, 0)));
}

const char *
moe_number_text(double value)
{
    StringInfoData text;
    double size = fabs(value);

    if (isnan(value))
        return DASH;
    initStringInfo(&text);
    if (value < 0)
        appendStringInfoString(&text, MINUS);
    if (size != 0 && (size < 0.0005 || size >= 1e9))
        appendStringInfo(&text, "%.2e", size);
    else if (size < 10)
        appendStringInfo(&text, "%.3f", size);
    else if (size < 1000)
        appendStringInfo(&text, size < 100 ? "%.2f" : "%.1f", size);
    else
        put_grouped(&text, psprintf("%.0f", size));
    return text.data;
}

void
moe_html_number(StringInfo out, double value)
{
    appendStringInfoString(out, moe_number_text(value));
}

void
moe_html_span(StringInfo out, int64 microseconds)
{
    static const struct
    {
        int64 length;
        const char *name;
    } units[] = {{INT64CONST(86400000000), "day"}, {INT64CONST(3600000000), "hour"}, {60000000, "minute"}};

    for (int i = 0; i < lengthof(units); i++)
    {
        int64 n = microseconds / units[i].length;

        if (n > 0 && microseconds % units[i].length == 0)
        {
            moe_html_count(out, n);
            appendStringInfo(out, " %s%s", units[i].name, n == 1 ? "" : "s");
            return;
        }
    }
    appendStringInfo(out, "%.3f seconds", (double) microseconds / 1e6);
}

void
moe_html_section(StringInfo out, const char *heading)
{
    appendStringInfo(out, "<section>\n<h2>%s</h2>\n", heading);
}

void
moe_html_section_end(StringInfo out)
{
    appendStringInfoString(out, "</section>\n");
}

void
moe_html_th(StringInfo out, const char *text)
{
    appendStringInfo(out, "<th>%s</th>", text);
}

void
moe_html_td(StringInfo out, const char *text)
{
    appendStringInfoString(out, "<td>");
    moe_html_text(out, text);
    appendStringInfoString(out, "</td>");
}

void
moe_html_td_number(StringInfo out, double value, bool best)
{
    appendStringInfo(out, "<td class=\"number%s\">", best ? " best" : "");
    moe_html_number(out, value);
    appendStringInfoString(out, "</td>");
}

/*
 * report_metrics.c: the rows of moe_ml.evaluate, and the first of them as bars.
 */
#include "postgres.h"

#include <math.h>

#include "extension/report.h"

/* The columns of the query, and what is compared. */
enum
{
    SPLIT = 1,
    REGIME,
    METRIC,
    MODEL,
    CONSTANT,
    OWN_PAST,
    ROWS,
    COMPARED = 3
};

static const char *const metrics_sql =
    "SELECT split, regime, metric, model, constant, own_past, rows::float8 FROM moe_ml.evaluate($2)"
    " WITH ORDINALITY AS e (split, regime, metric, model, constant, own_past, rows, place) ORDER BY place";

typedef enum direction
{
    NEITHER,
    HIGHER,
    LOWER
} direction;

/* Which way a metric is better. */
static direction
better(const char *metric)
{
    static const char *const higher[] = {"auroc", "average_precision", "accuracy", "f1", "r2", "macro_f1"};
    static const char *const lower[] = {"mae", "rmse", "log_loss", "brier", "calibration_error"};

    for (int i = 0; i < lengthof(higher); i++)
        if (strcmp(metric, higher[i]) == 0)
            return HIGHER;
    for (int i = 0; i < lengthof(lower); i++)
        if (strcmp(metric, lower[i]) == 0)
            return LOWER;
    return NEITHER;
}

/* The best of what is compared, or -1. */
static int
best_of(const double *values, direction way)
{
    int best = -1;

    for (int i = 0; i < COMPARED && way != NEITHER; i++)
    {
        if (isnan(values[i]))
            continue;
        if (best < 0 || (way == HIGHER ? values[i] > values[best] : values[i] < values[best]))
            best = i;
    }
    return best;
}

static void
put_metric(StringInfo out, int row)
{
    const char *metric = moe_report_text(row, METRIC);
    direction way = better(metric);
    double values[COMPARED];
    int best;

    for (int i = 0; i < COMPARED; i++)
        values[i] = moe_report_number(row, MODEL + i);
    best = best_of(values, way);
    appendStringInfo(out, "<tr><td>%s%s</td>", metric, way == HIGHER ? " &#x2191;" : way == LOWER ? " &#x2193;" : "");
    for (int i = 0; i < COMPARED; i++)
        moe_html_td_number(out, values[i], i == best);
    appendStringInfoString(out, "</tr>\n");
}

/* What a regime is, for who has not read the manual. */
static const char *
regime_text(const char *regime)
{
    return strcmp(regime, "frozen") == 0 ? ", seeing nothing after the first of them" : ", each as of its own time";
}

/* One table: the rows of a split under a regime. */
static void
put_block(StringInfo out, int from, int to)
{
    appendStringInfoString(out, "<div class=\"scroll\"><table><caption>");
    moe_html_count(out, (int64) moe_report_number(from, ROWS));
    appendStringInfo(out, " %s rows%s</caption>\n<thead><tr>", moe_report_text(from, SPLIT),
                     regime_text(moe_report_text(from, REGIME)));
    appendStringInfoString(out, "<th>metric</th><th class=\"number\">model</th><th class=\"number\">constant</th>"
                                "<th class=\"number\">own past</th></tr></thead>\n<tbody>\n");
    for (int row = from; row < to; row++)
        put_metric(out, row);
    appendStringInfoString(out, "</tbody></table></div>\n");
}

/* The first metric as bars. */
static void
put_bars(StringInfo out, int row)
{
    moe_bar bars[COMPARED] = {{"model"}, {"constant: the same for everybody"}, {"own past: the entity's mean so far"}};
    int n = 0;

    for (int i = 0; i < COMPARED; i++)
    {
        double value = moe_report_number(row, MODEL + i);

        if (!isnan(value))
            bars[n++] = (moe_bar){bars[i].label, value, i > 0};
    }
    if (n > 0)
        moe_html_bars(out, psprintf("%s on %s rows", moe_report_text(row, METRIC), moe_report_text(row, SPLIT)), bars,
                      n, false,
                      better(moe_report_text(row, METRIC)) == LOWER ? "Lower is better." : "Higher is better.");
}

/* The row that the bars are of: the first metric of the last split, as of its own times. */
static int
headline(int n)
{
    int row = 0;

    for (int i = 1; i < n; i++)
        if (strcmp(moe_report_text(i, SPLIT), moe_report_text(row, SPLIT)) != 0 &&
            strcmp(moe_report_text(i, REGIME), "frozen") != 0)
            row = i;
    return row;
}

static bool
same_block(int a, int b)
{
    return strcmp(moe_report_text(a, SPLIT), moe_report_text(b, SPLIT)) == 0 &&
           strcmp(moe_report_text(a, REGIME), moe_report_text(b, REGIME)) == 0;
}

void
moe_report_metrics(const moe_report *report)
{
    StringInfo out = report->out;
    int n;

    moe_html_section(out, "How good it is");
    if (report->held_out == NULL)
    {
        appendStringInfoString(out, "<p>The model has no validation or test rows today.</p>\n");
        moe_html_section_end(out);
        return;
    }
    n = moe_report_select(report, metrics_sql);
    appendStringInfoString(out, "<div class=\"grid\">\n");
    put_bars(out, headline(n));
    for (int from = 0, to = 0; from < n; from = to)
    {
        while (to < n && same_block(from, to))
            to++;
        put_block(out, from, to);
    }
    appendStringInfoString(out, "</div>\n<p class=\"note\">Rows the model was not trained on. constant: what is best "
                                "said of every row alike; own past: the mean of the entity's labels known at the time. "
                                "The best of the three is bold; &#x2191;: higher is better, &#x2193;: lower is.</p>\n");
    moe_report_end(report);
    moe_html_section_end(out);
}

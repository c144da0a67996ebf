/*
 * report_parts.c: how a model came about and what it rests on: learning curves, experts, tables, columns.
 *
 * A column's importance: what the model's first metric loses on validation
 * rows when the column, and all inputs about it, are hidden, as if they were
 * NULL (leave one out).
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"

#include "extension/model_inputs.h"
#include "extension/report.h"
#include "extension/subject.h"

#define COLUMN_ROWS 300 /* validation rows that columns are tried on */
#define MAX_COLUMNS 15  /* shown */
#define MAX_TABLES  15
#define COLOURS     6

/* The columns of the query behind learning curves. */
enum
{
    MEMBER = 1,
    EPOCH,
    LOSS,
    VALIDATION,
    BEST
};

static const char *const epochs_sql =
    "SELECT h.ensemble::float8, h.epoch::float8, h.train_loss::float8, h.validation::float8, h.best::int::float8"
    " FROM moe_ml.training_history h JOIN moe_ml.model_relations r ON r.schema = h.schema AND r.name = h.name"
    " WHERE r.relation = $1 ORDER BY h.ensemble, h.epoch";

/* The range of a column of the rows, and whether there is any number in it. */
static bool
range_of(int n, int column, moe_axis *axis)
{
    bool any = false;

    for (int i = 0; i < n; i++)
    {
        double value = moe_report_number(i, column);

        if (isnan(value))
            continue;
        axis->low = any ? Min(axis->low, value) : value;
        axis->high = any ? Max(axis->high, value) : value;
        any = true;
    }
    return any;
}

/* The line of one member, rows [from, to), and dots at the epochs that were best. */
static void
put_member(const moe_chart *chart, int from, int to, int column, int member)
{
    double *x = palloc_array(double, to - from + 1);
    double *y = palloc_array(double, to - from + 1);
    int colour = (member - 1) % COLOURS + 1;
    int n = 0;

    for (int i = from; i < to; i++)
    {
        if (isnan(moe_report_number(i, column)))
            continue;
        x[n] = moe_report_number(i, EPOCH);
        y[n++] = moe_report_number(i, column);
    }
    moe_chart_line(chart, psprintf("l%d", colour), n, x, y);
    for (int i = from; i < to; i++)
        if (moe_report_number(i, BEST) != 0 && !isnan(moe_report_number(i, column)))
            moe_chart_dot(chart, psprintf("d%d", colour), moe_report_number(i, EPOCH), moe_report_number(i, column), 4);
}

/* One quantity of all members by epoch. */
static void
put_curves(const moe_report *report, int n, int column, const char *title, const char *label)
{
    moe_axis x = {.label = "epoch", .whole = true};
    moe_axis y = {.label = label};
    moe_chart chart;

    if (!range_of(n, EPOCH, &x) || !range_of(n, column, &y))
        return;
    moe_chart_begin(&chart, report->out, title, x, y);
    for (int from = 0, to = 0; from < n; from = to)
    {
        while (to < n && moe_report_number(to, MEMBER) == moe_report_number(from, MEMBER))
            to++;
        put_member(&chart, from, to, column, (int) moe_report_number(from, MEMBER));
    }
    moe_chart_end(&chart, "The dot marks the epoch that was kept.");
}

static void
put_members(StringInfo out, int members)
{
    appendStringInfoString(out, "<ul class=\"legend\">");
    for (int i = 1; i <= Min(members, COLOURS); i++)
        appendStringInfo(out, "<li><i class=\"key%d\"></i>member %d%s</li>", i, i,
                         members > COLOURS ? psprintf(", %d, ...", i + COLOURS) : "");
    appendStringInfoString(out, "</ul>\n");
}

void
moe_report_learning(const moe_report *report)
{
    int n = moe_report_select(report, epochs_sql);

    if (n > 0)
    {
        moe_html_section(report->out, "How the graph expert learnt");
        appendStringInfoString(report->out, "<div class=\"grid\">\n");
        put_curves(report, n, LOSS, "Loss on training rows", "loss");
        put_curves(report, n, VALIDATION, "Metric on validation rows", moe_metric_name(report->info->task, 0));
        appendStringInfoString(report->out, "</div>\n");
        put_members(report->out, (int) moe_report_number(n - 1, MEMBER));
        moe_html_section_end(report->out);
    }
    moe_report_end(report);
}

static const char *const experts_sql = "SELECT expert, load::float8, alone::float8, parameters::float8, "
                                       "seconds::float8 FROM moe_ml.experts($2)";

void
moe_report_experts(const moe_report *report)
{
    StringInfo out = report->out;
    int n = moe_report_select(report, experts_sql);
    moe_bar *bars = palloc0_array(moe_bar, n + 1);

    moe_html_section(out, "Experts");
    appendStringInfoString(out, "<div class=\"grid\">\n");
    for (int i = 0; i < n; i++)
        bars[i] = (moe_bar){moe_report_text(i, 1), moe_report_number(i, 2)};
    if (n > 0)
        moe_html_bars(out, "Share of the work", bars, n, true, "Mean weight over the validation rows.");
    appendStringInfo(out,
                     "<div class=\"scroll\"><table><caption>Each one alone</caption>\n<thead><tr><th>expert</th>"
                     "<th class=\"number\">%s</th><th class=\"number\">numbers</th><th class=\"number\">seconds</th>"
                     "</tr></thead>\n<tbody>\n",
                     moe_metric_name(report->info->task, 0));
    for (int i = 0; i < n; i++)
    {
        appendStringInfoString(out, "<tr>");
        moe_html_td(out, moe_report_text(i, 1));
        moe_html_td_number(out, moe_report_number(i, 3), false);
        appendStringInfoString(out, "<td class=\"number\">");
        moe_html_count(out, (int64) moe_report_number(i, 4));
        appendStringInfo(out, "</td><td class=\"number\">%.1f</td></tr>\n", moe_report_number(i, 5));
    }
    appendStringInfoString(out, "</tbody></table>\n<p class=\"note\">The metric on validation rows; numbers that were "
                                "trained, and how long that took.</p></div>\n</div>\n");
    moe_report_end(report);
    moe_html_section_end(out);
}

/* The table that moe_ml.importance means by a name: it writes them as this session would at the moment. */
static int
table_called(const moe_schema *schema, const char *name)
{
    for (int t = 0; t < schema->n_tables; t++)
        if (strcmp(moe_subject_table(schema, t), name) == 0)
            return t;
    return -1;
}

/* What the bars of an importance show, in words. */
static const char *
loss_text(const moe_report *report, const char *what, int64 rows)
{
    return psprintf("By how much %s %s on " INT64_FORMAT " validation rows when %s.",
                    moe_metric_name(report->info->task, 0), report->info->task == MOE_REGRESSION ? "rises" : "falls",
                    rows, what);
}

static void
put_tables(const moe_report *report)
{
    const moe_schema *schema = report->predictor->schema;
    moe_bar *bars = palloc0_array(moe_bar, schema->n_tables);
    int *table = palloc_array(int, schema->n_tables);
    int n = moe_report_select(report, "SELECT table_name, \"drop\" FROM moe_ml.importance($2) WITH ORDINALITY"
                                      " AS i (table_name, metric, w, o, \"drop\", place) ORDER BY place");

    n = Min(n, Min(schema->n_tables, MAX_TABLES));
    for (int i = 0; i < n; i++)
    {
        table[i] = table_called(schema, moe_report_text(i, 1));
        bars[i].value = moe_report_number(i, 2);
    }
    moe_report_end(report);
    for (int i = 0; i < n; i++)
        bars[i].label = table[i] < 0 ? "" : moe_subject_table(schema, table[i]);
    if (n > 0)
        moe_html_bars(report->out, "Tables", bars, n, false,
                      loss_text(report, "the table is hidden, as if it had no rows", Min(report->validation->n, 2000)));
}

/* The model's first metric on a block. */
static double
metric_of(const moe_report *report, const moe_block *block)
{
    const moe_model_info *info = report->info;
    float *prediction = moe_block_score(report->predictor, block, NULL);
    double value = moe_metric_value(report->predictor->job, info->task, 0, prediction, block->label, block->n,
                                    Max(info->n_classes, 1));

    pfree(prediction);
    return value;
}

typedef struct loss
{
    moe_subject subject;
    double value; /* that the metric loses */
} loss;

/* Largest first, ties in order of tables and columns. */
static int
compare_losses(const void *a, const void *b)
{
    const loss *x = a, *y = b;

    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    if (x->subject.table != y->subject.table)
        return x->subject.table < y->subject.table ? -1 : 1;
    return (x->subject.source > y->subject.source) - (x->subject.source < y->subject.source);
}

/* Leave out what is less than a hundredth of the largest; how many remain. */
static int
drop_trifles(loss *losses, int n)
{
    double largest = 0;
    int kept = 0;

    for (int i = 0; i < n; i++)
        largest = Max(largest, fabs(losses[i].value));
    for (int i = 0; i < n; i++)
        if (fabs(losses[i].value) >= largest / 100)
            losses[kept++] = losses[i];
    return kept;
}

static bool
has_graph(const moe_predictor *predictor)
{
    bool graph = false;

    for (int e = 0; e < predictor->info->experts; e++)
        graph |= moe_mixture_kind(predictor->mixture, e) == MOE_EXPERT_GRAPH;
    return graph;
}

/* What hiding each subject costs, those that hardly matter left out; palloc'd. */
static int
measure_columns(const moe_report *report, const moe_block *block, loss **losses)
{
    moe_predictor *predictor = report->predictor;
    moe_subject *subjects;
    int n = moe_subjects(predictor, has_graph(predictor), &subjects), kept = 0;
    double with = metric_of(report, block);
    double sign = report->info->task == MOE_REGRESSION ? -1 : 1;

    *losses = palloc_array(loss, n + 1);
    for (int i = 0; i < n; i++)
    {
        double value;

        CHECK_FOR_INTERRUPTS();
        moe_subject_hide(predictor, &subjects[i]);
        value = sign * (with - metric_of(report, block));
        if (value != 0 && !isnan(value))
            (*losses)[kept++] = (loss){subjects[i], value};
    }
    moe_subject_hide(predictor, NULL);
    qsort(*losses, kept, sizeof(loss), compare_losses);
    return drop_trifles(*losses, kept);
}

static void
put_columns(const moe_report *report)
{
    moe_block *block = moe_report_sample(report->validation, COLUMN_ROWS);
    moe_bar bars[MAX_COLUMNS];
    loss *losses;
    int n = Min(measure_columns(report, block, &losses), MAX_COLUMNS);
    const char *note = loss_text(report, "the column and all inputs about it are hidden", block->n);

    for (int i = 0; i < n; i++)
        bars[i] = (moe_bar){moe_subject_name(report->predictor, &losses[i].subject), losses[i].value};
    if (n > 0)
        moe_html_bars(report->out, "Columns", bars, n, false, note);
    else
        appendStringInfo(report->out, "<p class=\"note\">Columns: no difference. %s</p>\n", note);
}

void
moe_report_importance(const moe_report *report)
{
    moe_html_section(report->out, "What it rests on");
    if (report->validation == NULL)
        appendStringInfoString(report->out, "<p>The model has no validation rows today.</p>\n");
    else
    {
        appendStringInfoString(report->out, "<div class=\"grid\">\n");
        put_tables(report);
        put_columns(report);
        appendStringInfoString(report->out,
                               "</div>\n<p class=\"note\">What two tables or columns say alike does not "
                               "show here, since each is hidden alone; small differences, in either direction, "
                               "are chance.</p>\n");
    }
    moe_html_section_end(report->out);
}

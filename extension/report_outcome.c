/*
 * report_outcome.c: what predictions came to, on rows that the model was not trained on.
 *
 * Binary: receiver operating characteristic, precision by recall (equal scores
 * are one step, as in gnn/metrics.c) and the reliability diagram. Several
 * classes: the confusion of the largest, and reliability of the class told.
 * Numbers: predicted by actual, residuals, and how often the range holds.
 */
#include "postgres.h"

#include <math.h>

#include "storage/shmem.h"

#include "extension/predict.h"
#include "extension/report.h"
#include "gnn/metrics.h"

#define CURVE_POINTS 160
#define BINS         10
#define DOTS         400
#define COLUMNS      24    /* of the histogram */
#define TAIL         0.005 /* of the rows may lie beyond a frame, at either end */

typedef struct scored
{
    float score;
    float label;
} scored;

static int
compare_scored(const void *a, const void *b)
{
    const scored *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->label > y->label) - (x->label < y->label);
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

/* Both curves, thinned: the steps of descending score where enough rows have passed since the last one kept. */
typedef struct curves
{
    int n;
    double false_rate[CURVE_POINTS + 3], recall[CURVE_POINTS + 3], precision[CURVE_POINTS + 3];
    double positive; /* share of label 1 */
} curves;

static void
trace(const float *score, const float *label, int64 n, curves *curves)
{
    scored *rows = palloc_array(scored, n);
    int64 positives = 0, hits = 0, kept = 0;

    for (int64 i = 0; i < n; i++)
    {
        rows[i] = (scored){score[i], label[i]};
        positives += label[i] > 0.5f;
    }
    qsort(rows, n, sizeof(scored), compare_scored);
    curves->positive = (double) positives / n;
    curves->n = 0;
    for (int64 i = 0; i < n; i++)
    {
        int at = curves->n;

        hits += rows[i].label > 0.5f;
        if (i + 1 < n && (rows[i + 1].score == rows[i].score || (i + 1 - kept) * CURVE_POINTS < n))
            continue;
        kept = i + 1;
        curves->false_rate[at] = (double) (i + 1 - hits) / Max(n - positives, 1);
        curves->recall[at] = (double) hits / Max(positives, 1);
        curves->precision[at] = (double) hits / (i + 1);
        curves->n++;
    }
    pfree(rows);
}

static void
put_roc(const moe_report *report, const curves *curves, double area)
{
    moe_axis share = {.low = 0, .high = 1};
    moe_axis x = share, y = share;
    double from[2] = {0, 1};
    double *xs = palloc_array(double, curves->n + 1), *ys = palloc_array(double, curves->n + 1);
    moe_chart chart;

    x.label = "false positive rate";
    y.label = "true positive rate";
    xs[0] = ys[0] = 0;
    memcpy(xs + 1, curves->false_rate, sizeof(double) * curves->n);
    memcpy(ys + 1, curves->recall, sizeof(double) * curves->n);
    moe_chart_begin(&chart, report->out, "ROC curve", x, y);
    moe_chart_line(&chart, "ld", 2, from, from);
    moe_chart_line(&chart, "l1", curves->n + 1, xs, ys);
    moe_chart_end(&chart, psprintf("Area %.3f. Dashed: scores at random.", area));
}

static void
put_precision(const moe_report *report, const curves *curves, double area)
{
    moe_axis x = {.label = "recall", .low = 0, .high = 1};
    moe_axis y = {.label = "precision", .low = 0, .high = 1};
    double ends[2] = {0, 1}, level[2] = {curves->positive, curves->positive};
    moe_chart chart;

    moe_chart_begin(&chart, report->out, "Precision-recall curve", x, y);
    moe_chart_line(&chart, "ld", 2, ends, level);
    moe_chart_line(&chart, "l1", curves->n, curves->recall, curves->precision);
    moe_chart_end(&chart,
                  psprintf("Average precision %.3f. Dashed: the share of positives, %.3f.", area, curves->positive));
}

/* Do rows that are told about p come true about as often? */
static void
put_reliability(const moe_report *report, const char *title, const char *told, const char *came, const float *score,
                const float *label, int64 n)
{
    moe_axis x = {.label = told, .low = 0, .high = 1};
    moe_axis y = {.label = came, .low = 0, .high = 1};
    moe_reliability_bin bins[BINS];
    double ends[2] = {0, 1}, xs[BINS], ys[BINS];
    int found = moe_metric_reliability(report->predictor->job, score, label, n, BINS, bins);
    int64 most = 1;
    moe_chart chart;

    for (int i = 0; i < found; i++)
    {
        xs[i] = bins[i].mean;
        ys[i] = bins[i].positive;
        most = Max(most, bins[i].count);
    }
    moe_chart_begin(&chart, report->out, title, x, y);
    moe_chart_line(&chart, "ld", 2, ends, ends);
    moe_chart_line(&chart, "l1", found, xs, ys);
    for (int i = 0; i < found; i++)
        moe_chart_dot(&chart, "d1", xs[i], ys[i], 2 + 3 * sqrt((double) bins[i].count / most));
    moe_chart_end(&chart, psprintf("Up to %d groups of about equal size, by prediction. On the dashed line, "
                                   "probabilities mean what they say. Calibration error %.3f.",
                                   BINS, moe_metric_calibration_error(report->predictor->job, score, label, n)));
}

static void
put_binary(const moe_report *report, const float *score)
{
    const moe_block *block = report->held_out;
    moe_job *job = report->predictor->job;
    double area = moe_metric_auroc(job, score, block->label, block->n);
    curves *traced = palloc(sizeof(curves));

    if (isnan(area))
        appendStringInfoString(report->out, "<p>All labels are the same: there are no curves to draw.</p>\n");
    else
    {
        trace(score, block->label, block->n, traced);
        put_roc(report, traced, area);
        put_precision(report, traced, moe_metric_average_precision(job, score, block->label, block->n));
    }
    put_reliability(report, "Calibration", "predicted probability", "share that came true", score, block->label,
                    block->n);
}

/* The range that all but the tails of n numbers lie in. */
static moe_axis
range_without_tails(double *values, int64 n, const char *label)
{
    qsort(values, n, sizeof(double), compare_doubles);
    return (moe_axis){.label = label,
                      .low = values[(int64) (TAIL * (double) (n - 1))],
                      .high = values[(int64) ceil((1 - TAIL) * (double) (n - 1))]};
}

static void
put_scatter(const moe_report *report, const float *predicted)
{
    const moe_block *block = report->held_out;
    double *both = palloc_array(double, 2 * block->n);
    int64 n = Min(block->n, DOTS);
    moe_axis x, y;
    double ends[2];
    moe_chart chart;

    for (int64 i = 0; i < block->n; i++)
    {
        both[2 * i] = predicted[i];
        both[2 * i + 1] = block->label[i];
    }
    x = range_without_tails(both, 2 * block->n, "predicted");
    y = x;
    y.label = "actual";
    moe_chart_begin(&chart, report->out, "Predicted and actual", x, y);
    ends[0] = chart.x.low;
    ends[1] = chart.x.high;
    moe_chart_line(&chart, "ld", 2, ends, ends);
    for (int64 k = 0; k < n; k++)
    {
        int64 i = k * block->n / n;

        moe_chart_dot(&chart, "ds", predicted[i], block->label[i], 2.6);
    }
    moe_chart_end(&chart, psprintf(INT64_FORMAT " rows. On the dashed line, predicted is actual; a row beyond the "
                                                "frame is drawn at its edge.",
                                   n));
    pfree(both);
}

static void
put_residuals(const moe_report *report, const float *predicted)
{
    const moe_block *block = report->held_out;
    double *residual = palloc_array(double, block->n), *sorted = palloc_array(double, block->n);
    double count[COLUMNS] = {0}, most = 0, width;
    moe_axis x, y = {.label = "rows"};
    moe_chart chart;

    for (int64 i = 0; i < block->n; i++)
        sorted[i] = residual[i] = (double) block->label[i] - predicted[i];
    x = range_without_tails(sorted, block->n, "actual less predicted");
    if (x.high <= x.low)
        x.high = x.low + Max(1, fabs(x.low));
    width = (x.high - x.low) / COLUMNS;
    for (int64 i = 0; i < block->n; i++)
    {
        double at = floor((residual[i] - x.low) / width);

        count[(int) Max(0, Min(at, COLUMNS - 1))]++;
    }
    for (int i = 0; i < COLUMNS; i++)
        most = Max(most, count[i]);
    y.high = most;
    moe_chart_begin(&chart, report->out, "Residuals", x, y);
    for (int i = 0; i < COLUMNS; i++)
        if (count[i] > 0)
            moe_chart_column(&chart, x.low + i * width, x.low + (i + 1) * width, count[i]);
    moe_chart_end(&chart, psprintf("Median %s. The first and the last column hold all that lies beyond.",
                                   moe_number_text(sorted[block->n / 2])));
    pfree(residual);
    pfree(sorted);
}

/* What the model says of the rows held out; a range of a REGRESSION alone. */
typedef struct said
{
    float *prediction, *lower, *upper;
} said;

typedef struct ranged
{
    float predicted, label, lower, upper;
} ranged;

static int
compare_ranged(const void *a, const void *b)
{
    const ranged *x = a, *y = b;

    if (x->predicted != y->predicted)
        return x->predicted < y->predicted ? -1 : 1;
    return (x->label > y->label) - (x->label < y->label);
}

/* The rows that have a range, by prediction; palloc'd. */
static int64
rows_with_range(const moe_report *report, const said *s, ranged **out)
{
    const moe_block *block = report->held_out;
    ranged *rows = palloc_array(ranged, block->n);
    int64 n = 0;

    for (int64 i = 0; i < block->n; i++)
        if (!isnan(s->lower[i]) && !isnan(s->upper[i]))
            rows[n++] = (ranged){s->prediction[i], block->label[i], s->lower[i], s->upper[i]};
    qsort(rows, n, sizeof(ranged), compare_ranged);
    *out = rows;
    return n;
}

/* How often the range holds the label, by tenths of the prediction. */
static void
put_coverage(const moe_report *report, const said *s)
{
    ranged *rows;
    int64 n = rows_with_range(report, s, &rows), held = 0;
    moe_axis x = {.label = "rows by predicted value, percent", .low = 0, .high = 100, .whole = true};
    moe_axis y = {.label = "share within the range", .low = 0, .high = 1};
    double ends[2] = {0, 100}, level[2] = {0.8, 0.8}, wide = 0;
    moe_chart chart;

    if (n < BINS)
    {
        appendStringInfoString(report->out, "<p>The model gives no ranges: it had too few validation rows.</p>\n");
        return;
    }
    moe_chart_begin(&chart, report->out, "Coverage of the range", x, y);
    for (int b = 0; b < BINS; b++)
    {
        int64 from = b * n / BINS, to = (b + 1) * n / BINS, in = 0;

        for (int64 i = from; i < to; i++)
        {
            in += rows[i].lower <= rows[i].label && rows[i].label <= rows[i].upper;
            wide += (double) rows[i].upper - rows[i].lower;
        }
        moe_chart_column(&chart, 100.0 * b / BINS, 100.0 * (b + 1) / BINS, (double) in / (to - from));
        held += in;
    }
    moe_chart_line(&chart, "ld", 2, ends, level);
    moe_chart_end(&chart, psprintf("lower to upper holds the actual value of %.1f%% of the rows, and is %s wide on "
                                   "average. Dashed: the 80%% it is made for.",
                                   100.0 * held / n, moe_number_text(wide / n)));
    pfree(rows);
}

static void
put_classes(const moe_report *report, const float *probability)
{
    const moe_block *block = report->held_out;
    int classes = report->info->n_classes;
    float *score = palloc_array(float, block->n), *right = palloc_array(float, block->n);
    int *told = palloc_array(int, block->n);

    for (int64 i = 0; i < block->n; i++)
    {
        told[i] = moe_best_class(probability + i * classes, classes);
        score[i] = probability[i * classes + told[i]];
        right[i] = told[i] == (int) block->label[i];
    }
    moe_report_confusion(report, told);
    put_reliability(report, "Calibration", "predicted probability of the class", "share that is right", score, right,
                    block->n);
}

/* Past labels as moe_ml.evaluate knows them: the model's own rows, each seed once. What a seed may know of them, its
 * inputs decide. */
static moe_past_labels
own_labels(const moe_labelled *labelled)
{
    int32 *row = MemoryContextAllocHuge(CurrentMemoryContext, mul_size(labelled->n + 1, sizeof(int32)));
    int64 *time = MemoryContextAllocHuge(CurrentMemoryContext, mul_size(labelled->n + 1, sizeof(int64)));
    float *label = MemoryContextAllocHuge(CurrentMemoryContext, mul_size(labelled->n + 1, sizeof(float)));
    int64 n = 0;

    for (int64 i = 0; i < labelled->n; i++)
    {
        if (n > 0 && time[n - 1] == labelled->time[i] && row[n - 1] == labelled->row[i])
            continue;
        row[n] = labelled->row[i];
        time[n] = labelled->time[i];
        label[n++] = labelled->label[i];
    }
    return (moe_past_labels){n, row, time, label};
}

static said
predict_held_out(const moe_report *report)
{
    moe_past_labels labels = {0};
    said s = {0};

    if (report->info->history_query == NULL)
        labels = own_labels(report->labelled);
    moe_predictor_tell(report->predictor, &labels);
    if (report->info->task == MOE_REGRESSION)
        s.prediction = moe_block_score_range(report->predictor, report->held_out, &s.lower, &s.upper);
    else
        s.prediction = moe_block_score(report->predictor, report->held_out, NULL);
    moe_predictor_tell(report->predictor, &(moe_past_labels){0}); /* it may be asked again in this statement */
    return s;
}

void
moe_report_outcome(const moe_report *report)
{
    StringInfo out = report->out;
    said s;

    if (report->held_out == NULL)
        return;
    moe_html_section(out, "What predictions came to");
    s = predict_held_out(report);
    appendStringInfoString(out, "<p class=\"soft\">");
    if (report->held_out->n < report->held_out_all)
    {
        moe_html_count(out, report->held_out->n);
        appendStringInfoString(out, " of ");
    }
    moe_html_count(out, report->held_out_all);
    appendStringInfo(out, " %s rows, each as of its own time.</p>\n<div class=\"grid\">\n", report->split);
    switch (report->info->task)
    {
        case MOE_BINARY:
            put_binary(report, s.prediction);
            break;
        case MOE_REGRESSION:
            put_scatter(report, s.prediction);
            put_residuals(report, s.prediction);
            put_coverage(report, &s);
            break;
        case MOE_MULTICLASS:
            put_classes(report, s.prediction);
            break;
    }
    appendStringInfoString(out, "</div>\n");
    moe_html_section_end(out);
}

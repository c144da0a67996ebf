/*
 * metrics.c: how good predictions are.
 *
 * AUROC is the rank-sum statistic with tied scores sharing their mean rank:
 * U = sum of positive ranks - P (P + 1) / 2, AUROC = U / (P N). Average
 * precision is the sum over distinct scores, descending, of precision times
 * the gain in recall. Sums are in double.
 */
#include "gnn/metrics.h"

#include <math.h>
#include <stdlib.h>

#define CALIBRATION_BINS  10
#define LEAST_PROBABILITY 1e-7

typedef struct scored
{
    float score;
    float label;
} scored;

static int
descending(const void *a, const void *b)
{
    float x = ((const scored *) a)->score;
    float y = ((const scored *) b)->score;
    return (x < y) - (x > y);
}

/* Scores with labels, best first; NULL on failure or if a score is NaN. Free with moe_free. */
static scored *
ranked(moe_job *job, const float *score, const float *label, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (isnan(score[i]))
            return NULL;
    scored *rows = moe_alloc(job, n, sizeof *rows);
    if (rows == NULL)
        return NULL;
    for (int64_t i = 0; i < n; i++)
        rows[i] = (scored){score[i], label[i]};
    qsort(rows, n, sizeof *rows, descending);
    return rows;
}

double
moe_metric_auroc(moe_job *job, const float *score, const float *label, int64_t n)
{
    scored *rows = ranked(job, score, label, n);
    if (rows == NULL)
        return NAN;
    double positives = 0, negatives = 0, wins = 0;
    for (int64_t i = 0, end; i < n; i = end)
    {
        double here_positive = 0, here_negative = 0;
        for (end = i; end < n && rows[end].score == rows[i].score; end++)
            *(rows[end].label > 0.5f ? &here_positive : &here_negative) += 1;
        /* Positives ranked before beat these negatives; those of the same score tie with them. */
        wins += here_negative * (positives + here_positive / 2);
        positives += here_positive;
        negatives += here_negative;
    }
    moe_free(job, rows);
    return positives > 0 && negatives > 0 ? wins / (positives * negatives) : NAN;
}

double
moe_metric_average_precision(moe_job *job, const float *score, const float *label, int64_t n)
{
    scored *rows = ranked(job, score, label, n);
    if (rows == NULL)
        return NAN;
    double positives = 0, sum = 0;
    for (int64_t i = 0, end; i < n; i = end)
    {
        double gained = 0;
        for (end = i; end < n && rows[end].score == rows[i].score; end++)
            gained += rows[end].label > 0.5f;
        positives += gained;
        sum += gained * positives / end;
    }
    moe_free(job, rows);
    return positives > 0 ? sum / positives : NAN;
}

double
moe_metric_accuracy(const float *score, const float *label, int64_t n)
{
    int64_t right = 0;
    for (int64_t i = 0; i < n; i++)
        right += (score[i] >= 0.5f) == (label[i] > 0.5f);
    return (double) right / n;
}

double
moe_metric_f1(const float *score, const float *label, int64_t n)
{
    int64_t hits = 0, claimed = 0, positives = 0;
    for (int64_t i = 0; i < n; i++)
    {
        bool claim = score[i] >= 0.5f;
        bool truth = label[i] > 0.5f;
        hits += claim && truth;
        claimed += claim;
        positives += truth;
    }
    return claimed + positives > 0 ? 2.0 * hits / (claimed + positives) : NAN;
}

double
moe_metric_log_loss(const float *score, const float *label, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
    {
        double p = fmin(fmax(score[i], LEAST_PROBABILITY), 1 - LEAST_PROBABILITY);
        sum -= label[i] > 0.5f ? log(p) : log1p(-p);
    }
    return sum / n;
}

double
moe_metric_brier(const float *score, const float *label, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double) score[i] - label[i]) * ((double) score[i] - label[i]);
    return sum / n;
}

int
moe_metric_reliability(moe_job *job, const float *score, const float *label, int64_t n, int bins,
                       moe_reliability_bin *out)
{
    scored *rows = ranked(job, score, label, n);
    if (rows == NULL)
        return 0;
    int filled = 0;
    int64_t last = -1; /* bin of the scores before */
    for (int64_t end = n, begin; end > 0; end = begin)
    {
        double positives = 0;
        for (begin = end; begin > 0 && rows[begin - 1].score == rows[end - 1].score; begin--)
            positives += rows[begin - 1].label > 0.5f;
        /* Equal scores go where their middle falls. */
        int64_t bin = (int64_t) ((n - ((double) begin + end) / 2) / n * bins);
        if (bin != last)
            out[filled++] = (moe_reliability_bin){0};
        last = bin;
        out[filled - 1].count += end - begin;
        out[filled - 1].mean += (double) rows[begin].score * (end - begin);
        out[filled - 1].positive += positives;
    }
    for (int b = 0; b < filled; b++)
    {
        out[b].mean /= out[b].count;
        out[b].positive /= out[b].count;
    }
    moe_free(job, rows);
    return filled;
}

double
moe_metric_calibration_error(moe_job *job, const float *score, const float *label, int64_t n)
{
    moe_reliability_bin bin[CALIBRATION_BINS];
    int bins = moe_metric_reliability(job, score, label, n, CALIBRATION_BINS, bin);
    double sum = 0;
    for (int b = 0; b < bins; b++)
        sum += fabs(bin[b].mean - bin[b].positive) * bin[b].count / n;
    return bins > 0 ? sum : NAN;
}

double
moe_metric_mae(const float *predicted, const float *label, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fabs((double) predicted[i] - label[i]);
    return sum / n;
}

static double
mean_square_error(const float *predicted, const float *label, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double) predicted[i] - label[i]) * ((double) predicted[i] - label[i]);
    return sum / n;
}

double
moe_metric_rmse(const float *predicted, const float *label, int64_t n)
{
    return sqrt(mean_square_error(predicted, label, n));
}

double
moe_metric_r2(const float *predicted, const float *label, int64_t n)
{
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < n; i++)
        mean += label[i];
    mean /= n;
    for (int64_t i = 0; i < n; i++)
        variance += (label[i] - mean) * (label[i] - mean);
    return variance > 0 ? 1 - mean_square_error(predicted, label, n) * n / variance : NAN;
}

double
moe_metric_pinball(const float *predicted, const float *label, int64_t n, double quantile)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
    {
        double off = (double) label[i] - predicted[i];
        sum += off > 0 ? quantile * off : (quantile - 1) * off;
    }
    return sum / n;
}

double
moe_metric_coverage(const float *lower, const float *upper, const float *label, int64_t n)
{
    int64_t ranges = 0, inside = 0;
    for (int64_t i = 0; i < n; i++)
    {
        ranges += !isnan(lower[i]) && !isnan(upper[i]);
        inside += lower[i] <= label[i] && label[i] <= upper[i];
    }
    return ranges > 0 ? (double) inside / ranges : NAN;
}

/* The most probable class; the first of equals. */
static int
winner(const float *probability, int k)
{
    int best = 0;
    for (int c = 1; c < k; c++)
        if (probability[c] > probability[best])
            best = c;
    return best;
}

double
moe_metric_class_accuracy(const float *probability, const float *label, int64_t n, int k)
{
    int64_t right = 0;
    for (int64_t i = 0; i < n; i++)
        right += winner(probability + i * k, k) == (int) label[i];
    return (double) right / n;
}

double
moe_metric_class_log_loss(const float *probability, const float *label, int64_t n, int k)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum -= log(fmin(fmax(probability[i * k + (int) label[i]], LEAST_PROBABILITY), 1));
    return sum / n;
}

double
moe_metric_class_brier(const float *probability, const float *label, int64_t n, int k)
{
    double sum = 0;
    for (int64_t i = 0; i < n * k; i++)
    {
        double off = (double) probability[i] - (i % k == (int) label[i / k]);
        sum += off * off;
    }
    return sum / n;
}

double
moe_metric_macro_f1(moe_job *job, const float *probability, const float *label, int64_t n, int k)
{
    int64_t *counts = moe_alloc(job, 3 * (int64_t) k, sizeof *counts); /* hits, claimed, true of each class */
    if (counts == NULL)
        return NAN;
    for (int64_t i = 0; i < n; i++)
    {
        int claim = winner(probability + i * k, k);
        int truth = (int) label[i];
        counts[3 * claim + 1]++;
        if (truth < 0 || truth >= k)
            continue;
        counts[3 * truth] += claim == truth;
        counts[3 * truth + 2]++;
    }
    double sum = 0;
    int classes = 0;
    for (int c = 0; c < k; c++)
        if (counts[3 * c + 2] > 0)
        {
            sum += 2.0 * counts[3 * c] / (counts[3 * c + 1] + counts[3 * c + 2]);
            classes++;
        }
    moe_free(job, counts);
    return classes > 0 ? sum / classes : NAN;
}

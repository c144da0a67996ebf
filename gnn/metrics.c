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
        double p = fmin(fmax(score[i], 1e-7), 1 - 1e-7);
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

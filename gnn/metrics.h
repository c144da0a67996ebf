/*
 * metrics.h: how good predictions are. All take n >= 1 unless said; NaN where a metric is undefined
 * (AUROC of one class).
 */
#ifndef MOE_METRICS_H
#define MOE_METRICS_H

#include "kernels/job.h"

/* Binary: score is a probability, label 0 or 1. */
double moe_metric_auroc(moe_job *job, const float *score, const float *label, int64_t n); /* ties count half */
double moe_metric_average_precision(moe_job *job, const float *score, const float *label,
                                    int64_t n);                                /* step-wise sum, ties as one step */
double moe_metric_accuracy(const float *score, const float *label, int64_t n); /* threshold 0.5 */
double moe_metric_f1(const float *score, const float *label, int64_t n);
double moe_metric_log_loss(const float *score, const float *label, int64_t n); /* clipped at 1e-7 */
double moe_metric_brier(const float *score, const float *label, int64_t n);

/* A bin of a reliability diagram: do rows that are told about `mean` come true as often? */
typedef struct moe_reliability_bin
{
    int64_t count;
    double mean;     /* of the scores */
    double positive; /* share of label 1 */
} moe_reliability_bin;

/* Up to `bins` bins of about equal count, by ascending score, equal scores in one bin; how many. 0 if a score is NaN.
 */
int moe_metric_reliability(moe_job *job, const float *score, const float *label, int64_t n, int bins,
                           moe_reliability_bin *out);
/* Expected calibration error: sum over 10 such bins of their share times |mean - positive|. */
double moe_metric_calibration_error(moe_job *job, const float *score, const float *label, int64_t n);

/* Regression. */
double moe_metric_mae(const float *predicted, const float *label, int64_t n);
double moe_metric_rmse(const float *predicted, const float *label, int64_t n);
double moe_metric_r2(const float *predicted, const float *label, int64_t n);
/* Mean of max(quantile e, (quantile - 1) e), e = label - predicted: least at the quantile (0..1). */
double moe_metric_pinball(const float *predicted, const float *label, int64_t n, double quantile);
/* Share of rows with lower <= label <= upper among those with a range (neither NaN); NaN if there are none. */
double moe_metric_coverage(const float *lower, const float *upper, const float *label, int64_t n);

/* Multiclass: probability [n * k], label a class number. */
double moe_metric_class_accuracy(const float *probability, const float *label, int64_t n, int k);
/* Mean of -log of the true class's probability, clipped at 1e-7. */
double moe_metric_class_log_loss(const float *probability, const float *label, int64_t n, int k);
/* Mean over rows of the sum over classes of squared errors: 0..2. */
double moe_metric_class_brier(const float *probability, const float *label, int64_t n, int k);
double moe_metric_macro_f1(moe_job *job, const float *probability, const float *label, int64_t n,
                           int k); /* over classes that occur */

#endif

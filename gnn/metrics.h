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

/* Regression. */
double moe_metric_mae(const float *predicted, const float *label, int64_t n);
double moe_metric_rmse(const float *predicted, const float *label, int64_t n);
double moe_metric_r2(const float *predicted, const float *label, int64_t n);

/* Multiclass: probability [n * k], label a class number. */
double moe_metric_class_accuracy(const float *probability, const float *label, int64_t n, int k);
double moe_metric_macro_f1(moe_job *job, const float *probability, const float *label, int64_t n,
                           int k); /* over classes that occur */

#endif

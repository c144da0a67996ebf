/*
 * calibration.h: probabilities that mean what they say, and ranges around numbers.
 *
 * Binary: Platt's map of the logit, p -> sigmoid(a logit(p) + b), with his
 * targets (1999). Multiclass: a temperature. Both are strictly increasing, so
 * no ranking changes. Regression: the 10 % and 90 % quantiles of held-out
 * residuals, in bins of the prediction, as lower and upper (split conformal
 * prediction, Vovk et al. 2005; finite-sample corrected); a range holds its
 * prediction. Fitted on held-out predictions; with too few of them (100; 20
 * numbers) or one class it is the identity, and there is no range. Probabilities
 * that rank backwards come to the share of the positives.
 */
#ifndef MOE_CALIBRATION_H
#define MOE_CALIBRATION_H

#include "gnn/model.h"

#define MOE_CALIBRATION_BINS 16

typedef struct moe_calibration
{
    moe_task_type task;
    bool fitted;                       /* else the identity, and no range */
    double slope, offset;              /* BINARY; slope > 0 */
    double temperature;                /* MULTICLASS; above 0 */
    int bins;                          /* REGRESSION: 1..MOE_CALIBRATION_BINS; 0 where there is no range */
    double edge[MOE_CALIBRATION_BINS]; /* ascending upper edges of the bins; the last is infinite */
    double lower[MOE_CALIBRATION_BINS], upper[MOE_CALIBRATION_BINS]; /* added to the prediction */
} moe_calibration;

/* prediction as moe_model_predict gives it, for n held-out rows. */
moe_code moe_calibration_fit(moe_job *job, moe_task_type task, int n_classes, int64_t n, const float *prediction,
                             const float *label, moe_calibration *out);
/* In place: [n] or [n * K]. REGRESSION: unchanged. */
void moe_calibration_apply(const moe_calibration *calibration, int n_classes, int64_t n, float *prediction);
/* REGRESSION: lower and upper [n]; NaN where there is no range. */
void moe_calibration_range(const moe_calibration *calibration, int64_t n, const float *prediction, float *lower,
                           float *upper);
void moe_calibration_write(const moe_calibration *calibration, moe_buffer *buffer);
moe_code moe_calibration_read(moe_reader *reader, moe_calibration *out);

#endif

/*
 * features_measure.h: statistics of the first n rows of a column, on the job's threads.
 */
#ifndef MOE_FEATURES_MEASURE_H
#define MOE_FEATURES_MEASURE_H

#include "embed/spec.h"

typedef struct moe_measured
{
    int64_t first;   /* row with a value, -1: none */
    int64_t missing; /* rows without */
    bool varies;     /* some value differs from the first */
} moe_measured;

moe_code moe_measure_presence(moe_job *job, const moe_column *column, int64_t n, moe_measured *out);
/*
 * Mean and deviation of a NUMBER, BOOL or TIME; scaling: NULL, or its
 * logarithm is measured. Summed chunk by chunk, in order.
 */
moe_code moe_measure_moments(moe_job *job, const moe_column *column, int64_t n, const moe_scaling *scaling,
                             double *mean, double *deviation);
/* Values of a NUMBER, BOOL or TIME: all if there are at most `limit`, else evenly spaced ones. NULL on failure. */
double *moe_measure_sample(moe_job *job, const moe_column *column, int64_t n, int64_t limit, int64_t *n_sample);
/* Range of a TIME, and the mask of the components that vary. */
moe_code moe_measure_times(moe_job *job, const moe_column *column, int64_t n, int64_t *low, int64_t *high,
                           int *varying);

#endif

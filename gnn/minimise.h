/*
 * minimise.h: the minimum of a smooth convex function of many variables.
 */
#ifndef MOE_MINIMISE_H
#define MOE_MINIMISE_H

#include "kernels/job.h"

typedef struct moe_smooth
{
    int64_t n; /* variables */
    /* The value at a point, and the gradient [n] there. */
    double (*evaluate)(void *arg, const double *at, double *gradient);
    /* Replace a vector by about the inverse of the second derivatives times it; NULL: nothing is known of them. */
    void (*precondition)(void *arg, double *vector);
    void *arg;
} moe_smooth;

/*
 * Move `at` [n] to the minimum: until no component of the gradient exceeds tolerance, nothing more is gained, or
 * `most` steps were taken. Looks at the cancel flag at every step.
 */
moe_code moe_minimise(moe_job *job, const moe_smooth *function, double tolerance, int most, double *at);

#endif

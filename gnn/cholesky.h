/*
 * cholesky.h: symmetric positive definite systems of equations.
 */
#ifndef MOE_CHOLESKY_H
#define MOE_CHOLESKY_H

#include "kernels/job.h"

/*
 * Replace the lower triangle of a [n, n] by L with L L^T = a, on the job's threads. A pivot that rounding has
 * made too small is raised, so that L is always invertible.
 */
moe_code moe_cholesky(moe_job *job, int64_t n, double *a);
/* Replace x [n] by the solution of L L^T y = x. */
void moe_cholesky_solve(int64_t n, const double *l, double *x);

#endif

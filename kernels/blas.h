/*
 * blas.h: dense products through OpenBLAS, opened on first need.
 *
 * libopenblas.so.0 is opened with dlopen, single-threaded and with all signals
 * blocked, because loading it starts threads and threads do not survive the
 * postmaster's fork: a library in shared_preload_libraries must not be linked to it.
 */
#ifndef MOE_BLAS_H
#define MOE_BLAS_H

#include "kernels/job.h"

/* Open the library once per process. MOE_UNAVAILABLE, with the package to install, if it is not there. */
moe_code moe_blas_open(moe_job *job);
/* "OpenBLAS 0.3.21 ..." or NULL before moe_blas_open. */
const char *moe_blas_version(void);

/*
 * C[m,n] = A*B + beta*C, row-major; A is [m,k] (or [k,m] if transpose_a), B
 * [k,n] (or [n,k]); ld* are row strides. Split over the job's threads in blocks
 * that depend on the shape alone. moe_blas_open must have succeeded. A failure
 * (no memory for partial sums, or the job cancelled meanwhile) is recorded in
 * the job and leaves C undefined.
 */
void moe_gemm(moe_job *job, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float *a,
              int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
/* C = A*B + the row [n] (NULL: none) added to every row; A [m,k], B [k,n], C [m,n] without gaps. */
void moe_gemm_row(moe_job *job, int64_t m, int64_t n, int64_t k, const float *a, const float *b, const float *row,
                  float *c);

#endif

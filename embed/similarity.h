/*
 * similarity.h: how alike vectors, rankings and multisets are; see observe.h.
 */
#ifndef MOE_SIMILARITY_H
#define MOE_SIMILARITY_H

#include "kernels/job.h"

/* Of two vectors of n numbers, summed in double; 0 where one of them is zero. */
double moe_cosine(const float *a, const float *b, int64_t n);

/*
 * Spearman's rank correlation of n pairs: Pearson's of their ranks, equal values sharing their mean rank. NaN where
 * there are fewer than three pairs or one side is constant.
 */
moe_code moe_spearman(moe_job *job, const double *x, const double *y, int64_t n, double *out);

/* Of two ascending lists: the size of their multiset intersection over the sum of their sizes, 0 to 1/2. */
double moe_multiset_jaccard(const int32_t *a, int64_t n, const int32_t *b, int64_t m);

/*
 * The k < n rows nearest by cosine to each of n rows of `width` numbers, `stride` apart: [n, k], nearest first, the
 * row itself left out, ties to the lower row.
 */
moe_code moe_nearest_rows(moe_job *job, const float *x, int64_t n, int64_t width, int64_t stride, int64_t k,
                          int32_t *out);

/* The mean share that n pairs of lists of k rows, as moe_nearest_rows gives them, have in common. */
double moe_shared_rows(const int32_t *a, const int32_t *b, int64_t n, int64_t k);

#endif

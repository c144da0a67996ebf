/*
 * reference.h: the operations of the reference backend that stand in files of
 * their own; reference.c has the others and the table. Contracts in ops.h.
 */
#ifndef MOE_REFERENCE_H
#define MOE_REFERENCE_H

#include "kernels/ops.h"

/* out (+)= value, the meaning of `add` everywhere. */
static inline void
moe_reference_put(float *out, bool add, double value)
{
    *out = (float) (add ? *out + value : value);
}

/* reference_sparse.c */
void moe_reference_gather(moe_job *job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add,
                          float *out);
void moe_reference_aggregate(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out);
void moe_reference_aggregate_types(moe_job *job, int terms, const moe_sparse *s, const float *const *x, int64_t cols,
                                   bool add, float *out);
void moe_reference_aggregate_max(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, float *out,
                                 int32_t *argmax);
void moe_reference_aggregate_max_backward(moe_job *job, const moe_sparse *t, const int32_t *entry, int64_t cols,
                                          const int32_t *argmax, const float *gy, bool add, float *gx);
void moe_reference_edge_dot(moe_job *job, const moe_sparse *s, int64_t cols, const float *a, const float *b, bool add,
                            float *out);
void moe_reference_aggregate_parts(moe_job *job, const moe_sparse *s, int parts, int64_t cols, const float *x,
                                   float *out);
void moe_reference_sum_rows(moe_job *job, int64_t n, int64_t cols, int terms, const float *const *x,
                            const int32_t *const *index, float *out);
void moe_reference_transpose(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset,
                             int32_t *index, float *weight, int32_t *entry);

/* reference_window.c */
void moe_reference_segment_softmax(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols, const float *x,
                                   float *y);
void moe_reference_segment_softmax_backward(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols,
                                            const float *y, const float *gy, bool add, float *gx);
void moe_reference_prefix_sum(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay,
                              const float *x, double *out);
void moe_reference_prefix_sum_backward(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols,
                                       const float *decay, const double *g, bool add, float *gx);
void moe_reference_window_sum(moe_job *job, int64_t n, int64_t cols, const int32_t *last, const int32_t *before,
                              const float *factor, const float *fade, const double *sum, float *out);
void moe_reference_window_sum_backward(moe_job *job, int64_t n, int64_t cols, int64_t places, const int32_t *last,
                                       const int32_t *before, const float *factor, const float *fade, const float *gy,
                                       double *g);

#endif

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

/* reference.c: probabilities of one row into p; returns log sum exp. */
double moe_reference_softmax_row(const float *x, int64_t cols, float *p);

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

/* reference_mixture.c */
void moe_reference_top_k_gate(moe_job *job, int64_t rows, int64_t experts, int k, float noise, uint64_t key,
                              const float *logits, float *gates);
void moe_reference_top_k(moe_job *job, int64_t rows, int64_t cols, int k, const float *x, int32_t *chosen);
void moe_reference_pick(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *x,
                        float *out);
void moe_reference_pick_backward(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen,
                                 const float *gy, bool add, float *gx);
void moe_reference_group(moe_job *job, int64_t rows, int k, int groups, const int32_t *chosen, int64_t *offset,
                         int32_t *row, int32_t *place);
void moe_reference_grouped_linear(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                                  const int32_t *row, const float *x, const float *w, const float *b, float *out);
void moe_reference_grouped_linear_input(moe_job *job, int groups, int64_t n, int64_t k, int64_t m,
                                        const int64_t *offset, const float *gy, const float *w, bool add, float *gx);
void moe_reference_grouped_linear_weight(moe_job *job, int groups, int64_t n, int64_t k, int64_t m,
                                         const int64_t *offset, const int32_t *row, const float *x, const float *gy,
                                         float *gw, float *gb);
void moe_reference_balance_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, const float *gates,
                                float *value, float *gradient);
void moe_reference_z_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, float *value,
                          float *gradient);

#endif

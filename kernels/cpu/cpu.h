/*
 * cpu.h: shared by the CPU backend's files: grain sizes, vector helpers, and
 * the functions that backend.c puts into the table. Contracts stand in ops.h.
 *
 * Sums along a row use eight lanes which are added in a fixed order, so that
 * they vectorise without leave to reassociate. Hot loops are compiled twice,
 * for x86-64-v3 (AVX2, FMA) and for the baseline, and chosen at load time.
 */
#ifndef MOE_CPU_H
#define MOE_CPU_H

#include "kernels/ops.h"

/* Sanitizers cannot run before the resolvers that choose between versions do. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12 &&    \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MOE_MULTIVERSION __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define MOE_MULTIVERSION
#endif

/* Before a loop whose output may be an input itself: no iteration depends on another. */
#if defined(__clang__)
#define MOE_NO_DEPENDENCE _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define MOE_NO_DEPENDENCE _Pragma("GCC ivdep")
#else
#define MOE_NO_DEPENDENCE
#endif

#define MOE_INLINE static inline __attribute__((always_inline))

#define MOE_LANES 8
typedef float moe_lanes __attribute__((vector_size(MOE_LANES * sizeof(float)), aligned(4), may_alias));

/* Floats worth one chunk of a loop that is bound by memory. */
#define MOE_GRAIN 32768
/* Rows of a sum over rows: slabs have partial results that are added in order. */
#define MOE_SMALLEST_SLAB 512
#define MOE_MOST_SLABS    64

/* Rows of `cols` floats worth one chunk. */
MOE_INLINE int64_t
moe_row_grain(int64_t cols)
{
    return cols < 1 ? MOE_GRAIN : cols > MOE_GRAIN ? 1 : MOE_GRAIN / cols;
}

MOE_INLINE int64_t
moe_slab_rows(int64_t rows)
{
    int64_t slab = (rows + MOE_MOST_SLABS - 1) / MOE_MOST_SLABS;
    return slab < MOE_SMALLEST_SLAB ? MOE_SMALLEST_SLAB : slab;
}

MOE_INLINE float
moe_add_lanes(const float *lane)
{
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

/* Sum of x[i]. */
MOE_INLINE float
moe_row_sum(const float *x, int64_t n)
{
    moe_lanes lanes = {0};
    int64_t i = 0;
    for (; i + MOE_LANES <= n; i += MOE_LANES)
        lanes += *(const moe_lanes *) (x + i);
    float sum = moe_add_lanes((const float *) &lanes);
    for (; i < n; i++)
        sum += x[i];
    return sum;
}

/* Sum of a[i] * b[i]. */
MOE_INLINE float
moe_row_product(const float *a, const float *b, int64_t n)
{
    moe_lanes lanes = {0};
    int64_t i = 0;
    for (; i + MOE_LANES <= n; i += MOE_LANES)
        lanes += *(const moe_lanes *) (a + i) * *(const moe_lanes *) (b + i);
    float sum = moe_add_lanes((const float *) &lanes);
    for (; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Sum of a[i] * b[i] * (x[i] - shift). */
MOE_INLINE float
moe_row_triple(const float *a, const float *b, const float *x, float shift, int64_t n)
{
    moe_lanes lanes = {0};
    int64_t i = 0;
    for (; i + MOE_LANES <= n; i += MOE_LANES)
        lanes += *(const moe_lanes *) (a + i) * *(const moe_lanes *) (b + i) * (*(const moe_lanes *) (x + i) - shift);
    float sum = moe_add_lanes((const float *) &lanes);
    for (; i < n; i++)
        sum += a[i] * b[i] * (x[i] - shift);
    return sum;
}

/* Sum of (x[i] - shift)^2. */
MOE_INLINE float
moe_row_squares(const float *x, float shift, int64_t n)
{
    moe_lanes lanes = {0};
    int64_t i = 0;
    for (; i + MOE_LANES <= n; i += MOE_LANES)
    {
        moe_lanes d = *(const moe_lanes *) (x + i) - shift;
        lanes += d * d;
    }
    float sum = moe_add_lanes((const float *) &lanes);
    for (; i < n; i++)
        sum += (x[i] - shift) * (x[i] - shift);
    return sum;
}

/* narrow.c */
/* Whether weights [k, m] suit the functions below. */
bool moe_narrow_fits(int64_t k, int64_t m);        /* x w by moe_narrow_multiply */
bool moe_narrow_weight_fits(int64_t k, int64_t m); /* x^T gy by moe_narrow_weight */
/* out = x w [n, k][k, m], plus the row where one is given, or (then without a row) added. */
void moe_narrow_multiply(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *w,
                         const float *row, bool add, float *out);
/* gw += x^T gy: [n, k]^T [n, m]. */
void moe_narrow_weight(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw);

/* dense.c */
void moe_cpu_linear(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *w, const float *b,
                    float *out);
void moe_cpu_linear_input(moe_job *job, int64_t n, int64_t k, int64_t m, const float *gy, const float *w, bool add,
                          float *gx);
void moe_cpu_linear_weight(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw);
void moe_cpu_add_row(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, float *out);
void moe_cpu_column_sum(moe_job *job, int64_t rows, int64_t cols, const float *x, float *out);
void moe_cpu_multiply_column(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *c, bool add,
                             float *out);
void moe_cpu_row_dot(moe_job *job, int64_t rows, int64_t cols, const float *a, const float *b, bool add, float *out);
void moe_cpu_copy_block(moe_job *job, int64_t rows, int64_t cols, const float *x, int64_t x_stride, bool add,
                        float *out, int64_t out_stride);

/* elementwise.c */
void moe_cpu_sum(moe_job *job, int64_t count, const float *const *terms, int n, float *out);
void moe_cpu_scale(moe_job *job, int64_t count, float factor, const float *x, bool add, float *out);
void moe_cpu_multiply(moe_job *job, int64_t count, const float *a, const float *b, bool add, float *out);
void moe_cpu_relu(moe_job *job, int64_t count, const float *x, float *out);
void moe_cpu_relu_backward(moe_job *job, int64_t count, float factor, const float *y, const float *gy, bool add,
                           float *gx);
void moe_cpu_dropout(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, bool add, float *out);
void moe_cpu_relu_dropout(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, float *out);

/* rows.c */
void moe_cpu_layer_norm(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                        float *y, float *mean, float *deviation);
void moe_cpu_layer_norm_backward(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                                 const float *mean, const float *deviation, const float *gy, bool add, float *gx,
                                 float *ggain, float *gbias);
void moe_cpu_softmax(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y);
void moe_cpu_softmax_backward(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add,
                              float *gx);

/* sparse.c */
void moe_cpu_gather(moe_job *job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out);
void moe_cpu_aggregate(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out);
void moe_cpu_aggregate_parts(moe_job *job, const moe_sparse *s, int parts, int64_t cols, const float *x, float *out);
void moe_cpu_sum_rows(moe_job *job, int64_t n, int64_t cols, int terms, const float *const *x,
                      const int32_t *const *index, float *out);
void moe_cpu_transpose(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index,
                       float *weight, int32_t *entry);

/* mixture.c */
void moe_cpu_top_k_gate(moe_job *job, int64_t rows, int64_t experts, int k, float noise, uint64_t key,
                        const float *logits, float *gates);
void moe_cpu_top_k(moe_job *job, int64_t rows, int64_t cols, int k, const float *x, int32_t *chosen);
void moe_cpu_pick(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *x, float *out);
void moe_cpu_pick_backward(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *gy,
                           bool add, float *gx);
void moe_cpu_group(moe_job *job, int64_t rows, int k, int groups, const int32_t *chosen, int64_t *offset, int32_t *row,
                   int32_t *place);
void moe_cpu_balance_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, const float *gates,
                          float *value, float *gradient);
void moe_cpu_z_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, float *value, float *gradient);

/* grouped.c */
void moe_cpu_grouped_linear(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                            const int32_t *row, const float *x, const float *w, const float *b, float *out);
void moe_cpu_grouped_linear_input(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                                  const float *gy, const float *w, bool add, float *gx);
void moe_cpu_grouped_linear_weight(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                                   const int32_t *row, const float *x, const float *gy, float *gw, float *gb);

/* loss.c */
void moe_cpu_loss(moe_job *job, moe_loss_kind kind, int64_t rows, const float *x, const float *label,
                  const float *weight, float *value, float *gradient);
void moe_cpu_cross_entropy(moe_job *job, int64_t rows, int64_t classes, const float *logits, const int32_t *label,
                           const float *weight, float *value, float *gradient);

#endif

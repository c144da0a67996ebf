/*
 * cpu.h: shared by the CPU backend's files: the functions that backend.c puts
 * into the table, grain sizes, vector helpers. Contracts stand in ops.h.
 *
 * The backend is compiled several times, for several sets of instructions
 * (core.mk), and dispatch.c chooses: what the files share carries the set's
 * name, and all else is static. Sums along a row use the lanes of a vector,
 * which are added in a fixed order, so that they vectorise without leave to
 * reassociate.
 */
#ifndef MOE_CPU_H
#define MOE_CPU_H

#include <stddef.h>

#include "kernels/ops.h"

#define MOE_TEXT_OF(name) #name
#define MOE_TEXT(name)    MOE_TEXT_OF(name)

/*
 * After a declaration that other files of the backend see: give the symbol the
 * name of the set of instructions this is compiled for (core.mk).
 */
#ifdef MOE_CPU_SET
#define MOE_IN_SET(name) __asm__(MOE_TEXT(__USER_LABEL_PREFIX__) #name "_" MOE_TEXT(MOE_CPU_SET))
#else
#define MOE_IN_SET(name)
#endif

/* The operations this backend has, by file: operation x of ops.h is the function moe_cpu_x, declared below. */
#define MOE_CPU_DENSE(X)                                                                                               \
    X(linear)                                                                                                          \
    X(linear_input)                                                                                                    \
    X(linear_weight)                                                                                                   \
    X(add_row)                                                                                                         \
    X(column_sum)                                                                                                      \
    X(multiply_column)                                                                                                 \
    X(multiply_row)                                                                                                    \
    X(row_dot)                                                                                                         \
    X(copy_block)
#define MOE_CPU_ELEMENTWISE(X)                                                                                         \
    X(sum)                                                                                                             \
    X(scale)                                                                                                           \
    X(scale_by)                                                                                                        \
    X(multiply)                                                                                                        \
    X(relu)                                                                                                            \
    X(relu_backward)                                                                                                   \
    X(dropout)                                                                                                         \
    X(relu_dropout)                                                                                                    \
    X(exp)                                                                                                             \
    X(exp_backward)
#define MOE_CPU_NORM(X)                                                                                                \
    X(layer_norm)                                                                                                      \
    X(layer_norm_backward)                                                                                             \
    X(layer_norm_relu)                                                                                                 \
    X(layer_norm_relu_backward)
#define MOE_CPU_SOFTMAX(X)                                                                                             \
    X(softmax)                                                                                                         \
    X(softmax_backward)
#define MOE_CPU_ENTMAX(X)                                                                                              \
    X(entmax)                                                                                                          \
    X(entmax_backward)
#define MOE_CPU_GATHER(X)                                                                                              \
    X(gather)                                                                                                          \
    X(sum_rows)
#define MOE_CPU_AGGREGATE(X)                                                                                           \
    X(aggregate)                                                                                                       \
    X(aggregate_types)                                                                                                 \
    X(aggregate_parts)
#define MOE_CPU_EDGES(X)                                                                                               \
    X(aggregate_max)                                                                                                   \
    X(aggregate_max_backward)                                                                                          \
    X(edge_dot)
#define MOE_CPU_SEGMENT(X)                                                                                             \
    X(segment_softmax)                                                                                                 \
    X(segment_softmax_backward)
#define MOE_CPU_TRANSPOSE(X) X(transpose)
#define MOE_CPU_WINDOW(X)                                                                                              \
    X(prefix_sum)                                                                                                      \
    X(prefix_sum_backward)                                                                                             \
    X(window_sum)                                                                                                      \
    X(window_sum_backward)
#define MOE_CPU_MIXTURE(X)                                                                                             \
    X(top_k_gate)                                                                                                      \
    X(top_k)                                                                                                           \
    X(pick)                                                                                                            \
    X(pick_backward)                                                                                                   \
    X(group)                                                                                                           \
    X(balance_loss)                                                                                                    \
    X(z_loss)
#define MOE_CPU_GROUPED(X)                                                                                             \
    X(grouped_linear)                                                                                                  \
    X(grouped_linear_input)                                                                                            \
    X(grouped_linear_weight)
#define MOE_CPU_UPDATE(X)                                                                                              \
    X(square_sum)                                                                                                      \
    X(adam)
#define MOE_CPU_LOSS(X)                                                                                                \
    X(loss)                                                                                                            \
    X(cross_entropy)
#define MOE_CPU_OPERATIONS(X)                                                                                          \
    MOE_CPU_DENSE(X)                                                                                                   \
    MOE_CPU_ELEMENTWISE(X)                                                                                             \
    MOE_CPU_NORM(X)                                                                                                    \
    MOE_CPU_SOFTMAX(X)                                                                                                 \
    MOE_CPU_ENTMAX(X)                                                                                                  \
    MOE_CPU_GATHER(X)                                                                                                  \
    MOE_CPU_AGGREGATE(X)                                                                                               \
    MOE_CPU_EDGES(X)                                                                                                   \
    MOE_CPU_SEGMENT(X)                                                                                                 \
    MOE_CPU_TRANSPOSE(X) MOE_CPU_WINDOW(X) MOE_CPU_MIXTURE(X) MOE_CPU_GROUPED(X) MOE_CPU_LOSS(X) MOE_CPU_UPDATE(X)

#define MOE_CPU_DECLARE(operation)                                                                                     \
    __typeof__(*((moe_backend *) NULL)->operation) moe_cpu_##operation MOE_IN_SET(moe_cpu_##operation);
MOE_CPU_OPERATIONS(MOE_CPU_DECLARE)

extern const moe_backend moe_cpu_table MOE_IN_SET(moe_cpu_table);

/* Before a loop whose output may be an input itself: no iteration depends on another. */
#if defined(__clang__)
#define MOE_NO_DEPENDENCE _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define MOE_NO_DEPENDENCE _Pragma("GCC ivdep")
#else
#define MOE_NO_DEPENDENCE
#endif

/* Before a loop: several of its iterations in one. */
#if defined(__clang__)
#define MOE_UNROLL(n) _Pragma(MOE_TEXT(unroll n))
#elif defined(__GNUC__)
#define MOE_UNROLL(n) _Pragma(MOE_TEXT(GCC unroll n))
#else
#define MOE_UNROLL(n)
#endif

#define MOE_INLINE static inline __attribute__((always_inline))

/* Floats of a vector register, so that a tile of accumulators is kept in registers. */
#if defined(MOE_LANES)
/* Given to test one width on a machine of another. */
#elif defined(__AVX512F__)
#define MOE_LANES 16
#elif defined(__AVX__)
#define MOE_LANES 8
#else
#define MOE_LANES 4
#endif
typedef float moe_lanes __attribute__((vector_size(MOE_LANES * sizeof(float)), aligned(4), may_alias));
typedef int32_t moe_whole_lanes __attribute__((vector_size(MOE_LANES * sizeof(int32_t)), aligned(4), may_alias));

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

/* The lanes at a pointer to floats. A macro, since the baseline's calling convention cannot pass them. */
#define MOE_LANES_AT(x) (*(moe_lanes *) (x))

MOE_INLINE moe_lanes
moe_load(const float *x)
{
    return *(const moe_lanes *) x;
}

/* Sums that run beside each other along a row, so that none waits for its own last addition. */
#define MOE_CHAINS 4

/* The sum of a vector's lanes, fours first. */
MOE_INLINE float
moe_add_lanes(const float *lane)
{
    typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
    four sum = *(const four *) lane;
    for (int i = 4; i < MOE_LANES; i += 4)
        sum += *(const four *) (lane + i);
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

MOE_INLINE float
moe_add_chains(const moe_lanes *chain)
{
    moe_lanes sum = (chain[0] + chain[1]) + (chain[2] + chain[3]);
    return moe_add_lanes((const float *) &sum);
}

/* Sum of x[i]. */
MOE_INLINE float
moe_row_sum(const float *x, int64_t n)
{
    moe_lanes lanes[MOE_CHAINS] = {{0}};
    int64_t i = 0;
    for (; i + MOE_CHAINS * MOE_LANES <= n; i += MOE_CHAINS * MOE_LANES)
        for (int c = 0; c < MOE_CHAINS; c++)
        {
            int64_t at = i + c * MOE_LANES;
            lanes[c] += moe_load(x + at);
        }
    for (int64_t at = i; at + MOE_LANES <= n; i = at += MOE_LANES)
    {
        lanes[0] += moe_load(x + at);
    }
    float sum = moe_add_chains(lanes);
    for (; i < n; i++)
        sum += x[i];
    return sum;
}

/* Sum of a[i] * b[i]. */
MOE_INLINE float
moe_row_product(const float *a, const float *b, int64_t n)
{
    moe_lanes lanes[MOE_CHAINS] = {{0}};
    int64_t i = 0;
    for (; i + MOE_CHAINS * MOE_LANES <= n; i += MOE_CHAINS * MOE_LANES)
        for (int c = 0; c < MOE_CHAINS; c++)
        {
            int64_t at = i + c * MOE_LANES;
            lanes[c] += moe_load(a + at) * moe_load(b + at);
        }
    for (int64_t at = i; at + MOE_LANES <= n; i = at += MOE_LANES)
    {
        lanes[0] += moe_load(a + at) * moe_load(b + at);
    }
    float sum = moe_add_chains(lanes);
    for (; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Sum of a[i] * b[i] * (x[i] - shift). */
MOE_INLINE float
moe_row_triple(const float *a, const float *b, const float *x, float shift, int64_t n)
{
    moe_lanes lanes[MOE_CHAINS] = {{0}};
    int64_t i = 0;
    for (; i + MOE_CHAINS * MOE_LANES <= n; i += MOE_CHAINS * MOE_LANES)
        for (int c = 0; c < MOE_CHAINS; c++)
        {
            int64_t at = i + c * MOE_LANES;
            lanes[c] += moe_load(a + at) * moe_load(b + at) * (moe_load(x + at) - shift);
        }
    for (int64_t at = i; at + MOE_LANES <= n; i = at += MOE_LANES)
    {
        lanes[0] += moe_load(a + at) * moe_load(b + at) * (moe_load(x + at) - shift);
    }
    float sum = moe_add_chains(lanes);
    for (; i < n; i++)
        sum += a[i] * b[i] * (x[i] - shift);
    return sum;
}

/* Sum of (x[i] - shift)^2. */
MOE_INLINE float
moe_row_squares(const float *x, float shift, int64_t n)
{
    moe_lanes lanes[MOE_CHAINS] = {{0}};
    int64_t i = 0;
    for (; i + MOE_CHAINS * MOE_LANES <= n; i += MOE_CHAINS * MOE_LANES)
        for (int c = 0; c < MOE_CHAINS; c++)
        {
            int64_t at = i + c * MOE_LANES;
            moe_lanes d = moe_load(x + at) - shift;
            lanes[c] += d * d;
        }
    for (int64_t at = i; at + MOE_LANES <= n; i = at += MOE_LANES)
    {
        moe_lanes d = moe_load(x + at) - shift;
        lanes[0] += d * d;
    }
    float sum = moe_add_chains(lanes);
    for (; i < n; i++)
        sum += (x[i] - shift) * (x[i] - shift);
    return sum;
}

/* narrow.c */
/* Whether weights [k, m] suit the functions below. */
bool moe_narrow_fits(int64_t k, int64_t m) MOE_IN_SET(moe_narrow_fits);               /* x w by moe_narrow_multiply */
bool moe_narrow_weight_fits(int64_t k, int64_t m) MOE_IN_SET(moe_narrow_weight_fits); /* x^T gy by moe_narrow_weight */
/* out = x w [n, k][k, m], plus the row where one is given, or (then without a row) added. */
void moe_narrow_multiply(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *w,
                         const float *row, bool add, float *out) MOE_IN_SET(moe_narrow_multiply);
/* turned [m, k]: the transpose of w [k, m]. */
void moe_narrow_turn(int64_t k, int64_t m, const float *w, float *turned) MOE_IN_SET(moe_narrow_turn);
/* gw += x^T gy: [n, k]^T [n, m]. */
void moe_narrow_weight(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw)
    MOE_IN_SET(moe_narrow_weight);

#endif

/*
 * ops.h: the operations behind the tape: arrays in, arrays out.
 *
 * A backend is a table of functions with one contract each. moe_backend_cpu is
 * threaded and vectorised; moe_backend_reference is naive, single-threaded and
 * there to be read and to be checked against.
 *
 * Matrices are row-major without gaps. An output does not overlap an input
 * unless said. `add`: the result is added to the output; otherwise the output
 * is written, and its old content (which may be uninitialised) is not read.
 * Arguments have been checked by the caller. A function that runs out of
 * memory records the failure in the job and leaves its output undefined; so may
 * one during which the job is cancelled, and then moe_job_check says so.
 * Results are the same for any number of threads.
 */
#ifndef MOE_OPS_H
#define MOE_OPS_H

#include "kernels/tape.h"

typedef enum moe_loss_kind
{
    MOE_LOSS_LOGISTIC,
    MOE_LOSS_ABSOLUTE,
    MOE_LOSS_SQUARED
} moe_loss_kind;

/* A sparse matrix by rows; an index of -1 counts as an entry of zeros. */
typedef struct moe_sparse
{
    int64_t rows;
    const int64_t *offset; /* [rows + 1]; NULL: row i has the one entry i */
    const int32_t *index;  /* column of each entry, or -1 */
    const float *weight;   /* of each entry; NULL: all 1 */
    moe_reduce reduce;     /* MOE_MEAN divides each row by its number of entries */
} moe_sparse;

/* How many of the 65536 values of a draw drop a number, and the factor on those kept. */
static inline uint32_t
moe_dropped_draws(float rate)
{
    uint32_t dropped = (uint32_t) (rate * 65536.0f + 0.5f);
    return dropped > 65535 ? 65535 : dropped;
}

static inline float
moe_dropout_factor(float rate)
{
    return 65536.0f / (float) (65536 - moe_dropped_draws(rate));
}

typedef struct moe_backend
{
    const char *name;

    /* Dense. out = x w + b: [n,k][k,m]+[m]; b may be NULL. */
    void (*linear)(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *w, const float *b,
                   float *out);
    /* gx = gy w^T: [n,m][k,m]^T. */
    void (*linear_input)(moe_job *job, int64_t n, int64_t k, int64_t m, const float *gy, const float *w, bool add,
                         float *gx);
    /* gw += x^T gy: [n,k]^T[n,m]. */
    void (*linear_weight)(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw);
    /* out = the sum of n terms of `count` numbers each; n >= 1. */
    void (*sum)(moe_job *job, int64_t count, const float *const *terms, int n, float *out);
    /* out = factor * x; out may be x. */
    void (*scale)(moe_job *job, int64_t count, float factor, const float *x, bool add, float *out);
    void (*multiply)(moe_job *job, int64_t count, const float *a, const float *b, bool add, float *out);
    /* out[i,j] = x[i,j] + row[j] */
    void (*add_row)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, float *out);
    /* out[j] += sum over i of x[i,j] */
    void (*column_sum)(moe_job *job, int64_t rows, int64_t cols, const float *x, float *out);
    /* out[i,j] = x[i,j] * c[i] */
    void (*multiply_column)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *c, bool add,
                            float *out);
    /* out[i] = sum over j of a[i,j] * b[i,j] */
    void (*row_dot)(moe_job *job, int64_t rows, int64_t cols, const float *a, const float *b, bool add, float *out);
    /* Copy a [rows, cols] block between matrices whose rows are x_stride and out_stride apart. */
    void (*copy_block)(moe_job *job, int64_t rows, int64_t cols, const float *x, int64_t x_stride, bool add, float *out,
                       int64_t out_stride);
    void (*relu)(moe_job *job, int64_t count, const float *x, float *out);
    /* gx = factor * gy where y > 0, else 0; gx may be gy. */
    void (*relu_backward)(moe_job *job, int64_t count, float factor, const float *y, const float *gy, bool add,
                          float *gx);
    /*
     * Zero each number with probability rate (0 < rate < 1, in steps of 2^-16)
     * and divide the rest by its complement, by draws from key: forward and
     * backward are the same. out may be x.
     */
    void (*dropout)(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, bool add, float *out);
    /* Dropout of relu. A result above 0 was kept, so relu_backward with moe_dropout_factor is its backward. */
    void (*relu_dropout)(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, float *out);

    /* Rows. y = (x - mean) * deviation * gain + bias; mean and deviation (1 / sqrt(variance + 1e-5)) [rows] are kept.
     */
    void (*layer_norm)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                       float *y, float *mean, float *deviation);
    /* gx may be NULL or gy; ggain and gbias [cols] are added to, and may be NULL. */
    void (*layer_norm_backward)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                                const float *mean, const float *deviation, const float *gy, bool add, float *gx,
                                float *ggain, float *gbias);
    void (*softmax)(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y);
    /* gx = y * (gy - sum of y * gy) in each row; gx may be gy. */
    void (*softmax_backward)(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add,
                             float *gx);

    /* Sparse. out [n, cols]: row i is x[index[i]], or zeros for -1. */
    void (*gather)(moe_job *job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out);
    /* out [s->rows, cols] = s x; s->offset is given. */
    void (*aggregate)(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out);
    /* Several sums over the same entries: out [s->rows, parts * cols], part p with the weights weight[k * parts + p].
     */
    void (*aggregate_parts)(moe_job *job, const moe_sparse *s, int parts, int64_t cols, const float *x, float *out);
    /* out [n, cols] = the sum over terms t of x[t][i], or of x[t][index[t][i]] (zeros for -1) where index[t] is given.
     */
    void (*sum_rows)(moe_job *job, int64_t n, int64_t cols, int terms, const float *const *x,
                     const int32_t *const *index, float *out);
    /*
     * s transposed, mean resolved into weights, entries of a row in their old
     * order, those of index -1 left out: offset [columns + 1], index and
     * weight [entries of s * parts]. weight may be NULL where all are 1.
     * Of what aggregate_parts gives, as [s->rows * parts, cols], it is the
     * transpose, too: each entry becomes one for every part.
     */
    void (*transpose)(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index,
                      float *weight);

    /* Mixture. The gates of tape.h; k <= experts. noise 0: none; else draws from key. */
    void (*top_k_gate)(moe_job *job, int64_t rows, int64_t experts, int k, float noise, uint64_t key,
                       const float *logits, float *gates);
    /* The losses of tape.h: the value, and its derivative by the logits into gradient. */
    float (*balance_loss)(moe_job *job, int64_t rows, int64_t experts, const float *logits, const float *gates,
                          float *gradient);
    float (*z_loss)(moe_job *job, int64_t rows, int64_t experts, const float *logits, float *gradient);

    /* Losses. The value, and its derivative by x (or the logits) into gradient; 0 where the weights sum to 0. */
    float (*loss)(moe_job *job, moe_loss_kind kind, int64_t rows, const float *x, const float *label,
                  const float *weight, float *gradient);
    float (*cross_entropy)(moe_job *job, int64_t rows, int64_t classes, const float *logits, const int32_t *label,
                           const float *weight, float *gradient);
} moe_backend;

extern const moe_backend moe_backend_cpu;
extern const moe_backend moe_backend_reference;

/* Run the tape's next operations on a backend; it starts on moe_backend_cpu. */
void moe_tape_use_backend(moe_tape *tape, const moe_backend *backend);

#endif

/*
 * ops.h: the operations behind the tape: arrays in, arrays out.
 *
 * A backend is a table of functions with one contract each. moe_backend_cpu is
 * threaded and vectorised; moe_backend_reference is naive, single-threaded and
 * there to be read and to be checked against; that of a device (device.h) queues
 * its work and returns. Every array (not a scalar argument, nor an array of
 * pointers) lies in the memory of the job's device: the host's for the first two.
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

/* The exponential of a number beyond it, either way, is that of the limit. */
#define MOE_EXP_LIMIT 10.0f

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
    int64_t entries;       /* offset[rows], or rows * width; below 2^31 where entries are numbered */
    const int64_t *offset; /* [rows + 1]; NULL: each row has `width` entries, one after another */
    int64_t width;         /* read where offset is NULL; 0 counts as 1 */
    const int32_t *index;  /* column of each entry, or -1 */
    const float *weight;   /* of each entry; NULL: all 1 */
    moe_reduce reduce;     /* MOE_MEAN divides each row by its number of entries */
} moe_sparse;

/* The first entry of row i; of i = rows, the number of entries. Read where the matrix lies. */
static inline int64_t
moe_sparse_begin(const moe_sparse *s, int64_t i)
{
    return s->offset != NULL ? s->offset[i] : i * (s->width == 0 ? 1 : s->width);
}

/* The scalars of one step of Adam; see adam below. */
typedef struct moe_adam_rates
{
    float beta1;
    float beta2;
    float rate;       /* learning rate over (1 - beta1^t) */
    float correction; /* 1 / (1 - beta2^t) */
    float epsilon;
    float shrink;    /* 1 - learning rate * weight decay */
    float clip_norm; /* 0: no clipping */
} moe_adam_rates;

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
    /* The same with the factor read from an array of one. */
    void (*scale_by)(moe_job *job, int64_t count, const float *factor, const float *x, bool add, float *out);
    void (*multiply)(moe_job *job, int64_t count, const float *a, const float *b, bool add, float *out);
    /* out[i,j] = x[i,j] + row[j] */
    void (*add_row)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, float *out);
    /* out[j] += sum over i of x[i,j] */
    void (*column_sum)(moe_job *job, int64_t rows, int64_t cols, const float *x, float *out);
    /* out[i,j] = x[i,j] * c[i] */
    void (*multiply_column)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *c, bool add,
                            float *out);
    /* out[i,j] = x[i,j] * row[j] */
    void (*multiply_row)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, bool add,
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
    /* out = e^x, of x limited to [-MOE_EXP_LIMIT, MOE_EXP_LIMIT]. */
    void (*exp)(moe_job *job, int64_t count, const float *x, float *out);
    /* gx = y * gy where |x| is below the limit, else 0; gx may be gy. */
    void (*exp_backward)(moe_job *job, int64_t count, const float *x, const float *y, const float *gy, bool add,
                         float *gx);

    /* Rows. y = (x - mean) * deviation * gain + bias; mean and deviation (1 / sqrt(variance + 1e-5)) [rows] are kept.
     */
    void (*layer_norm)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                       float *y, float *mean, float *deviation);
    /* gx may be NULL or gy; ggain and gbias [cols] are added to, and may be NULL. */
    void (*layer_norm_backward)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                                const float *mean, const float *deviation, const float *gy, bool add, float *gx,
                                float *ggain, float *gbias);
    /* y = dropout(relu(layer_norm(x))), as above; rate 0: no dropout. */
    void (*layer_norm_relu)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                            const float *bias, float rate, uint64_t key, float *y, float *mean, float *deviation);
    /* Its backward: layer_norm_backward of factor * gy where y > 0, else 0; factor of moe_dropout_factor. */
    void (*layer_norm_relu_backward)(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                                     const float *mean, const float *deviation, const float *y, float factor,
                                     const float *gy, bool add, float *gx, float *ggain, float *gbias);
    void (*softmax)(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y);
    /* gx = y * (gy - sum of y * gy) in each row; gx may be gy. */
    void (*softmax_backward)(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add,
                             float *gx);
    /* y = max(x / 2 - t, 0)^2 in each row, with the t that makes its sum 1. */
    void (*entmax)(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y);
    /* gx = r * (gy - sum of r * gy / sum of r) in each row, r the square root of y; gx may be gy. */
    void (*entmax_backward)(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add,
                            float *gx);

    /* Sparse. out [n, cols]: row i is x[index[i]], or zeros for -1. */
    void (*gather)(moe_job *job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out);
    /* out [s->rows, cols] = s x. */
    void (*aggregate)(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out);
    /* out [s[0].rows, cols] = the sum over t < terms of s[t] x[t]: several edge types into one node in one pass. */
    void (*aggregate_types)(moe_job *job, int terms, const moe_sparse *s, const float *const *x, int64_t cols, bool add,
                            float *out);
    /*
     * out [s->rows, cols]: the largest of each row's x[index[k]] times weight, column by column; 0 where a row has
     * no entry but -1. argmax [s->rows, cols]: the entry k it came from, the first of equals, -1 for none; NULL:
     * not asked for. NaN counts as smaller than any number.
     */
    void (*aggregate_max)(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, float *out, int32_t *argmax);
    /*
     * Its backward, from the transpose t of s with the entries' old numbers:
     * gx[r,c] = sum over entries k of t's row r with argmax[index[k],c] = entry[k] of weight[k] * gy[index[k],c].
     */
    void (*aggregate_max_backward)(moe_job *job, const moe_sparse *t, const int32_t *entry, int64_t cols,
                                   const int32_t *argmax, const float *gy, bool add, float *gx);
    /*
     * Sampled dense-dense product: out[k] = a[i] . b[index[k]] for each entry k of row i; 0 for -1. s->weight and
     * s->reduce are not read.
     */
    void (*edge_dot)(moe_job *job, const moe_sparse *s, int64_t cols, const float *a, const float *b, bool add,
                     float *out);
    /* Softmax over each segment [offset[i], offset[i+1]) of the rows of x [offset[rows], cols], column by column. */
    void (*segment_softmax)(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols, const float *x, float *y);
    /* gx = y * (gy - sum of y * gy over the segment); gx may be gy. */
    void (*segment_softmax_backward)(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols, const float *y,
                                     const float *gy, bool add, float *gx);
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
     * transpose, too: each entry becomes one for every part. entry [as index],
     * where not NULL, receives each entry's number in s.
     */
    void (*transpose)(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index,
                      float *weight, int32_t *entry);

    /*
     * Lists of rows in the order of time, list l being [offset[l], offset[l+1]) of x [offset[lists], cols]:
     * out[p] = x[p] + decay[p] * out[p-1], without the second term for a list's first row; decay NULL: 1. In double.
     */
    void (*prefix_sum)(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay,
                       const float *x, double *out);
    /* Its transpose, which runs from a list's last row to its first: gx[p] = g[p] + decay[p+1] * (the same of p+1). */
    void (*prefix_sum_backward)(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay,
                                const double *g, bool add, float *gx);
    /*
     * Windows of such sums: out[i] = factor[i] * (sum[last[i]] - fade[i] * sum[before[i]]), of [n, cols]; a place of
     * -1 stands for zeros; factor and fade NULL: 1.
     */
    void (*window_sum)(moe_job *job, int64_t n, int64_t cols, const int32_t *last, const int32_t *before,
                       const float *factor, const float *fade, const double *sum, float *out);
    /*
     * Its transpose, g [places, cols], written: each place is the sum, in order of i, of factor[i] * gy[i] where it is
     * last[i] and of -factor[i] * fade[i] * gy[i] where it is before[i].
     */
    void (*window_sum_backward)(moe_job *job, int64_t n, int64_t cols, int64_t places, const int32_t *last,
                                const int32_t *before, const float *factor, const float *fade, const float *gy,
                                double *g);

    /* Mixture. The gates of tape.h; k <= experts. noise 0: none; else draws from key. */
    void (*top_k_gate)(moe_job *job, int64_t rows, int64_t experts, int k, float noise, uint64_t key,
                       const float *logits, float *gates);
    /* chosen [rows, k], k <= cols: the columns of each row's k largest numbers, ascending; ties go to the lower column,
     * NaN counts as smaller than any number. */
    void (*top_k)(moe_job *job, int64_t rows, int64_t cols, int k, const float *x, int32_t *chosen);
    /* out [rows, k]: out[i,j] = x[i, chosen[i,j]]. */
    void (*pick)(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *x, float *out);
    /* Its transpose: gx [rows, cols] = gy at the chosen columns, zero elsewhere. */
    void (*pick_backward)(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *gy,
                          bool add, float *gx);
    /*
     * Sort the rows * k choices by group, then by row: group g has places [offset[g], offset[g+1]) of [groups + 1],
     * row[place] is the row that chose, and place [rows, k] where each choice went.
     */
    void (*group)(moe_job *job, int64_t rows, int k, int groups, const int32_t *chosen, int64_t *offset, int32_t *row,
                  int32_t *place);
    /*
     * Grouped product: out[p] = x[row[p]] w_g + b_g for each place p of group g: [n,k] (groups of) [k,m]. w [groups *
     * k, m], b [groups, m] or NULL; row NULL: row p. offset [groups + 1] runs from 0 to n.
     */
    void (*grouped_linear)(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                           const int32_t *row, const float *x, const float *w, const float *b, float *out);
    /* gx [n,k]: gx[p] = gy[p] w_g^T. */
    void (*grouped_linear_input)(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                                 const float *gy, const float *w, bool add, float *gx);
    /* gw_g += the sum of x[row[p]]^T gy[p], gb_g += the sum of gy[p]; gb may be NULL. */
    void (*grouped_linear_weight)(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                                  const int32_t *row, const float *x, const float *gy, float *gw, float *gb);
    /* The losses of tape.h: the value [1], and its derivative by the logits into gradient. */
    void (*balance_loss)(moe_job *job, int64_t rows, int64_t experts, const float *logits, const float *gates,
                         float *value, float *gradient);
    void (*z_loss)(moe_job *job, int64_t rows, int64_t experts, const float *logits, float *value, float *gradient);

    /* Losses. The value [1], and its derivative by x (or the logits) into gradient; 0 where the weights sum to 0. */
    void (*loss)(moe_job *job, moe_loss_kind kind, int64_t rows, const float *x, const float *label,
                 const float *weight, float *value, float *gradient);
    void (*cross_entropy)(moe_job *job, int64_t rows, int64_t classes, const float *logits, const int32_t *label,
                          const float *weight, float *value, float *gradient);

    /* Optimiser. *out [1] = the sum of x[i]^2, in double. */
    void (*square_sum)(moe_job *job, int64_t count, const float *x, double *out);
    /*
     * One step of Adam (adam.c has the formula) over count weights; the gradient, scaled down to the clip norm where
     * sqrt(*square_sum) exceeds it, is zeroed. Where *square_sum is not finite, nothing but the gradient is changed.
     */
    void (*adam)(moe_job *job, int64_t count, const moe_adam_rates *rates, const double *square_sum, float *value,
                 float *gradient, float *moment1, float *moment2);
} moe_backend;

extern const moe_backend moe_backend_reference;
/*
 * The CPU backend for this machine: "cpu" runs on all of its architecture, "cpu-avx2" and "cpu-avx512" where these
 * are found. MOE_ML_CPU in the environment names another than the fastest. Safe from any thread.
 */
const moe_backend *moe_cpu_backend(void);
/* All of them that run on this machine, the slowest first. */
const moe_backend *const *moe_cpu_backends(int *n);
#define moe_backend_cpu (*moe_cpu_backend())

/* Run the tape's next operations on a backend; it starts on moe_backend_cpu. */
void moe_tape_use_backend(moe_tape *tape, const moe_backend *backend);

#endif

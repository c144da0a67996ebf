/*
 * tape.h: reverse-mode differentiation over a small set of operations.
 *
 * A variable is a row-major float matrix [rows, cols]. An operation computes
 * its value at once, records itself, and at moe_tape_backward adds to its
 * inputs' gradients, last operation first. All memory comes from the tape's
 * arenas and dies at moe_tape_reset.
 *
 * Values and gradients lie in the memory of the job's device (device.h), and
 * only operations read them there; the host reads a copy (moe_tape_read). What
 * an operation is given beside variables (indices, labels, weights) is arrays
 * of the host, which it hands to the device itself.
 *
 * Failure is sticky: an operation given NULL, a wrong shape, or a failed or
 * cancelled job records the failure and returns NULL, so that a composition
 * needs one check at its end. Every operation polls the cancel flag.
 *
 * Where the device is the host, a variable's value may be read as soon as the
 * operation has returned. Arrays passed in are not copied there: they must live
 * unchanged until the reset (allocate them with moe_tape_alloc). All results
 * are the same for any number of threads.
 */
#ifndef MOE_TAPE_H
#define MOE_TAPE_H

#include "kernels/params.h"

typedef struct moe_tape moe_tape;

typedef struct moe_var
{
    int64_t rows;
    int64_t cols;
    float *value; /* on the device; NULL after backward where an operation over parameters made it, but for the loss */
    float *gradient;     /* on the device; NULL until backward needs it, and when it has done with it */
    bool needs_gradient; /* a parameter lies below */
} moe_var;

/* training: dropout and gate noise are active. seed: key of all random draws until the next reset. */
moe_tape *moe_tape_create(moe_job *job);
void moe_tape_destroy(moe_tape *tape);
void moe_tape_reset(moe_tape *tape, bool training, uint64_t seed);
bool moe_tape_training(const moe_tape *tape);
moe_job *moe_tape_job(const moe_tape *tape);
/* Memory of the host that lives until the next reset; not zeroed. */
void *moe_tape_alloc(moe_tape *tape, int64_t count, size_t size);
/* A fresh random key: the n-th call since the reset gives the n-th key of the seed. */
uint64_t moe_tape_key(moe_tape *tape);
/*
 * Backward from a [1, 1] loss into the parameters' gradients (which it adds to). Of what operations computed on the way
 * to the loss nothing is left afterwards: gradients take its memory.
 */
moe_code moe_tape_backward(moe_tape *tape, moe_var *loss);
/* Copy a variable's value to the host, [rows, cols]; waits for it. NULL is a failure. */
moe_code moe_tape_read(moe_tape *tape, const moe_var *var, float *host);

/* Leaves */
moe_var *moe_constant(moe_tape *tape, int64_t rows, int64_t cols, const float *values); /* of the host */
/* A constant whose values lie on the device already, and stay there as they are until the reset. */
moe_var *moe_resident(moe_tape *tape, int64_t rows, int64_t cols, const float *values);
moe_var *moe_variable(moe_tape *tape, moe_param *param);

/* Dense */
moe_var *moe_linear(moe_tape *tape, moe_var *x, moe_var *w, moe_var *b); /* [n,k][k,m]+[1,m] (b may be NULL) */
moe_var *moe_add(moe_tape *tape, moe_var *a, moe_var *b);                /* same shape */
moe_var *moe_add_row(moe_tape *tape, moe_var *x, moe_var *row);          /* [n,m]+[1,m] */
moe_var *moe_sum(moe_tape *tape, moe_var **terms, int n);                /* n >= 1 of one shape; NULL is a failure */
moe_var *moe_scale(moe_tape *tape, moe_var *x, float factor);
moe_var *moe_multiply(moe_tape *tape, moe_var *a, moe_var *b);                /* elementwise */
moe_var *moe_multiply_column(moe_tape *tape, moe_var *x, moe_var *c);         /* [n,m]*[n,1] */
moe_var *moe_multiply_row(moe_tape *tape, moe_var *x, moe_var *row);          /* [n,m]*[1,m] */
moe_var *moe_concat(moe_tape *tape, moe_var **parts, int n);                  /* side by side: same rows */
moe_var *moe_reshape(moe_tape *tape, moe_var *x, int64_t rows, int64_t cols); /* the same numbers in the same order */
moe_var *moe_exp(moe_tape *tape, moe_var *x); /* of x limited to +-MOE_EXP_LIMIT (ops.h) */
moe_var *moe_relu(moe_tape *tape, moe_var *x);
moe_var *moe_layer_norm(moe_tape *tape, moe_var *x, moe_var *gain, moe_var *bias); /* gain, bias [1,m]; epsilon 1e-5 */
/* relu_dropout of layer_norm, in one pass. */
moe_var *moe_layer_norm_relu(moe_tape *tape, moe_var *x, moe_var *gain, moe_var *bias, float rate);
moe_var *moe_dropout(moe_tape *tape, moe_var *x, float rate);      /* identity outside training */
moe_var *moe_relu_dropout(moe_tape *tape, moe_var *x, float rate); /* dropout of relu, in one pass */
moe_var *moe_softmax(moe_tape *tape, moe_var *x);                  /* each row */
/* 1.5-entmax of each row (Peters, Niculae, Martins 2019): as softmax, but small numbers give 0. */
moe_var *moe_entmax(moe_tape *tape, moe_var *x);

/* Sparse. An index of -1 stands for a row of zeros. */
moe_var *moe_gather(moe_tape *tape, moe_var *x, const int32_t *index, int64_t n); /* [n,C] */
/* Row i of the result is the sum (or mean; 0 of nothing) of x[index[k]], k in [offset[i], offset[i+1]), each times
 * weight[k] if weight is given. */
typedef enum moe_reduce
{
    MOE_SUM,
    MOE_MEAN
} moe_reduce;
moe_var *moe_aggregate(moe_tape *tape, moe_var *x, const int64_t *offset, const int32_t *index, const float *weight,
                       int64_t n, moe_reduce reduce);
/* The same with a fixed number of entries a row, [n, width], each of weight 1. */
moe_var *moe_embedding_bag(moe_tape *tape, moe_var *x, const int32_t *index, int64_t width, int64_t n,
                           moe_reduce reduce);
/* Several sums over the same rows, side by side: [n, parts * C], part p with the weights weight[k * parts + p]. */
moe_var *moe_aggregate_parts(moe_tape *tape, moe_var *x, const int64_t *offset, const int32_t *index,
                             const float *weight, int parts, int64_t n);
/* The sum of terms of n rows, or, where index[t] is given, of gather(terms[t], index[t], n); in one pass. */
moe_var *moe_sum_rows(moe_tape *tape, moe_var **terms, const int32_t *const *index, int n_terms, int64_t n);
/* The edges of one type into n rows, as moe_aggregate takes them. */
typedef struct moe_edges
{
    const int64_t *offset;
    const int32_t *index;
    const float *weight; /* NULL: all 1 */
    moe_reduce reduce;
} moe_edges;
/* The sum over types t of moe_aggregate(x[t], edges[t], n), in one pass. */
moe_var *moe_aggregate_types(moe_tape *tape, moe_var **x, const moe_edges *edges, int n_types, int64_t n);
/* Row i of the result is, column by column, the largest of x[index[k]] times weight[k] (NULL: 1); 0 of nothing. */
moe_var *moe_aggregate_max(moe_tape *tape, moe_var *x, const int64_t *offset, const int32_t *index, const float *weight,
                           int64_t n);
/* moe_aggregate's sum with weights that are a variable, [entries, 1]. */
moe_var *moe_aggregate_weighted(moe_tape *tape, moe_var *x, moe_var *weight, const int64_t *offset,
                                const int32_t *index, int64_t n);
/* [entries, 1]: a[i] . b[index[k]] for each entry k of row i of a. */
moe_var *moe_edge_dot(moe_tape *tape, moe_var *a, moe_var *b, const int64_t *offset, const int32_t *index);
/* Softmax over the rows of each of n segments [offset[i], offset[i+1]), column by column. */
moe_var *moe_segment_softmax(moe_tape *tape, moe_var *x, const int64_t *offset, int64_t n);
/*
 * Lists of rows, list l being rows [offset[l], offset[l+1]) of x, and windows of them. With the running sum of a list
 *     s[p] = x[p] + decay[p] * s[p-1]
 * row i of the result, [n, C], is factor[i] * (s[last[i]] - fade[i] * s[before[i]]); a place of -1 stands for zeros.
 */
typedef struct moe_windows
{
    int64_t lists;
    const int64_t *offset; /* [lists + 1], up to the rows of x */
    const float *decay;    /* [rows of x]; NULL: 1 */
    int64_t n;
    const int32_t *last;   /* [n] places in x, or -1 */
    const int32_t *before; /* [n] */
    const float *factor;   /* [n]; NULL: 1 */
    const float *fade;     /* [n]; NULL: 1 */
} moe_windows;
moe_var *moe_prefix_windows(moe_tape *tape, moe_var *x, const moe_windows *windows);
/*
 * The running sums of constants, made once for the windows of many steps (of which only the lists are read here):
 * [places, cols], row p that of x[row[p]], or of x[p] where row is NULL. x [rows, cols] and row are of the host; the
 * sums lie on the job's device, and the caller frees them with moe_device_free. NULL on failure, which is recorded.
 */
double *moe_running_sums(moe_job *job, const moe_windows *lists, const int32_t *row, int64_t rows, int64_t cols,
                         const float *x);
/* moe_prefix_windows of constants whose running sums are at hand; they must live until the reset. */
moe_var *moe_resident_windows(moe_tape *tape, const double *sums, int64_t cols, const moe_windows *windows);
/* Row index[i] of the [n_out, C] result is increased by x[i]: the transpose of gather. */
moe_var *moe_scatter(moe_tape *tape, moe_var *x, const int32_t *index, int64_t n_out);

/* Mixture of experts (Shazeer et al. 2017; Fedus et al. 2021; Zoph et al. 2022) */
/*
 * Sparse gates from router logits [n, E]: softmax over the k largest of each
 * row (logits plus noise * N(0,1) in training), zero elsewhere. Ties go to the lower expert.
 */
moe_var *moe_top_k_gate(moe_tape *tape, moe_var *logits, int k, float noise);
/*
 * The rows sorted by the experts they chose: those of the k largest gates [n, E] of each row (ties go to the lower
 * expert), all E where k is larger. A choice has a place; P = n * k of them. Lives until the reset.
 */
typedef struct moe_route moe_route;
const moe_route *moe_top_k_route(moe_tape *tape, const moe_var *gates, int k);
/* The chosen columns of each row: [n,E] to [n,k]. */
moe_var *moe_pick(moe_tape *tape, const moe_route *route, moe_var *x);
/* Each choice's row of x [n,C] times the weights of its expert: to [P,m]. w [E*C,m]; b [E,m], may be NULL. */
moe_var *moe_route_linear(moe_tape *tape, const moe_route *route, moe_var *x, moe_var *w, moe_var *b);
/* The same for an x [P,C] that stands by places already. */
moe_var *moe_grouped_linear(moe_tape *tape, const moe_route *route, moe_var *x, moe_var *w, moe_var *b);
/* Back to rows: the sum over a row's choices of gate times y [P,m]: [n,m]. gates [n,k]. */
moe_var *moe_combine(moe_tape *tape, const moe_route *route, moe_var *y, moe_var *gates);
/* E * sum over e of (share of rows whose largest gate is e) * (mean softmax of e): [1,1]; 1 when balanced. */
moe_var *moe_balance_loss(moe_tape *tape, moe_var *logits, moe_var *gates);
/* mean over rows of (log sum exp of logits)^2: [1,1] */
moe_var *moe_z_loss(moe_tape *tape, moe_var *logits);

/* Losses, [1,1]: the weighted mean over rows; weight may be NULL (all 1). */
moe_var *moe_loss_logistic(moe_tape *tape, moe_var *logit, const float *label,
                           const float *weight); /* [n,1], label 0 or 1 */
moe_var *moe_loss_absolute(moe_tape *tape, moe_var *x, const float *label, const float *weight);             /* [n,1] */
moe_var *moe_loss_squared(moe_tape *tape, moe_var *x, const float *label, const float *weight);              /* [n,1] */
moe_var *moe_loss_cross_entropy(moe_tape *tape, moe_var *logits, const int32_t *label, const float *weight); /* [n,K] */

#endif

/*
 * tape_sparse.c: gather, aggregate and scatter on the tape.
 *
 * All three are products with a sparse matrix, and backward is the product
 * with its transpose. The transpose is built (a counting sort) rather than
 * added through atomically, so that each row of a gradient is summed by one
 * thread in a fixed order.
 */
#include "kernels/tape_private.h"

/* Whether every index lies in [-1, limit); if not, the failure is recorded. */
static bool
check_index(moe_tape *tape, const char *name, const int32_t *index, int64_t n, int64_t limit)
{
    int32_t low = 0;
    int32_t high = -1;
    for (int64_t i = 0; i < n; i++)
    {
        low = index[i] < low ? index[i] : low;
        high = index[i] > high ? index[i] : high;
    }
    if (low >= -1 && high < limit)
        return true;
    moe_fail(tape->job, MOE_INVALID, "operation %s has an index outside of %lld rows", name, (long long) limit);
    return false;
}

/* Whether a matrix has few enough rows to be indexed; if not, the failure is recorded. */
static bool
check_rows(moe_tape *tape, const char *name, int64_t rows)
{
    if (rows <= INT32_MAX)
        return true;
    moe_fail(tape->job, MOE_LIMIT, "operation %s is limited to 2^31 rows", name);
    return false;
}

/* Whether offset[0..n] starts at 0 and never falls. */
static bool
check_offset(moe_tape *tape, const char *name, const int64_t *offset, int64_t n)
{
    bool valid = offset[0] == 0;
    for (int64_t i = 0; i < n; i++)
        valid &= offset[i] <= offset[i + 1];
    if (!valid)
        moe_fail(tape->job, MOE_INVALID, "operation %s has offsets that do not rise from 0", name);
    return valid;
}

/* out (+)= the transpose of s, with `columns` columns, times x. */
static void
multiply_transposed(moe_tape *tape, const moe_sparse *s, int64_t columns, int64_t cols, const float *x, bool add,
                    float *out)
{
    int64_t entries = s->offset == NULL ? s->rows : s->offset[s->rows];
    bool weighted = s->weight != NULL || s->reduce == MOE_MEAN;
    int64_t *offset = moe_tape_alloc(tape, columns + 1, sizeof(int64_t));
    int32_t *index = moe_tape_alloc(tape, entries, sizeof(int32_t));
    float *weight = weighted ? moe_tape_alloc(tape, entries, sizeof(float)) : NULL;
    if (offset == NULL || index == NULL || (weighted && weight == NULL))
        return;
    tape->backend->transpose(tape->job, s, columns, offset, index, weight);
    moe_sparse transposed = {.rows = columns, .offset = offset, .index = index, .weight = weight, .reduce = MOE_SUM};
    tape->backend->aggregate(tape->job, &transposed, cols, x, add, out);
}

typedef struct sparse_op
{
    moe_op op;
    moe_sparse s;
} sparse_op;

static void
sparse_backward(moe_tape *tape, moe_op *op)
{
    moe_var *x = op->in[0];
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g != NULL)
        multiply_transposed(tape, &((sparse_op *) op)->s, x->rows, x->cols, op->out->gradient, add, g);
}

moe_var *
moe_gather(moe_tape *tape, moe_var *x, const int32_t *index, int64_t n)
{
    if (!moe_given(tape, "gather", x != NULL && n >= 0 && (index != NULL || n == 0)) ||
        !check_rows(tape, "gather", n) || !check_index(tape, "gather", index, n, x->rows))
        return NULL;
    sparse_op *gather = moe_begin(tape, sizeof(sparse_op), sparse_backward, n, x->cols, x, NULL, NULL);
    if (gather == NULL)
        return NULL;
    gather->s = (moe_sparse){.rows = n, .index = index};
    tape->backend->gather(tape->job, n, x->cols, index, x->value, false, gather->op.out->value);
    return moe_finish(tape, gather);
}

moe_var *
moe_aggregate(moe_tape *tape, moe_var *x, const int64_t *offset, const int32_t *index, const float *weight, int64_t n,
              moe_reduce reduce)
{
    if (!moe_given(tape, "aggregate", x != NULL && n >= 0 && offset != NULL) || !check_rows(tape, "aggregate", n) ||
        !check_offset(tape, "aggregate", offset, n) || !moe_given(tape, "aggregate", index != NULL || offset[n] == 0) ||
        !check_index(tape, "aggregate", index, offset[n], x->rows))
        return NULL;
    sparse_op *aggregate = moe_begin(tape, sizeof(sparse_op), sparse_backward, n, x->cols, x, NULL, NULL);
    if (aggregate == NULL)
        return NULL;
    aggregate->s = (moe_sparse){.rows = n, .offset = offset, .index = index, .weight = weight, .reduce = reduce};
    tape->backend->aggregate(tape->job, &aggregate->s, x->cols, x->value, false, aggregate->op.out->value);
    return moe_finish(tape, aggregate);
}

static void
scatter_backward(moe_tape *tape, moe_op *op)
{
    moe_var *x = op->in[0];
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g != NULL)
        tape->backend->gather(tape->job, x->rows, x->cols, ((sparse_op *) op)->s.index, op->out->gradient, add, g);
}

moe_var *
moe_scatter(moe_tape *tape, moe_var *x, const int32_t *index, int64_t n_out)
{
    if (!moe_given(tape, "scatter", x != NULL && n_out >= 0 && (index != NULL || x->rows == 0)) ||
        !check_rows(tape, "scatter", x->rows) || !check_index(tape, "scatter", index, x->rows, n_out))
        return NULL;
    sparse_op *scatter = moe_begin(tape, sizeof(sparse_op), scatter_backward, n_out, x->cols, x, NULL, NULL);
    if (scatter == NULL)
        return NULL;
    scatter->s = (moe_sparse){.rows = x->rows, .index = index};
    multiply_transposed(tape, &scatter->s, n_out, x->cols, x->value, false, scatter->op.out->value);
    return moe_finish(tape, scatter);
}

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

/* Hand the arrays of a matrix, with `parts` weights an entry, to the device; false on failure. */
static bool
upload_sparse(moe_tape *tape, moe_sparse *s, int parts)
{
    s->offset = moe_tape_upload(tape, s->offset, s->rows + 1, sizeof *s->offset);
    s->index = moe_tape_upload(tape, s->index, s->entries, sizeof *s->index);
    s->weight = moe_tape_upload(tape, s->weight, s->entries, parts * sizeof *s->weight);
    return moe_job_code(tape->job) == MOE_OK;
}

/* out (+)= the transpose of s, with `columns` columns and of `parts` parts, times x. */
static void
multiply_transposed(moe_tape *tape, const moe_sparse *s, int parts, int64_t columns, int64_t cols, const float *x,
                    bool add, float *out)
{
    int64_t entries = s->entries;
    bool weighted = s->weight != NULL || s->reduce == MOE_MEAN;
    int64_t *offset = moe_tape_array(tape, columns + 1, sizeof(int64_t));
    int32_t *index = moe_tape_array(tape, entries, parts * sizeof(int32_t));
    float *weight = weighted ? moe_tape_array(tape, entries, parts * sizeof(float)) : NULL;
    if (offset == NULL || index == NULL || (weighted && weight == NULL))
        return;
    tape->backend->transpose(tape->job, s, parts, columns, offset, index, weight, NULL);
    moe_sparse transposed = {.rows = columns,
                             .entries = entries * parts,
                             .offset = offset,
                             .index = index,
                             .weight = weight,
                             .reduce = MOE_SUM};
    tape->backend->aggregate(tape->job, &transposed, cols, x, add, out);
}

typedef struct sparse_op
{
    moe_op op;
    moe_sparse s;
    int parts;
} sparse_op;

static void
sparse_backward(moe_tape *tape, moe_op *op)
{
    sparse_op *sparse = (sparse_op *) op;
    moe_var *x = op->in[0];
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g != NULL)
        multiply_transposed(tape, &sparse->s, sparse->parts, x->rows, x->cols, op->out->gradient, add, g);
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
    gather->parts = 1;
    gather->s = (moe_sparse){.rows = n, .entries = n, .index = index};
    if (!upload_sparse(tape, &gather->s, 1))
        return NULL;
    tape->backend->gather(tape->job, n, x->cols, gather->s.index, x->value, false, gather->op.out->value);
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
    aggregate->parts = 1;
    aggregate->s = (moe_sparse){
        .rows = n, .entries = offset[n], .offset = offset, .index = index, .weight = weight, .reduce = reduce};
    if (!upload_sparse(tape, &aggregate->s, 1))
        return NULL;
    tape->backend->aggregate(tape->job, &aggregate->s, x->cols, x->value, false, aggregate->op.out->value);
    return moe_finish(tape, aggregate);
}

moe_var *
moe_aggregate_parts(moe_tape *tape, moe_var *x, const int64_t *offset, const int32_t *index, const float *weight,
                    int parts, int64_t n)
{
    int64_t rows, cols;
    if (!moe_given(tape, "aggregate_parts", x != NULL && n >= 0 && parts >= 1 && offset != NULL) ||
        !check_offset(tape, "aggregate_parts", offset, n) ||
        !moe_given(tape, "aggregate_parts", offset[n] == 0 || (index != NULL && weight != NULL)) ||
        !check_index(tape, "aggregate_parts", index, offset[n], x->rows))
        return NULL;
    if (__builtin_mul_overflow(n, parts, &rows) || __builtin_mul_overflow(x->cols, parts, &cols))
        rows = cols = INT64_MAX;
    if (!check_rows(tape, "aggregate_parts", rows))
        return NULL;
    sparse_op *aggregate = moe_begin(tape, sizeof(sparse_op), sparse_backward, n, cols, x, NULL, NULL);
    if (aggregate == NULL)
        return NULL;
    aggregate->parts = parts;
    aggregate->s = (moe_sparse){
        .rows = n, .entries = offset[n], .offset = offset, .index = index, .weight = weight, .reduce = MOE_SUM};
    if (!upload_sparse(tape, &aggregate->s, parts))
        return NULL;
    tape->backend->aggregate_parts(tape->job, &aggregate->s, parts, x->cols, x->value, aggregate->op.out->value);
    return moe_finish(tape, aggregate);
}

typedef struct sum_rows_op
{
    moe_op op;
    int n;
    moe_var **terms;
    const int32_t **index;
} sum_rows_op;

/* Add the result's gradient to term t's. */
static void
sum_rows_add(moe_tape *tape, sum_rows_op *sum, int t)
{
    moe_var *x = sum->terms[t];
    moe_sparse s = {.rows = sum->op.out->rows, .entries = sum->op.out->rows, .index = sum->index[t]};
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g == NULL)
        return;
    if (s.index != NULL)
        multiply_transposed(tape, &s, 1, x->rows, x->cols, sum->op.out->gradient, add, g);
    else
        tape->backend->scale(tape->job, moe_size(x), 1, sum->op.out->gradient, add, g);
}

/* The last term without an index is served last: it may take the gradient over. */
static void
sum_rows_backward(moe_tape *tape, moe_op *op)
{
    sum_rows_op *sum = (sum_rows_op *) op;
    const float *gy = op->out->gradient;
    int last = -1;
    bool add;
    for (int t = 0; t < sum->n; t++)
        last = sum->index[t] == NULL && sum->terms[t]->needs_gradient ? t : last;
    for (int t = 0; t < sum->n; t++)
        if (t != last)
            sum_rows_add(tape, sum, t);
    if (last < 0)
        return;
    float *g = moe_take_gradient(tape, op->out, sum->terms[last], &add);
    if (g != NULL && g != gy)
        tape->backend->scale(tape->job, moe_size(op->out), 1, gy, add, g);
}

/* Whether an index only says what no index says. */
static bool
is_identity(const int32_t *index, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (index[i] != i)
            return false;
    return true;
}

moe_var *
moe_sum_rows(moe_tape *tape, moe_var **terms, const int32_t *const *index, int n_terms, int64_t n)
{
    bool given = n_terms >= 1 && n >= 0;
    for (int t = 0; given && t < n_terms; t++)
        given = terms[t] != NULL;
    if (!moe_given(tape, "sum_rows", given) || !check_rows(tape, "sum_rows", n))
        return NULL;
    moe_var **kept = moe_tape_alloc(tape, n_terms, sizeof *kept);
    const float **values = moe_tape_alloc(tape, n_terms, sizeof *values);
    const int32_t **rows = moe_tape_alloc(tape, n_terms, sizeof *rows);
    if (kept == NULL || values == NULL || rows == NULL)
        return NULL;
    moe_var *needy = terms[0];
    for (int t = 0; t < n_terms; t++)
    {
        if (terms[t]->cols != terms[0]->cols || (index[t] == NULL && terms[t]->rows != n))
            return moe_bad_shape(tape, "sum_rows", terms[0], terms[t]);
        if (index[t] != NULL && !check_index(tape, "sum_rows", index[t], n, terms[t]->rows))
            return NULL;
        needy = terms[t]->needs_gradient ? terms[t] : needy;
        kept[t] = terms[t];
        values[t] = terms[t]->value;
        bool identity = index[t] != NULL && n == terms[t]->rows && is_identity(index[t], n);
        rows[t] = identity ? NULL : moe_tape_upload(tape, index[t], n, sizeof *index[t]);
    }
    sum_rows_op *sum = moe_begin(tape, sizeof(sum_rows_op), sum_rows_backward, n, needy->cols, needy, NULL, NULL);
    if (sum == NULL)
        return NULL;
    sum->n = n_terms;
    sum->terms = kept;
    sum->index = rows;
    tape->backend->sum_rows(tape->job, n, needy->cols, n_terms, values, rows, sum->op.out->value);
    return moe_finish(tape, sum);
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
    scatter->s = (moe_sparse){.rows = x->rows, .entries = x->rows, .index = index};
    if (!upload_sparse(tape, &scatter->s, 1))
        return NULL;
    multiply_transposed(tape, &scatter->s, 1, n_out, x->cols, x->value, false, scatter->op.out->value);
    return moe_finish(tape, scatter);
}

/*
 * tape_sparse.c: gather, aggregate and scatter on the tape.
 *
 * All three are products with a sparse matrix, and backward is the product
 * with its transpose. The transpose is built (a counting sort) rather than
 * added through atomically, so that each row of a gradient is summed by one
 * thread in a fixed order.
 */
#include "kernels/tape_sparse.h"

bool
moe_check_index(moe_tape *tape, const char *name, const int32_t *index, int64_t n, int64_t limit, int64_t *present)
{
    int32_t low = 0;
    int32_t high = -1;
    int64_t none = 0;
    for (int64_t i = 0; i < n; i++)
    {
        low = index[i] < low ? index[i] : low;
        high = index[i] > high ? index[i] : high;
        none += index[i] < 0;
    }
    if (present != NULL)
        *present = n - none;
    if (low >= -1 && high < limit)
        return true;
    moe_fail(tape->job, MOE_INVALID, "operation %s has an index outside of %lld rows", name, (long long) limit);
    return false;
}

bool
moe_check_rows(moe_tape *tape, const char *name, int64_t rows)
{
    if (rows <= INT32_MAX)
        return true;
    moe_fail(tape->job, MOE_LIMIT, "operation %s is limited to 2^31 rows and entries", name);
    return false;
}

bool
moe_check_offset(moe_tape *tape, const char *name, const int64_t *offset, int64_t n)
{
    bool valid = offset[0] == 0;
    for (int64_t i = 0; i < n; i++)
        valid &= offset[i] <= offset[i + 1];
    if (!valid)
        moe_fail(tape->job, MOE_INVALID, "operation %s has offsets that do not rise from 0", name);
    return valid && moe_check_rows(tape, name, n) && moe_check_rows(tape, name, offset[n]);
}

bool
moe_check_edges(moe_tape *tape, const char *name, const int64_t *offset, const int32_t *index, int64_t n, int64_t limit,
                int64_t *present)
{
    return moe_given(tape, name, offset != NULL && n >= 0) && moe_check_offset(tape, name, offset, n) &&
           moe_given(tape, name, index != NULL || offset[n] == 0) &&
           moe_check_index(tape, name, index, offset[n], limit, present);
}

bool
moe_upload_sparse(moe_tape *tape, moe_sparse *s, int parts)
{
    s->offset = moe_tape_upload(tape, s->offset, s->rows + 1, sizeof *s->offset);
    s->index = moe_tape_upload(tape, s->index, s->entries, sizeof *s->index);
    s->weight = moe_tape_upload(tape, s->weight, s->entries, parts * sizeof *s->weight);
    return moe_job_code(tape->job) == MOE_OK;
}

bool
moe_transpose_sparse(moe_tape *tape, const moe_sparse *s, int parts, int64_t present, int64_t columns, int32_t **entry,
                     moe_sparse *out)
{
    bool weighted = s->weight != NULL || s->reduce == MOE_MEAN;
    int64_t *offset = moe_tape_array(tape, columns + 1, sizeof(int64_t));
    int32_t *index = moe_tape_array(tape, s->entries, parts * sizeof(int32_t));
    float *weight = weighted ? moe_tape_array(tape, s->entries, parts * sizeof(float)) : NULL;
    int32_t *number = entry != NULL ? moe_tape_array(tape, s->entries, parts * sizeof(int32_t)) : NULL;
    if (offset == NULL || index == NULL || (weighted && weight == NULL) || (entry != NULL && number == NULL))
        return false;
    tape->backend->transpose(tape->job, s, parts, columns, offset, index, weight, number);
    if (moe_job_check(tape->job) != MOE_OK) /* what it left are no indices */
        return false;
    *out =
        (moe_sparse){.rows = columns, .entries = present * parts, .offset = offset, .index = index, .weight = weight};
    if (entry != NULL)
        *entry = number;
    return true;
}

void
moe_multiply_transposed(moe_tape *tape, const moe_sparse *s, int parts, int64_t present, int64_t columns, int64_t cols,
                        const float *x, bool add, float *out)
{
    moe_sparse transposed;
    if (moe_transpose_sparse(tape, s, parts, present, columns, NULL, &transposed))
        tape->backend->aggregate(tape->job, &transposed, cols, x, add, out);
}

typedef struct sparse_op
{
    moe_op op;
    moe_sparse s;
    int parts;
    int64_t present;
} sparse_op;

static void
sparse_backward(moe_tape *tape, moe_op *op)
{
    sparse_op *sparse = (sparse_op *) op;
    moe_var *x = op->in[0];
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g != NULL)
        moe_multiply_transposed(tape, &sparse->s, sparse->parts, sparse->present, x->rows, x->cols, op->out->gradient,
                                add, g);
}

moe_var *
moe_gather(moe_tape *tape, moe_var *x, const int32_t *index, int64_t n)
{
    int64_t present;
    if (!moe_given(tape, "gather", x != NULL && n >= 0 && (index != NULL || n == 0)) ||
        !moe_check_rows(tape, "gather", n) || !moe_check_index(tape, "gather", index, n, x->rows, &present))
        return NULL;
    sparse_op *gather = moe_begin(tape, sizeof(sparse_op), sparse_backward, n, x->cols, x, NULL, NULL);
    if (gather == NULL)
        return NULL;
    gather->parts = 1;
    gather->present = present;
    gather->s = (moe_sparse){.rows = n, .entries = n, .index = index};
    if (!moe_upload_sparse(tape, &gather->s, 1))
        return NULL;
    tape->backend->gather(tape->job, n, x->cols, gather->s.index, x->value, false, gather->op.out->value);
    return moe_finish(tape, gather);
}

moe_var *
moe_aggregate(moe_tape *tape, moe_var *x, const int64_t *offset, const int32_t *index, const float *weight, int64_t n,
              moe_reduce reduce)
{
    int64_t present;
    if (!moe_given(tape, "aggregate", x != NULL) ||
        !moe_check_edges(tape, "aggregate", offset, index, n, x->rows, &present))
        return NULL;
    sparse_op *aggregate = moe_begin(tape, sizeof(sparse_op), sparse_backward, n, x->cols, x, NULL, NULL);
    if (aggregate == NULL)
        return NULL;
    aggregate->parts = 1;
    aggregate->present = present;
    aggregate->s = (moe_sparse){
        .rows = n, .entries = offset[n], .offset = offset, .index = index, .weight = weight, .reduce = reduce};
    if (!moe_upload_sparse(tape, &aggregate->s, 1))
        return NULL;
    tape->backend->aggregate(tape->job, &aggregate->s, x->cols, x->value, false, aggregate->op.out->value);
    return moe_finish(tape, aggregate);
}

moe_var *
moe_embedding_bag(moe_tape *tape, moe_var *x, const int32_t *index, int64_t width, int64_t n, moe_reduce reduce)
{
    int64_t entries, present;
    if (!moe_given(tape, "embedding_bag", x != NULL && n >= 0 && width >= 1))
        return NULL;
    if (__builtin_mul_overflow(n, width, &entries))
        entries = INT64_MAX;
    if (!moe_check_rows(tape, "embedding_bag", entries) ||
        !moe_given(tape, "embedding_bag", index != NULL || entries == 0) ||
        !moe_check_index(tape, "embedding_bag", index, entries, x->rows, &present))
        return NULL;
    sparse_op *bag = moe_begin(tape, sizeof(sparse_op), sparse_backward, n, x->cols, x, NULL, NULL);
    if (bag == NULL)
        return NULL;
    bag->parts = 1;
    bag->present = present;
    bag->s = (moe_sparse){.rows = n, .entries = entries, .width = width, .index = index, .reduce = reduce};
    if (!moe_upload_sparse(tape, &bag->s, 1))
        return NULL;
    tape->backend->aggregate(tape->job, &bag->s, x->cols, x->value, false, bag->op.out->value);
    return moe_finish(tape, bag);
}

moe_var *
moe_aggregate_parts(moe_tape *tape, moe_var *x, const int64_t *offset, const int32_t *index, const float *weight,
                    int parts, int64_t n)
{
    int64_t rows, cols, present;
    if (!moe_given(tape, "aggregate_parts", x != NULL && parts >= 1) ||
        !moe_check_edges(tape, "aggregate_parts", offset, index, n, x->rows, &present) ||
        !moe_given(tape, "aggregate_parts", offset[n] == 0 || weight != NULL))
        return NULL;
    if (__builtin_mul_overflow(n, parts, &rows) || __builtin_mul_overflow(x->cols, parts, &cols))
        rows = cols = INT64_MAX;
    if (!moe_check_rows(tape, "aggregate_parts", rows))
        return NULL;
    sparse_op *aggregate = moe_begin(tape, sizeof(sparse_op), sparse_backward, n, cols, x, NULL, NULL);
    if (aggregate == NULL)
        return NULL;
    aggregate->parts = parts;
    aggregate->present = present;
    aggregate->s = (moe_sparse){
        .rows = n, .entries = offset[n], .offset = offset, .index = index, .weight = weight, .reduce = MOE_SUM};
    if (!moe_upload_sparse(tape, &aggregate->s, parts))
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
    int64_t *present; /* of each index, the entries that are not -1 */
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
        moe_multiply_transposed(tape, &s, 1, sum->present[t], x->rows, x->cols, sum->op.out->gradient, add, g);
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
    if (!moe_given(tape, "sum_rows", given) || !moe_check_rows(tape, "sum_rows", n))
        return NULL;
    moe_var **kept = moe_tape_alloc(tape, n_terms, sizeof *kept);
    const float **values = moe_tape_alloc(tape, n_terms, sizeof *values);
    const int32_t **rows = moe_tape_alloc(tape, n_terms, sizeof *rows);
    int64_t *present = moe_tape_alloc(tape, n_terms, sizeof *present);
    if (kept == NULL || values == NULL || rows == NULL || present == NULL)
        return NULL;
    moe_var *needy = terms[0];
    for (int t = 0; t < n_terms; t++)
    {
        if (terms[t]->cols != terms[0]->cols || (index[t] == NULL && terms[t]->rows != n))
            return moe_bad_shape(tape, "sum_rows", terms[0], terms[t]);
        if (index[t] != NULL && !moe_check_index(tape, "sum_rows", index[t], n, terms[t]->rows, &present[t]))
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
    sum->present = present;
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
    int64_t present;
    if (!moe_given(tape, "scatter", x != NULL && n_out >= 0 && (index != NULL || x->rows == 0)) ||
        !moe_check_rows(tape, "scatter", x->rows) || !moe_check_index(tape, "scatter", index, x->rows, n_out, &present))
        return NULL;
    sparse_op *scatter = moe_begin(tape, sizeof(sparse_op), scatter_backward, n_out, x->cols, x, NULL, NULL);
    if (scatter == NULL)
        return NULL;
    scatter->s = (moe_sparse){.rows = x->rows, .entries = x->rows, .index = index};
    if (!moe_upload_sparse(tape, &scatter->s, 1))
        return NULL;
    moe_multiply_transposed(tape, &scatter->s, 1, present, n_out, x->cols, x->value, false, scatter->op.out->value);
    return moe_finish(tape, scatter);
}

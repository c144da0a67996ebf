/*
 * tape_edges.c: aggregation in its richer forms: over several edge types, by
 * weights that are themselves learned, by maximum; and products and softmax by
 * entry, of which attention is made:
 *     aggregate_weighted(v, segment_softmax(edge_dot(q, k)))
 */
#include "kernels/tape_sparse.h"

typedef struct types_op
{
    moe_op op;
    int n;
    moe_var **x;
    moe_sparse *s;
    int64_t *present;
} types_op;

static void
types_backward(moe_tape *tape, moe_op *op)
{
    types_op *types = (types_op *) op;
    for (int t = 0; t < types->n; t++)
    {
        moe_var *x = types->x[t];
        bool add;
        float *g = moe_gradient(tape, x, &add);
        if (g != NULL)
            moe_multiply_transposed(tape, &types->s[t], 1, types->present[t], x->rows, x->cols, op->out->gradient, add,
                                    g);
    }
}

moe_var *
moe_aggregate_types(moe_tape *tape, moe_var **x, const moe_edges *edges, int n_types, int64_t n)
{
    bool given = n_types >= 1 && n >= 0 && x != NULL && edges != NULL;
    for (int t = 0; given && t < n_types; t++)
        given = x[t] != NULL;
    if (!moe_given(tape, "aggregate_types", given))
        return NULL;
    moe_var **kept = moe_tape_alloc(tape, n_types, sizeof *kept);
    const float **values = moe_tape_alloc(tape, n_types, sizeof *values);
    moe_sparse *s = moe_tape_alloc(tape, n_types, sizeof *s);
    int64_t *present = moe_tape_alloc(tape, n_types, sizeof *present);
    if (kept == NULL || values == NULL || s == NULL || present == NULL)
        return NULL;
    moe_var *needy = x[0];
    for (int t = 0; t < n_types; t++)
    {
        const moe_edges *e = &edges[t];
        if (x[t]->cols != x[0]->cols)
            return moe_bad_shape(tape, "aggregate_types", x[0], x[t]);
        if (!moe_check_edges(tape, "aggregate_types", e->offset, e->index, n, x[t]->rows, &present[t]))
            return NULL;
        kept[t] = x[t];
        values[t] = x[t]->value;
        needy = x[t]->needs_gradient ? x[t] : needy;
        s[t] = (moe_sparse){.rows = n,
                            .entries = e->offset[n],
                            .offset = e->offset,
                            .index = e->index,
                            .weight = e->weight,
                            .reduce = e->reduce};
        if (!moe_upload_sparse(tape, &s[t], 1))
            return NULL;
    }
    types_op *types = moe_begin(tape, sizeof(types_op), types_backward, n, needy->cols, needy, NULL, NULL);
    if (types == NULL)
        return NULL;
    types->n = n_types;
    types->x = kept;
    types->s = s;
    types->present = present;
    tape->backend->aggregate_types(tape->job, n_types, s, values, needy->cols, false, types->op.out->value);
    return moe_finish(tape, types);
}

typedef struct edges_op
{
    moe_op op;
    moe_sparse s;
    int64_t present;
    int32_t *argmax;
} edges_op;

/* The maxima, and where they came from if that is wanted; false: out of memory. */
static bool
find_maxima(moe_tape *tape, edges_op *max, bool wanted)
{
    const moe_var *x = max->op.in[0];
    if (wanted)
        max->argmax = moe_tape_array(tape, moe_size(max->op.out), sizeof *max->argmax);
    if (wanted && max->argmax == NULL)
        return false;
    tape->backend->aggregate_max(tape->job, &max->s, x->cols, x->value, max->op.out->value, max->argmax);
    return true;
}

static void
max_backward(moe_tape *tape, moe_op *op)
{
    edges_op *max = (edges_op *) op;
    moe_var *x = op->in[0];
    moe_sparse transposed;
    int32_t *entry;
    bool add;
    float *g = moe_gradient(tape, x, &add);
    /* Outside training there is seldom a way back, and nothing was kept for it. */
    if (g != NULL && max->argmax == NULL && !find_maxima(tape, max, true))
        return;
    if (g != NULL && moe_transpose_sparse(tape, &max->s, 1, max->present, x->rows, &entry, &transposed))
        tape->backend->aggregate_max_backward(tape->job, &transposed, entry, x->cols, max->argmax, op->out->gradient,
                                              add, g);
}

moe_var *
moe_aggregate_max(moe_tape *tape, moe_var *x, const int64_t *offset, const int32_t *index, const float *weight,
                  int64_t n)
{
    int64_t present;
    if (!moe_given(tape, "aggregate_max", x != NULL) ||
        !moe_check_edges(tape, "aggregate_max", offset, index, n, x->rows, &present))
        return NULL;
    edges_op *max = moe_begin(tape, sizeof(edges_op), max_backward, n, x->cols, x, NULL, NULL);
    if (max == NULL)
        return NULL;
    max->present = present;
    max->s = (moe_sparse){.rows = n, .entries = offset[n], .offset = offset, .index = index, .weight = weight};
    if (!moe_upload_sparse(tape, &max->s, 1) || !find_maxima(tape, max, tape->training && x->needs_gradient))
        return NULL;
    return moe_finish(tape, max);
}

static void
weighted_backward(moe_tape *tape, moe_op *op)
{
    edges_op *weighted = (edges_op *) op;
    moe_var *x = op->in[0];
    const float *gy = op->out->gradient;
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g != NULL)
        moe_multiply_transposed(tape, &weighted->s, 1, weighted->present, x->rows, x->cols, gy, add, g);
    g = moe_gradient(tape, op->in[1], &add);
    if (g != NULL)
        tape->backend->edge_dot(tape->job, &weighted->s, x->cols, gy, x->value, add, g);
}

moe_var *
moe_aggregate_weighted(moe_tape *tape, moe_var *x, moe_var *weight, const int64_t *offset, const int32_t *index,
                       int64_t n)
{
    int64_t present;
    if (!moe_given(tape, "aggregate_weighted", x != NULL && weight != NULL) ||
        !moe_check_edges(tape, "aggregate_weighted", offset, index, n, x->rows, &present))
        return NULL;
    if (weight->rows != offset[n] || weight->cols != 1)
        return moe_bad_shape(tape, "aggregate_weighted", x, weight);
    edges_op *weighted = moe_begin(tape, sizeof(edges_op), weighted_backward, n, x->cols, x, weight, NULL);
    if (weighted == NULL)
        return NULL;
    weighted->present = present;
    weighted->s = (moe_sparse){.rows = n, .entries = offset[n], .offset = offset, .index = index};
    if (!moe_upload_sparse(tape, &weighted->s, 1))
        return NULL;
    weighted->s.weight = weight->value;
    tape->backend->aggregate(tape->job, &weighted->s, x->cols, x->value, false, weighted->op.out->value);
    return moe_finish(tape, weighted);
}

/* The gradient of the entries is a matrix of weights: times b for a, and transposed times a for b. */
static void
edge_dot_backward(moe_tape *tape, moe_op *op)
{
    edges_op *dot = (edges_op *) op;
    moe_var *a = op->in[0];
    moe_var *b = op->in[1];
    bool add;
    dot->s.weight = op->out->gradient;
    float *g = moe_gradient(tape, a, &add);
    if (g != NULL)
        tape->backend->aggregate(tape->job, &dot->s, a->cols, b->value, add, g);
    g = moe_gradient(tape, b, &add);
    if (g != NULL)
        moe_multiply_transposed(tape, &dot->s, 1, dot->present, b->rows, b->cols, a->value, add, g);
}

moe_var *
moe_edge_dot(moe_tape *tape, moe_var *a, moe_var *b, const int64_t *offset, const int32_t *index)
{
    int64_t present;
    if (!moe_given(tape, "edge_dot", a != NULL && b != NULL) ||
        !moe_check_edges(tape, "edge_dot", offset, index, a->rows, b->rows, &present))
        return NULL;
    if (a->cols != b->cols)
        return moe_bad_shape(tape, "edge_dot", a, b);
    edges_op *dot = moe_begin(tape, sizeof(edges_op), edge_dot_backward, offset[a->rows], 1, a, b, NULL);
    if (dot == NULL)
        return NULL;
    dot->present = present;
    dot->s = (moe_sparse){.rows = a->rows, .entries = offset[a->rows], .offset = offset, .index = index};
    if (!moe_upload_sparse(tape, &dot->s, 1))
        return NULL;
    tape->backend->edge_dot(tape->job, &dot->s, a->cols, a->value, b->value, false, dot->op.out->value);
    return moe_finish(tape, dot);
}

typedef struct segment_op
{
    moe_op op;
    int64_t n;
    const int64_t *offset;
} segment_op;

static void
segment_softmax_backward(moe_tape *tape, moe_op *op)
{
    segment_op *segment = (segment_op *) op;
    const float *gy = op->out->gradient;
    bool add;
    float *g = moe_take_gradient(tape, op->out, op->in[0], &add);
    if (g != NULL)
        tape->backend->segment_softmax_backward(tape->job, segment->n, segment->offset, op->out->cols, op->out->value,
                                                gy, add, g);
}

moe_var *
moe_segment_softmax(moe_tape *tape, moe_var *x, const int64_t *offset, int64_t n)
{
    if (!moe_given(tape, "segment_softmax", x != NULL && offset != NULL && n >= 0) ||
        !moe_check_offset(tape, "segment_softmax", offset, n))
        return NULL;
    if (x->rows != offset[n])
        return moe_bad_shape(tape, "segment_softmax", x, NULL);
    segment_op *segment =
        moe_begin(tape, sizeof(segment_op), segment_softmax_backward, x->rows, x->cols, x, NULL, NULL);
    if (segment == NULL)
        return NULL;
    segment->n = n;
    segment->offset = moe_tape_upload(tape, offset, n + 1, sizeof *offset);
    if (segment->offset == NULL)
        return NULL;
    tape->backend->segment_softmax(tape->job, n, segment->offset, x->cols, x->value, segment->op.out->value);
    return moe_finish(tape, segment);
}

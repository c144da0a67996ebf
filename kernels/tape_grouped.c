/*
 * tape_grouped.c: rows to the experts they chose and back, on the tape.
 *
 * The choices are sorted by expert, so that each expert's rows stand together:
 * a choice (row i, its j-th expert) has a place, and the experts' products run
 * over places. What the experts make of a row is brought back by one sparse
 * product with the gates as weights. Nothing is padded and no choice dropped,
 * and the host reads none of it. There is no dense form beside it, which would
 * compute all experts for all rows: with the products of kernels/cpu/grouped.c
 * it was slower for any number of experts, chosen ones, rows and channels that
 * bench/experts tries, even where every row chooses every expert.
 */
#include "kernels/tape_private.h"

struct moe_route
{
    int64_t rows;
    int k;                 /* experts a row chose */
    int groups;            /* experts */
    const int32_t *chosen; /* [rows, k], ascending in each row */
    const int64_t *offset; /* [groups + 1] places of each expert */
    const int32_t *row;    /* [rows * k] of each place */
    const int32_t *place;  /* [rows, k] of each choice */
};

const moe_route *
moe_top_k_route(moe_tape *tape, const moe_var *gates, int k)
{
    int64_t places;
    if (moe_job_check(tape->job) != MOE_OK || !moe_given(tape, "top_k_route", gates != NULL))
        return NULL;
    if (k < 1 || gates->cols < 1)
    {
        moe_fail(tape->job, MOE_INVALID, "rows cannot be routed to %d of %lld experts", k, (long long) gates->cols);
        return NULL;
    }
    k = k < gates->cols ? k : (int) gates->cols;
    if (gates->cols > INT32_MAX || __builtin_mul_overflow(gates->rows, k, &places) || places > INT32_MAX)
    {
        moe_fail(tape->job, MOE_LIMIT, "operation top_k_route is limited to 2^31 choices");
        return NULL;
    }
    moe_route *route = moe_tape_alloc(tape, 1, sizeof *route);
    int32_t *chosen = moe_tape_array(tape, places, sizeof *chosen);
    int64_t *offset = moe_tape_array(tape, gates->cols + 1, sizeof *offset);
    int32_t *row = moe_tape_array(tape, places, sizeof *row);
    int32_t *place = moe_tape_array(tape, places, sizeof *place);
    if (route == NULL || chosen == NULL || offset == NULL || row == NULL || place == NULL)
        return NULL;
    *route = (moe_route){gates->rows, k, (int) gates->cols, chosen, offset, row, place};
    tape->backend->top_k(tape->job, route->rows, route->groups, k, gates->value, chosen);
    if (moe_job_check(tape->job) != MOE_OK)
        return NULL;
    tape->backend->group(tape->job, route->rows, k, route->groups, chosen, offset, row, place);
    return moe_job_check(tape->job) == MOE_OK ? route : NULL;
}

typedef struct route_op
{
    moe_op op;
    const moe_route *route;
    bool gather; /* the input is by rows, not by places */
} route_op;

static void
pick_backward(moe_tape *tape, moe_op *op)
{
    const moe_route *route = ((route_op *) op)->route;
    bool add;
    float *g = moe_gradient(tape, op->in[0], &add);
    if (g != NULL)
        tape->backend->pick_backward(tape->job, route->rows, route->groups, route->k, route->chosen, op->out->gradient,
                                     add, g);
}

moe_var *
moe_pick(moe_tape *tape, const moe_route *route, moe_var *x)
{
    if (!moe_given(tape, "pick", route != NULL && x != NULL))
        return NULL;
    if (x->rows != route->rows || x->cols != route->groups)
        return moe_bad_shape(tape, "pick", x, NULL);
    route_op *pick = moe_begin(tape, sizeof(route_op), pick_backward, route->rows, route->k, x, NULL, NULL);
    if (pick == NULL)
        return NULL;
    pick->route = route;
    tape->backend->pick(tape->job, route->rows, route->groups, route->k, route->chosen, x->value, pick->op.out->value);
    return moe_finish(tape, pick);
}

/* The sum over each row's places, times a weight [rows, k] where one is given, as a sparse product. */
static moe_sparse
rows_of_places(const moe_route *route, const float *weight)
{
    return (moe_sparse){.rows = route->rows,
                        .entries = route->rows * route->k,
                        .width = route->k,
                        .index = route->place,
                        .weight = weight,
                        .reduce = MOE_SUM};
}

/* The gradient of x from that of the products: by places, or, where x was gathered, added up by rows. */
static void
grouped_linear_input(moe_tape *tape, const route_op *linear)
{
    const moe_route *route = linear->route;
    moe_var *x = linear->op.in[0];
    moe_var *w = linear->op.in[1];
    int64_t places = route->rows * route->k;
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g == NULL)
        return;
    if (!linear->gather)
    {
        tape->backend->grouped_linear_input(tape->job, route->groups, places, x->cols, w->cols, route->offset,
                                            linear->op.out->gradient, w->value, add, g);
        return;
    }
    float *by_place = moe_tape_array(tape, places, (size_t) x->cols * sizeof(float));
    if (by_place == NULL)
        return;
    moe_sparse s = rows_of_places(route, NULL);
    tape->backend->grouped_linear_input(tape->job, route->groups, places, x->cols, w->cols, route->offset,
                                        linear->op.out->gradient, w->value, false, by_place);
    tape->backend->aggregate(tape->job, &s, x->cols, by_place, add, g);
}

static void
grouped_linear_backward(moe_tape *tape, moe_op *op)
{
    route_op *linear = (route_op *) op;
    const moe_route *route = linear->route;
    moe_var *x = op->in[0];
    moe_var *w = op->in[1];
    grouped_linear_input(tape, linear);
    float *gw = moe_zeroed_gradient(tape, w);
    float *gb = moe_zeroed_gradient(tape, op->in[2]);
    if (gw != NULL)
        tape->backend->grouped_linear_weight(tape->job, route->groups, route->rows * route->k, x->cols, w->cols,
                                             route->offset, linear->gather ? route->row : NULL, x->value,
                                             op->out->gradient, gw, gb);
}

static moe_var *
grouped_linear(moe_tape *tape, const moe_route *route, bool gather, moe_var *x, moe_var *w, moe_var *b)
{
    int64_t w_rows;
    if (!moe_given(tape, "grouped_linear", route != NULL && x != NULL && w != NULL))
        return NULL;
    if (x->rows != (gather ? route->rows : route->rows * route->k) ||
        __builtin_mul_overflow(x->cols, route->groups, &w_rows) || w->rows != w_rows)
        return moe_bad_shape(tape, "grouped_linear", x, w);
    if (b != NULL && (b->rows != route->groups || b->cols != w->cols))
        return moe_bad_shape(tape, "grouped_linear", w, b);
    if (b != NULL && b->needs_gradient && !w->needs_gradient)
    {
        moe_fail(tape->job, MOE_INVALID, "operation grouped_linear cannot train a bias without its weight");
        return NULL;
    }
    int64_t places = route->rows * route->k;
    route_op *linear = moe_begin(tape, sizeof(route_op), grouped_linear_backward, places, w->cols, x, w, b);
    if (linear == NULL)
        return NULL;
    linear->route = route;
    linear->gather = gather;
    tape->backend->grouped_linear(tape->job, route->groups, places, x->cols, w->cols, route->offset,
                                  gather ? route->row : NULL, x->value, w->value, b == NULL ? NULL : b->value,
                                  linear->op.out->value);
    return moe_finish(tape, linear);
}

moe_var *
moe_route_linear(moe_tape *tape, const moe_route *route, moe_var *x, moe_var *w, moe_var *b)
{
    return grouped_linear(tape, route, true, x, w, b);
}

moe_var *
moe_grouped_linear(moe_tape *tape, const moe_route *route, moe_var *x, moe_var *w, moe_var *b)
{
    return grouped_linear(tape, route, false, x, w, b);
}

/* gy[place[i, j]] = gate[i, j] * gradient[i]: the product with the transpose, which has one entry a row. */
static void
combine_input(moe_tape *tape, const moe_sparse *s, moe_var *y, const float *gradient)
{
    int64_t places = s->entries;
    bool add;
    float *g = moe_gradient(tape, y, &add);
    if (g == NULL)
        return;
    int64_t *offset = moe_tape_array(tape, places + 1, sizeof *offset);
    int32_t *index = moe_tape_array(tape, places, sizeof *index);
    float *weight = moe_tape_array(tape, places, sizeof *weight);
    if (offset == NULL || index == NULL || weight == NULL)
        return;
    tape->backend->transpose(tape->job, s, 1, places, offset, index, weight, NULL);
    if (moe_job_check(tape->job) != MOE_OK) /* what it left are no indices */
        return;
    moe_sparse transposed = {
        .rows = places, .entries = places, .width = 1, .index = index, .weight = weight, .reduce = MOE_SUM};
    tape->backend->aggregate(tape->job, &transposed, y->cols, gradient, add, g);
}

static void
combine_backward(moe_tape *tape, moe_op *op)
{
    moe_var *y = op->in[0];
    moe_var *gates = op->in[1];
    moe_sparse s = rows_of_places(((route_op *) op)->route, gates->value);
    bool add;
    combine_input(tape, &s, y, op->out->gradient);
    float *g = moe_gradient(tape, gates, &add);
    if (g != NULL)
        tape->backend->edge_dot(tape->job, &s, y->cols, op->out->gradient, y->value, add, g);
}

moe_var *
moe_combine(moe_tape *tape, const moe_route *route, moe_var *y, moe_var *gates)
{
    if (!moe_given(tape, "combine", route != NULL && y != NULL && gates != NULL))
        return NULL;
    if (gates->rows != route->rows || gates->cols != route->k || y->rows != route->rows * route->k)
        return moe_bad_shape(tape, "combine", y, gates);
    route_op *combine = moe_begin(tape, sizeof(route_op), combine_backward, route->rows, y->cols, y, gates, NULL);
    if (combine == NULL)
        return NULL;
    combine->route = route;
    moe_sparse s = rows_of_places(route, gates->value);
    tape->backend->aggregate(tape->job, &s, y->cols, y->value, false, combine->op.out->value);
    return moe_finish(tape, combine);
}

/*
 * sparse.c: cases of gathering, aggregation in its forms, and transposition.
 *
 * Matrices come by offsets, weighted and not, and with a fixed number of
 * entries a row; some have no columns at all.
 */
#include "ops.h"

/* Rows of the dense matrix that the entries name. */
static int64_t
sources_of(const ops_run *run)
{
    return run->whole % 301;
}

typedef enum form
{
    SUM,
    WEIGHTED_SUM,
    MEAN,
    WEIGHTED_MEAN,
    SINGLE,        /* one entry a row, by a width of 0 */
    WIDE,          /* three entries a row */
    WIDE_WEIGHTED, /* the same, with weights */
    WIDE_MEAN,     /* the same, as a mean */
    FORMS
} form;

static moe_sparse
make_wide(ops_run *run, form f, int64_t limit, uint64_t key)
{
    int64_t width = f == SINGLE ? 1 : 3, entries = run->rows * width;
    int32_t *all = ops_index(run, run->whole * width, limit, key);
    float *weight = ops_row_normal(run, width, key + 1);
    return (moe_sparse){.rows = run->rows,
                        .entries = entries,
                        .width = f == SINGLE ? 0 : width,
                        .index = ops_input(run, OPS_INDEX, entries, all + run->first * width),
                        .weight = f == WIDE_WEIGHTED ? ops_input(run, OPS_FLOAT, entries, weight) : NULL,
                        .reduce = f == WIDE_MEAN ? MOE_MEAN : MOE_SUM};
}

static moe_sparse
make_matrix(ops_run *run, form f, int64_t limit, uint64_t key)
{
    if (f >= SINGLE)
        return make_wide(run, f, limit, key);
    ops_lists lists = ops_make_lists(run);
    return (moe_sparse){.rows = run->rows,
                        .entries = lists.entries,
                        .offset = lists.offset,
                        .index = ops_list_indices(run, &lists, limit, key),
                        .weight = f % 2 ? ops_list_floats(run, &lists, 1, key + 1) : NULL,
                        .reduce = f / 2 ? MOE_MEAN : MOE_SUM};
}

static void
run_gather(ops_run *run)
{
    const float *x = ops_floats(run, sources_of(run) * run->cols, 1);
    run->backend->gather(run->job, run->rows, run->cols, ops_row_indices(run, sources_of(run), 9), x, run->add,
                         ops_rows(run, "out", run->cols, run->add));
}

static void
run_aggregate(ops_run *run)
{
    const float *x = ops_floats(run, sources_of(run) * run->cols, 1);
    for (form f = SUM; f < FORMS; f++)
    {
        moe_sparse s = make_matrix(run, f, sources_of(run), 9);
        run->backend->aggregate(run->job, &s, run->cols, x, run->add, ops_rows(run, "out", run->cols, run->add));
    }
}

/* Several types, of which the last comes from a matrix without rows. */
static void
run_aggregate_types(ops_run *run)
{
    static const form forms[] = {WEIGHTED_MEAN, SINGLE, SUM, WIDE_WEIGHTED, MEAN};
    moe_sparse s[5];
    const float *x[5];
    for (int t = 0; t < 5; t++)
    {
        int64_t sources = t == 4 ? 0 : sources_of(run) + t;
        s[t] = make_matrix(run, forms[t], sources, (uint64_t) (20 + t));
        x[t] = ops_floats(run, sources * run->cols, (uint64_t) (40 + t));
    }
    for (int terms = 1; terms <= 5; terms += 2)
        run->backend->aggregate_types(run->job, terms, s, x, run->cols, run->add,
                                      ops_rows(run, "out", run->cols, run->add));
}

/* Numbers in steps of a half, so that there are ties. */
static const float *
coarse_floats(ops_run *run, int64_t n, uint64_t key)
{
    float *values = ops_normal(run, n, key);
    for (int64_t i = 0; i < n; i++)
        values[i] = (float) (int) (values[i] * 2) / 2;
    return ops_input(run, OPS_FLOAT, n, values);
}

static void
run_aggregate_max(ops_run *run)
{
    const float *x = coarse_floats(run, sources_of(run) * run->cols, 1);
    for (form f = SUM; f < FORMS; f++)
    {
        moe_sparse s = make_matrix(run, f, sources_of(run), 9);
        run->backend->aggregate_max(run->job, &s, run->cols, x, ops_rows(run, "out", run->cols, false),
                                    ops_other_output(run, "argmax", OPS_INDEX, run->rows * run->cols));
        run->backend->aggregate_max(run->job, &s, run->cols, x, ops_rows(run, "out without argmax", run->cols, false),
                                    NULL);
    }
}

/* From the transpose of a matrix, as aggregate_max has left its choices: entries of the row's own list, or none. */
static void
run_aggregate_max_backward(ops_run *run)
{
    int64_t targets = run->whole % 17 + 1;
    for (int weighted = 0; weighted < 2; weighted++)
    {
        ops_lists lists = ops_make_lists(run);
        int32_t *index = ops_index(run, lists.entries, targets, 9), *argmax = ops_index(run, targets * run->cols, 1, 2);
        int32_t *entry = ops_index(run, lists.entries, 1, 3);
        for (int64_t k = 0; k < lists.entries; k++)
        {
            index[k] = index[k] < 0 ? 0 : index[k];
            entry[k] = (int32_t) (k * 7 % (lists.entries + 1));
            for (int64_t j = k % 3; j < run->cols; j += 3)
                argmax[index[k] * run->cols + j] = entry[k];
        }
        moe_sparse t = {.rows = run->rows,
                        .entries = lists.entries,
                        .offset = lists.offset,
                        .index = ops_input(run, OPS_INDEX, lists.entries, index),
                        .weight = weighted ? ops_list_floats(run, &lists, 1, 4) : NULL};
        const int32_t *entries = ops_input(run, OPS_INDEX, lists.entries, entry);
        const int32_t *chosen = ops_input(run, OPS_INDEX, targets * run->cols, argmax);
        run->backend->aggregate_max_backward(run->job, &t, entries, run->cols, chosen,
                                             ops_floats(run, targets * run->cols, 5), run->add,
                                             ops_output(run, "gx", run->rows * run->cols, run->add));
    }
}

static void
run_edge_dot(ops_run *run)
{
    const float *a = ops_row_floats(run, run->cols, 1), *b = ops_floats(run, sources_of(run) * run->cols, 2);
    static const form forms[] = {SUM, SINGLE, WIDE};
    for (int f = 0; f < 3; f++)
    {
        moe_sparse s = make_matrix(run, forms[f], sources_of(run), 9);
        float *out = s.offset == NULL ? ops_rows(run, "out", s.entries / (run->rows < 1 ? 1 : run->rows), run->add)
                                      : ops_output(run, "out", s.entries, run->add);
        run->backend->edge_dot(run->job, &s, run->cols, a, b, run->add, out);
    }
}

static void
run_aggregate_parts(ops_run *run)
{
    const float *x = ops_floats(run, sources_of(run) * run->cols, 1);
    for (int parts = 1; parts < 7; parts++)
    {
        ops_lists lists = ops_make_lists(run);
        moe_sparse s = {.rows = run->rows,
                        .entries = lists.entries,
                        .offset = lists.offset,
                        .index = ops_list_indices(run, &lists, sources_of(run), 9),
                        .weight = ops_list_floats(run, &lists, parts, 10)};
        run->backend->aggregate_parts(run->job, &s, parts, run->cols, x,
                                      ops_rows(run, "out", parts * run->cols, false));
    }
}

static void
run_sum_rows(ops_run *run)
{
    const float *x = ops_floats(run, sources_of(run) * run->cols, 1);
    const float *terms[] = {x, ops_row_floats(run, run->cols, 4), x, x, ops_row_floats(run, run->cols, 5)};
    const int32_t *rows[] = {ops_row_indices(run, sources_of(run), 9), NULL, ops_row_indices(run, sources_of(run), 10),
                             ops_row_indices(run, sources_of(run), 11), NULL};
    for (int n = 1; n <= 5; n++)
        run->backend->sum_rows(run->job, run->rows, run->cols, n, terms, rows, ops_rows(run, "out", run->cols, false));
}

/* The places of index and weight that no entry takes hold what they held. */
static void
transpose_of(ops_run *run, const moe_sparse *s, int parts, bool weighted, bool numbered)
{
    int64_t columns = sources_of(run), most = s->entries * parts;
    run->backend->transpose(run->job, s, parts, columns, ops_other_output(run, "offset", OPS_COUNT, columns + 1),
                            ops_other_output(run, "index", OPS_INDEX, most),
                            weighted ? ops_output(run, "weight", most, false) : NULL,
                            numbered ? ops_other_output(run, "entry", OPS_INDEX, most) : NULL);
}

static void
run_transpose(ops_run *run)
{
    for (form f = SUM; f < FORMS; f++)
    {
        moe_sparse s = make_matrix(run, f, sources_of(run), 9);
        bool plain = f == SUM || f == SINGLE || f == WIDE;
        transpose_of(run, &s, 1, !plain, run->add);
    }
    ops_lists lists = ops_make_lists(run);
    moe_sparse s = {.rows = run->rows,
                    .entries = lists.entries,
                    .offset = lists.offset,
                    .index = ops_list_indices(run, &lists, sources_of(run), 9),
                    .weight = ops_list_floats(run, &lists, 3, 10)};
    transpose_of(run, &s, 3, true, !run->add);
}

const ops_case ops_sparse_cases[] = {
    OPS_CASE(gather, .tolerance = {1}),
    OPS_CASE(aggregate, .tolerance = {2, 8, 0}),
    OPS_CASE(aggregate_types, .tolerance = {2, 8, 0}),
    OPS_CASE(aggregate_max, .tolerance = {0}),
    OPS_CASE(aggregate_max_backward, .tolerance = {2, 8, 0}),
    OPS_CASE(edge_dot, .tolerance = {2, 8, 0}),
    OPS_CASE(aggregate_parts, .tolerance = {2, 8, 0}),
    OPS_CASE(sum_rows, .tolerance = {1, 2, 0}),
    OPS_CASE(transpose, .tolerance = {1}),
};
const int ops_sparse_count = sizeof(ops_sparse_cases) / sizeof(*ops_sparse_cases);

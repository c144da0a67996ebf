/*
 * segment.c: cases over runs of rows: softmax of segments, running sums in the
 * order of time and the windows made of them. A run's rows are the lists.
 */
#include "ops.h"

static int64_t
places_of(const ops_lists *lists)
{
    return lists->entries;
}

static void
run_segment_softmax(ops_run *run)
{
    ops_lists lists = ops_make_lists(run);
    int64_t n = places_of(&lists) * run->cols;
    const float *x = ops_list_floats(run, &lists, run->cols, 1);
    run->backend->segment_softmax(run->job, run->rows, lists.offset, run->cols, x, ops_output(run, "y", n, false));
}

static void
run_segment_softmax_backward(ops_run *run)
{
    ops_lists lists = ops_make_lists(run);
    int64_t n = places_of(&lists) * run->cols;
    const float *y = ops_list_floats(run, &lists, run->cols, 1), *gy = ops_list_floats(run, &lists, run->cols, 2);
    float *both = ops_changed(run, "gx in place", OPS_FLOAT, n, 0, ops_normal(run, n, 3));
    run->backend->segment_softmax_backward(run->job, run->rows, lists.offset, run->cols, y, gy, run->add,
                                           ops_output(run, "gx", n, run->add));
    run->backend->segment_softmax_backward(run->job, run->rows, lists.offset, run->cols, y, both, false, both);
}

/* Factors in (0, 1], the first of a list (which must not be read) NaN. */
static const float *
decays(ops_run *run, const ops_lists *lists)
{
    float *decay = ops_normal(run, places_of(lists), 7);
    for (int64_t p = 0; p < places_of(lists); p++)
        decay[p] = 1 / (1 + decay[p] * decay[p]);
    for (int64_t l = 0; l < run->rows; l++)
    {
        if (lists->host_offset[l] < lists->host_offset[l + 1])
            decay[lists->host_offset[l]] = __builtin_nanf("");
    }
    return ops_input(run, OPS_FLOAT, places_of(lists), decay);
}

static void
run_prefix_sum(ops_run *run)
{
    ops_lists lists = ops_make_lists(run);
    int64_t n = places_of(&lists) * run->cols;
    const float *x = ops_list_floats(run, &lists, run->cols, 1), *decay = decays(run, &lists);
    run->backend->prefix_sum(run->job, run->rows, lists.offset, run->cols, run->add ? decay : NULL, x,
                             ops_other_output(run, "out", OPS_DOUBLE, n));
}

static const double *
doubles(ops_run *run, int64_t n, uint64_t key)
{
    float *values = ops_normal(run, n, key);
    double *wide = moe_alloc(run->job, n, sizeof(double));
    assert_non_null(wide);
    for (int64_t i = 0; i < n; i++)
        wide[i] = (double) values[i] * 1.000000001;
    const double *data = ops_input(run, OPS_DOUBLE, n, wide);
    moe_free(run->job, wide);
    return data;
}

static void
run_prefix_sum_backward(ops_run *run)
{
    ops_lists lists = ops_make_lists(run);
    int64_t n = places_of(&lists) * run->cols;
    const double *g = doubles(run, n, 1);
    const float *decay = decays(run, &lists);
    run->backend->prefix_sum_backward(run->job, run->rows, lists.offset, run->cols, decay, g, run->add,
                                      ops_output(run, "gx", n, run->add));
    run->backend->prefix_sum_backward(run->job, run->rows, lists.offset, run->cols, NULL, g, run->add,
                                      ops_output(run, "gx without decay", n, run->add));
}

static int64_t
window_places(const ops_run *run)
{
    return run->whole % 301;
}

static void
run_window_sum(ops_run *run)
{
    int64_t places = window_places(run);
    const double *sum = doubles(run, places * run->cols, 1);
    const int32_t *last = ops_row_indices(run, places, 2), *before = ops_row_indices(run, places, 3);
    const float *factor = ops_row_floats(run, 1, 4), *fade = ops_row_floats(run, 1, 5);
    for (int kind = 0; kind < 4; kind++)
        run->backend->window_sum(run->job, run->rows, run->cols, last, before, kind & 1 ? factor : NULL,
                                 kind & 2 ? fade : NULL, sum, ops_rows(run, "out", run->cols, false));
}

static void
run_window_sum_backward(ops_run *run)
{
    int64_t places = window_places(run);
    const int32_t *last = ops_row_indices(run, places, 2), *before = ops_row_indices(run, places, 3);
    const float *factor = ops_row_floats(run, 1, 4), *fade = ops_row_floats(run, 1, 5);
    const float *gy = ops_row_floats(run, run->cols, 1);
    for (int kind = 0; kind < 4; kind++)
        run->backend->window_sum_backward(run->job, run->rows, run->cols, places, last, before,
                                          kind & 1 ? factor : NULL, kind & 2 ? fade : NULL, gy,
                                          ops_other_output(run, "g", OPS_DOUBLE, places * run->cols));
}

/* Running sums are compared in double. */
const ops_case ops_segment_cases[] = {
    OPS_CASE(segment_softmax, .tolerance = {16, 0, 0.1f}), OPS_CASE(segment_softmax_backward, .tolerance = {4, 8, 0}),
    OPS_CASE(prefix_sum, .tolerance = {16, 16, 0}),        OPS_CASE(prefix_sum_backward, .tolerance = {1, 1, 0}),
    OPS_CASE(window_sum, .tolerance = {1, 1, 0}),          OPS_CASE(window_sum_backward, .tolerance = {16, 16, 0}),
};
const int ops_segment_count = sizeof(ops_segment_cases) / sizeof(*ops_segment_cases);

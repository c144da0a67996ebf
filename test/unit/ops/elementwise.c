/*
 * elementwise.c: cases of operations number by number, out of place and in it.
 */
#include "ops.h"

#include <math.h>

static int64_t
count_of(const ops_run *run)
{
    return run->rows * run->cols;
}

/* An array that the operation may read and write, with random numbers. */
static float *
in_place(ops_run *run, uint64_t key)
{
    int64_t n = count_of(run);
    return ops_changed(run, "in place", OPS_FLOAT, n, 0, ops_row_normal(run, run->cols, key));
}

static void
run_sum(ops_run *run)
{
    const float *terms[6];
    for (int n = 1; n <= 6; n++)
    {
        terms[n - 1] = ops_row_floats(run, run->cols, (uint64_t) n);
        run->backend->sum(run->job, count_of(run), terms, n, ops_rows(run, "out", run->cols, false));
    }
}

static void
run_scale(ops_run *run)
{
    const float *x = ops_row_floats(run, run->cols, 1);
    float *both = in_place(run, 2);
    run->backend->scale(run->job, count_of(run), -1.7f, x, run->add, ops_rows(run, "out", run->cols, run->add));
    run->backend->scale(run->job, count_of(run), 0.3f, both, run->add, both);
}

static void
run_scale_by(ops_run *run)
{
    float factor = -1.7f;
    const float *x = ops_row_floats(run, run->cols, 1), *f = ops_input(run, OPS_FLOAT, 1, &factor);
    float *both = in_place(run, 2);
    run->backend->scale_by(run->job, count_of(run), f, x, run->add, ops_rows(run, "out", run->cols, run->add));
    run->backend->scale_by(run->job, count_of(run), f, both, run->add, both);
}

static void
run_multiply(ops_run *run)
{
    const float *a = ops_row_floats(run, run->cols, 1), *b = ops_row_floats(run, run->cols, 2);
    run->backend->multiply(run->job, count_of(run), a, b, run->add, ops_rows(run, "out", run->cols, run->add));
    run->backend->multiply(run->job, count_of(run), a, a, run->add, ops_rows(run, "square", run->cols, run->add));
}

/* Zeros of both signs, infinities and NaN among the numbers: a NaN must not vanish. */
static const float *
special_numbers(ops_run *run)
{
    static const float specials[] = {0, -0.0f, INFINITY, -INFINITY, NAN};
    float *x = ops_row_normal(run, run->cols, 1);
    for (int64_t i = 0; i < count_of(run); i++)
    {
        if ((run->first * run->cols + i) % 7 == 3)
            x[i] = specials[(run->first * run->cols + i) / 7 % 5];
    }
    return ops_input(run, OPS_FLOAT, count_of(run), x);
}

static void
run_relu(ops_run *run)
{
    run->backend->relu(run->job, count_of(run), special_numbers(run), ops_rows(run, "out", run->cols, false));
}

static void
run_relu_backward(ops_run *run)
{
    const float *y = ops_row_floats(run, run->cols, 1), *gy = ops_row_floats(run, run->cols, 2);
    float *both = in_place(run, 3);
    run->backend->relu_backward(run->job, count_of(run), 1.25f, y, gy, run->add,
                                ops_rows(run, "gx", run->cols, run->add));
    run->backend->relu_backward(run->job, count_of(run), 1, y, both, run->add, both);
}

static const float rates[] = {0.1f, 0.5f, 0.999999f, 1e-7f};

static void
run_dropout(ops_run *run)
{
    const float *x = ops_row_floats(run, run->cols, 1);
    float *both = in_place(run, 2);
    for (int i = 0; i < 4; i++)
        run->backend->dropout(run->job, count_of(run), rates[i], 42, x, run->add,
                              ops_output(run, "out", count_of(run), run->add));
    run->backend->dropout(run->job, count_of(run), 0.3f, 77, both, run->add, both);
}

static void
run_relu_dropout(ops_run *run)
{
    const float *x = ops_row_floats(run, run->cols, 1);
    for (int i = 0; i < 4; i++)
        run->backend->relu_dropout(run->job, count_of(run), rates[i], 42, x,
                                   ops_output(run, "out", count_of(run), false));
}

static void
run_exp(ops_run *run)
{
    float *x = ops_row_normal(run, run->cols, 2);
    for (int64_t i = 0; i < count_of(run); i++)
        x[i] *= 6; /* one in ten beyond the limit */
    run->backend->exp(run->job, count_of(run), ops_input(run, OPS_FLOAT, count_of(run), x),
                      ops_rows(run, "out", run->cols, false));
    run->backend->exp(run->job, count_of(run), special_numbers(run), ops_rows(run, "of special", run->cols, false));
}

static void
run_exp_backward(ops_run *run)
{
    float *x = ops_row_normal(run, run->cols, 2);
    for (int64_t i = 0; i < count_of(run); i++)
        x[i] *= 6;
    const float *limited = ops_input(run, OPS_FLOAT, count_of(run), x);
    const float *y = ops_row_floats(run, run->cols, 1), *gy = ops_row_floats(run, run->cols, 4);
    float *both = in_place(run, 3);
    run->backend->exp_backward(run->job, count_of(run), limited, y, gy, run->add,
                               ops_rows(run, "gx", run->cols, run->add));
    run->backend->exp_backward(run->job, count_of(run), limited, y, both, run->add, both);
}

const ops_case ops_elementwise_cases[] = {
    OPS_CASE(sum, .tolerance = {1, 2, 0}),
    OPS_CASE(scale, .tolerance = {1, 1, 0}),
    OPS_CASE(scale_by, .tolerance = {1, 1, 0}),
    OPS_CASE(multiply, .tolerance = {1, 1, 0}),
    OPS_CASE(relu, .tolerance = {0}),
    OPS_CASE(relu_backward, .tolerance = {1, 1, 0}),
    OPS_CASE(dropout, .tolerance = {1, 1, 0}),
    OPS_CASE(relu_dropout, .tolerance = {1}),
    OPS_CASE(exp, .tolerance = {8}),
    OPS_CASE(exp_backward, .tolerance = {1, 1, 0}),
};
const int ops_elementwise_count = sizeof(ops_elementwise_cases) / sizeof(*ops_elementwise_cases);

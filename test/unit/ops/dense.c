/*
 * dense.c: cases of products, and of what matrices do with rows and columns.
 */
#include "ops.h"

/* Columns that suit the tiles of a narrow product and such that do not; the widest, once there are rows, is OpenBLAS's.
 */
static const int64_t widths[] = {1, 13, 32, 1024};

/* Whether the product of these rows is worth its time, and whether its weights are narrow. */
static bool
too_large(const ops_run *run, int64_t width)
{
    return width > 32 && run->whole > (ops_slow() ? 10 : 200);
}

static bool
narrow(const ops_run *run, int64_t width)
{
    return run->cols * width * (int64_t) sizeof(float) <= 256 * 1024;
}

/* An output by rows if a row has the same bits in any company, which only narrow products promise. */
static float *
product(ops_run *run, int64_t width, const char *name, int64_t cols, bool add)
{
    return narrow(run, width) ? ops_rows(run, name, cols, add) : ops_output(run, name, run->rows * cols, add);
}

static void
run_linear(ops_run *run)
{
    for (int i = 0; i < 4; i++)
    {
        int64_t m = widths[i];
        if (too_large(run, m))
            continue;
        const float *x = ops_row_floats(run, run->cols, 1), *w = ops_floats(run, run->cols * m, 2);
        const float *b = ops_floats(run, m, 3);
        run->backend->linear(run->job, run->rows, run->cols, m, x, w, run->add ? b : NULL,
                             product(run, m, "out", m, false));
    }
}

static void
run_linear_input(ops_run *run)
{
    for (int i = 0; i < 4; i++)
    {
        int64_t m = widths[i];
        if (too_large(run, m))
            continue;
        const float *gy = ops_row_floats(run, m, 4), *w = ops_floats(run, run->cols * m, 2);
        run->backend->linear_input(run->job, run->rows, run->cols, m, gy, w, run->add,
                                   product(run, m, "gx", run->cols, run->add));
    }
}

static void
run_linear_weight(ops_run *run)
{
    for (int i = 0; i < 4; i++)
    {
        int64_t m = widths[i];
        if (too_large(run, m))
            continue;
        const float *x = ops_row_floats(run, run->cols, 1), *gy = ops_row_floats(run, m, 4);
        run->backend->linear_weight(run->job, run->rows, run->cols, m, x, gy,
                                    ops_output(run, "gw", run->cols * m, true));
    }
}

static void
run_add_row(ops_run *run)
{
    const float *x = ops_row_floats(run, run->cols, 1), *row = ops_floats(run, run->cols, 2);
    run->backend->add_row(run->job, run->rows, run->cols, x, row, ops_rows(run, "out", run->cols, false));
}

static void
run_column_sum(ops_run *run)
{
    const float *x = ops_row_floats(run, run->cols, 1);
    run->backend->column_sum(run->job, run->rows, run->cols, x, ops_output(run, "out", run->cols, true));
}

static void
run_multiply_column(ops_run *run)
{
    const float *x = ops_row_floats(run, run->cols, 1), *c = ops_row_floats(run, 1, 2);
    run->backend->multiply_column(run->job, run->rows, run->cols, x, c, run->add,
                                  ops_rows(run, "out", run->cols, run->add));
}

static void
run_multiply_row(ops_run *run)
{
    const float *x = ops_row_floats(run, run->cols, 1), *row = ops_floats(run, run->cols, 2);
    run->backend->multiply_row(run->job, run->rows, run->cols, x, row, run->add,
                               ops_rows(run, "out", run->cols, run->add));
}

static void
run_row_dot(ops_run *run)
{
    const float *a = ops_row_floats(run, run->cols, 1), *b = ops_row_floats(run, run->cols, 2);
    run->backend->row_dot(run->job, run->rows, run->cols, a, b, run->add, ops_rows(run, "out", 1, run->add));
}

/* The middle columns of x to the right of a wider matrix, whose other columns stay. */
static void
run_copy_block(ops_run *run)
{
    int64_t width = run->cols + 2, part = run->cols / 2;
    const float *x = ops_row_floats(run, run->cols, 1);
    float *wide = ops_rows(run, "out", width, true);
    run->backend->copy_block(run->job, run->rows, part, x + run->cols / 4, run->cols, run->add, wide + 2, width);
    run->backend->copy_block(run->job, run->rows, run->cols, x, run->cols, run->add,
                             ops_rows(run, "gapless", run->cols, run->add), run->cols);
}

const ops_case ops_dense_cases[] = {
    OPS_CASE(linear, .tolerance = {2, 8, 0}),        OPS_CASE(linear_input, .tolerance = {2, 8, 0}),
    OPS_CASE(linear_weight, .tolerance = {2, 8, 0}), OPS_CASE(add_row, .tolerance = {1}),
    OPS_CASE(column_sum, .tolerance = {2, 8, 0}),    OPS_CASE(multiply_column, .tolerance = {1, 1, 0}),
    OPS_CASE(multiply_row, .tolerance = {1, 1, 0}),  OPS_CASE(row_dot, .tolerance = {2, 8, 0}),
    OPS_CASE(copy_block, .tolerance = {1}),
};
const int ops_dense_count = sizeof(ops_dense_cases) / sizeof(*ops_dense_cases);

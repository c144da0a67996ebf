/*
 * rows.c: cases of normalisation and softmax, which work row by row.
 */
#include "ops.h"

#include <math.h>

/* Numbers of which every fifth row has no variance. */
static const float *
rows_to_normalise(ops_run *run)
{
    float *x = ops_row_normal(run, run->cols, 1);
    for (int64_t i = 0; i < run->rows; i++)
    {
        for (int64_t j = 0; (run->first + i) % 5 == 3 && j < run->cols; j++)
            x[i * run->cols + j] = 2;
    }
    return ops_input(run, OPS_FLOAT, run->rows * run->cols, x);
}

static void
run_layer_norm(ops_run *run)
{
    const float *x = rows_to_normalise(run), *gain = ops_floats(run, run->cols, 2),
                *bias = ops_floats(run, run->cols, 3);
    float *y = ops_rows(run, "y", run->cols, false);
    run->backend->layer_norm(run->job, run->rows, run->cols, x, gain, bias, y, ops_rows(run, "mean", 1, false),
                             ops_rows(run, "deviation", 1, false));
}

static void
run_layer_norm_relu(ops_run *run)
{
    static const float rates[] = {0, 0.3f};
    const float *x = rows_to_normalise(run), *gain = ops_floats(run, run->cols, 2),
                *bias = ops_floats(run, run->cols, 3);
    for (int i = 0; i < 2; i++)
    {
        /* Dropout goes by the place of a number, so that only without it a row does not depend on where it stands. */
        float *y =
            i == 0 ? ops_rows(run, "y", run->cols, false) : ops_output(run, "y dropped", run->rows * run->cols, false);
        run->backend->layer_norm_relu(run->job, run->rows, run->cols, x, gain, bias, rates[i], 42, y,
                                      ops_rows(run, "mean", 1, false), ops_rows(run, "deviation", 1, false));
    }
}

/* What the forward operation would have kept of the rows above, computed here in double. */
typedef struct statistics
{
    const float *x, *gain, *mean, *deviation;
} statistics;

static statistics
make_statistics(ops_run *run)
{
    statistics s = {.x = rows_to_normalise(run), .gain = ops_floats(run, run->cols, 2)};
    const float *x = (const float *) run->array[run->arrays - 2].host;
    float *mean = ops_row_normal(run, 1, 3), *deviation = ops_row_normal(run, 1, 4);
    for (int64_t i = 0; i < run->rows; i++)
    {
        double center = 0, variance = 0;
        for (int64_t j = 0; j < run->cols; j++)
            center += x[i * run->cols + j] / (double) run->cols;
        for (int64_t j = 0; j < run->cols; j++)
            variance += pow(x[i * run->cols + j] - center, 2) / (double) run->cols;
        mean[i] = (float) center;
        deviation[i] = (float) (1 / sqrt(variance + 1e-5));
    }
    s.mean = ops_input(run, OPS_FLOAT, run->rows, mean);
    s.deviation = ops_input(run, OPS_FLOAT, run->rows, deviation);
    return s;
}

static void
run_layer_norm_backward(ops_run *run)
{
    statistics s = make_statistics(run);
    const float *gy = ops_row_floats(run, run->cols, 5);
    float *both =
        ops_changed(run, "gx in place", OPS_FLOAT, run->rows * run->cols, run->cols, ops_row_normal(run, run->cols, 6));
    moe_job *job = run->job;
    run->backend->layer_norm_backward(job, run->rows, run->cols, s.x, s.gain, s.mean, s.deviation, gy, run->add,
                                      ops_rows(run, "gx", run->cols, run->add),
                                      ops_output(run, "ggain", run->cols, true),
                                      ops_output(run, "gbias", run->cols, true));
    run->backend->layer_norm_backward(job, run->rows, run->cols, s.x, s.gain, s.mean, s.deviation, gy, run->add, NULL,
                                      NULL, ops_output(run, "gbias alone", run->cols, true));
    run->backend->layer_norm_backward(job, run->rows, run->cols, s.x, s.gain, s.mean, s.deviation, gy, run->add, NULL,
                                      ops_output(run, "ggain alone", run->cols, true), NULL);
    run->backend->layer_norm_backward(job, run->rows, run->cols, s.x, s.gain, s.mean, s.deviation, both, false, both,
                                      NULL, NULL);
}

static void
run_layer_norm_relu_backward(ops_run *run)
{
    statistics s = make_statistics(run);
    const float *y = ops_row_floats(run, run->cols, 7), *gy = ops_row_floats(run, run->cols, 5);
    float *both =
        ops_changed(run, "gx in place", OPS_FLOAT, run->rows * run->cols, run->cols, ops_row_normal(run, run->cols, 6));
    run->backend->layer_norm_relu_backward(run->job, run->rows, run->cols, s.x, s.gain, s.mean, s.deviation, y, 1.25f,
                                           gy, run->add, ops_rows(run, "gx", run->cols, run->add),
                                           ops_output(run, "ggain", run->cols, true),
                                           ops_output(run, "gbias", run->cols, true));
    run->backend->layer_norm_relu_backward(run->job, run->rows, run->cols, s.x, s.gain, s.mean, s.deviation, y, 1, both,
                                           false, both, NULL, ops_output(run, "gbias alone", run->cols, true));
}

/* Wide enough apart that exp must not be taken of the numbers themselves. */
static void
run_softmax(ops_run *run)
{
    float *x = ops_row_normal(run, run->cols, 1);
    for (int64_t i = 0; i < run->rows * run->cols; i++)
        x[i] *= 40;
    run->backend->softmax(run->job, run->rows, run->cols, ops_input(run, OPS_FLOAT, run->rows * run->cols, x),
                          ops_rows(run, "y", run->cols, false));
}

static void
run_softmax_backward(ops_run *run)
{
    const float *y = ops_row_floats(run, run->cols, 1), *gy = ops_row_floats(run, run->cols, 2);
    float *both =
        ops_changed(run, "gx in place", OPS_FLOAT, run->rows * run->cols, run->cols, ops_row_normal(run, run->cols, 3));
    run->backend->softmax_backward(run->job, run->rows, run->cols, y, gy, run->add,
                                   ops_rows(run, "gx", run->cols, run->add));
    run->backend->softmax_backward(run->job, run->rows, run->cols, y, both, false, both);
}

/* Rows of few and of many numbers above the threshold, every fifth of equal ones. */
static void
run_entmax(ops_run *run)
{
    static const float spread[] = {0.1f, 1, 10};
    float *x = ops_row_normal(run, run->cols, 1);
    for (int64_t i = 0; i < run->rows; i++)
    {
        for (int64_t j = 0; j < run->cols; j++)
            x[i * run->cols + j] = (run->first + i) % 5 == 3 ? 2 : x[i * run->cols + j] * spread[(run->first + i) % 3];
    }
    run->backend->entmax(run->job, run->rows, run->cols, ops_input(run, OPS_FLOAT, run->rows * run->cols, x),
                         ops_rows(run, "y", run->cols, false));
}

static void
run_entmax_backward(ops_run *run)
{
    float *y = ops_row_normal(run, run->cols, 1);
    for (int64_t i = 0; i < run->rows * run->cols; i++)
        y[i] = (run->first * run->cols + i) % 3 == 1 && run->cols > 2 ? 0 : 0.1f + fabsf(y[i]);
    const float *probability = ops_input(run, OPS_FLOAT, run->rows * run->cols, y);
    const float *gy = ops_row_floats(run, run->cols, 2);
    float *both =
        ops_changed(run, "gx in place", OPS_FLOAT, run->rows * run->cols, run->cols, ops_row_normal(run, run->cols, 3));
    run->backend->entmax_backward(run->job, run->rows, run->cols, probability, gy, run->add,
                                  ops_rows(run, "gx", run->cols, run->add));
    run->backend->entmax_backward(run->job, run->rows, run->cols, probability, both, false, both);
}

/* Entmax backward takes a mean from what may equal it. Of two columns the variance may be small, and the deviation, up
 * to 316, enlarges what is rounded before. */
const ops_case ops_row_cases[] = {
    OPS_CASE(layer_norm, .tolerance = {4, 2, 316}),      OPS_CASE(layer_norm_backward, .tolerance = {4, 6, 632}),
    OPS_CASE(layer_norm_relu, .tolerance = {4, 2, 316}), OPS_CASE(layer_norm_relu_backward, .tolerance = {4, 6, 632}),
    OPS_CASE(softmax, .tolerance = {32, 0, 1}),          OPS_CASE(softmax_backward, .tolerance = {4, 8, 0}),
    OPS_CASE(entmax, .tolerance = {16, 0, 16}),          OPS_CASE(entmax_backward, .tolerance = {4, 16, 8}),
};
const int ops_row_count = sizeof(ops_row_cases) / sizeof(*ops_row_cases);

/*
 * loss.c: cases of the losses and of the optimiser.
 */
#include "ops.h"

#include <math.h>

/* Weights of which some, or all, are zero; NULL where a run does not add. */
static const float *
weights(ops_run *run, bool all_zero)
{
    float *weight = ops_row_normal(run, 1, 3);
    for (int64_t i = 0; i < run->rows; i++)
        weight[i] = all_zero || i % 4 == 1 ? 0 : fabsf(weight[i]);
    return ops_input(run, OPS_FLOAT, run->rows, weight);
}

static void
loss_of(ops_run *run, moe_loss_kind kind, const float *x, const float *label, const float *weight)
{
    run->backend->loss(run->job, kind, run->rows, x, label, weight, ops_output(run, "value", 1, false),
                       ops_output(run, "gradient", run->rows, false));
}

/* Logits so far out that exp overflows; a difference of exactly zero. */
static void
run_loss(ops_run *run)
{
    float *x = ops_row_normal(run, 1, 1), *number = ops_row_normal(run, 1, 2), *binary = ops_row_normal(run, 1, 2);
    for (int64_t i = 0; i < run->rows; i++)
    {
        binary[i] = binary[i] > 0;
        x[i] = i % 9 == 4 ? (binary[i] > 0 ? 1000.0f : -1000.0f) : i % 9 == 5 ? number[i] : x[i];
    }
    const float *logits = ops_input(run, OPS_FLOAT, run->rows, x), *weight = weights(run, false);
    const float *numbers = ops_input(run, OPS_FLOAT, run->rows, number);
    const float *labels = ops_input(run, OPS_FLOAT, run->rows, binary);
    for (moe_loss_kind kind = MOE_LOSS_LOGISTIC; kind <= MOE_LOSS_SQUARED; kind++)
    {
        const float *label = kind == MOE_LOSS_LOGISTIC ? labels : numbers;
        loss_of(run, kind, logits, label, run->add ? weight : NULL);
        loss_of(run, kind, logits, label, weights(run, true));
    }
}

static void
run_cross_entropy(ops_run *run)
{
    int32_t *class = ops_index(run, run->rows, run->cols, 5);
    for (int64_t i = 0; i < run->rows; i++)
        class[i] = class[i] < 0 ? 0 : class[i];
    const int32_t *label = ops_input(run, OPS_INDEX, run->rows, class);
    const float *logits = ops_row_floats(run, run->cols, 1), *weight = weights(run, false);
    run->backend->cross_entropy(run->job, run->rows, run->cols, logits, label, run->add ? weight : NULL,
                                ops_output(run, "value", 1, false),
                                ops_output(run, "gradient", run->rows * run->cols, false));
    run->backend->cross_entropy(run->job, run->rows, run->cols, logits, label, weights(run, true),
                                ops_output(run, "value of nothing", 1, false),
                                ops_output(run, "gradient of nothing", run->rows * run->cols, false));
}

static void
run_square_sum(ops_run *run)
{
    int64_t n = run->rows * run->cols;
    run->backend->square_sum(run->job, n, ops_row_floats(run, run->cols, 1),
                             ops_other_output(run, "out", OPS_DOUBLE, 1));
}

/* A step within the clip norm, one beyond it, one without a limit, and two of which nothing may be kept. */
static void
run_adam(ops_run *run)
{
    static const double sums[] = {4, 400, 1e30, INFINITY, NAN};
    int64_t n = run->rows * run->cols;
    for (int i = 0; i < 5; i++)
    {
        moe_adam_rates rates = {.beta1 = 0.9f,
                                .beta2 = 0.999f,
                                .rate = 0.02f,
                                .correction = 3,
                                .epsilon = 1e-8f,
                                .shrink = run->add ? 0.99f : 1,
                                .clip_norm = i == 2 ? 0 : 5};
        float *second = ops_row_normal(run, run->cols, 4);
        for (int64_t k = 0; k < n; k++)
            second[k] *= second[k];
        const double *sum = ops_input(run, OPS_DOUBLE, 1, &sums[i]);
        run->backend->adam(run->job, n, &rates, sum,
                           ops_changed(run, "value", OPS_FLOAT, n, run->cols, ops_row_normal(run, run->cols, 1)),
                           ops_changed(run, "gradient", OPS_FLOAT, n, run->cols, ops_row_normal(run, run->cols, 2)),
                           ops_changed(run, "moment1", OPS_FLOAT, n, run->cols, ops_row_normal(run, run->cols, 3)),
                           ops_changed(run, "moment2", OPS_FLOAT, n, run->cols, second));
    }
}

const ops_case ops_loss_cases[] = {
    OPS_CASE(loss, .tolerance = {8, 4, 0}),
    OPS_CASE(cross_entropy, .least_cols = 1, .tolerance = {16, 4, 0}),
    OPS_CASE(square_sum, .tolerance = {1024, 0, 0}),
    OPS_CASE(adam, .tolerance = {2, 4, 0}),
};
const int ops_loss_count = sizeof(ops_loss_cases) / sizeof(*ops_loss_cases);

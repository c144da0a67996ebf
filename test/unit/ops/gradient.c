/*
 * gradient.c: every backward operation against finite differences of its
 * forward operation.
 *
 * Of the outputs of a forward operation one number is made by a random
 * projection. Its derivative by each input, from five points on the reference in
 * double,
 *
 *   f'(x) = (f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h,
 *
 * must be what the backward operations of each backend make of the projection.
 * Inputs stay away from kinks by more than 2h.
 */
#include "gradient.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define STEP (1.0f / 16)

/* Numbers at least 0.2 from zero; of a grid, numbers at least 0.5 from each other. */
static float *
point_of(ops_run *run, int64_t n, int input, bool grid)
{
    float *x = ops_normal(run, n, (uint64_t) input + 60);
    for (int64_t i = 0; i < n; i++)
        x[i] = grid ? 0.5f * (float) ((i * 7 + 3) % n - n / 2) + 0.25f : x[i] + copysignf(0.2f, x[i]);
    return x;
}

static float *
projection_of(ops_run *run, const ops_pair *pair)
{
    float *gy = ops_normal(run, pair->outputs, 70);
    if (pair->outputs == 1)
        gy[0] = 1;
    return gy;
}

/* The projected outputs of the reference at x. */
static double
value_at(const ops_pair *pair, moe_job *job, float *const *x, const float *gy)
{
    ops_run run = {.job = job, .backend = &moe_backend_reference};
    const float *in[OPS_MOST_INPUTS];
    double total = 0;
    for (int i = 0; i < pair->inputs; i++)
        in[i] = ops_input(&run, OPS_FLOAT, pair->size[i], x[i]);
    float *out = ops_output(&run, "out", pair->outputs, false);
    pair->forward(&run, in, out);
    for (int64_t k = 0; k < pair->outputs; k++)
        total += (double) out[k] * gy[k];
    ops_release(&run);
    return total;
}

static double
derivative_at(const ops_pair *pair, moe_job *job, float *const *x, const float *gy, float *moved)
{
    static const int steps[] = {-2, -1, 1, 2}, factors[] = {1, -8, 8, -1};
    float old = *moved;
    double total = 0;
    for (int i = 0; i < 4; i++)
    {
        *moved = old + (float) steps[i] * STEP;
        total += factors[i] * value_at(pair, job, x, gy);
    }
    *moved = old;
    return total / (12 * (double) STEP);
}

/* Run forward and backward on a backend; the gradients are the run's last arrays. */
static void
run_backward(const ops_pair *pair, ops_run *run, float *const *x, const float *gy)
{
    const float *in[OPS_MOST_INPUTS];
    float *gradient[OPS_MOST_INPUTS];
    char what[100];
    for (int i = 0; i < pair->inputs; i++)
        in[i] = ops_input(run, OPS_FLOAT, pair->size[i], x[i]);
    const float *projection = ops_input(run, OPS_FLOAT, pair->outputs, gy);
    float *out = ops_output(run, "out", pair->outputs, false);
    for (int i = 0; i < pair->inputs; i++)
    {
        float *zero = ops_normal(run, pair->size[i], 1);
        memset(zero, 0, (size_t) pair->size[i] * sizeof(float));
        gradient[i] = ops_changed(run, "gradient", OPS_FLOAT, pair->size[i], 0, zero);
    }
    pair->forward(run, in, out);
    pair->backward(run, in, out, projection, gradient);
    snprintf(what, sizeof(what), "the backward of %s on %s", pair->name, run->backend->name);
    ops_collect(run, what);
}

static void
compare_gradient(const ops_pair *pair, const char *backend, int input, const ops_array *got, const double *expected)
{
    const float *gradient = (const float *) got->host;
    double largest = 0;
    for (int64_t k = 0; k < got->n; k++)
        largest = fmax(largest, fabs(expected[k]));
    if (largest == 0)
        fail_msg("the gradient of %s by input %d is zero: the check says nothing", pair->name, input);
    for (int64_t k = 0; k < got->n; k++)
    {
        if (!(fabs(gradient[k] - expected[k]) <= 2e-4 * largest))
            fail_msg("the gradient of %s by input %d, number %lld, is %.9g on %s, and %.9g by finite differences",
                     pair->name, input, (long long) k, gradient[k], backend, expected[k]);
    }
}

void
ops_check_gradient(const ops_pair *pair, moe_job *reference, moe_job *job, const moe_backend *table, const char *name)
{
    ops_run here = {.job = reference, .backend = &moe_backend_reference};
    ops_run run = {.job = job, .backend = table};
    float *x[OPS_MOST_INPUTS];
    for (int i = 0; i < pair->inputs; i++)
        x[i] = point_of(&here, pair->size[i], i, pair->grid);
    float *gy = projection_of(&here, pair);
    run_backward(pair, &run, x, gy);
    for (int i = 0; i < pair->inputs; i++)
    {
        double expected[OPS_MOST_DERIVATIVES];
        assert_true(pair->size[i] <= OPS_MOST_DERIVATIVES);
        for (int64_t k = 0; k < pair->size[i]; k++)
            expected[k] = derivative_at(pair, reference, x, gy, &x[i][k]);
        compare_gradient(pair, name, i, &run.array[pair->inputs + 2 + i], expected);
    }
    ops_release(&run);
    ops_release(&here);
}

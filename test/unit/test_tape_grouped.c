/*
 * test_tape_grouped.c: rows routed to experts: gradients against finite
 * differences, the dense computation of the same, and bits that depend on the
 * row alone.
 */
#include "core.h"

#include <math.h>
#include <string.h>

#include "kernels/ops.h"
#include "kernels/tape.h"

#define STEP 5e-3

/* A mixture of two-layer networks of some shape. */
typedef struct shape
{
    int64_t rows;
    int64_t channels;
    int64_t hidden;
    int64_t outputs;
    int experts;
    int k;
} shape;

enum
{
    X,
    LOGITS,
    HIDDEN_WEIGHT,
    HIDDEN_BIAS,
    WEIGHT,
    BIAS,
    INPUTS
};

/* Rows and their logits are the first ones of a fixed sequence, whatever the number of rows. */
static moe_params *
make_params(moe_job *job, const shape *s)
{
    int64_t size[INPUTS][2] = {{s->rows, s->channels},
                               {s->rows, s->experts},
                               {s->experts * s->channels, s->hidden},
                               {s->experts, s->hidden},
                               {s->experts * s->hidden, s->outputs},
                               {s->experts, s->outputs}};
    moe_params *params = moe_params_create(job, 1);
    for (int i = 0; i < INPUTS; i++)
    {
        char name[2] = {(char) ('a' + i), 0};
        moe_param *param = moe_params_add(params, name, size[i][0], size[i][1], MOE_INIT_ZERO);
        for (int64_t k = 0; k < size[i][0] * size[i][1]; k++)
            param->value[k] = (float) moe_random_normal((uint64_t) i + 3, (uint64_t) k);
    }
    assert_int_equal(moe_params_train(params), MOE_OK);
    return params;
}

static void
variables(moe_tape *tape, moe_params *params, moe_var **in)
{
    for (int i = 0; i < INPUTS; i++)
        in[i] = moe_variable(tape, moe_params_get(params, i));
}

/* What head.c does. */
static moe_var *
mixture(moe_tape *tape, moe_var **in, const shape *s)
{
    moe_var *gates = moe_top_k_gate(tape, in[LOGITS], s->k, 0);
    const moe_route *route = moe_top_k_route(tape, gates, s->k);
    moe_var *h = moe_relu(tape, moe_route_linear(tape, route, in[X], in[HIDDEN_WEIGHT], in[HIDDEN_BIAS]));
    moe_var *y = moe_grouped_linear(tape, route, h, in[WEIGHT], in[BIAS]);
    return moe_combine(tape, route, y, moe_pick(tape, route, gates));
}

/* Parts of it, for gradients to be checked alone. */
static moe_var *
products(moe_tape *tape, moe_var **in, const shape *s)
{
    const moe_route *route = moe_top_k_route(tape, in[LOGITS], s->k);
    return moe_grouped_linear(tape, route, moe_route_linear(tape, route, in[X], in[HIDDEN_WEIGHT], in[HIDDEN_BIAS]),
                              in[WEIGHT], NULL);
}

static moe_var *
picks(moe_tape *tape, moe_var **in, const shape *s)
{
    return moe_pick(tape, moe_top_k_route(tape, in[LOGITS], s->k), in[LOGITS]);
}

static moe_var *
combination(moe_tape *tape, moe_var **in, const shape *s)
{
    const moe_route *route = moe_top_k_route(tape, in[LOGITS], s->k);
    moe_var *y = moe_route_linear(tape, route, in[X], in[HIDDEN_WEIGHT], NULL);
    return moe_combine(tape, route, y, moe_pick(tape, route, in[LOGITS]));
}

typedef moe_var *(*composition)(moe_tape *tape, moe_var **in, const shape *s);

/* One number from a composition; x and the logits are used before and after it, so that gradients add up. */
static moe_var *
loss_of(moe_tape *tape, moe_params *params, composition compose, const shape *s)
{
    static float numbers[64], label[64];
    moe_var *in[INPUTS];
    moe_tape_reset(tape, true, 1);
    for (int i = 0; i < 64; i++)
        numbers[i] = (float) moe_random_normal(7, (uint64_t) i);
    variables(tape, params, in);
    moe_var *x = moe_linear(tape, in[X], moe_constant(tape, s->channels, 1, numbers), NULL);
    moe_var *y = compose(tape, in, s);
    if (y == NULL)
        return NULL;
    y = moe_linear(tape, y, moe_constant(tape, y->cols, 1, numbers), NULL);
    moe_var *terms[] = {moe_loss_squared(tape, y, label, NULL),
                        moe_scale(tape, moe_loss_squared(tape, x, label, NULL), 0.1f)};
    return moe_sum(tape, terms, 2);
}

static double
loss_at(moe_tape *tape, moe_params *params, composition compose, const shape *s)
{
    moe_var *loss = loss_of(tape, params, compose, s);
    float value;
    assert_int_equal(moe_tape_read(tape, loss, &value), MOE_OK);
    return value;
}

/* Of all numbers of all inputs; inputs in `used` must have a gradient that is not zero. */
static void
check_gradients(composition compose, unsigned used)
{
    static const shape s = {7, 5, 6, 3, 4, 2};
    moe_job *job = start_job(2);
    moe_params *params = make_params(job, &s);
    moe_tape *tape = moe_tape_create(job);
    moe_var *loss = loss_of(tape, params, compose, &s);
    assert_string_equal(moe_job_error(job), "");
    assert_int_equal(moe_tape_backward(tape, loss), MOE_OK);
    moe_tape_use_backend(tape, &moe_backend_reference);
    for (int i = 0; i < INPUTS; i++)
    {
        moe_param *param = moe_params_get(params, i);
        double largest = 0;
        for (int64_t k = 0; k < param->rows * param->cols; k++)
        {
            float before = param->value[k];
            param->value[k] = before + (float) STEP;
            double above = loss_at(tape, params, compose, &s);
            param->value[k] = before - (float) STEP;
            double below = loss_at(tape, params, compose, &s);
            param->value[k] = before;
            double expected = (above - below) / (2 * STEP);
            double got = param->gradient[k];
            largest = fmax(largest, fabs(got));
            if (fabs(got - expected) > 1e-2 * (1 + fabs(expected)))
                fail_msg("input %d, number %d: %g where differences give %g", i, (int) k, got, expected);
        }
        assert_true(!(used >> i & 1) || largest > 1e-2);
    }
    moe_job_destroy(job);
}

static void
gradients_of_the_products(void **state)
{
    check_gradients(products, 1 << X | 1 << HIDDEN_WEIGHT | 1 << HIDDEN_BIAS | 1 << WEIGHT);
}

static void
gradients_of_the_choice(void **state)
{
    check_gradients(picks, 1 << LOGITS);
}

static void
gradients_of_the_combination(void **state)
{
    check_gradients(combination, 1 << X | 1 << LOGITS | 1 << HIDDEN_WEIGHT);
}

static void
gradients_of_the_mixture(void **state)
{
    check_gradients(mixture, (1 << INPUTS) - 1);
}

/* Run the mixture of a shape and keep its values; with gradients [all parameters] if wanted. */
static void
run(const shape *s, int threads, float *out, float *gradients)
{
    moe_job *job = start_job(threads);
    moe_params *params = make_params(job, s);
    moe_tape *tape = moe_tape_create(job);
    moe_var *in[INPUTS];
    float *label = moe_alloc(job, s->rows, sizeof(float));
    moe_tape_reset(tape, false, 1);
    variables(tape, params, in);
    moe_var *y = mixture(tape, in, s);
    assert_string_equal(moe_job_error(job), "");
    assert_int_equal(moe_tape_read(tape, y, out), MOE_OK);
    if (gradients != NULL)
    {
        float *ones = moe_alloc(job, s->outputs, sizeof(float));
        for (int64_t i = 0; i < s->outputs; i++)
            ones[i] = 1;
        y = moe_linear(tape, y, moe_constant(tape, s->outputs, 1, ones), NULL);
        assert_int_equal(moe_tape_backward(tape, moe_loss_squared(tape, y, label, NULL)), MOE_OK);
        for (int i = 0; i < INPUTS; i++)
        {
            const moe_param *param = moe_params_get(params, i);
            memcpy(gradients, param->gradient, (size_t) (param->rows * param->cols) * sizeof(float));
            gradients += param->rows * param->cols;
        }
    }
    moe_job_destroy(job);
}

static int64_t
parameters(const shape *s)
{
    return s->rows * (s->channels + s->experts) + s->experts * (s->channels + 1) * s->hidden +
           s->experts * (s->hidden + 1) * s->outputs;
}

static void
threads_change_no_bit(void **state)
{
    static const shape shapes[] = {{1500, 40, 56, 9, 5, 2}, {700, 128, 128, 1, 8, 2}, {3000, 24, 33, 17, 1, 1}};
    for (int i = 0; i < 3; i++)
    {
        const shape *s = &shapes[i];
        moe_job *job = start_job(1);
        int64_t n = s->rows * s->outputs, n_gradients = parameters(s);
        float *out = moe_alloc(job, 2 * n, sizeof(float)), *gradients = moe_alloc(job, 2 * n_gradients, sizeof(float));
        run(s, 1, out, gradients);
        for (int threads = 2; threads <= 7; threads += 5)
        {
            run(s, threads, out + n, gradients + n_gradients);
            assert_memory_equal(out, out + n, n * sizeof(float));
            assert_memory_equal(gradients, gradients + n_gradients, n_gradients * sizeof(float));
        }
        moe_job_destroy(job);
    }
}

static void
a_row_has_the_same_bits_in_any_batch(void **state)
{
    static const int64_t rows[] = {1, 2, 5, 13, 100, 467};
    static const shape shapes[] = {{0, 48, 40, 5, 4, 2}, {0, 300, 128, 1, 3, 2}, {0, 7, 16, 20, 6, 3}};
    static float all[500 * 20], some[500 * 20];
    for (int i = 0; i < 3; i++)
    {
        shape s = shapes[i];
        s.rows = 500;
        run(&s, 2, all, NULL);
        for (int j = 0; j < 6; j++)
        {
            s.rows = rows[j];
            run(&s, 2, some, NULL);
            assert_memory_equal(some, all, s.rows * s.outputs * sizeof(float));
        }
    }
}

/* All experts over all rows, weighted by gates that are zero where an expert was not chosen. */
static void
dense(const shape *s, moe_job *job, const moe_backend *backend, moe_params *params, float *out)
{
    const float *in[INPUTS];
    float *gates = moe_alloc(job, s->rows * s->experts, sizeof(float));
    float *h = moe_alloc(job, s->rows * s->hidden, sizeof(float));
    float *y = moe_alloc(job, s->rows * s->outputs, sizeof(float));
    for (int i = 0; i < INPUTS; i++)
        in[i] = moe_params_get(params, i)->value;
    backend->top_k_gate(job, s->rows, s->experts, s->k, 0, 0, in[LOGITS], gates);
    memset(out, 0, (size_t) (s->rows * s->outputs) * sizeof(float));
    for (int e = 0; e < s->experts; e++)
    {
        backend->linear(job, s->rows, s->channels, s->hidden, in[X], in[HIDDEN_WEIGHT] + e * s->channels * s->hidden,
                        in[HIDDEN_BIAS] + e * s->hidden, h);
        backend->relu(job, s->rows * s->hidden, h, h);
        backend->linear(job, s->rows, s->hidden, s->outputs, h, in[WEIGHT] + e * s->hidden * s->outputs,
                        in[BIAS] + e * s->outputs, y);
        for (int64_t i = 0; i < s->rows * s->outputs; i++)
            out[i] += gates[i / s->outputs * s->experts + e] * y[i];
    }
}

static void
routed_rows_get_what_all_experts_weighted_would_give(void **state)
{
    static const shape shapes[] = {
        {200, 64, 48, 3, 5, 2}, {90, 17, 9, 1, 3, 3}, {64, 300, 20, 8, 4, 1}, {3, 8, 8, 2, 40, 2}, {50, 1, 1, 1, 2, 1}};
    for (int i = 0; i < 5; i++)
    {
        const shape *s = &shapes[i];
        moe_job *job = start_job(2);
        int64_t n = s->rows * s->outputs;
        float *routed = moe_alloc(job, n, sizeof(float)), *expected = moe_alloc(job, n, sizeof(float));
        run(s, 2, routed, NULL);
        dense(s, job, &moe_backend_reference, make_params(job, s), expected);
        for (int64_t k = 0; k < n; k++)
            assert_true(fabsf(routed[k] - expected[k]) <= 1e-4f * (1 + fabsf(expected[k])));
        moe_job_destroy(job);
    }
}

static void
no_rows_pass_through(void **state)
{
    static const shape s = {0, 5, 6, 3, 4, 2};
    moe_job *job = start_job(2);
    moe_params *params = make_params(job, &s);
    moe_tape *tape = moe_tape_create(job);
    moe_var *in[INPUTS];
    moe_tape_reset(tape, true, 1);
    variables(tape, params, in);
    moe_var *y = mixture(tape, in, &s);
    assert_string_equal(moe_job_error(job), "");
    assert_true(y->rows == 0 && y->cols == 3);
    moe_job_destroy(job);
}

typedef moe_var *(*mistake)(moe_tape *tape, moe_var **in, const moe_route *route);

static moe_var *
routing_to_no_expert(moe_tape *tape, moe_var **in, const moe_route *route)
{
    return moe_pick(tape, moe_top_k_route(tape, in[LOGITS], 0), in[LOGITS]);
}

static moe_var *
picking_from_other_columns(moe_tape *tape, moe_var **in, const moe_route *route)
{
    return moe_pick(tape, route, in[X]);
}

static moe_var *
rows_where_places_are_meant(moe_tape *tape, moe_var **in, const moe_route *route)
{
    return moe_grouped_linear(tape, route, in[X], in[HIDDEN_WEIGHT], NULL);
}

static moe_var *
weights_of_too_few_experts(moe_tape *tape, moe_var **in, const moe_route *route)
{
    return moe_route_linear(tape, route, in[X], in[WEIGHT], NULL);
}

static moe_var *
one_bias_for_all(moe_tape *tape, moe_var **in, const moe_route *route)
{
    return moe_route_linear(tape, route, in[X], in[HIDDEN_WEIGHT], in[BIAS]);
}

static moe_var *
gates_of_all_experts(moe_tape *tape, moe_var **in, const moe_route *route)
{
    return moe_combine(tape, route, moe_route_linear(tape, route, in[X], in[HIDDEN_WEIGHT], NULL), in[LOGITS]);
}

static moe_var *
no_route(moe_tape *tape, moe_var **in, const moe_route *route)
{
    return moe_route_linear(tape, NULL, in[X], in[HIDDEN_WEIGHT], NULL);
}

static void
shapes_that_do_not_fit_are_refused(void **state)
{
    static const mistake mistakes[] = {routing_to_no_expert,
                                       picking_from_other_columns,
                                       rows_where_places_are_meant,
                                       weights_of_too_few_experts,
                                       one_bias_for_all,
                                       gates_of_all_experts,
                                       no_route};
    static const shape s = {7, 5, 6, 3, 4, 2};
    for (int i = 0; i < 7; i++)
    {
        moe_job *job = start_job(1);
        moe_params *params = make_params(job, &s);
        moe_tape *tape = moe_tape_create(job);
        moe_var *in[INPUTS];
        moe_tape_reset(tape, true, 1);
        variables(tape, params, in);
        assert_null(mistakes[i](tape, in, moe_top_k_route(tape, in[LOGITS], 2)));
        assert_int_equal(moe_job_code(job), MOE_INVALID);
        moe_job_destroy(job);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_the_products),
        cmocka_unit_test(gradients_of_the_choice),
        cmocka_unit_test(gradients_of_the_combination),
        cmocka_unit_test(gradients_of_the_mixture),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(a_row_has_the_same_bits_in_any_batch),
        cmocka_unit_test(routed_rows_get_what_all_experts_weighted_would_give),
        cmocka_unit_test(no_rows_pass_through),
        cmocka_unit_test(shapes_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

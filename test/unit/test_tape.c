/*
 * test_tape.c: gradients of every operation against central finite
 * differences, and how the tape behaves: failure, limits, randomness, threads.
 *
 * Each operation is checked with its inputs as parameters, as results of other
 * operations (whose gradients may be made in place), and as results that other
 * operations use, too.
 */
#include "core.h"

#include <math.h>
#include <string.h>

#include "kernels/ops.h"
#include "kernels/tape.h"

#define STEP 5e-3

/* The shapes of the parameters an operation may take as inputs. */
enum
{
    A,      /* [6,4] */
    B,      /* [6,4] */
    WEIGHT, /* [4,3] */
    BIAS,   /* [1,3] */
    GAIN,   /* [1,4] */
    COLUMN, /* [6,1] */
    INPUTS
};
static const int shape[INPUTS][2] = {{6, 4}, {6, 4}, {4, 3}, {1, 3}, {1, 4}, {6, 1}};

typedef moe_var *(*operation)(moe_tape *tape, moe_var **in);

typedef enum usage
{
    DIRECT,
    DERIVED,
    SHARED,
    USAGES
} usage;

static float constants[64];
static const float labels[6] = {0, 1, 1, 0, 1, 0};
static const float weights[6] = {1, 0.5f, 2, 0, 3, 1};
static const int32_t classes[6] = {0, 3, 1, 1, 2, 0};

/* One number from a matrix, not linear in it. */
static moe_var *
reduce(moe_tape *tape, moe_var *x)
{
    if (x == NULL || (x->rows == 1 && x->cols == 1))
        return x;
    moe_var *mixed = moe_linear(tape, x, moe_constant(tape, x->cols, 1, constants), NULL);
    return moe_loss_squared(tape, mixed, constants + 20, NULL);
}

static moe_var *
build(moe_tape *tape, moe_params *params, operation op, usage use, uint64_t seed)
{
    moe_var *in[INPUTS];
    moe_var *terms[2 * INPUTS + 1];
    int n = 0;
    moe_tape_reset(tape, true, seed);
    for (int i = 0; i < INPUTS; i++)
    {
        in[i] = moe_variable(tape, moe_params_get(params, i));
        if (use != DIRECT)
            in[i] = moe_scale(tape, in[i], 1.25f);
        if (use == SHARED)
            terms[n++] = moe_scale(tape, reduce(tape, in[i]), 0.3f);
    }
    terms[n++] = reduce(tape, op(tape, in));
    for (int i = 0; use == SHARED && i < INPUTS; i++)
        terms[n++] = moe_scale(tape, reduce(tape, moe_relu(tape, in[i])), 0.2f);
    return moe_sum(tape, terms, n);
}

/* Numbers away from zero, where relu and the absolute value have a kink. */
static moe_params *
make_params(moe_job *job)
{
    moe_params *params = moe_params_create(job, 1);
    for (int i = 0; i < INPUTS; i++)
    {
        char name[2] = {(char) ('a' + i), 0};
        moe_param *param = moe_params_add(params, name, shape[i][0], shape[i][1], MOE_INIT_ZERO);
        for (int k = 0; k < shape[i][0] * shape[i][1]; k++)
        {
            float z = (float) moe_random_normal((uint64_t) i + 3, (uint64_t) k);
            param->value[k] = z + (z > 0 ? 0.1f : -0.1f);
        }
    }
    assert_int_equal(moe_params_train(params), MOE_OK);
    for (int i = 0; i < 64; i++)
        constants[i] = (float) moe_random_normal(77, (uint64_t) i);
    return params;
}

static double
loss_at(moe_tape *tape, moe_params *params, operation op, usage use)
{
    moe_var *loss = build(tape, params, op, use, 11);
    assert_non_null(loss);
    return loss->value[0];
}

/* At least one gradient must differ from zero, or the check would say nothing. */
static void
check_gradient(operation op)
{
    for (usage use = DIRECT; use < USAGES; use++)
    {
        moe_job *job = start_job(2);
        moe_params *params = make_params(job);
        moe_tape *tape = moe_tape_create(job);
        double largest = 0;
        moe_var *loss = build(tape, params, op, use, 11);
        assert_string_equal(moe_job_error(job), "");
        assert_int_equal(moe_tape_backward(tape, loss), MOE_OK);
        moe_tape_use_backend(tape, &moe_backend_reference);
        for (int i = 0; i < INPUTS; i++)
        {
            moe_param *param = moe_params_get(params, i);
            for (int k = 0; k < shape[i][0] * shape[i][1]; k++)
            {
                float before = param->value[k];
                param->value[k] = before + (float) STEP;
                double above = loss_at(tape, params, op, use);
                param->value[k] = before - (float) STEP;
                double below = loss_at(tape, params, op, use);
                param->value[k] = before;
                double expected = (above - below) / (2 * STEP);
                double got = param->gradient[k];
                largest = fmax(largest, fabs(use == SHARED ? got : expected));
                if (fabs(got - expected) > 4e-3 * (1 + fabs(expected)))
                    fail_msg("usage %d, input %d, number %d: %g where differences give %g", use, i, k, got, expected);
            }
        }
        assert_true(largest > 1e-3);
        moe_job_destroy(job);
    }
}

#define GRADIENT_TEST(name, expression)                                                                                \
    static moe_var *name##_op(moe_tape *tape, moe_var **in)                                                            \
    {                                                                                                                  \
        return expression;                                                                                             \
    }                                                                                                                  \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        check_gradient(name##_op);                                                                                     \
    }

static const int32_t picks[9] = {2, -1, 0, 5, 2, 2, 1, -1, 4};
static const int64_t spans[6] = {0, 3, 3, 4, 8, 9};
static const float edge_weights[9] = {1, 2, -1, 0.5f, 3, 0.25f, -2, 1, 1.5f};
static const int32_t in_order[6] = {0, 1, 2, 3, 4, 5};
static const int32_t places[6] = {3, 0, 3, -1, 1, 3};

GRADIENT_TEST(linear, moe_linear(tape, in[A], in[WEIGHT], in[BIAS]))
GRADIENT_TEST(linear_without_bias, moe_linear(tape, in[A], in[WEIGHT], NULL))
GRADIENT_TEST(add, moe_add(tape, in[A], in[B]))
GRADIENT_TEST(add_to_itself, moe_add(tape, in[A], in[A]))
GRADIENT_TEST(add_row, moe_add_row(tape, in[A], in[GAIN]))
GRADIENT_TEST(sum_of_three, moe_sum(tape, (moe_var *[]){in[A], in[B], in[A]}, 3))
GRADIENT_TEST(scale, moe_scale(tape, in[A], -0.7f))
GRADIENT_TEST(multiply, moe_multiply(tape, in[A], in[B]))
GRADIENT_TEST(square, moe_multiply(tape, in[A], in[A]))
GRADIENT_TEST(multiply_column, moe_multiply_column(tape, in[A], in[COLUMN]))
GRADIENT_TEST(multiply_row, moe_multiply_row(tape, in[A], in[GAIN]))
GRADIENT_TEST(reshape, moe_reshape(tape, in[A], 3, 8))
GRADIENT_TEST(exponential, moe_exp(tape, in[A]))
GRADIENT_TEST(entmax, moe_entmax(tape, in[A]))
GRADIENT_TEST(concat, moe_concat(tape, (moe_var *[]){in[A], in[COLUMN], in[B], in[A]}, 4))
GRADIENT_TEST(relu, moe_relu(tape, in[A]))
GRADIENT_TEST(layer_norm, moe_layer_norm(tape, in[A], in[GAIN], moe_scale(tape, in[GAIN], 2)))
GRADIENT_TEST(dropout, moe_dropout(tape, in[A], 0.4f))
GRADIENT_TEST(relu_dropout, moe_relu_dropout(tape, in[A], 0.4f))
GRADIENT_TEST(layer_norm_relu, moe_layer_norm_relu(tape, in[A], in[GAIN], moe_scale(tape, in[GAIN], 2), 0))
GRADIENT_TEST(layer_norm_relu_dropout, moe_layer_norm_relu(tape, in[A], in[GAIN], moe_scale(tape, in[GAIN], 2), 0.4f))
GRADIENT_TEST(softmax, moe_softmax(tape, in[A]))
GRADIENT_TEST(gather, moe_gather(tape, in[A], picks, 9))
GRADIENT_TEST(aggregate_sum, moe_aggregate(tape, in[A], spans, picks, NULL, 5, MOE_SUM))
GRADIENT_TEST(aggregate_mean, moe_aggregate(tape, in[A], spans, picks, NULL, 5, MOE_MEAN))
GRADIENT_TEST(aggregate_weighted, moe_aggregate(tape, in[A], spans, picks, edge_weights, 5, MOE_SUM))
GRADIENT_TEST(aggregate_weighted_mean, moe_aggregate(tape, in[A], spans, picks, edge_weights, 5, MOE_MEAN))
GRADIENT_TEST(aggregate_parts, moe_aggregate_parts(tape, in[A], spans, picks, constants + 5, 3, 5))
GRADIENT_TEST(sum_rows, moe_sum_rows(tape, (moe_var *[]){in[A], in[B], in[A], in[A], in[A]},
                                     (const int32_t *[]){picks, NULL, NULL, NULL, places}, 5, 6))
GRADIENT_TEST(sum_rows_all_picked,
              moe_sum_rows(tape, (moe_var *[]){in[A], in[B]}, (const int32_t *[]){picks, picks + 1}, 2, 8))
GRADIENT_TEST(sum_rows_in_order,
              moe_sum_rows(tape, (moe_var *[]){in[A], in[B]}, (const int32_t *[]){in_order, picks}, 2, 6))
GRADIENT_TEST(scatter, moe_scatter(tape, in[A], places, 4))
GRADIENT_TEST(top_1_gate, moe_multiply(tape, moe_top_k_gate(tape, in[A], 1, 0), in[B]))
GRADIENT_TEST(top_2_gate, moe_top_k_gate(tape, in[A], 2, 0))
GRADIENT_TEST(noisy_gate, moe_top_k_gate(tape, in[A], 3, 0.1f))
GRADIENT_TEST(balance_loss, moe_balance_loss(tape, in[A], moe_constant(tape, 6, 4, constants + 30)))
GRADIENT_TEST(z_loss, moe_z_loss(tape, in[A]))
GRADIENT_TEST(logistic_loss, moe_loss_logistic(tape, in[COLUMN], labels, NULL))
GRADIENT_TEST(weighted_logistic_loss, moe_loss_logistic(tape, in[COLUMN], labels, weights))
GRADIENT_TEST(absolute_loss, moe_loss_absolute(tape, in[COLUMN], labels, weights))
GRADIENT_TEST(squared_loss, moe_loss_squared(tape, in[COLUMN], labels, weights))
GRADIENT_TEST(cross_entropy, moe_loss_cross_entropy(tape, in[A], classes, NULL))
GRADIENT_TEST(weighted_cross_entropy, moe_loss_cross_entropy(tape, in[A], classes, weights))

/* A network of most operations over n rows; NULL after a failure. */
static moe_var *
network(moe_tape *tape, moe_params *params, int64_t n, const int32_t *index, const int64_t *offset, const float *label)
{
    moe_var *x = moe_variable(tape, moe_params_add(params, "x", n, 24, MOE_INIT_NORMAL));
    moe_var *w = moe_variable(tape, moe_params_add(params, "w", 24, 33, MOE_INIT_UNIFORM));
    moe_var *b = moe_variable(tape, moe_params_add(params, "b", 1, 33, MOE_INIT_NORMAL));
    moe_var *gain = moe_variable(tape, moe_params_add(params, "gain", 1, 33, MOE_INIT_ONE));
    moe_var *h = moe_layer_norm(tape, moe_linear(tape, x, w, b), gain, b);
    moe_var *message = moe_aggregate(tape, h, offset, index, NULL, n, MOE_MEAN);
    h = moe_dropout(tape, moe_relu(tape, moe_add(tape, h, message)), 0.1f);
    h = moe_add(tape, moe_gather(tape, h, index, n), moe_scatter(tape, h, index, n));
    moe_var *router = moe_variable(tape, moe_params_add(params, "router", 33, 5, MOE_INIT_UNIFORM));
    moe_var *logits = moe_linear(tape, h, router, NULL);
    moe_var *gates = moe_top_k_gate(tape, logits, 2, 0.1f);
    moe_var *head = moe_variable(tape, moe_params_add(params, "head", 38, 1, MOE_INIT_UNIFORM));
    moe_var *joined = moe_concat(tape, (moe_var *[]){h, gates}, 2);
    moe_var *terms[] = {moe_loss_logistic(tape, moe_linear(tape, joined, head, NULL), label, NULL),
                        moe_balance_loss(tape, logits, gates), moe_z_loss(tape, logits)};
    return moe_sum(tape, terms, 3);
}

static void
network_data(moe_job *job, int64_t n, int32_t **index, int64_t **offset, float **label)
{
    *index = moe_alloc(job, 3 * n, sizeof(int32_t));
    *offset = moe_alloc(job, n + 1, sizeof(int64_t));
    *label = moe_alloc(job, n, sizeof(float));
    if (moe_job_code(job) != MOE_OK)
        return;
    for (int64_t i = 0; i < 3 * n; i++)
        (*index)[i] = (int32_t) (moe_random_bits(8, (uint64_t) i) % (uint64_t) (n + 1)) - 1;
    for (int64_t i = 0; i < n; i++)
    {
        (*offset)[i + 1] = (*offset)[i] + i % 4 - (i % 4 == 3);
        (*label)[i] = (float) (i % 2);
    }
}

/* Three steps of training; returns all parameters and the last loss. */
static float *
train_network(moe_job *job, int64_t *size)
{
    int64_t n = 5000;
    int32_t *index;
    int64_t *offset;
    float *label;
    moe_params *params = moe_params_create(job, 1);
    moe_tape *tape = moe_tape_create(job);
    moe_adam adam = {.learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .clip_norm = 1};
    network_data(job, n, &index, &offset, &label);
    moe_params_train(params);
    moe_var *loss = NULL;
    for (uint64_t step = 0; step < 3; step++)
    {
        moe_tape_reset(tape, true, step);
        loss = network(tape, params, n, index, offset, label);
        assert_int_equal(moe_tape_backward(tape, loss), MOE_OK);
        moe_adam_step(&adam, params);
    }
    *size = moe_params_size(params) + 1;
    float *values = moe_alloc(job, *size, sizeof(float));
    moe_params_save(params, values);
    values[*size - 1] = loss->value[0];
    return values;
}

static void
training_does_not_depend_on_threads(void **state)
{
    int64_t size;
    moe_job *one = start_job(1);
    float *expected = train_network(one, &size);
    int threads[] = {2, 7};
    for (int i = 0; i < 2; i++)
    {
        moe_job *job = start_job(threads[i]);
        assert_memory_equal(train_network(job, &size), expected, (size_t) size * sizeof(float));
        moe_job_destroy(job);
    }
    assert_true(isfinite(expected[size - 1]));
    moe_job_destroy(one);
}

static void
gradients_take_the_memory_of_what_was_computed(void **state)
{
    enum
    {
        ROWS = 2000,
        COLS = 64,
        LAYERS = 40
    };
    moe_job *job = start_job(2);
    moe_params *params = moe_params_create(job, 1);
    moe_param *w = moe_params_add(params, "w", COLS, COLS, MOE_INIT_UNIFORM);
    moe_param *last = moe_params_add(params, "last", COLS, 1, MOE_INIT_UNIFORM);
    float *values = moe_alloc(job, ROWS * COLS, sizeof(float));
    float *label = moe_alloc(job, ROWS, sizeof(float));
    moe_tape *tape = moe_tape_create(job);
    assert_int_equal(moe_params_train(params), MOE_OK);
    size_t before = moe_job_memory_used(job);
    moe_tape_reset(tape, true, 1);
    moe_var *x = moe_constant(tape, ROWS, COLS, values);
    for (int i = 0; i < LAYERS; i++)
        x = moe_relu(tape, moe_linear(tape, x, moe_variable(tape, w), NULL));
    moe_var *loss = moe_loss_squared(tape, moe_linear(tape, x, moe_variable(tape, last), NULL), label, NULL);
    size_t forward = moe_job_memory_used(job) - before;
    assert_true(forward >= 2 * LAYERS * ROWS * COLS * sizeof(float));
    assert_int_equal(moe_tape_backward(tape, loss), MOE_OK);
    assert_true(moe_job_memory_used(job) - before - forward < forward / 8);
    /* The loss may still be read; what led to it is gone. */
    float read;
    assert_int_equal(moe_tape_read(tape, loss, &read), MOE_OK);
    assert_int_equal(moe_tape_read(tape, x, values), MOE_INVALID);
    moe_job_destroy(job);
}

/* One step under a memory limit; the job is destroyed in whatever state it is in. */
static moe_code
step_within(size_t limit)
{
    moe_job_config config = {.threads = 2, .memory_limit = limit};
    moe_job *job;
    int32_t *index;
    int64_t *offset;
    float *label;
    int64_t n = 700;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    network_data(job, n, &index, &offset, &label);
    moe_params *params = moe_job_code(job) == MOE_OK ? moe_params_create(job, 1) : NULL;
    moe_tape *tape = params == NULL ? NULL : moe_tape_create(job);
    if (tape != NULL && moe_params_train(params) == MOE_OK)
    {
        moe_tape_reset(tape, true, 1);
        moe_tape_backward(tape, network(tape, params, n, index, offset, label));
        moe_adam_step(&(moe_adam){.learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f}, params);
    }
    moe_code code = moe_job_code(job);
    assert_true(moe_job_memory_peak(job) <= limit);
    moe_job_destroy(job);
    return code;
}

static void
every_memory_limit_is_kept_and_reported(void **state)
{
    int failures = 0;
    moe_code code = MOE_LIMIT;
    for (size_t limit = 1000; code != MOE_OK; limit = limit * 9 / 8)
    {
        code = step_within(limit);
        assert_true(code == MOE_OK || code == MOE_LIMIT);
        failures++;
    }
    assert_true(failures > 20);
}

static int polls_left;

static bool
cancel_after_polls(void *arg)
{
    return polls_left-- <= 0;
}

/* Wherever the cancel flag is first seen, the step stops with MOE_CANCELLED. */
static void
cancelling_stops_at_any_operation(void **state)
{
    int finished = 0;
    for (int polls = 0; !finished; polls++)
    {
        moe_job_config config = {.threads = 1, .cancelled = cancel_after_polls};
        moe_job *job;
        int32_t *index;
        int64_t *offset;
        float *label;
        polls_left = polls;
        assert_int_equal(moe_job_create(&config, &job), MOE_OK);
        network_data(job, 20, &index, &offset, &label);
        moe_params *params = moe_params_create(job, 1);
        moe_tape *tape = moe_tape_create(job);
        moe_params_train(params);
        moe_tape_reset(tape, true, 1);
        moe_var *loss = network(tape, params, 20, index, offset, label);
        moe_code code = moe_tape_backward(tape, loss);
        finished = code == MOE_OK;
        assert_true(finished || code == MOE_CANCELLED);
        assert_true(polls < 1000 && (!finished || polls > 20));
        moe_job_destroy(job);
    }
}

static moe_tape *
start_tape(moe_job **job, bool training)
{
    *job = start_job(1);
    moe_tape *tape = moe_tape_create(*job);
    assert_non_null(tape);
    moe_tape_reset(tape, training, 5);
    return tape;
}

static void
failure_is_sticky(void **state)
{
    moe_job *job;
    moe_tape *tape = start_tape(&job, true);
    float values[12] = {0};
    moe_var *x = moe_constant(tape, 3, 4, values);
    moe_var *bad = moe_linear(tape, x, x, NULL);
    assert_null(bad);
    assert_int_equal(moe_job_code(job), MOE_INVALID);
    assert_string_equal(moe_job_error(job), "operation linear does not take shapes [3, 4] and [3, 4]");
    assert_null(moe_relu(tape, x));
    assert_null(moe_add(tape, x, bad));
    assert_null(moe_dropout(tape, x, 0));
    assert_int_equal(moe_tape_backward(tape, x), MOE_INVALID);
    moe_job_destroy(job);
}

#define REFUSED(expression)                                                                                            \
    do                                                                                                                 \
    {                                                                                                                  \
        moe_job *job;                                                                                                  \
        moe_tape *tape = start_tape(&job, true);                                                                       \
        moe_var *x = moe_constant(tape, 3, 4, values);                                                                 \
        moe_var *y = moe_constant(tape, 4, 3, values);                                                                 \
        assert_true(x != NULL && y != NULL);                                                                           \
        assert_null(expression);                                                                                       \
        assert_int_equal(moe_job_code(job), MOE_INVALID);                                                              \
        moe_job_destroy(job);                                                                                          \
    } while (0)

static void
inputs_that_do_not_fit_are_refused(void **state)
{
    float values[12] = {0};
    int32_t beyond[3] = {0, 3, 1}, below[3] = {0, -2, 1}, good[3] = {0, 1, 2};
    int64_t falling[4] = {0, 2, 1, 3}, late[4] = {1, 2, 3, 3}, rising[4] = {0, 1, 2, 3};
    REFUSED(moe_relu(tape, NULL));
    REFUSED(moe_constant(tape, 3, 4, NULL));
    REFUSED(moe_variable(tape, NULL));
    REFUSED(moe_linear(tape, x, y, x));
    REFUSED(moe_linear(tape, x, NULL, NULL));
    REFUSED(moe_add(tape, x, y));
    REFUSED(moe_add(tape, x, NULL));
    REFUSED(moe_sum(tape, NULL, 0));
    REFUSED(moe_add_row(tape, x, y));
    REFUSED(moe_multiply(tape, x, y));
    REFUSED(moe_multiply_column(tape, x, y));
    REFUSED(moe_multiply_row(tape, x, y));
    REFUSED(moe_reshape(tape, x, 3, 5));
    REFUSED(moe_reshape(tape, x, -3, -4));
    REFUSED(moe_concat(tape, ((moe_var *[]){x, y}), 2));
    REFUSED(moe_concat(tape, ((moe_var *[]){x, NULL}), 2));
    REFUSED(moe_layer_norm(tape, x, y, y));
    REFUSED(moe_relu_dropout(tape, NULL, 0.1f));
    REFUSED(moe_relu_dropout(tape, x, NAN));
    REFUSED(moe_dropout(tape, x, 1));
    REFUSED(moe_dropout(tape, x, -0.1f));
    REFUSED(moe_dropout(tape, x, NAN));
    REFUSED(moe_aggregate_parts(tape, x, rising, good, values, 0, 3));
    REFUSED(moe_aggregate_parts(tape, x, rising, good, NULL, 2, 3));
    REFUSED(moe_aggregate_parts(tape, x, rising, beyond, values, 2, 3));
    REFUSED(moe_aggregate_parts(tape, x, falling, good, values, 2, 3));
    REFUSED(moe_sum_rows(tape, &x, (const int32_t *[]){beyond}, 1, 3));
    REFUSED(moe_sum_rows(tape, &x, (const int32_t *[]){NULL}, 1, 4));
    REFUSED(moe_sum_rows(tape, (moe_var *[]){x, y}, (const int32_t *[]){good, good}, 2, 3));
    REFUSED(moe_sum_rows(tape, NULL, NULL, 0, 3));
    REFUSED(moe_gather(tape, x, beyond, 3));
    REFUSED(moe_gather(tape, x, below, 3));
    REFUSED(moe_gather(tape, x, NULL, 3));
    REFUSED(moe_aggregate(tape, x, falling, good, NULL, 3, MOE_SUM));
    REFUSED(moe_aggregate(tape, x, late, good, NULL, 3, MOE_SUM));
    REFUSED(moe_aggregate(tape, x, rising, beyond, NULL, 3, MOE_SUM));
    REFUSED(moe_aggregate(tape, x, NULL, good, NULL, 3, MOE_SUM));
    REFUSED(moe_scatter(tape, x, good, 2));
    REFUSED(moe_top_k_gate(tape, x, 0, 0));
    REFUSED(moe_balance_loss(tape, x, y));
    REFUSED(moe_loss_logistic(tape, x, values, NULL));
    REFUSED(moe_loss_squared(tape, moe_constant(tape, 3, 1, values), NULL, NULL));
    REFUSED(moe_loss_cross_entropy(tape, y, beyond, NULL));
    REFUSED(moe_loss_cross_entropy(tape, y, below, NULL));
}

static void
matrices_without_rows_pass_through(void **state)
{
    moe_job *job = start_job(2);
    moe_params *params = moe_params_create(job, 1);
    moe_tape *tape = moe_tape_create(job);
    int64_t offset[1] = {0};
    moe_params_train(params);
    moe_tape_reset(tape, true, 1);
    moe_var *loss = network(tape, params, 0, NULL, offset, NULL);
    assert_non_null(loss);
    assert_true(loss->value[0] == 0);
    assert_int_equal(moe_tape_backward(tape, loss), MOE_OK);
    moe_job_destroy(job);
}

static void
backward_runs_once_and_from_one_number(void **state)
{
    moe_job *job;
    moe_tape *tape = start_tape(&job, true);
    moe_params *params = make_params(job);
    moe_var *loss = moe_z_loss(tape, moe_variable(tape, moe_params_get(params, A)));
    assert_int_equal(moe_tape_backward(tape, loss), MOE_OK);
    assert_int_equal(moe_tape_backward(tape, loss), MOE_INVALID);
    moe_job_destroy(job);

    tape = start_tape(&job, true);
    assert_int_equal(moe_tape_backward(tape, moe_constant(tape, 6, 1, labels)), MOE_INVALID);
    moe_job_destroy(job);
}

static void
gradients_add_up_over_steps(void **state)
{
    moe_job *job;
    moe_tape *tape = start_tape(&job, true);
    moe_params *params = make_params(job);
    float once = 0;
    for (int step = 1; step <= 2; step++)
    {
        moe_tape_reset(tape, false, 1);
        moe_tape_backward(tape, moe_z_loss(tape, moe_variable(tape, moe_params_get(params, A))));
        once = step == 1 ? moe_params_get(params, A)->gradient[0] : once;
    }
    assert_true(once != 0 && moe_params_get(params, A)->gradient[0] == 2 * once);
    moe_params_zero_gradients(params);
    assert_true(moe_params_get(params, A)->gradient[0] == 0);
    moe_job_destroy(job);
}

static void
without_training_nothing_is_dropped_and_nothing_needs_gradients(void **state)
{
    moe_job *job;
    moe_tape *tape = start_tape(&job, false);
    moe_params *params = moe_params_create(job, 1);
    moe_var *x = moe_variable(tape, moe_params_add(params, "x", 6, 4, MOE_INIT_NORMAL));
    assert_false(moe_tape_training(tape));
    assert_ptr_equal(moe_dropout(tape, x, 0.5f), x);
    moe_var *clean = moe_top_k_gate(tape, x, 2, 0);
    moe_var *noisy = moe_top_k_gate(tape, x, 2, 10);
    assert_memory_equal(clean->value, noisy->value, 24 * sizeof(float));
    assert_false(noisy->needs_gradient);
    moe_job_destroy(job);
}

static void
dropout_keeps_the_expectation(void **state)
{
    moe_job *job;
    moe_tape *tape = start_tape(&job, true);
    int64_t n = 200000;
    float *ones = moe_alloc(job, n, sizeof(float));
    for (int64_t i = 0; i < n; i++)
        ones[i] = 1;
    moe_var *x = moe_constant(tape, n / 10, 10, ones);
    moe_var *y = moe_dropout(tape, x, 0.3f), *again = moe_dropout(tape, x, 0.3f);
    double mean = 0, zeros = 0, both = 0;
    for (int64_t i = 0; i < n; i++)
    {
        mean += y->value[i] / (double) n;
        zeros += (y->value[i] == 0) / (double) n;
        both += (y->value[i] == 0 && again->value[i] == 0) / (double) n;
    }
    assert_true(fabs(mean - 1) < 0.01 && fabs(zeros - 0.3) < 0.01);
    assert_true(fabs(both - 0.09) < 0.01); /* two masks of one step are independent */
    moe_job_destroy(job);
}

static void
random_keys_follow_the_seed(void **state)
{
    moe_job *job;
    moe_tape *tape = start_tape(&job, true);
    uint64_t first = moe_tape_key(tape), second = moe_tape_key(tape);
    assert_true(first != second);
    moe_tape_reset(tape, true, 5);
    assert_true(moe_tape_key(tape) == first && moe_tape_key(tape) == second);
    moe_tape_reset(tape, true, 6);
    assert_true(moe_tape_key(tape) != first);
    moe_job_destroy(job);
}

static void
gates_choose_the_largest_and_sum_to_one(void **state)
{
    moe_job *job;
    moe_tape *tape = start_tape(&job, true);
    float logits[8] = {1, 3, 3, 0, -1, -1, -1, -1};
    moe_var *x = moe_constant(tape, 2, 4, logits);
    moe_var *one = moe_top_k_gate(tape, x, 1, 0);
    assert_true(one->value[1] == 1 && one->value[2] == 0); /* ties go to the lower expert */
    assert_true(one->value[4] == 1 && one->value[5] == 0);
    moe_var *two = moe_top_k_gate(tape, x, 2, 0);
    assert_true(two->value[1] == 0.5f && two->value[2] == 0.5f && two->value[0] == 0);
    moe_var *all = moe_top_k_gate(tape, x, 9, 0), *softmax = moe_softmax(tape, x);
    for (int i = 0; i < 8; i++)
        assert_true(fabsf(all->value[i] - softmax->value[i]) < 1e-6f);
    moe_job_destroy(job);
}

static void
balance_loss_is_one_when_balanced(void **state)
{
    moe_job *job;
    moe_tape *tape = start_tape(&job, true);
    float spread[9] = {5, 0, 0, 0, 5, 0, 0, 0, 5}, lumped[9] = {9, 0, 0, 9, 0, 0, 9, 0, 0};
    moe_var *x = moe_constant(tape, 3, 3, spread), *y = moe_constant(tape, 3, 3, lumped);
    moe_var *balanced = moe_balance_loss(tape, x, moe_top_k_gate(tape, x, 1, 0));
    moe_var *collapsed = moe_balance_loss(tape, y, moe_top_k_gate(tape, y, 1, 0));
    assert_true(fabsf(balanced->value[0] - 1) < 1e-6f);
    assert_true(collapsed->value[0] > 2.9f);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear),
        cmocka_unit_test(linear_without_bias),
        cmocka_unit_test(add),
        cmocka_unit_test(add_to_itself),
        cmocka_unit_test(add_row),
        cmocka_unit_test(sum_of_three),
        cmocka_unit_test(scale),
        cmocka_unit_test(multiply),
        cmocka_unit_test(square),
        cmocka_unit_test(multiply_column),
        cmocka_unit_test(multiply_row),
        cmocka_unit_test(reshape),
        cmocka_unit_test(exponential),
        cmocka_unit_test(entmax),
        cmocka_unit_test(concat),
        cmocka_unit_test(relu),
        cmocka_unit_test(layer_norm),
        cmocka_unit_test(dropout),
        cmocka_unit_test(relu_dropout),
        cmocka_unit_test(layer_norm_relu),
        cmocka_unit_test(layer_norm_relu_dropout),
        cmocka_unit_test(softmax),
        cmocka_unit_test(gather),
        cmocka_unit_test(aggregate_sum),
        cmocka_unit_test(aggregate_mean),
        cmocka_unit_test(aggregate_weighted),
        cmocka_unit_test(aggregate_weighted_mean),
        cmocka_unit_test(aggregate_parts),
        cmocka_unit_test(sum_rows),
        cmocka_unit_test(sum_rows_all_picked),
        cmocka_unit_test(sum_rows_in_order),
        cmocka_unit_test(scatter),
        cmocka_unit_test(top_1_gate),
        cmocka_unit_test(top_2_gate),
        cmocka_unit_test(noisy_gate),
        cmocka_unit_test(balance_loss),
        cmocka_unit_test(z_loss),
        cmocka_unit_test(logistic_loss),
        cmocka_unit_test(weighted_logistic_loss),
        cmocka_unit_test(absolute_loss),
        cmocka_unit_test(squared_loss),
        cmocka_unit_test(cross_entropy),
        cmocka_unit_test(weighted_cross_entropy),
        cmocka_unit_test(training_does_not_depend_on_threads),
        cmocka_unit_test(gradients_take_the_memory_of_what_was_computed),
        cmocka_unit_test(every_memory_limit_is_kept_and_reported),
        cmocka_unit_test(cancelling_stops_at_any_operation),
        cmocka_unit_test(failure_is_sticky),
        cmocka_unit_test(inputs_that_do_not_fit_are_refused),
        cmocka_unit_test(matrices_without_rows_pass_through),
        cmocka_unit_test(backward_runs_once_and_from_one_number),
        cmocka_unit_test(gradients_add_up_over_steps),
        cmocka_unit_test(without_training_nothing_is_dropped_and_nothing_needs_gradients),
        cmocka_unit_test(dropout_keeps_the_expectation),
        cmocka_unit_test(random_keys_follow_the_seed),
        cmocka_unit_test(gates_choose_the_largest_and_sum_to_one),
        cmocka_unit_test(balance_loss_is_one_when_balanced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

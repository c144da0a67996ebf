/*
 * test_tape_sparse.c: gradients of the richer sparse operations against
 * central finite differences, their values where those can be told in a line,
 * and what they refuse.
 *
 * Inputs are results of other operations which use them, too, so that
 * gradients are both handed on and added to.
 */
#include "core.h"

#include <math.h>
#include <string.h>

#include "kernels/ops.h"
#include "kernels/tape.h"

#define STEP 5e-3

/* The shapes of the parameters. */
enum
{
    A,     /* [6,4] */
    B,     /* [5,4] */
    EDGE,  /* [9,1] */
    HEADS, /* [9,3] */
    INPUTS
};
static const int shape[INPUTS][2] = {{6, 4}, {5, 4}, {9, 1}, {9, 3}};

/* Edges from the rows of A into five rows, and from those of B into the same. */
static const int64_t spans[6] = {0, 3, 3, 4, 8, 9};
static const int32_t picks[9] = {2, -1, 0, 5, 2, 2, 1, -1, 4};
static const int32_t others[9] = {4, 3, -1, 0, 0, 2, 1, 3, 3};
static const float edge_weights[9] = {1, 2, -1, 0.5f, 3, 0.25f, -2, 1, 1.5f};

/* Six rows as lists of 4, 0 and 2, and seven windows of them: some empty, some from the start. */
static const int64_t lists[4] = {0, 4, 4, 6};
static const float decays[6] = {9, 0.5f, 0.9f, 0, 7, 0.3f};
static const int32_t last[7] = {3, 3, 1, -1, 5, 4, 2};
static const int32_t before[7] = {-1, 1, 1, -1, 4, -1, 0};
static const float factors[7] = {1, 0.5f, 2, 3, -1, 1, 0.1f};
static const float fades[7] = {1, 0.25f, 1, 1, 0.3f, 5, 2};
static const moe_windows plain = {.lists = 3, .offset = lists, .n = 7, .last = last, .before = before};
static const moe_windows decayed = {.lists = 3,
                                    .offset = lists,
                                    .decay = decays,
                                    .n = 7,
                                    .last = last,
                                    .before = before,
                                    .factor = factors,
                                    .fade = fades};

typedef moe_var *(*operation)(moe_tape *tape, moe_var **in);

static float constants[64];

/* One number from a matrix, not linear in it. */
static moe_var *
reduce(moe_tape *tape, moe_var *x)
{
    if (x == NULL)
        return NULL;
    moe_var *mixed = moe_linear(tape, x, moe_constant(tape, x->cols, 1, constants), NULL);
    return moe_loss_squared(tape, mixed, constants + 20, NULL);
}

static moe_var *
build(moe_tape *tape, moe_params *params, operation op)
{
    moe_var *in[INPUTS];
    moe_var *terms[2 * INPUTS + 1];
    int n = 0;
    moe_tape_reset(tape, true, 11);
    for (int i = 0; i < INPUTS; i++)
    {
        in[i] = moe_scale(tape, moe_variable(tape, moe_params_get(params, i)), 1.25f);
        terms[n++] = moe_scale(tape, reduce(tape, in[i]), 0.3f);
    }
    terms[n++] = reduce(tape, op(tape, in));
    for (int i = 0; i < INPUTS; i++)
        terms[n++] = moe_scale(tape, reduce(tape, in[i]), 0.2f);
    return moe_sum(tape, terms, n);
}

static moe_params *
make_params(moe_job *job)
{
    moe_params *params = moe_params_create(job, 1);
    for (int i = 0; i < INPUTS; i++)
    {
        char name[2] = {(char) ('a' + i), 0};
        moe_param *param = moe_params_add(params, name, shape[i][0], shape[i][1], MOE_INIT_ZERO);
        for (int k = 0; k < shape[i][0] * shape[i][1]; k++)
            param->value[k] = (float) moe_random_normal((uint64_t) i + 3, (uint64_t) k);
    }
    assert_int_equal(moe_params_train(params), MOE_OK);
    for (int i = 0; i < 64; i++)
        constants[i] = (float) moe_random_normal(77, (uint64_t) i);
    return params;
}

static double
loss_at(moe_tape *tape, moe_params *params, operation op)
{
    moe_var *loss = build(tape, params, op);
    assert_non_null(loss);
    return loss->value[0];
}

static moe_var *
nothing(moe_tape *tape, moe_var **in)
{
    return in[A];
}

/* The gradients of what is built around the operation, which must not be all there is. */
static void
gradients_without(operation op, float *gradient)
{
    moe_job *job = start_job(1);
    moe_params *params = make_params(job);
    moe_tape *tape = moe_tape_create(job);
    assert_int_equal(moe_tape_backward(tape, build(tape, params, op)), MOE_OK);
    for (int i = 0, n = 0; i < INPUTS; n += shape[i][0] * shape[i][1], i++)
        memcpy(gradient + n, moe_params_get(params, i)->gradient, sizeof(float) * shape[i][0] * shape[i][1]);
    moe_job_destroy(job);
}

static void
check_gradient(operation op)
{
    moe_job *job = start_job(2);
    moe_params *params = make_params(job);
    moe_tape *tape = moe_tape_create(job);
    moe_var *loss = build(tape, params, op);
    float with[128], without[128];
    gradients_without(op, with);
    gradients_without(nothing, without);
    assert_memory_not_equal(with, without, 80 * sizeof(float));
    assert_string_equal(moe_job_error(job), "");
    assert_int_equal(moe_tape_backward(tape, loss), MOE_OK);
    moe_tape_use_backend(tape, &moe_backend_reference);
    for (int i = 0; i < INPUTS; i++)
    {
        moe_param *param = moe_params_get(params, i);
        for (int k = 0; k < shape[i][0] * shape[i][1]; k++)
        {
            float center = param->value[k];
            param->value[k] = center + (float) STEP;
            double above = loss_at(tape, params, op);
            param->value[k] = center - (float) STEP;
            double below = loss_at(tape, params, op);
            param->value[k] = center;
            double expected = (above - below) / (2 * STEP);
            double got = param->gradient[k];
            if (fabs(got - expected) > 4e-3 * (1 + fabs(expected)))
                fail_msg("input %d, number %d: %g where differences give %g", i, k, got, expected);
        }
    }
    moe_job_destroy(job);
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

static const moe_edges types[3] = {
    {spans, picks, NULL, MOE_MEAN}, {spans, others, edge_weights, MOE_SUM}, {spans, others, edge_weights, MOE_MEAN}};

GRADIENT_TEST(embedding_bag, moe_embedding_bag(tape, in[A], picks, 3, 3, MOE_SUM))
GRADIENT_TEST(embedding_bag_mean, moe_embedding_bag(tape, in[A], picks, 3, 3, MOE_MEAN))
GRADIENT_TEST(aggregate_types, moe_aggregate_types(tape, (moe_var *[]){in[A], in[B], in[A]}, types, 3, 5))
GRADIENT_TEST(aggregate_max, moe_aggregate_max(tape, in[A], spans, picks, NULL, 5))
GRADIENT_TEST(aggregate_max_weighted, moe_aggregate_max(tape, in[A], spans, picks, edge_weights, 5))
GRADIENT_TEST(aggregate_weighted, moe_aggregate_weighted(tape, in[A], in[EDGE], spans, picks, 5))
GRADIENT_TEST(edge_dot, moe_edge_dot(tape, in[B], in[A], spans, picks))
GRADIENT_TEST(edge_dot_with_itself, moe_edge_dot(tape, in[B], in[B], spans, others))
GRADIENT_TEST(segment_softmax, moe_segment_softmax(tape, in[EDGE], spans, 5))
GRADIENT_TEST(segment_softmax_of_heads, moe_segment_softmax(tape, in[HEADS], spans, 5))
GRADIENT_TEST(attention,
              moe_aggregate_weighted(tape, in[A],
                                     moe_segment_softmax(tape, moe_edge_dot(tape, in[B], in[A], spans, picks), spans,
                                                         5),
                                     spans, picks, 5))
GRADIENT_TEST(windows, moe_prefix_windows(tape, in[A], &plain))
GRADIENT_TEST(decayed_windows, moe_prefix_windows(tape, in[A], &decayed))

static void
windows_are_differences_of_running_sums(void **state)
{
    moe_job *job = start_job(1);
    moe_tape *tape = moe_tape_create(job);
    float values[6] = {1, 2, 4, 8, 16, 32};
    moe_tape_reset(tape, false, 1);
    moe_var *out = moe_prefix_windows(tape, moe_constant(tape, 6, 1, values), &plain);
    assert_non_null(out);
    float expected[7] = {15, 12, 0, 0, 32, 16, 6};
    assert_memory_equal(out->value, expected, sizeof expected);
    /* Running sums of the decayed: 1, 2.5, 6.25, 8 and 16, 36.8. */
    out = moe_prefix_windows(tape, moe_constant(tape, 6, 1, values), &decayed);
    assert_true(fabsf(out->value[1] - 0.5f * (8 - 0.25f * 2.5f)) < 1e-5f);
    assert_true(fabsf(out->value[4] - -1 * (36.8f - 0.3f * 16)) < 1e-5f);
    moe_job_destroy(job);
}

static void
a_type_at_a_time_gives_the_same_sum(void **state)
{
    moe_job *job = start_job(1);
    moe_params *params = make_params(job);
    moe_tape *tape = moe_tape_create(job);
    moe_tape_reset(tape, false, 1);
    moe_var *x[] = {moe_variable(tape, moe_params_get(params, A)), moe_variable(tape, moe_params_get(params, B)),
                    moe_variable(tape, moe_params_get(params, A))};
    moe_var *terms[3];
    for (int t = 0; t < 3; t++)
        terms[t] = moe_aggregate(tape, x[t], types[t].offset, types[t].index, types[t].weight, 5, types[t].reduce);
    moe_var *together = moe_aggregate_types(tape, x, types, 3, 5), *apart = moe_sum(tape, terms, 3);
    assert_true(together != NULL && apart != NULL);
    for (int i = 0; i < 20; i++)
        assert_true(fabsf(together->value[i] - apart->value[i]) < 1e-5f);
    moe_job_destroy(job);
}

static void
the_largest_may_be_below_zero_and_nothing_is_zero(void **state)
{
    moe_job *job = start_job(1);
    moe_tape *tape = moe_tape_create(job);
    float values[6] = {-5, -2, -3, NAN, -7, -1};
    int64_t offset[4] = {0, 2, 3, 3};
    int32_t index[3] = {3, 4, -1};
    moe_tape_reset(tape, false, 1);
    moe_var *out = moe_aggregate_max(tape, moe_constant(tape, 6, 1, values), offset, index, NULL, 3);
    assert_non_null(out);
    assert_true(out->value[0] == -7 && out->value[1] == 0 && out->value[2] == 0);
    moe_job_destroy(job);
}

#define REFUSED(expression)                                                                                            \
    do                                                                                                                 \
    {                                                                                                                  \
        moe_job *job = start_job(1);                                                                                   \
        moe_tape *tape = moe_tape_create(job);                                                                         \
        moe_tape_reset(tape, true, 1);                                                                                 \
        moe_var *x = moe_constant(tape, 6, 4, values);                                                                 \
        moe_var *b = moe_constant(tape, 5, 4, values);                                                                 \
        moe_var *narrow = moe_constant(tape, 9, 1, values);                                                            \
        assert_true(x != NULL && b != NULL && narrow != NULL);                                                         \
        assert_null(expression);                                                                                       \
        assert_int_equal(moe_job_code(job), MOE_INVALID);                                                              \
        moe_job_destroy(job);                                                                                          \
    } while (0)

static void
inputs_that_do_not_fit_are_refused(void **state)
{
    float values[24] = {0};
    int32_t beyond[9] = {0, 1, 6, 0, 0, 0, 0, 0, 0};
    int64_t falling[6] = {0, 3, 2, 4, 8, 9};
    moe_edges bad_index = {spans, beyond, NULL, MOE_SUM}, no_offset = {NULL, picks, NULL, MOE_SUM};
    moe_windows bad_place = plain, short_lists = plain, no_last = plain;
    bad_place.before = beyond;
    short_lists.lists = 2;
    no_last.last = NULL;
    REFUSED(moe_embedding_bag(tape, x, beyond, 3, 3, MOE_SUM));
    REFUSED(moe_embedding_bag(tape, x, picks, 0, 3, MOE_SUM));
    REFUSED(moe_embedding_bag(tape, x, NULL, 3, 3, MOE_SUM));
    REFUSED(moe_aggregate_types(tape, NULL, NULL, 0, 5));
    REFUSED(moe_aggregate_types(tape, &x, &bad_index, 1, 5));
    REFUSED(moe_aggregate_types(tape, &x, &no_offset, 1, 5));
    REFUSED(moe_aggregate_types(tape, (moe_var *[]){x, narrow}, types, 2, 5));
    REFUSED(moe_aggregate_max(tape, x, spans, beyond, NULL, 5));
    REFUSED(moe_aggregate_max(tape, x, falling, picks, NULL, 5));
    REFUSED(moe_aggregate_weighted(tape, x, NULL, spans, picks, 5));
    REFUSED(moe_aggregate_weighted(tape, x, b, spans, picks, 5));
    REFUSED(moe_aggregate_weighted(tape, x, narrow, spans, beyond, 5));
    REFUSED(moe_edge_dot(tape, b, narrow, spans, picks));
    REFUSED(moe_edge_dot(tape, b, x, falling, picks));
    REFUSED(moe_edge_dot(tape, b, x, spans, beyond));
    REFUSED(moe_segment_softmax(tape, x, spans, 5));
    REFUSED(moe_segment_softmax(tape, narrow, falling, 5));
    REFUSED(moe_segment_softmax(tape, narrow, NULL, 5));
    REFUSED(moe_prefix_windows(tape, x, NULL));
    REFUSED(moe_prefix_windows(tape, x, &bad_place));
    REFUSED(moe_prefix_windows(tape, x, &short_lists));
    REFUSED(moe_prefix_windows(tape, x, &no_last));
    REFUSED(moe_prefix_windows(tape, narrow, &plain));
}

static void
matrices_without_rows_pass_through(void **state)
{
    moe_job *job = start_job(2);
    moe_tape *tape = moe_tape_create(job);
    moe_params *params = moe_params_create(job, 1);
    int64_t offset[1] = {0};
    moe_edges none = {offset, NULL, NULL, MOE_SUM};
    moe_windows empty = {.offset = offset};
    moe_param *param = moe_params_add(params, "x", 0, 3, MOE_INIT_ZERO);
    assert_int_equal(moe_params_train(params), MOE_OK);
    moe_tape_reset(tape, true, 1);
    moe_var *x = moe_variable(tape, param);
    moe_var *terms[] = {moe_embedding_bag(tape, x, NULL, 2, 0, MOE_MEAN), moe_aggregate_types(tape, &x, &none, 1, 0),
                        moe_aggregate_max(tape, x, offset, NULL, NULL, 0), moe_segment_softmax(tape, x, offset, 0),
                        moe_prefix_windows(tape, x, &empty)};
    moe_var *sum = moe_sum(tape, terms, 5);
    assert_non_null(sum);
    assert_int_equal(sum->rows, 0);
    moe_var *loss =
        moe_loss_squared(tape, moe_linear(tape, sum, moe_constant(tape, 3, 1, (float[]){1, 2, 3}), NULL), NULL, NULL);
    assert_int_equal(moe_tape_backward(tape, loss), MOE_OK);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedding_bag),
        cmocka_unit_test(embedding_bag_mean),
        cmocka_unit_test(aggregate_types),
        cmocka_unit_test(aggregate_max),
        cmocka_unit_test(aggregate_max_weighted),
        cmocka_unit_test(aggregate_weighted),
        cmocka_unit_test(edge_dot),
        cmocka_unit_test(edge_dot_with_itself),
        cmocka_unit_test(segment_softmax),
        cmocka_unit_test(segment_softmax_of_heads),
        cmocka_unit_test(attention),
        cmocka_unit_test(windows),
        cmocka_unit_test(decayed_windows),
        cmocka_unit_test(windows_are_differences_of_running_sums),
        cmocka_unit_test(a_type_at_a_time_gives_the_same_sum),
        cmocka_unit_test(the_largest_may_be_below_zero_and_nothing_is_zero),
        cmocka_unit_test(inputs_that_do_not_fit_are_refused),
        cmocka_unit_test(matrices_without_rows_pass_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_dense.c: what all experts over a matrix have in common: checks, names and the head of the stored form.
 */
#include "test/unit/dense_fixture.h"

static void
refused(const moe_dense_task *task, const moe_dense_rows *train, const moe_dense_rows *valid)
{
    moe_job *job = dense_job(1);
    moe_dense_expert *expert;
    assert_int_equal(moe_dense_expert_fit(job, MOE_DENSE_LINEAR, task, train, valid, 1, &expert), MOE_INVALID);
    assert_null(expert);
    moe_job_destroy(job);
}

static float x[] = {1, 2, 3, 4, 5, 6};
static float zero_one[] = {0, 1, 1};

static void
rows_that_do_not_fit_are_refused(void **state)
{
    float two[] = {0, 1, 2}, half[] = {0, 1, 0.5f}, nan[] = {0, NAN, 1}, none[] = {0, 0, 0}, negative[] = {1, -1, 1};
    moe_dense_rows train = {3, 2, x, zero_one, NULL}, wider = {2, 3, x, zero_one, NULL}, rows = train;
    refused(&binary_task, &train, &wider);
    rows.label = two;
    refused(&binary_task, &rows, NULL);
    refused(&binary_task, &train, &rows);
    rows.label = half;
    refused(&binary_task, &rows, NULL);
    refused(&three_classes, &rows, NULL);
    rows.label = nan;
    refused(&binary_task, &rows, NULL);
    refused(&regression_task, &rows, NULL);
    rows.label = NULL;
    refused(&binary_task, &rows, NULL);
    rows = train;
    rows.weight = none;
    refused(&binary_task, &rows, NULL);
    rows.weight = negative;
    refused(&binary_task, &rows, NULL);
    rows = train;
    rows.n = 0;
    refused(&binary_task, &rows, NULL);
}

static void
tasks_that_make_no_sense_are_refused(void **state)
{
    moe_dense_task wrong[] = {
        {.task = MOE_BINARY, .n_classes = 2},
        {.task = MOE_MULTICLASS, .n_classes = 1},
        {.task = MOE_REGRESSION, .n_classes = 1, .low = 1, .high = 0},
        {.task = MOE_REGRESSION, .n_classes = 1, .low = NAN, .high = 0},
        {.task = (moe_task_type) 9, .n_classes = 1},
    };
    moe_dense_rows train = {3, 2, x, zero_one, NULL};
    for (int t = 0; t < 5; t++)
        refused(&wrong[t], &train, NULL);
}

static void
rows_of_another_width_are_not_predicted(void **state)
{
    moe_dense_rows train = {3, 2, x, zero_one, NULL}, wider = {2, 3, x, NULL, NULL};
    moe_dense_kind kinds[] = {MOE_DENSE_LINEAR, MOE_DENSE_RETRIEVAL};
    for (int k = 0; k < 2; k++)
    {
        moe_job *job = dense_job(1);
        moe_dense_expert *expert = dense_fit(job, kinds[k], &binary_task, &train, NULL);
        float out[3] = {7};
        assert_int_equal(moe_dense_expert_kind(expert), kinds[k]);
        assert_int_equal(moe_dense_expert_width(expert), 2);
        assert_int_equal(moe_dense_expert_task(expert)->task, MOE_BINARY);
        assert_int_equal(moe_dense_expert_predict_self(expert, &wider, out), MOE_INVALID);
        assert_int_equal(moe_dense_expert_predict(expert, &wider, out), MOE_INVALID);
        assert_true(out[0] == 7);
        moe_job_destroy(job);
    }
}

static void
kinds_that_look_up_no_rows_predict_themselves_as_others(void **state)
{
    moe_job *job = dense_job(1);
    moe_dense_rows train = {3, 2, x, zero_one, NULL};
    moe_dense_expert *expert = dense_fit(job, MOE_DENSE_LINEAR, &binary_task, &train, NULL);
    float out[3];
    assert_int_equal(moe_dense_expert_predict_self(expert, &train, out), MOE_OK);
    assert_memory_equal(out, dense_predict(job, expert, &binary_task, &train), sizeof out);
    moe_job_destroy(job);
}

static void
every_kind_has_a_name(void **state)
{
    const char *names[] = {"linear", "tabular", "retrieval", "arm", "trees", ""};
    for (int k = 0; k <= MOE_DENSE_KINDS; k++)
        assert_string_equal(moe_dense_kind_name((moe_dense_kind) k), names[k]);
}

static void
an_unknown_kind_is_refused(void **state)
{
    moe_job *job = dense_job(1);
    moe_dense_rows train = {3, 2, x, zero_one, NULL};
    moe_dense_expert *expert;
    moe_buffer bytes = dense_bytes(job, dense_fit(job, MOE_DENSE_LINEAR, &binary_task, &train, NULL));
    bytes.data[1] = MOE_DENSE_KINDS;
    assert_int_equal(read_dense_bytes(bytes.data, bytes.length), MOE_CORRUPT);
    bytes.data[1] = MOE_DENSE_RETRIEVAL;
    assert_int_equal(read_dense_bytes(bytes.data, bytes.length), MOE_CORRUPT);
    assert_int_equal(moe_dense_expert_fit(job, MOE_DENSE_KINDS, &binary_task, &train, NULL, 1, &expert), MOE_INVALID);
    moe_job_destroy(job);
}

static void
bounds_that_are_no_floats_are_refused(void **state)
{
    moe_job *job = dense_job(1);
    moe_dense_rows train = {3, 2, x, zero_one, NULL};
    moe_buffer bytes = dense_bytes(job, dense_fit(job, MOE_DENSE_LINEAR, &regression_task, &train, NULL));
    double beyond = 1e217;
    assert_int_equal(read_dense_bytes(bytes.data, bytes.length), MOE_OK);
    memcpy(bytes.data + 1 + 1 + 1 + 4 + 8, &beyond, sizeof beyond); /* the upper one */
    assert_int_equal(read_dense_bytes(bytes.data, bytes.length), MOE_CORRUPT);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_do_not_fit_are_refused),
        cmocka_unit_test(tasks_that_make_no_sense_are_refused),
        cmocka_unit_test(rows_of_another_width_are_not_predicted),
        cmocka_unit_test(kinds_that_look_up_no_rows_predict_themselves_as_others),
        cmocka_unit_test(every_kind_has_a_name),
        cmocka_unit_test(an_unknown_kind_is_refused),
        cmocka_unit_test(bounds_that_are_no_floats_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

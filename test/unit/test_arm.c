/*
 * test_arm.c: what exponential neurons over a matrix learn, what they tell of it, and how they behave.
 */
#include "network_fixture.h"

#include "gnn/arm.h"

#define KIND (&moe_dense_arm)

static void
learns_an_interaction_that_no_line_has(void **state)
{
    assert_true(dense_metric(KIND, &dense_binary, dense_xor, 3000, true) > 0.95);
}

static void
learns_without_validation_rows(void **state)
{
    assert_true(dense_metric(KIND, &dense_binary, dense_line, 1500, false) > 0.97);
}

/* The labels' own mean distance from their median is 3.6. */
static void
learns_numbers_of_any_scale(void **state)
{
    assert_true(dense_metric(KIND, &dense_number, dense_curve, 3000, true) < 1.2);
}

/* The most frequent class is 37 in 100. */
static void
learns_classes(void **state)
{
    assert_true(dense_metric(KIND, &dense_classes, dense_class, 3000, true) > 0.9);
}

static void
rows_of_no_weight_do_not_count(void **state)
{
    assert_true(dense_weighted_auroc(KIND) > 0.95);
}

static void
threads_change_no_bit(void **state)
{
    dense_check_threads(KIND);
}

static void
company_changes_no_bit(void **state)
{
    dense_check_company(KIND, DENSE_WIDTH);
    dense_check_company(KIND, 530);
}

static void
poor_data_give_numbers(void **state)
{
    dense_check_poor_data(KIND);
}

static void
predictions_stay_within_limits(void **state)
{
    dense_check_limits(KIND);
}

static void
reads_back_what_it_wrote_and_refuses_what_is_broken(void **state)
{
    dense_check_store(KIND, &dense_number, dense_curve);
    dense_check_store(KIND, &dense_classes, dense_class);
    dense_check_misfit(KIND);
}

static void
cancelling_ends_a_fit(void **state)
{
    dense_check_cancel(KIND);
}

static void
a_device_gives_what_the_host_does(void **state)
{
    dense_check_device(KIND);
}

static void
what_does_not_fit_is_refused(void **state)
{
    dense_check_refusals(KIND);
}

/* Of rows in which two columns alone matter, and only together, these are what neurons use most. */
static void
tells_the_columns_that_it_multiplies(void **state)
{
    moe_job *job = start_job(2);
    moe_dense_rows train = dense_rows(job, 4000, 1, dense_xor), held = dense_rows(job, 500, 2, dense_xor);
    void *expert = dense_fit(job, KIND, &dense_binary, &train, NULL);
    moe_arm_interaction found[10];
    int n;
    assert_int_equal(moe_arm_interactions(job, expert, &held, 10, found, &n), MOE_OK);
    assert_int_equal(n, 10);
    for (int i = 0; i < n; i++)
    {
        assert_true(found[i].n == 2 || found[i].n == 3);
        assert_true(found[i].use > 0 && found[i].gate > 0 && found[i].gate <= 0.5);
        assert_true(i == 0 || found[i].use <= found[i - 1].use);
        for (int j = 0; j < found[i].n; j++)
            assert_true(found[i].column[j] >= 0 && found[i].column[j] < DENSE_WIDTH &&
                        (j == 0 || found[i].column[j] > found[i].column[j - 1]));
    }
    assert_int_equal(found[0].n, 2);
    assert_int_equal(found[0].column[0], 0);
    assert_int_equal(found[0].column[1], 1);
    held.n = 0;
    assert_int_equal(moe_arm_interactions(job, expert, &held, 10, found, &n), MOE_OK);
    assert_int_equal(n, 0);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns_an_interaction_that_no_line_has),
        cmocka_unit_test(learns_without_validation_rows),
        cmocka_unit_test(learns_numbers_of_any_scale),
        cmocka_unit_test(learns_classes),
        cmocka_unit_test(rows_of_no_weight_do_not_count),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(poor_data_give_numbers),
        cmocka_unit_test(predictions_stay_within_limits),
        cmocka_unit_test(reads_back_what_it_wrote_and_refuses_what_is_broken),
        cmocka_unit_test(cancelling_ends_a_fit),
        cmocka_unit_test(a_device_gives_what_the_host_does),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(tells_the_columns_that_it_multiplies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

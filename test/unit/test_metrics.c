/*
 * test_metrics.c: metrics against values worked out by hand.
 */
#include "test/unit/gnn_fixture.h"

#include <math.h>

#include "gnn/metrics.h"

static void
auroc_counts_ordered_pairs_and_half_of_ties(void **state)
{
    moe_job *job = fixture_job(1);
    float score[] = {0.9f, 0.8f, 0.7f, 0.6f, 0.5f};
    float label[] = {1, 0, 1, 1, 0};
    /* 6 pairs: .9 beats both, .7 and .6 beat one each: 4 of 6 */
    assert_float_equal(moe_metric_auroc(job, score, label, 5), 4.0 / 6, 1e-12);
    float tied[] = {0.5f, 0.5f, 0.5f, 0.1f};
    float tied_label[] = {1, 0, 0, 0};
    /* 3 pairs: two ties, one win */
    assert_float_equal(moe_metric_auroc(job, tied, tied_label, 4), 2.0 / 3, 1e-12);
    float same[] = {0.3f, 0.3f};
    float same_label[] = {1, 0};
    assert_float_equal(moe_metric_auroc(job, same, same_label, 2), 0.5, 1e-12);
    moe_job_destroy(job);
}

static void
auroc_equals_brute_force_on_random_scores(void **state)
{
    moe_job *job = fixture_job(1);
    float score[200], label[200];
    double wins = 0, pairs = 0;
    for (int i = 0; i < 200; i++)
    {
        score[i] = (float) (moe_random_bits(1, i) % 20) / 20;
        label[i] = (float) (moe_random_bits(2, i) % 3 == 0);
    }
    for (int i = 0; i < 200; i++)
        for (int j = 0; j < 200; j++)
            if (label[i] == 1 && label[j] == 0)
            {
                pairs++;
                wins += score[i] > score[j] ? 1 : score[i] == score[j] ? 0.5 : 0;
            }
    assert_float_equal(moe_metric_auroc(job, score, label, 200), wins / pairs, 1e-12);
    moe_job_destroy(job);
}

static void
what_is_undefined_is_nan(void **state)
{
    moe_job *job = fixture_job(1);
    float score[] = {0.2f, 0.8f};
    float broken[] = {NAN, 0.8f};
    float ones[] = {1, 1};
    float zeros[] = {0, 0};
    float both[] = {0, 1};
    float low[] = {0.1f, 0.2f};
    assert_true(isnan(moe_metric_auroc(job, score, ones, 2)));
    assert_true(isnan(moe_metric_auroc(job, score, zeros, 2)));
    assert_true(isnan(moe_metric_auroc(job, broken, both, 2)));
    assert_true(isnan(moe_metric_average_precision(job, score, zeros, 2)));
    assert_true(isnan(moe_metric_average_precision(job, broken, both, 2)));
    assert_true(isnan(moe_metric_f1(low, zeros, 2)));
    assert_true(isnan(moe_metric_r2(score, ones, 2)));
    assert_int_equal(moe_job_code(job), MOE_OK);
    moe_job_destroy(job);
}

static void
average_precision_is_the_step_wise_sum(void **state)
{
    moe_job *job = fixture_job(1);
    float score[] = {0.9f, 0.8f, 0.7f, 0.6f};
    float label[] = {1, 0, 1, 0};
    assert_float_equal(moe_metric_average_precision(job, score, label, 4), (1.0 + 2.0 / 3) / 2, 1e-12);
    float tied[] = {0.9f, 0.9f, 0.9f, 0.1f};
    float tied_label[] = {1, 0, 0, 1};
    assert_float_equal(moe_metric_average_precision(job, tied, tied_label, 4), (1.0 / 3 + 2.0 / 4) / 2, 1e-12);
    moe_job_destroy(job);
}

static void
binary_metrics_use_the_threshold_and_clip(void **state)
{
    float score[] = {0.9f, 0.5f, 0.4f, 0.0f};
    float label[] = {1, 0, 1, 0};
    assert_float_equal(moe_metric_accuracy(score, label, 4), 0.5, 1e-12);
    assert_float_equal(moe_metric_f1(score, label, 4), 0.5, 1e-12);
    assert_float_equal(moe_metric_brier(score, label, 4), (0.01 + 0.25 + 0.36) / 4, 1e-6);
    assert_float_equal(moe_metric_log_loss(score, label, 4), -(log(0.9) + log(0.5) + log(0.4) + log(1 - 1e-7)) / 4,
                       1e-6);
    float wrong[] = {0.0f};
    float one[] = {1};
    assert_float_equal(moe_metric_log_loss(wrong, one, 1), -log(1e-7), 1e-6);
}

static void
regression_metrics(void **state)
{
    float predicted[] = {1, 2, 3, 4};
    float label[] = {1, 4, 3, 0};
    assert_float_equal(moe_metric_mae(predicted, label, 4), 1.5, 1e-12);
    assert_float_equal(moe_metric_rmse(predicted, label, 4), sqrt(5), 1e-12);
    assert_float_equal(moe_metric_r2(predicted, label, 4), 1 - 20.0 / 10, 1e-12); /* mean 2, squares 1+4+1+4 */
}

static void
multiclass_metrics(void **state)
{
    moe_job *job = fixture_job(1);
    float probability[] = {.8f, .1f, .1f, .2f, .7f, .1f, .5f, .4f, .1f, .3f, .3f, .4f};
    float label[] = {0, 1, 1, 1};
    /* claims 0, 1, 0, 2: class 0 has F1 2/3, class 1 has 2/4, class 2 never occurs */
    assert_float_equal(moe_metric_class_accuracy(probability, label, 4, 3), 0.5, 1e-12);
    assert_float_equal(moe_metric_macro_f1(job, probability, label, 4, 3), (2.0 / 3 + 0.5) / 2, 1e-12);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auroc_counts_ordered_pairs_and_half_of_ties),
        cmocka_unit_test(auroc_equals_brute_force_on_random_scores),
        cmocka_unit_test(what_is_undefined_is_nan),
        cmocka_unit_test(average_precision_is_the_step_wise_sum),
        cmocka_unit_test(binary_metrics_use_the_threshold_and_clip),
        cmocka_unit_test(regression_metrics),
        cmocka_unit_test(multiclass_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

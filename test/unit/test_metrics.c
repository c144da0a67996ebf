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

static void
class_probabilities_are_scored(void **state)
{
    float probability[] = {.8f, .1f, .1f, .2f, .7f, .1f, 1, 0, 0};
    float label[] = {0, 2, 1};
    assert_float_equal(moe_metric_class_log_loss(probability, label, 3, 3), -(log(.8) + log(.1) + log(1e-7)) / 3, 1e-6);
    /* .04 + .01 + .01; .04 + .49 + .81; 1 + 1 + 0 */
    assert_float_equal(moe_metric_class_brier(probability, label, 3, 3), (0.06 + 1.34 + 2) / 3, 1e-6);
}

static void
pinball_loss_is_least_at_the_quantile(void **state)
{
    float predicted[] = {1, 1, 1};
    float label[] = {3, 1, 0};
    assert_float_equal(moe_metric_pinball(predicted, label, 3, 0.9), (0.9 * 2 + 0.1 * 1) / 3, 1e-12);
    float value[101], constant[101];
    double best = INFINITY;
    int at = -1;
    for (int i = 0; i <= 100; i++)
        value[i] = (float) i;
    for (int c = 0; c <= 100; c++)
    {
        for (int i = 0; i <= 100; i++)
            constant[i] = (float) c;
        double loss = moe_metric_pinball(constant, value, 101, 0.1);
        at = loss < best ? c : at;
        best = loss < best ? loss : best;
    }
    assert_int_equal(at, 10);
}

static void
coverage_counts_rows_with_a_range(void **state)
{
    float lower[] = {0, 0, 0, NAN};
    float upper[] = {1, 1, 1, NAN};
    float label[] = {0, 1, 2, 0};
    assert_float_equal(moe_metric_coverage(lower, upper, label, 4), 2.0 / 3, 1e-12);
    assert_true(isnan(moe_metric_coverage(lower + 3, upper + 3, label + 3, 1)));
}

static void
reliability_bins_hold_equal_counts_and_whole_scores(void **state)
{
    moe_job *job = fixture_job(1);
    float score[] = {.4f, .1f, .3f, .2f, .9f, .8f};
    float label[] = {1, 0, 0, 1, 1, 1};
    moe_reliability_bin bin[3];
    assert_int_equal(moe_metric_reliability(job, score, label, 6, 3, bin), 3);
    for (int b = 0; b < 3; b++)
        assert_int_equal(bin[b].count, 2);
    assert_float_equal(bin[0].mean, .15, 1e-6);
    assert_float_equal(bin[0].positive, .5, 1e-12);
    assert_float_equal(bin[1].mean, .35, 1e-6);
    assert_float_equal(bin[2].mean, .85, 1e-6);
    assert_float_equal(bin[2].positive, 1, 1e-12);
    float tied[] = {.5f, .5f, .5f, .5f, .5f, .6f};
    assert_int_equal(moe_metric_reliability(job, tied, label, 6, 3, bin), 2);
    assert_int_equal(bin[0].count, 5);
    assert_int_equal(bin[1].count, 1);
    float broken[] = {NAN, .1f};
    assert_int_equal(moe_metric_reliability(job, broken, label, 2, 3, bin), 0);
    assert_int_equal(moe_metric_reliability(job, score, label, 1, 3, bin), 1);
    moe_job_destroy(job);
}

static void
calibration_error_is_the_mean_gap_of_the_bins(void **state)
{
    moe_job *job = fixture_job(1);
    float score[1000], label[1000];
    for (int i = 0; i < 1000; i++)
    {
        score[i] = 0.2f + 0.0001f * (float) i;
        label[i] = i % 2;
    }
    /* every bin holds half positives; scores are .2 to .3, mean .25 */
    assert_float_equal(moe_metric_calibration_error(job, score, label, 1000), 0.25, 1e-4);
    for (int i = 0; i < 1000; i++)
        score[i] = 0.5f;
    assert_float_equal(moe_metric_calibration_error(job, score, label, 1000), 0, 1e-12);
    score[7] = NAN;
    assert_true(isnan(moe_metric_calibration_error(job, score, label, 1000)));
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
        cmocka_unit_test(class_probabilities_are_scored),
        cmocka_unit_test(pinball_loss_is_least_at_the_quantile),
        cmocka_unit_test(coverage_counts_rows_with_a_range),
        cmocka_unit_test(reliability_bins_hold_equal_counts_and_whole_scores),
        cmocka_unit_test(calibration_error_is_the_mean_gap_of_the_bins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_calibration.c: probabilities made to mean what they say, and ranges that hold what they promise.
 */
#include "gnn/calibration.h"

#include <math.h>
#include <string.h>

#include "gnn/metrics.h"
#include "test/unit/core.h"

#define N 4000

static double
sigmoid(double z)
{
    return 1 / (1 + exp(-z));
}

/* Probabilities whose logits are `stretch` times the true ones plus `shift`. */
static void
make_binary(int64_t n, double stretch, double shift, uint64_t key, float *p, float *label)
{
    for (int64_t i = 0; i < n; i++)
    {
        double z = 1.5 * moe_random_normal(key, i) - 0.5;
        p[i] = (float) sigmoid(stretch * z + shift);
        label[i] = moe_random_uniform(key + 1, i) < sigmoid(z);
    }
}

/* The same for three classes. */
static void
make_classes(int64_t n, double stretch, uint64_t key, float *p, float *label)
{
    for (int64_t i = 0; i < n; i++)
    {
        double z[3], truth = 0, told = 0, left = moe_random_uniform(key + 1, i);
        for (int c = 0; c < 3; c++)
        {
            z[c] = 1.5 * moe_random_normal(key, 3 * i + c);
            truth += exp(z[c]);
            told += exp(stretch * z[c]);
        }
        int class = 0;
        for (int c = 0; c < 3; c++)
            p[3 * i + c] = (float) (exp(stretch * z[c]) / told);
        for (left -= exp(z[0]) / truth; class < 2 && left > 0; left -= exp(z[class]) / truth)
            class ++;
        label[i] = (float) class;
    }
}

static void
platt_undoes_a_stretch_and_a_shift(void **state)
{
    static const double stretch[] = {3, 0.3, 1};
    static const double shift[] = {1, -2, 0};
    moe_job *job = start_job(1);
    float p[N], label[N];
    for (int c = 0; c < 3; c++)
    {
        moe_calibration map;
        make_binary(N, stretch[c], shift[c], 10 * c, p, label);
        double before = moe_metric_log_loss(p, label, N);
        assert_int_equal(moe_calibration_fit(job, MOE_BINARY, 1, N, p, label, &map), MOE_OK);
        assert_true(map.fitted);
        assert_float_equal(map.slope * stretch[c], 1, 0.12);
        assert_float_equal(map.offset + map.slope * shift[c], 0, 0.12);
        moe_calibration_apply(&map, 1, N, p);
        assert_true(moe_metric_log_loss(p, label, N) <= before);
    }
    moe_job_destroy(job);
}

/* At the minimum of the smoothed log loss its derivatives by slope and offset are 0. */
static void
platt_ends_at_the_minimum(void **state)
{
    moe_job *job = start_job(1);
    float p[500], label[500];
    moe_calibration map;
    double by_slope = 0, by_offset = 0, positives = 0;
    make_binary(500, 2, 0.5, 3, p, label);
    assert_int_equal(moe_calibration_fit(job, MOE_BINARY, 1, 500, p, label, &map), MOE_OK);
    for (int i = 0; i < 500; i++)
        positives += label[i];
    for (int i = 0; i < 500; i++)
    {
        double f = log(p[i]) - log1p(-p[i]);
        double target = label[i] > 0.5f ? (positives + 1) / (positives + 2) : 1 / (500 - positives + 2);
        by_offset += (sigmoid(map.slope * f + map.offset) - target) / 500;
        by_slope += f * (sigmoid(map.slope * f + map.offset) - target) / 500;
    }
    assert_float_equal(by_slope, 0, 1e-7);
    assert_float_equal(by_offset, 0, 1e-7);
    moe_job_destroy(job);
}

static void
a_temperature_is_found_and_keeps_the_order_of_classes(void **state)
{
    moe_job *job = start_job(1);
    float p[3 * N], after[3 * N], label[N];
    for (int c = 0; c < 2; c++)
    {
        double stretch = c == 0 ? 2.5 : 0.4;
        moe_calibration map;
        make_classes(N, stretch, 20 * c, p, label);
        memcpy(after, p, sizeof p);
        assert_int_equal(moe_calibration_fit(job, MOE_MULTICLASS, 3, N, p, label, &map), MOE_OK);
        assert_float_equal(map.temperature / stretch, 1, 0.1);
        moe_calibration_apply(&map, 3, N, after);
        for (int i = 0; i < N; i++)
        {
            assert_float_equal(after[3 * i] + after[3 * i + 1] + after[3 * i + 2], 1, 1e-5);
            for (int k = 0; k < 3; k++)
                for (int l = 0; l < 3; l++)
                    assert_true(p[3 * i + k] <= p[3 * i + l] || after[3 * i + k] >= after[3 * i + l]);
        }
    }
    moe_job_destroy(job);
}

static void
classes_told_apart_perfectly_stay_short_of_certainty(void **state)
{
    moe_job *job = start_job(1);
    float p[3 * 300], label[300];
    moe_calibration map;
    for (int i = 0; i < 300; i++)
    {
        label[i] = (float) (i % 3);
        for (int c = 0; c < 3; c++)
            p[3 * i + c] = c == i % 3 ? 0.6f : 0.2f;
    }
    assert_int_equal(moe_calibration_fit(job, MOE_MULTICLASS, 3, 300, p, label, &map), MOE_OK);
    moe_calibration_apply(&map, 3, 300, p);
    assert_true(p[0] > 0.98f && p[0] < 0.999f);
    moe_job_destroy(job);
}

/* Over all of [0, 1], down to the smallest floats, no two probabilities change places, and well apart none tie. */
static void
platt_maps_are_increasing_in_floats(void **state)
{
    static const double slope[] = {0.05, 1, 7.3};
    for (int c = 0; c < 3; c++)
    {
        moe_calibration map = {.task = MOE_BINARY, .fitted = true, .slope = slope[c], .offset = -0.7};
        float last = -1;
        uint32_t one;
        float top = 1;
        memcpy(&one, &top, sizeof one);
        for (uint32_t bits = 0; bits <= one; bits += 4001)
        {
            float p;
            memcpy(&p, &bits, sizeof p);
            moe_calibration_apply(&map, 1, 1, &p);
            assert_true(p >= last && p >= 0 && p <= 1);
            /* a steep map sends the smallest and largest to 0 and 1 */
            assert_true(p > last || c > 1 || p < 1e-20f);
            last = p;
        }
        float ends[] = {0, 1};
        moe_calibration_apply(&map, 1, 2, ends);
        assert_true(ends[0] == 0 && ends[1] == 1);
    }
}

static void
too_little_evidence_is_the_identity_and_misleading_the_share(void **state)
{
    moe_job *job = start_job(1);
    float p[400], label[400], kept[400];
    moe_calibration map;
    make_binary(400, 3, 0, 5, p, label);
    memcpy(kept, p, sizeof p);
    assert_int_equal(moe_calibration_fit(job, MOE_BINARY, 1, 99, p, label, &map), MOE_OK);
    assert_false(map.fitted);
    for (int i = 0; i < 400; i++)
        label[i] = 1 - label[i]; /* now the probabilities rank backwards */
    assert_int_equal(moe_calibration_fit(job, MOE_BINARY, 1, 400, p, label, &map), MOE_OK);
    double share = 0;
    for (int i = 0; i < 400; i++)
        share += label[i] / 400;
    moe_calibration_apply(&map, 1, 400, p);
    for (int i = 0; i < 400; i++)
    {
        assert_float_equal(p[i], share, 0.01);
        assert_true(i == 0 || (p[i] > p[0]) == (kept[i] > kept[0]) || kept[i] == kept[0]);
    }
    memcpy(p, kept, sizeof p);
    for (int i = 0; i < 400; i++)
        label[i] = 1;
    assert_int_equal(moe_calibration_fit(job, MOE_BINARY, 1, 400, p, label, &map), MOE_OK);
    assert_false(map.fitted);
    moe_calibration_apply(&map, 1, 400, p);
    assert_memory_equal(p, kept, sizeof p);
    assert_int_equal(moe_calibration_fit(job, MOE_MULTICLASS, 2, 200, p, label, &map), MOE_OK);
    assert_false(map.fitted);
    assert_int_equal(moe_calibration_fit(job, MOE_REGRESSION, 1, 19, p, label, &map), MOE_OK);
    float lower, upper;
    moe_calibration_range(&map, 1, p, &lower, &upper);
    assert_true(isnan(lower) && isnan(upper));
    moe_job_destroy(job);
}

/* Numbers whose error grows with the prediction. */
static void
make_numbers(int64_t n, uint64_t key, float *p, float *label)
{
    for (int64_t i = 0; i < n; i++)
    {
        p[i] = (float) (100 * moe_random_uniform(key, i));
        label[i] = p[i] + (float) ((1 + p[i] / 10) * moe_random_normal(key + 1, i));
    }
}

static void
ranges_hold_eighty_percent_everywhere(void **state)
{
    moe_job *job = start_job(1);
    float p[N], label[N], lower[N], upper[N];
    moe_calibration map;
    int64_t below[4] = {0}, above[4] = {0}, count[4] = {0};
    make_numbers(N, 1, p, label);
    assert_int_equal(moe_calibration_fit(job, MOE_REGRESSION, 1, N, p, label, &map), MOE_OK);
    assert_int_equal(map.bins, MOE_CALIBRATION_BINS);
    make_numbers(N, 2, p, label);
    moe_calibration_range(&map, N, p, lower, upper);
    for (int i = 0; i < N; i++)
    {
        int quarter = (int) (p[i] / 25.001f);
        assert_true(lower[i] <= p[i] && p[i] <= upper[i]);
        count[quarter]++;
        below[quarter] += label[i] < lower[i];
        above[quarter] += label[i] > upper[i];
    }
    for (int q = 0; q < 4; q++)
    {
        assert_float_equal((double) below[q] / count[q], 0.1, 0.035);
        assert_float_equal((double) above[q] / count[q], 0.1, 0.035);
    }
    moe_job_destroy(job);
}

/* Over many small samples at least 80 % of new rows fall into the range: the correction for a finite sample. */
static void
ranges_of_few_rows_hold_on_average(void **state)
{
    moe_job *job = start_job(1);
    int64_t inside = 0, total = 0;
    for (int s = 0; s < 400; s++)
    {
        float p[40], label[40], lower[20], upper[20];
        moe_calibration map;
        for (int i = 0; i < 40; i++)
        {
            p[i] = (float) i;
            label[i] = p[i] + (float) moe_random_normal(moe_key(9, s), i);
        }
        assert_int_equal(moe_calibration_fit(job, MOE_REGRESSION, 1, 20, p, label, &map), MOE_OK);
        assert_int_equal(map.bins, 1);
        moe_calibration_range(&map, 20, p + 20, lower, upper);
        for (int i = 0; i < 20; i++)
            inside += label[20 + i] >= lower[i] && label[20 + i] <= upper[i];
        total += 20;
    }
    assert_true((double) inside / total >= 0.79 && (double) inside / total < 0.87);
    moe_job_destroy(job);
}

static void
equal_predictions_share_a_bin(void **state)
{
    moe_job *job = start_job(1);
    float p[400], label[400], lower[2], upper[2];
    moe_calibration map;
    for (int i = 0; i < 400; i++)
    {
        p[i] = i < 300 ? 0 : 1;
        label[i] = p[i] + (float) moe_random_normal(4, i) * (i < 300 ? 1 : 10);
    }
    assert_int_equal(moe_calibration_fit(job, MOE_REGRESSION, 1, 400, p, label, &map), MOE_OK);
    assert_int_equal(map.bins, 2);
    float ask[] = {0, 1};
    moe_calibration_range(&map, 2, ask, lower, upper);
    assert_true(upper[1] - lower[1] > 4 * (upper[0] - lower[0]));
    float skewed[60] = {0}, larger[60];
    for (int i = 0; i < 60; i++)
        larger[i] = 5; /* every residual is 5: still the range holds the prediction */
    assert_int_equal(moe_calibration_fit(job, MOE_REGRESSION, 1, 60, skewed, larger, &map), MOE_OK);
    moe_calibration_range(&map, 1, skewed, lower, upper);
    assert_true(lower[0] == 0 && upper[0] == 5);
    moe_job_destroy(job);
}

static moe_calibration
fitted(moe_job *job, moe_task_type task)
{
    static float p[3 * 1000], label[1000];
    moe_calibration map;
    if (task == MOE_BINARY)
        make_binary(1000, 2, 1, 1, p, label);
    else if (task == MOE_MULTICLASS)
        make_classes(1000, 2, 1, p, label);
    else
        make_numbers(1000, 1, p, label);
    assert_int_equal(moe_calibration_fit(job, task, task == MOE_MULTICLASS ? 3 : 1, 1000, p, label, &map), MOE_OK);
    assert_true(map.fitted);
    return map;
}

static void
a_stored_calibration_reads_back_the_same(void **state)
{
    for (int task = MOE_BINARY; task <= MOE_MULTICLASS; task++)
    {
        moe_job *job = start_job(1);
        moe_calibration map = fitted(job, (moe_task_type) task), back;
        moe_buffer bytes, again;
        moe_reader reader;
        moe_buffer_init(&bytes, job);
        moe_buffer_init(&again, job);
        moe_calibration_write(&map, &bytes);
        moe_reader_init(&reader, job, bytes.data, bytes.length);
        assert_int_equal(moe_calibration_read(&reader, &back), MOE_OK);
        moe_calibration_write(&back, &again);
        assert_int_equal(bytes.length, again.length);
        assert_memory_equal(bytes.data, again.data, bytes.length);
        assert_memory_equal(back.edge, map.edge, sizeof map.edge);
        moe_job_destroy(job);
    }
}

static void
one_never_fitted_is_stored_as_the_identity(void **state)
{
    moe_job *job = start_job(1);
    moe_calibration none = {.task = MOE_BINARY}, back;
    moe_buffer bytes;
    moe_reader reader;
    float p = 0.3f;
    moe_buffer_init(&bytes, job);
    moe_calibration_write(&none, &bytes);
    moe_reader_init(&reader, job, bytes.data, bytes.length);
    assert_int_equal(moe_calibration_read(&reader, &back), MOE_OK);
    moe_calibration_apply(&back, 1, 1, &p);
    assert_true(p == 0.3f);
    moe_job_destroy(job);
}

static void
damaged_bytes_are_refused_or_sound(void **state)
{
    moe_job *maker = start_job(1);
    for (int task = MOE_BINARY; task <= MOE_MULTICLASS; task++)
    {
        moe_calibration map = fitted(maker, (moe_task_type) task);
        moe_buffer bytes;
        moe_buffer_init(&bytes, maker);
        moe_calibration_write(&map, &bytes);
        for (int64_t at = 0; at < bytes.length; at++)
            for (int bit = -1; bit < 8; bit++) /* -1: cut off there */
            {
                moe_job *job = start_job(1);
                moe_reader reader;
                moe_calibration back;
                float p[] = {0.2f, 0.3f, 0.5f}, lower, upper;
                uint8_t kept = bytes.data[at];
                bytes.data[at] ^= bit < 0 ? 0 : (uint8_t) (1 << bit);
                moe_reader_init(&reader, job, bytes.data, bit < 0 ? at : bytes.length);
                moe_code code = moe_calibration_read(&reader, &back);
                assert_true(code == MOE_CORRUPT || (bit >= 0 && code == MOE_OK));
                moe_calibration_range(&back, 1, p, &lower, &upper);
                moe_calibration_apply(&back, 3, 1, p);
                assert_true(isfinite(p[0]) && !(lower > upper));
                bytes.data[at] = kept;
                moe_job_destroy(job);
            }
    }
    moe_job_destroy(maker);
}

static void
numbers_that_are_none_are_refused(void **state)
{
    float p[100] = {0}, label[100] = {0};
    for (int task = MOE_BINARY; task <= MOE_MULTICLASS; task++)
        for (int side = 0; side < 2; side++)
        {
            moe_job *job = start_job(1);
            moe_calibration map;
            (side ? p : label)[3] = NAN;
            assert_int_equal(moe_calibration_fit(job, (moe_task_type) task, 2, 50, p, label, &map), MOE_INVALID);
            assert_false(map.fitted);
            (side ? p : label)[3] = 0;
            moe_job_destroy(job);
        }
}

static bool
always(void *arg)
{
    return true;
}

static void
a_cancelled_fit_is_the_identity(void **state)
{
    float p[3 * 200], label[200];
    for (int task = MOE_BINARY; task <= MOE_MULTICLASS; task++)
    {
        moe_job_config settings = {.threads = 1, .cancelled = always};
        moe_calibration map;
        moe_job *job;
        make_classes(200, 1, 1, p, label);
        for (int i = 0; task == MOE_BINARY && i < 200; i++)
            label[i] = label[i] > 0;
        assert_int_equal(moe_job_create(&settings, &job), MOE_OK);
        assert_int_equal(moe_calibration_fit(job, (moe_task_type) task, 3, 200, p, label, &map), MOE_CANCELLED);
        assert_false(map.fitted);
        moe_job_destroy(job);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(platt_undoes_a_stretch_and_a_shift),
        cmocka_unit_test(platt_ends_at_the_minimum),
        cmocka_unit_test(a_temperature_is_found_and_keeps_the_order_of_classes),
        cmocka_unit_test(classes_told_apart_perfectly_stay_short_of_certainty),
        cmocka_unit_test(platt_maps_are_increasing_in_floats),
        cmocka_unit_test(too_little_evidence_is_the_identity_and_misleading_the_share),
        cmocka_unit_test(ranges_hold_eighty_percent_everywhere),
        cmocka_unit_test(ranges_of_few_rows_hold_on_average),
        cmocka_unit_test(equal_predictions_share_a_bin),
        cmocka_unit_test(a_stored_calibration_reads_back_the_same),
        cmocka_unit_test(one_never_fitted_is_stored_as_the_identity),
        cmocka_unit_test(damaged_bytes_are_refused_or_sound),
        cmocka_unit_test(numbers_that_are_none_are_refused),
        cmocka_unit_test(a_cancelled_fit_is_the_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

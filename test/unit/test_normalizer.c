/*
 * test_normalizer.c: columns of any scale, with NULLs, as inputs.
 */
#include "test/unit/core.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "embed/normalizer.h"

enum
{
    ROWS = 3000,
    COLUMNS = 7
};

/* Normal, log-normal, a few integers, constant, half NULL, NULL in the same rows, and the first times two. */
static float *
table(moe_job *job, int64_t n)
{
    float *x = moe_alloc(job, n * COLUMNS, sizeof(float));
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
    {
        float *row = x + i * COLUMNS;
        row[0] = (float) moe_random_normal(1, i) * 1000 + 5;
        row[1] = (float) exp(4 * moe_random_normal(2, i));
        row[2] = (float) (moe_random_bits(3, i) % 5);
        row[3] = 42;
        row[4] = moe_random_bits(4, i) % 2 ? NAN : (float) moe_random_uniform(5, i);
        row[5] = isnan(row[4]) ? NAN : -row[4] * row[4] * row[4] + (float) moe_random_uniform(6, i);
        row[6] = 2 * row[0];
    }
    return x;
}

static moe_normalizer *
fit(moe_job *job, const float *x, int64_t n, int columns)
{
    moe_normalizer *normalizer;
    assert_int_equal(moe_normalizer_fit(job, x, n, columns, &normalizer), MOE_OK);
    return normalizer;
}

static float *
apply(moe_job *job, const moe_normalizer *normalizer, const float *x, int64_t n)
{
    float *out = moe_alloc(job, n * moe_normalizer_outputs(normalizer), sizeof(float));
    assert_non_null(out);
    assert_int_equal(moe_normalizer_apply(normalizer, x, n, out), MOE_OK);
    return out;
}

static void
outputs_have_mean_0_and_deviation_1(void **state)
{
    moe_job *job = start_job(2);
    float *x = table(job, ROWS);
    moe_normalizer *normalizer = fit(job, x, ROWS, COLUMNS);
    float *out = apply(job, normalizer, x, ROWS);
    int outputs = moe_normalizer_outputs(normalizer);
    for (int o = 0; o < outputs; o++)
    {
        double sum = 0, square = 0, known = 0;
        for (int64_t i = 0; i < ROWS; i++)
        {
            float value = out[i * outputs + o];
            assert_true(fabsf(value) <= 3);
            if (!moe_normalizer_is_flag(normalizer, o) && isnan(x[i * COLUMNS + moe_normalizer_source(normalizer, o)]))
            {
                assert_true(value == 0);
                continue;
            }
            sum += value;
            square += value * value;
            known++;
        }
        assert_float_equal(sum / known, 0, 0.01);
        assert_float_equal(square / known, 1, 0.03);
    }
    moe_job_destroy(job);
}

static void
scores_are_those_of_the_normal_distribution(void **state)
{
    moe_job *job = start_job(1);
    float x[999], probe[4] = {24, 499, 974, 1e30f};
    for (int i = 0; i < 999; i++)
        x[i] = (float) i;
    moe_normalizer *normalizer = fit(job, x, 999, 1);
    float *out = apply(job, normalizer, probe, 4);
    /* Mid-ranks .0245, .5 and .9755; the deviation of the scores of 999 ranks is a little under 1. */
    assert_float_equal(out[1], 0, 1e-3);
    assert_float_equal(out[2], 1.969, 0.02);
    assert_float_equal(out[0], -out[2], 0.01);
    assert_float_equal(out[3], 3, 0);
    moe_job_destroy(job);
}

static void
scores_follow_the_order_of_values(void **state)
{
    moe_job *job = start_job(1);
    float *x = table(job, ROWS);
    moe_normalizer *normalizer = fit(job, x, ROWS, COLUMNS);
    float *out = apply(job, normalizer, x, ROWS);
    int outputs = moe_normalizer_outputs(normalizer);
    for (int64_t i = 1; i < ROWS; i++)
        assert_true((x[i * COLUMNS + 1] <= x[i * COLUMNS - 6]) ==
                        (out[i * outputs + 1] <= out[(i - 1) * outputs + 1]) ||
                    out[i * outputs + 1] == out[(i - 1) * outputs + 1]);
    moe_job_destroy(job);
}

static void
constant_columns_and_repeated_outputs_are_dropped(void **state)
{
    moe_job *job = start_job(2);
    float *x = table(job, ROWS);
    moe_normalizer *normalizer = fit(job, x, ROWS, COLUMNS);
    int sources[] = {0, 1, 2, 4, 5, 4};
    assert_int_equal(moe_normalizer_inputs(normalizer), COLUMNS);
    assert_int_equal(moe_normalizer_outputs(normalizer), 6);
    for (int o = 0; o < 6; o++)
    {
        assert_int_equal(moe_normalizer_source(normalizer, o), sources[o]);
        assert_int_equal(moe_normalizer_is_flag(normalizer, o), o == 5);
    }
    moe_job_destroy(job);
}

static void
a_column_that_differs_in_one_row_stays(void **state)
{
    moe_job *job = start_job(1);
    static float x[2 * ROWS];
    for (int64_t i = 0; i < ROWS; i++)
        x[2 * i] = x[2 * i + 1] = (float) (i % 7);
    moe_normalizer *same = fit(job, x, ROWS, 2);
    x[2 * 1777] = 3.5f;
    moe_normalizer *different = fit(job, x, ROWS, 2);
    assert_int_equal(moe_normalizer_outputs(same), 1);
    assert_int_equal(moe_normalizer_outputs(different), 2);
    moe_job_destroy(job);
}

static void
rare_nulls_have_no_flag(void **state)
{
    moe_job *job = start_job(1);
    static float x[3 * ROWS];
    for (int64_t i = 0; i < ROWS; i++)
    {
        x[3 * i] = i < 14 ? NAN : (float) i;              /* 15 of 3,000 are .5 % */
        x[3 * i + 1] = i >= 100 && i < 115 ? NAN : 1;     /* constant, but for NULLs */
        x[3 * i + 2] = i % 2 ? INFINITY : (float) i / 10; /* counts as NULL */
    }
    moe_normalizer *normalizer = fit(job, x, ROWS, 3);
    assert_int_equal(moe_normalizer_outputs(normalizer), 4);
    assert_int_equal(moe_normalizer_source(normalizer, 2), 1);
    assert_int_equal(moe_normalizer_source(normalizer, 3), 2);
    assert_true(moe_normalizer_is_flag(normalizer, 2));
    assert_true(moe_normalizer_is_flag(normalizer, 3));
    float probe[6] = {INFINITY, 0, -INFINITY, 1, 0, 1};
    float *out = apply(job, normalizer, probe, 2);
    assert_true(out[0] == 0 && out[1] == 0);
    assert_true(out[2] < 0);
    assert_float_equal(out[3], 1, 1e-6);
    assert_float_equal(out[7], -1, 1e-6);
    moe_job_destroy(job);
}

static void
a_table_of_nothing_but_nulls_gives_no_outputs(void **state)
{
    moe_job *job = start_job(1);
    float x[6] = {NAN, 1, NAN, 1, NAN, 1}, out[1] = {7};
    moe_normalizer *normalizer = fit(job, x, 3, 2);
    assert_int_equal(moe_normalizer_outputs(normalizer), 0);
    assert_int_equal(moe_normalizer_apply(normalizer, x, 3, out), MOE_OK);
    assert_true(out[0] == 7);
    moe_job_destroy(job);
}

static void
extreme_values_stay_finite(void **state)
{
    moe_job *job = start_job(1);
    float x[8] = {-FLT_MAX, FLT_MAX, FLT_MIN, -FLT_MIN, 0, -0.0f, 1e-40f, 1};
    moe_normalizer *normalizer = fit(job, x, 8, 1);
    float *out = apply(job, normalizer, x, 8);
    for (int i = 0; i < 8; i++)
        assert_true(fabsf(out[i]) <= 3);
    assert_true(out[4] == out[5]);
    assert_true(out[0] < out[3] && out[3] < out[4] && out[4] < out[6] && out[6] < out[7] && out[7] < out[1]);
    moe_job_destroy(job);
}

static void
any_number_of_threads_gives_the_same_bits(void **state)
{
    int threads[] = {1, 2, 7};
    uint8_t *first = NULL;
    float *first_out = NULL;
    int64_t length = 0;
    moe_job *jobs[3];
    for (int t = 0; t < 3; t++)
    {
        moe_job *job = jobs[t] = start_job(threads[t]);
        float *x = table(job, ROWS);
        moe_normalizer *normalizer = fit(job, x, ROWS, COLUMNS);
        float *out = apply(job, normalizer, x, ROWS);
        moe_buffer buffer;
        moe_buffer_init(&buffer, job);
        moe_normalizer_write(normalizer, &buffer);
        if (t == 0)
        {
            first = buffer.data;
            first_out = out;
            length = buffer.length;
        }
        assert_int_equal(buffer.length, length);
        assert_memory_equal(buffer.data, first, length);
        assert_memory_equal(out, first_out, ROWS * moe_normalizer_outputs(normalizer) * sizeof(float));
    }
    for (int t = 0; t < 3; t++)
        moe_job_destroy(jobs[t]);
}

static void
a_row_depends_on_itself_alone_and_survives_storing(void **state)
{
    moe_job *job = start_job(2);
    float *x = table(job, ROWS);
    moe_normalizer *normalizer = fit(job, x, ROWS, COLUMNS), *again;
    float *out = apply(job, normalizer, x, ROWS);
    int outputs = moe_normalizer_outputs(normalizer);
    moe_buffer buffer;
    moe_reader reader;
    moe_buffer_init(&buffer, job);
    moe_normalizer_write(normalizer, &buffer);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_normalizer_read(job, &reader, &again), MOE_OK);
    assert_int_equal(reader.position, buffer.length);
    for (int64_t i = 0; i < ROWS; i += 391)
    {
        float *one = apply(job, again, x + i * COLUMNS, 1);
        assert_memory_equal(one, out + i * outputs, outputs * sizeof(float));
    }
    moe_job_destroy(job);
}

/* Read a copy of exactly this length, so that reading past it is seen by the sanitizer. */
static moe_code
read_bytes(const uint8_t *bytes, int64_t length)
{
    moe_job *job = start_job(1);
    uint8_t *copy = moe_alloc(job, length, 1);
    float x[3] = {1, NAN, -1e30f}, out[16];
    moe_reader reader;
    moe_normalizer *normalizer;
    memcpy(copy, bytes, length);
    moe_reader_init(&reader, job, copy, length);
    moe_code code = moe_normalizer_read(job, &reader, &normalizer);
    if (code == MOE_OK && moe_normalizer_inputs(normalizer) <= 3 && moe_normalizer_outputs(normalizer) <= 16)
    {
        assert_int_equal(moe_normalizer_apply(normalizer, x, 1, out), MOE_OK);
        for (int o = 0; o < moe_normalizer_outputs(normalizer); o++)
            assert_true(fabsf(out[o]) <= 3);
    }
    moe_normalizer_destroy(normalizer);
    moe_job_destroy(job);
    return code;
}

static void
hostile_bytes_are_refused_or_harmless(void **state)
{
    moe_job *job = start_job(1);
    float x[60];
    for (int i = 0; i < 60; i++)
        x[i] = i % 3 == 1 && i % 2 ? NAN : (float) (i % 7);
    moe_normalizer *normalizer = fit(job, x, 20, 3);
    moe_buffer buffer;
    moe_buffer_init(&buffer, job);
    moe_normalizer_write(normalizer, &buffer);
    for (int64_t length = 0; length < buffer.length; length++)
        assert_int_equal(read_bytes(buffer.data, length), MOE_CORRUPT);
    for (int64_t bit = 0; bit < 8 * buffer.length; bit++)
    {
        buffer.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
        moe_code code = read_bytes(buffer.data, buffer.length);
        assert_true(code == MOE_OK || code == MOE_CORRUPT);
        buffer.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
    }
    moe_job_destroy(job);
}

static bool
always(void *arg)
{
    return true;
}

static void
a_cancelled_fit_stops(void **state)
{
    moe_job_config config = {.threads = 2, .cancelled = always};
    moe_job *job;
    float x[4] = {1, 2, 3, 4};
    moe_normalizer *normalizer;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    assert_int_equal(moe_normalizer_fit(job, x, 4, 1, &normalizer), MOE_CANCELLED);
    assert_null(normalizer);
    moe_job_destroy(job);
}

static void
no_rows_are_refused(void **state)
{
    moe_job *job = start_job(1);
    moe_normalizer *normalizer;
    assert_int_equal(moe_normalizer_fit(job, NULL, 0, 3, &normalizer), MOE_INVALID);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_have_mean_0_and_deviation_1),
        cmocka_unit_test(scores_are_those_of_the_normal_distribution),
        cmocka_unit_test(scores_follow_the_order_of_values),
        cmocka_unit_test(constant_columns_and_repeated_outputs_are_dropped),
        cmocka_unit_test(a_column_that_differs_in_one_row_stays),
        cmocka_unit_test(rare_nulls_have_no_flag),
        cmocka_unit_test(a_table_of_nothing_but_nulls_gives_no_outputs),
        cmocka_unit_test(extreme_values_stay_finite),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_row_depends_on_itself_alone_and_survives_storing),
        cmocka_unit_test(hostile_bytes_are_refused_or_harmless),
        cmocka_unit_test(a_cancelled_fit_stops),
        cmocka_unit_test(no_rows_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

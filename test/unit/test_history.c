/*
 * test_history.c: an entity's past labels as columns, and what may not be seen.
 */
#include "test/unit/core.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "embed/history.h"

enum
{
    WINDOW = 10,
    AGE = 12,
    COUNT = 13,
    MEANS = 14,
    PLAIN = 17,
    SINGLE = 18
};

static const float prior[MOE_HISTORY_CLASSES] = {3, 0.25f, 0.5f, 0, 0, 0, 0, 1};

static moe_history *
create(moe_job *job, const moe_past_labels *labels, int classes)
{
    moe_history *history;
    assert_int_equal(moe_history_create(job, labels, WINDOW, classes, prior, &history), MOE_OK);
    return history;
}

/* The columns of one seed whose horizon is given. */
static void
at(moe_history *history, int32_t row, int64_t time, int64_t horizon, float *out)
{
    moe_moments moments = {1, &row, &time, &horizon};
    assert_int_equal(moe_history_compute(history, &moments, out), MOE_OK);
}

/* Row 7 has labels at 0, 10, 12 and 40, row 3 at 5 and 100; given in no order. */
static const int32_t rows[] = {7, 3, 7, 7, 3, 7};
static const int64_t times[] = {40, 100, 10, 0, 5, 12};
static const float values[] = {8, 1000, 2, 1, 5, 4};
static const moe_past_labels some = {6, rows, times, values};

static void
a_label_is_known_once_its_window_has_closed(void **state)
{
    moe_job *job = start_job(1);
    moe_history *history = create(job, &some, 1);
    float out[SINGLE];
    assert_int_equal(moe_history_columns(1), SINGLE);
    at(history, 7, 21, 21, out); /* of 12 the window ends at 22 */
    assert_float_equal(out[8], 2, 0);
    at(history, 7, 22, 22, out);
    assert_float_equal(out[8], 4, 0);
    assert_float_equal(out[COUNT], log(4), 1e-6);
    moe_job_destroy(job);
}

static void
lags_are_calendar_windows_and_hold_the_latest_label(void **state)
{
    moe_job *job = start_job(1);
    moe_history *history = create(job, &some, 1);
    float out[SINGLE];
    at(history, 7, 55, 50, out);
    /* (30, 40], (20, 30], (10, 20], (0, 10], (-10, 0] */
    float lags[] = {8, NAN, 4, 2, 1, NAN, NAN, NAN};
    for (int j = 0; j < 8; j++)
        assert_true(isnan(lags[j]) ? isnan(out[j]) : out[j] == lags[j]);
    float last[] = {8, 4, 2, 1};
    assert_memory_equal(out + 8, last, sizeof last);
    assert_float_equal(out[AGE], 1, 1e-6); /* counted back from the horizon */
    moe_job_destroy(job);
}

static void
means_are_shrunk_towards_the_prior(void **state)
{
    moe_job *job = start_job(1);
    moe_history *history = create(job, &some, 1);
    static const double half_life[] = {2, 6, 20};
    double labels[] = {4, 2, 1};
    float out[SINGLE];
    at(history, 7, 30, 30, out);
    for (int m = 0; m < 3; m++)
    {
        double sum = prior[0], weight = 1;
        for (int i = 0; i < 3; i++)
        {
            sum += exp2(-i / half_life[m]) * labels[i];
            weight += exp2(-i / half_life[m]);
        }
        assert_float_equal(out[MEANS + m], sum / weight, 1e-6);
    }
    assert_float_equal(out[PLAIN], (7 + 3) / 4.0, 1e-6);
    moe_job_destroy(job);
}

static void
an_unknown_row_has_the_prior(void **state)
{
    moe_job *job = start_job(1);
    moe_history *history = create(job, &some, 1);
    int32_t unknown[] = {-1, 0, 5, 1000000};
    float out[SINGLE];
    for (int r = 0; r < 4; r++)
    {
        at(history, unknown[r], 30, 30, out);
        for (int c = 0; c <= AGE; c++)
            assert_true(isnan(out[c]));
        assert_true(out[COUNT] == 0);
        for (int m = MEANS; m < SINGLE; m++)
            assert_float_equal(out[m], 3, 1e-6);
    }
    moe_job_destroy(job);
}

static void
before_the_first_label_there_is_the_prior_alone(void **state)
{
    moe_job *job = start_job(1);
    moe_history *history = create(job, &some, 1);
    moe_past_labels none = {0};
    moe_history *empty = create(job, &none, 1);
    float out[2][SINGLE];
    at(history, 7, 9, 9, out[0]);
    at(empty, 7, 9, 9, out[1]);
    for (int h = 0; h < 2; h++)
        for (int c = 0; c < SINGLE; c++)
            assert_true(c == COUNT ? out[h][c] == 0 : c >= MEANS ? out[h][c] == 3 : isnan(out[h][c]));
    moe_job_destroy(job);
}

static void
classes_are_series_of_indicators(void **state)
{
    moe_job *job = start_job(1);
    float classes[] = {2, 0, 1, 2, 2, 0};
    moe_past_labels labels = {6, rows, times, classes};
    moe_history *history = create(job, &labels, 3);
    float out[2 + 3 * 5];
    assert_int_equal(moe_history_columns(3), 17);
    assert_int_equal(moe_history_columns(100), 42);
    assert_int_equal(moe_history_series(100), MOE_HISTORY_CLASSES);
    at(history, 7, 30, 30, out); /* known: 2 at 0, 2 at 5 (of another row), 1 at 10, 0 at 12 */
    float last[] = {1, 0, 0};
    for (int k = 0; k < 3; k++)
    {
        assert_true(out[2 + 5 * k] == last[k]);
        assert_float_equal(out[2 + 5 * k + 4], (1 + prior[k]) / 4, 1e-6);
    }
    moe_job_destroy(job);
}

static void
of_two_labels_at_one_moment_the_first_counts_and_nan_is_none(void **state)
{
    moe_job *job = start_job(1);
    int32_t row[] = {1, 1, 1};
    int64_t time[] = {5, 5, 6};
    float label[] = {3, 9, NAN}, out[SINGLE];
    moe_past_labels labels = {3, row, time, label};
    at(create(job, &labels, 1), 1, 100, 100, out);
    assert_true(out[8] == 3 && isnan(out[9]) && out[PLAIN] == 3);
    moe_job_destroy(job);
}

/* Many labels of few rows, with equal times; those later than `until` are other ones, and more or fewer. */
static moe_past_labels
many_labels(moe_job *job, int64_t n, int64_t until, uint64_t key, int classes)
{
    int32_t *row = moe_alloc(job, 2 * n, sizeof *row);
    int64_t *time = moe_alloc(job, 2 * n, sizeof *time);
    float *label = moe_alloc(job, 2 * n, sizeof *label);
    int64_t kept = 0;
    for (int64_t i = 0; i < 2 * n; i++)
    {
        int64_t when = (int64_t) (moe_random_bits(2, i) % 1000);
        uint64_t own = i < n ? 1 : key;
        if ((when > until && own == 1 && key != 1) || (when <= until && i >= n))
            continue;
        row[kept] = (int32_t) (moe_random_bits(own, 3 * i) % 40);
        time[kept] = when;
        label[kept++] = classes > 1 ? (float) (moe_random_bits(own, 3 * i + 1) % classes)
                                    : (float) moe_random_normal(own + 7, i) * 1e3f;
    }
    return (moe_past_labels){kept, row, time, label};
}

static void
no_label_later_than_the_horizon_changes_a_bit(void **state)
{
    int classes[] = {1, 3, 12};
    for (int c = 0; c < 3; c++)
        for (int64_t horizon = 100; horizon < 1000; horizon += 123)
        {
            moe_job *job = start_job(2);
            moe_past_labels labels[3];
            float out[3][100];
            for (int v = 0; v < 3; v++)
                labels[v] = many_labels(job, 3000, horizon - WINDOW, 1 + v, classes[c]);
            for (int32_t row = 0; row < 40; row += 13)
                for (int v = 0; v < 3; v++)
                {
                    moe_history *history = create(job, &labels[v], classes[c]);
                    at(history, row, horizon + 7, horizon, out[v]);
                    moe_history_destroy(history);
                    assert_memory_equal(out[v], out[0], moe_history_columns(classes[c]) * sizeof(float));
                }
            moe_job_destroy(job);
        }
}

/* Plainly, by looking at every label for every seed. */
static void
check_plainly(const moe_past_labels *l, int32_t row, int64_t horizon, const float *out)
{
    double own = 0, own_n = 0, lag[8];
    int64_t best[8];
    for (int j = 0; j < 8; j++)
    {
        lag[j] = NAN;
        best[j] = INT64_MIN;
    }
    for (int64_t i = 0; i < l->n; i++)
    {
        bool repeated = false;
        for (int64_t before = 0; before < i && !repeated; before++)
            repeated = l->row[before] == l->row[i] && l->time[before] == l->time[i];
        if (repeated || l->time[i] + WINDOW > horizon || l->time[i] <= horizon - (MOE_HISTORY_REACH + 1) * WINDOW)
            continue;
        if (l->row[i] != row)
            continue;
        own += l->label[i];
        own_n++;
        for (int j = 0; j < 8; j++)
            if (l->time[i] > horizon - (j + 2) * WINDOW && l->time[i] <= horizon - (j + 1) * WINDOW &&
                l->time[i] > best[j])
            {
                best[j] = l->time[i];
                lag[j] = l->label[i];
            }
    }
    for (int j = 0; j < 8; j++)
        assert_true(isnan(lag[j]) ? isnan(out[j]) : out[j] == (float) lag[j]);
    assert_float_equal(out[COUNT], log1p(own_n), 1e-5);
    assert_float_equal(out[PLAIN], (own + prior[0]) / (own_n + 1), 1e-2);
}

static void
columns_equal_what_a_plain_search_finds(void **state)
{
    moe_job *job = start_job(2);
    moe_past_labels labels = many_labels(job, 800, 1000, 1, 1);
    moe_history *history = create(job, &labels, 1);
    float out[SINGLE];
    for (int64_t horizon = 100; horizon < 1100; horizon += 171)
        for (int32_t row = 0; row < 40; row += 7)
        {
            at(history, row, horizon, horizon, out);
            check_plainly(&labels, row, horizon, out);
        }
    moe_job_destroy(job);
}

static void
any_number_of_threads_gives_the_same_bits(void **state)
{
    enum
    {
        SEEDS = 2000
    };
    static float out[3][SEEDS * 32];
    static int32_t row[SEEDS];
    static int64_t time[SEEDS];
    int threads[] = {1, 2, 7};
    for (int i = 0; i < SEEDS; i++)
    {
        row[i] = (int32_t) (moe_random_bits(8, i) % 45);
        time[i] = (int64_t) (moe_random_bits(9, i) % 1100);
    }
    for (int t = 0; t < 3; t++)
    {
        moe_job *job = start_job(threads[t]);
        moe_past_labels labels = many_labels(job, 150000, 1000, 1, 3);
        moe_moments moments = {SEEDS, row, time, NULL};
        assert_int_equal(moe_history_compute(create(job, &labels, 3), &moments, out[t]), MOE_OK);
        assert_memory_equal(out[t], out[0], sizeof out[t]);
        moe_job_destroy(job);
    }
}

static void
times_and_windows_at_the_ends_do_not_overflow(void **state)
{
    moe_job *job = start_job(1);
    int32_t row[] = {1, 1, 2};
    int64_t time[] = {INT64_MIN, INT64_MAX, 0}, moments[] = {INT64_MIN, 0, INT64_MAX};
    float label[] = {FLT_MAX, FLT_MAX, -FLT_MAX}, out[SINGLE];
    moe_past_labels labels = {3, row, time, label};
    moe_history *history;
    assert_int_equal(moe_history_create(job, &labels, INT64_MAX, 1, prior, &history), MOE_OK);
    for (int i = 0; i < 3; i++)
        for (int j = i; j < 3; j++)
        {
            at(history, 1, moments[j], moments[i], out);
            for (int c = MEANS; c < SINGLE; c++)
                assert_true(isnan(out[c]) || isfinite(out[c]));
        }
    moe_job_destroy(job);
}

static void
every_column_has_a_name_of_its_own(void **state)
{
    int classes[] = {1, 3, 12};
    for (int c = 0; c < 3; c++)
    {
        char name[100][80];
        int columns = moe_history_columns(classes[c]);
        for (int i = 0; i < columns; i++)
        {
            moe_history_name(classes[c], i, name[i], sizeof name[i]);
            for (int j = 0; j < i; j++)
                assert_string_not_equal(name[i], name[j]);
        }
    }
    char name[32];
    moe_history_name(1, 1, name, sizeof name);
    assert_string_equal(name, "label 2 windows ago");
    moe_history_name(1, 1, name, 8);
    assert_string_equal(name, "label 2");
}

static void
the_prior_is_the_mean_label_or_each_classs_share(void **state)
{
    float label[] = {2, 0, NAN, 2, 1}, out[MOE_HISTORY_CLASSES];
    moe_history_prior(1, 5, label, out);
    assert_float_equal(out[0], 1.25, 1e-6);
    moe_history_prior(3, 5, label, out);
    assert_true(out[0] == 0.25f && out[1] == 0.25f && out[2] == 0.5f);
    moe_history_prior(1, 0, NULL, out);
    assert_true(out[0] == 0);
}

static void
the_labels_of_other_rows_change_no_bit(void **state)
{
    moe_job *job = start_job(2);
    moe_past_labels all = many_labels(job, 3000, 1000, 1, 1), own = {0};
    float out[2][SINGLE];
    own = (moe_past_labels){0, moe_alloc(job, all.n, sizeof(int32_t)), moe_alloc(job, all.n, sizeof(int64_t)),
                            moe_alloc(job, all.n, sizeof(float))};
    for (int64_t i = 0; i < all.n; i++)
        if (all.row[i] == 7)
        {
            ((int32_t *) own.row)[own.n] = 7;
            ((int64_t *) own.time)[own.n] = all.time[i];
            ((float *) own.label)[own.n++] = all.label[i];
        }
    assert_true(own.n > 10);
    at(create(job, &all, 1), 7, 900, 900, out[0]);
    at(create(job, &own, 1), 7, 900, 900, out[1]);
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    moe_job_destroy(job);
}

static void
nonsense_is_refused(void **state)
{
    int32_t row[] = {0};
    int64_t time[] = {0};
    float wrong[] = {3, -1, 0.5f, INFINITY};
    for (int i = 0; i < 4; i++)
    {
        moe_job *job = start_job(1);
        moe_past_labels labels = {1, row, time, &wrong[i]};
        moe_history *history;
        assert_int_equal(moe_history_create(job, &labels, 1, 3, prior, &history), MOE_INVALID);
        assert_null(history);
        moe_job_destroy(job);
    }
    moe_job *job = start_job(1);
    moe_history *history;
    assert_int_equal(moe_history_create(job, &some, 0, 1, prior, &history), MOE_INVALID);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_label_is_known_once_its_window_has_closed),
        cmocka_unit_test(lags_are_calendar_windows_and_hold_the_latest_label),
        cmocka_unit_test(means_are_shrunk_towards_the_prior),
        cmocka_unit_test(an_unknown_row_has_the_prior),
        cmocka_unit_test(before_the_first_label_there_is_the_prior_alone),
        cmocka_unit_test(classes_are_series_of_indicators),
        cmocka_unit_test(of_two_labels_at_one_moment_the_first_counts_and_nan_is_none),
        cmocka_unit_test(no_label_later_than_the_horizon_changes_a_bit),
        cmocka_unit_test(columns_equal_what_a_plain_search_finds),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(times_and_windows_at_the_ends_do_not_overflow),
        cmocka_unit_test(every_column_has_a_name_of_its_own),
        cmocka_unit_test(the_prior_is_the_mean_label_or_each_classs_share),
        cmocka_unit_test(the_labels_of_other_rows_change_no_bit),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

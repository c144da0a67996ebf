/*
 * test_level.c: what everyone's labels were of late, against plain sums, and what may not be seen.
 */
#include "test/unit/core.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "embed/level.h"
#include "kernels/random.h"

#define WINDOW 10
#define LABELS 300
#define SEEDS  200
#define MOST   (MOE_HISTORY_CLASSES * 5)

static const int spans[] = {1, 3, 12, 24, 40};

typedef struct world
{
    int32_t row[LABELS];
    int64_t time[LABELS];
    float label[LABELS];
    int32_t seed[SEEDS];
    int64_t at[SEEDS], horizon[SEEDS];
} world;

static void
make_world(world *w, uint64_t key, int classes)
{
    for (int i = 0; i < LABELS; i++)
    {
        uint64_t draw = moe_random_bits(key, (uint64_t) i);

        w->row[i] = (int32_t) (draw % 7);
        w->time[i] = (int64_t) (draw >> 8) % 500;
        w->label[i] = draw % 11 == 0 ? NAN
                      : classes > 1  ? (float) ((draw >> 40) % (uint64_t) classes)
                                     : (float) (draw >> 40) / 999.0f;
    }
    for (int i = 0; i < SEEDS; i++)
    {
        w->seed[i] = i % 6;
        w->at[i] = (int64_t) (moe_random_bits(key + 1, (uint64_t) i) % 600);
        w->horizon[i] = w->at[i] - i % 3 * 20;
    }
}

/* The same by plain sums. */
static double
mean_of(const world *w, int classes, int column, int64_t horizon)
{
    int64_t newest = INT64_MIN;
    double sum = 0, n = 0;

    for (int i = 0; i < LABELS; i++)
        if (!isnan(w->label[i]) && w->time[i] <= horizon - WINDOW && w->time[i] > newest)
            newest = w->time[i];
    for (int i = 0; i < LABELS; i++)
    {
        if (isnan(w->label[i]) || w->time[i] > newest || w->time[i] <= newest - spans[column % 5] * WINDOW)
            continue;
        sum += classes > 1 ? w->label[i] == (float) (column / 5) : w->label[i];
        n++;
    }
    return n > 0 ? sum / n : NAN;
}

static float *
compute(moe_job *job, const world *w, int classes, moe_level **level)
{
    moe_past_labels labels = {LABELS, w->row, w->time, w->label};
    moe_moments moments = {SEEDS, w->seed, w->at, w->horizon};
    float *out = moe_alloc(job, SEEDS * moe_level_columns(classes), sizeof *out);

    assert_non_null(out);
    assert_int_equal(moe_level_create(job, &labels, WINDOW, classes, level), MOE_OK);
    assert_int_equal(moe_level_compute(*level, &moments, out), MOE_OK);
    return out;
}

static void
means_are_those_of_plain_sums(void **state)
{
    for (int classes = 1; classes <= 20; classes += 1 + classes)
    {
        moe_job *job = start_job(2);
        world *w = moe_alloc(job, 1, sizeof *w);
        moe_level *level;
        int columns = moe_level_columns(classes);
        float *out;

        make_world(w, (uint64_t) classes, classes);
        out = compute(job, w, classes, &level);
        for (int i = 0; i < SEEDS; i++)
            for (int c = 0; c < columns; c++)
            {
                double expected = mean_of(w, classes, c, w->horizon[i]);
                float got = out[i * columns + c];

                assert_int_equal(isnan(got), isnan(expected));
                if (!isnan(expected))
                    assert_float_equal(got, expected, 1e-4 * (1 + fabs(expected)));
            }
        moe_level_destroy(level);
        moe_job_destroy(job);
    }
}

static void
labels_that_are_not_known_and_rows_change_no_bit(void **state)
{
    for (uint64_t key = 0; key < 20; key++)
    {
        moe_job *job = start_job(1 + (int) key % 3);
        world *w = moe_alloc(job, 1, sizeof *w), *other = moe_alloc(job, 1, sizeof *other);
        moe_level *level;
        float *expected, *got;

        make_world(w, key, 1);
        for (int i = 0; i < SEEDS; i++)
            w->horizon[i] = w->horizon[i] > 250 ? 250 : w->horizon[i];
        expected = compute(job, w, 1, &level);
        moe_level_destroy(level);
        *other = *w;
        for (int i = 0; i < LABELS; i++)
        {
            other->row[i] = 6 - w->row[i];
            if (w->time[i] + WINDOW > 250)
                other->label[i] = i % 2 ? NAN : 1e30f;
        }
        got = compute(job, other, 1, &level);
        assert_memory_equal(got, expected, SEEDS * moe_level_columns(1) * sizeof *got);
        moe_level_destroy(level);
        moe_job_destroy(job);
    }
}

static void
what_is_stored_says_the_same_and_damage_is_refused(void **state)
{
    for (int classes = 1; classes <= 4; classes += 3)
    {
        moe_job *job = start_job(1);
        world *w = moe_alloc(job, 1, sizeof *w);
        moe_moments moments = {SEEDS, w->seed, w->at, w->horizon};
        int64_t size = SEEDS * moe_level_columns(classes) * (int64_t) sizeof(float);
        moe_level *level, *again;
        moe_buffer buffer;
        moe_reader reader;
        float *expected, *got;

        make_world(w, 9, classes);
        expected = compute(job, w, classes, &level);
        moe_buffer_init(&buffer, job);
        moe_level_write(level, &buffer);
        moe_reader_init(&reader, job, buffer.data, buffer.length);
        assert_int_equal(moe_level_read(job, &reader, WINDOW, classes, &again), MOE_OK);
        assert_int_equal(reader.position, buffer.length);
        got = moe_alloc(job, size, 1);
        assert_int_equal(moe_level_compute(again, &moments, got), MOE_OK);
        assert_memory_equal(got, expected, size);
        moe_level_destroy(again);
        /* The second moment before the first. */
        memset(buffer.data + 8 + 16 + 16 * moe_history_series(classes), 0x80, 8);
        moe_reader_init(&reader, job, buffer.data, buffer.length);
        assert_int_equal(moe_level_read(job, &reader, WINDOW, classes, &again), MOE_CORRUPT);
        assert_null(again);
        moe_job_destroy(job);
    }
}

static void
a_huge_label_of_long_ago_takes_nothing_from_later_ones(void **state)
{
    moe_job *job = start_job(1);
    int32_t row[4] = {0}, seed = 0;
    int64_t time[] = {0, 1000, 1001, 1002}, at = 1020;
    float label[] = {1e18f, 3, 5, 7}, out[MOST];
    moe_past_labels labels = {4, row, time, label};
    moe_moments moments = {1, &seed, &at, NULL};
    moe_level *level;

    assert_int_equal(moe_level_create(job, &labels, WINDOW, 1, &level), MOE_OK);
    assert_int_equal(moe_level_compute(level, &moments, out), MOE_OK);
    assert_float_equal(out[0], 5, 0);
    moe_job_destroy(job);
}

static void
without_labels_there_is_no_level(void **state)
{
    moe_job *job = start_job(1);
    moe_past_labels none = {0};
    int32_t row = 0;
    int64_t time = 100;
    moe_moments moments = {1, &row, &time, NULL};
    moe_level *level;
    float out[MOST];

    assert_int_equal(moe_level_create(job, &none, WINDOW, 3, &level), MOE_OK);
    assert_int_equal(moe_level_compute(level, &moments, out), MOE_OK);
    for (int c = 0; c < moe_level_columns(3); c++)
        assert_true(isnan(out[c]));
    moe_job_destroy(job);
}

static void
columns_have_names_for_people(void **state)
{
    char name[80];

    moe_level_name(1, 0, name, sizeof name);
    assert_string_equal(name, "everyone's mean label, last window");
    moe_level_name(3, 6, name, sizeof name);
    assert_string_equal(name, "everyone's share of class 1, last 3 windows");
    assert_int_equal(moe_level_columns(1), 5);
    assert_int_equal(moe_level_columns(100), MOST);
}

static void
what_makes_no_sense_is_an_error(void **state)
{
    int32_t row = 0;
    int64_t time = 0;
    const float bad[] = {INFINITY, 3, -1, 0.5f};

    for (int i = 0; i < 4; i++)
    {
        moe_job *job = start_job(1);
        moe_past_labels labels = {1, &row, &time, &bad[i]};
        moe_level *level;

        assert_int_equal(moe_level_create(job, &labels, WINDOW, 3, &level), MOE_INVALID);
        assert_null(level);
        moe_job_destroy(job);
    }
    moe_job *job = start_job(1);
    moe_level *level;
    assert_int_equal(moe_level_create(job, &(moe_past_labels){0}, 0, 1, &level), MOE_INVALID);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_are_those_of_plain_sums),
        cmocka_unit_test(labels_that_are_not_known_and_rows_change_no_bit),
        cmocka_unit_test(what_is_stored_says_the_same_and_damage_is_refused),
        cmocka_unit_test(a_huge_label_of_long_ago_takes_nothing_from_later_ones),
        cmocka_unit_test(without_labels_there_is_no_level),
        cmocka_unit_test(columns_have_names_for_people),
        cmocka_unit_test(what_makes_no_sense_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

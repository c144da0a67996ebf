/*
 * Which aggregates there are, what later rows change of that (nothing), and how a plan is stored.
 *
 * Linked with: test/unit/aggregates/world.c
 */
#include "test/unit/core.h"

#include <math.h>
#include <string.h>

#include "test/unit/aggregates/plans.h"

/* Late values of rows in the fit are blanked as of the fit, as its caller does it. */
static void
blank_unknown(moe_job *job, moe_relational *db, int64_t horizon)
{
    for (int t = 0; t < db->n_tables; t++)
        for (int c = 0; c < db->tables[t].n_columns; c++)
        {
            moe_column *column = (moe_column *) &db->tables[t].columns[c];
            uint8_t *null;

            if (column->hidden_bit < 0)
                continue;
            null = moe_alloc(job, db->tables[t].n_rows, 1);
            for (int64_t row = 0; row < db->tables[t].n_rows; row++)
                null[row] =
                    db->times[t].known_at[column->hidden_bit][row] > horizon || (column->null && column->null[row]);
            column->null = null;
        }
}

static void
a_later_row_changes_no_plan(void **state)
{
    for (uint64_t key = 0; key < WORLDS; key++)
    {
        moe_job *job = start_job(1);
        moe_buffer bytes[2];

        for (int i = 0; i < 2; i++)
        {
            moe_relational *db = make_world(job, key, HORIZON, i == 0 ? FUTURE_GONE : FUTURE_DIFFERENT);
            int64_t fit_rows[TABLES];

            blank_unknown(job, db, HORIZON);
            world_visible(db, HORIZON, fit_rows);
            moe_buffer_init(&bytes[i], job);
            moe_aggregates_write(fit(job, db, fit_rows, 0, ALL), &bytes[i]);
        }
        assert_int_equal(bytes[0].length, bytes[1].length);
        assert_memory_equal(bytes[0].data, bytes[1].data, (size_t) bytes[0].length);
        moe_job_destroy(job);
    }
}

static void
fewer_columns_are_a_part_of_all_in_the_order_of_families(void **state)
{
    for (uint64_t key = 0; key < WORLDS / 4; key++)
    {
        moe_job *job = start_job(1);
        moe_relational *db = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
        moe_moments moments = make_moments(job, db, 0, SEEDS, key, WORLD_END);
        moe_aggregates *a;
        float *all = fit_and_compute(job, db, &moments, &a);
        int n = moe_aggregates_columns(a);
        int64_t fit_rows[TABLES];

        world_visible(db, HORIZON, fit_rows);
        for (int most = 0; most < n + 10; most = most < 5 ? most + 1 : 2 * most)
        {
            moe_aggregates *b = fit(job, db, fit_rows, 5 * WORLD_DAY, most);
            int m = moe_aggregates_columns(b);
            float *some;

            assert_int_equal(m, most < n ? most : n);
            assert_int_equal(moe_aggregates_bind(b, db), MOE_OK);
            some = compute(job, b, &moments, NULL);
            for (int c = 0, in_all = 0; c < m; c++, in_all++)
            {
                while (strcmp(moe_aggregates_name(a, in_all), moe_aggregates_name(b, c)) != 0)
                    assert_true(++in_all < n);
                assert_true(c == 0 || moe_aggregates_family_of(b, c - 1) <= moe_aggregates_family_of(b, c));
                assert_int_equal(moe_aggregates_table(a, in_all), moe_aggregates_table(b, c));
                assert_int_equal(moe_aggregates_source(a, in_all), moe_aggregates_source(b, c));
                for (int64_t i = 0; i < moments.n; i++)
                    assert_memory_equal(&some[i * m + c], &all[i * n + in_all], sizeof(float));
            }
        }
        moe_job_destroy(job);
    }
}

static void
no_table_starves_where_columns_are_few(void **state)
{
    for (uint64_t key = 0; key < WORLDS; key++)
    {
        moe_job *job = start_job(1);
        moe_relational *db = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
        int64_t fit_rows[TABLES];
        moe_aggregates *a;
        bool told[TABLES] = {0};

        world_visible(db, HORIZON, fit_rows);
        a = fit(job, db, fit_rows, 0, 250);
        for (int c = 0; c < moe_aggregates_columns(a); c++)
            if (moe_aggregates_family_of(a, c) == MOE_FAMILY_CHILDREN)
                told[moe_aggregates_table(a, c)] = true;
        for (int k = 0; k < db->n_relations; k++)
            if (db->relations[k].parent == 0 && fit_rows[db->relations[k].child] > 0)
                assert_true(told[db->relations[k].child]);
        moe_job_destroy(job);
    }
}

static void
a_stored_plan_computes_the_same(void **state)
{
    for (uint64_t key = 0; key < WORLDS / 4; key++)
    {
        moe_job *job = start_job(1);
        moe_relational *db = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
        moe_moments moments = make_moments(job, db, 0, SEEDS, key, WORLD_END);
        moe_aggregates *a, *b;
        float *expected = fit_and_compute(job, db, &moments, &a);
        int n = moe_aggregates_columns(a);
        moe_buffer buffer, again;
        moe_reader reader;

        moe_buffer_init(&buffer, job);
        moe_buffer_init(&again, job);
        moe_aggregates_write(a, &buffer);
        moe_aggregates_destroy(a);
        moe_reader_init(&reader, job, buffer.data, buffer.length);
        assert_int_equal(moe_aggregates_read(job, &reader, &b), MOE_OK);
        assert_int_equal(reader.position, buffer.length);
        moe_aggregates_write(b, &again);
        assert_int_equal(again.length, buffer.length);
        assert_memory_equal(again.data, buffer.data, (size_t) buffer.length);
        assert_int_equal(moe_aggregates_columns(b), n);
        assert_int_equal(moe_aggregates_bind(b, db), MOE_OK);
        assert_memory_equal(compute(job, b, &moments, NULL), expected, (size_t) (moments.n * n) * sizeof(float));
        moe_job_destroy(job);
    }
}

/* Read bytes with a job of their own; where they are a plan, use it. */
static moe_code
try_bytes(const uint8_t *data, int64_t length)
{
    moe_job_config config = {.threads = 1, .memory_limit = 64 << 20};
    moe_reader reader;
    moe_aggregates *a;
    moe_job *job;
    moe_code code;

    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    moe_reader_init(&reader, job, data, length);
    code = moe_aggregates_read(job, &reader, &a);
    assert_int_equal(code == MOE_OK, a != NULL);
    for (int c = 0; a && c < moe_aggregates_columns(a); c++)
        assert_true(strlen(moe_aggregates_name(a, c)) > 0);
    if (a)
    {
        moe_relational *db = make_world(job, 3, HORIZON, FUTURE_AS_IT_CAME);
        moe_moments moments = make_moments(job, db, 0, 3, 3, WORLD_END);

        if (moe_aggregates_bind(a, db) == MOE_OK)
        {
            float *out = moe_alloc(job, moments.n * moe_aggregates_columns(a) + 1, sizeof(*out));

            if (out)
                moe_aggregates_compute(a, &moments, NULL, out);
        }
        moe_aggregates_destroy(a);
    }
    moe_job_destroy(job);
    return code;
}

static void
damaged_bytes_are_refused_or_harmless(void **state)
{
    moe_job *job = start_job(1);
    moe_relational *db = make_world(job, 3, HORIZON, FUTURE_AS_IT_CAME);
    int64_t fit_rows[TABLES];
    moe_buffer buffer;

    world_visible(db, HORIZON, fit_rows);
    moe_buffer_init(&buffer, job);
    moe_aggregates_write(fit(job, db, fit_rows, 0, 200), &buffer);
    assert_int_equal(try_bytes(buffer.data, buffer.length), MOE_OK);
    for (int64_t length = 0; length < buffer.length; length++)
        assert_int_equal(try_bytes(buffer.data, length), MOE_CORRUPT);
    for (int64_t at = 0; at < buffer.length; at++)
        for (int bit = 0; bit < 8; bit += 3)
        {
            buffer.data[at] ^= (uint8_t) (1 << bit);
            try_bytes(buffer.data, buffer.length);
            buffer.data[at] ^= (uint8_t) (1 << bit);
        }
    moe_job_destroy(job);
}

static void
tables_that_changed_are_refused(void **state)
{
    for (int change = 0; change < 5; change++)
    {
        moe_job *job = start_job(1);
        double values[] = {1, 2, 3};
        int64_t time[] = {1, 2, 3};
        small_world w;
        moe_aggregates *a;

        make_small_world(job, &w, 3, values, time);
        a = fit(job, &w.db, w.fit_rows, 0, ALL);
        assert_int_equal(moe_aggregates_bind(a, &w.db), MOE_OK);
        if (change == 0)
            w.column.storage = MOE_STORE_BOOL;
        else if (change == 1)
            w.tables[1].n_columns = 0;
        else if (change == 2)
            w.times[1].time = NULL;
        else if (change == 3)
            w.relation.parent = 1;
        else
            w.db.n_relations = 0;
        assert_int_equal(moe_aggregates_bind(a, &w.db), MOE_INVALID);
        moe_job_destroy(job);
    }
}

static void
nonsense_is_refused(void **state)
{
    for (int nonsense = 0; nonsense < 5; nonsense++)
    {
        moe_job *job = start_job(1);
        double values[] = {1, 2, 3};
        int64_t time[] = {1, 2, 3}, late[] = {4};
        int32_t row[] = {nonsense == 3};
        moe_moments moments = {1, row, time, nonsense == 4 ? late : NULL};
        small_world w;
        moe_aggregates *a;
        float out[100];

        make_small_world(job, &w, 3, values, time);
        w.fit_rows[1] += nonsense == 0;
        moe_aggregates_fit(job, &w.db, nonsense == 1 ? 2 : 0, w.fit_rows, 0, 100, &a);
        assert_int_equal(a == NULL, nonsense < 2);
        if (a && nonsense != 2)
            moe_aggregates_bind(a, &w.db);
        if (a)
            assert_int_equal(moe_aggregates_compute(a, &moments, NULL, out), MOE_INVALID);
        assert_int_equal(moe_job_code(job), MOE_INVALID);
        moe_job_destroy(job);
    }
}

static void
a_day_stands_in_for_no_window(void **state)
{
    moe_job *job = start_job(1);
    double values[] = {1, 2, 3};
    int64_t time[] = {1, 2, 3};
    small_world w;
    moe_aggregates *a;

    make_small_world(job, &w, 3, values, time);
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_true(find_column(a, "count of children over 24 hours") >= 0);
    assert_true(find_column(a, "count of children over 3 days") >= 0);
    assert_true(find_column(a, "mean of children.x over 12 days") >= 0);
    moe_job_destroy(job);
}

static int
count_codes(const moe_aggregates *a)
{
    int codes = 0;

    for (int c = 0; c < moe_aggregates_columns(a); c++)
        codes += strncmp(moe_aggregates_name(a, c), "mean of children.x = ", 21) == 0 &&
                 strstr(moe_aggregates_name(a, c), "over") == NULL;
    return codes;
}

/* Nine values, of 1 in 2, 1 in 5, 1 in 10, 1 in 15, and rarer ones, the last rarer than 1 in 100. */
static void
codes_are_frequent_values(void **state)
{
    static const int until[] = {150, 210, 240, 260, 270, 280, 290, 298, 300};
    moe_job *job = start_job(1);
    double values[300];
    int64_t time[300];
    small_world w;
    moe_aggregates *a;

    for (int i = 0, code = 0; i < 300; i++)
    {
        code += i == until[code];
        values[i] = 10 * code;
        time[i] = i;
    }
    make_small_world(job, &w, 300, values, time);
    w.column.integral = true;
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_int_equal(count_codes(a), 4);
    assert_true(find_column(a, "mean of children.x = 30") >= 0);
    assert_int_equal(find_column(a, "mean of children.x = 40"), -1);
    w.column.encoding = MOE_ENCODE_CATEGORY;
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_int_equal(count_codes(a), 6);
    assert_true(find_column(a, "mean of children.x = 50") >= 0);
    assert_int_equal(find_column(a, "mean of children.x = 60"), -1);
    w.column.encoding = MOE_ENCODE_AUTO;
    w.fit_rows[1] = 240; /* three values, none rare */
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_true(find_column(a, "mean of children.x = 20") >= 0);
    assert_int_equal(find_column(a, "mean of children.x = 30"), -1);
    moe_job_destroy(job);
}

/* One value in 20 is a code, however many others there are; one in 21 is none. */
static void
rare_integers_are_no_codes(void **state)
{
    moe_job *job = start_job(1);
    double values[300];
    int64_t time[300];
    small_world w;
    moe_aggregates *a;

    for (int i = 0; i < 300; i++)
    {
        values[i] = i < 285 ? i : 1000;
        time[i] = i;
    }
    make_small_world(job, &w, 300, values, time);
    w.column.integral = true;
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_true(find_column(a, "mean of children.x = 1000") >= 0);
    values[299] = 299;
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_int_equal(find_column(a, "mean of children.x = 1000"), -1);
    moe_job_destroy(job);
}

static void
what_does_not_vary_in_the_fit_rows_is_left_out(void **state)
{
    moe_job *job = start_job(1);
    double values[] = {5, 5, 5, 6};
    int64_t time[] = {1, 2, 3, 4};
    small_world w;

    make_small_world(job, &w, 4, values, time);
    assert_true(find_column(fit(job, &w.db, w.fit_rows, 0, ALL), "mean of children.x") >= 0);
    w.fit_rows[1] = 3;
    assert_int_equal(find_column(fit(job, &w.db, w.fit_rows, 0, ALL), "mean of children.x"), -1);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_later_row_changes_no_plan),
        cmocka_unit_test(fewer_columns_are_a_part_of_all_in_the_order_of_families),
        cmocka_unit_test(no_table_starves_where_columns_are_few),
        cmocka_unit_test(a_stored_plan_computes_the_same),
        cmocka_unit_test(damaged_bytes_are_refused_or_harmless),
        cmocka_unit_test(tables_that_changed_are_refused),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(a_day_stands_in_for_no_window),
        cmocka_unit_test(codes_are_frequent_values),
        cmocka_unit_test(rare_integers_are_no_codes),
        cmocka_unit_test(what_does_not_vary_in_the_fit_rows_is_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

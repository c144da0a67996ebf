/* Relational aggregates: what each column is, that nothing later than the horizon shows, and how plans are stored. */
#include "test/unit/core.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed/aggregates.h"
#include "test/unit/aggregates/naive.h"
#include "test/unit/aggregates/world.h"

#define WORLDS  60
#define SEEDS   24
#define HORIZON (50 * WORLD_DAY)
#define TABLES  8
#define ALL     INT16_MAX

static moe_aggregates *
fit(moe_job *job, const moe_relational *db, const int64_t *fit_rows, int64_t window, int max_columns)
{
    moe_aggregates *a = NULL;

    assert_int_equal(moe_aggregates_fit(job, db, 0, fit_rows, window, max_columns, &a), MOE_OK);
    return a;
}

static float *
compute(moe_job *job, moe_aggregates *a, const moe_moments *moments, const bool *disabled)
{
    float *out = moe_alloc(job, moments->n * moe_aggregates_columns(a) + 1, sizeof(*out));

    assert_non_null(out);
    assert_int_equal(moe_aggregates_compute(a, moments, disabled, out), MOE_OK);
    return out;
}

/* Fitted to what is visible at HORIZON, computed over all. */
static float *
fit_and_compute(moe_job *job, const moe_relational *db, const moe_moments *moments, moe_aggregates **a)
{
    int64_t fit_rows[TABLES];

    world_visible(db, HORIZON, fit_rows);
    *a = fit(job, db, fit_rows, 5 * WORLD_DAY, ALL);
    assert_int_equal(moe_aggregates_bind(*a, db), MOE_OK);
    return compute(job, *a, moments, NULL);
}

static bool
is_near(double a, double b)
{
    return isnan(a) || isnan(b) ? isnan(a) && isnan(b) : fabs(a - b) <= 1e-5 * (1 + fabs(a) + fabs(b));
}

typedef struct named
{
    const char *name;
    int column;
} named;

static int
compare_names(const void *a, const void *b)
{
    return strcmp(((const named *) a)->name, ((const named *) b)->name);
}

/* Place of each of the plain columns among the plan's; the sets must be equal, and no name occur twice. */
static int *
match_names(moe_job *job, const moe_aggregates *a, const naive *nv)
{
    int n = moe_aggregates_columns(a);
    named *names = moe_alloc(job, n, sizeof(*names));
    int *place = moe_alloc(job, n, sizeof(*place));

    for (int c = 0; c < n; c++)
        names[c] = (named){moe_aggregates_name(a, c), c};
    qsort(names, (size_t) n, sizeof(*names), compare_names);
    for (int c = 1; c < n; c++)
        assert_string_not_equal(names[c - 1].name, names[c].name);
    for (int c = 0; c < naive_columns(nv); c++)
    {
        named wanted = {naive_name(nv, c), 0};
        named *found = bsearch(&wanted, names, (size_t) n, sizeof(*names), compare_names);

        if (!found)
            fail_msg("no column is called \"%s\"", wanted.name);
        place[c] = found->column;
    }
    assert_int_equal(naive_columns(nv), n);
    return place;
}

static void
check_world(uint64_t key, int64_t window, int64_t latest)
{
    moe_job *job = start_job(2);
    moe_relational *db = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
    moe_moments moments = make_moments(job, db, 0, SEEDS, key, latest);
    int64_t fit_rows[TABLES];
    moe_aggregates *a;
    naive *nv;
    float *out;
    int *place = NULL;

    world_visible(db, HORIZON, fit_rows);
    a = fit(job, db, fit_rows, window, ALL);
    nv = make_naive(job, db, db, 0, fit_rows, window);
    assert_int_equal(moe_aggregates_bind(a, db), MOE_OK);
    out = compute(job, a, &moments, NULL);
    for (int64_t i = 0; i < moments.n; i++)
    {
        const float *row = out + i * moe_aggregates_columns(a);

        naive_compute(nv, moments.row[i], moments.time[i], moments.horizon[i]);
        place = place ? place : match_names(job, a, nv);
        for (int c = 0; c < naive_columns(nv); c++)
            if (!is_near(row[place[c]], naive_value(nv, c)))
                fail_msg("world %d, seed %d: \"%s\" is %g, not %g", (int) key, (int) i, naive_name(nv, c),
                         row[place[c]], naive_value(nv, c));
    }
    moe_job_destroy(job);
}

static void
every_column_is_what_it_is_said_to_be(void **state)
{
    for (uint64_t key = 0; key < WORLDS; key++)
        check_world(key, (int64_t) (1 + key % 9) * WORLD_DAY / 3, WORLD_END);
}

static void
seeds_may_lie_anywhere_in_time(void **state)
{
    check_world(1000, WORLD_DAY, 3 * WORLD_DAY);
    check_world(1001, INT64_MAX / 2, WORLD_END);
    check_world(1002, 1, WORLD_END);
}

static void
nothing_after_the_horizon_changes_a_bit(void **state)
{
    for (uint64_t key = 0; key < WORLDS; key++)
    {
        moe_job *job = start_job(1);
        moe_relational *base = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
        moe_moments moments = make_moments(job, base, 0, SEEDS, key, HORIZON);
        moe_aggregates *a;
        float *expected = fit_and_compute(job, base, &moments, &a);

        for (future what = FUTURE_GONE; what <= FUTURE_DIFFERENT; what++)
        {
            moe_relational *db = make_world(job, key, HORIZON, what);
            int n = moe_aggregates_columns(a);

            /* The plan is of what was known then: fitted once. */
            assert_int_equal(moe_aggregates_bind(a, db), MOE_OK);
            assert_memory_equal(compute(job, a, &moments, NULL), expected, (size_t) (moments.n * n) * sizeof(float));
        }
        for (int64_t i = 0; i < moments.n; i++)
            assert_true(moments.horizon[i] <= HORIZON);
        moe_job_destroy(job);
    }
}

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
a_seed_alone_is_as_in_company(void **state)
{
    for (uint64_t key = 0; key < WORLDS / 4; key++)
    {
        moe_job *job = start_job(1);
        moe_relational *db = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
        moe_moments all = make_moments(job, db, 0, SEEDS, key, WORLD_END);
        moe_aggregates *a;
        float *expected = fit_and_compute(job, db, &all, &a);
        int n = moe_aggregates_columns(a);

        for (int64_t i = 0; i < all.n; i++)
        {
            moe_moments one = {1, all.row + i, all.time + i, all.horizon + i};

            assert_memory_equal(compute(job, a, &one, NULL), expected + i * n, (size_t) n * sizeof(float));
        }
        moe_job_destroy(job);
    }
}

static void
threads_change_no_bit(void **state)
{
    static const int threads[] = {1, 2, 7};

    for (uint64_t key = 0; key < WORLDS / 4; key++)
    {
        float *expected = NULL;
        moe_job *jobs[3];

        for (int i = 0; i < 3; i++)
        {
            moe_job *job = jobs[i] = start_job(threads[i]);
            moe_relational *db = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
            moe_moments moments = make_moments(job, db, 0, 3000, key, WORLD_END);
            moe_aggregates *a;
            float *out = fit_and_compute(job, db, &moments, &a);

            expected = expected ? expected : out;
            assert_memory_equal(out, expected, (size_t) (moments.n * moe_aggregates_columns(a)) * sizeof(float));
        }
        for (int i = 0; i < 3; i++)
            moe_job_destroy(jobs[i]);
    }
}

static void
columns_that_need_a_disabled_table_are_null(void **state)
{
    for (uint64_t key = 0; key < WORLDS / 4; key++)
    {
        moe_job *job = start_job(1);
        moe_relational *db = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
        moe_moments moments = make_moments(job, db, 0, SEEDS, key, WORLD_END);
        moe_aggregates *a;
        float *all = fit_and_compute(job, db, &moments, &a);
        int n = moe_aggregates_columns(a);

        for (int t = 0; t < db->n_tables; t++)
        {
            bool disabled[TABLES] = {0};
            float *out;

            disabled[t] = true;
            out = compute(job, a, &moments, disabled);
            for (int64_t i = 0; i < moments.n * n; i++)
                if (moe_aggregates_needs(a, (int) (i % n), t))
                    assert_true(isnan(out[i]));
                else
                    assert_memory_equal(&out[i], &all[i], sizeof(float));
        }
        moe_job_destroy(job);
    }
}

/* With a table's rows gone, what does not need them is the same. */
static void
what_needs_a_table_is_said(void **state)
{
    for (uint64_t key = 0; key < WORLDS; key++)
    {
        moe_job *job = start_job(1);
        moe_relational *db = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
        moe_moments moments = make_moments(job, db, 0, SEEDS, key, WORLD_END);
        moe_aggregates *a;
        float *all = fit_and_compute(job, db, &moments, &a);
        int n = moe_aggregates_columns(a);

        for (int t = 1; t < db->n_tables; t++)
        {
            moe_relational without = *db;
            moe_relation *relations = moe_alloc(job, db->n_relations, sizeof(*relations));
            float *out;

            without.relations = relations;
            for (int k = 0; k < db->n_relations; k++)
            {
                const moe_relation *r = &db->relations[k];
                int64_t *offset = moe_alloc(job, db->tables[r->parent].n_rows + 1, sizeof(*offset));
                int32_t *parent_of = moe_alloc(job, db->tables[r->child].n_rows, sizeof(*parent_of));

                relations[k] = *r;
                if (r->child != t && r->parent != t)
                    continue;
                for (int64_t row = 0; row < db->tables[r->child].n_rows; row++)
                    parent_of[row] = -1;
                relations[k].parent_of = parent_of;
                relations[k].offset = offset;
            }
            assert_int_equal(moe_aggregates_bind(a, &without), MOE_OK);
            out = compute(job, a, &moments, NULL);
            for (int64_t i = 0; i < moments.n * n; i++)
                if (!moe_aggregates_needs(a, (int) (i % n), t))
                    assert_memory_equal(&out[i], &all[i], sizeof(float));
        }
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

static int
find_column(const moe_aggregates *a, const char *name)
{
    for (int c = 0; c < moe_aggregates_columns(a); c++)
        if (strcmp(moe_aggregates_name(a, c), name) == 0)
            return c;
    return -1;
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

/* Seven values, of 1 in 2, 1 in 4, ... and one rarer than 1 in 100. */
static void
codes_are_frequent_values(void **state)
{
    static const int until[] = {150, 210, 240, 260, 270, 280, 290, 298, 300};
    moe_job *job = start_job(1);
    double values[300];
    int64_t time[300];
    small_world w;
    moe_aggregates *a;
    int codes = 0;

    for (int i = 0, code = 0; i < 300; i++)
    {
        code += i == until[code];
        values[i] = 10 * code;
        time[i] = i;
    }
    make_small_world(job, &w, 300, values, time);
    w.column.integral = true;
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    for (int c = 0; c < moe_aggregates_columns(a); c++)
        codes += strncmp(moe_aggregates_name(a, c), "mean of children.x = ", 21) == 0 &&
                 strstr(moe_aggregates_name(a, c), "over") == NULL;
    assert_int_equal(codes, 6);
    assert_true(find_column(a, "mean of children.x = 50") >= 0);
    assert_int_equal(find_column(a, "mean of children.x = 60"), -1);
    w.fit_rows[1] = 240; /* three values, none rare */
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_true(find_column(a, "mean of children.x = 20") >= 0);
    assert_int_equal(find_column(a, "mean of children.x = 30"), -1);
    moe_job_destroy(job);
}

static void
integers_of_many_values_have_no_codes(void **state)
{
    moe_job *job = start_job(1);
    double values[300];
    int64_t time[300];
    small_world w;
    moe_aggregates *a;

    for (int i = 0; i < 300; i++)
    {
        values[i] = i < 65 ? i : 7;
        time[i] = i;
    }
    make_small_world(job, &w, 300, values, time);
    w.column.integral = true;
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_int_equal(find_column(a, "mean of children.x = 7"), -1);
    values[64] = 7;
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_true(find_column(a, "mean of children.x = 7") >= 0);
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

static void
huge_numbers_give_finite_columns(void **state)
{
    moe_job *job = start_job(1);
    double values[] = {1e308, 1e308, -1e308, 1};
    int64_t time[] = {1, 2, 3, 4};
    int32_t row[] = {0};
    int64_t moment[] = {WORLD_DAY};
    moe_moments moments = {1, row, moment, NULL};
    small_world w;
    moe_aggregates *a;
    float *out;

    make_small_world(job, &w, 4, values, time);
    a = fit(job, &w.db, w.fit_rows, 0, ALL);
    assert_int_equal(moe_aggregates_bind(a, &w.db), MOE_OK);
    out = compute(job, a, &moments, NULL);
    for (int c = 0; c < moe_aggregates_columns(a); c++)
        assert_true(isfinite(out[c]));
    assert_true(out[find_column(a, "mean of children.x")] > 1e38f);
    moe_job_destroy(job);
}

static bool
at_once(void *arg)
{
    return *(bool *) arg;
}

static void
cancelling_ends_a_computation(void **state)
{
    bool cancelled = false;
    moe_job_config config = {.threads = 2, .cancelled = at_once, .cancel_arg = &cancelled};
    int32_t row[] = {0};
    int64_t moment[] = {WORLD_DAY};
    moe_moments moments = {1, row, moment, NULL};
    double values[] = {1, 2};
    int64_t time[] = {1, 2};
    small_world w;
    moe_aggregates *a;
    moe_job *job;
    float out[100];

    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    make_small_world(job, &w, 2, values, time);
    a = fit(job, &w.db, w.fit_rows, 0, 100);
    assert_int_equal(moe_aggregates_bind(a, &w.db), MOE_OK);
    cancelled = true;
    assert_int_equal(moe_aggregates_compute(a, &moments, NULL, out), MOE_CANCELLED);
    moe_job_destroy(job);
}

/* Wherever memory runs out, that is the error, and nothing is left behind. */
static void
too_little_memory_is_an_error(void **state)
{
    moe_job *owner = start_job(1);
    moe_relational *db = make_world(owner, 3, HORIZON, FUTURE_AS_IT_CAME);
    moe_moments moments = make_moments(owner, db, 0, 20, 3, WORLD_END);
    float *out = moe_alloc(owner, moments.n * ALL, sizeof(*out));
    int64_t fit_rows[TABLES];
    bool enough = false;

    world_visible(db, HORIZON, fit_rows);
    for (size_t limit = 1; !enough; limit += 701)
    {
        moe_job_config config = {.threads = 1, .memory_limit = limit};
        moe_aggregates *a = NULL;
        moe_job *job;
        moe_code code;

        if (moe_job_create(&config, &job) != MOE_OK)
            continue;
        code = moe_aggregates_fit(job, db, 0, fit_rows, 0, 1000, &a);
        assert_int_equal(code == MOE_OK, a != NULL);
        if (a && (code = moe_aggregates_bind(a, db)) == MOE_OK)
            code = moe_aggregates_compute(a, &moments, NULL, out);
        enough = code == MOE_OK;
        assert_true(enough || code == MOE_LIMIT);
        moe_aggregates_destroy(a);
        assert_int_equal(moe_job_memory_used(job), 0);
        moe_job_destroy(job);
        limit = limit > 100000 ? limit + limit / 64 : limit;
    }
    moe_job_destroy(owner);
}

/* More values than one block sums up, and more siblings than are looked at. */
static void
many_columns_and_siblings_are_computed_in_blocks(void **state)
{
    enum
    {
        N = 300,
        FIELDS = 50
    };
    static const char *names = "c0\0c1";
    moe_job *job = start_job(2);
    moe_column *columns = moe_alloc(job, FIELDS, sizeof(*columns));
    char(*field_names)[8] = moe_alloc(job, FIELDS, 8);
    double *numbers = moe_alloc(job, N * FIELDS, sizeof(*numbers));
    int64_t *time = moe_alloc(job, N, sizeof(*time));
    moe_relation relations[2];
    int32_t row[] = {0, 0};
    int64_t moment[] = {N * WORLD_DAY, 3 * WORLD_DAY};
    moe_moments moments = {2, row, moment, moment};
    small_world w;
    moe_aggregates *a;
    naive *nv;
    float *out;
    int *place;

    for (int f = 0; f < FIELDS; f++)
    {
        sprintf(field_names[f], "f%d", f);
        for (int i = 0; i < N; i++)
            numbers[f * N + i] = moe_random_uniform((uint64_t) f, (uint64_t) i);
        columns[f] = (moe_column){
            .name = field_names[f], .storage = MOE_STORE_NUMBER, .hidden_bit = -1, .number = numbers + f * N};
    }
    for (int i = 0; i < N; i++)
        time[i] = i * WORLD_DAY;
    make_small_world(job, &w, N, numbers, time);
    w.tables[1].columns = columns;
    w.tables[1].n_columns = FIELDS;
    relations[0] = relations[1] = w.relation;
    relations[0].name = names;
    relations[1].name = names + 3;
    w.db.relations = relations;
    w.db.n_relations = 2;
    a = fit(job, &w.db, w.fit_rows, 2 * WORLD_DAY, ALL);
    assert_int_equal(moe_aggregates_bind(a, &w.db), MOE_OK);
    out = compute(job, a, &moments, NULL);
    nv = make_naive(job, &w.db, &w.db, 0, w.fit_rows, 2 * WORLD_DAY);
    for (int i = 0; i < 2; i++)
    {
        naive_compute(nv, 0, moment[i], moment[i]);
        place = match_names(job, a, nv);
        for (int c = 0; c < naive_columns(nv); c++)
            assert_true(is_near(out[i * naive_columns(nv) + place[c]], naive_value(nv, c)));
    }
    moe_job_destroy(job);
}

/* A table of so many rows and columns that what is compared with siblings is not kept. */
static void
columns_are_the_same_where_comparisons_are_not_kept(void **state)
{
    enum
    {
        N = 700000,
        FIELDS = 50,
        SEED = 100
    };
    moe_job *job = start_job(2);
    moe_column columns[FIELDS];
    char field_names[FIELDS][8];
    double *numbers = moe_alloc(job, N, sizeof(*numbers));
    int64_t *time = moe_alloc(job, N, sizeof(*time));
    moe_relation relations[2];
    int32_t row[] = {0};
    int64_t moment[] = {SEED * WORLD_DAY};
    moe_moments moments = {1, row, moment, NULL};
    moe_aggregates *plans[2];
    float *out[2];
    small_world w;

    for (int i = 0; i < N; i++)
    {
        numbers[i] = moe_random_uniform(1, (uint64_t) i);
        time[i] = i * WORLD_DAY;
    }
    make_small_world(job, &w, N, numbers, time);
    for (int f = 0; f < FIELDS; f++)
    {
        sprintf(field_names[f], "f%d", f);
        columns[f] = w.column;
        columns[f].name = field_names[f];
    }
    w.tables[1].columns = columns;
    relations[0] = relations[1] = w.relation;
    relations[1].name = "other";
    w.db.relations = relations;
    w.db.n_relations = 2;
    w.fit_rows[1] = 10;
    for (int i = 0; i < 2; i++)
    {
        w.tables[1].n_columns = i == 0 ? 1 : FIELDS;
        plans[i] = fit(job, &w.db, w.fit_rows, WORLD_DAY, ALL);
        assert_int_equal(moe_aggregates_bind(plans[i], &w.db), MOE_OK);
        out[i] = compute(job, plans[i], &moments, NULL);
    }
    for (int c = 0; c < moe_aggregates_columns(plans[0]); c++)
        assert_memory_equal(&out[0][c], &out[1][find_column(plans[1], moe_aggregates_name(plans[0], c))],
                            sizeof(float));
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_column_is_what_it_is_said_to_be),
        cmocka_unit_test(seeds_may_lie_anywhere_in_time),
        cmocka_unit_test(nothing_after_the_horizon_changes_a_bit),
        cmocka_unit_test(a_later_row_changes_no_plan),
        cmocka_unit_test(a_seed_alone_is_as_in_company),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(columns_that_need_a_disabled_table_are_null),
        cmocka_unit_test(what_needs_a_table_is_said),
        cmocka_unit_test(fewer_columns_are_a_part_of_all_in_the_order_of_families),
        cmocka_unit_test(no_table_starves_where_columns_are_few),
        cmocka_unit_test(a_stored_plan_computes_the_same),
        cmocka_unit_test(damaged_bytes_are_refused_or_harmless),
        cmocka_unit_test(tables_that_changed_are_refused),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(a_day_stands_in_for_no_window),
        cmocka_unit_test(codes_are_frequent_values),
        cmocka_unit_test(integers_of_many_values_have_no_codes),
        cmocka_unit_test(what_does_not_vary_in_the_fit_rows_is_left_out),
        cmocka_unit_test(huge_numbers_give_finite_columns),
        cmocka_unit_test(cancelling_ends_a_computation),
        cmocka_unit_test(too_little_memory_is_an_error),
        cmocka_unit_test(many_columns_and_siblings_are_computed_in_blocks),
        cmocka_unit_test(columns_are_the_same_where_comparisons_are_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Relational aggregates: what each column is, and that nothing later than the horizon shows in it. */
#include "test/unit/core.h"

#include <math.h>

#include "test/unit/aggregates/agreement.h"
#include "test/unit/aggregates/plans.h"

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
        naive_compute(nv, moments.row[i], moments.time[i], moments.horizon[i]);
        place = place ? place : match_names(job, a, nv);
        assert_agreement(nv, place, out + i * moe_aggregates_columns(a), (int) key, (int) i);
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
    check_world(4, INT64_MAX / 2, WORLD_END);
    check_world(5, INT64_MAX / 20, WORLD_END);
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
owners_that_seeds_share_are_computed_once_to_the_same_bit(void **state)
{
    size_t kept = 0;

    for (uint64_t key = 0; key < WORLDS; key++)
    {
        moe_job *job = start_job(2);
        moe_relational *db = make_world(job, key, HORIZON, FUTURE_AS_IT_CAME);
        moe_moments moments = make_moments(job, db, 0, SEEDS, key, HORIZON);
        bool *no_table = moe_alloc(job, TABLES, sizeof(*no_table)); /* of which nothing is kept */
        int64_t *time = moe_alloc(job, SEEDS, sizeof(*time));
        moe_aggregates *a;
        int n;

        fit_and_compute(job, db, &moments, &a);
        n = moe_aggregates_columns(a);
        for (int round = 0; round < 4; round++)
        {
            float *expected, *out;
            size_t before;

            for (int64_t i = 0; i < moments.n; i++)
                time[i] = HORIZON - round / 2 * WORLD_DAY;
            moments.time = moments.horizon = time;
            expected = compute(job, a, &moments, no_table);
            before = moe_job_memory_used(job);
            out = compute(job, a, &(moe_moments){moments.n / 3, moments.row, time, time}, NULL);
            assert_memory_equal(out, expected, (size_t) (moments.n / 3 * n) * sizeof(float));
            moe_free(job, out);
            kept += moe_job_memory_used(job) - before;
            out = compute(job, a, &moments, NULL);
            assert_memory_equal(out, expected, (size_t) (moments.n * n) * sizeof(float));
        }
        moe_job_destroy(job);
    }
    assert_true(kept > 0);
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

/* Wherever memory runs out, that is the error, and nothing is left behind; where it just suffices, nothing is
 * different. */
static void
too_little_memory_is_an_error(void **state)
{
    moe_job *owner = start_job(1);
    moe_relational *db = make_world(owner, 3, HORIZON, FUTURE_AS_IT_CAME);
    moe_moments moments = make_moments(owner, db, 0, 20, 3, WORLD_END);
    float *out = moe_alloc(owner, moments.n * ALL, sizeof(*out));
    int64_t fit_rows[TABLES];
    bool enough = false;
    int columns;
    float *expected;

    world_visible(db, HORIZON, fit_rows);
    {
        moe_aggregates *plenty = fit(owner, db, fit_rows, 0, 1000);

        assert_int_equal(moe_aggregates_bind(plenty, db), MOE_OK);
        expected = compute(owner, plenty, &moments, NULL);
        columns = moe_aggregates_columns(plenty);
    }
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
    assert_memory_equal(out, expected, (size_t) (moments.n * columns) * sizeof(float));
    moe_job_destroy(owner);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_column_is_what_it_is_said_to_be),
        cmocka_unit_test(seeds_may_lie_anywhere_in_time),
        cmocka_unit_test(nothing_after_the_horizon_changes_a_bit),
        cmocka_unit_test(a_seed_alone_is_as_in_company),
        cmocka_unit_test(owners_that_seeds_share_are_computed_once_to_the_same_bit),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(columns_that_need_a_disabled_table_are_null),
        cmocka_unit_test(what_needs_a_table_is_said),
        cmocka_unit_test(huge_numbers_give_finite_columns),
        cmocka_unit_test(cancelling_ends_a_computation),
        cmocka_unit_test(too_little_memory_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Relational aggregates of many events and columns: done in blocks, and of owners far away from their latest events.
 *
 * Linked with: test/unit/aggregates/naive.c test/unit/aggregates/series.c test/unit/aggregates/world.c
 */
#include "test/unit/core.h"

#include <math.h>
#include <stdio.h>

#include "test/unit/aggregates/agreement.h"
#include "test/unit/aggregates/plans.h"

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
        assert_agreement(nv, place, out + i * naive_columns(nv), 0, i);
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

/*
 * Entities and hubs, 2 each, that N events point at: each entity has about half of them; almost all are of hub 0, which
 * is where latest events lead. Many events have the same time as the one before, and some have no value.
 */
static moe_relational *
make_hub_world(moe_job *job, int64_t n)
{
    moe_relational *db = moe_alloc(job, 1, sizeof(*db));
    moe_table *tables = moe_alloc(job, 3, sizeof(*tables));
    moe_row_times *times = moe_alloc(job, 3, sizeof(*times));
    moe_relation *relations = moe_alloc(job, 2, sizeof(*relations));
    moe_column *columns = moe_alloc(job, 2, sizeof(*columns));
    int32_t *parent_of = moe_alloc(job, 2 * n, sizeof(*parent_of));
    double *numbers = moe_alloc(job, 2 * n, sizeof(*numbers));
    uint8_t *null = moe_alloc(job, n, 1);
    int64_t *time = moe_alloc(job, n, sizeof(*time));

    for (int64_t i = 0; i < n; i++)
    {
        parent_of[i] = moe_random_uniform(1, (uint64_t) i) < 0.5;
        parent_of[n + i] = moe_random_uniform(2, (uint64_t) i) < 0.02;
        numbers[i] = moe_random_uniform(3, (uint64_t) i);
        numbers[n + i] = floor(5 * moe_random_uniform(4, (uint64_t) i));
        null[i] = moe_random_uniform(5, (uint64_t) i) < 0.3;
        time[i] = (i == 0 ? 0 : time[i - 1]) + (moe_random_uniform(6, (uint64_t) i) < 0.5 ? WORLD_DAY : 0);
    }
    columns[0] =
        (moe_column){.name = "x", .storage = MOE_STORE_NUMBER, .hidden_bit = -1, .number = numbers, .null = null};
    columns[1] = (moe_column){.name = "y", .storage = MOE_STORE_NUMBER, .hidden_bit = -1, .number = numbers + n};
    tables[0] = (moe_table){.name = "entities", .n_rows = 2};
    tables[1] = (moe_table){.name = "events", .n_rows = n, .n_columns = 2, .columns = columns};
    tables[2] = (moe_table){.name = "hubs", .n_rows = 2};
    times[1].time = time;
    for (int k = 0; k < 2; k++)
    {
        relations[k] = (moe_relation){
            .name = k == 0 ? "entity" : "hub", .child = 1, .parent = 2 * k, .parent_of = parent_of + k * n};
        make_children(job, &relations[k], n, 2);
    }
    *db = (moe_relational){3, tables, times, 2, relations};
    return db;
}

/* Of the hub's events fewer than all count from 512 on where they are compared, from 2,048 on where they are not. */
static void
of_owners_that_a_path_leads_to_the_latest_events_are_summed_up(void **state)
{
    enum
    {
        N = 3300,
        SEEDS_HERE = 6
    };
    static const int64_t days[SEEDS_HERE] = {1640, 60, 270, 1100, 1100, 1640};
    moe_job *job = start_job(2);
    moe_relational *db = make_hub_world(job, N);
    int64_t fit_rows[] = {2, N, 2};
    moe_aggregates *a = fit(job, db, fit_rows, 30 * WORLD_DAY, ALL);
    naive *nv = make_naive(job, db, db, 0, fit_rows, 30 * WORLD_DAY);
    int32_t row[SEEDS_HERE] = {0, 0, 1, 0, 1, 1};
    int64_t time[SEEDS_HERE];
    moe_moments moments = {SEEDS_HERE, row, time, NULL};
    int *place = NULL;
    float *out;

    for (int i = 0; i < SEEDS_HERE; i++)
        time[i] = days[i] * WORLD_DAY;
    assert_int_equal(moe_aggregates_bind(a, db), MOE_OK);
    out = compute(job, a, &moments, NULL);
    for (int i = 0; i < SEEDS_HERE; i++)
    {
        moe_moments one = {1, row + i, time + i, NULL};
        int n = moe_aggregates_columns(a);

        naive_compute(nv, row[i], time[i], time[i]);
        place = place ? place : match_names(job, a, nv);
        assert_agreement(nv, place, out + i * n, 0, i);
        assert_memory_equal(compute(job, a, &one, NULL), out + i * n, (size_t) n * sizeof(float));
    }
    /* Nothing later than a seed changes a bit: all that was, and no more. */
    for (int i = 0; i < SEEDS_HERE; i++)
    {
        moe_moments one = {1, row + i, time + i, NULL};
        const int64_t *event_time = db->times[1].time;
        int n = moe_aggregates_columns(a);
        int64_t past = 0;

        while (past < N && event_time[past] <= time[i])
            past++;
        assert_int_equal(moe_aggregates_bind(a, make_hub_world(job, past)), MOE_OK);
        assert_memory_equal(compute(job, a, &one, NULL), out + i * n, (size_t) n * sizeof(float));
    }
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_columns_and_siblings_are_computed_in_blocks),
        cmocka_unit_test(columns_are_the_same_where_comparisons_are_not_kept),
        cmocka_unit_test(of_owners_that_a_path_leads_to_the_latest_events_are_summed_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

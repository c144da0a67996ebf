/*
 * test_graph.c: the adjacency of foreign keys.
 */
#include "test/unit/gnn_fixture.h"

#include "gnn/graph.h"

static void
children_are_those_whose_key_points_here(void **state)
{
    moe_job *job = fixture_job(2);
    for (uint64_t seed = 0; seed < 5; seed++)
    {
        fixture f;
        moe_graph *graph;
        fixture_random(&f, seed, 100 * DAY, 1);
        fixture_graph(&f, job, &graph);
        assert_int_equal(moe_graph_tables(graph), FIXTURE_TABLES);
        assert_int_equal(moe_graph_keys(graph), FIXTURE_KEYS);
        for (int k = 0; k < f.n_keys; k++)
            for (int32_t parent = 0; parent < f.tables[f.keys[k].parent].n_rows; parent++)
            {
                const int32_t *children;
                int64_t n = moe_graph_children(graph, k, parent, &children);
                int64_t found = 0;
                for (int64_t row = 0; row < f.tables[f.keys[k].child].n_rows; row++)
                    if (f.keys[k].parent_of[row] == parent)
                    {
                        assert_true(found < n);
                        assert_int_equal(children[found], row);
                        found++;
                    }
                assert_int_equal(found, n);
            }
        moe_graph_destroy(graph);
        fixture_free(&f);
    }
    moe_job_destroy(job);
}

static void
visible_children_are_a_prefix_up_to_the_horizon_inclusive(void **state)
{
    moe_job *job = fixture_job(1);
    fixture f;
    moe_graph *graph;
    fixture_random(&f, 9, 100 * DAY, 2);
    fixture_graph(&f, job, &graph);
    for (int k = 0; k < f.n_keys; k++)
    {
        const int64_t *time = f.tables[f.keys[k].child].time;
        for (int32_t parent = 0; parent < f.tables[f.keys[k].parent].n_rows; parent++)
        {
            const int32_t *children;
            int64_t n = moe_graph_children(graph, k, parent, &children);
            for (int64_t i = 0; i <= n; i++)
            {
                int64_t horizon = i < n && time[children[i]] != INT64_MIN ? time[children[i]] : 50 * DAY;
                for (int64_t h = horizon - 1; h <= horizon + 1; h++)
                {
                    int64_t expected = 0;
                    for (int64_t j = 0; j < n; j++)
                        expected += time[children[j]] <= h;
                    assert_int_equal(moe_graph_visible_children(graph, k, parent, h), expected);
                }
            }
        }
    }
    assert_true(moe_graph_visible(graph, 0, 0, INT64_MIN)); /* no time: always */
    assert_true(moe_graph_visible(graph, 2, 3, -5));        /* nor has its table */
    assert_true(moe_graph_visible(graph, 1, 8, f.tables[1].time[8]));
    assert_false(moe_graph_visible(graph, 1, 8, f.tables[1].time[8] - 1));
    moe_graph_destroy(graph);
    fixture_free(&f);
    moe_job_destroy(job);
}

static void
bad_input_is_refused_by_name(void **state)
{
    int64_t time[] = {1, 3, 2};
    int32_t outside[] = {0, 2, 0};
    int32_t below[] = {0, -2, 0};
    moe_graph_table tables[] = {{.name = "parents", .n_rows = 2}, {.name = "children", .n_rows = 3}};
    moe_graph_table unordered[] = {{.name = "parents", .n_rows = 2}, {.name = "children", .n_rows = 3, .time = time}};
    moe_graph_table huge[] = {{.name = "parents", .n_rows = INT64_C(1) << 40}};
    moe_graph_key keys[] = {{.name = "fk_outside", .child = 1, .parent = 0, .parent_of = outside},
                            {.name = "fk_below", .child = 1, .parent = 0, .parent_of = below},
                            {.name = "fk_nowhere", .child = 1, .parent = 7, .parent_of = outside}};
    const char *const message[] = {"fk_outside", "fk_below", "fk_nowhere", "children", "parents"};
    for (int i = 0; i < 5; i++)
    {
        moe_job *job = fixture_job(1);
        moe_graph *graph;
        moe_code code = i < 3    ? moe_graph_create(job, tables, 2, &keys[i], 1, &graph)
                        : i == 3 ? moe_graph_create(job, unordered, 2, NULL, 0, &graph)
                                 : moe_graph_create(job, huge, 1, NULL, 0, &graph);
        assert_int_equal(code, MOE_INVALID);
        assert_null(graph);
        assert_non_null(strstr(moe_job_error(job), message[i]));
        moe_job_destroy(job);
    }
}

static void
links_follow_the_keys_when_they_change(void **state)
{
    moe_job *job = fixture_job(1);
    moe_graph *graph;
    int32_t owner_of[] = {0, 1, 1, 0};
    int64_t time[] = {1, 2, 3, 4};
    moe_graph_table tables[] = {{.name = "owners", .n_rows = 2}, {.name = "owned", .n_rows = 4, .time = time}};
    moe_graph_key keys[] = {{.name = "owner", .child = 1, .parent = 0, .parent_of = owner_of}};
    const int32_t *children;
    assert_int_equal(moe_graph_create(job, tables, 2, keys, 1, &graph), MOE_OK);
    assert_int_equal(moe_graph_tell_newest(graph, 9, 7), MOE_OK);
    owner_of[1] = -1;
    owner_of[3] = 1;
    assert_int_equal(moe_graph_relink(graph), MOE_OK);
    assert_int_equal(moe_graph_children(graph, 0, 0, &children), 1);
    assert_int_equal(children[0], 0);
    assert_int_equal(moe_graph_children(graph, 0, 1, &children), 2);
    assert_int_equal(children[0], 2);
    assert_int_equal(children[1], 3);
    assert_int_equal(moe_graph_visible_children(graph, 0, 1, 3), 1);
    assert_int_equal(moe_graph_newest(graph, 9), 7);
    owner_of[0] = 2;
    assert_int_equal(moe_graph_relink(graph), MOE_INVALID);
    moe_graph_destroy(graph);
    moe_job_destroy(job);
}

static void
a_table_may_be_empty_and_point_at_itself(void **state)
{
    moe_job *job = fixture_job(1);
    moe_graph *graph;
    int32_t manager_of[] = {-1, 0, 0};
    moe_graph_table tables[] = {{.name = "staff", .n_rows = 3}, {.name = "empty", .n_rows = 0}};
    moe_graph_key keys[] = {{.name = "manager", .child = 0, .parent = 0, .parent_of = manager_of},
                            {.name = "of_empty", .child = 1, .parent = 0, .parent_of = NULL}};
    const int32_t *children;
    assert_int_equal(moe_graph_create(job, tables, 2, keys, 2, &graph), MOE_OK);
    assert_int_equal(moe_graph_children(graph, 0, 0, &children), 2);
    assert_int_equal(children[1], 2);
    assert_int_equal(moe_graph_children(graph, 1, 2, &children), 0);
    moe_graph_destroy(graph);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_are_those_whose_key_points_here),
        cmocka_unit_test(visible_children_are_a_prefix_up_to_the_horizon_inclusive),
        cmocka_unit_test(bad_input_is_refused_by_name),
        cmocka_unit_test(links_follow_the_keys_when_they_change),
        cmocka_unit_test(a_table_may_be_empty_and_point_at_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

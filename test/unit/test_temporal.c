/*
 * test_temporal.c: exact neighbourhoods against their definition, row by row.
 */
#include "test/unit/gnn_fixture.h"

#include <math.h>

#include "gnn/temporal.h"
#include "kernels/device.h"

#define CUT     (100 * DAY)
#define N_SEEDS 200
#define COLS    3

typedef struct seeds
{
    int32_t parent[N_SEEDS];
    int64_t horizon[N_SEEDS];
} seeds;

/* Horizons up to the cut, many of them at the very time of a row of the child table; some seeds have no row. */
static void
make_seeds(const fixture *f, int key, int64_t cut, seeds *s)
{
    static const int64_t base_rows[FIXTURE_TABLES] = {30, 300, 20, 80};
    const int64_t *time = f->tables[f->keys[key].child].time;
    int64_t parents = base_rows[f->keys[key].parent], children = base_rows[f->keys[key].child];
    for (int i = 0; i < N_SEEDS; i++)
    {
        s->parent[i] = i % 17 == 0 ? -1 : (int32_t) (moe_random_bits(3, i) % parents);
        s->horizon[i] = (int64_t) (moe_random_bits(4, i) % cut);
        if (i % 3 == 0 && time != NULL && time[i % children] != INT64_MIN)
            s->horizon[i] = time[i % children];
    }
}

/* By definition, in double: the sum over visible rows in the window, faded; and their number. */
static int
brute_force(const fixture *f, int key, int32_t parent, int64_t horizon, int64_t width, double decay, double *sum)
{
    const moe_graph_key *k = &f->keys[key];
    const moe_graph_table *child = &f->tables[k->child];
    int count = 0;
    for (int c = 0; c < COLS; c++)
        sum[c] = 0;
    for (int64_t row = 0; row < child->n_rows; row++)
    {
        int64_t time = child->time == NULL ? INT64_MIN : child->time[row];
        bool timed = time != INT64_MIN;
        if (parent < 0 || k->parent_of[row] != parent || time > horizon)
            continue;
        if (width > 0 && !(timed && time > horizon - width))
            continue;
        double weight = decay == 0 ? 1 : timed ? exp(-(double) (horizon - time) / decay) : 0;
        for (int c = 0; c < COLS; c++)
            sum[c] += weight * f->features[k->child][row * COLS + c];
        count++;
    }
    return count;
}

/* [N_SEEDS, COLS] values and the counts of one kind of window over a graph of its own. */
static void
aggregate(uint64_t seed, uint64_t variant, int threads, int key, int64_t width, double decay, moe_reduce reduce,
          float *values, int32_t *count, bool against_definition)
{
    moe_job *job = fixture_job(threads);
    moe_arena *arena = moe_arena_create(job);
    moe_tape *tape = moe_tape_create(job);
    fixture f;
    moe_graph *graph;
    moe_temporal temporal;
    moe_windows windows;
    moe_window window = {.width = width, .reduce = reduce};
    seeds s;
    fixture_random(&f, seed, CUT, variant);
    fixture_graph(&f, job, &graph);
    make_seeds(&f, key, CUT, &s);
    int child = f.keys[key].child;
    /* A late column would tell what came after the cut. */
    for (int64_t i = 0; f.tables[child].n_hidden > 0 && i < f.tables[child].n_rows; i++)
        f.features[child][i * COLS] = 1;
    moe_tape_reset(tape, false, 1);
    assert_int_equal(moe_temporal_lists(arena, graph, key, decay, &temporal), MOE_OK);
    assert_int_equal(moe_temporal_windows(arena, &temporal, &window, N_SEEDS, s.parent, s.horizon, count, &windows),
                     MOE_OK);
    moe_var *x = moe_constant(tape, f.tables[child].n_rows, COLS, f.features[child]);
    moe_var *out = moe_temporal_aggregate(tape, &temporal, x, &windows);
    double *sums = moe_temporal_sums(job, &temporal, COLS, f.features[child]);
    moe_var *same = moe_resident_windows(tape, sums, COLS, &windows);
    assert_true(out != NULL && same != NULL);
    memcpy(values, out->value, N_SEEDS * COLS * sizeof *values);
    assert_memory_equal(values, same->value, N_SEEDS * COLS * sizeof *values);
    for (int i = 0; against_definition && i < N_SEEDS; i++)
    {
        double sum[COLS];
        int n = brute_force(&f, key, s.parent[i], s.horizon[i], width, decay, sum);
        assert_int_equal(count[i], n);
        for (int c = 0; c < COLS; c++)
        {
            double expected = reduce == MOE_MEAN ? (n > 0 ? sum[c] / n : 0) : sum[c];
            if (fabs(values[i * COLS + c] - expected) > 2e-5)
                fail_msg("key %d, width %lld, decay %g, seed %d: %g instead of %g", key, (long long) width, decay, i,
                         values[i * COLS + c], expected);
        }
    }
    moe_device_free(job, sums);
    moe_graph_destroy(graph);
    fixture_free(&f);
    moe_job_destroy(job);
}

typedef void (*check_fn)(int key, int64_t width, double decay, moe_reduce reduce);

/* All that is visible and windows of several widths; plain, as means, and fading. */
static void
each_kind(check_fn check)
{
    static const int64_t widths[] = {0, DAY, 7 * DAY, 40 * DAY, INT64_MAX};
    for (int key = 0; key < FIXTURE_KEYS; key++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        {
            check(key, widths[w], 0, MOE_SUM);
            check(key, widths[w], 0, MOE_MEAN);
            check(key, widths[w], 10.0 * DAY, MOE_SUM);
        }
}

static int64_t counted;

static void
check_definition(int key, int64_t width, double decay, moe_reduce reduce)
{
    static float values[N_SEEDS * COLS];
    static int32_t count[N_SEEDS];
    for (uint64_t seed = 5; seed < 7; seed++)
    {
        aggregate(seed, 1, 2, key, width, decay, reduce, values, count, true);
        for (int i = 0; i < N_SEEDS; i++)
            counted += count[i];
    }
}

static void
sums_means_and_counts_are_those_of_the_definition(void **state)
{
    each_kind(check_definition);
    assert_true(counted > 10000);
}

static void
check_later_rows(int key, int64_t width, double decay, moe_reduce reduce)
{
    static float values[2][N_SEEDS * COLS];
    static int32_t count[2][N_SEEDS];
    aggregate(5, 1, 1, key, width, decay, reduce, values[0], count[0], false);
    for (uint64_t variant = 2; variant < 5; variant++)
    {
        aggregate(5, variant, 7, key, width, decay, reduce, values[1], count[1], false);
        assert_memory_equal(values[0], values[1], sizeof values[0]);
        assert_memory_equal(count[0], count[1], sizeof count[0]);
    }
}

/* Other rows after the cut, and another number of threads. */
static void
later_rows_change_no_bit(void **state)
{
    each_kind(check_later_rows);
}

/* Two parents: one with rows that share times and two without a time, one without any. */
static void
windows_exclude_their_start_and_include_their_end(void **state)
{
    int64_t time[7] = {INT64_MIN, INT64_MIN, 10, 20, 20, 20, 30};
    int32_t parent_of[7] = {0, 0, 0, 0, 0, 0, 0};
    float value[7] = {64, 32, 1, 2, 4, 8, 16};
    moe_graph_table tables[2] = {{.name = "parents", .n_rows = 2}, {.name = "children", .n_rows = 7, .time = time}};
    moe_graph_key key = {.name = "key", .child = 1, .parent = 0, .parent_of = parent_of};
    static const struct
    {
        int32_t parent;
        int64_t horizon, width;
        float expected;
    } cases[] = {{0, 20, 10, 14}, {0, 20, 11, 15},        {0, 19, 10, 1},  {0, 30, 10, 16},   {0, 40, 10, 0},
                 {0, 9, 5, 0},    {0, 9, 0, 96},          {0, 20, 0, 111}, {0, 30, 1000, 31}, {1, 30, 0, 0},
                 {1, 30, 10, 0},  {0, 30, INT64_MAX, 31}, {-1, 30, 0, 0}};
    moe_job *job = fixture_job(1);
    moe_arena *arena = moe_arena_create(job);
    moe_tape *tape = moe_tape_create(job);
    moe_graph *graph;
    moe_temporal plain, fading;
    assert_int_equal(moe_graph_create(job, tables, 2, &key, 1, &graph), MOE_OK);
    assert_int_equal(moe_temporal_lists(arena, graph, 0, 0, &plain), MOE_OK);
    assert_int_equal(moe_temporal_lists(arena, graph, 0, 10, &fading), MOE_OK);
    moe_tape_reset(tape, false, 1);
    moe_var *x = moe_constant(tape, 7, 1, value);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    {
        moe_window window = {.width = cases[i].width};
        moe_windows windows;
        assert_int_equal(
            moe_temporal_windows(arena, &plain, &window, 1, &cases[i].parent, &cases[i].horizon, NULL, &windows),
            MOE_OK);
        moe_var *out = moe_temporal_aggregate(tape, &plain, x, &windows);
        assert_non_null(out);
        assert_true(out->value[0] == cases[i].expected);
    }
    /* At 30 the row of 30 weighs 1, those of 20 1/e, that of 10 1/e^2, and those without a time nothing. */
    moe_window all = {0};
    moe_windows windows;
    assert_int_equal(
        moe_temporal_windows(arena, &fading, &all, 2, (int32_t[]){0, 0}, (int64_t[]){30, 9}, NULL, &windows), MOE_OK);
    moe_var *out = moe_temporal_aggregate(tape, &fading, x, &windows);
    assert_non_null(out);
    assert_true(fabs(out->value[0] - (16 + 14 * exp(-1) + exp(-2))) < 1e-5);
    assert_true(out->value[1] == 0);
    moe_graph_destroy(graph);
    moe_job_destroy(job);
}

static void
requests_that_make_no_sense_are_refused(void **state)
{
    fixture f;
    fixture_random(&f, 5, CUT, 1);
    for (int i = 0; i < 7; i++)
    {
        moe_job *job = fixture_job(1);
        moe_arena *arena = moe_arena_create(job);
        moe_tape *tape = moe_tape_create(job);
        moe_graph *graph;
        moe_temporal temporal;
        moe_windows windows;
        moe_window window = {.width = i == 4 ? -1 : 0, .reduce = i == 5 ? MOE_MEAN : MOE_SUM};
        int32_t parent = i == 3 ? 1000000 : 0;
        int64_t horizon = CUT;
        fixture_graph(&f, job, &graph);
        moe_tape_reset(tape, false, 1);
        double decay = i == 1 ? -1 : i == 2 ? NAN : i == 5 ? 10 : 0;
        moe_code code = moe_temporal_lists(arena, graph, i == 0 ? FIXTURE_KEYS : 0, decay, &temporal);
        assert_int_equal(code, i < 3 ? MOE_INVALID : MOE_OK);
        if (i >= 3)
            code = moe_temporal_windows(arena, &temporal, &window, 1, &parent, &horizon, NULL, &windows);
        if (i == 6)
        {
            assert_int_equal(code, MOE_OK);
            assert_null(moe_temporal_aggregate(tape, &temporal, moe_constant(tape, 1, 1, f.features[1]), &windows));
            code = moe_job_code(job);
        }
        assert_int_equal(code, MOE_INVALID);
        moe_graph_destroy(graph);
        moe_job_destroy(job);
    }
    fixture_free(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_means_and_counts_are_those_of_the_definition),
        cmocka_unit_test(later_rows_change_no_bit),
        cmocka_unit_test(windows_exclude_their_start_and_include_their_end),
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

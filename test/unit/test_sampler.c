/*
 * test_sampler.c: trees of visible neighbours.
 */
#include "test/unit/gnn_fixture.h"

#include "gnn/sampler.h"

#define CUT     (100 * DAY)
#define N_SEEDS 60

typedef struct batch
{
    int32_t row[N_SEEDS];
    int64_t time[N_SEEDS];
    int64_t horizon[N_SEEDS];
    moe_seeds seeds;
} batch;

/* Seeds at times up to the cut, half of them seeing less than their time allows. */
static void
make_seeds(batch *b)
{
    for (int i = 0; i < N_SEEDS; i++)
    {
        b->row[i] = (int32_t) (moe_random_bits(3, i) % 30);
        b->time[i] = (int64_t) (moe_random_bits(4, i) % CUT);
        b->horizon[i] = i % 2 == 0 ? b->time[i] : b->time[i] / 2;
    }
    b->seeds = (moe_seeds){.table = 0, .n = N_SEEDS, .row = b->row, .time = b->time, .horizon = b->horizon};
}

static moe_sampler_config
small_fanout(void)
{
    return (moe_sampler_config){.hops = 3, .fanout = {4, 3, 2}, .staleness = 20 * DAY, .key = 11};
}

/* By definition: the newest row time of any table that is not after the horizon. */
static int64_t
newest_visible(const fixture *f, int64_t horizon)
{
    int64_t newest = INT64_MIN;
    for (int t = 0; t < f->n_tables; t++)
        for (int64_t i = 0; f->tables[t].time != NULL && i < f->tables[t].n_rows; i++)
            if (f->tables[t].time[i] <= horizon && f->tables[t].time[i] > newest)
                newest = f->tables[t].time[i];
    return newest == INT64_MIN ? horizon : newest;
}

/* By definition: the seed time, or the newest visible row time plus the staleness if that is earlier. */
static int64_t
clock_of(const fixture *f, const batch *b, int32_t seed, int64_t staleness)
{
    int64_t latest = newest_visible(f, b->horizon[seed]) + staleness;
    return b->time[seed] < latest ? b->time[seed] : latest;
}

static int
source_of(const fixture *f, int edge)
{
    return edge % 2 == 0 ? f->keys[edge / 2].child : f->keys[edge / 2].parent;
}

static int
destination_of(const fixture *f, int edge)
{
    return edge % 2 == 0 ? f->keys[edge / 2].parent : f->keys[edge / 2].child;
}

/* A number for a whole tree: rows, masks, ages and the order of neighbours. */
static uint64_t
tree_hash(const fixture *f, const moe_sample *s, int depth, int table, int64_t i)
{
    const moe_level *level = &s->levels[depth * s->n_tables + table];
    int32_t u = level->unique[i];
    uint64_t hash = moe_key(u < 0 ? UINT64_MAX : s->row[table][u], level->age[i]);
    if (s->hidden[table] != NULL && u >= 0)
        hash = moe_key(hash, s->hidden[table][u]);
    for (int e = 0; depth < s->hops && e < s->n_edge_types; e++)
    {
        const moe_hop_edges *edges = &s->edges[depth * s->n_edge_types + e];
        if (destination_of(f, e) != table || edges->offset == NULL)
            continue;
        for (int64_t k = edges->offset[i]; k < edges->offset[i + 1]; k++)
            hash = moe_key(hash, tree_hash(f, s, depth + 1, source_of(f, e), edges->source[k]) + e);
    }
    return hash;
}

/* Hashes of all trees of one batch over a graph of its own. */
static void
sample_hashes(const batch *b, uint64_t variant, int threads, const moe_sampler_config *config, uint64_t *hash)
{
    moe_job *job = fixture_job(threads);
    moe_arena *arena = moe_arena_create(job);
    fixture f;
    moe_graph *graph;
    moe_sample *sample;
    fixture_random(&f, 5, CUT, variant);
    fixture_graph(&f, job, &graph);
    assert_int_equal(moe_sample_trees(arena, graph, &b->seeds, config, &sample), MOE_OK);
    for (int64_t i = 0; i < b->seeds.n; i++)
        hash[i] = tree_hash(&f, sample, 0, 0, i);
    moe_graph_destroy(graph);
    fixture_free(&f);
    moe_job_destroy(job);
}

static void
only_visible_neighbours_over_true_edges_and_at_most_the_fanout(void **state)
{
    moe_job *job = fixture_job(2);
    moe_arena *arena = moe_arena_create(job);
    fixture f;
    moe_graph *graph;
    batch b;
    moe_sample *s;
    int64_t parents = 0, cut_lists = 0, masked = 0;
    make_seeds(&b);
    fixture_random(&f, 5, CUT, 1);
    fixture_graph(&f, job, &graph);
    moe_sampler_config config = small_fanout();
    assert_int_equal(moe_sample_trees(arena, graph, &b.seeds, &config, &s), MOE_OK);
    for (int d = 0; d < s->hops; d++)
        for (int e = 0; e < s->n_edge_types; e++)
        {
            const moe_hop_edges *edges = &s->edges[d * s->n_edge_types + e];
            int from = source_of(&f, e), to = destination_of(&f, e);
            const moe_level *near = &s->levels[d * s->n_tables + to];
            const moe_level *far = &s->levels[(d + 1) * s->n_tables + from];
            const int32_t *parent_of = f.keys[e / 2].parent_of;
            for (int64_t i = 0; edges->offset != NULL && i < near->n; i++)
            {
                int64_t horizon = b.horizon[near->seed[i]];
                int32_t row = near->unique[i] < 0 ? b.row[near->seed[i]] : s->row[to][near->unique[i]];
                int64_t k = edges->offset[i + 1] - edges->offset[i];
                int64_t visible = 0;
                for (int64_t other = 0; other < f.tables[from].n_rows; other++)
                    visible +=
                        (e % 2 == 0 ? parent_of[other] == row : near->unique[i] >= 0 && parent_of[row] == other) &&
                        moe_graph_visible(graph, from, (int32_t) other, horizon);
                assert_int_equal(edges->visible[i], visible);
                assert_int_equal(k, visible < config.fanout[d] ? visible : config.fanout[d]);
                parents += e % 2 == 1 ? k : 0;
                cut_lists += k < visible;
                for (int64_t j = edges->offset[i]; j < edges->offset[i + 1]; j++)
                {
                    int32_t u = far->unique[edges->source[j]];
                    int32_t neighbour = s->row[from][u];
                    const int64_t *time = f.tables[from].time;
                    assert_int_equal(far->seed[edges->source[j]], near->seed[i]);
                    assert_int_equal(e % 2 == 0 ? parent_of[neighbour] : parent_of[row], e % 2 == 0 ? row : neighbour);
                    assert_true(moe_graph_visible(graph, from, neighbour, horizon));
                    assert_int_equal(far->age[edges->source[j]],
                                     time == NULL || time[neighbour] == INT64_MIN
                                         ? 0
                                         : clock_of(&f, &b, near->seed[i], config.staleness) - time[neighbour]);
                    if (j > edges->offset[i]) /* ascending, so no row twice */
                        assert_true(neighbour > s->row[from][far->unique[edges->source[j - 1]]]);
                    if (from == 1)
                    {
                        assert_int_equal(s->hidden[1][u], f.tables[1].known_at[0][neighbour] > horizon);
                        masked += s->hidden[1][u];
                    }
                    else
                        assert_null(s->hidden[from]);
                }
            }
        }
    assert_true(parents > 100 && cut_lists > 100 && masked > 10);
    moe_graph_destroy(graph);
    fixture_free(&f);
    moe_job_destroy(job);
}

static void
each_row_and_mask_is_listed_once(void **state)
{
    moe_job *job = fixture_job(2);
    moe_arena *arena = moe_arena_create(job);
    fixture f;
    moe_graph *graph;
    batch b;
    moe_sample *s;
    make_seeds(&b);
    fixture_random(&f, 5, CUT, 1);
    fixture_graph(&f, job, &graph);
    moe_sampler_config config = small_fanout();
    assert_int_equal(moe_sample_trees(arena, graph, &b.seeds, &config, &s), MOE_OK);
    for (int t = 0; t < s->n_tables; t++)
        for (int64_t i = 0; i < s->n_unique[t]; i++)
            for (int64_t j = 0; j < i; j++)
                assert_false(s->row[t][i] == s->row[t][j] &&
                             (s->hidden[t] == NULL || s->hidden[t][i] == s->hidden[t][j]));
    moe_graph_destroy(graph);
    fixture_free(&f);
    moe_job_destroy(job);
}

static void
rows_later_than_the_horizon_change_nothing(void **state)
{
    uint64_t hash[N_SEEDS], other[N_SEEDS];
    batch b;
    make_seeds(&b);
    moe_sampler_config config = small_fanout();
    sample_hashes(&b, 1, 2, &config, hash);
    for (uint64_t variant = 2; variant < 12; variant++)
    {
        sample_hashes(&b, variant, 2, &config, other);
        assert_memory_equal(hash, other, sizeof hash);
    }
}

static void
a_tree_depends_on_its_own_seed_alone(void **state)
{
    uint64_t hash[N_SEEDS], other[N_SEEDS];
    batch b, moved;
    make_seeds(&b);
    moe_sampler_config config = small_fanout();
    sample_hashes(&b, 1, 2, &config, hash);
    moved = b;
    for (int i = 0; i < N_SEEDS; i++)
    {
        moved.row[i] = b.row[N_SEEDS - 1 - i];
        moved.time[i] = b.time[N_SEEDS - 1 - i];
        moved.horizon[i] = b.horizon[N_SEEDS - 1 - i];
    }
    moved.seeds.row = moved.row;
    moved.seeds.time = moved.time;
    moved.seeds.horizon = moved.horizon;
    sample_hashes(&moved, 1, 2, &config, other);
    for (int i = 0; i < N_SEEDS; i++)
        assert_true(hash[i] == other[N_SEEDS - 1 - i]);
    moved.seeds.n = 1;
    sample_hashes(&moved, 1, 2, &config, other);
    assert_true(hash[N_SEEDS - 1] == other[0]);
}

static void
any_number_of_threads_draws_the_same(void **state)
{
    uint64_t hash[N_SEEDS], other[N_SEEDS];
    batch b;
    make_seeds(&b);
    moe_sampler_config config = small_fanout();
    sample_hashes(&b, 1, 1, &config, hash);
    sample_hashes(&b, 1, 2, &config, other);
    assert_memory_equal(hash, other, sizeof hash);
    sample_hashes(&b, 1, 7, &config, other);
    assert_memory_equal(hash, other, sizeof hash);
    config.key++;
    sample_hashes(&b, 1, 1, &config, other);
    assert_memory_not_equal(hash, other, sizeof hash);
}

/* How often each of n children of one parent is drawn over `rounds` keys. */
static void
count_draws(int32_t n, int fanout, moe_sampling sampling, int rounds, int64_t *counts)
{
    moe_job *job = fixture_job(1);
    moe_arena *arena = moe_arena_create(job);
    int32_t *parent_of = calloc(n, sizeof *parent_of);
    int64_t *time = calloc(n, sizeof *time);
    for (int32_t i = 0; i < n; i++)
        time[i] = i;
    moe_graph_table tables[] = {{.name = "parent", .n_rows = 1}, {.name = "child", .n_rows = n, .time = time}};
    moe_graph_key key = {.name = "fk", .child = 1, .parent = 0, .parent_of = parent_of};
    moe_graph *graph;
    int32_t row = 0;
    int64_t at = n;
    moe_seeds seeds = {.table = 0, .n = 1, .row = &row, .time = &at};
    assert_int_equal(moe_graph_create(job, tables, 2, &key, 1, &graph), MOE_OK);
    for (int round = 0; round < rounds; round++)
    {
        moe_sampler_config config = {.hops = 1, .fanout = {fanout}, .sampling = sampling, .key = round};
        moe_sample *s;
        moe_arena_reset(arena);
        assert_int_equal(moe_sample_trees(arena, graph, &seeds, &config, &s), MOE_OK);
        assert_int_equal(s->levels[s->n_tables + 1].n, fanout);
        assert_int_equal(s->n_unique[1], fanout); /* without replacement */
        for (int64_t i = 0; i < s->n_unique[1]; i++)
            counts[s->row[1][i]]++;
    }
    moe_graph_destroy(graph);
    moe_job_destroy(job);
    free(parent_of);
    free(time);
}

static double
chi_square(const int64_t *counts, int n, double expected)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    return sum;
}

static void
draws_are_uniform(void **state)
{
    int64_t few[100] = {0};
    int64_t *many = calloc(20000, sizeof *many);
    int64_t buckets[100] = {0};
    count_draws(100, 10, MOE_SAMPLE_UNIFORM, 3000, few);
    double x = chi_square(few, 100, 300); /* 99 degrees of freedom, times 0.9: 89 +- 13 */
    assert_true(x > 45 && x < 140);
    count_draws(20000, 1000, MOE_SAMPLE_UNIFORM, 100, many);
    for (int i = 0; i < 20000; i++)
        buckets[i / 200] += many[i];
    x = chi_square(buckets, 100, 1000);
    assert_true(x > 45 && x < 150);
    free(many);
}

static void
latest_takes_the_newest(void **state)
{
    int64_t counts[100] = {0};
    count_draws(100, 10, MOE_SAMPLE_LATEST, 3, counts);
    for (int i = 0; i < 100; i++)
        assert_int_equal(counts[i], i >= 90 ? 3 : 0);
}

static void
a_seed_later_than_its_horizon_shows_neither_columns_nor_parents(void **state)
{
    moe_job *job = fixture_job(1);
    moe_arena *arena = moe_arena_create(job);
    int64_t time[] = {5, 50};
    int32_t parent_of[] = {0, 0};
    int32_t rows[] = {0, 1};
    int64_t times[] = {60, 60}, horizons[] = {20, 20};
    moe_graph_table tables[] = {{.name = "entity", .n_rows = 2, .time = time}, {.name = "group", .n_rows = 1}};
    moe_graph_key key = {.name = "fk", .child = 0, .parent = 1, .parent_of = parent_of};
    moe_seeds seeds = {.table = 0, .n = 2, .row = rows, .time = times, .horizon = horizons};
    moe_sampler_config config = {.hops = 1, .fanout = {5}};
    moe_graph *graph;
    moe_sample *s;
    assert_int_equal(moe_graph_create(job, tables, 2, &key, 1, &graph), MOE_OK);
    assert_int_equal(moe_sample_trees(arena, graph, &seeds, &config, &s), MOE_OK);
    assert_int_equal(s->levels[0].unique[0], 0);
    assert_int_equal(s->levels[0].unique[1], -1);
    assert_int_equal(s->edges[1].offset[1], 1);
    assert_int_equal(s->edges[1].offset[2], 1);
    moe_graph_destroy(graph);
    moe_job_destroy(job);
}

static void
a_disabled_table_is_as_if_it_had_no_rows(void **state)
{
    moe_job *job = fixture_job(2);
    moe_arena *arena = moe_arena_create(job);
    fixture f;
    moe_graph *graph;
    batch b;
    moe_sample *s;
    bool disabled[FIXTURE_TABLES] = {false, false, true, false};
    make_seeds(&b);
    fixture_random(&f, 5, CUT, 1);
    fixture_graph(&f, job, &graph);
    moe_sampler_config config = small_fanout();
    config.disabled_tables = disabled;
    assert_int_equal(moe_sample_trees(arena, graph, &b.seeds, &config, &s), MOE_OK);
    assert_int_equal(s->n_unique[2], 0);
    assert_true(s->n_unique[1] > 0);
    moe_graph_destroy(graph);
    fixture_free(&f);
    moe_job_destroy(job);
}

static void
senseless_requests_are_refused(void **state)
{
    int32_t row = 5;
    int64_t time = 0;
    moe_graph_table table = {.name = "only", .n_rows = 3};
    for (int i = 0; i < 3; i++)
    {
        moe_job *job = fixture_job(1);
        moe_arena *arena = moe_arena_create(job);
        moe_graph *graph;
        moe_sample *s;
        moe_seeds seeds = {.table = 0, .n = 1, .row = &row, .time = &time};
        moe_sampler_config config = {.hops = i == 1 ? 5 : 1, .fanout = {i == 2 ? 0 : 3}};
        assert_int_equal(moe_graph_create(job, &table, 1, NULL, 0, &graph), MOE_OK);
        assert_int_equal(moe_sample_trees(arena, graph, &seeds, &config, &s), MOE_INVALID);
        assert_null(s);
        moe_job_destroy(job);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_visible_neighbours_over_true_edges_and_at_most_the_fanout),
        cmocka_unit_test(each_row_and_mask_is_listed_once),
        cmocka_unit_test(rows_later_than_the_horizon_change_nothing),
        cmocka_unit_test(a_tree_depends_on_its_own_seed_alone),
        cmocka_unit_test(any_number_of_threads_draws_the_same),
        cmocka_unit_test(draws_are_uniform),
        cmocka_unit_test(latest_takes_the_newest),
        cmocka_unit_test(a_seed_later_than_its_horizon_shows_neither_columns_nor_parents),
        cmocka_unit_test(a_disabled_table_is_as_if_it_had_no_rows),
        cmocka_unit_test(senseless_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

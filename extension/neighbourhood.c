/*
 * neighbourhood.c: the rows around a seed, as a small database of their own.
 *
 * What the steps that a prediction takes along keys come by (reach_walk.h) is
 * copied out, with the model over it: the same prediction, bit for bit. A row
 * that is taken away loses its foreign keys, and what points at it points at
 * nothing; then lists of children, aggregates and samples are made anew. The
 * moment that is looked back from stays, and so do past labels.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "extension/model_predictor_internal.h"
#include "extension/model_reach.h"
#include "extension/moe_ml.h"
#include "extension/neighbourhood.h"
#include "extension/reach_walk.h"

#define MOST_ROWS 100000 /* around a key: more would take seconds */

/* What is away, and the keys as they are with every row there. */
struct moe_cut
{
    MemoryContext bound; /* what the inputs' binding took */
    bool **away;         /* [tables][rows] */
    int32 **parent_of;   /* [edges][rows of the child] */
};

/* The rows that the steps come by, or all that is visible where they are too many. */
static moe_row_list *
find_rows(moe_job *job, const moe_seed *seed)
{
    const moe_predictor *predictor = seed->predictor;
    const struct moe_predictor_parts *parts = predictor->parts;
    moe_reach *reach = palloc_object(moe_reach);
    int hops = parts->n_members > 0 ? parts->config.hops : 0;
    int64 moment = moe_inputs_look_back_from(predictor->inputs, seed->time, moe_graph_newest(parts->graph, seed->time));
    moe_reach_walk *walk;
    moe_row_list *lists;

    if (!moe_reach_of(predictor->schema, hops, parts->inputs, reach))
        reach = NULL;
    walk = moe_reach_walk_create(predictor->data, parts->graph, reach);
    moe_reach_walk_from(walk, seed->row, seed->time, moment, PG_INT64_MAX);
    lists = moe_reach_walk_rows(walk, job);
    moe_reach_walk_destroy(walk);
    return lists;
}

/* A row on the way outwards from the seed. */
typedef struct outward
{
    int table;
    int32 row;
} outward;

/* How many keys lie between the seed and each row, [tables][rows]; INT_MAX: no way leads there. */
static int **
measure(const moe_neighbourhood *around)
{
    const moe_graph *graph = around->seed.predictor->parts->graph;
    moe_job *job = around->seed.predictor->data->job;
    int **hops = palloc_array(int *, around->n_tables);
    outward *queue = moe_check_ptr(job, moe_alloc(job, around->n_rows, sizeof(outward)));
    int64 n = 0;

    for (int t = 0; t < around->n_tables; t++)
    {
        hops[t] = moe_check_ptr(job, moe_alloc(job, around->lists[t].n, sizeof(int)));
        for (int64 i = 0; i < around->lists[t].n; i++)
            hops[t][i] = INT_MAX;
    }
    hops[0][around->seed.row] = 0;
    queue[n++] = (outward){0, around->seed.row};
    for (int64 at = 0; at < n; at++)
        for (int e = 0; e < moe_graph_keys(graph); e++)
        {
            const moe_graph_key *key = moe_graph_key_at(graph, e);
            outward from = queue[at];
            const int32 *children = NULL;
            int64 n_children = key->parent == from.table ? moe_graph_children(graph, e, from.row, &children) : 0;
            int32 parent = key->child == from.table ? key->parent_of[from.row] : -1;

            CHECK_FOR_INTERRUPTS();
            for (int64 k = 0; k < n_children; k++)
                if (hops[key->child][children[k]] == INT_MAX)
                {
                    hops[key->child][children[k]] = hops[from.table][from.row] + 1;
                    queue[n++] = (outward){key->child, children[k]};
                }
            if (parent >= 0 && hops[key->parent][parent] == INT_MAX)
            {
                hops[key->parent][parent] = hops[from.table][from.row] + 1;
                queue[n++] = (outward){key->parent, parent};
            }
        }
    moe_free(job, queue);
    return hops;
}

/* Nearest first, then the latest first: rows stand in order of time. */
static int
compare_nearness(const void *a, const void *b, void *arg)
{
    const int *hops = arg;
    int32 x = *(const int32 *) a, y = *(const int32 *) b;

    if (hops[x] != hops[y])
        return hops[x] < hops[y] ? -1 : 1;
    return x > y ? -1 : x < y;
}

/* Put each table's rows in the order of their nearness. */
static void
rank_rows(moe_neighbourhood *around, int most_alone)
{
    moe_job *job = around->seed.predictor->data->job;
    int **hops = measure(around);

    around->table = palloc0_array(moe_neighbours, around->n_tables);
    for (int t = 0; t < around->n_tables; t++)
    {
        moe_neighbours *table = &around->table[t];

        table->row = moe_check_ptr(job, moe_alloc(job, around->lists[t].n, sizeof(int32)));
        for (int64 i = 0; i < around->lists[t].n; i++)
            if (t > 0 || i != around->seed.row)
                table->row[table->n++] = (int32) i;
        qsort_arg(table->row, table->n, sizeof(int32), compare_nearness, hops[t]);
        table->n_alone = (int) Min(table->n, most_alone);
        moe_free(job, hops[t]);
    }
    pfree(hops);
}

/* Have all rows there, and a copy of the keys to go back to. */
static void
prepare_cut(moe_neighbourhood *around)
{
    const moe_data *data = around->seed.predictor->data;
    struct moe_cut *cut = palloc0_object(struct moe_cut);

    cut->bound = AllocSetContextCreate(CurrentMemoryContext, "moe_ml bound rows", ALLOCSET_SMALL_SIZES);
    cut->away = palloc_array(bool *, around->n_tables);
    for (int t = 0; t < around->n_tables; t++)
        cut->away[t] = moe_check_ptr(data->job, moe_alloc(data->job, around->lists[t].n, sizeof(bool)));
    cut->parent_of = palloc_array(int32 *, data->n_edges + 1);
    for (int e = 0; e < data->n_edges; e++)
    {
        const moe_graph_key *key = &data->graph_keys[e];
        int64 n = around->lists[key->child].n;

        cut->parent_of[e] = moe_check_ptr(data->job, moe_alloc(data->job, n, sizeof(int32)));
        memcpy(cut->parent_of[e], key->parent_of, n * sizeof(int32));
    }
    around->cut = cut;
}

moe_neighbourhood *
moe_neighbourhood_of(const moe_seed *seed, int most_alone)
{
    moe_neighbourhood *around = palloc0_object(moe_neighbourhood);
    moe_job *job = moe_predictor_job_beside(seed->predictor);
    const moe_row_list *entities;

    around->n_tables = seed->predictor->data->n_tables;
    around->lists = find_rows(job, seed);
    for (int t = 0; t < around->n_tables; t++)
        around->n_rows += around->lists[t].n;
    if (around->n_rows > MOST_ROWS)
    {
        ereport(NOTICE, (errmsg("of " INT64_FORMAT " rows around the key none is told", around->n_rows),
                         errdetail("There is time for %d.", MOST_ROWS),
                         errhint("top_rows => 0 leaves rows out without a word.")));
        return NULL;
    }
    around->of = seed->predictor;
    around->seed.predictor = moe_predictor_excerpt(around->of, job, around->lists, seed->time);
    around->seed.time = seed->time;
    entities = &around->lists[0];
    while (entities->row[around->seed.row] != seed->row)
        around->seed.row++;
    rank_rows(around, most_alone);
    prepare_cut(around);
    return around;
}

int
moe_neighbourhood_players(const moe_neighbourhood *around, int table)
{
    const moe_neighbours *of = &around->table[table];

    return of->n_alone + (of->n > of->n_alone);
}

void
moe_neighbourhood_take(moe_neighbourhood *around, int table, int player, bool away)
{
    const moe_neighbours *of = &around->table[table];
    int64 end = player < of->n_alone ? player + 1 : of->n;

    for (int64 i = player; i < end; i++)
        around->cut->away[table][of->row[i]] = away;
}

void
moe_neighbourhood_settle(moe_neighbourhood *around)
{
    moe_predictor *predictor = around->seed.predictor;
    const moe_data *data = predictor->data;
    struct moe_cut *cut = around->cut;
    MemoryContext old;

    for (int e = 0; e < data->n_edges; e++)
    {
        const moe_graph_key *key = &data->graph_keys[e];
        int32 *parent_of = unconstify(int32 *, key->parent_of);
        int64 n = around->lists[key->child].n;

        for (int64 row = 0; row < n; row++)
        {
            int32 parent = cut->parent_of[e][row];

            parent_of[row] = parent < 0 || cut->away[key->child][row] || cut->away[key->parent][parent] ? -1 : parent;
        }
    }
    moe_check(data->job, moe_graph_relink(predictor->parts->graph));
    MemoryContextReset(cut->bound);
    old = MemoryContextSwitchTo(cut->bound);
    moe_inputs_bind(predictor->inputs, data, predictor->parts->graph);
    MemoryContextSwitchTo(old);
}

void
moe_neighbourhood_end(moe_neighbourhood *around)
{
    moe_predictor_excerpt_end(around->of, around->seed.predictor);
}

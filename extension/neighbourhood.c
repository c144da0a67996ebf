/*
 * neighbourhood.c: the rows around a seed, as a small database of their own.
 *
 * The steps that a prediction takes along keys (embed/reach.h) are taken over
 * what was read, from visible row to visible row. What they come by is copied
 * out, with the model over it: the same prediction, bit for bit. A row that is
 * taken away loses its foreign keys, and what points at it points at nothing;
 * then lists of children, aggregates and samples are made anew. The moment that
 * is looked back from stays, and so do past labels.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "extension/model_predictor_internal.h"
#include "extension/model_reach.h"
#include "extension/moe_ml.h"
#include "extension/neighbourhood.h"

#define MOST_ROWS 100000 /* around a key: more would take seconds */

/* What is away, and the keys as they are with every row there. */
struct moe_cut
{
    MemoryContext bound; /* what the inputs' binding took */
    bool **away;         /* [tables][rows] */
    int32 **parent_of;   /* [edges][rows of the child] */
};

typedef struct walk
{
    moe_job *job;
    const moe_data *data;
    const moe_graph *graph;
    int64 time;
    int64 moment; /* the latest children are those visible then */
    int16 **mark; /* [tables][rows] 2 + the step that came by last; 1: the seed; 0: none did */
    moe_row_list *sets;
} walk;

static const moe_graph_key *
key_of(const walk *w, int key)
{
    return moe_graph_key_at(w->graph, key);
}

/* The table that a step's rows are of. */
static int
table_after(const walk *w, const moe_reach_step *step)
{
    if (step->kind == MOE_REACH_CHILDREN)
        return key_of(w, step->key)->child;
    return key_of(w, step->kind == MOE_REACH_LATEST ? step->other : step->key)->parent;
}

/* Add a row to a step's, once. */
static void
come_by(walk *w, int s, int table, int32 row, int64 *capacity)
{
    moe_row_list *set = &w->sets[s];

    if (row < 0 || w->mark[table][row] == s + 2 || !moe_graph_visible(w->graph, table, row, w->time))
        return;
    w->mark[table][row] = (int16) (s + 2);
    if (set->n == *capacity)
    {
        *capacity = Max(2 * *capacity, 16);
        set->row = moe_check_ptr(w->job, moe_realloc(w->job, set->row, *capacity, sizeof(int32)));
    }
    set->row[set->n++] = row;
}

static int64
time_of(const walk *w, int table, int32 row)
{
    const int64 *time = w->data->graph_tables[table].time;

    return time == NULL ? MOE_TIME_ALWAYS : time[row];
}

/* The rows that the latest visible children point at: several where these have one time. */
static void
take_latest(walk *w, int s, const moe_reach_step *step, int32 seed, int64 *capacity)
{
    const moe_graph_key *key = key_of(w, step->key);
    const moe_graph_key *other = key_of(w, step->other);
    const int32 *children;
    int64 n = moe_graph_children(w->graph, step->key, seed, &children);
    int64 latest = MOE_TIME_ALWAYS;

    for (int pass = 0; pass < 2; pass++)
        for (int64 i = 0; i < n; i++)
        {
            int32 parent = other->parent_of[children[i]];
            int64 time = parent < 0 ? MOE_TIME_NEVER
                                    : Max(time_of(w, key->child, children[i]), time_of(w, other->parent, parent));

            if (time > w->moment || parent < 0)
                continue;
            if (pass == 0)
                latest = Max(latest, time);
            else if (time == latest)
                come_by(w, s, other->parent, parent, capacity);
        }
}

static void
take_step(walk *w, int s, const moe_reach_step *step, const moe_row_list *from)
{
    int table = table_after(w, step);
    int64 capacity = 0;

    CHECK_FOR_INTERRUPTS();
    if (step->kind == MOE_REACH_LATEST)
    {
        take_latest(w, s, step, from->row[0], &capacity);
        return;
    }
    for (int64 i = 0; i < from->n; i++)
    {
        const int32 *children;
        int64 n;

        if (step->kind == MOE_REACH_PARENT)
        {
            come_by(w, s, table, key_of(w, step->key)->parent_of[from->row[i]], &capacity);
            continue;
        }
        n = moe_graph_children(w->graph, step->key, from->row[i], &children);
        for (int64 k = 0; k < n; k++)
            come_by(w, s, table, children[k], &capacity);
    }
}

/* Mark what the steps come by, or all that is visible where they are too many. */
static void
mark_rows(walk *w, const moe_seed *seed)
{
    struct moe_predictor_parts *parts = seed->predictor->parts;
    moe_reach *reach = palloc_object(moe_reach);
    int32 row = seed->row;
    moe_row_list self = {1, &row};

    w->mark[0][seed->row] = 1;
    if (!moe_reach_of(seed->predictor->schema, parts->n_members > 0 ? parts->config.hops : 0, parts->inputs, reach))
    {
        for (int t = 0; t < w->data->n_tables; t++)
            for (int64 i = 0; i < moe_graph_visible_rows(&w->data->graph_tables[t], w->time); i++)
                w->mark[t][i] = 1;
        return;
    }
    w->sets = palloc0_array(moe_row_list, reach->n + 1);
    for (int s = 0; s < reach->n; s++)
        take_step(w, s, &reach->step[s], reach->step[s].from < 0 ? &self : &w->sets[reach->step[s].from]);
    for (int s = 0; s < reach->n; s++)
        moe_free(w->job, w->sets[s].row);
}

/* The rows of each table that were marked, ascending. */
static moe_row_list *
list_rows(const walk *w)
{
    moe_row_list *lists = palloc0_array(moe_row_list, w->data->n_tables);

    for (int t = 0; t < w->data->n_tables; t++)
    {
        int64 n = w->data->tables[t].n_rows;
        int64 at = 0;

        for (int64 row = 0; row < n; row++)
            lists[t].n += w->mark[t][row] != 0;
        lists[t].row = moe_check_ptr(w->job, moe_alloc(w->job, lists[t].n, sizeof(int32)));
        for (int64 row = 0; row < n; row++)
            if (w->mark[t][row] != 0)
                lists[t].row[at++] = (int32) row;
    }
    return lists;
}

static moe_row_list *
find_rows(moe_job *job, const moe_seed *seed)
{
    const moe_predictor *predictor = seed->predictor;
    const moe_data *data = predictor->data;
    walk w = {.job = job, .data = data, .graph = predictor->parts->graph, .time = seed->time};
    moe_row_list *lists;

    w.moment = moe_inputs_look_back_from(predictor->inputs, seed->time, moe_graph_newest(w.graph, seed->time));
    w.mark = palloc_array(int16 *, data->n_tables);
    for (int t = 0; t < data->n_tables; t++)
        w.mark[t] = moe_check_ptr(job, moe_alloc(job, data->tables[t].n_rows, sizeof(int16)));
    mark_rows(&w, seed);
    lists = list_rows(&w);
    for (int t = 0; t < data->n_tables; t++)
        moe_free(job, w.mark[t]);
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

/*
 * reach_walk.c: the steps of a reach (embed/reach.h), taken over rows in memory.
 *
 * What index look-ups would fetch for a key, without a look at other rows: a
 * walk costs what it comes by, not what the tables hold.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "extension/moe_ml.h"
#include "extension/reach_walk.h"

#define FEW_ROWS 1024 /* a set that has grown beyond is made anew, as emptying it costs its size */
#define OF_SEED  (-1)

/* A row that was come by. */
typedef struct passed
{
    uint64 row;    /* table and number */
    int32 step;    /* the last that came by, or OF_SEED */
    uint32 status; /* simplehash's */
} passed;

#define SH_PREFIX         passed
#define SH_ELEMENT_TYPE   passed
#define SH_KEY_TYPE       uint64
#define SH_KEY            row
#define SH_HASH_KEY(t, k) hash_combine(murmurhash32((uint32) ((k) >> 32)), murmurhash32((uint32) (k)))
#define SH_EQUAL(t, a, b) ((a) == (b))
#define SH_SCOPE          static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* The rows of one step. */
typedef struct rows_of_step
{
    int64 n;
    int64 capacity;
    int32 *row;
} rows_of_step;

struct moe_reach_walk
{
    MemoryContext context;
    const moe_data *data;
    const moe_graph *graph;
    const moe_reach *reach;
    rows_of_step *steps; /* [reach->n] */
    passed_hash *passed;
    int32 row;
    int64 time;
    int64 moment;
    int64 n; /* rows besides the seed's own */
    int64 most;
};

moe_reach_walk *
moe_reach_walk_create(const moe_data *data, const moe_graph *graph, const moe_reach *reach)
{
    moe_reach_walk *w = palloc0_object(moe_reach_walk);

    w->context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml walk", ALLOCSET_DEFAULT_SIZES);
    w->data = data;
    w->graph = graph;
    w->reach = reach;
    if (reach != NULL)
        w->steps = MemoryContextAllocZero(w->context, sizeof(rows_of_step) * Max(reach->n, 1));
    w->passed = passed_create(w->context, FEW_ROWS / 2, NULL);
    return w;
}

void
moe_reach_walk_destroy(moe_reach_walk *w)
{
    MemoryContextDelete(w->context);
    pfree(w);
}

static const moe_graph_key *
key_of(const moe_reach_walk *w, int key)
{
    return moe_graph_key_at(w->graph, key);
}

/* The table that a step's rows are of. */
static int
table_after(const moe_reach_walk *w, const moe_reach_step *step)
{
    if (step->kind == MOE_REACH_CHILDREN)
        return key_of(w, step->key)->child;
    return key_of(w, step->kind == MOE_REACH_LATEST ? step->other : step->key)->parent;
}

/* Add a row to a step's, once. */
static void
come_by(moe_reach_walk *w, int s, int table, int32 row)
{
    rows_of_step *rows = &w->steps[s];
    passed *of;
    bool found;

    if (row < 0 || w->n >= w->most || !moe_graph_visible(w->graph, table, row, w->time))
        return;
    of = passed_insert(w->passed, (uint64) table << 32 | (uint32) row, &found);
    if (found && of->step == s)
        return;
    w->n += !found;
    of->step = s;
    if (rows->n == rows->capacity)
    {
        rows->capacity = Max(2 * rows->capacity, 16);
        rows->row = rows->row == NULL ? MemoryContextAlloc(w->context, sizeof(int32) * rows->capacity)
                                      : repalloc_huge(rows->row, sizeof(int32) * rows->capacity);
    }
    rows->row[rows->n++] = row;
}

static int64
time_of(const moe_reach_walk *w, int table, int32 row)
{
    const int64 *time = w->data->graph_tables[table].time;

    return time == NULL ? MOE_TIME_ALWAYS : time[row];
}

/* The rows that the latest visible children point at: several where these have one time. */
static void
take_latest(moe_reach_walk *w, int s, const moe_reach_step *step)
{
    const moe_graph_key *key = key_of(w, step->key);
    const moe_graph_key *other = key_of(w, step->other);
    const int32 *children;
    int64 n = moe_graph_children(w->graph, step->key, w->row, &children);
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
                come_by(w, s, other->parent, parent);
        }
}

/* Children or parents of one row. */
static void
take_from(moe_reach_walk *w, int s, const moe_reach_step *step, int32 row)
{
    int table = table_after(w, step);
    const int32 *children;
    int64 n;

    if (step->kind == MOE_REACH_PARENT)
    {
        come_by(w, s, table, key_of(w, step->key)->parent_of[row]);
        return;
    }
    n = moe_graph_children(w->graph, step->key, row, &children);
    for (int64 k = 0; k < n && w->n < w->most; k++)
        come_by(w, s, table, children[k]);
}

static void
take_step(moe_reach_walk *w, int s)
{
    const moe_reach_step *step = &w->reach->step[s];

    CHECK_FOR_INTERRUPTS();
    if (step->kind == MOE_REACH_LATEST)
        take_latest(w, s, step);
    else if (step->from < 0)
        take_from(w, s, step, w->row);
    else
        for (int64 i = 0; i < w->steps[step->from].n; i++)
            take_from(w, s, step, w->steps[step->from].row[i]);
}

static int64
visible_rows(const moe_reach_walk *w, int table)
{
    return moe_graph_visible_rows(&w->data->graph_tables[table], w->time);
}

int64
moe_reach_walk_from(moe_reach_walk *w, int32 row, int64 time, int64 moment, int64 most)
{
    bool found;

    w->row = row;
    w->time = time;
    w->moment = moment;
    w->most = most;
    w->n = 0;
    if (w->reach == NULL)
    {
        for (int t = 0; t < w->data->n_tables; t++)
            w->n += visible_rows(w, t);
        w->n = Min(Max(w->n - 1, 0), most);
        return w->n;
    }
    if (w->passed->size > 2 * FEW_ROWS)
    {
        passed_destroy(w->passed);
        w->passed = passed_create(w->context, FEW_ROWS / 2, NULL);
    }
    else
        passed_reset(w->passed);
    passed_insert(w->passed, (uint32) row, &found)->step = OF_SEED;
    for (int s = 0; s < w->reach->n; s++)
    {
        w->steps[s].n = 0;
        take_step(w, s);
    }
    return w->n;
}

static int
compare_rows(const void *a, const void *b)
{
    int32 x = *(const int32 *) a, y = *(const int32 *) b;

    return (x > y) - (x < y);
}

static moe_row_list *
rows_visible(const moe_reach_walk *w, moe_job *job)
{
    moe_row_list *lists = palloc0_array(moe_row_list, w->data->n_tables);

    for (int t = 0; t < w->data->n_tables; t++)
    {
        lists[t].n = visible_rows(w, t);
        lists[t].row = moe_check_ptr(job, moe_alloc(job, lists[t].n, sizeof(int32)));
        for (int64 i = 0; i < lists[t].n; i++)
            lists[t].row[i] = (int32) i;
    }
    return lists;
}

static moe_row_list *
rows_passed(const moe_reach_walk *w, moe_job *job)
{
    moe_row_list *lists = palloc0_array(moe_row_list, w->data->n_tables);
    int64 *at = palloc0_array(int64, w->data->n_tables);
    passed_iterator i;
    const passed *of;

    passed_start_iterate(w->passed, &i);
    while ((of = passed_iterate(w->passed, &i)) != NULL)
        lists[of->row >> 32].n++;
    for (int t = 0; t < w->data->n_tables; t++)
        lists[t].row = moe_check_ptr(job, moe_alloc(job, lists[t].n, sizeof(int32)));
    passed_start_iterate(w->passed, &i);
    while ((of = passed_iterate(w->passed, &i)) != NULL)
        lists[of->row >> 32].row[at[of->row >> 32]++] = (int32) (uint32) of->row;
    for (int t = 0; t < w->data->n_tables; t++)
        qsort(lists[t].row, lists[t].n, sizeof(int32), compare_rows);
    pfree(at);
    return lists;
}

moe_row_list *
moe_reach_walk_rows(const moe_reach_walk *w, moe_job *job)
{
    return w->reach == NULL ? rows_visible(w, job) : rows_passed(w, job);
}

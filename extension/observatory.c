/*
 * observatory.c: eight properties of a model's embeddings, on today's rows.
 *
 * The predictor reads the tables as the caller and holds the graph expert's
 * encoders; here rows are sampled as of the newest row time, late columns as
 * known then, and embed/observe.h measures. A table's sample is one row out of
 * each of as many equal stretches of its visible rows as the sample has rows;
 * a foreign key's is the first visible children of parents found the same way.
 * Every draw is a function of the table's number and the stretch's, so that
 * the same rows give the same figures.
 */
#include "postgres.h"

#include <math.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "embed/observe.h"
#include "embed/rows.h"
#include "extension/model_predictor_internal.h"
#include "extension/moe_ml.h"
#include "extension/number.h"
#include "kernels/random.h"

#define MAX_ROWS     4096 /* sampled, all tables together */
#define TABLE_ROWS   256  /* of one table at most */
#define MIN_ROWS     16   /* of one table, however many there are */
#define MAX_MEMBERS  4    /* of the ensemble, the first */
#define JOIN_PARENTS 64   /* sampled of a foreign key */
#define JOIN_TRIES   8 /* as many parents are looked at for each that is wanted: one without children tells nothing */
#define JOIN_ROWS    4 /* children of a parent */
#define KEY          UINT64_C(0x6f62736572766174)

MOE_FUNCTION(moe_observatory);

/* Rows to be sampled of a table. */
typedef struct sample
{
    int64 n;
    int32 *row;
    int32 *parent; /* of a join's */
} sample;

/* The i-th of `strata` draws below n, out of the i-th stretch. */
static int64
draw_from_stretch(uint64 key, int64 i, int64 strata, int64 n)
{
    int64 begin = i * n / strata;
    int64 end = (i + 1) * n / strata;
    int64 place = begin + (int64) (moe_random_uniform(key, i) * (double) (end - begin));

    return Min(place, end - 1);
}

/* The sampled rows as a table, with what was not known at the time as NULL. */
static const moe_table *
pick(moe_predictor *predictor, moe_arena *arena, int table, int64 time, const sample *s)
{
    const moe_graph_table *graph = &predictor->data->graph_tables[table];
    uint8 *hidden = palloc0(Max(s->n, 1));
    moe_table *picked;

    for (int64 i = 0; i < s->n; i++)
        for (int b = 0; b < graph->n_hidden; b++)
            if (graph->known_at[b][s->row[i]] > time)
                hidden[i] |= 1 << b;
    picked = moe_rows_pick(arena, &predictor->data->tables[table], s->row, hidden, s->n);
    pfree(hidden);
    return moe_check_ptr(predictor->job, picked);
}

static const moe_table *
sample_table(moe_predictor *predictor, moe_arena *arena, int table, int64 time)
{
    int64 visible = moe_graph_visible_rows(&predictor->data->graph_tables[table], time);
    int64 wanted = MAX_ROWS / predictor->data->n_tables;
    sample s;

    wanted = Max(MIN_ROWS, Min(TABLE_ROWS, wanted));
    s.n = Min(visible, wanted);
    s.row = palloc_array(int32, s.n + 1);
    for (int64 i = 0; i < s.n; i++)
        s.row[i] = (int32) draw_from_stretch(moe_key(KEY, table), i, s.n, visible);
    return pick(predictor, arena, table, time, &s);
}

/* Sample children that have siblings; parents ascend. */
static void
sample_children(moe_predictor *predictor, int key, int64 time, sample *s)
{
    const moe_graph *graph = predictor->parts->graph;
    const moe_graph_key *edge = moe_graph_key_at(graph, key);
    int64 n = moe_graph_visible_rows(&predictor->data->graph_tables[edge->parent], time);
    int64 tries = Min(n, JOIN_PARENTS * JOIN_TRIES);
    int parents = 0;

    for (int64 i = 0; i < tries && parents < JOIN_PARENTS; i++)
    {
        int32 parent = (int32) draw_from_stretch(moe_key(KEY, -1 - key), i, tries, n);
        int64 children = moe_graph_visible_children(graph, key, parent, time);
        const int32_t *row;

        if (children < 2)
            continue;
        moe_graph_children(graph, key, parent, &row);
        parents++;
        for (int64 k = 0; k < Min(children, JOIN_ROWS); k++, s->n++)
        {
            s->row[s->n] = row[k];
            s->parent[s->n] = parent;
        }
    }
}

static void
sample_join(moe_predictor *predictor, moe_arena *arena, int key, int64 time, moe_observed_join *join)
{
    sample s = {0};

    s.row = palloc_array(int32, JOIN_PARENTS * JOIN_ROWS);
    s.parent = palloc_array(int32, JOIN_PARENTS * JOIN_ROWS);
    sample_children(predictor, key, time, &s);
    join->table = moe_graph_key_at(predictor->parts->graph, key)->child;
    join->rows = pick(predictor, arena, join->table, time, &s);
    join->parent = s.parent;
}

/* The encoders of the graph expert's first members. */
static void
open_embedder(const moe_predictor *predictor, moe_embedder *embedder)
{
    const struct moe_predictor_parts *parts = predictor->parts;
    int members = Min(parts->n_members, MAX_MEMBERS);
    moe_params *params[MAX_MEMBERS];
    const char *name = get_rel_name(predictor->info->foreign_table);

    if (members == 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("model \"%s\" embeds no rows: it has no graph expert", name),
                        errhint("Create it WITH (experts = '..., graph').")));
    for (int i = 0; i < members; i++)
        params[i] = parts->member[i].params;
    moe_check(predictor->job, moe_embedder_create(predictor->job, parts->features, params, members, embedder));
}

/* Sample, and measure. */
static void
observe(moe_predictor *predictor, moe_embedder *embedder, moe_finding *findings)
{
    const moe_data *data = predictor->data;
    int64 time = moe_predictor_default_time(predictor);
    moe_arena *arena = moe_check_ptr(predictor->job, moe_arena_create(predictor->job));
    const moe_table **tables = palloc_array(const moe_table *, data->n_tables);
    moe_observed_join *joins = palloc_array(moe_observed_join, data->n_edges + 1);
    moe_observed observed = {.embedder = embedder,
                             .n_tables = data->n_tables,
                             .tables = tables,
                             .n_joins = data->n_edges,
                             .joins = joins,
                             .key = KEY};

    for (int t = 0; t < data->n_tables; t++)
        tables[t] = sample_table(predictor, arena, t, time);
    for (int k = 0; k < data->n_edges; k++)
        sample_join(predictor, arena, k, time, &joins[k]);
    CHECK_FOR_INTERRUPTS();
    moe_check(predictor->job, moe_observe(predictor->job, &observed, findings));
    moe_arena_destroy(arena);
}

enum
{
    PROPERTY,
    FIGURE,
    SAMPLES,
    MEANING,
    OBSERVATORY_COLUMNS
};

/* To six places: the last bits of a cosine are rounding. */
static void
emit(ReturnSetInfo *result, const moe_finding *finding)
{
    Datum values[OBSERVATORY_COLUMNS];
    bool nulls[OBSERVATORY_COLUMNS] = {[FIGURE] = isnan(finding->figure)};

    values[PROPERTY] = CStringGetTextDatum(finding->property);
    values[FIGURE] = Float8GetDatum(moe_number_share(finding->figure));
    values[SAMPLES] = Int64GetDatum(finding->samples);
    values[MEANING] = CStringGetTextDatum(finding->meaning);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
moe_observatory(PG_FUNCTION_ARGS)
{
    moe_predictor *predictor = moe_predictor_open(moe_model_lookup(PG_GETARG_TEXT_PP(0)));
    moe_finding findings[MOE_FINDINGS];
    moe_embedder embedder;

    moe_predictor_hold(predictor, CurrentMemoryContext);
    InitMaterializedSRF(fcinfo, 0);
    open_embedder(predictor, &embedder);
    observe(predictor, &embedder, findings);
    moe_embedder_destroy(&embedder);
    for (int i = 0; i < MOE_FINDINGS; i++)
        emit((ReturnSetInfo *) fcinfo->resultinfo, &findings[i]);
    return (Datum) 0;
}

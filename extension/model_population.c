/*
 * model_population.c: which entities count at a moment.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/key.h"
#include "extension/model_predictor_internal.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"

#define FETCH_ROWS 4096

static int
compare_rows(const void *a, const void *b)
{
    int32 x = *(const int32 *) a;
    int32 y = *(const int32 *) b;

    return x < y ? -1 : x > y;
}

static int64
sort_unique(int32 *rows, int64 n)
{
    int64 kept = 0;

    qsort(rows, n, sizeof(int32), compare_rows);
    for (int64 i = 0; i < n; i++)
    {
        if (kept == 0 || rows[kept - 1] != rows[i])
            rows[kept++] = rows[i];
    }
    return kept;
}

/* The population query, as stored, must give what keys are found by. */
static void
check_population(const moe_predictor *predictor, Portal portal)
{
    const moe_schema *schema = predictor->schema;
    bool fits = portal != NULL && portal->tupDesc != NULL && portal->tupDesc->natts >= schema->n_key;

    for (int i = 0; fits && i < schema->n_key; i++)
        fits = getBaseType(SPI_gettypeid(portal->tupDesc, i + 1)) == schema->tables[0].columns[schema->key[i]].type;
    if (!fits)
        moe_predictor_check_stored(predictor, moe_fail(predictor->job, MOE_CORRUPT,
                                                       "the population query in moe_ml.model does not give the keys"));
}

/* Run the model's population query for a time; rows that are not visible then do not count. */
static int64
query_population(moe_predictor *predictor, int64 time, int64 visible, int32 **rows)
{
    const moe_schema *schema = predictor->schema;
    MemoryContext context = CurrentMemoryContext;
    Oid types[1 + INDEX_MAX_KEYS] = {schema->time_type};
    Datum values[1 + INDEX_MAX_KEYS] = {TimestampGetDatum(time)};
    char *query;
    int n_values = 1;
    int64 n = 0;
    int64 capacity = FETCH_ROWS;
    SPIPlanPtr plan;
    Portal portal;
    int level;

    query = moe_key_restrict(schema, predictor->only, predictor->info->population, values, &n_values);
    moe_key_types(schema, types + 1);
    *rows = MemoryContextAllocHuge(context, capacity * sizeof(int32));
    level = moe_sql_begin_model(predictor->info->search_path);
    SPI_connect();
    plan = SPI_prepare(query, n_values, types);
    portal = plan && SPI_is_cursor_plan(plan) ? SPI_cursor_open(NULL, plan, values, NULL, true) : NULL;
    check_population(predictor, portal);
    for (;;)
    {
        SPI_cursor_fetch(portal, true, FETCH_ROWS);
        if (SPI_processed == 0)
            break;
        CHECK_FOR_INTERRUPTS();
        if (n + (int64) SPI_processed > capacity)
        {
            capacity = Max(capacity * 2, n + (int64) SPI_processed);
            *rows = repalloc_huge(*rows, capacity * sizeof(int32));
        }
        for (uint64 i = 0; i < SPI_processed; i++)
        {
            Datum key[INDEX_MAX_KEYS];
            bool nulls[INDEX_MAX_KEYS];
            int32 row;

            for (int k = 0; k < schema->n_key; k++)
                key[k] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, k + 1, &nulls[k]);
            row = moe_data_find(predictor->data, key, nulls);
            if (row >= 0 && row < visible)
                (*rows)[n++] = row;
        }
        SPI_freetuptable(SPI_tuptable);
    }
    SPI_cursor_close(portal);
    SPI_finish();
    moe_sql_end(level);
    return sort_unique(*rows, n);
}

/* The population of a time, from the query once per time and predictor. */
static int64
population_at(moe_predictor *predictor, int64 time, const int32 **rows)
{
    struct moe_predictor_parts *parts = predictor->parts;
    MemoryContext old;

    if (!parts->has_population || parts->population_time != time)
    {
        int64 visible = moe_graph_visible_rows(&predictor->data->graph_tables[0], time);
        int32 *population; /* the query may ask this predictor something itself */
        int64 n;

        old = MemoryContextSwitchTo(predictor->context);
        n = query_population(predictor, time, visible, &population);
        MemoryContextSwitchTo(old);
        if (parts->population != NULL)
            pfree(parts->population);
        parts->population = population;
        parts->n_population = n;
        parts->population_time = time;
        parts->has_population = true;
    }
    *rows = parts->population;
    return parts->n_population;
}

static bool
contains_row(const int32 *rows, int64 n, int32 row)
{
    return n > 0 && bsearch(&row, rows, n, sizeof(int32), compare_rows) != NULL;
}

int64
moe_predictor_population(moe_predictor *predictor, int64 time, const int32 *candidates, int64 n_candidates,
                         int32 **rows)
{
    int64 visible = moe_graph_visible_rows(&predictor->data->graph_tables[0], time);
    const int32 *counted = NULL;
    int64 n_counted = 0;
    int64 n = 0;

    if (predictor->info->population != NULL)
        n_counted = population_at(predictor, time, &counted);
    if (candidates == NULL)
        n_candidates = counted ? n_counted : visible;
    *rows = MemoryContextAllocHuge(CurrentMemoryContext, Max(n_candidates, 1) * sizeof(int32));
    for (int64 i = 0; i < n_candidates; i++)
    {
        int32 row = candidates ? candidates[i] : counted ? counted[i] : (int32) i;

        if (row < 0 || row >= visible)
            continue;
        if (candidates != NULL && counted != NULL && !contains_row(counted, n_counted, row))
            continue;
        (*rows)[n++] = row;
    }
    return candidates ? sort_unique(*rows, n) : n;
}

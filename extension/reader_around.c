/*
 * reader_around.c: the rows around one entity row, step by step along keys.
 *
 * A step of the reach is one SELECT: its rows are those of a table whose key
 * columns have values that rows of an earlier step have. Rows are known by
 * their place in the table, so that one that several steps come by is kept
 * once; at the end those of each table go the way of a table that was read whole.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "extension/moe_ml.h"
#include "extension/reader_batch.h"
#include "extension/schema_internal.h"

#define EXTRA_ITEMS 2 /* tableoid and ctid, behind the sinks' */

typedef struct place /* of a row in its table, or partition */
{
    Oid tableoid;
    BlockNumber block;
    OffsetNumber offset;
    uint16 unused; /* keys are compared as bytes */
} place;

typedef struct placed
{
    place place;
    int32 row;
} placed;

typedef struct row_set
{
    int64 n;
    int64 capacity;
    int32 *row;
} row_set;

typedef struct around_table
{
    moe_reading reading;
    int16 *length; /* [n_sinks] of the items' types */
    bool *by_value;
    HTAB *places;
    int64 n;
    int64 capacity;
    Datum *values; /* [n, n_sinks] */
    bool *nulls;
    int *step; /* [n] that a row was put into last */
} around_table;

typedef struct gathering
{
    moe_data *data;
    const moe_schema *schema;
    const moe_link *links;
    const moe_around *around;
    MemoryContext context; /* of what is gathered */
    around_table *tables;
    row_set self;
    row_set *sets; /* [reach->n] */
    int64 n_rows;
    bool too_many;
} gathering;

/* Takes the rows of one step. */
typedef struct receiver
{
    DestReceiver base; /* first: the executor knows this part only */
    gathering *g;
    around_table *table;
    row_set *set;
    int step;
} receiver;

static void
put_in_set(gathering *g, row_set *set, int32 row)
{
    if (set->n == set->capacity)
    {
        set->capacity = Max(set->capacity * 2, 64);
        set->row = set->row == NULL ? MemoryContextAllocHuge(g->context, sizeof(int32) * set->capacity)
                                    : repalloc_huge(set->row, sizeof(int32) * set->capacity);
    }
    set->row[set->n++] = row;
}

static void
grow(gathering *g, around_table *table)
{
    int n = table->reading.n_sinks;

    if (table->n < table->capacity)
        return;
    if (table->capacity == 0)
    {
        table->capacity = 64;
        table->values = MemoryContextAllocHuge(g->context, sizeof(Datum) * table->capacity * n);
        table->nulls = MemoryContextAllocHuge(g->context, sizeof(bool) * table->capacity * n);
        table->step = MemoryContextAllocHuge(g->context, sizeof(int) * table->capacity);
        return;
    }
    table->capacity *= 2;
    table->values = repalloc_huge(table->values, sizeof(Datum) * table->capacity * n);
    table->nulls = repalloc_huge(table->nulls, sizeof(bool) * table->capacity * n);
    table->step = repalloc_huge(table->step, sizeof(int) * table->capacity);
}

/* Do the rows take more memory than a reading may use? */
static bool
is_too_large(const gathering *g)
{
    return MemoryContextMemAllocated(g->context, true) + moe_job_memory_used(g->data->job) >
           (size_t) moe_setting_memory_limit_mb * 1024 * 1024;
}

/* Keep a copy of a row. */
static int32
keep(gathering *g, around_table *table, const TupleTableSlot *slot)
{
    int n = table->reading.n_sinks;
    MemoryContext old = MemoryContextSwitchTo(g->context);
    Datum *values;
    bool *nulls;

    grow(g, table);
    values = table->values + table->n * n;
    nulls = table->nulls + table->n * n;
    for (int i = 0; i < n; i++)
    {
        Form_pg_attribute attribute = TupleDescAttr(slot->tts_tupleDescriptor, i);

        nulls[i] = slot->tts_isnull[i];
        if (nulls[i])
            values[i] = (Datum) 0;
        else if (attribute->attlen == -1)
            values[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(slot->tts_values[i]));
        else
            values[i] = datumCopy(slot->tts_values[i], attribute->attbyval, attribute->attlen);
    }
    MemoryContextSwitchTo(old);
    return (int32) table->n++;
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
    receiver *r = (receiver *) self;
    around_table *table = r->table;
    int n = table->reading.n_sinks;
    place key = {0};
    ItemPointer at;
    placed *entry;
    bool found;

    slot_getallattrs(slot);
    at = (ItemPointer) DatumGetPointer(slot->tts_values[n + 1]);
    key.tableoid = DatumGetObjectId(slot->tts_values[n]);
    key.block = ItemPointerGetBlockNumber(at);
    key.offset = ItemPointerGetOffsetNumber(at);
    entry = hash_search(table->places, &key, HASH_ENTER, &found);
    if (!found)
    {
        if (++r->g->n_rows > r->g->around->most_rows || is_too_large(r->g))
        {
            r->g->too_many = true;
            return false;
        }
        entry->row = keep(r->g, table, slot);
        table->step[entry->row] = r->step - 1;
    }
    if (found && table->step[entry->row] == r->step)
        return true;
    table->step[entry->row] = r->step;
    put_in_set(r->g, r->set, entry->row);
    return true;
}

static void
start_receiving(DestReceiver *self, int operation, TupleDesc desc)
{
    const receiver *r = (const receiver *) self;

    if (desc->natts != r->table->reading.n_sinks + EXTRA_ITEMS)
        elog(ERROR, "reading gave %d columns, expected %d", desc->natts, r->table->reading.n_sinks + EXTRA_ITEMS);
}

static void
ignore(DestReceiver *self)
{
}

/* Run a step's SELECT: its rows are those of table t. */
static void
run_select(gathering *g, int step, int t, const char *sql, int n, const Oid *types, const Datum *values)
{
    receiver r = {.g = g, .table = &g->tables[t], .set = step < 0 ? &g->self : &g->sets[step], .step = step};
    ParamListInfo params = makeParamList(n);
    SPIPlanPtr plan;
    int code;

    for (int i = 0; i < n; i++)
    {
        params->params[i].value = values[i];
        params->params[i].isnull = false;
        params->params[i].pflags = PARAM_FLAG_CONST;
        params->params[i].ptype = types[i];
    }
    r.base.receiveSlot = receive;
    r.base.rStartup = start_receiving;
    r.base.rShutdown = ignore;
    r.base.rDestroy = ignore;
    r.base.mydest = DestNone;
    plan = SPI_prepare(sql, n, unconstify(Oid *, types));
    if (plan == NULL)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    code = SPI_execute_plan_extended(plan, &(SPIExecuteOptions){.params = params, .read_only = true, .dest = &r.base});
    if (code < 0)
        elog(ERROR, "could not read table \"%s\": %s", g->schema->tables[t].name, SPI_result_code_string(code));
    SPI_freeplan(plan);
}

/* The items of a table, and where its row is. */
static void
begin_select(const gathering *g, int t, StringInfo sql)
{
    initStringInfo(sql);
    appendStringInfo(sql, "SELECT %s%sc.tableoid, c.ctid FROM ", g->tables[t].reading.sql.data,
                     g->tables[t].reading.n_sinks > 0 ? ", " : "");
}

static char *
column_of(const gathering *g, const char *alias, const moe_key_read *read)
{
    return psprintf("%s.%s", alias, quote_identifier(g->schema->tables[read->table].columns[read->column].name));
}

/* The item of a table that holds a key's values. */
static int
item_of(const gathering *g, const moe_key_read *read)
{
    const moe_reading *reading = &g->tables[read->table].reading;
    int s = 0;

    while (reading->sinks[s].key == NULL || reading->sinks[s].key != read->values)
        s++;
    return s;
}

static int
compare_words(const void *a, const void *b)
{
    Datum x = *(const Datum *) a, y = *(const Datum *) b;

    return (x > y) - (x < y);
}

/* The values that rows of a set have in one key column, as an array; those by value once each. */
static Datum
values_of(const gathering *g, const row_set *set, const moe_key_read *read, bool unique, int *n)
{
    const around_table *table = &g->tables[read->table];
    Oid type = g->schema->tables[read->table].columns[read->column].type;
    int item = item_of(g, read);
    Datum *values = palloc(sizeof(Datum) * Max(set->n, 1));
    bool *nulls = palloc(sizeof(bool) * Max(set->n, 1));
    int dims[1], lower[1] = {1};
    int16 length;
    bool by_value;
    char align;
    int64 kept = 0;

    get_typlenbyvalalign(type, &length, &by_value, &align);
    for (int64 i = 0; i < set->n; i++)
    {
        int64 at = (int64) set->row[i] * table->reading.n_sinks + item;

        if (unique && table->nulls[at])
            continue;
        nulls[kept] = table->nulls[at];
        values[kept++] = table->values[at];
    }
    if (unique && by_value)
    {
        int64 distinct = 0;

        qsort(values, kept, sizeof(Datum), compare_words);
        for (int64 i = 0; i < kept; i++)
            if (distinct == 0 || values[distinct - 1] != values[i])
                values[distinct++] = values[i];
        kept = distinct;
    }
    *n = dims[0] = (int) kept;
    return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, type, length, by_value, align));
}

/* The rows of table t whose key columns `wanted` equal `given` of the rows of a set. */
static void
select_equal(gathering *g, int step, int t, int n_columns, moe_key_read *const *wanted, moe_key_read *const *given,
             const row_set *from)
{
    Oid types[INDEX_MAX_KEYS];
    Datum values[INDEX_MAX_KEYS];
    StringInfoData sql;
    int n = 0;

    for (int i = 0; i < n_columns; i++)
    {
        types[i] = get_array_type(g->schema->tables[given[i]->table].columns[given[i]->column].type);
        values[i] = values_of(g, from, given[i], n_columns == 1, &n);
    }
    if (n == 0)
        return;
    begin_select(g, t, &sql);
    if (n_columns == 1)
        appendStringInfo(&sql, "%s c%s WHERE %s = ANY ($1)", moe_schema_qualified(&g->schema->tables[t]),
                         g->tables[t].reading.joins.data, column_of(g, "c", wanted[0]));
    else
    {
        appendStringInfoString(&sql, "ROWS FROM (");
        for (int i = 0; i < n_columns; i++)
            appendStringInfo(&sql, "%sunnest($%d)", i ? ", " : "", i + 1);
        appendStringInfoString(&sql, ") AS k (");
        for (int i = 0; i < n_columns; i++)
            appendStringInfo(&sql, "%sk%d", i ? ", " : "", i + 1);
        appendStringInfo(&sql, ") JOIN %s c ON ", moe_schema_qualified(&g->schema->tables[t]));
        for (int i = 0; i < n_columns; i++)
            appendStringInfo(&sql, "%s%s = k.k%d", i ? " AND " : "", column_of(g, "c", wanted[i]), i + 1);
        appendStringInfoString(&sql, g->tables[t].reading.joins.data);
    }
    run_select(g, step, t, sql.data, n_columns, types, values);
}

/* The entity row itself. */
static void
select_self(gathering *g)
{
    const moe_schema *schema = g->schema;
    Oid types[INDEX_MAX_KEYS];
    StringInfoData sql;

    begin_select(g, 0, &sql);
    appendStringInfo(&sql, "%s c%s WHERE ", moe_schema_qualified(&schema->tables[0]), g->tables[0].reading.joins.data);
    for (int i = 0; i < schema->n_key; i++)
    {
        const moe_schema_column *column = &schema->tables[0].columns[schema->key[i]];

        types[i] = column->type;
        appendStringInfo(&sql, "%sc.%s = $%d", i ? " AND " : "", quote_identifier(column->name), i + 1);
    }
    run_select(g, MOE_REACH_SELF, 0, sql.data, schema->n_key, types, g->around->key);
}

/* A row time that a row without one has from the beginning; NULL: all rows of the table. */
static char *
moment_of(const gathering *g, int t, const char *alias, StringInfo joins, int *n_joins)
{
    const char *type = g->schema->time_type == TIMESTAMPTZOID ? "timestamptz" : "timestamp";
    char *time = moe_schema_any_time(g->schema, t, alias, joins, n_joins);

    return time == NULL ? NULL : psprintf("COALESCE(%s, '-infinity'::pg_catalog.%s)", time, type);
}

/* The rows that the latest visible children of an entity row point at: several where these have one time. */
static void
select_latest(gathering *g, int step, const moe_reach_step *what, int32 row)
{
    const moe_schema *schema = g->schema;
    const moe_schema_edge *key = &schema->edges[what->key];
    const moe_schema_edge *other = &schema->edges[what->other];
    const around_table *entity = &g->tables[0];
    Oid types[INDEX_MAX_KEYS + 1];
    Datum values[INDEX_MAX_KEYS + 1];
    StringInfoData sql, joins;
    int n_joins = 0;
    char *times[2];
    int n = 0;

    begin_select(g, other->parent, &sql);
    initStringInfo(&joins);
    appendStringInfo(&sql, "%s l JOIN %s c ON ", moe_schema_qualified(&schema->tables[key->child]),
                     moe_schema_qualified(&schema->tables[other->parent]));
    for (int i = 0; i < other->n_columns; i++)
        appendStringInfo(&sql, "%s%s = %s", i ? " AND " : "", column_of(g, "l", g->links[what->other].child[i]),
                         column_of(g, "c", g->links[what->other].parent[i]));
    times[0] = moment_of(g, other->parent, "c", &joins, &n_joins); /* the same joins as those of its items */
    times[1] = moment_of(g, key->child, "l", &joins, &n_joins);
    appendStringInfoString(&sql, joins.data);
    for (int i = 0; i < key->n_columns; i++)
    {
        const moe_key_read *parent = g->links[what->key].parent[i];
        int64 at = (int64) row * entity->reading.n_sinks + item_of(g, parent);

        if (entity->nulls[at])
            return;
        types[n] = schema->tables[0].columns[parent->column].type;
        values[n++] = entity->values[at];
        appendStringInfo(&sql, " %s %s = $%d", i ? "AND" : "WHERE", column_of(g, "l", g->links[what->key].child[i]), n);
    }
    types[n] = schema->time_type;
    values[n++] = TimestampTzGetDatum(g->around->moment);
    for (int i = 0; i < 2; i++)
        if (times[i] != NULL)
            appendStringInfo(&sql, " AND %s <= $%d", times[i], n);
    if (times[0] != NULL && times[1] != NULL)
        appendStringInfo(&sql, " ORDER BY GREATEST(%s, %s) DESC FETCH FIRST ROW WITH TIES", times[0], times[1]);
    else if (times[0] != NULL || times[1] != NULL)
        appendStringInfo(&sql, " ORDER BY %s DESC FETCH FIRST ROW WITH TIES", times[0] != NULL ? times[0] : times[1]);
    run_select(g, step, other->parent, sql.data, n - (times[0] == NULL && times[1] == NULL), types, values);
}

static void
take_step(gathering *g, int step)
{
    const moe_reach_step *what = &g->around->reach->step[step];
    const moe_schema_edge *edge = &g->schema->edges[what->key];
    const moe_link *link = &g->links[what->key];
    const row_set *from = what->from < 0 ? &g->self : &g->sets[what->from];

    CHECK_FOR_INTERRUPTS();
    if (from->n == 0)
        return;
    if (what->kind == MOE_REACH_CHILDREN)
        select_equal(g, step, edge->child, edge->n_columns, link->child, link->parent, from);
    else if (what->kind == MOE_REACH_PARENT)
        select_equal(g, step, edge->parent, edge->n_columns, link->parent, link->child, from);
    else
        for (int64 i = 0; i < g->self.n; i++) /* a key may occur twice among those who inherit */
            select_latest(g, step, what, g->self.row[i]);
}

static void
begin_tables(gathering *g, List *key_reads, MemoryContext context)
{
    HASHCTL control = {.keysize = sizeof(place), .entrysize = sizeof(placed), .hcxt = g->context};

    g->tables = palloc0(sizeof(around_table) * g->schema->n_tables);
    for (int t = 0; t < g->schema->n_tables; t++)
    {
        MemoryContext old = MemoryContextSwitchTo(context);

        moe_reading_plan(&g->tables[t].reading, g->data, t, key_reads);
        MemoryContextSwitchTo(old);
        g->tables[t].places = hash_create("moe_ml rows", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
}

/* The rows of a table into its sinks. */
static void
deliver(around_table *table)
{
    moe_reading *reading = &table->reading;
    moe_batches *batches;

    reading->capacity = 1; /* not what the planner expects of the table */
    batches = moe_batches_create(reading);
    for (int64 row = 0; row < table->n; row++)
        moe_batches_add(batches, table->values + row * reading->n_sinks, table->nulls + row * reading->n_sinks);
    moe_batches_finish(batches);
    moe_reading_deliver(reading);
}

bool
moe_read_around(moe_data *data, List *key_reads, const moe_link *links, const moe_around *around, MemoryContext context)
{
    gathering g = {.data = data, .schema = data->schema, .links = links, .around = around};
    MemoryContext old;

    g.context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml rows around", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(g.context);
    g.sets = palloc0(sizeof(row_set) * Max(around->reach->n, 1));
    begin_tables(&g, key_reads, context);
    select_self(&g);
    for (int s = 0; s < around->reach->n && !g.too_many; s++)
        take_step(&g, s);
    for (int t = 0; t < data->n_tables && !g.too_many; t++)
        deliver(&g.tables[t]);
    data->rows_read = g.n_rows;
    MemoryContextSwitchTo(old);
    MemoryContextDelete(g.context);
    return !g.too_many;
}

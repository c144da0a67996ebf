/*
 * reader_table.c: one table through one cursor.
 *
 * The SELECT names each value that is wanted, once per use; each item has a
 * sink. Rows of one moment stand in an order that only their content decides:
 * by a hash of what was known with the row, then by what became known of it
 * later, in the order in which it did. So what is not yet known to a seed moves
 * no row that the seed could tell from another.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "extension/moe_ml.h"
#include "extension/reader_internal.h"
#include "extension/schema_internal.h"
#include "kernels/random.h"

#define FETCH_ROWS 4096
#define MAX_ITEMS  MaxTupleAttributeNumber

/* One table being read. */
typedef struct moe_reading
{
    moe_data *data;
    int table;
    const moe_schema_table *schema;
    MemoryContext context; /* for what outlives the reading */
    StringInfoData sql;
    StringInfoData joins;
    int n_sinks;
    moe_sink *sinks;
    int row_time;  /* sink, -1: none */
    int n_hidden;  /* groups */
    int hidden[8]; /* known-at column of each group */
    int hidden_sink[8];
    int64 n_rows;
    int64 capacity;
    uint64 *hash;         /* of what is known with the row */
    uint64 *late_hash[8]; /* of each group */
} moe_reading;

char *
moe_sql_type(Oid type)
{
    HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    Form_pg_type form;
    char *name;

    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for type %u", type);
    form = (Form_pg_type) GETSTRUCT(tuple);
    name = quote_qualified_identifier(get_namespace_name(form->typnamespace), NameStr(form->typname));
    ReleaseSysCache(tuple);
    return name;
}

/* Add an item to the SELECT; returns its sink. */
static moe_sink *
add_sink(moe_reading *reading, moe_sink_kind kind, int column, const char *expression, Oid type)
{
    moe_sink *sink = &reading->sinks[reading->n_sinks++];

    if (reading->n_sinks > MAX_ITEMS)
        ereport(ERROR, (errcode(ERRCODE_TOO_MANY_COLUMNS),
                        errmsg("table \"%s\" has too many columns to be read at once", reading->schema->name),
                        errhint("Leave some out with the option ignored_columns.")));
    moe_sink_init(sink, kind, column, type);
    if (reading->n_sinks > 1)
        appendStringInfoString(&reading->sql, ", ");
    appendStringInfoString(&reading->sql, expression);
    return sink;
}

static char *
column_reference(const moe_reading *reading, int column)
{
    return psprintf("c.%s", quote_identifier(reading->schema->columns[column].name));
}

static void
add_plain(moe_reading *reading, moe_sink_kind kind, int column)
{
    add_sink(reading, kind, column, column_reference(reading, column), reading->schema->columns[column].type);
}

static void
add_feature(moe_reading *reading, int i)
{
    const moe_schema_column *column = &reading->schema->columns[i];
    char *reference = column_reference(reading, i);

    switch (column->storage)
    {
        case MOE_STORE_NUMBER:
        case MOE_STORE_BOOL:
            if (column->type == CASHOID)
                add_sink(reading, SINK_NUMBER, i, psprintf("CAST(%s AS pg_catalog.numeric)", reference), NUMERICOID);
            else
                add_plain(reading, SINK_NUMBER, i);
            break;
        case MOE_STORE_TIME:
            add_plain(reading, SINK_TIME, i);
            break;
        case MOE_STORE_STRING:
            if (column->type == TSVECTOROID)
                add_sink(reading, SINK_STRING, i, psprintf("pg_catalog.tsvector_to_array(%s)", reference),
                         TEXTARRAYOID);
            else
                add_plain(reading, SINK_STRING, i);
            break;
        case MOE_STORE_VECTOR:
            if (OidIsValid(get_element_type(column->type)))
                add_plain(reading, SINK_VECTOR, i);
            else
                add_sink(reading, SINK_VECTOR, i, psprintf("CAST(%s AS pg_catalog._float4)", reference),
                         FLOAT4ARRAYOID);
            break;
    }
}

/* The number of the group whose values become known at a column's time, adding it if it is new. */
static int
hidden_group(moe_reading *reading, int known_at)
{
    int g = 0;

    while (g < reading->n_hidden && reading->hidden[g] != known_at)
        g++;
    if (g == 8)
        elog(ERROR, "more than 8 groups of hidden columns in table \"%s\"", reading->schema->name);
    if (g == reading->n_hidden)
    {
        reading->hidden[g] = known_at;
        reading->hidden_sink[g] = reading->n_sinks;
        reading->n_hidden++;
        add_plain(reading, SINK_KNOWN_AT, known_at);
    }
    return g;
}

static void
add_key(moe_reading *reading, moe_key_read *read)
{
    const moe_schema_column *column = &reading->schema->columns[read->column];
    char *reference = column_reference(reading, read->column);
    Oid type = column->type;
    Oid collation = column->collation;
    moe_sink *sink;

    if (moe_key_needs_cast(type, read->target))
    {
        reference = psprintf("CAST(%s AS %s)", reference, moe_sql_type(read->target));
        type = read->target;
    }
    if (!OidIsValid(collation))
        collation = get_typcollation(type);
    sink = add_sink(reading, SINK_KEY, read->column, reference, type);
    sink->key = moe_key_column_create(reading->data->job, type, collation);
    read->values = sink->key;
}

/* A table without a time column: its rows are visible since their parents are. */
static void
add_inherited_time(moe_reading *reading)
{
    const moe_schema *schema = reading->data->schema;
    char *expression = moe_schema_any_time(schema, reading->table, "c", &reading->joins);

    if (expression == NULL)
        return;
    reading->row_time = 0;
    add_sink(reading, SINK_ROW_TIME, -1, expression, schema->time_type);
}

/* Compose the SELECT and its sinks. */
static void
plan_reading(moe_reading *reading, List *key_reads)
{
    const moe_schema_table *table = reading->schema;
    ListCell *cell;
    int feature;

    reading->sinks = palloc0(sizeof(moe_sink) * (2 * table->n_columns + list_length(key_reads) + 2));
    reading->row_time = -1;
    initStringInfo(&reading->sql);
    initStringInfo(&reading->joins);
    appendStringInfoString(&reading->sql, "SELECT ");
    if (table->time >= 0)
    {
        reading->row_time = 0;
        add_plain(reading, SINK_ROW_TIME, table->time);
    }
    else
        add_inherited_time(reading);
    for (int i = 0; i < table->n_columns; i++)
    {
        if (table->columns[i].role != MOE_ROLE_FEATURE)
            continue;
        feature = reading->n_sinks;
        add_feature(reading, i);
        if (table->columns[i].known_at >= 0)
            reading->sinks[feature].group = hidden_group(reading, table->columns[i].known_at);
    }
    foreach (cell, key_reads)
    {
        moe_key_read *read = lfirst(cell);

        if (read->table == reading->table)
            add_key(reading, read);
    }
    appendStringInfo(&reading->sql, " FROM %s c%s", moe_schema_qualified(table), reading->joins.data);
}

static void
reserve(moe_reading *reading)
{
    moe_job *job = reading->data->job;

    if (reading->n_rows < reading->capacity)
        return;
    if (reading->n_rows == PG_INT32_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("table \"%s\" has more than %d rows", reading->schema->name, PG_INT32_MAX),
                        errhint("Let the model read a view of its newer rows, or leave it out with USING.")));
    reading->capacity = reading->capacity == 0 ? FETCH_ROWS : Min(reading->capacity * 2, PG_INT32_MAX);
    reading->hash = moe_check_ptr(job, moe_realloc(job, reading->hash, reading->capacity, sizeof(uint64)));
    for (int g = 0; g < reading->n_hidden; g++)
        reading->late_hash[g] =
            moe_check_ptr(job, moe_realloc(job, reading->late_hash[g], reading->capacity, sizeof(uint64)));
    for (int s = 0; s < reading->n_sinks; s++)
        moe_sink_reserve(&reading->sinks[s], job, reading->capacity);
}

static void
take_row(moe_reading *reading, Datum *values, bool *nulls)
{
    int64 row = reading->n_rows;
    uint64 hash = 0;

    reserve(reading);
    for (int g = 0; g < reading->n_hidden; g++)
        reading->late_hash[g][row] = 0;
    for (int s = 0; s < reading->n_sinks; s++)
    {
        moe_sink *sink = &reading->sinks[s];
        uint64 value = moe_sink_put(sink, reading->data->job, row, values[s], nulls[s]);

        if (sink->group >= 0)
            reading->late_hash[sink->group][row] = moe_key(reading->late_hash[sink->group][row], value);
        else if (sink->kind != SINK_KNOWN_AT)
            hash = moe_key(hash, value);
    }
    reading->hash[row] = hash;
    reading->n_rows++;
}

/* Run the cursor to its end. */
static void
fetch_rows(moe_reading *reading)
{
    Portal portal = SPI_cursor_open_with_args(NULL, reading->sql.data, 0, NULL, NULL, NULL, true, 0);
    Datum *values = palloc(sizeof(Datum) * Max(reading->n_sinks, 1));
    bool *nulls = palloc(sizeof(bool) * Max(reading->n_sinks, 1));
    MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "moe_ml read batch", ALLOCSET_DEFAULT_SIZES);
    uint64 fetched;

    do
    {
        MemoryContext old;

        CHECK_FOR_INTERRUPTS();
        SPI_cursor_fetch(portal, true, FETCH_ROWS);
        fetched = SPI_processed;
        old = MemoryContextSwitchTo(batch);
        for (uint64 i = 0; i < fetched; i++)
        {
            heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
            take_row(reading, values, nulls);
        }
        MemoryContextSwitchTo(old);
        MemoryContextReset(batch);
        SPI_freetuptable(SPI_tuptable);
    } while (fetched == FETCH_ROWS);
    SPI_cursor_close(portal);
    MemoryContextDelete(batch);
}

typedef struct moe_sort_row
{
    int64 time;
    uint64 hash;
    int32 row;
} moe_sort_row;

/* Something that became known of a row: one group of late columns. */
typedef struct moe_event
{
    int64 time;
    int group;
    uint64 hash;
} moe_event;

static int
compare_events(const moe_event *x, const moe_event *y)
{
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

/* What became known of a row, earliest first. */
static void
row_events(const moe_reading *reading, int32 row, moe_event *events)
{
    for (int g = 0; g < reading->n_hidden; g++)
    {
        moe_event event = {reading->sinks[reading->hidden_sink[g]].time[row], g, reading->late_hash[g][row]};
        int at = g;

        for (; at > 0 && compare_events(&events[at - 1], &event) > 0; at--)
            events[at] = events[at - 1];
        events[at] = event;
    }
}

/* The first difference decides, so that what comes after a horizon orders only rows that are alike up to it. */
static int
compare_late(const moe_reading *reading, int32 x, int32 y)
{
    moe_event events_x[8], events_y[8];

    row_events(reading, x, events_x);
    row_events(reading, y, events_y);
    for (int i = 0; i < reading->n_hidden; i++)
    {
        int difference = compare_events(&events_x[i], &events_y[i]);

        if (difference != 0)
            return difference;
    }
    return 0;
}

static int
compare_rows(const void *a, const void *b, void *reading)
{
    const moe_sort_row *x = a;
    const moe_sort_row *y = b;
    int late;

    /* Nothing is lost by leaving the sort: its memory is the job's. */
    CHECK_FOR_INTERRUPTS();
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    late = compare_late(reading, x->row, y->row);
    if (late != 0)
        return late;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* The canonical order of the rows read: [n_rows], the job's. */
static int32 *
canonical_order(moe_reading *reading)
{
    moe_job *job = reading->data->job;
    int32 *order = moe_check_ptr(job, moe_alloc(job, reading->n_rows, sizeof(int32)));
    moe_sort_row *rows = moe_check_ptr(job, moe_alloc(job, reading->n_rows, sizeof(moe_sort_row)));

    for (int64 i = 0; i < reading->n_rows; i++)
    {
        rows[i].time = reading->row_time >= 0 ? reading->sinks[reading->row_time].time[i] : MOE_TIME_ALWAYS;
        rows[i].hash = reading->hash[i];
        rows[i].row = (int32) i;
    }
    qsort_arg(rows, reading->n_rows, sizeof(moe_sort_row), compare_rows, reading);
    for (int64 i = 0; i < reading->n_rows; i++)
        order[i] = rows[i].row;
    moe_free(job, rows);
    return order;
}

static void
sort_rows(moe_reading *reading)
{
    moe_job *job = reading->data->job;
    int32 *order;

    reserve(reading); /* so that an empty table has its arrays */
    order = canonical_order(reading);
    for (int s = 0; s < reading->n_sinks; s++)
    {
        moe_sink_finish(&reading->sinks[s], job, order, reading->n_rows);
        reading->data->not_finite[reading->table] += reading->sinks[s].not_finite;
    }
    moe_free(job, order);
    moe_free(job, reading->hash);
    for (int g = 0; g < reading->n_hidden; g++)
        moe_free(job, reading->late_hash[g]);
}

/* The columns as embed/ takes them. */
static void
deliver_columns(moe_reading *reading)
{
    moe_table *table = &reading->data->tables[reading->table];
    moe_column *columns = MemoryContextAllocZero(reading->context, sizeof(moe_column) * Max(reading->n_sinks, 1));

    table->name = reading->schema->name;
    table->n_rows = reading->n_rows;
    table->columns = columns;
    for (int s = 0; s < reading->n_sinks; s++)
    {
        const moe_sink *sink = &reading->sinks[s];
        const moe_schema_column *source;
        moe_column *column = &columns[table->n_columns];

        if (sink->kind == SINK_ROW_TIME || sink->kind == SINK_KNOWN_AT || sink->kind == SINK_KEY)
            continue;
        source = &reading->schema->columns[sink->column];
        table->n_columns++;
        column->name = source->name;
        column->storage = source->storage;
        column->integral = source->type == INT2OID || source->type == INT4OID || source->type == INT8OID;
        column->encoding = source->encoding;
        column->hidden_bit = source->known_at >= 0 ? hidden_group(reading, source->known_at) : -1;
        column->null = sink->null;
        column->number = sink->number;
        column->time = sink->time;
        column->bytes = sink->bytes;
        column->items = sink->items;
        column->offset = sink->offset;
    }
}

/* Times and hidden groups as gnn/ takes them. */
static void
deliver_times(moe_reading *reading)
{
    moe_graph_table *table = &reading->data->graph_tables[reading->table];

    table->name = reading->schema->name;
    table->n_rows = reading->n_rows;
    table->time = reading->row_time >= 0 ? reading->sinks[reading->row_time].time : NULL;
    table->n_hidden = reading->n_hidden;
    for (int g = 0; g < reading->n_hidden; g++)
        table->known_at[g] = reading->sinks[reading->hidden_sink[g]].time;
}

void
moe_read_table(moe_data *data, int t, List *key_reads, MemoryContext context)
{
    moe_reading reading = {.data = data, .table = t, .schema = &data->schema->tables[t], .context = context};
    MemoryContext old = MemoryContextSwitchTo(context);

    plan_reading(&reading, key_reads);
    MemoryContextSwitchTo(old);
    fetch_rows(&reading);
    sort_rows(&reading);
    deliver_columns(&reading);
    deliver_times(&reading);
    data->rows_read += reading.n_rows;
}

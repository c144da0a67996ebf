/*
 * reader_table.c: one table by one SELECT.
 *
 * The SELECT names each value that is wanted, once per use; each item has a
 * sink, where its values go and become a column.
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
#include "extension/reader_batch.h"
#include "extension/schema_internal.h"
#include "kernels/random.h"

#define MAX_ITEMS MaxTupleAttributeNumber

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
    sink->beside = read->beside;
    sink->key = moe_key_column_create(reading->data->job, type, collation);
    read->values = sink->key;
}

/* A table without a time column: its rows are visible since their parents are. */
static void
add_inherited_time(moe_reading *reading)
{
    const moe_schema *schema = reading->data->schema;
    char *expression = moe_schema_any_time(schema, reading->table, "c", &reading->joins, &reading->n_joins);

    if (expression == NULL)
        return;
    reading->row_time = 0;
    add_sink(reading, SINK_ROW_TIME, -1, expression, schema->time_type);
}

void
moe_reading_plan(moe_reading *reading, moe_data *data, int t, List *key_reads)
{
    const moe_schema_table *table = &data->schema->tables[t];
    ListCell *cell;
    int feature;

    memset(reading, 0, sizeof(*reading));
    reading->data = data;
    reading->table = t;
    reading->schema = table;
    reading->context = CurrentMemoryContext;

    reading->sinks = palloc0(sizeof(moe_sink) * (2 * table->n_columns + list_length(key_reads) + 2));
    reading->row_time = -1;
    initStringInfo(&reading->sql);
    initStringInfo(&reading->joins);
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
}

/* The sinks' columns, in canonical order. */
static void
finish_sinks(moe_reading *reading)
{
    moe_job *job = reading->data->job;
    int32 *order = moe_reading_order(reading);

    moe_sinks_permute(reading->sinks, reading->n_sinks, job, order, reading->n_rows);
    moe_free(job, order);
    for (int s = 0; s < reading->n_sinks; s++)
    {
        moe_sink *sink = &reading->sinks[s];

        if (sink->kind == SINK_KEY)
            moe_key_column_set(sink->key, (uint64 *) sink->items, sink->null);
        reading->data->not_finite[reading->table] += sink->not_finite;
    }
}

static void
deliver_values(const moe_sink *sink, moe_column *column)
{
    column->null = sink->null;
    switch (sink->kind)
    {
        case SINK_STRING:
            column->bytes = sink->bytes;
            column->offset = (const int64_t *) sink->items;
            break;
        case SINK_VECTOR:
            column->items = (const float *) sink->bytes;
            column->offset = (const int64_t *) sink->items;
            break;
        case SINK_TIME:
            column->time = (const int64_t *) sink->items;
            break;
        default:
            column->number = (const double *) sink->items;
            break;
    }
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
        deliver_values(sink, column);
    }
}

/* Times and hidden groups as gnn/ takes them. */
static void
deliver_times(moe_reading *reading)
{
    moe_graph_table *table = &reading->data->graph_tables[reading->table];

    table->name = reading->schema->name;
    table->n_rows = reading->n_rows;
    table->time = reading->row_time >= 0 ? (const int64_t *) reading->sinks[reading->row_time].items : NULL;
    table->n_hidden = reading->n_hidden;
    for (int g = 0; g < reading->n_hidden; g++)
        table->known_at[g] = (const int64_t *) reading->sinks[reading->hidden_sink[g]].items;
}

void
moe_reading_deliver(moe_reading *reading)
{
    finish_sinks(reading);
    deliver_columns(reading);
    deliver_times(reading);
}

void
moe_read_table(moe_data *data, int t, List *key_reads, bool wanted, MemoryContext context)
{
    MemoryContext old = MemoryContextSwitchTo(context);
    moe_reading reading;
    char *sql;

    moe_reading_plan(&reading, data, t, key_reads);
    MemoryContextSwitchTo(old);
    sql = psprintf("SELECT %s FROM %s c%s", reading.sql.data, moe_schema_qualified(reading.schema), reading.joins.data);
    if (wanted)
        moe_reading_scan(&reading, sql);
    else
        moe_batches_finish(moe_batches_create(&reading));
    moe_reading_deliver(&reading);
    data->rows_read += reading.n_rows;
}

/*
 * graph_view.c: the graph as people see it.
 *
 * The views list every table with a foreign key that the caller may read; the
 * functions follow one entity table as CREATE MODEL would.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "extension/moe_ml.h"
#include "extension/reader.h"
#include "extension/schema_internal.h"

static void
put_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static const char *
role_name(moe_column_role role)
{
    static const char *const names[] = {"key", "foreign key", "time", "feature", "ignored"};

    return names[role];
}

/* The encoding of a feature as far as it is decided before the values are seen. */
static const char *
encoding_name(const moe_schema_column *column)
{
    static const char *const declared[] = {"", "numeric", "category", "time", "bool", "text", "vector"};
    static const char *const stored[] = {"number", "bool", "time", "string", "vector"};

    return column->encoding != MOE_ENCODE_AUTO ? declared[column->encoding] : stored[column->storage];
}

/* Names of columns as text[]. */
static Datum
name_array(const moe_schema_table *table, int n, const int *columns)
{
    Datum *names = palloc(sizeof(Datum) * Max(n, 1));

    for (int i = 0; i < n; i++)
        names[i] = CStringGetTextDatum(table->columns[columns[i]].name);
    return PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

MOE_FUNCTION(moe_graph_list_tables);
Datum
moe_graph_list_tables(PG_FUNCTION_ARGS)
{
    moe_schema *schema = moe_schema_survey();

    InitMaterializedSRF(fcinfo, 0);
    for (int t = 0; t < schema->n_tables; t++)
    {
        const moe_schema_table *table = &schema->tables[t];
        char *time = moe_schema_time_name(schema, t);
        bool nulls[7] = {false, false, time == NULL, false, false, false, table->n_key == 0};
        Datum values[7] = {CStringGetTextDatum(table->schema),
                           CStringGetTextDatum(table->name),
                           time == NULL ? (Datum) 0 : CStringGetTextDatum(time),
                           CStringGetTextDatum(table->time_reason),
                           Int64GetDatum((int64) table->rows),
                           Int32GetDatum(table->n_columns),
                           name_array(table, table->n_key, table->key)};

        put_row(fcinfo, values, nulls);
    }
    return (Datum) 0;
}

MOE_FUNCTION(moe_graph_list_edges);
Datum
moe_graph_list_edges(PG_FUNCTION_ARGS)
{
    moe_schema *schema = moe_schema_survey();

    InitMaterializedSRF(fcinfo, 0);
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];
        const moe_schema_table *child = &schema->tables[edge->child];
        const moe_schema_table *parent = &schema->tables[edge->parent];
        bool nulls[5] = {false};
        Datum values[5] = {CStringGetTextDatum(edge->name), ObjectIdGetDatum(child->relid),
                           name_array(child, edge->n_columns, edge->child_columns), ObjectIdGetDatum(parent->relid),
                           name_array(parent, edge->n_columns, edge->parent_columns)};

        put_row(fcinfo, values, nulls);
    }
    return (Datum) 0;
}

MOE_FUNCTION(moe_graph_list_columns);
Datum
moe_graph_list_columns(PG_FUNCTION_ARGS)
{
    moe_schema *schema = moe_schema_survey();

    InitMaterializedSRF(fcinfo, 0);
    for (int t = 0; t < schema->n_tables; t++)
    {
        const moe_schema_table *table = &schema->tables[t];

        for (int i = 0; i < table->n_columns; i++)
        {
            const moe_schema_column *column = &table->columns[i];
            bool is_feature = column->role == MOE_ROLE_FEATURE;
            bool nulls[6] = {false, false, false, !is_feature, !is_feature || column->known_at < 0, false};
            Datum values[6] = {0};

            values[0] = ObjectIdGetDatum(table->relid);
            values[1] = CStringGetTextDatum(column->name);
            values[2] = CStringGetTextDatum(role_name(column->role));
            if (!nulls[3])
                values[3] = CStringGetTextDatum(encoding_name(column));
            if (!nulls[4])
                values[4] = CStringGetTextDatum(table->columns[column->known_at].name);
            values[5] = CStringGetTextDatum(column->reason);
            put_row(fcinfo, values, nulls);
        }
    }
    return (Datum) 0;
}

/* An array argument as a list: of Oid, or of char *. NIL for NULL. */
static List *
argument_list(FunctionCallInfo fcinfo, int argument, Oid type)
{
    List *list = NIL;
    Datum *items;
    bool *nulls;
    int n;

    if (PG_ARGISNULL(argument))
        return NIL;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), type, type == TEXTOID ? -1 : sizeof(Oid), type != TEXTOID,
                      TYPALIGN_INT, &items, &nulls, &n);
    for (int i = 0; i < n; i++)
    {
        if (nulls[i])
            continue;
        list = type == TEXTOID ? lappend(list, TextDatumGetCString(items[i]))
                               : lappend_oid(list, DatumGetObjectId(items[i]));
    }
    return list;
}

/* The graph of the entity table in argument 0, by the key in argument 1 or its primary key, under the options in
 * arguments 2 to 4. */
static moe_schema *
argument_schema(FunctionCallInfo fcinfo)
{
    moe_schema_request request = {.quiet = true};

    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the entity table must not be NULL"),
                        errhint("Write the name of a table: moe_ml.graph('customers').")));
    request.entity = PG_GETARG_OID(0);
    if (!PG_ARGISNULL(1))
        request.entity_key = NameStr(*PG_GETARG_NAME(1));
    request.using_tables = argument_list(fcinfo, 2, REGCLASSOID);
    request.time_columns = argument_list(fcinfo, 3, TEXTOID);
    request.ignored_columns = argument_list(fcinfo, 4, TEXTOID);
    return moe_schema_discover(&request);
}

/* Distance of each table from the entity, and the edge over which it was first reached (-1 for the entity). */
static void
measure_hops(const moe_schema *schema, int *hops, int *via)
{
    bool grown = true;

    for (int t = 0; t < schema->n_tables; t++)
        hops[t] = t == 0 ? 0 : -1;
    via[0] = -1;
    for (int level = 0; grown; level++)
    {
        grown = false;
        for (int e = 0; e < schema->n_edges; e++)
        {
            const moe_schema_edge *edge = &schema->edges[e];
            int from = hops[edge->child] == level ? edge->child : edge->parent;
            int to = from == edge->child ? edge->parent : edge->child;

            if (hops[from] != level || hops[to] >= 0)
                continue;
            hops[to] = level + 1;
            via[to] = e;
            grown = true;
        }
    }
}

/* The columns of a foreign key: "customer_id" or "(order_id, line)". */
static char *
describe_columns(const moe_schema *schema, const moe_schema_edge *edge)
{
    const moe_schema_table *child = &schema->tables[edge->child];
    StringInfoData text;

    initStringInfo(&text);
    for (int i = 0; i < edge->n_columns; i++)
        appendStringInfo(&text, "%s%s", i > 0 ? ", " : "", child->columns[edge->child_columns[i]].name);
    return edge->n_columns > 1 ? psprintf("(%s)", text.data) : text.data;
}

/* A link, in the direction of the key: "orders.customer_id -> customers". */
static char *
describe_link(const moe_schema *schema, const moe_schema_edge *edge)
{
    return psprintf("%s.%s -> %s", schema->tables[edge->child].name, describe_columns(schema, edge),
                    schema->tables[edge->parent].name);
}

/* The same beside the table that is reached by it: "customer_id -> customers", or "<- order_lines.product_id". */
static char *
describe_link_of(const moe_schema *schema, const moe_schema_edge *edge, int table)
{
    if (table == edge->child)
        return psprintf("%s -> %s", describe_columns(schema, edge), schema->tables[edge->parent].name);
    return psprintf("<- %s.%s", schema->tables[edge->child].name, describe_columns(schema, edge));
}

MOE_FUNCTION(moe_graph_show);
Datum
moe_graph_show(PG_FUNCTION_ARGS)
{
    moe_schema *schema = argument_schema(fcinfo);
    int *hops = palloc(sizeof(int) * schema->n_tables);
    int *via = palloc(sizeof(int) * schema->n_tables);

    measure_hops(schema, hops, via);
    InitMaterializedSRF(fcinfo, 0);
    for (int t = 0; t < schema->n_tables; t++)
    {
        const moe_schema_table *table = &schema->tables[t];
        char *time = moe_schema_time_name(schema, t);
        bool nulls[5] = {false, false, via[t] < 0, time == NULL, false};
        Datum values[5] = {0};

        values[0] = Int32GetDatum(hops[t]);
        values[1] = ObjectIdGetDatum(table->relid);
        if (!nulls[2])
            values[2] = CStringGetTextDatum(describe_link_of(schema, &schema->edges[via[t]], t));
        if (!nulls[3])
            values[3] = CStringGetTextDatum(time);
        values[4] = Int64GetDatum((int64) table->rows);
        put_row(fcinfo, values, nulls);
    }
    return (Datum) 0;
}

/* One table's line of the report: rows, values that are not finite, first and last finite row time. */
static void
put_table_report(FunctionCallInfo fcinfo, const moe_data *data, int t)
{
    const moe_graph_table *table = &data->graph_tables[t];
    int64 first = 0;
    int64 last = table->n_rows - 1;
    bool timed;
    bool nulls[7] = {false, false, true, true, false, true, true};
    Datum values[7] = {0};

    while (table->time != NULL && first <= last && table->time[first] == MOE_TIME_ALWAYS)
        first++;
    while (table->time != NULL && last >= first && table->time[last] == MOE_TIME_NEVER)
        last--;
    timed = table->time != NULL && first <= last;
    values[0] = CStringGetTextDatum(table->name);
    values[1] = Int64GetDatum(table->n_rows);
    values[4] = Int64GetDatum(data->not_finite[t]);
    if (timed)
    {
        values[5] = TimestampGetDatum(table->time[first]);
        values[6] = TimestampGetDatum(table->time[last]);
        nulls[5] = nulls[6] = false;
    }
    put_row(fcinfo, values, nulls);
}

static void
put_edge_report(FunctionCallInfo fcinfo, const moe_data *data, int e)
{
    const moe_edge_report *report = &data->reports[e];
    bool nulls[7] = {false, false, false, false, true, true, true};
    Datum values[7] = {0};

    values[0] = CStringGetTextDatum(describe_link(data->schema, &data->schema->edges[e]));
    values[1] = Int64GetDatum(report->rows);
    values[2] = Int64GetDatum(report->nulls);
    values[3] = Int64GetDatum(report->dangling);
    put_row(fcinfo, values, nulls);
}

MOE_FUNCTION(moe_graph_check);
Datum
moe_graph_check(PG_FUNCTION_ARGS)
{
    moe_schema *schema = argument_schema(fcinfo);
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml graph check", ALLOCSET_DEFAULT_SIZES);
    moe_data *data;

    InitMaterializedSRF(fcinfo, 0);
    data = moe_data_read(schema, moe_job_in_context(context));
    for (int t = 0; t < data->n_tables; t++)
        put_table_report(fcinfo, data, t);
    for (int e = 0; e < data->n_edges; e++)
        put_edge_report(fcinfo, data, e);
    MemoryContextDelete(context);
    return (Datum) 0;
}

/* moe_ml.load(): called, it has loaded the library, which registers the label provider. */
MOE_FUNCTION(moe_graph_load);
Datum
moe_graph_load(PG_FUNCTION_ARGS)
{
    PG_RETURN_VOID();
}

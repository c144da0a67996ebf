/*
 * schema_sql.c: pieces of SQL about the tables of a schema.
 *
 * Row times stand on one axis: microseconds since 2000-01-01, where date and
 * timestamp count as UTC. Nothing depends on the session's TimeZone.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "extension/schema_internal.h"
#include "extension/schema_sql.h"

static void
set(const char *name, const char *value)
{
    set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

int
moe_sql_begin(void)
{
    int level = NewGUCNestLevel();
    static const char *const settings[][2] = {
        {"search_path", "pg_catalog, pg_temp"}, {"TimeZone", "UTC"},         {"DateStyle", "ISO, YMD"},
        {"IntervalStyle", "postgres"},          {"extra_float_digits", "1"}, {"bytea_output", "hex"}};

    for (int i = 0; i < lengthof(settings); i++)
        set(settings[i][0], settings[i][1]);
    return level;
}

/* Where pg_catalog is not named, it comes first: nobody's operator, function or type then stands for one of its own. */
static void
unname_catalog(void)
{
    List *schemas = fetch_search_path(false);
    StringInfoData path;
    ListCell *cell;

    if (!list_member_oid(schemas, PG_CATALOG_NAMESPACE))
        return;
    initStringInfo(&path);
    foreach (cell, schemas)
    {
        char *name = lfirst_oid(cell) != PG_CATALOG_NAMESPACE ? get_namespace_name(lfirst_oid(cell)) : NULL;

        if (name != NULL)
            appendStringInfo(&path, "%s%s", path.len ? ", " : "", quote_identifier(name));
    }
    set("search_path", path.data);
    pfree(path.data);
}

int
moe_sql_begin_model(const char *search_path)
{
    int level = NewGUCNestLevel();

    set("TimeZone", "UTC");
    if (search_path != NULL)
        set("search_path", search_path);
    unname_catalog();
    return level;
}

void
moe_sql_end(int level)
{
    AtEOXact_GUC(true, level);
}

char *
moe_schema_qualified(const moe_schema_table *table)
{
    return quote_qualified_identifier(table->schema, table->name);
}

char *
moe_schema_moment_expression(const moe_schema *schema, int table, int column, const char *alias)
{
    const moe_schema_column *c = &schema->tables[table].columns[column];
    char *name = psprintf("%s.%s", alias, quote_identifier(c->name));

    if (c->type == schema->time_type)
        return name;
    if (c->type == DATEOID)
        name = psprintf("CAST(%s AS pg_catalog.timestamp)", name);
    if (schema->time_type == TIMESTAMPTZOID || c->type == TIMESTAMPTZOID)
        name = psprintf("pg_catalog.timezone('UTC', %s)", name);
    return name;
}

char *
moe_schema_time_expression(const moe_schema *schema, int table, const char *alias)
{
    int time = schema->tables[table].time;

    return time < 0 ? NULL : moe_schema_moment_expression(schema, table, time, alias);
}

void
moe_schema_settle_time_type(moe_schema *schema)
{
    schema->time_type = TIMESTAMPOID;
    for (int t = 0; t < schema->n_tables; t++)
    {
        const moe_schema_table *table = &schema->tables[t];

        if (table->time >= 0 && table->columns[table->time].type == TIMESTAMPTZOID)
            schema->time_type = TIMESTAMPTZOID;
    }
}

int64
moe_sql_time(Datum value, Oid type)
{
    DateADT date;

    if (type != DATEOID)
        return DatumGetTimestamp(value);
    date = DatumGetDateADT(value);
    if (DATE_IS_NOBEGIN(date))
        return DT_NOBEGIN;
    /* Dates reach further than timestamps do. */
    if (DATE_IS_NOEND(date) || date >= TIMESTAMP_END_JULIAN - POSTGRES_EPOCH_JDATE)
        return DT_NOEND;
    return (int64) date * USECS_PER_DAY;
}

/* A moment as the type of a row time column, rounded down. */
static Datum
time_as(int64 time, Oid type)
{
    int64 day = time / USECS_PER_DAY;

    if (type != DATEOID)
        return TimestampGetDatum(time);
    if (time % USECS_PER_DAY < 0)
        day--;
    return DateADTGetDatum((DateADT) day);
}

/* The newest finite row time of one table, not after a moment. */
static int64
newest_of(const moe_schema_table *table, int64 not_after)
{
    const moe_schema_column *column = &table->columns[table->time];
    char *name = psprintf("c.%s", quote_identifier(column->name));
    char *sql = psprintf("SELECT pg_catalog.max(%s) FROM %s c WHERE %s OPERATOR(pg_catalog.<%s) $1", name,
                         moe_schema_qualified(table), name, not_after == DT_NOEND ? "" : "=");
    Oid type = column->type;
    Datum bound = time_as(not_after, type);
    int64 newest = DT_NOBEGIN;
    bool null;
    Datum value;

    if (not_after == DT_NOEND && type == DATEOID)
        bound = DateADTGetDatum(DATEVAL_NOEND);
    if (SPI_execute_with_args(sql, 1, &type, &bound, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "SPI_execute_with_args failed: %s", sql);
    value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null);
    if (!null)
        newest = moe_sql_time(value, type);
    SPI_freetuptable(SPI_tuptable);
    return newest;
}

int64
moe_schema_newest(const moe_schema *schema, int64 not_after)
{
    int64 newest = DT_NOBEGIN;
    int level = moe_sql_begin();

    SPI_connect();
    for (int t = 0; not_after != DT_NOBEGIN && t < schema->n_tables; t++)
    {
        if (schema->tables[t].time >= 0)
            newest = Max(newest, newest_of(&schema->tables[t], not_after));
    }
    SPI_finish();
    moe_sql_end(level);
    return newest;
}

/* A collation's name, with its schema whatever the search_path. */
static char *
collation_name(Oid collation)
{
    HeapTuple tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
    Form_pg_collation form;
    char *name;

    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for collation %u", collation);
    form = (Form_pg_collation) GETSTRUCT(tuple);
    name = quote_qualified_identifier(get_namespace_name(form->collnamespace), NameStr(form->collname));
    ReleaseSysCache(tuple);
    return name;
}

char *
moe_schema_foreign_key_sql(const moe_schema *schema, const moe_schema_edge *edge, int i, const char *alias)
{
    const moe_schema_column *from = &schema->tables[edge->child].columns[edge->child_columns[i]];
    const moe_schema_column *to = &schema->tables[edge->parent].columns[edge->parent_columns[i]];
    const char *name = quote_identifier(from->name);

    if (from->collation == to->collation || !OidIsValid(from->collation) || !OidIsValid(to->collation))
        return psprintf("%s.%s", alias, name);
    return psprintf("(%s.%s COLLATE %s)", alias, name, collation_name(to->collation));
}

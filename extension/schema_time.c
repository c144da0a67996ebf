/*
 * schema_time.c: row times that rows take from their parents.
 *
 * A row that must refer to another (NOT NULL, to a primary key) cannot be older
 * than it: an order's lines came with the order. A table without a time column
 * of its own is therefore visible since the latest of such parents' row times,
 * over any number of steps. Without this the lines of orders yet to come would
 * be seen, and counted, by everything else they refer to.
 *
 * A row whose parent cannot be read is never visible.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "extension/schema_internal.h"

#define MAX_JOINS 64

/* Must every row of the child have such a parent? */
static bool
is_mandatory(const moe_schema *schema, const moe_schema_edge *edge)
{
    const moe_schema_table *child = &schema->tables[edge->child];

    for (int i = 0; i < edge->n_columns; i++)
    {
        if (!moe_catalog_not_null(child->relid, child->columns[edge->child_columns[i]].attnum))
            return false;
    }
    return moe_catalog_is_primary_key(&schema->tables[edge->parent], edge->n_columns, edge->parent_columns);
}

/* Did people say that the table has no time? */
static bool
is_timeless_by_will(const moe_schema_table *table)
{
    return strcmp(table->time_reason, "declared") == 0 || strcmp(table->time_reason, "option time_columns") == 0;
}

void
moe_schema_inherit_times(moe_schema *schema, bool has_entity)
{
    bool *timed = palloc0(sizeof(bool) * Max(schema->n_tables, 1));
    bool *next = palloc0(sizeof(bool) * Max(schema->n_tables, 1));
    bool grown = true;

    for (int t = 0; t < schema->n_tables; t++)
        timed[t] = schema->tables[t].time >= 0;
    while (grown)
    {
        grown = false;
        memcpy(next, timed, sizeof(bool) * schema->n_tables);
        for (int e = 0; e < schema->n_edges; e++)
        {
            moe_schema_edge *edge = &schema->edges[e];

            if (timed[edge->child] || !timed[edge->parent] || (has_entity && edge->child == 0) ||
                is_timeless_by_will(&schema->tables[edge->child]) || !is_mandatory(schema, edge))
                continue;
            edge->gives_time = true;
            next[edge->child] = true;
            schema->tables[edge->child].time_reason = "by rule: not before what it must refer to";
            grown = true;
        }
        memcpy(timed, next, sizeof(bool) * schema->n_tables);
    }
}

bool
moe_schema_times_are_sound(const moe_schema *schema)
{
    /* Longest chain of edges that give times, by relaxation: a cycle never settles. */
    int *depth = palloc0(sizeof(int) * schema->n_tables);
    bool changed = true;

    for (int round = 0; changed && round <= schema->n_tables; round++)
    {
        changed = false;
        for (int e = 0; e < schema->n_edges; e++)
        {
            const moe_schema_edge *edge = &schema->edges[e];

            if (!edge->gives_time || depth[edge->child] > depth[edge->parent])
                continue;
            depth[edge->child] = depth[edge->parent] + 1;
            changed = true;
        }
    }
    return !changed;
}

static bool
edge_gives_time(const moe_schema_edge *edge, int table)
{
    return edge->gives_time && edge->child == table;
}

/* Join the parent of an edge as a new alias, which is returned. */
static char *
join_parent(const moe_schema *schema, const moe_schema_edge *edge, const char *alias, StringInfo joins, int number)
{
    const moe_schema_table *child = &schema->tables[edge->child];
    const moe_schema_table *parent = &schema->tables[edge->parent];
    char *name = psprintf("moe_%d", number);

    appendStringInfo(joins, " LEFT JOIN %s %s ON ", moe_schema_qualified(parent), name);
    for (int i = 0; i < edge->n_columns; i++)
    {
        const moe_schema_column *to = &parent->columns[edge->parent_columns[i]];

        if (i > 0)
            appendStringInfoString(joins, " AND ");
        /* The key's own equality, as the foreign key's check uses it. */
        generate_operator_clause(joins, psprintf("%s.%s", name, quote_identifier(to->name)), to->type,
                                 lookup_type_cache(to->type, TYPECACHE_EQ_OPR)->eq_opr,
                                 moe_schema_foreign_key_sql(schema, edge, i, alias),
                                 child->columns[edge->child_columns[i]].type);
    }
    return name;
}

static char *
time_over(const moe_schema *schema, int table, const char *alias, StringInfo joins, int *n_joins)
{
    StringInfoData text;
    int n = 0;

    if (schema->tables[table].time >= 0)
        return moe_schema_time_expression(schema, table, alias);
    initStringInfo(&text);
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];
        const char *type = schema->time_type == TIMESTAMPTZOID ? "timestamptz" : "timestamp";
        char *parent;
        char *time;

        if (!edge_gives_time(edge, table))
            continue;
        if (++*n_joins > MAX_JOINS)
            ereport(ERROR,
                    (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                     errmsg("the row time of table \"%s\" depends on too many others", schema->tables[table].name),
                     errhint("Give the table a time column, or declare it 'timeless'.")));
        parent = join_parent(schema, edge, alias, joins, *n_joins);
        time = time_over(schema, edge->parent, parent, joins, n_joins);
        appendStringInfo(&text,
                         "%sCASE WHEN %s.%s IS NULL THEN 'infinity'::pg_catalog.%s "
                         "ELSE COALESCE(%s, '-infinity'::pg_catalog.%s) END",
                         n++ > 0 ? ", " : "GREATEST(", parent,
                         quote_identifier(schema->tables[edge->parent].columns[edge->parent_columns[0]].name), type,
                         time != NULL ? time : "NULL", type);
    }
    if (n == 0)
        return NULL;
    appendStringInfoChar(&text, ')');
    return text.data;
}

char *
moe_schema_any_time(const moe_schema *schema, int table, const char *alias, StringInfo joins, int *n_joins)
{
    return time_over(schema, table, alias, joins, n_joins);
}

char *
moe_schema_time_name(const moe_schema *schema, int table)
{
    StringInfoData text;

    if (schema->tables[table].time >= 0)
        return schema->tables[table].columns[schema->tables[table].time].name;
    initStringInfo(&text);
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];
        const moe_schema_table *parent = &schema->tables[edge->parent];

        if (!edge_gives_time(edge, table))
            continue;
        appendStringInfo(&text, "%s%s%s", text.len > 0 ? ", " : "", parent->time >= 0 ? parent->name : "",
                         parent->time >= 0 ? "." : "");
        appendStringInfoString(&text, moe_schema_time_name(schema, edge->parent));
    }
    return text.len > 0 ? text.data : NULL;
}

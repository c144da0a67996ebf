/*
 * label_query_aggregate.c: an aggregate of a predictive query as one common table expression.
 *
 * It is computed once for all seeds: rows meet windows by equal bins of the
 * time axis (see label_query_sql.c), and are grouped by seed time and key.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#include "extension/label_query_writer.h"
#include "extension/schema_internal.h"

/* The alias of the table reached after `step` steps from the aggregate's. */
static const char *
step_alias(int step)
{
    return step == 0 ? "c" : psprintf("p%d", step);
}

static void
write_function(moe_label_writer *writer, const moe_label_aggregate *aggregate, const char *time)
{
    const moe_node *node = aggregate->node;
    const char *column =
        node->column->column ? moe_label_value_sql(writer, aggregate->table, "c", node->column->column) : "*";
    StringInfo sql = writer->sql;

    moe_label_text_mark(writer->text, node->location, false);
    switch (node->aggregate)
    {
        case MOE_AGG_COUNT:
            appendStringInfo(sql, "pg_catalog.count(%s)", column);
            break;
        case MOE_AGG_COUNT_DISTINCT:
            appendStringInfo(sql, "pg_catalog.count(DISTINCT %s)", column);
            break;
        case MOE_AGG_SUM:
            appendStringInfo(sql, "pg_catalog.sum(%s)", column);
            break;
        case MOE_AGG_AVG:
            appendStringInfo(sql, "pg_catalog.avg(%s)", column);
            break;
        case MOE_AGG_MIN:
            appendStringInfo(sql, "pg_catalog.min(%s)", column);
            break;
        case MOE_AGG_MAX:
            appendStringInfo(sql, "pg_catalog.max(%s)", column);
            break;
        case MOE_AGG_FIRST: /* ties broken by the value */
            appendStringInfo(sql, "(pg_catalog.array_agg(%s ORDER BY %s, %s) FILTER (WHERE %s IS NOT NULL))[1]", column,
                             time, column, column);
            break;
        case MOE_AGG_LAST:
            appendStringInfo(sql,
                             "(pg_catalog.array_agg(%s ORDER BY %s DESC, %s DESC) FILTER (WHERE %s IS NOT NULL))[1]",
                             column, time, column, column);
            break;
        case MOE_AGG_LIST_DISTINCT:
            elog(ERROR, "moe_ml: list_distinct is not a label");
    }
    moe_label_text_mark(writer->text, -1, false);
}

/*
 * A foreign key's equality. A bare = is what people read; it is safe where
 * pg_catalog has one for exactly these types, and no other schema on the path
 * can offer a better one. Elsewhere the operator is the key's own, by name.
 */
void
moe_label_write_equality(moe_label_writer *writer, const char *left, Oid left_type, const char *right, Oid right_type)
{
    List *name = list_make2(makeString("pg_catalog"), makeString("="));

    if (OidIsValid(OpernameGetOprid(name, left_type, right_type)))
        appendStringInfo(writer->sql, "%s = %s", left, right);
    else
        generate_operator_clause(writer->sql, left, left_type, lookup_type_cache(left_type, TYPECACHE_EQ_OPR)->eq_opr,
                                 right, right_type);
}

/* JOIN the parent of a foreign key. */
static void
write_parent(moe_label_writer *writer, const moe_schema_edge *edge, const char *child, const char *parent)
{
    const moe_schema *schema = writer->schema;

    appendStringInfo(writer->sql, "\n    JOIN %s AS %s ON ", moe_schema_qualified(&schema->tables[edge->parent]),
                     parent);
    for (int i = 0; i < edge->n_columns; i++)
    {
        int to = edge->parent_columns[i];

        if (i > 0)
            appendStringInfoString(writer->sql, " AND ");
        moe_label_write_equality(writer, psprintf("%s.%s", parent, moe_label_column_sql(schema, edge->parent, to)),
                                 schema->tables[edge->parent].columns[to].type,
                                 moe_schema_foreign_key_sql(schema, edge, i, child),
                                 schema->tables[edge->child].columns[edge->child_columns[i]].type);
    }
}

/* JOIN the tables on the path below the entity, the last of which holds the key of the entity, and the row time's. */
static void
write_path(moe_label_writer *writer, const moe_label_aggregate *aggregate)
{
    const moe_schema *schema = writer->schema;

    for (int step = 0; step + 1 < aggregate->n_steps; step++)
        write_parent(writer, &schema->edges[aggregate->steps[step]], step_alias(step), step_alias(step + 1));
    if (aggregate->time_edge >= 0)
        write_parent(writer, &schema->edges[aggregate->time_edge], "c", "t");
}

/* JOIN the seeds whose window may hold the row. */
static void
write_windows(moe_label_writer *writer, const moe_label_aggregate *aggregate, const char *time)
{
    const moe_schema *schema = writer->schema;
    const moe_node *node = aggregate->node;
    const char *origin = schema->time_type == TIMESTAMPTZOID ? "TIMESTAMPTZ '4713-01-01 00:00:00+00 BC'"
                                                             : "TIMESTAMP '4713-01-01 00:00:00 BC'";
    int64 span = node->end - node->start;
    const char *width;

    if (node->start_infinite)
    {
        appendStringInfoString(writer->sql, "\n    CROSS JOIN seeds AS s");
        return;
    }
    /* A bin needs a fixed length, no shorter than the window: then a window lies in two bins, the second one next to
     * the first. No row is older than the origin, below which date_bin() puts the bins' ends to the other side. */
    width = node->unit == MOE_UNIT_MONTHS ? moe_label_interval(schema, span * 31, MOE_UNIT_DAYS)
                                          : moe_label_interval(schema, span, node->unit);
    appendStringInfo(writer->sql,
                     "\n    JOIN (SELECT s.as_of, CAST(n AS double precision) * %s -- the bins narrow the search, the "
                     "range below decides"
                     "\n              + pg_catalog.date_bin(%s, %s, %s) AS bin"
                     "\n          FROM seeds AS s, (VALUES (0), (1)) AS bins (n)"
                     "\n         ) AS s ON s.bin = pg_catalog.date_bin(%s, %s, %s)",
                     width, width, moe_label_shifted(schema, "s.as_of", node->start, node->unit), origin, width, time,
                     origin);
}

/* Has the parent reached by a step of the path a time of its own, which is not the aggregate's? */
static bool
is_timed_step(const moe_label_writer *writer, const moe_label_aggregate *aggregate, int step)
{
    int table = writer->schema->edges[aggregate->steps[step - 1]].parent;

    return writer->schema->tables[table].time >= 0 && (aggregate->time_edge >= 0 || step != aggregate->time_step);
}

/* Does a row filter ask for a late column? */
static bool
asks_late(const moe_label_writer *writer, int table, const moe_node *node)
{
    const moe_schema_table *t = &writer->schema->tables[table];
    ListCell *cell;

    check_stack_depth();
    if (node == NULL)
        return false;
    if (node->kind == MOE_NODE_COLUMN)
    {
        int column = moe_catalog_column_named(t, node->column->column);

        return column >= 0 && t->columns[column].known_at >= 0;
    }
    foreach (cell, node->list)
        if (asks_late(writer, table, lfirst(cell)))
            return true;
    return asks_late(writer, table, node->left) || asks_late(writer, table, node->right);
}

/* Do the aggregate's rows take their times from more than the table whose time it goes by? */
static bool
is_timed_elsewhere(const moe_label_writer *writer, const moe_label_aggregate *aggregate)
{
    const moe_schema *schema = writer->schema;

    if (schema->tables[aggregate->table].time >= 0)
        return false;
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];
        bool followed = e == aggregate->time_edge || (aggregate->time_edge < 0 && e == aggregate->steps[0]);

        if (edge->gives_time && edge->child == aggregate->table && (!followed || schema->tables[edge->parent].time < 0))
            return true;
    }
    return false;
}

/*
 * Is the time of the first row enough to tell whether there is one? Not where
 * a row may come to count later: by a late column, or by a row on its path.
 */
bool
moe_label_is_since(const moe_label_writer *writer, const moe_label_aggregate *aggregate)
{
    if (!aggregate->presence || writer->moment ||
        (aggregate->side == MOE_SIDE_WHERE && is_timed_elsewhere(writer, aggregate)))
        return false;
    for (int step = 1; step < aggregate->n_steps; step++)
        if (is_timed_step(writer, aggregate, step))
            return false;
    return !asks_late(writer, aggregate->table, aggregate->node->filter);
}

/* Rows on the path to the entity must be visible as well. */
static void
write_visible_path(moe_label_writer *writer, const moe_label_aggregate *aggregate)
{
    for (int step = 1; step < aggregate->n_steps; step++)
    {
        int table = writer->schema->edges[aggregate->steps[step - 1]].parent;
        const char *time;

        if (!is_timed_step(writer, aggregate, step))
            continue;
        time = moe_schema_time_expression(writer->schema, table, step_alias(step));
        moe_label_next_condition(writer, "    ");
        appendStringInfo(writer->sql, "(%s IS NULL OR %s <= %s)", time, time, writer->past);
    }
}

/* One aggregate over all its windows: a common table expression (as_of, k1.., value). */
void
moe_label_write_aggregate(moe_label_writer *writer, const moe_label_aggregate *aggregate)
{
    const moe_schema *schema = writer->schema;
    const moe_node *node = aggregate->node;
    const moe_schema_edge *last = &schema->edges[aggregate->steps[aggregate->n_steps - 1]];
    const char *holder = step_alias(aggregate->n_steps - 1);
    const char *as_of = writer->moment ? writer->moment : "s.as_of";
    bool since = moe_label_is_since(writer, aggregate);
    bool grid = node->has_window && !writer->moment && !since;
    const char *time = NULL;
    const char *row_time = NULL;
    StringInfoData keys, joins;
    int n_joins = 0;

    writer->past = aggregate->side != MOE_SIDE_WHERE ? writer->closed : grid || writer->moment ? as_of : NULL;
    writer->row_table = aggregate->table;
    if (aggregate->time_table >= 0)
        time = moe_schema_time_expression(schema, aggregate->time_table,
                                          aggregate->time_edge >= 0 ? "t" : step_alias(aggregate->time_step));
    initStringInfo(&keys);
    for (int i = 0; i < last->n_columns; i++)
        appendStringInfo(&keys, "%s%s", i > 0 ? ", " : "", moe_schema_foreign_key_sql(schema, last, i, holder));

    appendStringInfo(writer->sql, "%s%s (%s", writer->n_ctes ? ",\n" : "WITH ", aggregate->name,
                     grid    ? "as_of, "
                     : since ? "since, "
                             : "");
    for (int i = 0; i < last->n_columns; i++)
        appendStringInfo(writer->sql, "k%d, ", i + 1);
    appendStringInfoString(writer->sql, "value) AS (\n    SELECT ");
    if (since)
        appendStringInfo(writer->sql, "pg_catalog.min(%s), %s, 1 -- from the first row on there is one", time,
                         keys.data);
    else
    {
        appendStringInfo(writer->sql, "%s%s, ", grid ? "s.as_of, " : "", keys.data);
        write_function(writer, aggregate, time);
    }
    appendStringInfo(writer->sql, "\n    FROM %s AS c", moe_schema_qualified(&schema->tables[aggregate->table]));
    write_path(writer, aggregate);
    initStringInfo(&joins);
    if (writer->past && is_timed_elsewhere(writer, aggregate))
        row_time = moe_schema_any_time(schema, aggregate->table, "c", &joins, &n_joins);
    appendStringInfoString(writer->sql, joins.data);
    if (grid)
        write_windows(writer, aggregate, time);

    writer->conditions = false;
    if (node->has_window && !since)
    {
        if (!node->start_infinite)
        {
            moe_label_next_condition(writer, "    ");
            appendStringInfo(writer->sql, "%s > %s", time, moe_label_shifted(schema, as_of, node->start, node->unit));
        }
        moe_label_next_condition(writer, "    ");
        appendStringInfo(writer->sql, "%s <= %s", time, moe_label_shifted(schema, as_of, node->end, node->unit));
    }
    if (row_time)
    {
        moe_label_next_condition(writer, "    ");
        appendStringInfo(writer->sql, "%s <= %s", row_time, writer->past);
    }
    if (writer->past)
        write_visible_path(writer, aggregate);
    if (node->filter)
        moe_label_write_condition(writer, node->filter, "c", "    ");
    writer->past = NULL;
    moe_label_text_mark(writer->text, -1, false);
    appendStringInfo(writer->sql, "\n    GROUP BY %s%s\n)", grid ? "s.as_of, " : "", keys.data);
    writer->n_ctes = true;
}

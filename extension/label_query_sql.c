/*
 * label_query_sql.c: the SQL text of a predictive query.
 *
 *   WITH seeds (as_of, split) AS (... the grid of seed times ...),
 *   a1 AS (SELECT as_of, foreign key, count(*) ... GROUP BY both), ...
 *   SELECT key, as_of, label, split FROM seeds, entity, a1, ...
 *
 * Every aggregate is computed once for all seeds, as a set: no subquery runs
 * per row, and no index is needed. A range condition alone (time > as_of, time
 * <= as_of + w) would compare every row with every seed time; so the time axis
 * is cut into bins of the window's length, which rows and windows share by
 * equality and the planner can hash. A window lies in two bins; the exact range
 * is still checked, so the bins narrow the search and decide nothing.
 *
 * For a single moment (the population at $1, or a static target) the same text
 * is made with the moment in place of the grid.
 *
 * What looks at the past (WHERE) sees it as it was: late columns are NULL
 * where they were not yet known, and no path leads over a later row.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "extension/label_query_internal.h"
#include "extension/schema_internal.h"

typedef struct sql_writer
{
    const moe_label_context *context;
    const moe_schema *schema;
    moe_label_text *text;
    StringInfo sql;
    const char *moment; /* as_of as an expression; NULL: the grid's */
    const char *past;   /* within WHERE: the moment that it is told at, as an expression */
    int row_table;      /* of the columns within an aggregate */
    bool n_ctes;
    bool conditions; /* WHERE has been written */
} sql_writer;

/* Names and columns */

static const char *
column_name(const moe_schema *schema, int table, int column)
{
    return quote_identifier(schema->tables[table].columns[column].name);
}

/* The alias of the table reached after `step` steps from the aggregate's. */
static const char *
step_alias(int step)
{
    return step == 0 ? "c" : psprintf("p%d", step);
}

/* A column's value; within WHERE as it was known then. */
static char *
column_value(const sql_writer *writer, int table, const char *alias, const char *name)
{
    const moe_schema_table *t = &writer->schema->tables[table];
    int column = moe_catalog_column_named(t, name);
    char *value = psprintf("%s.%s", alias, quote_identifier(name));

    if (writer->past == NULL || column < 0 || t->columns[column].known_at < 0)
        return value;
    return psprintf("CASE WHEN %s <= %s THEN %s END",
                    moe_schema_moment_expression(writer->schema, table, t->columns[column].known_at, alias),
                    writer->past, value);
}

/* Conditions */

static void write_node(sql_writer *writer, const moe_node *node, const char *row_alias);

static bool joined_inside(const sql_writer *writer, const moe_label_aggregate *aggregate);

static void
write_aggregate_value(sql_writer *writer, const moe_node *node)
{
    const moe_label_aggregate *aggregate = moe_label_aggregate_of(writer->context, node);
    bool never_null = joined_inside(writer, aggregate) && node->aggregate != MOE_AGG_SUM;

    appendStringInfo(writer->sql, aggregate->counts && !never_null ? "coalesce(%s.value, 0)" : "%s.value",
                     aggregate->name);
}

/* An operand, in parentheses unless it binds tighter than any operator. */
static void
write_operand(sql_writer *writer, const moe_node *node, const char *row_alias)
{
    bool simple = node->kind == MOE_NODE_AGGREGATE || node->kind == MOE_NODE_COLUMN || node->kind == MOE_NODE_CONSTANT;

    if (!simple)
        appendStringInfoChar(writer->sql, '(');
    write_node(writer, node, row_alias);
    if (!simple)
        appendStringInfoChar(writer->sql, ')');
}

static void
write_list(sql_writer *writer, const List *list, const char *separator, const char *row_alias)
{
    ListCell *cell;

    foreach (cell, list)
    {
        if (cell != list_head(list))
            appendStringInfoString(writer->sql, separator);
        write_operand(writer, lfirst(cell), row_alias);
    }
}

/* A condition or value. row_alias: inside a row filter, the alias its columns belong to; NULL: the entity's. */
static void
write_node(sql_writer *writer, const moe_node *node, const char *row_alias)
{
    StringInfo sql = writer->sql;

    check_stack_depth();
    moe_label_text_mark(writer->text, node->location, false);
    switch (node->kind)
    {
        case MOE_NODE_AGGREGATE:
            write_aggregate_value(writer, node);
            return;
        case MOE_NODE_COLUMN:
            appendStringInfoString(sql, column_value(writer, row_alias ? writer->row_table : 0,
                                                     row_alias ? row_alias : "e", node->column->column));
            return;
        case MOE_NODE_CONSTANT:
            appendStringInfoString(sql, node->constant);
            return;
        case MOE_NODE_NOT:
            appendStringInfoString(sql, "NOT ");
            write_operand(writer, node->left, row_alias);
            return;
        default:
            break;
    }

    write_operand(writer, node->left, row_alias);
    switch (node->kind)
    {
        case MOE_NODE_COMPARE:
            moe_label_text_mark(writer->text, node->location, false);
            appendStringInfo(sql, " %s ", node->op);
            write_operand(writer, node->right, row_alias);
            break;
        case MOE_NODE_LIKE:
            appendStringInfo(sql, " %s%s ", node->negated ? "NOT " : "", node->op);
            write_operand(writer, node->right, row_alias);
            break;
        case MOE_NODE_NULL_TEST:
            appendStringInfo(sql, " IS %sNULL", node->negated ? "NOT " : "");
            break;
        case MOE_NODE_IN:
            appendStringInfo(sql, " %sIN (", node->negated ? "NOT " : "");
            write_list(writer, node->list, ", ", row_alias);
            appendStringInfoChar(sql, ')');
            break;
        case MOE_NODE_BETWEEN:
            appendStringInfo(sql, " %sBETWEEN ", node->negated ? "NOT " : "");
            write_list(writer, node->list, " AND ", row_alias);
            break;
        default:
            appendStringInfoString(sql, node->kind == MOE_NODE_AND ? " AND " : " OR ");
            write_operand(writer, node->right, row_alias);
            break;
    }
}

/* Start the next condition of a WHERE clause. */
static void
next_condition(sql_writer *writer, const char *indent)
{
    appendStringInfo(writer->sql, writer->conditions ? "\n%s  AND " : "\n%sWHERE ", indent);
    writer->conditions = true;
}

/* A condition of the statement as a further condition of WHERE; each part of an AND has a line of its own. */
static void
write_condition(sql_writer *writer, const moe_node *node, const char *row_alias, const char *indent)
{
    if (node->kind == MOE_NODE_AND)
    {
        write_condition(writer, node->left, row_alias, indent);
        write_condition(writer, node->right, row_alias, indent);
        return;
    }
    next_condition(writer, indent);
    if (node->kind == MOE_NODE_OR)
        appendStringInfoChar(writer->sql, '(');
    write_node(writer, node, row_alias);
    if (node->kind == MOE_NODE_OR)
        appendStringInfoChar(writer->sql, ')');
}

/* Seed times */

static void
write_seeds(sql_writer *writer, const moe_seed_times *times)
{
    const moe_schema *schema = writer->schema;

    appendStringInfoString(writer->sql, "WITH seeds (as_of, split) AS (");
    for (int i = 0; i < lengthof(times->blocks); i++)
    {
        const moe_seed_block *block = &times->blocks[i];
        bool calendar = schema->time_type == TIMESTAMPTZOID && times->unit == MOE_UNIT_MONTHS;
        const char *anchor = moe_label_time_literal(schema, block->anchor);

        if (i > 0)
            appendStringInfoString(writer->sql, "\n    UNION ALL");
        if (calendar)
            anchor = psprintf("(%s AT TIME ZONE 'UTC'", anchor);
        appendStringInfo(writer->sql, "\n    SELECT %s %c CAST(n AS double precision) * %s%s, '%s'", anchor,
                         block->sign < 0 ? '-' : '+', moe_label_interval(schema, times->step, times->unit),
                         calendar ? ") AT TIME ZONE 'UTC'" : "", block->split);
        appendStringInfo(writer->sql, "\n    FROM pg_catalog.generate_series(%d, %d) AS n", block->first, block->last);
    }
    appendStringInfoString(writer->sql, "\n)");
    writer->n_ctes = true;
}

/* Aggregates */

static void
write_function(sql_writer *writer, const moe_label_aggregate *aggregate, const char *time)
{
    const moe_node *node = aggregate->node;
    const char *column = node->column->column ? column_value(writer, aggregate->table, "c", node->column->column) : "*";
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
static void
write_equality(sql_writer *writer, const char *left, Oid left_type, const char *right, Oid right_type)
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
write_parent(sql_writer *writer, const moe_schema_edge *edge, const char *child, const char *parent)
{
    const moe_schema *schema = writer->schema;

    appendStringInfo(writer->sql, "\n    JOIN %s AS %s ON ", moe_schema_qualified(&schema->tables[edge->parent]),
                     parent);
    for (int i = 0; i < edge->n_columns; i++)
    {
        int to = edge->parent_columns[i];
        int from = edge->child_columns[i];

        if (i > 0)
            appendStringInfoString(writer->sql, " AND ");
        write_equality(writer, psprintf("%s.%s", parent, column_name(schema, edge->parent, to)),
                       schema->tables[edge->parent].columns[to].type,
                       psprintf("%s.%s", child, column_name(schema, edge->child, from)),
                       schema->tables[edge->child].columns[from].type);
    }
}

/* JOIN the tables on the path below the entity, the last of which holds the key of the entity, and the row time's. */
static void
write_path(sql_writer *writer, const moe_label_aggregate *aggregate)
{
    const moe_schema *schema = writer->schema;

    for (int step = 0; step + 1 < aggregate->n_steps; step++)
        write_parent(writer, &schema->edges[aggregate->steps[step]], step_alias(step), step_alias(step + 1));
    if (aggregate->time_edge >= 0)
        write_parent(writer, &schema->edges[aggregate->time_edge], "c", "t");
}

/* JOIN the seeds whose window may hold the row. */
static void
write_windows(sql_writer *writer, const moe_label_aggregate *aggregate, const char *time)
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
is_timed_step(const sql_writer *writer, const moe_label_aggregate *aggregate, int step)
{
    int table = writer->schema->edges[aggregate->steps[step - 1]].parent;

    return writer->schema->tables[table].time >= 0 && (aggregate->time_edge >= 0 || step != aggregate->time_step);
}

/* Does a row filter ask for a late column? */
static bool
asks_late(const sql_writer *writer, int table, const moe_node *node)
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
is_timed_elsewhere(const sql_writer *writer, const moe_label_aggregate *aggregate)
{
    const moe_schema *schema = writer->schema;

    if (aggregate->side != MOE_SIDE_WHERE || schema->tables[aggregate->table].time >= 0)
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
static bool
is_since(const sql_writer *writer, const moe_label_aggregate *aggregate)
{
    if (!aggregate->presence || writer->moment || is_timed_elsewhere(writer, aggregate))
        return false;
    for (int step = 1; step < aggregate->n_steps; step++)
        if (is_timed_step(writer, aggregate, step))
            return false;
    return !asks_late(writer, aggregate->table, aggregate->node->filter);
}

/* Rows on the path to the entity must be visible as well. */
static void
write_visible_path(sql_writer *writer, const moe_label_aggregate *aggregate)
{
    for (int step = 1; step < aggregate->n_steps; step++)
    {
        int table = writer->schema->edges[aggregate->steps[step - 1]].parent;
        const char *time;

        if (!is_timed_step(writer, aggregate, step))
            continue;
        time = moe_schema_time_expression(writer->schema, table, step_alias(step));
        next_condition(writer, "    ");
        appendStringInfo(writer->sql, "(%s IS NULL OR %s <= %s)", time, time, writer->past);
    }
}

/* One aggregate over all its windows: a common table expression (as_of, k1.., value). */
static void
write_aggregate(sql_writer *writer, const moe_label_aggregate *aggregate)
{
    const moe_schema *schema = writer->schema;
    const moe_node *node = aggregate->node;
    const moe_schema_edge *last = &schema->edges[aggregate->steps[aggregate->n_steps - 1]];
    const char *holder = step_alias(aggregate->n_steps - 1);
    const char *as_of = writer->moment ? writer->moment : "s.as_of";
    bool since = is_since(writer, aggregate);
    bool grid = node->has_window && !writer->moment && !since;
    const char *time = NULL;
    const char *row_time = NULL;
    StringInfoData keys, joins;

    writer->past = aggregate->side == MOE_SIDE_WHERE && (grid || writer->moment) ? as_of : NULL;
    writer->row_table = aggregate->table;
    if (aggregate->time_table >= 0)
        time = moe_schema_time_expression(schema, aggregate->time_table,
                                          aggregate->time_edge >= 0 ? "t" : step_alias(aggregate->time_step));
    initStringInfo(&keys);
    for (int i = 0; i < last->n_columns; i++)
        appendStringInfo(&keys, "%s%s.%s", i > 0 ? ", " : "", holder,
                         column_name(schema, last->child, last->child_columns[i]));

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
        row_time = moe_schema_any_time(schema, aggregate->table, "c", &joins);
    appendStringInfoString(writer->sql, joins.data);
    if (grid)
        write_windows(writer, aggregate, time);

    writer->conditions = false;
    if (node->has_window && !since)
    {
        if (!node->start_infinite)
        {
            next_condition(writer, "    ");
            appendStringInfo(writer->sql, "%s > %s", time, moe_label_shifted(schema, as_of, node->start, node->unit));
        }
        next_condition(writer, "    ");
        appendStringInfo(writer->sql, "%s <= %s", time, moe_label_shifted(schema, as_of, node->end, node->unit));
    }
    if (row_time)
    {
        next_condition(writer, "    ");
        appendStringInfo(writer->sql, "%s <= %s", row_time, writer->past);
    }
    if (writer->past)
        write_visible_path(writer, aggregate);
    if (node->filter)
        write_condition(writer, node->filter, "c", "    ");
    writer->past = NULL;
    moe_label_text_mark(writer->text, -1, false);
    appendStringInfo(writer->sql, "\n    GROUP BY %s%s\n)", grid ? "s.as_of, " : "", keys.data);
    writer->n_ctes = true;
}

/* The whole */

/* Is every seed dropped where the aggregate has no row? Then the join need not keep it. */
static bool
joined_inside(const sql_writer *writer, const moe_label_aggregate *aggregate)
{
    const moe_label_context *context = writer->context;
    const moe_statement *statement = context->statement;

    if (statement->where && moe_label_false_without(context, statement->where, aggregate))
        return true;
    if (writer->moment)
        return false;
    return moe_label_null_without(context, statement->target, aggregate) ||
           (statement->assuming && moe_label_false_without(context, statement->assuming, aggregate));
}

/* Does this text need the aggregate? The population knows only WHERE. */
static bool
is_used(const sql_writer *writer, const moe_label_aggregate *aggregate)
{
    return !writer->moment || aggregate->side == MOE_SIDE_WHERE;
}

/* a1.as_of = s.as_of AND a1.k1 = e.key */
static void
write_join(sql_writer *writer, const moe_label_aggregate *aggregate)
{
    const moe_schema *schema = writer->schema;
    const moe_schema_edge *last = &schema->edges[aggregate->steps[aggregate->n_steps - 1]];
    bool first = true;

    appendStringInfo(writer->sql, "\n%sJOIN %s ON ", joined_inside(writer, aggregate) ? "" : "LEFT ", aggregate->name);
    if (aggregate->node->has_window && !writer->moment)
    {
        if (is_since(writer, aggregate))
            appendStringInfo(writer->sql, "%s.since <= %s", aggregate->name,
                             moe_label_shifted(schema, "s.as_of", aggregate->node->end, aggregate->node->unit));
        else
            appendStringInfo(writer->sql, "%s.as_of = s.as_of", aggregate->name);
        first = false;
    }
    for (int i = 0; i < last->n_columns; i++)
    {
        int to = last->parent_columns[i];

        if (!first)
            appendStringInfoString(writer->sql, " AND ");
        write_equality(writer, psprintf("%s.k%d", aggregate->name, i + 1),
                       schema->tables[last->child].columns[last->child_columns[i]].type,
                       psprintf("e.%s", column_name(schema, 0, to)), schema->tables[0].columns[to].type);
        first = false;
    }
}

/* FROM the seeds and the entity, every aggregate joined; WHERE visible and counted. */
static void
write_from(sql_writer *writer)
{
    const moe_schema *schema = writer->schema;
    const moe_statement *statement = writer->context->statement;
    const char *entity = moe_schema_qualified(writer->context->entity);
    ListCell *cell;

    if (writer->moment)
        appendStringInfo(writer->sql, "\nFROM %s AS e", entity);
    else
        appendStringInfo(writer->sql, "\nFROM seeds AS s\nCROSS JOIN %s AS e", entity);
    /* Inner joins first: the planner then starts from the rows that exist, not from all pairs of seed and entity. */
    for (int outer = 0; outer < 2; outer++)
        foreach (cell, writer->context->aggregates)
        {
            const moe_label_aggregate *aggregate = lfirst(cell);

            if (is_used(writer, aggregate) && joined_inside(writer, aggregate) == (outer == 0))
                write_join(writer, aggregate);
        }

    writer->conditions = false;
    if (writer->context->entity->time >= 0)
    {
        const char *time = moe_schema_time_expression(schema, 0, "e");

        next_condition(writer, "");
        appendStringInfo(writer->sql, "(%s IS NULL OR %s <= %s)", time, time,
                         writer->moment ? writer->moment : "s.as_of");
    }
    writer->past = writer->moment ? writer->moment : "s.as_of";
    if (statement->where)
        write_condition(writer, statement->where, NULL, "");
    writer->past = NULL;
    moe_label_text_mark(writer->text, -1, false);
}

static void
write_key(sql_writer *writer)
{
    for (int i = 0; i < writer->schema->n_key; i++)
        appendStringInfo(writer->sql, "%se.%s", i > 0 ? ", " : "",
                         column_name(writer->schema, 0, writer->schema->key[i]));
}

static void
write_aggregates(sql_writer *writer)
{
    ListCell *cell;

    foreach (cell, writer->context->aggregates)
        if (is_used(writer, lfirst(cell)))
            write_aggregate(writer, lfirst(cell));
    if (writer->n_ctes)
        appendStringInfoChar(writer->sql, '\n');
}

static void
start_writer(sql_writer *writer, const moe_label_context *context, moe_label_text *text, const char *moment)
{
    memset(writer, 0, sizeof(*writer));
    writer->context = context;
    writer->schema = context->schema;
    writer->text = text;
    writer->sql = &text->sql;
    writer->moment = moment;
}

/* The target as an output column or, in parentheses, a condition's operand. */
static void
write_target(sql_writer *writer)
{
    write_operand(writer, writer->context->statement->target, NULL);
    moe_label_text_mark(writer->text, -1, false);
}

/* Every labelled seed of the grid. */
void
moe_label_training_sql(const moe_label_context *context, const moe_seed_times *times, moe_label_text *text)
{
    const moe_statement *statement = context->statement;
    sql_writer writer;

    start_writer(&writer, context, text, NULL);
    write_seeds(&writer, times);
    write_aggregates(&writer);
    appendStringInfoString(writer.sql, "SELECT ");
    write_key(&writer);
    appendStringInfoString(writer.sql, ", s.as_of, ");
    write_target(&writer);
    appendStringInfoString(writer.sql, " AS label, s.split");
    write_from(&writer);
    if (statement->assuming)
        write_condition(&writer, statement->assuming, NULL, "");
    if (moe_label_nullable(context, statement->target))
    {
        next_condition(&writer, "");
        write_target(&writer);
        appendStringInfoString(writer.sql, " IS NOT NULL");
    }
}

/* 'train' for 8 keys of 10, 'validation' for 1, 'test' for 1. */
char *
moe_label_hash_bucket(const moe_label_context *context, const char *alias)
{
    const moe_schema *schema = context->schema;
    StringInfoData key;

    initStringInfo(&key);
    for (int i = 0; i < schema->n_key; i++)
        appendStringInfo(&key, "%s%s.%s", i > 0 ? ", " : "", alias, column_name(schema, 0, schema->key[i]));
    return psprintf("pg_catalog.abs(pg_catalog.mod(pg_catalog.hashtextextended(CAST(%s%s%s AS pg_catalog.text) "
                    "COLLATE \"C\", 0), 10))",
                    schema->n_key > 1 ? "ROW(" : "", key.data, schema->n_key > 1 ? ")" : "");
}

/* A static column's known values, all at one moment. */
void
moe_label_static_sql(const moe_label_context *context, int64 as_of, moe_label_text *text)
{
    sql_writer writer;

    start_writer(&writer, context, text, moe_label_time_literal(context->schema, as_of));
    write_aggregates(&writer);
    appendStringInfoString(writer.sql, "SELECT ");
    write_key(&writer);
    appendStringInfo(writer.sql, ", %s AS as_of, ", writer.moment);
    write_target(&writer);
    appendStringInfo(writer.sql,
                     " AS label,\n       CASE %s\n           WHEN 8 THEN 'validation'\n           WHEN 9 THEN 'test'\n "
                     "          ELSE 'train'\n       END AS split",
                     moe_label_hash_bucket(context, "e"));
    write_from(&writer);
    next_condition(&writer, "");
    appendStringInfo(writer.sql, "e.%s IS NOT NULL", quote_identifier(context->static_column));
}

/* The keys that count at $1; of a static target, those whose column is unknown. */
void
moe_label_population_sql(const moe_label_context *context, moe_label_text *text)
{
    sql_writer writer;

    start_writer(&writer, context, text, "$1");
    write_aggregates(&writer);
    appendStringInfoString(writer.sql, "SELECT ");
    write_key(&writer);
    write_from(&writer);
    if (context->static_column)
    {
        next_condition(&writer, "");
        appendStringInfo(writer.sql, "e.%s IS NULL", quote_identifier(context->static_column));
    }
}

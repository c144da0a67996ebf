/*
 * label_query_resolve.c: what the names in a predictive query mean.
 *
 * An aggregate's table is found among the model's tables, and from it the
 * shortest path of foreign keys, child to parent, up to the entity: the rows
 * that belong to an entity row are those whose path ends there. Its row time
 * is its own or that of the nearest table on the path below the entity (an
 * order line has its order's time). Two shortest paths are an error, for
 * either could be meant.
 *
 * Windows are checked here: targets and ASSUMING look forward from the seed
 * time, WHERE looks back.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "extension/label_query_internal.h"
#include "extension/moe_ml.h"

#define MAX_PATHS 2 /* more are not told apart */

static const char *const aggregate_names[] = {
    [MOE_AGG_SUM] = "sum",     [MOE_AGG_AVG] = "avg",     [MOE_AGG_MIN] = "min",
    [MOE_AGG_MAX] = "max",     [MOE_AGG_COUNT] = "count", [MOE_AGG_COUNT_DISTINCT] = "count_distinct",
    [MOE_AGG_FIRST] = "first", [MOE_AGG_LAST] = "last",   [MOE_AGG_LIST_DISTINCT] = "list_distinct"};

/* The column's number, or an error at location that names the nearest one. */
AttrNumber
moe_label_column(Oid relid, const char *name, int location)
{
    AttrNumber attnum = get_attnum(relid, name);
    Relation relation;
    TupleDesc desc;
    const char **candidates;
    const char *near;
    int n = 0;

    if (attnum > 0)
        return attnum;

    relation = table_open(relid, NoLock);
    desc = RelationGetDescr(relation);
    candidates = palloc0(sizeof(char *) * Max(desc->natts, 1));
    for (int i = 0; i < desc->natts; i++)
        if (!TupleDescAttr(desc, i)->attisdropped)
            candidates[n++] = pstrdup(NameStr(TupleDescAttr(desc, i)->attname));
    table_close(relation, NoLock);
    near = moe_nearest_name(name, candidates, n);

    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                    errmsg("column \"%s\" of table \"%s\" does not exist", name, get_rel_name(relid)),
                    near ? errhint("Perhaps you meant \"%s\".", near)
                         : errhint("\\d %s lists its columns.", quote_identifier(get_rel_name(relid))),
                    moe_statement_position(location)));
    return InvalidAttrNumber;
}

/* A written table name as people wrote it. */
static char *
written_name(const moe_column_name *name)
{
    return name->schema ? psprintf("%s.%s", name->schema, name->table) : pstrdup(name->table);
}

static bool
names_table(const moe_column_name *name, const moe_schema_table *table)
{
    return strcmp(name->table, table->name) == 0 && (!name->schema || strcmp(name->schema, table->schema) == 0);
}

static void
raise_no_path(const moe_label_context *context, const char *table, int location)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
                    errmsg("no path of foreign keys leads from \"%s\" to \"%s\"", table, context->entity->name),
                    errhint("Add a foreign key (ALTER TABLE ... ADD FOREIGN KEY ... REFERENCES %s), name the tables in "
                            "between in USING (...), or give the labels by a query of your own: PREDICT label FOR EACH "
                            "%s AT time AS SELECT ...",
                            quote_identifier(context->entity->name), quote_identifier(context->entity->name)),
                    moe_statement_position(location)));
}

/* A name that is none of the model's tables: another table, or none at all. */
static void
raise_unknown_table(const moe_label_context *context, const moe_column_name *name)
{
    const moe_schema *schema = context->schema;
    Oid relid = RangeVarGetRelid(makeRangeVar(name->schema, name->table, name->location), NoLock, true);
    const char **candidates = palloc(sizeof(char *) * schema->n_tables);
    const char *near;

    if (OidIsValid(relid))
        raise_no_path(context, written_name(name), name->location);

    for (int i = 0; i < schema->n_tables; i++)
        candidates[i] = schema->tables[i].name;
    near = moe_nearest_name(name->table, candidates, schema->n_tables);
    ereport(ERROR,
            (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table \"%s\" does not exist", written_name(name)),
             near ? errhint("Perhaps you meant \"%s\".", near)
                  : errhint("An aggregate names a table that foreign keys connect to \"%s\".", context->entity->name),
             moe_statement_position(name->location)));
}

/* The model's table of that name: the one on the search path where several schemas have it. */
static int
find_table(const moe_label_context *context, const moe_column_name *name)
{
    const moe_schema *schema = context->schema;
    int found = -1;
    bool several = false;

    for (int i = 0; i < schema->n_tables; i++)
    {
        if (!names_table(name, &schema->tables[i]))
            continue;
        if (RelnameGetRelid(name->table) == schema->tables[i].relid)
            return i;
        several = found >= 0;
        found = i;
    }
    if (several)
        ereport(ERROR, (errcode(ERRCODE_AMBIGUOUS_ALIAS), errmsg("table name \"%s\" is ambiguous", name->table),
                        errhint("Write its schema before it."), moe_statement_position(name->location)));
    if (found < 0)
        raise_unknown_table(context, name);
    return found;
}

/*
 * Distances to the entity along child-to-parent steps, and how many shortest
 * paths there are (at most MAX_PATHS are counted). The entity is at 0.
 */
static void
measure_paths(const moe_schema *schema, int *distance, int *paths)
{
    bool changed = true;

    for (int i = 0; i < schema->n_tables; i++)
    {
        distance[i] = i == 0 ? 0 : PG_INT32_MAX;
        paths[i] = i == 0 ? 1 : 0;
    }
    for (int level = 0; changed; level++)
    {
        changed = false;
        for (int e = 0; e < schema->n_edges; e++)
        {
            const moe_schema_edge *edge = &schema->edges[e];

            if (distance[edge->parent] != level || distance[edge->child] <= level)
                continue;
            distance[edge->child] = level + 1;
            paths[edge->child] = Min(MAX_PATHS, paths[edge->child] + paths[edge->parent]);
            changed = true;
        }
    }
}

/* The names of all foreign keys on shortest paths from `table`, "a, b". */
static void
list_keys(const moe_schema *schema, const int *distance, int table, int length, StringInfo names)
{
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];

        if (edge->child != table || distance[edge->parent] != length - 1)
            continue;
        if (!strstr(names->data, psprintf("\"%s\"", edge->name)))
            appendStringInfo(names, "%s\"%s\"", names->len ? ", " : "", edge->name);
        if (length > 1)
            list_keys(schema, distance, edge->parent, length - 1, names);
    }
}

/* Find the one shortest path from the aggregate's table up to the entity (at least one step). */
static void
find_path(const moe_label_context *context, moe_label_aggregate *aggregate)
{
    const moe_schema *schema = context->schema;
    const moe_schema_table *table = &schema->tables[aggregate->table];
    int location = aggregate->node->column->location;
    int *distance = palloc(sizeof(int) * schema->n_tables);
    int *paths = palloc(sizeof(int) * schema->n_tables);
    int at = aggregate->table;
    int length = PG_INT32_MAX;
    int n_paths = 0;

    measure_paths(schema, distance, paths);
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];

        if (edge->child != at || distance[edge->parent] == PG_INT32_MAX || distance[edge->parent] + 1 > length)
            continue;
        if (distance[edge->parent] + 1 < length)
            n_paths = 0;
        length = distance[edge->parent] + 1;
        n_paths += paths[edge->parent];
    }
    if (n_paths == 0)
        raise_no_path(context, table->name, location);
    if (n_paths > 1)
    {
        StringInfoData names;

        initStringInfo(&names);
        list_keys(schema, distance, at, length, &names);
        ereport(ERROR,
                (errcode(ERRCODE_AMBIGUOUS_COLUMN),
                 errmsg("more than one path of foreign keys leads from \"%s\" to \"%s\"", table->name,
                        context->entity->name),
                 errdetail("The foreign keys %s are equally short ways.", names.data),
                 errhint("Give the labels by a query of your own: PREDICT label FOR EACH %s AT time AS SELECT ...",
                         quote_identifier(context->entity->name)),
                 moe_statement_position(location)));
    }

    aggregate->n_steps = length;
    aggregate->steps = palloc(sizeof(int) * length);
    for (int step = 0; step < length; step++)
        for (int e = 0; e < schema->n_edges; e++)
            if (schema->edges[e].child == at && distance[schema->edges[e].parent] == length - step - 1)
            {
                aggregate->steps[step] = e;
                at = schema->edges[e].parent;
                break;
            }
}

/*
 * The nearest row time on the path; the entity's own excepted, for it says when
 * the entity began, not when this happened. Else that of the one parent that
 * the table's rows came with (the lines of an order, counted for a product).
 */
static void
find_time(const moe_label_context *context, moe_label_aggregate *aggregate)
{
    const moe_schema *schema = context->schema;
    int table = aggregate->table;

    aggregate->time_table = aggregate->time_step = aggregate->time_edge = -1;
    for (int step = 0; step < aggregate->n_steps; step++)
    {
        if (schema->tables[table].time >= 0)
        {
            aggregate->time_table = table;
            aggregate->time_step = step;
            return;
        }
        table = schema->edges[aggregate->steps[step]].parent;
    }
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];

        if (edge->child != aggregate->table || !edge->gives_time || e == aggregate->steps[0])
            continue;
        if (aggregate->time_edge >= 0 || schema->tables[edge->parent].time < 0)
        {
            aggregate->time_table = aggregate->time_edge = -1;
            return;
        }
        aggregate->time_edge = e;
        aggregate->time_table = edge->parent;
    }
}

static void
check_window(const moe_label_context *context, const moe_label_aggregate *aggregate)
{
    const moe_node *node = aggregate->node;
    const moe_schema_table *table = &context->schema->tables[aggregate->table];
    const char *function = aggregate_names[node->aggregate];
    bool forward = aggregate->side != MOE_SIDE_WHERE;

    if (aggregate->time_table < 0 && (node->has_window || forward))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
                 errmsg("table \"%s\" has no row time, which the window of %s needs", table->name, function),
                 errhint("Declare its time column: SECURITY LABEL FOR moe_ml ON COLUMN %s.column IS 'time', or WITH "
                         "(time_columns = '%s.column').",
                         quote_qualified_identifier(table->schema, table->name), table->name),
                 moe_statement_position(node->location)));
    if (!node->has_window && aggregate->time_table >= 0)
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s over \"%s\" needs a window", function, table->name),
                        forward ? errhint("Add its start and end after the seed time, as in %s(%s.%s, 0, 30, days).",
                                          function, table->name, node->column->column ? node->column->column : "*")
                                : errhint("Add its start and end before the seed time, as in %s(%s.%s, -30, 0, days); "
                                          "-INF, 0 takes all of the past.",
                                          function, table->name, node->column->column ? node->column->column : "*"),
                        moe_statement_position(node->location)));
    if (!node->has_window)
        return;
    if (forward && (node->start_infinite || node->start < 0))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the window of %s starts before the seed time, but %s looks into the future", function,
                               aggregate->side == MOE_SIDE_TARGET ? "PREDICT" : "ASSUMING"),
                        errhint("Start it at 0 or later; conditions on the past belong in WHERE."),
                        moe_statement_position(node->location)));
    if (!forward && node->end > 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the window of %s ends after the seed time, but WHERE looks into the past", function),
                        errhint("End it at 0 or earlier; conditions on the future belong in ASSUMING."),
                        moe_statement_position(node->location)));
    if (!node->start_infinite && node->end <= node->start)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("the window of %s ends at or before its start", function),
                 errhint("Write the start, then the end, as in 0, 30, days."), moe_statement_position(node->location)));
    /* Raises where the distance is beyond what a timestamp can hold. */
    if (!node->start_infinite)
        moe_label_microseconds(node->start, node->unit, node->location);
    moe_label_microseconds(node->end, node->unit, node->location);
}

/* sum and avg take numbers, min and max what has an order: the server checks that by its own rules. */
static void
check_argument(const moe_label_aggregate *aggregate, Oid relid)
{
    const moe_node *node = aggregate->node;
    const char *function = aggregate_names[node->aggregate];
    const char *column = node->column->column;
    AttrNumber attnum;
    Oid type;

    if (!column)
    {
        if (node->aggregate != MOE_AGG_COUNT)
            ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s needs a column, not *", function),
                            errhint("Write %s(%s.column, ...); only count takes *.", function, node->column->table),
                            moe_statement_position(node->column->location)));
        return;
    }
    attnum = moe_label_column(relid, column, node->column->location);
    type = getBaseType(get_atttype(relid, attnum));
    if (node->aggregate == MOE_AGG_COUNT || node->aggregate == MOE_AGG_COUNT_DISTINCT ||
        node->aggregate == MOE_AGG_FIRST || node->aggregate == MOE_AGG_LAST)
        return;
    if (type == BOOLOID)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("%s cannot take column \"%s\" of type boolean", function, column),
                        errhint("Count the rows where it holds: count(%s.* WHERE %s = true, ...).", node->column->table,
                                quote_identifier(column)),
                        moe_statement_position(node->column->location)));
    if ((node->aggregate == MOE_AGG_SUM || node->aggregate == MOE_AGG_AVG) && !moe_label_is_number(type))
        ereport(ERROR,
                (errcode(ERRCODE_DATATYPE_MISMATCH),
                 errmsg("%s needs a number, but column \"%s\" is of type %s", function, column, format_type_be(type)),
                 errhint("count, count_distinct, first and last take a column of any type."),
                 moe_statement_position(node->column->location)));
}

/* The columns of a row filter belong to the aggregated table. */
static void
resolve_filter(const moe_label_context *context, const moe_node *node, const moe_schema_table *table)
{
    ListCell *cell;

    if (!node)
        return;
    check_stack_depth();
    if (node->kind == MOE_NODE_AGGREGATE)
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("an aggregate cannot stand inside another's WHERE"),
                        errhint("The WHERE inside an aggregate chooses rows of \"%s\" by their columns.", table->name),
                        moe_statement_position(node->location)));
    if (node->kind == MOE_NODE_COLUMN)
    {
        if (node->column->table && !names_table(node->column, table))
            ereport(ERROR, (errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
                            errmsg("the WHERE of an aggregate over \"%s\" cannot use table \"%s\"", table->name,
                                   written_name(node->column)),
                            errhint("Use columns of \"%s\", or give the labels by a query of your own: PREDICT label "
                                    "FOR EACH %s AT time AS SELECT ...",
                                    table->name, quote_identifier(context->entity->name)),
                            moe_statement_position(node->location)));
        moe_label_column(table->relid, node->column->column, node->location);
    }
    resolve_filter(context, node->left, table);
    resolve_filter(context, node->right, table);
    foreach (cell, node->list)
        resolve_filter(context, lfirst(cell), table);
}

static void
resolve_aggregate(moe_label_context *context, const moe_node *node, moe_label_side side)
{
    moe_label_aggregate *aggregate = palloc0(sizeof(moe_label_aggregate));
    const moe_schema_table *table;

    if (!node->column->table)
        ereport(ERROR,
                (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s needs a table's column", aggregate_names[node->aggregate]),
                 errhint("Write table.column, or table.* to count rows."),
                 moe_statement_position(node->column->location)));
    aggregate->node = node;
    aggregate->side = side;
    aggregate->counts =
        node->aggregate == MOE_AGG_COUNT || node->aggregate == MOE_AGG_COUNT_DISTINCT || node->aggregate == MOE_AGG_SUM;
    aggregate->name = psprintf("a%d", list_length(context->aggregates) + 1);
    aggregate->table = find_table(context, node->column);
    table = &context->schema->tables[aggregate->table];
    find_path(context, aggregate);
    find_time(context, aggregate);
    check_argument(aggregate, table->relid);
    check_window(context, aggregate);
    if ((node->aggregate == MOE_AGG_FIRST || node->aggregate == MOE_AGG_LAST) && aggregate->time_table < 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
                        errmsg("table \"%s\" has no row time, which %s orders by", table->name,
                               aggregate_names[node->aggregate]),
                        errhint("Declare its time column: SECURITY LABEL FOR moe_ml ON COLUMN %s.column IS 'time'.",
                                quote_qualified_identifier(table->schema, table->name)),
                        moe_statement_position(node->location)));
    resolve_filter(context, node->filter, table);
    context->aggregates = lappend(context->aggregates, aggregate);
}

/* A column outside an aggregate is the entity's. */
static void
resolve_column(moe_label_context *context, const moe_node *node, moe_label_side side)
{
    const moe_column_name *name = node->column;

    if (!name->column)
        ereport(ERROR,
                (errcode(ERRCODE_SYNTAX_ERROR), errmsg("* can only be counted"),
                 errhint("Write count(%s.*, 0, 30, days), or name a column.", name->table ? name->table : "table"),
                 moe_statement_position(name->location)));
    if (name->table && !names_table(name, context->entity))
    {
        find_table(context, name); /* an unknown one has an error of its own */
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
                 errmsg("\"%s.%s\" is not a column of \"%s\"", written_name(name), name->column, context->entity->name),
                 errhint("A row of \"%s\" may have many rows of \"%s\": aggregate them, as in last(%s.%s, %s).",
                         context->entity->name, name->table, name->table, name->column,
                         side == MOE_SIDE_WHERE ? "-30, 0, days" : "0, 30, days"),
                 moe_statement_position(name->location)));
    }
    moe_label_column(context->entity->relid, name->column, name->location);
    if (side != MOE_SIDE_TARGET)
        return;
    if (context->static_column && strcmp(context->static_column, name->column) != 0)
        context->other_column = name;
    else
        context->static_column = name->column;
}

static void
resolve_node(moe_label_context *context, const moe_node *node, moe_label_side side)
{
    ListCell *cell;

    if (!node)
        return;
    check_stack_depth();
    if (node->kind == MOE_NODE_AGGREGATE)
    {
        resolve_aggregate(context, node, side);
        return;
    }
    if (node->kind == MOE_NODE_COLUMN)
        resolve_column(context, node, side);
    if (node->kind == MOE_NODE_COMPARE && node->right->kind == MOE_NODE_CONSTANT &&
        pg_strcasecmp(node->right->constant, "null") == 0)
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("a comparison with NULL is never true"),
                        errhint("Write IS NULL or IS NOT NULL."), moe_statement_position(node->right->location)));
    resolve_node(context, node->left, side);
    if (node->kind == MOE_NODE_COMPARE && moe_label_asks_presence(node) && node->left->start_infinite)
        ((moe_label_aggregate *) llast(context->aggregates))->presence = true;
    resolve_node(context, node->right, side);
    foreach (cell, node->list)
        resolve_node(context, lfirst(cell), side);
}

/* Where a condition begins: operators stand behind their first operand. */
static int
start_of(const moe_node *node)
{
    while (node->left && node->kind != MOE_NODE_NOT)
        node = node->left;
    return node->location;
}

/* Resolve and check every name and window of the statement. */
void
moe_label_resolve(moe_label_context *context)
{
    const moe_statement *statement = context->statement;

    resolve_node(context, statement->target, MOE_SIDE_TARGET);
    if (!context->aggregates && !context->static_column)
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("the target names no column and no aggregate"),
                        errhint("Write PREDICT count(table.*, 0, 30, days) > 0, or PREDICT a column of \"%s\".",
                                context->entity->name),
                        moe_statement_position(statement->target->location)));
    if (context->aggregates && context->static_column)
        context->static_column = NULL; /* beside an aggregate it is just a condition */
    if (context->static_column && context->other_column)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a target cannot be made of two columns"),
                        errhint("Predict one column, or add the combination to \"%s\" as a generated column.",
                                context->entity->name),
                        moe_statement_position(context->other_column->location)));
    if (context->static_column && statement->assuming)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("ASSUMING needs a target that looks into the future"),
                 errhint("Put conditions on the past into WHERE."),
                 moe_statement_position(start_of(statement->assuming))));
    resolve_node(context, statement->where, MOE_SIDE_WHERE);
    resolve_node(context, statement->assuming, MOE_SIDE_ASSUMING);
}

const moe_label_aggregate *
moe_label_aggregate_of(const moe_label_context *context, const moe_node *node)
{
    ListCell *cell;

    foreach (cell, context->aggregates)
    {
        const moe_label_aggregate *aggregate = lfirst(cell);

        if (aggregate->node == node)
            return aggregate;
    }
    elog(ERROR, "moe_ml: an aggregate was not resolved");
    return NULL;
}

/* See label_query.h. Names that do not resolve are left for the compiler to report. */
static bool
only_column(const moe_node *node, const char **column)
{
    ListCell *cell;

    if (!node)
        return true;
    check_stack_depth();
    if (node->kind == MOE_NODE_AGGREGATE)
        return false;
    if (node->kind == MOE_NODE_COLUMN)
        *column = node->column->column;
    if (!only_column(node->left, column) || !only_column(node->right, column))
        return false;
    foreach (cell, node->list)
        if (!only_column(lfirst(cell), column))
            return false;
    return true;
}

AttrNumber
moe_label_query_static_target(const moe_statement *statement, Oid entity)
{
    const char *column = NULL;
    AttrNumber attnum;

    if (!statement->target || !only_column(statement->target, &column) || !column)
        return 0;
    attnum = get_attnum(entity, column);
    return attnum > 0 ? attnum : 0;
}

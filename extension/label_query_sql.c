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
 * where they were not yet known, and no path leads over a later row. So do
 * labels of the past: each is what it was when its window closed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "extension/label_query_writer.h"
#include "extension/schema_internal.h"

/* Seed times */

static void
write_seeds(moe_label_writer *writer, const moe_seed_times *times)
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

/* The seeds of a label history: $1 less $2, ..., $3 windows. */
static void
write_past_seeds(moe_label_writer *writer, const moe_seed_times *times)
{
    const moe_schema *schema = writer->schema;
    bool calendar = schema->time_type == TIMESTAMPTZOID && times->unit == MOE_UNIT_MONTHS;

    appendStringInfo(writer->sql,
                     "WITH seeds (as_of, split) AS (\n    SELECT %s - CAST(n AS double precision) * %s%s, 'past'"
                     "\n    FROM pg_catalog.generate_series($2, $3) AS n\n)",
                     calendar ? "($1 AT TIME ZONE 'UTC'" : "$1", moe_label_interval(schema, times->step, times->unit),
                     calendar ? ") AT TIME ZONE 'UTC'" : "");
    writer->n_ctes = true;
}

/* The whole */

/* Is every seed dropped where the aggregate has no row? Then the join need not keep it. */
bool
moe_label_joined_inside(const moe_label_writer *writer, const moe_label_aggregate *aggregate)
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
is_used(const moe_label_writer *writer, const moe_label_aggregate *aggregate)
{
    return !writer->moment || aggregate->side == MOE_SIDE_WHERE;
}

/* a1.as_of = s.as_of AND a1.k1 = e.key */
static void
write_join(moe_label_writer *writer, const moe_label_aggregate *aggregate)
{
    const moe_schema *schema = writer->schema;
    const moe_schema_edge *last = &schema->edges[aggregate->steps[aggregate->n_steps - 1]];
    bool first = true;

    appendStringInfo(writer->sql, "\n%sJOIN %s ON ", moe_label_joined_inside(writer, aggregate) ? "" : "LEFT ",
                     aggregate->name);
    if (aggregate->node->has_window && !writer->moment)
    {
        if (moe_label_is_since(writer, aggregate))
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
        moe_label_write_equality(writer, psprintf("%s.k%d", aggregate->name, i + 1),
                                 schema->tables[last->child].columns[last->child_columns[i]].type,
                                 psprintf("e.%s", moe_label_column_sql(schema, 0, to)),
                                 schema->tables[0].columns[to].type);
        first = false;
    }
}

/* FROM the seeds and the entity, every aggregate joined; WHERE visible and counted. */
static void
write_from(moe_label_writer *writer)
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

            if (is_used(writer, aggregate) && moe_label_joined_inside(writer, aggregate) == (outer == 0))
                write_join(writer, aggregate);
        }

    writer->conditions = false;
    if (writer->context->entity->time >= 0)
    {
        const char *time = moe_schema_time_expression(schema, 0, "e");

        moe_label_next_condition(writer, "");
        appendStringInfo(writer->sql, "(%s IS NULL OR %s <= %s)", time, time,
                         writer->moment ? writer->moment : "s.as_of");
    }
    writer->past = writer->moment ? writer->moment : "s.as_of";
    if (statement->where)
        moe_label_write_condition(writer, statement->where, NULL, "");
    writer->past = NULL;
    moe_label_text_mark(writer->text, -1, false);
}

static void
write_key(moe_label_writer *writer)
{
    for (int i = 0; i < writer->schema->n_key; i++)
        appendStringInfo(writer->sql, "%se.%s", i > 0 ? ", " : "",
                         moe_label_column_sql(writer->schema, 0, writer->schema->key[i]));
}

static void
write_aggregates(moe_label_writer *writer)
{
    ListCell *cell;

    foreach (cell, writer->context->aggregates)
        if (is_used(writer, lfirst(cell)))
            moe_label_write_aggregate(writer, lfirst(cell));
    if (writer->n_ctes)
        appendStringInfoChar(writer->sql, '\n');
}

static void
start_writer(moe_label_writer *writer, const moe_label_context *context, moe_label_text *text, const char *moment)
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
write_target(moe_label_writer *writer)
{
    moe_label_write_operand(writer, writer->context->statement->target, NULL);
    moe_label_text_mark(writer->text, -1, false);
}

/* The labels of the seeds that were written. */
static void
write_labels(moe_label_writer *writer)
{
    const moe_label_context *context = writer->context;
    const moe_statement *statement = context->statement;

    write_aggregates(writer);
    appendStringInfoString(writer->sql, "SELECT ");
    write_key(writer);
    appendStringInfoString(writer->sql, ", s.as_of, ");
    write_target(writer);
    appendStringInfoString(writer->sql, " AS label, s.split");
    write_from(writer);
    if (statement->assuming)
        moe_label_write_condition(writer, statement->assuming, NULL, "");
    if (moe_label_nullable(context, statement->target))
    {
        moe_label_next_condition(writer, "");
        write_target(writer);
        appendStringInfoString(writer->sql, " IS NOT NULL");
    }
}

/* Every labelled seed of the grid. */
void
moe_label_training_sql(const moe_label_context *context, const moe_seed_times *times, moe_label_text *text)
{
    moe_label_writer writer;

    start_writer(&writer, context, text, NULL);
    write_seeds(&writer, times);
    write_labels(&writer);
}

/* The labels of $1 less $2, ..., $3 windows: a label history, as of $1. */
void
moe_label_history_sql(const moe_label_context *context, const moe_seed_times *times, moe_label_text *text)
{
    moe_label_writer writer;

    start_writer(&writer, context, text, NULL);
    writer.closed = moe_label_shifted(context->schema, "s.as_of", times->step, times->unit);
    write_past_seeds(&writer, times);
    write_labels(&writer);
}

/* 'train' for 8 keys of 10, 'validation' for 1, 'test' for 1. */
char *
moe_label_hash_bucket(const moe_label_context *context, const char *alias)
{
    const moe_schema *schema = context->schema;
    StringInfoData key;

    initStringInfo(&key);
    for (int i = 0; i < schema->n_key; i++)
        appendStringInfo(&key, "%s%s.%s", i > 0 ? ", " : "", alias, moe_label_column_sql(schema, 0, schema->key[i]));
    return psprintf("pg_catalog.abs(pg_catalog.mod(pg_catalog.hashtextextended(CAST(%s%s%s AS pg_catalog.text) "
                    "COLLATE \"C\", 0), 10))",
                    schema->n_key > 1 ? "ROW(" : "", key.data, schema->n_key > 1 ? ")" : "");
}

/* A static column's known values, all at one moment. */
void
moe_label_static_sql(const moe_label_context *context, int64 as_of, moe_label_text *text)
{
    moe_label_writer writer;

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
    moe_label_next_condition(&writer, "");
    appendStringInfo(writer.sql, "e.%s IS NOT NULL", quote_identifier(context->static_column));
}

/* The keys that count at $1; of a static target, those whose column is unknown. */
void
moe_label_population_sql(const moe_label_context *context, moe_label_text *text)
{
    moe_label_writer writer;

    start_writer(&writer, context, text, "$1");
    write_aggregates(&writer);
    appendStringInfoString(writer.sql, "SELECT ");
    write_key(&writer);
    write_from(&writer);
    if (context->static_column)
    {
        moe_label_next_condition(&writer, "");
        appendStringInfo(writer.sql, "e.%s IS NULL", quote_identifier(context->static_column));
    }
}

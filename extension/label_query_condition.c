/*
 * label_query_condition.c: conditions and values of a predictive query as SQL.
 *
 * What looks at the past (WHERE) sees it as it was: late columns are NULL
 * where they were not yet known.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "extension/label_query_writer.h"
#include "extension/schema_internal.h"

const char *
moe_label_column_sql(const moe_schema *schema, int table, int column)
{
    return quote_identifier(schema->tables[table].columns[column].name);
}

/* A column's value; within WHERE as it was known then. */
char *
moe_label_value_sql(const moe_label_writer *writer, int table, const char *alias, const char *name)
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

static void write_node(moe_label_writer *writer, const moe_node *node, const char *row_alias);

static void
write_aggregate_value(moe_label_writer *writer, const moe_node *node)
{
    const moe_label_aggregate *aggregate = moe_label_aggregate_of(writer->context, node);
    bool never_null = moe_label_joined_inside(writer, aggregate) && node->aggregate != MOE_AGG_SUM;

    appendStringInfo(writer->sql, aggregate->counts && !never_null ? "coalesce(%s.value, 0)" : "%s.value",
                     aggregate->name);
}

/* An operand, in parentheses unless it binds tighter than any operator. */
void
moe_label_write_operand(moe_label_writer *writer, const moe_node *node, const char *row_alias)
{
    bool simple = node->kind == MOE_NODE_AGGREGATE || node->kind == MOE_NODE_COLUMN || node->kind == MOE_NODE_CONSTANT;

    if (!simple)
        appendStringInfoChar(writer->sql, '(');
    write_node(writer, node, row_alias);
    if (!simple)
        appendStringInfoChar(writer->sql, ')');
}

static void
write_list(moe_label_writer *writer, const List *list, const char *separator, const char *row_alias)
{
    ListCell *cell;

    foreach (cell, list)
    {
        if (cell != list_head(list))
            appendStringInfoString(writer->sql, separator);
        moe_label_write_operand(writer, lfirst(cell), row_alias);
    }
}

/* A condition or value. row_alias: inside a row filter, the alias its columns belong to; NULL: the entity's. */
static void
write_node(moe_label_writer *writer, const moe_node *node, const char *row_alias)
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
            appendStringInfoString(sql, moe_label_value_sql(writer, row_alias ? writer->row_table : 0,
                                                            row_alias ? row_alias : "e", node->column->column));
            return;
        case MOE_NODE_CONSTANT:
            appendStringInfoString(sql, node->constant);
            return;
        case MOE_NODE_NOT:
            appendStringInfoString(sql, "NOT ");
            moe_label_write_operand(writer, node->left, row_alias);
            return;
        default:
            break;
    }

    moe_label_write_operand(writer, node->left, row_alias);
    switch (node->kind)
    {
        case MOE_NODE_COMPARE:
            moe_label_text_mark(writer->text, node->location, false);
            appendStringInfo(sql, " %s ", node->op);
            moe_label_write_operand(writer, node->right, row_alias);
            break;
        case MOE_NODE_LIKE:
            appendStringInfo(sql, " %s%s ", node->negated ? "NOT " : "", node->op);
            moe_label_write_operand(writer, node->right, row_alias);
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
            moe_label_write_operand(writer, node->right, row_alias);
            break;
    }
}

/* Start the next condition of a WHERE clause. */
void
moe_label_next_condition(moe_label_writer *writer, const char *indent)
{
    appendStringInfo(writer->sql, writer->conditions ? "\n%s  AND " : "\n%sWHERE ", indent);
    writer->conditions = true;
}

/* A condition of the statement as a further condition of WHERE; each part of an AND has a line of its own. */
void
moe_label_write_condition(moe_label_writer *writer, const moe_node *node, const char *row_alias, const char *indent)
{
    if (node->kind == MOE_NODE_AND)
    {
        moe_label_write_condition(writer, node->left, row_alias, indent);
        moe_label_write_condition(writer, node->right, row_alias, indent);
        return;
    }
    moe_label_next_condition(writer, indent);
    if (node->kind == MOE_NODE_OR)
        appendStringInfoChar(writer->sql, '(');
    write_node(writer, node, row_alias);
    if (node->kind == MOE_NODE_OR)
        appendStringInfoChar(writer->sql, ')');
}

/*
 * statement_node.c: what the grammar's rules build, and the checks that need
 * nothing but the text.
 */
#include "postgres.h"

#include "common/keywords.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"

#include "extension/statement_internal.h"

/* [[schema.]table.]column, or [schema.]table.* */
moe_column_name *
moe_column_name_make(moe_parse *parse, List *names, bool star, int location)
{
    moe_column_name *column = palloc0(sizeof(moe_column_name));
    int n = list_length(names);

    if (n + star > 3)
        ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR),
                errmsg("improper qualified name (too many dotted names): %s", moe_dotted_text(names)),
                moe_statement_position(location));
    column->location = location;
    if (!star)
        column->column = strVal(list_nth(names, --n));
    if (n > 0)
        column->table = strVal(list_nth(names, --n));
    if (n > 0)
        column->schema = strVal(list_nth(names, --n));
    return column;
}

moe_node *
moe_node_make(moe_node_kind kind, int location)
{
    moe_node *node = palloc0(sizeof(moe_node));

    node->kind = kind;
    node->location = location;
    return node;
}

moe_node *
moe_node_column(moe_column_name *column)
{
    moe_node *node = moe_node_make(MOE_NODE_COLUMN, column->location);

    node->column = column;
    return node;
}

moe_node *
moe_node_constant(char *sql, int location)
{
    moe_node *node = moe_node_make(MOE_NODE_CONSTANT, location);

    node->constant = sql;
    return node;
}

moe_node *
moe_node_compare(moe_node *left, const char *op, moe_node *right, int location)
{
    moe_node *node = moe_node_make(MOE_NODE_COMPARE, location);

    if (strcmp(right->constant, "NULL") == 0)
        ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("a comparison with NULL is never true"),
                errhint("Use IS NULL or IS NOT NULL."), moe_statement_position(right->location));
    node->left = left;
    node->op = pstrdup(op);
    node->right = right;
    return node;
}

/* Rows are filtered by their columns: an aggregate within an aggregate's WHERE has no meaning. */
static void
refuse_aggregates(const moe_node *node)
{
    check_stack_depth();
    if (node == NULL)
        return;
    if (node->kind == MOE_NODE_AGGREGATE)
        ereport(ERROR, errcode(ERRCODE_GROUPING_ERROR), errmsg("aggregates cannot be nested"),
                errhint("The WHERE inside an aggregate compares columns of the aggregated table."),
                moe_statement_position(node->location));
    refuse_aggregates(node->left);
    refuse_aggregates(node->right);
}

static const struct
{
    const char *name;
    moe_aggregate_kind aggregate;
} aggregates[] = {
    {"sum", MOE_AGG_SUM},     {"avg", MOE_AGG_AVG},     {"min", MOE_AGG_MIN},
    {"max", MOE_AGG_MAX},     {"count", MOE_AGG_COUNT}, {"count_distinct", MOE_AGG_COUNT_DISTINCT},
    {"first", MOE_AGG_FIRST}, {"last", MOE_AGG_LAST},   {"list_distinct", MOE_AGG_LIST_DISTINCT},
};

moe_node *
moe_node_aggregate(moe_parse *parse, const char *name, moe_column_name *column, moe_node *filter, int location)
{
    moe_node *node = moe_node_make(MOE_NODE_AGGREGATE, location);
    int i = 0;

    while (i < lengthof(aggregates) && strcmp(aggregates[i].name, name) != 0)
        i++;
    if (i == lengthof(aggregates))
        ereport(ERROR, errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("aggregate \"%s\" does not exist", name),
                errhint("Aggregates are sum, avg, min, max, count, count_distinct, first, last and list_distinct."),
                moe_statement_position(location));
    node->aggregate = aggregates[i].aggregate;
    if (column->column == NULL && node->aggregate != MOE_AGG_COUNT)
        ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s needs a column", name),
                errhint("Only count takes all columns, as in count(orders.*)."),
                moe_statement_position(column->location));
    if (node->aggregate == MOE_AGG_LIST_DISTINCT)
        moe_parse_unsupported(parse, "list_distinct", "Predict a single value for each row.", location);
    refuse_aggregates(filter);
    node->column = column;
    node->filter = filter;
    return node;
}

static const struct
{
    const char *name;
    moe_unit unit;
} units[] = {
    {"days", MOE_UNIT_DAYS},     {"day", MOE_UNIT_DAYS},        {"hours", MOE_UNIT_HOURS},
    {"hour", MOE_UNIT_HOURS},    {"minutes", MOE_UNIT_MINUTES}, {"minute", MOE_UNIT_MINUTES},
    {"months", MOE_UNIT_MONTHS}, {"month", MOE_UNIT_MONTHS},
};

void
moe_node_window(moe_node *node, moe_bound *start, moe_bound *end, const char *unit, int unit_location)
{
    int i = 0;

    while (i < lengthof(units) && strcmp(units[i].name, unit) != 0)
        i++;
    if (i == lengthof(units))
        ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("unit of time \"%s\" is not known", unit),
                errhint("Units are days, hours, minutes and months."), moe_statement_position(unit_location));
    if (end->infinite)
        ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a window cannot end at -INF"),
                errhint("A window is written start, end: for example -INF, 0."), moe_statement_position(end->location));
    if (!start->infinite && start->value >= end->value)
        ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a window must start before it ends"),
                errhint("A window is written start, end: for example 0, 30 for the future, -30, 0 for the past."),
                moe_statement_position(start->location));
    node->has_window = true;
    node->start_infinite = start->infinite;
    node->start = start->value;
    node->end = end->value;
    node->unit = units[i].unit;
}

/* CAST('...' AS type). A plain type word stays unquoted, so that it can be an alias such as int or timestamp. */
char *
moe_constant_typed(const moe_parse *parse, const char *type, int location, const char *sql)
{
    bool plain = parse->source[location] != '"';
    int keyword = ScanKeywordLookup(type, &ScanKeywords);

    if (keyword >= 0 && ScanKeywordCategories[keyword] == RESERVED_KEYWORD)
        plain = false;
    return psprintf("CAST(%s AS %s)", sql, plain ? type : quote_identifier(type));
}

RangeVar *
moe_range_var(List *names, int location)
{
    int n = list_length(names);

    if (n > 2)
        ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR),
                errmsg("improper qualified name (too many dotted names): %s", moe_dotted_text(names)),
                moe_statement_position(location));
    return makeRangeVar(n == 2 ? strVal(linitial(names)) : NULL, strVal(llast(names)), location);
}

/* One word as it is; several with dots, each quoted where SQL needs it. */
char *
moe_dotted_text(List *names)
{
    StringInfoData text;
    ListCell *cell;

    if (list_length(names) == 1)
        return strVal(linitial(names));
    initStringInfo(&text);
    foreach (cell, names)
        appendStringInfo(&text, "%s%s", text.len ? "." : "", quote_identifier(strVal(lfirst(cell))));
    return text.data;
}

/* The text of an item of a list of options. */
static Node *
item_as_string(Node *item)
{
    if (IsA(item, Integer))
        return (Node *) makeString(psprintf("%d", intVal(item)));
    if (IsA(item, Float))
        return (Node *) makeString(castNode(Float, item)->fval);
    if (IsA(item, Boolean))
        return (Node *) makeString(boolVal(item) ? "true" : "false");
    return item;
}

DefElem *
moe_option_make(char *name, Node *value, int location)
{
    if (value != NULL && IsA(value, List))
    {
        ListCell *cell;

        foreach (cell, (List *) value)
            lfirst(cell) = item_as_string(lfirst(cell));
    }
    return makeDefElem(name, value, location);
}

List *
moe_options_add(List *options, DefElem *option)
{
    ListCell *cell;

    foreach (cell, options)
    {
        if (strcmp(lfirst_node(DefElem, cell)->defname, option->defname) == 0)
            ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("option \"%s\" is given twice", option->defname),
                    moe_statement_position(option->location));
    }
    return lappend(options, option);
}

/* Note a feature that is parsed only; raised when the whole statement is known to be well formed. */
void
moe_parse_unsupported(moe_parse *parse, const char *feature, const char *hint, int location)
{
    if (parse->unsupported && parse->unsupported_location <= location)
        return;
    parse->unsupported = feature;
    parse->unsupported_hint = hint;
    parse->unsupported_location = location;
}

/* PREDICT label ... AT time AS query: what stood as the target is a column of the query. */
void
moe_statement_user_labels(moe_parse *parse, moe_node *target, char *at, char *query, int query_location)
{
    if (target->kind != MOE_NODE_COLUMN || target->column->table != NULL)
        ereport(
            ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("with AS, PREDICT must name the label's column in the query"),
            errhint("For example: PREDICT label FOR EACH customers AT seen_at AS SELECT customer_id, seen_at, label "
                    "FROM ..."),
            moe_statement_position(target->location));
    parse->statement->target = NULL;
    parse->statement->label = target->column->column;
    parse->statement->label_time = at;
    parse->statement->label_query = query;
    parse->statement->label_query_location = query_location;
}

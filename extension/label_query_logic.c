/*
 * label_query_logic.c: what follows for a condition where an aggregate has no
 * row in its window.
 *
 * Where the answer is "the seed is dropped anyway", the aggregate is joined by
 * an inner join, and the planner need not make the product of all entities
 * and all seed times first. Answers err on the side of false, which costs
 * time only.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "extension/label_query_internal.h"

/* Is the value NULL wherever the aggregate has no row? */
bool
moe_label_null_without(const moe_label_context *context, const moe_node *node, const moe_label_aggregate *absent)
{
    check_stack_depth();
    switch (node->kind)
    {
        case MOE_NODE_AGGREGATE:
            return node == absent->node && !absent->counts;
        case MOE_NODE_COMPARE:
            return moe_label_null_without(context, node->left, absent) ||
                   moe_label_null_without(context, node->right, absent);
        case MOE_NODE_NOT:
        case MOE_NODE_IN:
        case MOE_NODE_LIKE:
            return moe_label_null_without(context, node->left, absent);
        case MOE_NODE_AND:
        case MOE_NODE_OR:
            return moe_label_null_without(context, node->left, absent) &&
                   moe_label_null_without(context, node->right, absent);
        default: /* BETWEEN: NULL BETWEEN 1 AND 0 is NULL too, but 0 rows are the rare case; NULL_TEST never is NULL */
            return false;
    }
}

/* Is `0 op constant` false? Only for plain numbers. */
static bool
false_of_zero(const char *op, const char *constant)
{
    char *end;
    double value = strtod(constant, &end);

    if (end == constant || *end != '\0')
        return false;
    if (strcmp(op, "=") == 0)
        return value != 0;
    if (strcmp(op, "<>") == 0)
        return value == 0;
    if (strcmp(op, "<") == 0)
        return value <= 0;
    if (strcmp(op, "<=") == 0)
        return value < 0;
    if (strcmp(op, ">") == 0)
        return value >= 0;
    return strcmp(op, ">=") == 0 && value > 0;
}

/* Does the comparison only ask whether its left side, a count, is 0? */
bool
moe_label_asks_presence(const moe_node *compare)
{
    const moe_node *count = compare->left;
    const char *op = compare->op;

    if (compare->right->kind != MOE_NODE_CONSTANT || count->kind != MOE_NODE_AGGREGATE ||
        count->aggregate != MOE_AGG_COUNT || count->column->column)
        return false;
    if (strcmp(compare->right->constant, "0") == 0)
        return strcmp(op, ">") == 0 || strcmp(op, "=") == 0 || strcmp(op, "<>") == 0 || strcmp(op, "<=") == 0;
    return strcmp(compare->right->constant, "1") == 0 && (strcmp(op, ">=") == 0 || strcmp(op, "<") == 0);
}

/* Can the condition never be true where the aggregate has no row? */
bool
moe_label_false_without(const moe_label_context *context, const moe_node *node, const moe_label_aggregate *absent)
{
    check_stack_depth();
    if (moe_label_null_without(context, node, absent))
        return true;
    switch (node->kind)
    {
        case MOE_NODE_COMPARE:
            return node->left->kind == MOE_NODE_AGGREGATE && node->left == absent->node && absent->counts &&
                   node->right->kind == MOE_NODE_CONSTANT && false_of_zero(node->op, node->right->constant);
        case MOE_NODE_NULL_TEST:
            return node->negated && moe_label_null_without(context, node->left, absent);
        case MOE_NODE_AND:
            return moe_label_false_without(context, node->left, absent) ||
                   moe_label_false_without(context, node->right, absent);
        case MOE_NODE_OR:
            return moe_label_false_without(context, node->left, absent) &&
                   moe_label_false_without(context, node->right, absent);
        default:
            return false;
    }
}

/* May the value be NULL at all? Counts, sums and constants never are. */
bool
moe_label_nullable(const moe_label_context *context, const moe_node *node)
{
    ListCell *cell;

    if (!node)
        return false;
    check_stack_depth();
    switch (node->kind)
    {
        case MOE_NODE_AGGREGATE:
            return !moe_label_aggregate_of(context, node)->counts;
        case MOE_NODE_COLUMN:
            return true;
        case MOE_NODE_CONSTANT:
            return pg_strcasecmp(node->constant, "null") == 0;
        case MOE_NODE_NULL_TEST:
            return false;
        default:
            break;
    }
    foreach (cell, node->list)
        if (moe_label_nullable(context, lfirst(cell)))
            return true;
    return moe_label_nullable(context, node->left) || moe_label_nullable(context, node->right);
}

/*
 * aggregates_siblings.c: an event against the rows it shares a key with.
 *
 * The siblings of a row are those that point at the same parent and were there
 * at the row's own time, as the parent must have been: a fixed property of the
 * row, which nothing later can change. Of the others with a value:
 *   rank        (smaller + equal / 2) / others
 *   difference  value - mean
 */
#include "embed/aggregates_plan.h"

/* The rows visible at the row's own time, among the parent's. */
static int64_t
visible_end(const moe_relation *relation, const moe_row_times *times, int64_t begin, int64_t end, int64_t time)
{
    while (begin < end)
    {
        int64_t middle = begin + (end - begin) / 2;

        if (moe_agg_row_time(times, relation->children[middle]) <= time)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

/* The latest siblings of a row, latest first; returns how many. */
static int
find_siblings(const moe_agg_table *table, const moe_agg_key *key, int32_t row, int32_t *sibling)
{
    const moe_relation *relation = &key->bound;
    int64_t time = moe_agg_row_time(&table->times, row);
    int32_t parent = relation->parent_of[row];
    int64_t begin, at;
    int n = 0;

    if (parent < 0 || (key->parent_time && key->parent_time[parent] > time))
        return 0;
    begin = relation->offset[parent];
    at = visible_end(relation, &table->times, begin, relation->offset[parent + 1], time);
    while (at > begin && n < MOE_AGG_SIBLINGS)
        if (relation->children[--at] != row)
            sibling[n++] = relation->children[at];
    return n;
}

static void
compare_value(const moe_column *column, int32_t row, const int32_t *sibling, int n, double *out)
{
    double x, sum = 0;
    int smaller = 0, equal = 0, others = 0;

    out[0] = out[1] = NAN;
    if (moe_agg_missing(column, row))
        return;
    x = moe_agg_number(column, row);
    for (int i = 0; i < n; i++)
    {
        double y;

        if (moe_agg_missing(column, sibling[i]))
            continue;
        y = moe_agg_number(column, sibling[i]);
        smaller += y < x;
        equal += y == x;
        sum += y;
        others++;
    }
    if (others == 0)
        return;
    out[0] = (smaller + 0.5 * equal) / others;
    out[1] = x - sum / others;
}

void
moe_agg_compare(const moe_agg_table *table, const moe_agg_key *key, int32_t row, const moe_agg_value *const *values,
                int n, double *out)
{
    int32_t sibling[MOE_AGG_SIBLINGS];
    int found = find_siblings(table, key, row, sibling);

    for (int i = 0; i < n; i++)
        compare_value(&table->fields[values[i]->field].column, row, sibling, found, out + 2 * i);
}

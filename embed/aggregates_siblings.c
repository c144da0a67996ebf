/*
 * aggregates_siblings.c: an event against the rows it shares a key with.
 *
 * The siblings of a row are those that point at the same parent and were there
 * at the row's own time, as the parent must have been: a fixed property of the
 * row, which nothing later can change. Of the others with a value:
 *   rank        (smaller + equal / 2) / others
 *   difference  value - mean
 * They are computed when a walk first meets the row, and kept for the other
 * walks that come by, as long as the room for it lasts; in single precision
 * either way, so that it makes no difference.
 */
#include "embed/aggregates_plan.h"
#include "kernels/memory.h"

int64_t
moe_agg_visible_end(const moe_relation *relation, const moe_row_times *times, int64_t begin, int64_t end, int64_t time)
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

int
moe_agg_latest(const moe_relation *relation, const moe_row_times *times, int32_t parent, int64_t time, int32_t except,
               int32_t *rows)
{
    int64_t begin = relation->offset[parent];
    int64_t at = moe_agg_visible_end(relation, times, begin, relation->offset[parent + 1], time);
    int n = 0;

    while (at > begin && n < MOE_AGG_SIBLINGS)
        if (relation->children[--at] != except)
            rows[n++] = relation->children[at];
    return n;
}

/* The latest siblings of a row, latest first; returns how many. */
static int
find_siblings(const moe_agg_table *table, const moe_agg_key *key, int32_t row, int32_t *sibling)
{
    const moe_relation *relation = &key->bound;
    int64_t time = moe_agg_row_time(&table->times, row);
    int32_t parent = relation->parent_of[row];

    if (parent < 0 || (key->parent_time && key->parent_time[parent] > time))
        return 0;
    return moe_agg_latest(relation, &table->times, parent, time, row, sibling);
}

static void
compare_value(const moe_column *column, int32_t row, const int32_t *sibling, int n, float *out)
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
    out[0] = (float) ((smaller + 0.5 * equal) / others);
    out[1] = moe_agg_float(x - sum / others);
}

static void
compare_row(const moe_agg_table *table, const moe_agg_key *key, int32_t row, const int *places, int n, float *out)
{
    const moe_agg_list *list = &table->lists[MOE_AGG_OF_SIBLINGS];
    int32_t sibling[MOE_AGG_SIBLINGS];
    int found = find_siblings(table, key, row, sibling);

    for (int i = 0; i < n; i++)
    {
        const moe_agg_value *value = &table->values[list->value[places ? places[i] : i]];

        compare_value(&table->fields[value->field].column, row, sibling, found, out + 2 * i);
    }
}

void
moe_agg_compare(const moe_agg_table *table, const moe_agg_key *key, int32_t row, const int *places, int n, float *out)
{
    int all = table->lists[MOE_AGG_OF_SIBLINGS].n;
    float *kept;

    if (!key->compared)
    {
        compare_row(table, key, row, places, n, out);
        return;
    }
    kept = key->compared + (int64_t) row * 2 * all;
    if (!key->is_compared[row])
        compare_row(table, key, row, NULL, all, kept);
    key->is_compared[row] = 1;
    for (int i = 0; i < n; i++)
    {
        out[2 * i] = kept[2 * places[i]];
        out[2 * i + 1] = kept[2 * places[i] + 1];
    }
}

moe_code
moe_agg_keep_compared(moe_job *job, const moe_agg_table *table, moe_agg_key *key, int64_t *left)
{
    int64_t size = table->n_rows * 2 * table->lists[MOE_AGG_OF_SIBLINGS].n * (int64_t) sizeof(float);

    if (key->compared || size == 0 || size > *left)
        return MOE_OK;
    if (!key->is_compared && !(key->is_compared = moe_alloc(job, table->n_rows, 1)))
        return moe_job_code(job);
    if ((key->compared = moe_try_alloc(job, (size_t) size)))
        *left -= size;
    return MOE_OK;
}

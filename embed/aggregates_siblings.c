/*
 * aggregates_siblings.c: the rows that a row shares a key with.
 *
 * The siblings of a row are those that point at the same parent and were there
 * at the row's own time, as the parent must have been: a fixed property of the
 * row, which nothing later can change. Wherever they lie, memory is waited for
 * once for all rows that are asked about, not for each.
 */
#include "embed/aggregates_plan.h"

#define LINE 16 /* rows of a list in a cache line */

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

/* The last of the children from `first` to before `end`, but for one. */
static int
collect_latest(const int32_t *children, int64_t first, int64_t end, int32_t except, int32_t *rows)
{
    int n = 0;

    while (end > first && n < MOE_AGG_SIBLINGS)
        if (children[--end] != except)
            rows[n++] = children[end];
    return n;
}

int
moe_agg_latest(const moe_relation *relation, const moe_row_times *times, int32_t parent, int64_t time, int32_t except,
               int32_t *rows)
{
    int64_t begin = relation->offset[parent];
    int64_t end = moe_agg_visible_end(relation, times, begin, relation->offset[parent + 1], time);

    return collect_latest(relation->children, begin, end, except, rows);
}

/* Where the parents' children begin and end; nowhere where there is no parent, or not yet. */
static void
find_parents(const moe_agg_table *table, const moe_agg_key *key, moe_agg_siblings *q, int n)
{
    const moe_relation *relation = &key->bound;

    for (int i = 0; i < n; i++)
    {
        __builtin_prefetch(&relation->parent_of[q[i].row]);
        if (table->times.time)
            __builtin_prefetch(&table->times.time[q[i].row]);
    }
    for (int i = 0; i < n; i++)
    {
        int32_t parent = relation->parent_of[q[i].row];

        q[i].time = moe_agg_row_time(&table->times, q[i].row);
        q[i].first = q[i].begin = q[i].end = 0;
        if (parent < 0 || (key->parent_time && key->parent_time[parent] > q[i].time))
            continue;
        q[i].first = q[i].begin = relation->offset[parent];
        q[i].end = relation->offset[parent + 1];
    }
}

/* Search for the ends of what the rows see, all at a time: each step waits for memory once. */
static void
find_ends(const moe_agg_table *table, const moe_agg_key *key, moe_agg_siblings *q, int n)
{
    const int32_t *children = key->bound.children;
    const int64_t *time = table->times.time;
    bool searching = time != NULL;

    for (int i = 0; i < n && !time; i++)
        q[i].begin = q[i].end;
    while (searching)
    {
        searching = false;
        for (int i = 0; i < n; i++)
            if (q[i].begin < q[i].end)
                __builtin_prefetch(&time[children[q[i].begin + (q[i].end - q[i].begin) / 2]]);
        for (int i = 0; i < n; i++)
        {
            int64_t middle = q[i].begin + (q[i].end - q[i].begin) / 2;

            if (q[i].begin >= q[i].end)
                continue;
            if (time[children[middle]] <= q[i].time)
                q[i].begin = middle + 1;
            else
                q[i].end = middle;
            __builtin_prefetch(&children[q[i].begin + (q[i].end - q[i].begin) / 2]);
            searching = true;
        }
    }
}

void
moe_agg_find_siblings(const moe_agg_table *table, const moe_agg_key *key, moe_agg_siblings *q, int n)
{
    const int32_t *children = key->bound.children;

    find_parents(table, key, q, n);
    find_ends(table, key, q, n);
    for (int i = 0; i < n; i++)
        for (int64_t at = q[i].end - 1; at >= q[i].first && at >= q[i].end - 1 - MOE_AGG_SIBLINGS; at -= LINE)
            __builtin_prefetch(&children[at]);
    for (int i = 0; i < n; i++)
        q[i].n = collect_latest(children, q[i].first, q[i].end, q[i].row, q[i].rows);
}

/*
 * reader_excerpt.c: some rows of what was read, as data of their own.
 *
 * The rows keep their order, so that what is computed from an excerpt that
 * holds all rows a computation looks at is the same, bit for bit.
 */
#include "postgres.h"

#include "extension/moe_ml.h"
#include "extension/reader.h"

/* The items of the listed rows; NULL of none. */
static void *
gather(moe_job *job, const void *from, size_t size, const moe_row_list *list)
{
    char *to;

    if (from == NULL)
        return NULL;
    to = moe_check_ptr(job, moe_alloc(job, list->n, size));
    for (int64 i = 0; i < list->n; i++)
        memcpy(to + i * size, (const char *) from + (int64) list->row[i] * size, size);
    return to;
}

/* Runs of items between bounds: fills the new bounds, and returns the items. */
static void *
gather_runs(moe_job *job, const void *from, size_t size, const int64 *offset, const moe_row_list *list, int64 **bounds)
{
    int64 *to = moe_check_ptr(job, moe_alloc(job, list->n + 1, sizeof(int64)));
    char *items;

    to[0] = 0;
    for (int64 i = 0; i < list->n; i++)
        to[i + 1] = to[i] + offset[list->row[i] + 1] - offset[list->row[i]];
    items = moe_check_ptr(job, moe_alloc(job, to[list->n], size));
    for (int64 i = 0; i < list->n; i++)
        if (to[i + 1] > to[i])
            memcpy(items + to[i] * size, (const char *) from + offset[list->row[i]] * size, (to[i + 1] - to[i]) * size);
    *bounds = to;
    return items;
}

static void
excerpt_columns(moe_job *job, const moe_table *from, const moe_row_list *list, moe_table *to)
{
    moe_column *columns = palloc0_array(moe_column, Max(from->n_columns, 1));

    *to = *from;
    to->n_rows = list->n;
    to->columns = columns;
    for (int c = 0; c < from->n_columns; c++)
    {
        const moe_column *column = &from->columns[c];
        int64 *bounds;

        columns[c] = *column;
        columns[c].null = gather(job, column->null, sizeof(*column->null), list);
        columns[c].number = gather(job, column->number, sizeof(*column->number), list);
        columns[c].time = gather(job, column->time, sizeof(*column->time), list);
        if (column->offset == NULL)
            continue;
        if (column->storage == MOE_STORE_VECTOR)
            columns[c].items = gather_runs(job, column->items, sizeof(float), column->offset, list, &bounds);
        else
            columns[c].bytes = gather_runs(job, column->bytes, 1, column->offset, list, &bounds);
        columns[c].offset = bounds;
    }
}

static void
excerpt_times(moe_job *job, const moe_graph_table *from, const moe_row_list *list, moe_graph_table *to)
{
    *to = *from;
    to->n_rows = list->n;
    to->time = gather(job, from->time, sizeof(*from->time), list);
    to->identity = gather(job, from->identity, sizeof(*from->identity), list);
    for (int g = 0; g < from->n_hidden; g++)
        to->known_at[g] = gather(job, from->known_at[g], sizeof(*from->known_at[g]), list);
}

/* The place of a row in a list, or -1. */
static int32
place_in(const moe_row_list *list, int32 row)
{
    int64 low = 0;
    int64 high = list->n;

    while (low < high)
    {
        int64 middle = low + (high - low) / 2;

        if (list->row[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low < list->n && list->row[low] == row ? (int32) low : -1;
}

static void
excerpt_key(moe_job *job, const moe_graph_key *from, const moe_row_list *lists, moe_graph_key *to)
{
    const moe_row_list *children = &lists[from->child];
    int32 *parent_of = moe_check_ptr(job, moe_alloc(job, children->n, sizeof(int32)));

    for (int64 i = 0; i < children->n; i++)
    {
        int32 parent = from->parent_of[children->row[i]];

        parent_of[i] = parent < 0 ? -1 : place_in(&lists[from->parent], parent);
    }
    *to = *from;
    to->parent_of = parent_of;
}

moe_data *
moe_data_excerpt(const moe_data *from, moe_job *job, const moe_row_list *lists)
{
    moe_data *data = palloc0_object(moe_data);

    data->schema = from->schema;
    data->job = job;
    data->n_tables = from->n_tables;
    data->n_edges = from->n_edges;
    data->tables = palloc0_array(moe_table, from->n_tables);
    data->graph_tables = palloc0_array(moe_graph_table, from->n_tables);
    data->graph_keys = palloc0_array(moe_graph_key, Max(from->n_edges, 1));
    for (int t = 0; t < from->n_tables; t++)
    {
        excerpt_columns(job, &from->tables[t], &lists[t], &data->tables[t]);
        excerpt_times(job, &from->graph_tables[t], &lists[t], &data->graph_tables[t]);
    }
    for (int e = 0; e < from->n_edges; e++)
        excerpt_key(job, &from->graph_keys[e], lists, &data->graph_keys[e]);
    return data;
}

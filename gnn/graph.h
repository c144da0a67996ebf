/*
 * graph.h: tables as node types, foreign keys as edge types in both directions.
 *
 * Rows of every table stand in canonical order (row time ascending, rows
 * without a time first). A foreign key is a function child row -> parent row
 * (-1: NULL or dangling); its reverse, the children of each parent sorted by
 * row time, is built here, so that the children visible at a moment are a
 * prefix of the list.
 *
 * Edge type numbers: foreign key f seen from parent to children (messages flow
 * from children into the parent) is 2f; seen from child to parent is 2f + 1.
 */
#ifndef MOE_GRAPH_H
#define MOE_GRAPH_H

#include "kernels/job.h"

typedef struct moe_graph_table
{
    const char *name;
    int64_t n_rows;      /* below 2^31 */
    const int64_t *time; /* [n_rows] ascending, microseconds; INT64_MIN: always visible; NULL: the whole table is */
    const uint64_t *identity;   /* [n_rows] what random draws know a row by; NULL: its number */
    int n_hidden;               /* 0..8 groups of columns that become known only later */
    const int64_t *known_at[8]; /* [n_rows] each: bit b of a row's mask is set where known_at[b][row] > horizon */
} moe_graph_table;

typedef struct moe_graph_key /* one foreign key */
{
    const char *name;
    int child; /* table numbers */
    int parent;
    const int32_t *parent_of; /* [rows of child]; -1: none */
} moe_graph_key;

typedef struct moe_graph moe_graph;

/* Build the adjacency. The arrays pointed to must outlive the graph (they are not copied). */
moe_code moe_graph_create(moe_job *job, const moe_graph_table *tables, int n_tables, const moe_graph_key *keys,
                          int n_keys, moe_graph **out);
void moe_graph_destroy(moe_graph *graph);
/* Build the adjacency anew, after the parents of rows have changed in the keys' arrays. What lists there were is freed.
 */
moe_code moe_graph_relink(moe_graph *graph);

int moe_graph_tables(const moe_graph *graph);
const moe_graph_table *moe_graph_table_at(const moe_graph *graph, int table);
int moe_graph_keys(const moe_graph *graph);
const moe_graph_key *moe_graph_key_at(const moe_graph *graph, int key);
/* Children of a parent row over a foreign key, by row time; returns their number, all times. */
int64_t moe_graph_children(const moe_graph *graph, int key, int32_t parent, const int32_t **children);
/* The lists of all parents, one after another: parent p's are children[offset[p]] to children[offset[p + 1] - 1]. */
void moe_graph_lists(const moe_graph *graph, int key, const int64_t **offset, const int32_t **children);
/* How many of a parent's children are visible at the horizon: a prefix. */
int64_t moe_graph_visible_children(const moe_graph *graph, int key, int32_t parent, int64_t horizon);
/* How many rows of a table are visible at the horizon: a prefix, since rows stand in order of time. */
int64_t moe_graph_visible_rows(const moe_graph_table *table, int64_t horizon);
/* Whether a row is visible at the horizon: row time <= horizon. */
bool moe_graph_visible(const moe_graph *graph, int table, int32_t row, int64_t horizon);
/* The longest time from the newest row that is not after a seed's time to that time: [n] seed times; microseconds, 0 or
 * more. */
int64_t moe_graph_staleness(const moe_graph *graph, const int64_t *time, int64_t n);
/* The newest row time of any table that is not after the horizon; the horizon itself if there is none. */
int64_t moe_graph_newest(const moe_graph *graph, int64_t horizon);
/* Of a graph that holds a part of the rows: the newest row time, of all, that is not after a horizon (INT64_MIN:
 * none). What was told of a horizon before is replaced. */
moe_code moe_graph_tell_newest(moe_graph *graph, int64_t horizon, int64_t newest);

#endif

/*
 * relational.h: tables with their times and foreign keys, as arrays: what aggregates are computed over.
 *
 * Rows of every table stand in canonical order (table.h), and the children of
 * a parent in order of row time, so that what is visible at a moment is a
 * prefix of either. Nothing is copied: the arrays must outlive what is built
 * over them.
 */
#ifndef MOE_RELATIONAL_H
#define MOE_RELATIONAL_H

#include "embed/table.h"

#define MOE_HIDDEN_MAX 8

typedef struct moe_row_times /* of one table */
{
    const int64_t *time; /* [n_rows] ascending, microseconds; INT64_MIN: always visible; NULL: the whole table is */
    int n_hidden;        /* groups of columns that become known later than their row: moe_column.hidden_bit */
    const int64_t *known_at[MOE_HIDDEN_MAX]; /* [n_rows] each; hidden where known_at[bit][row] > horizon */
} moe_row_times;

typedef struct moe_relation /* one foreign key */
{
    const char *name;
    int child; /* table numbers */
    int parent;
    const int32_t *parent_of; /* [rows of child]; -1: none */
    const int64_t *offset;    /* [rows of parent + 1] into children */
    const int32_t *children;  /* child rows, one parent's after another's, by row time */
} moe_relation;

typedef struct moe_relational
{
    int n_tables;
    const moe_table *tables;
    const moe_row_times *times; /* [n_tables] */
    int n_relations;
    const moe_relation *relations;
} moe_relational;

/* What columns are computed for: rows of one table, the moments, and what may be seen. */
typedef struct moe_moments
{
    int64_t n;
    const int32_t *row;
    const int64_t *time;    /* [n] seed times, microseconds */
    const int64_t *horizon; /* [n] row time <= horizon may be seen; at most the seed time; NULL: the seed time */
} moe_moments;

#endif

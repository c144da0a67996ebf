/*
 * reader.h: tables read by ordinary SQL into columnar arrays and foreign-key arrays.
 *
 * One SELECT a table, under the caller's privileges, active snapshot and
 * row-level security. Rows are then put in canonical order (row
 * time, then a 64-bit hash of the content), so that the result does not depend
 * on physical order.
 */
#ifndef MOE_READER_H
#define MOE_READER_H

#include "embed/reach.h"
#include "extension/schema.h"
#include "gnn/graph.h"

typedef struct moe_edge_report
{
    int64 rows;     /* child rows */
    int64 nulls;    /* with a NULL key: no edge */
    int64 dangling; /* whose parent was not found: no edge */
} moe_edge_report;

typedef struct moe_data
{
    const moe_schema *schema;
    moe_job *job;
    int n_tables;
    moe_table *tables;             /* features, for embed/ */
    moe_graph_table *graph_tables; /* times and hidden groups, for gnn/ */
    int n_edges;
    moe_graph_key *graph_keys;
    moe_edge_report *reports; /* [n_edges] */
    int64 *not_finite;        /* [n_tables] infinite or NaN values read, which count as NULL */
    int64 rows_read;
    double link_seconds; /* of the reading: matching foreign keys to parents */
    struct moe_key_index *entity_keys;
} moe_data;

/* Read every table of the schema. Arrays come from the job, the rest from CurrentMemoryContext. */
moe_data *moe_data_read(const moe_schema *schema, moe_job *job);

/* One entity row, and what is to be read around it. */
typedef struct moe_around
{
    const Datum *key; /* [schema->n_key], of the key columns' types, not NULL */
    int64 moment;     /* the latest children are those visible then */
    const moe_reach *reach;
    int64 most_rows;
} moe_around;

/*
 * Read the rows that a reach leads to from one entity row, each table's by its
 * keys, which indexes serve. What is computed for that row from these is what
 * the whole tables give, bit for bit. NULL if there are more than most_rows.
 * Of the edge reports nothing is filled.
 */
moe_data *moe_data_read_around(const moe_schema *schema, moe_job *job, const moe_around *around);

/* Read the entity's table alone; the others are there without rows. Rows have the numbers that moe_data_read gives. */
moe_data *moe_data_read_entities(const moe_schema *schema, moe_job *job);

/* Rows of one table, ascending. */
typedef struct moe_row_list
{
    int64 n;
    int32 *row;
} moe_row_list;

/* A copy of some rows of each table: lists [n_tables]; keys that point at others point at none. No entity keys. */
moe_data *moe_data_excerpt(const moe_data *from, moe_job *job, const moe_row_list *lists);

/*
 * Read a table again for the values of some of its columns (indices in the schema's table), which may be of any type:
 * [n] columns, whose rows are numbered as those of data are. They live in CurrentMemoryContext and data's job.
 */
struct moe_key_column **moe_data_read_columns(const moe_data *data, int t, int n, const int *columns);

/* A value of any number-like type (also boolean, time, interval); NaN and infinities as they are. */
double moe_number_of(Oid type, Datum value);

/* Row of the entity with this key (Datums of the key columns' types, in key order), or -1. NULLs never match. */
int32 moe_data_find(const moe_data *data, const Datum *key, const bool *nulls);
/* The key of an entity row: fills n_key Datums (live as long as data). */
void moe_data_key(const moe_data *data, int32 row, Datum *key, bool *nulls);

#endif

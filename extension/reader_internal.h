/*
 * reader_internal.h: what the reader_*.c files share.
 */
#ifndef MOE_READER_INTERNAL_H
#define MOE_READER_INTERNAL_H

#include "extension/key_index.h"
#include "extension/reader.h"
#include "fmgr.h"

typedef enum moe_sink_kind
{
    SINK_ROW_TIME,
    SINK_KNOWN_AT, /* when other columns became known */
    SINK_NUMBER,   /* also BOOL */
    SINK_TIME,
    SINK_STRING,
    SINK_VECTOR,
    SINK_KEY
} moe_sink_kind;

/* How a Datum of a type becomes bytes of text. */
typedef enum moe_text_form
{
    TEXT_VARLENA, /* text and what is binary-compatible with it */
    TEXT_PADDED,  /* char(n): without its trailing blanks */
    TEXT_OUTPUT,  /* through the type's output function */
    TEXT_ARRAY    /* elements through their output function, joined by blanks */
} moe_text_form;

/* Where the values of one item of a table's SELECT go. Arrays are the job's. */
typedef struct moe_sink
{
    moe_sink_kind kind;
    int column; /* of the schema's table */
    int group;  /* of late columns, -1: known with the row */
    Oid type;   /* of the item */
    moe_text_form text_form;
    FmgrInfo output;
    Oid element; /* arrays */
    int16 element_length;
    bool element_by_value;
    char element_align;

    uint8 *null;
    int64 n_nulls;
    double *number;
    int64 *time; /* row times, known-at times, TIME features */
    int64 *offset;
    char *bytes;
    float *items;
    int64 length; /* of bytes or items */
    int64 capacity;
    moe_key_column *key;
    int64 not_finite;
} moe_sink;

/* reader_value.c */
void moe_sink_init(moe_sink *sink, moe_sink_kind kind, int column, Oid type);
/* Room for `rows` rows in the arrays that have one item a row. */
void moe_sink_reserve(moe_sink *sink, moe_job *job, int64 rows);
/* Put a value in its place and return its hash. */
uint64 moe_sink_put(moe_sink *sink, moe_job *job, int64 row, Datum value, bool null);
/* Row i becomes what row order[i] was; drops a null array without NULLs. */
void moe_sink_finish(moe_sink *sink, moe_job *job, const int32 *order, int64 n);

/* A key column to read, compared as type `target`; one for every (table, column, target) that links ask for. */
typedef struct moe_key_read
{
    int table;
    int column;
    Oid target;
    moe_key_column *values;
} moe_key_read;

/* reader_table.c */
/* Read one table through an open SPI connection. Fills data->tables[t], graph_tables[t], counters and the key reads
 * of this table. */
void moe_read_table(moe_data *data, int t, List *key_reads, MemoryContext context);
/* A type's own name in SQL: schema-qualified, without a modifier. */
char *moe_sql_type(Oid type);

#endif

/*
 * reader_internal.h: what the reader_*.c files share.
 */
#ifndef MOE_READER_INTERNAL_H
#define MOE_READER_INTERNAL_H

#include "extension/key_index.h"
#include "extension/reader.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

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

/* How a Datum of an item's type becomes its value. */
typedef enum moe_value_form
{
    FORM_BOOL,
    FORM_INT2,
    FORM_INT4,
    FORM_INT8,
    FORM_FLOAT4,
    FORM_FLOAT8,
    FORM_NUMERIC,
    FORM_NUMBER,   /* other numbers */
    FORM_ROW_TIME, /* a timestamp, infinite or not */
    FORM_TIMESTAMP,
    FORM_DATE,
    FORM_UTF8,    /* text and what is binary-compatible with it, needing no conversion */
    FORM_VARLENA, /* the same in another encoding */
    FORM_PADDED,  /* char(n): without its trailing blanks */
    FORM_OUTPUT,  /* through the type's output function */
    FORM_TEXTS,   /* elements through their output function, joined by blanks */
    FORM_VECTOR,
    FORM_KEY_INT4,
    FORM_KEY_INT8,
    FORM_KEY /* others */
} moe_value_form;

/* One value of one row. Every kind of value has 8 bytes, so that one sink's array can become another's. */
typedef union moe_item
{
    double number;
    int64 time;
    int64 end;   /* STRING, VECTOR: where the value of the row before ends in the bytes */
    uint64 word; /* KEY */
} moe_item;

/* The column that the values of one item of a table's SELECT become. Arrays are the job's. */
typedef struct moe_sink
{
    moe_sink_kind kind;
    moe_value_form form;
    int column;  /* of the schema's table */
    int group;   /* of late columns, -1: known with the row */
    bool beside; /* has no say in the order of rows */
    Oid type;    /* of the item */
    FmgrInfo output;
    Oid element; /* arrays */
    int16 element_length;
    bool element_by_value;
    char element_align;
    moe_key_column *key;

    moe_item *items; /* [rows + 1] */
    uint8 *null;     /* [rows]; NULL pointer: no NULLs */
    char *bytes;     /* of strings and vectors */
    int64 n_bytes;
    int64 bytes_capacity;
    int64 not_finite;
} moe_sink;

/* reader_value.c */
void moe_sink_init(moe_sink *sink, moe_sink_kind kind, int column, Oid type);
/* Put a value into its row; capacity: the rows there is room for. */
void moe_sink_put(moe_sink *sink, moe_job *job, int64 row, int64 capacity, Datum value, bool null);

/* reader_gather.c */
/* Room for `rows` rows. */
void moe_sink_reserve(moe_sink *sink, moe_job *job, int64 rows);
/* A value's hash, which depends on neither session nor platform. Safe from any thread. */
uint64 moe_sink_hash(const moe_sink *sink, int64 row);
/* Row i of every sink becomes what row order[i] was. NULL: all stay. */
void moe_sinks_permute(moe_sink *sinks, int n_sinks, moe_job *job, const int32 *order, int64 n);

static inline bool
moe_sink_is_null(const moe_sink *sink, int64 row)
{
    return sink->null != NULL && sink->null[row];
}

/* A key column to read, compared as type `target`; one for every (table, column, target) that links ask for. */
typedef struct moe_key_read
{
    int table;
    int column;
    Oid target;
    bool beside; /* for people alone: has no say in the order of rows */
    moe_key_column *values;
} moe_key_read;

/* One foreign key: the key reads of both ends, column by column. */
typedef struct moe_link
{
    moe_key_read *child[INDEX_MAX_KEYS];
    moe_key_read *parent[INDEX_MAX_KEYS];
} moe_link;

/* One table being read. */
typedef struct moe_reading
{
    moe_data *data;
    int table;
    const moe_schema_table *schema;
    MemoryContext context; /* for what outlives the reading */
    StringInfoData sql;    /* the items, of "schema.table c" with the joins */
    StringInfoData joins;  /* for the row time, where parents give it */
    int n_joins;
    int n_sinks;
    moe_sink *sinks;
    int row_time;  /* sink, -1: none */
    int n_hidden;  /* groups */
    int hidden[8]; /* known-at column of each group */
    int hidden_sink[8];
    int64 n_rows;
    int64 capacity; /* rows there is room for */
} moe_reading;

/* reader_scan.c */
/* Run a SELECT of the reading's items through an open SPI connection and put its rows into the sinks. */
void moe_reading_scan(moe_reading *reading, const char *sql);

/* reader_order.c */
/* The canonical order of the rows read: [n_rows], the job's; NULL: they stand in it. */
int32 *moe_reading_order(moe_reading *reading);

/* reader_table.c */
/* Compose the items of one table's SELECT, a sink each; key_reads: of moe_key_read. What outlives the reading lives in
 * CurrentMemoryContext. */
void moe_reading_plan(moe_reading *reading, moe_data *data, int t, List *key_reads);
/* Put the rows in the sinks into canonical order, and fill data->tables[t] and graph_tables[t]. */
void moe_reading_deliver(moe_reading *reading);
/* Read one table, or (not wanted) none of its rows, through an open SPI connection. Fills data->tables[t],
 * graph_tables[t], counters and the key reads of this table. */
void moe_read_table(moe_data *data, int t, List *key_reads, bool wanted, MemoryContext context);
/* A type's own name in SQL: schema-qualified, without a modifier. */
char *moe_sql_type(Oid type);

/* reader_around.c */
/* Read what a request asks for through an open SPI connection, as moe_read_table does; false if that were more rows
 * than it allows. */
bool moe_read_around(moe_data *data, List *key_reads, const moe_link *links, const moe_around *around,
                     MemoryContext context);

#endif

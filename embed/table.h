/*
 * table.h: one table's columns as arrays, as the reader delivers them.
 *
 * Rows stand in canonical order (row time ascending, rows without a time
 * first, ties by a hash of the content), so that the rows visible at any
 * moment are a prefix and nothing depends on physical order.
 *
 * Keys, foreign keys and the row time itself are not among the columns.
 */
#ifndef MOE_TABLE_H
#define MOE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

/* Microseconds since 2000-01-01 00:00 (PostgreSQL's own epoch). */
#define MOE_TIME_ALWAYS INT64_MIN /* a row without a time: visible at any moment */
#define MOE_TIME_NEVER  INT64_MAX

typedef enum moe_storage
{
    MOE_STORE_NUMBER, /* double */
    MOE_STORE_BOOL,   /* double, 0 or 1 */
    MOE_STORE_TIME,   /* int64 microseconds */
    MOE_STORE_STRING, /* bytes, UTF-8 */
    MOE_STORE_VECTOR  /* floats, any number a row */
} moe_storage;

typedef enum moe_encoding
{
    MOE_ENCODE_AUTO, /* from the values: see features.h */
    MOE_ENCODE_NUMERIC,
    MOE_ENCODE_CATEGORY,
    MOE_ENCODE_TIME,
    MOE_ENCODE_BOOL,
    MOE_ENCODE_TEXT,
    MOE_ENCODE_VECTOR
} moe_encoding;

typedef struct moe_column
{
    const char *name;
    moe_storage storage;
    bool integral;         /* a NUMBER whose SQL type is an integer */
    moe_encoding encoding; /* AUTO, or as the user declared it */
    int hidden_bit;        /* 0..7: the value is hidden where this bit of a row's mask is set; -1: never hidden */
    const uint8_t *null;   /* one byte a row, 1: NULL; NULL pointer: no NULLs */
    const double
        *number; /* NUMBER, BOOL: [n_rows]; never NaN or infinite (the reader makes them NULL and counts them) */
    const int64_t *time;   /* TIME: [n_rows] */
    const char *bytes;     /* STRING */
    const float *items;    /* VECTOR */
    const int64_t *offset; /* STRING, VECTOR: [n_rows + 1] into bytes or items */
} moe_column;

typedef struct moe_table
{
    const char *name;
    int64_t n_rows; /* below 2^31 */
    int n_columns;
    const moe_column *columns;
} moe_table;

#endif

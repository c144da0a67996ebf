/*
 * dictionary.h: the distinct values of a column: counting, keeping, finding.
 */
#ifndef MOE_EMBED_DICTIONARY_H
#define MOE_EMBED_DICTIONARY_H

#include "embed/table.h"
#include "kernels/buffer.h"
#include "kernels/job.h"

/* The distinct values of some rows, in the order of their first occurrence. */
typedef struct moe_tally
{
    int64_t n;      /* distinct values */
    int64_t total;  /* rows counted, NULLs not among them */
    int64_t rarest; /* occurrences of the rarest value */
    bool overflow;  /* more than the limit: counting stopped there */
    int32_t *row;   /* [n] first row with the value */
    int64_t *count; /* [n] */
} moe_tally;

#define MOE_TALLY_MAX 4096

/* Count the values of rows 0..n_rows-1, giving up beyond `limit` distinct ones, at most MOE_TALLY_MAX. */
moe_code moe_tally_column(moe_job *job, const moe_column *column, int64_t n_rows, int64_t limit, moe_tally *tally);
void moe_tally_free(moe_job *job, moe_tally *tally);

/*
 * How many of the rows have a value, and how many values are different: exact
 * up to a million rows, in larger tables estimated from every sixteenth value.
 */
moe_code moe_count_distinct(moe_job *job, const moe_column *column, int64_t n_rows, int64_t *total, int64_t *distinct);

/* Values in ascending order (numbers by size, strings by bytes). */
typedef struct moe_dictionary
{
    int64_t n;
    double *number;  /* NUMBER, BOOL, TIME */
    char *bytes;     /* STRING */
    int64_t *offset; /* STRING: [n + 1] */
} moe_dictionary;

/* Keep the tally's values that occur at least min_count times. */
moe_code moe_dictionary_build(moe_job *job, const moe_column *column, const moe_tally *tally, int64_t min_count,
                              moe_dictionary *dictionary);
void moe_dictionary_free(moe_job *job, moe_dictionary *dictionary);
/* The position of a row's value, or -1. The row must not be NULL. */
int64_t moe_dictionary_find(const moe_dictionary *dictionary, const moe_column *column, int64_t row);

void moe_dictionary_write(const moe_dictionary *dictionary, bool strings, moe_buffer *buffer);
/* Refuses values out of order. */
void moe_dictionary_read(moe_reader *reader, bool strings, moe_dictionary *dictionary);

/* A row's value as bytes; a number is copied to *number first. */
const void *moe_column_bytes(const moe_column *column, int64_t row, double *number, int64_t *length);

#endif

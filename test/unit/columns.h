/*
 * columns.h: a made-up table with one column of every kind, for the tests of embed/.
 *
 * Every value is a function of (column, row), so that two tables of different
 * length agree on their common rows.
 */
#ifndef MOE_TEST_COLUMNS_H
#define MOE_TEST_COLUMNS_H

#include "embed/table.h"
#include "kernels/job.h"
#include "kernels/random.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum
{
    COLUMN_AMOUNT,  /* number, heavy tail, some NULL */
    COLUMN_GRADE,   /* integral, 10 values */
    COLUMN_SERIAL,  /* integral, all different */
    COLUMN_PAID,    /* bool, hidden by bit 0 */
    COLUMN_BORN,    /* dates, some NULL */
    COLUMN_COUNTRY, /* string, 12 values and one that occurs once; hidden by bit 1 */
    COLUMN_TAG,     /* string, 1100 values in 2400 rows; hidden by bit 1 */
    COLUMN_NOTE,    /* string, all different, some NULL */
    COLUMN_PLACE,   /* vector of 3, some NULL */
    COLUMN_PATH,    /* vector of any length, hidden by bit 2 */
    COLUMN_EMPTY,   /* number, all NULL */
    COLUMN_SAME,    /* string, constant */
    COLUMN_COUNT
};

static inline moe_job *
make_job(int threads)
{
    moe_job_config config = {.threads = threads};
    moe_job *job = NULL;

    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    return job;
}

static inline double
draw(int column, int64_t row)
{
    return moe_random_uniform(column + 1, row);
}

static inline int64_t
write_string(int column, int64_t row, char *out)
{
    static const char *const words[] = {"slow", "Engine", "crash", "rain", "late", "pit", "stop", "cafe\xcc\x81"};

    if (column == COLUMN_COUNTRY)
        return row == 7 ? sprintf(out, "Atlantis") : sprintf(out, "country %d", (int) (draw(column, row) * 12));
    if (column == COLUMN_TAG)
        return sprintf(out, "tag %d", (int) (row % 1100));
    if (column == COLUMN_NOTE)
        return sprintf(out, "%s %s %s no. %d", words[(int) (draw(column, row) * 8)],
                       words[(int) (draw(column + 50, row) * 8)], words[row % 8], (int) row);
    return sprintf(out, "same");
}

static inline bool
is_null(int column, int64_t row)
{
    bool sometimes =
        column == COLUMN_AMOUNT || column == COLUMN_BORN || column == COLUMN_NOTE || column == COLUMN_PLACE;

    return column == COLUMN_EMPTY || (sometimes && draw(column + 100, row) < 0.1);
}

static inline double
number_at(int column, int64_t row)
{
    double u = draw(column, row);

    if (column == COLUMN_AMOUNT)
        return exp(3 * sqrt(-2 * log(1 - u)) * cos(6.28 * draw(column + 70, row)));
    if (column == COLUMN_GRADE)
        return floor(u * 10);
    if (column == COLUMN_PAID)
        return u < 0.3;
    return (double) row;
}

static inline void
fill_varying(moe_job *job, int c, moe_column *column, int64_t n)
{
    int64_t *offset = moe_alloc(job, n + 1, sizeof(*offset));
    char *bytes = moe_alloc(job, n, 64);
    float *items = moe_alloc(job, n, 8 * sizeof(float));

    for (int64_t row = 0; row < n; row++)
    {
        int64_t length = c == COLUMN_PLACE ? 3 : (int64_t) (draw(c, row) * 8);

        if (column->storage == MOE_STORE_STRING)
            length = write_string(c, row, bytes + offset[row]);
        else
            for (int i = 0; i < length; i++)
                items[offset[row] + i] = (float) (100 + 10 * draw(c * 1000 + i, row));
        offset[row + 1] = offset[row] + length;
    }
    column->offset = offset;
    column->bytes = bytes;
    column->items = items;
}

static inline void
fill_column(moe_job *job, int c, moe_column *column, int64_t n)
{
    uint8_t *null = moe_alloc(job, n, 1);
    double *number = moe_alloc(job, n, sizeof(*number));
    int64_t *time = moe_alloc(job, n, sizeof(*time));

    for (int64_t row = 0; row < n; row++)
    {
        null[row] = is_null(c, row);
        number[row] = number_at(c, row);
        time[row] = (int64_t) (draw(c, row) * 9000 - 3000) * INT64_C(86400000000);
    }
    column->null = null;
    column->number = number;
    column->time = time;
    if (column->storage == MOE_STORE_STRING || column->storage == MOE_STORE_VECTOR)
        fill_varying(job, c, column, n);
}

/* The table with n rows; its memory is the job's. */
static inline moe_table
make_table(moe_job *job, int64_t n)
{
    static const moe_column shape[COLUMN_COUNT] = {
        {.name = "amount", .storage = MOE_STORE_NUMBER, .hidden_bit = -1},
        {.name = "grade", .storage = MOE_STORE_NUMBER, .integral = true, .hidden_bit = -1},
        {.name = "serial", .storage = MOE_STORE_NUMBER, .integral = true, .hidden_bit = -1},
        {.name = "paid", .storage = MOE_STORE_BOOL, .hidden_bit = 0},
        {.name = "born", .storage = MOE_STORE_TIME, .hidden_bit = -1},
        {.name = "country", .storage = MOE_STORE_STRING, .hidden_bit = 1},
        {.name = "tag", .storage = MOE_STORE_STRING, .hidden_bit = 1},
        {.name = "note", .storage = MOE_STORE_STRING, .hidden_bit = -1},
        {.name = "place", .storage = MOE_STORE_VECTOR, .hidden_bit = -1},
        {.name = "path", .storage = MOE_STORE_VECTOR, .hidden_bit = 2},
        {.name = "empty", .storage = MOE_STORE_NUMBER, .hidden_bit = -1},
        {.name = "same", .storage = MOE_STORE_STRING, .hidden_bit = -1},
    };
    moe_column *columns = moe_alloc(job, COLUMN_COUNT, sizeof(*columns));

    memcpy(columns, shape, sizeof(shape));
    for (int c = 0; c < COLUMN_COUNT; c++)
        fill_column(job, c, &columns[c], n);
    return (moe_table){"orders", n, COLUMN_COUNT, columns};
}

/* A table of one number column, for tests of a single rule. */
static inline moe_table
make_numbers(moe_job *job, const double *values, int64_t n, bool integral)
{
    moe_column *column = moe_alloc(job, 1, sizeof(*column));

    *column = (moe_column){
        .name = "x", .storage = MOE_STORE_NUMBER, .integral = integral, .hidden_bit = -1, .number = values};
    return (moe_table){"t", n, 1, column};
}

/* A table of one string column. */
static inline moe_table
make_strings(moe_job *job, const char *const *values, int64_t n)
{
    moe_column *column = moe_alloc(job, 1, sizeof(*column));
    int64_t *offset = moe_alloc(job, n + 1, sizeof(*offset));
    char *bytes;

    for (int64_t i = 0; i < n; i++)
        offset[i + 1] = offset[i] + (int64_t) strlen(values[i]);
    bytes = moe_alloc(job, offset[n], 1);
    for (int64_t i = 0; i < n; i++)
        memcpy(bytes + offset[i], values[i], strlen(values[i]));
    *column =
        (moe_column){.name = "x", .storage = MOE_STORE_STRING, .hidden_bit = -1, .bytes = bytes, .offset = offset};
    return (moe_table){"t", n, 1, column};
}

#endif

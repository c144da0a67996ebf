/*
 * rows.c: picking and varying rows.
 */
#include "embed/rows.h"
#include "embed/spec.h"
#include "kernels/random.h"

#include <math.h>
#include <string.h>

/* A table of the same rows whose columns may be changed. */
static moe_table *
copy_shape(moe_arena *arena, const moe_table *table, moe_column **columns)
{
    moe_table *copy = moe_arena_alloc(arena, 1, sizeof(*copy));

    *columns = moe_arena_alloc(arena, table->n_columns, sizeof(**columns));
    if (!copy || !*columns)
        return NULL;
    memcpy(*columns, table->columns, table->n_columns * sizeof(**columns));
    *copy = *table;
    copy->columns = *columns;
    return copy;
}

/* The values of a STRING or VECTOR column in some rows. */
static bool
pick_varying(moe_arena *arena, const moe_column *from, const int32_t *rows, int64_t n, moe_column *to)
{
    bool text = from->storage == MOE_STORE_STRING;
    size_t size = text ? 1 : sizeof(float);
    const char *source = text ? from->bytes : (const char *) from->items;
    int64_t *offset = moe_arena_zalloc(arena, n + 1, sizeof(*offset));
    char *items;

    if (!offset)
        return false;
    for (int64_t i = 0; i < n; i++)
        offset[i + 1] = offset[i] + from->offset[rows[i] + 1] - from->offset[rows[i]];
    if (!(items = moe_arena_alloc(arena, offset[n], size)))
        return false;
    for (int64_t i = 0; i < n; i++)
        if (offset[i + 1] > offset[i])
            memcpy(items + offset[i] * size, source + from->offset[rows[i]] * size, (offset[i + 1] - offset[i]) * size);
    to->offset = offset;
    to->bytes = text ? items : NULL;
    to->items = text ? NULL : (const float *) items;
    return true;
}

/* The values of a column of fixed size in some rows. */
static bool
pick_fixed(moe_arena *arena, const moe_column *from, const int32_t *rows, int64_t n, moe_column *to)
{
    double *number = NULL;
    int64_t *time = NULL;

    if (from->storage == MOE_STORE_TIME)
        to->time = time = moe_arena_alloc(arena, n, sizeof(*time));
    else
        to->number = number = moe_arena_alloc(arena, n, sizeof(*number));
    if (!time && !number)
        return false;
    for (int64_t i = 0; i < n; i++)
        if (time)
            time[i] = from->time[rows[i]];
        else
            number[i] = from->number[rows[i]];
    return true;
}

static bool
pick_column(moe_arena *arena, const moe_column *from, const int32_t *rows, const uint8_t *hidden, int64_t n,
            moe_column *to)
{
    uint8_t *null = moe_arena_zalloc(arena, n, 1);
    bool varying = from->storage == MOE_STORE_STRING || from->storage == MOE_STORE_VECTOR;

    if (!null)
        return false;
    for (int64_t i = 0; i < n; i++)
        null[i] = (from->null && from->null[rows[i]]) ||
                  (hidden && from->hidden_bit >= 0 && (hidden[i] >> from->hidden_bit & 1));
    to->null = null;
    to->hidden_bit = -1;
    return varying ? pick_varying(arena, from, rows, n, to) : pick_fixed(arena, from, rows, n, to);
}

moe_table *
moe_rows_pick(moe_arena *arena, const moe_table *table, const int32_t *rows, const uint8_t *hidden, int64_t n)
{
    moe_column *columns;
    moe_table *copy = copy_shape(arena, table, &columns);

    if (!copy)
        return NULL;
    copy->n_rows = n;
    for (int c = 0; c < table->n_columns; c++)
        if (!pick_column(arena, &table->columns[c], rows, hidden, n, &columns[c]))
            return NULL;
    return copy;
}

moe_table *
moe_rows_reorder(moe_arena *arena, const moe_table *table, const int *order)
{
    moe_column *columns;
    moe_table *copy = copy_shape(arena, table, &columns);

    for (int c = 0; copy && c < table->n_columns; c++)
        columns[c] = table->columns[order[c]];
    return copy;
}

moe_table *
moe_rows_hide(moe_arena *arena, const moe_table *table, const bool *hide)
{
    moe_column *columns;
    moe_table *copy = copy_shape(arena, table, &columns);
    uint8_t *null = moe_arena_alloc(arena, table->n_rows, 1);

    if (!copy || !null)
        return NULL;
    memset(null, 1, table->n_rows);
    for (int c = 0; c < table->n_columns; c++)
        if (hide[c])
            columns[c].null = null;
    return copy;
}

moe_table *
moe_rows_hide_one(moe_arena *arena, const moe_table *table, const int *column)
{
    moe_column *columns;
    moe_table *copy = copy_shape(arena, table, &columns);

    for (int c = 0; copy && c < table->n_columns; c++)
    {
        uint8_t *null = moe_arena_alloc(arena, table->n_rows, 1);

        if (!null)
            return NULL;
        for (int64_t i = 0; i < table->n_rows; i++)
            null[i] = column[i] == c || (columns[c].null && columns[c].null[i]);
        columns[c].null = null;
    }
    return copy;
}

/* The standard deviation of a column's values; 0 of fewer than two. */
static double
deviation(const moe_column *column, int64_t n)
{
    double mean = 0, squares = 0;
    int64_t count = 0;

    for (int64_t i = 0; i < n; i++)
        if (!moe_column_missing(column, i))
        {
            double step = moe_column_number(column, i) - mean;

            mean += step / (double) ++count;
            squares += step * (moe_column_number(column, i) - mean);
        }
    return count > 1 ? sqrt(squares / (double) (count - 1)) : 0;
}

moe_table *
moe_rows_disturb(moe_arena *arena, const moe_table *table, const bool *disturb, double share, uint64_t key)
{
    moe_column *columns;
    moe_table *copy = copy_shape(arena, table, &columns);

    for (int c = 0; copy && c < table->n_columns; c++)
    {
        double *number;
        double scale;

        if (!disturb[c] || columns[c].storage != MOE_STORE_NUMBER)
            continue;
        if (!(number = moe_arena_alloc(arena, table->n_rows, sizeof(*number))))
            return NULL;
        scale = share * deviation(&columns[c], table->n_rows);
        for (int64_t i = 0; i < table->n_rows; i++)
            number[i] = columns[c].number[i] + scale * moe_random_normal(moe_key(key, c), i);
        columns[c].number = number;
    }
    return copy;
}

moe_table *
moe_rows_move(moe_arena *arena, const moe_table *table, int column, const int32_t *from)
{
    moe_column *columns;
    moe_table *copy = copy_shape(arena, table, &columns);

    if (!copy || !pick_column(arena, &table->columns[column], from, NULL, table->n_rows, &columns[column]))
        return NULL;
    return copy;
}

uint64_t
moe_rows_value(const moe_column *column, int64_t row)
{
    uint64_t hash;

    if (moe_column_missing(column, row))
        return 0;
    if (column->storage == MOE_STORE_TIME)
        hash = moe_hash_bytes(&column->time[row], sizeof(int64_t), 1);
    else if (column->storage == MOE_STORE_NUMBER || column->storage == MOE_STORE_BOOL)
    {
        double number = column->number[row] + 0.0; /* -0 equals 0 */

        hash = moe_hash_bytes(&number, sizeof(number), 1);
    }
    else
    {
        size_t size = column->storage == MOE_STORE_STRING ? 1 : sizeof(float);
        const char *items = size == 1 ? column->bytes : (const char *) column->items;

        hash = moe_hash_bytes(items + column->offset[row] * size,
                              (column->offset[row + 1] - column->offset[row]) * size, 1);
    }
    return hash ? hash : 1;
}

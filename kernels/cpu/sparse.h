/*
 * sparse.h: shared by the CPU backend's sparse operations: loops balanced by
 * entries, prefetching, and the sum of weighted rows they come down to.
 *
 * Work is measured in rows plus entries. A loop over it is cut at equal
 * amounts, and a chunk takes the rows that begin within it, which a binary
 * search in the offsets finds: chunks depend on the matrix alone.
 */
#ifndef MOE_CPU_SPARSE_H
#define MOE_CPU_SPARSE_H

#include "kernels/cpu/vector.h"

#define MOE_AHEAD         16  /* entries from the one whose row is fetched to the one that is used */
#define MOE_FETCHED       256 /* floats of a row that are fetched; the hardware follows from there */
#define MOE_STRIP         32 /* rows summed in one go: few enough to stay in the first-level cache from block to block */
#define MOE_BLOCK_VECTORS 8  /* accumulators that fit the registers, with operands */

/* As moe_sparse_begin, for offsets without a matrix, too. */
MOE_INLINE int64_t
moe_run_begin(const int64_t *offset, int64_t width, int64_t i)
{
    return offset != NULL ? offset[i] : i * (width == 0 ? 1 : width);
}

/* The first of `rows` rows that begins at or after a point of the work. */
MOE_INLINE int64_t
moe_row_at(int64_t rows, const int64_t *offset, int64_t width, int64_t work)
{
    int64_t low = 0;
    int64_t high = rows;
    if (offset == NULL)
    {
        int64_t each = (width == 0 ? 1 : width) + 1;
        int64_t row = (work + each - 1) / each;
        return row < rows ? row : rows;
    }
    while (low < high)
    {
        int64_t middle = low + (high - low) / 2;
        if (offset[middle] + middle < work)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

MOE_INLINE int64_t
moe_sparse_work(const moe_sparse *s)
{
    return s->rows + s->entries;
}

/* Work worth one chunk where each unit moves `cols` floats. */
MOE_INLINE int64_t
moe_work_grain(int64_t cols)
{
    int64_t grain = moe_row_grain(cols);
    return grain < 64 ? 64 : grain;
}

/* Fetch one row, by as many comparisons as it has lines: a loop's end, guessed wrong, would cost more. */
MOE_INLINE void
moe_fetch_row(const float *x, int64_t cols, int32_t row)
{
    if (row < 0)
        return;
    x += row * cols;
    MOE_UNROLL(16)
    for (int j = 0; j < MOE_FETCHED; j += MOE_LINE_FLOATS)
    {
        if (j >= cols)
            return;
        __builtin_prefetch(x + j);
    }
}

/* Up to MOE_STRIP rows with their weights. */
typedef struct moe_strip
{
    int n;
    const float *row[MOE_STRIP];
    float weight[MOE_STRIP];
} moe_strip;

/* `vectors` (a constant) lanes of columns from column j on, in registers. */
MOE_INLINE void
moe_add_block(int vectors, const moe_strip *strip, int64_t j, bool add, bool stream, float *out)
{
    moe_lanes sum[MOE_BLOCK_VECTORS];
    for (int v = 0; v < vectors; v++)
        sum[v] = (moe_lanes){0};
    for (int i = 0; i < strip->n; i++)
    {
        const float *row = strip->row[i] + j;
        float weight = strip->weight[i];
        for (int v = 0; v < vectors; v++)
            sum[v] += weight * MOE_LANES_AT(row + v * MOE_LANES);
    }
    for (int v = 0; v < vectors; v++)
    {
        if (add)
            sum[v] += MOE_LANES_AT(out + j + v * MOE_LANES);
        moe_store(out + j + v * MOE_LANES, sum[v], stream);
    }
}

/* out [cols] = (or with `add` +=) the weighted sum of the strip's rows, made apart: long sums stay exact so. */
MOE_INLINE void
moe_add_strip(const moe_strip *strip, int64_t cols, bool add, bool stream, float *out)
{
    int64_t j = 0;
    for (; j + 8 * MOE_LANES <= cols; j += 8 * MOE_LANES)
        moe_add_block(8, strip, j, add, stream, out);
    if (j + 4 * MOE_LANES <= cols)
    {
        moe_add_block(4, strip, j, add, stream, out);
        j += 4 * MOE_LANES;
    }
    if (j + 2 * MOE_LANES <= cols)
    {
        moe_add_block(2, strip, j, add, stream, out);
        j += 2 * MOE_LANES;
    }
    if (j + MOE_LANES <= cols)
    {
        moe_add_block(1, strip, j, add, stream, out);
        j += MOE_LANES;
    }
    for (; j < cols; j++)
    {
        float sum = 0;
        for (int i = 0; i < strip->n; i++)
            sum += strip->weight[i] * strip->row[i][j];
        out[j] = add ? out[j] + sum : sum;
    }
}

#endif

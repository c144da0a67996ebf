/*
 * tile.h: products that stay in registers: tiles of 6 x 16 results, and the turning of small squares.
 *
 * Every result is one sum over the inner dimension in order, whatever tile it
 * is in: its bits depend on its own row and column alone.
 */
#ifndef MOE_TILE_H
#define MOE_TILE_H

#include <string.h>

#include "kernels/cpu/cpu.h"

#define MOE_TILE_ROWS 6
#define MOE_TILE_COLS (2 * MOE_LANES)

/*
 * c [rows, vectors * MOE_LANES] += a b over `depth`: a's element (r, d) stands
 * at a[r * down + d * along], b's row d at b + d * b_stride. `rows` and `vectors` (1 or 2) are constants.
 */
MOE_INLINE void
moe_add_tile(int rows, int vectors, int64_t depth, const float *a, int64_t down, int64_t along, const float *b,
             int64_t b_stride, float *c, int64_t c_stride)
{
    moe_lanes left[MOE_TILE_ROWS];
    moe_lanes right[MOE_TILE_ROWS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
    {
        left[r] = *(const moe_lanes *) (c + r * c_stride);
        if (vectors == 2)
            right[r] = *(const moe_lanes *) (c + r * c_stride + MOE_LANES);
    }
    for (int64_t d = 0; d < depth; d++, a += along, b += b_stride)
    {
        moe_lanes b0 = *(const moe_lanes *) b;
        moe_lanes b1 = vectors == 2 ? *(const moe_lanes *) (b + MOE_LANES) : b0;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
        {
            left[r] += a[r * down] * b0;
            if (vectors == 2)
                right[r] += a[r * down] * b1;
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
    {
        *(moe_lanes *) (c + r * c_stride) = left[r];
        if (vectors == 2)
            *(moe_lanes *) (c + r * c_stride + MOE_LANES) = right[r];
    }
}

/* The same for any number of rows up to MOE_TILE_ROWS. */
MOE_INLINE void
moe_add_some_rows(int64_t rows, int vectors, int64_t depth, const float *a, int64_t down, int64_t along, const float *b,
                  int64_t b_stride, float *c, int64_t c_stride)
{
    switch (rows)
    {
        case 1:
            moe_add_tile(1, vectors, depth, a, down, along, b, b_stride, c, c_stride);
            break;
        case 2:
            moe_add_tile(2, vectors, depth, a, down, along, b, b_stride, c, c_stride);
            break;
        case 3:
            moe_add_tile(3, vectors, depth, a, down, along, b, b_stride, c, c_stride);
            break;
        case 4:
            moe_add_tile(4, vectors, depth, a, down, along, b, b_stride, c, c_stride);
            break;
        case 5:
            moe_add_tile(5, vectors, depth, a, down, along, b, b_stride, c, c_stride);
            break;
        default:
            moe_add_tile(6, vectors, depth, a, down, along, b, b_stride, c, c_stride);
    }
}

/*
 * c [rows, cols] += a b for cols up to MOE_TILE_COLS. Where there are fewer, b has
 * zeros (or anything finite) beside them and c's other columns are left alone.
 */
MOE_INLINE void
moe_add_panel(int64_t rows, int64_t cols, int64_t depth, const float *a, int64_t down, int64_t along, const float *b,
              int64_t b_stride, float *c, int64_t c_stride)
{
    if (cols == MOE_TILE_COLS)
    {
        for (int64_t r = 0; r < rows; r += MOE_TILE_ROWS)
            moe_add_some_rows(rows - r, 2, depth, a + r * down, down, along, b, b_stride, c + r * c_stride, c_stride);
        return;
    }
    for (int64_t r = 0; r < rows; r += MOE_TILE_ROWS)
    {
        int64_t n = rows - r < MOE_TILE_ROWS ? rows - r : MOE_TILE_ROWS;
        float part[MOE_TILE_ROWS * MOE_TILE_COLS] = {0};
        for (int64_t i = 0; i < n; i++)
            memcpy(part + i * MOE_TILE_COLS, c + (r + i) * c_stride, (size_t) cols * sizeof(float));
        if (cols <= MOE_LANES)
            moe_add_some_rows(n, 1, depth, a + r * down, down, along, b, b_stride, part, MOE_TILE_COLS);
        else
            moe_add_some_rows(n, 2, depth, a + r * down, down, along, b, b_stride, part, MOE_TILE_COLS);
        for (int64_t i = 0; i < n; i++)
            memcpy(c + (r + i) * c_stride, part + i * MOE_TILE_COLS, (size_t) cols * sizeof(float));
    }
}

#define MOE_TURN 8
typedef float moe_eight __attribute__((vector_size(MOE_TURN * sizeof(float)), aligned(4), may_alias));
typedef int32_t moe_eight_index __attribute__((vector_size(MOE_TURN * sizeof(int32_t))));

/* out[i, j] = x[j, i], 8 x 8, in three rounds of exchanges: neighbours, pairs, halves. */
MOE_INLINE void
moe_turn(const float *x, int64_t stride, float *out, int64_t out_stride)
{
    moe_eight a[MOE_TURN];
    moe_eight b[MOE_TURN];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        a[i] = *(const moe_eight *) (x + i * stride);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2)
    {
        b[i] = __builtin_shuffle(a[i], a[i + 1], (moe_eight_index){0, 8, 1, 9, 4, 12, 5, 13});
        b[i + 1] = __builtin_shuffle(a[i], a[i + 1], (moe_eight_index){2, 10, 3, 11, 6, 14, 7, 15});
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
    {
        int from = i / 2 * 4 + i % 2;
        a[2 * i] = __builtin_shuffle(b[from], b[from + 2], (moe_eight_index){0, 1, 8, 9, 4, 5, 12, 13});
        a[2 * i + 1] = __builtin_shuffle(b[from], b[from + 2], (moe_eight_index){2, 3, 10, 11, 6, 7, 14, 15});
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
    {
        *(moe_eight *) (out + i * out_stride) =
            __builtin_shuffle(a[i], a[i + 4], (moe_eight_index){0, 1, 2, 3, 8, 9, 10, 11});
        *(moe_eight *) (out + (i + 4) * out_stride) =
            __builtin_shuffle(a[i], a[i + 4], (moe_eight_index){4, 5, 6, 7, 12, 13, 14, 15});
    }
}

#endif

/*
 * grouped.cu: rows sorted by group, times their group's weights, with the gather fused in.
 *
 * A block makes a tile of 128 x 64 results from slices of both operands in
 * shared memory; a thread keeps 8 x 4 of them in registers. How long the groups
 * are only the device knows: the grid has room for the worst case, n / 128 +
 * groups row tiles, a small kernel works out where each group's tiles begin,
 * and a block finds its group there by bisection, or has nothing to do. Nothing
 * is padded or dropped (Gale et al. 2023).
 *
 * The gradient of the weights sums over the rows of a group: they are cut into
 * chunks of a size that follows from n and the number of groups alone, each
 * chunk makes its own k x m sums, and a second kernel adds them in order.
 */
#include "kernels/cuda/cuda.cuh"

#define TILE_ROWS 128
#define TILE_COLS 64
#define DEPTH     16 /* of a slice */
#define OWN_ROWS  8  /* of a thread */
#define OWN_COLS  4
/* Rows of slices are two words apart in banks, so that stores down a column do not meet. */
#define LEFT_PITCH  (TILE_ROWS + 2)
#define RIGHT_PITCH (TILE_COLS + 2)

/* Where each group's tiles of `height` rows begin, in tiles: first [groups + 1]. */
static __global__ void
lay_tiles(int groups, int64_t height, const int64_t *__restrict__ offset, int64_t *__restrict__ first)
{
    if (threadIdx.x > 0)
        return;
    int64_t tiles = 0;
    for (int g = 0; g < groups; g++)
    {
        first[g] = tiles;
        tiles += (offset[g + 1] - offset[g] + height - 1) / height;
    }
    first[groups] = tiles;
}

/* The group of a tile: the last one that begins at or before it. */
static __device__ __forceinline__ int
group_of(const int64_t *first, int groups, int64_t tile)
{
    return (int) first_not_below(first, groups + 1, tile + 1) - 1;
}

typedef struct slices
{
    float left[DEPTH][LEFT_PITCH];
    float right[DEPTH][RIGHT_PITCH];
} slices;

typedef struct tile_sums
{
    float v[OWN_ROWS][OWN_COLS];
} tile_sums;

/*
 * Add up DEPTH products for the thread's results: rows own_row + 16 i, columns
 * own_col + 16 j, so that a warp's reads fall on neighbouring words or on one.
 */
static __device__ __forceinline__ void
multiply_slices(const slices &s, int own_row, int own_col, tile_sums &sums)
{
#pragma unroll
    for (int d = 0; d < DEPTH; d++)
    {
        float left[OWN_ROWS];
        float right[OWN_COLS];
#pragma unroll
        for (int i = 0; i < OWN_ROWS; i++)
            left[i] = s.left[d][own_row + 16 * i];
#pragma unroll
        for (int j = 0; j < OWN_COLS; j++)
            right[j] = s.right[d][own_col + 16 * j];
#pragma unroll
        for (int i = 0; i < OWN_ROWS; i++)
        {
#pragma unroll
            for (int j = 0; j < OWN_COLS; j++)
                sums.v[i][j] += left[i] * right[j];
        }
    }
}

/*
 * Tiles of out [n, cols] = a [rows named, depth] times w_g: w_g [depth, cols], or where `turned` [cols, depth].
 * A row of `out` is one sum over the depth in order.
 */
template <bool turned>
static __global__ void
__launch_bounds__(THREADS)
    multiply_groups(int groups, int64_t depth, int64_t cols, const int64_t *__restrict__ offset,
                    const int64_t *__restrict__ first, const int32_t *__restrict__ row, const float *__restrict__ a,
                    const float *__restrict__ w, const float *__restrict__ b, bool add, float *__restrict__ out)
{
    MOE_SHARED(slices, [1], shared);
    slices &s = shared[0];
    int64_t tile = blockIdx.x;
    if (tile >= first[groups])
        return;
    int g = group_of(first, groups, tile);
    int64_t begin = offset[g] + (tile - first[g]) * TILE_ROWS;
    int64_t end = offset[g + 1] < begin + TILE_ROWS ? offset[g + 1] : begin + TILE_ROWS;
    int64_t left_col = (int64_t) blockIdx.y * TILE_COLS;
    const float *weights = w + (int64_t) g * depth * cols;
    int own_row = threadIdx.x / 16;
    int own_col = threadIdx.x % 16;
    tile_sums sums = {};
    for (int64_t at = 0; at < depth; at += DEPTH)
    {
        /* A thread brings every 16th row's number of its own column of the slice. */
        for (int i = threadIdx.x / DEPTH; i < TILE_ROWS; i += THREADS / DEPTH)
        {
            int64_t place = begin + i;
            int64_t d = at + threadIdx.x % DEPTH;
            float value = 0;
            if (place < end && d < depth)
                value = a[(row == NULL ? place : row[place]) * depth + d];
            s.left[threadIdx.x % DEPTH][i] = value;
        }
        for (int i = threadIdx.x; i < DEPTH * TILE_COLS; i += THREADS)
        {
            int64_t d = at + (turned ? i % DEPTH : i / TILE_COLS);
            int64_t j = left_col + (turned ? i / DEPTH : i % TILE_COLS);
            float value = 0;
            if (d < depth && j < cols)
                value = turned ? weights[j * depth + d] : weights[d * cols + j];
            s.right[d - at][j - left_col] = value;
        }
        __syncthreads();
        multiply_slices(s, own_row, own_col, sums);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < OWN_ROWS; i++)
    {
#pragma unroll
        for (int j = 0; j < OWN_COLS; j++)
        {
            int64_t place = begin + own_row + 16 * i;
            int64_t col = left_col + own_col + 16 * j;
            if (place < end && col < cols)
                put(&out[place * cols + col], add, sums.v[i][j] + (b == NULL ? 0 : b[g * cols + col]));
        }
    }
}

template <bool turned>
static void
run_groups(moe_job *job, int groups, int64_t n, int64_t depth, int64_t cols, const int64_t *offset, const int32_t *row,
           const float *a, const float *w, const float *b, bool add, float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || n == 0 || cols == 0 || groups == 0)
        return;
    moe_scratch<int64_t> first(device, groups + 1);
    dim3 blocks((unsigned int) (ceil_div(n, TILE_ROWS) + groups), (unsigned int) ceil_div(cols, TILE_COLS));
    if (first.data != NULL && MOE_LAUNCH(device, lay_tiles, 1, WARP, groups, TILE_ROWS, offset, first.data))
        MOE_LAUNCH(device, (multiply_groups<turned>), blocks, THREADS, groups, depth, cols, offset, first.data, row, a,
                   w, b, add, out);
}

void
moe_cuda_grouped_linear(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                        const int32_t *row, const float *x, const float *w, const float *b, float *out)
{
    run_groups<false>(job, groups, n, k, m, offset, row, x, w, b, false, out);
}

void
moe_cuda_grouped_linear_input(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                              const float *gy, const float *w, bool add, float *gx)
{
    run_groups<true>(job, groups, n, m, k, offset, NULL, gy, w, NULL, add, gx);
}

#define MOST_CHUNKS 64  /* of rows, about: partial sums take that many times the weights' memory */
#define LEAST_ROWS  256 /* of a chunk */

/* Of a chunk of a group's rows: sums [k, m] of x[row[p]]^T gy[p], and bias_sums [m] of gy[p] from the tiles of row 0.
 */
static __global__ void
__launch_bounds__(THREADS)
    multiply_chunks(int groups, int64_t k, int64_t m, int64_t height, const int64_t *__restrict__ offset,
                    const int64_t *__restrict__ first, const int32_t *__restrict__ row, const float *__restrict__ x,
                    const float *__restrict__ gy, float *__restrict__ weight_sums, float *__restrict__ bias_sums)
{
    MOE_SHARED(slices, [1], shared);
    slices &s = shared[0];
    int64_t chunk = blockIdx.x;
    if (chunk >= first[groups])
        return;
    int g = group_of(first, groups, chunk);
    int64_t begin = offset[g] + (chunk - first[g]) * height;
    int64_t end = offset[g + 1] < begin + height ? offset[g + 1] : begin + height;
    int64_t top = (int64_t) blockIdx.y * TILE_ROWS;
    int64_t left_col = (int64_t) blockIdx.z * TILE_COLS;
    int own_row = threadIdx.x / 16;
    int own_col = threadIdx.x % 16;
    tile_sums sums = {};
    float bias = 0;
    for (int64_t at = begin; at < end; at += DEPTH)
    {
        for (int i = threadIdx.x; i < DEPTH * TILE_ROWS; i += THREADS)
        {
            int64_t place = at + i / TILE_ROWS;
            int64_t l = top + i % TILE_ROWS;
            float value = 0;
            if (place < end && l < k)
                value = x[(row == NULL ? place : row[place]) * k + l];
            s.left[i / TILE_ROWS][i % TILE_ROWS] = value;
        }
        for (int i = threadIdx.x; i < DEPTH * TILE_COLS; i += THREADS)
        {
            int64_t place = at + i / TILE_COLS;
            int64_t j = left_col + i % TILE_COLS;
            s.right[i / TILE_COLS][i % TILE_COLS] = place < end && j < m ? gy[place * m + j] : 0;
        }
        __syncthreads();
        multiply_slices(s, own_row, own_col, sums);
        for (int d = 0; threadIdx.x < TILE_COLS && d < DEPTH; d++)
            bias += s.right[d][threadIdx.x];
        __syncthreads();
    }
    if (bias_sums != NULL && top == 0 && threadIdx.x < TILE_COLS && left_col + threadIdx.x < m)
        bias_sums[chunk * m + left_col + threadIdx.x] = bias;
#pragma unroll
    for (int i = 0; i < OWN_ROWS; i++)
    {
#pragma unroll
        for (int j = 0; j < OWN_COLS; j++)
        {
            int64_t l = top + own_row + 16 * i;
            int64_t col = left_col + own_col + 16 * j;
            if (l < k && col < m)
                weight_sums[(chunk * k + l) * m + col] = sums.v[i][j];
        }
    }
}

/* out [groups, size] += the sums of each group's chunks, in their order. */
static __global__ void
add_chunks(int groups, int64_t size, const int64_t *__restrict__ first, const float *__restrict__ sums,
           float *__restrict__ out)
{
    FOR_THREADS(item, groups * size)
    {
        int64_t g = item / size;
        float total = 0;
        for (int64_t chunk = first[g]; chunk < first[g + 1]; chunk++)
            total += sums[chunk * size + item % size];
        out[item] += total;
    }
}

void
moe_cuda_grouped_linear_weight(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                               const int32_t *row, const float *x, const float *gy, float *gw, float *gb)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || n == 0 || m == 0 || groups == 0)
        return;
    int64_t height = ceil_div(n, MOST_CHUNKS);
    height = height < LEAST_ROWS ? LEAST_ROWS : height;
    int64_t chunks = ceil_div(n, height) + groups;
    int64_t row_tiles = k == 0 ? 1 : ceil_div(k, TILE_ROWS); /* without weights there still is a bias */
    moe_scratch<int64_t> first(device, groups + 1);
    moe_scratch<float> weight_sums(device, chunks * k * m), bias_sums(device, gb == NULL ? 0 : chunks * m);
    dim3 blocks((unsigned int) chunks, (unsigned int) row_tiles, (unsigned int) ceil_div(m, TILE_COLS));
    if (first.data == NULL || (k > 0 && weight_sums.data == NULL) || (gb != NULL && bias_sums.data == NULL) ||
        !MOE_LAUNCH(device, lay_tiles, 1, WARP, groups, height, offset, first.data) ||
        !MOE_LAUNCH(device, multiply_chunks, blocks, THREADS, groups, k, m, height, offset, first.data, row, x, gy,
                    weight_sums.data, bias_sums.data))
        return;
    if (k > 0)
        MOE_LAUNCH(device, add_chunks, thread_blocks(device, groups * k * m), THREADS, groups, k * m, first.data,
                   weight_sums.data, gw);
    if (gb != NULL)
        MOE_LAUNCH(device, add_chunks, thread_blocks(device, groups * m), THREADS, groups, m, first.data,
                   bias_sums.data, gb);
}

/*
 * sparse.cu: gathering rows, and sums of gathered rows.
 *
 * A sparse product: a warp a row, a lane four neighbouring columns where
 * everything is aligned for that (else one). Where a row of x needs fewer than
 * 32 lanes the warp's other lanes take every second, fourth... entry, and the
 * parts are added by shuffles in a fixed order. Every row of x is read once and
 * the result written once; several edge types into one node are one pass.
 *
 * A row of more than LONG entries would keep its warp busy when all others are
 * done. A second kernel gives such rows a block each: its warps take shares by
 * the entry's number, and their sums are added in order. What a row's entries
 * are divided by is its own length alone: its bits do not depend on other rows.
 */
#include "kernels/cuda/cuda.cuh"

#define LONG 512

/* One to four neighbouring numbers. */
template <int N> struct numbers
{
    float v[N];
};

template <int N>
static __device__ __forceinline__ numbers<N>
load(const float *p)
{
    numbers<N> out;
    if (N == 4)
    {
        float4 four = *(const float4 *) p;
        out.v[0] = four.x;
        out.v[1 % N] = four.y;
        out.v[2 % N] = four.z;
        out.v[3 % N] = four.w;
    }
    else
        out.v[0] = *p;
    return out;
}

template <int N>
static __device__ __forceinline__ void
store(float *p, bool add, const numbers<N> &x)
{
    if (N == 4)
    {
        float4 four = add ? *(const float4 *) p : float4{0, 0, 0, 0};
        *(float4 *) p = float4{four.x + x.v[0], four.y + x.v[1 % N], four.z + x.v[2 % N], four.w + x.v[3 % N]};
    }
    else
        put(p, add, x.v[0]);
}

template <int N>
static __device__ __forceinline__ void
add_scaled(numbers<N> &sum, float factor, const numbers<N> &x)
{
#pragma unroll
    for (int i = 0; i < N; i++)
        sum.v[i] += factor * x.v[i];
}

/* Whether rows of cols numbers may be read four at a time. */
static bool
in_fours(int64_t cols, const void *x)
{
    return cols % 4 == 0 && is_aligned(x);
}

/* Lanes side by side that cover a row of n numbers or vectors: a power of two up to 32. */
static int
lanes_for(int64_t n)
{
    int lanes = 1;
    while (lanes < WARP && lanes < n)
        lanes *= 2;
    return lanes;
}

/* By the short division, which is off by an ulp at most here: the exact one is a call, around which registers spill. */
static __device__ __forceinline__ float
mean_factor(const moe_sparse &s, int64_t entries)
{
    return s.reduce == MOE_MEAN && entries > 0 ? __fdividef(1, (float) entries) : 1;
}

typedef struct terms
{
    int n;
    moe_sparse s[MOST_TERMS];
    const float *x[MOST_TERMS];
} terms;

/* Sum of the entries from + first, from + first + step ... of a row, at column j. */
template <int N>
static __device__ __forceinline__ numbers<N>
sum_entries(const moe_sparse &s, const float *__restrict__ x, int64_t cols, int64_t from, int64_t to, int step,
            int64_t j)
{
    numbers<N> sum = {};
#pragma unroll 4
    for (int64_t k = from; k < to; k += step)
    {
        int64_t source = s.index[k];
        if (source >= 0)
            add_scaled(sum, s.weight == NULL ? 1 : s.weight[k], load<N>(x + source * cols + j));
    }
    return sum;
}

template <int N>
static __device__ __forceinline__ void
fold_parts(numbers<N> &sum, int lanes)
{
    for (int bits = lanes; bits < WARP; bits *= 2)
    {
#pragma unroll
        for (int i = 0; i < N; i++)
            sum.v[i] += __shfl_xor_sync(FULL, sum.v[i], bits);
    }
}

static __device__ __forceinline__ int64_t
entries_of(const terms &all, int64_t row)
{
    int64_t entries = 0;
    for (int t = 0; t < all.n; t++)
        entries += begin_of(all.s[t], row + 1) - begin_of(all.s[t], row);
    return entries;
}

template <int N>
static __global__ void
__launch_bounds__(THREADS) aggregate_rows(const __grid_constant__ terms all, int64_t rows, int64_t cols, int lanes,
                                          bool skip_long, bool add, float *__restrict__ out)
{
    int part = LANE / lanes;
    int parts = WARP / lanes;
    FOR_WARPS(row, rows)
    {
        if (skip_long && entries_of(all, row) > LONG)
            continue;
        for (int64_t first = 0; first < cols; first += lanes * N)
        {
            int64_t j = first + LANE % lanes * N;
            numbers<N> total = {};
            for (int t = 0; t < all.n; t++)
            {
                const moe_sparse &s = all.s[t];
                int64_t from = begin_of(s, row);
                int64_t to = begin_of(s, row + 1);
                numbers<N> sum = {};
                if (j < cols)
                    sum = sum_entries<N>(s, all.x[t], cols, from + part, to, parts, j);
                fold_parts(sum, lanes);
                add_scaled(total, mean_factor(s, to - from), sum);
            }
            if (part == 0 && j < cols)
                store<N>(out + row * cols + j, add, total);
        }
    }
}

/* The long row of a block: each warp sums its share of entries as above, then the warps' sums are added in order. */
template <int N>
static __device__ __forceinline__ void
aggregate_long_row(const terms &all, int64_t row, int64_t cols, int lanes, bool add, float *out,
                   numbers<N> (&shares)[WARPS][WARP])
{
    int warp = threadIdx.x / WARP;
    int part = warp * (WARP / lanes) + LANE / lanes;
    int parts = WARPS * (WARP / lanes);
    for (int64_t first = 0; first < cols; first += lanes * N)
    {
        int64_t j = first + LANE % lanes * N;
        numbers<N> total = {};
        for (int t = 0; t < all.n; t++)
        {
            const moe_sparse &s = all.s[t];
            int64_t from = begin_of(s, row);
            int64_t to = begin_of(s, row + 1);
            numbers<N> sum = {};
            if (j < cols)
                sum = sum_entries<N>(s, all.x[t], cols, from + part, to, parts, j);
            fold_parts(sum, lanes);
            add_scaled(total, mean_factor(s, to - from), sum);
        }
        shares[warp][LANE] = total;
        __syncthreads();
        if (warp == 0 && LANE < lanes && j < cols)
        {
            for (int w = 1; w < WARPS; w++)
                add_scaled(total, 1, shares[w][LANE]);
            store<N>(out + row * cols + j, add, total);
        }
        __syncthreads();
    }
}

template <int N>
static __global__ void
__launch_bounds__(THREADS, 4) aggregate_long_rows(const __grid_constant__ terms all, int64_t rows, int64_t cols,
                                                  int lanes, bool add, float *__restrict__ out)
{
    MOE_SHARED(bool, [THREADS], is_long);
    MOE_SHARED(numbers<N>, [WARPS][WARP], shares);
    for (int64_t first = (int64_t) blockIdx.x * THREADS; first < rows; first += (int64_t) gridDim.x * THREADS)
    {
        int64_t row = first + threadIdx.x;
        is_long[threadIdx.x] = row < rows && entries_of(all, row) > LONG;
        __syncthreads();
        for (int r = 0; r < THREADS; r++)
        {
            if (is_long[r])
                aggregate_long_row<N>(all, first + r, cols, lanes, add, out, shares);
        }
        __syncthreads();
    }
}

template <int N>
static void
run_aggregate(moe_cuda *device, const terms &all, int64_t entries, int64_t cols, bool add, float *out)
{
    int64_t rows = all.s[0].rows;
    int lanes = lanes_for(ceil_div(cols, N));
    bool some_long = entries > LONG;
    if (MOE_LAUNCH(device, (aggregate_rows<N>), warp_blocks(device, rows), THREADS, all, rows, cols, lanes, some_long,
                   add, out) &&
        some_long)
        MOE_LAUNCH(device, (aggregate_long_rows<N>), thread_blocks(device, rows), THREADS, all, rows, cols, lanes, add,
                   out);
}

/* More terms than fit one launch are added to the sum of those before. */
void
moe_cuda_aggregate_types(moe_job *job, int count, const moe_sparse *s, const float *const *x, int64_t cols, bool add,
                         float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || s[0].rows == 0 || cols == 0)
        return;
    for (int begin = 0; begin < count; begin += MOST_TERMS)
    {
        terms all;
        int64_t entries = 0;
        bool fours = in_fours(cols, out);
        all.n = count - begin < MOST_TERMS ? count - begin : MOST_TERMS;
        for (int t = 0; t < all.n; t++)
        {
            all.s[t] = s[begin + t];
            all.x[t] = x[begin + t];
            entries += all.s[t].entries;
            fours = fours && in_fours(cols, all.x[t]);
        }
        if (fours)
            run_aggregate<4>(device, all, entries, cols, add || begin > 0, out);
        else
            run_aggregate<1>(device, all, entries, cols, add || begin > 0, out);
    }
}

void
moe_cuda_aggregate(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out)
{
    moe_cuda_aggregate_types(job, 1, s, &x, cols, add, out);
}

#define PARTS 4 /* sums made in one pass over a row's entries */

template <int N>
static __global__ void
__launch_bounds__(THREADS) aggregate_row_parts(moe_sparse s, int parts, int64_t cols, int lanes,
                                               const float *__restrict__ x, float *__restrict__ out)
{
    int share = LANE / lanes;
    int shares = WARP / lanes;
    int64_t passes = (parts + PARTS - 1) / PARTS;
    FOR_WARPS(item, s.rows * passes)
    {
        int64_t row = item / passes;
        int first_part = (int) (item % passes) * PARTS;
        int64_t from = begin_of(s, row);
        int64_t to = begin_of(s, row + 1);
        for (int64_t first = 0; first < cols; first += lanes * N)
        {
            int64_t j = first + LANE % lanes * N;
            numbers<N> sum[PARTS] = {};
            for (int64_t k = from + share; j < cols && k < to; k += shares)
            {
                int64_t source = s.index[k];
                if (source < 0)
                    continue;
                numbers<N> value = load<N>(x + source * cols + j);
#pragma unroll
                for (int p = 0; p < PARTS; p++)
                {
                    if (first_part + p < parts)
                        add_scaled(sum[p], s.weight == NULL ? 1 : s.weight[k * parts + first_part + p], value);
                }
            }
            float factor = mean_factor(s, to - from);
#pragma unroll
            for (int p = 0; p < PARTS; p++)
            {
                numbers<N> total = {};
                fold_parts(sum[p], lanes);
                add_scaled(total, factor, sum[p]);
                if (share == 0 && j < cols && first_part + p < parts)
                    store<N>(out + (row * parts + first_part + p) * cols + j, false, total);
            }
        }
    }
}

void
moe_cuda_aggregate_parts(moe_job *job, const moe_sparse *s, int parts, int64_t cols, const float *x, float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || s->rows == 0 || cols == 0 || parts == 0)
        return;
    int64_t items = s->rows * ceil_div(parts, PARTS);
    if (in_fours(cols, x) && in_fours(cols, out))
        MOE_LAUNCH(device, (aggregate_row_parts<4>), warp_blocks(device, items), THREADS, *s, parts, cols,
                   lanes_for(cols / 4), x, out);
    else
        MOE_LAUNCH(device, (aggregate_row_parts<1>), warp_blocks(device, items), THREADS, *s, parts, cols,
                   lanes_for(cols), x, out);
}

typedef struct row_terms
{
    int n;
    const float *x[MOST_TERMS];
    const int32_t *index[MOST_TERMS]; /* NULL: row i */
} row_terms;

/* A thread one number, or four, of a row. */
template <int N>
static __global__ void
add_gathered(const __grid_constant__ row_terms all, int64_t n, int64_t cols, bool add, float *__restrict__ out)
{
    int64_t width = cols / N;
    FOR_THREADS(item, n * width)
    {
        int64_t i = item / width;
        int64_t j = item % width * N;
        numbers<N> total = {};
        for (int t = 0; t < all.n; t++)
        {
            int64_t row = all.index[t] == NULL ? i : all.index[t][i];
            if (row >= 0)
                add_scaled(total, 1, load<N>(all.x[t] + row * cols + j));
        }
        store<N>(out + i * cols + j, add, total);
    }
}

static void
run_gathered(moe_cuda *device, const row_terms &all, int64_t n, int64_t cols, bool add, float *out)
{
    bool fours = in_fours(cols, out);
    for (int t = 0; t < all.n; t++)
        fours = fours && in_fours(cols, all.x[t]);
    if (fours)
        MOE_LAUNCH(device, (add_gathered<4>), thread_blocks(device, n * (cols / 4)), THREADS, all, n, cols, add, out);
    else
        MOE_LAUNCH(device, (add_gathered<1>), thread_blocks(device, n * cols), THREADS, all, n, cols, add, out);
}

void
moe_cuda_gather(moe_job *job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    row_terms one = {1, {x}, {index}};
    if (device != NULL && n > 0 && cols > 0)
        run_gathered(device, one, n, cols, add, out);
}

void
moe_cuda_sum_rows(moe_job *job, int64_t n, int64_t cols, int count, const float *const *x, const int32_t *const *index,
                  float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || n == 0 || cols == 0)
        return;
    for (int begin = 0; begin < count; begin += MOST_TERMS)
    {
        row_terms all;
        all.n = count - begin < MOST_TERMS ? count - begin : MOST_TERMS;
        for (int t = 0; t < all.n; t++)
        {
            all.x[t] = x[begin + t];
            all.index[t] = index[begin + t];
        }
        run_gathered(device, all, n, cols, begin > 0, out);
    }
}

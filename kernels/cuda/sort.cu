/*
 * sort.cu: entries sorted by key, stably: a radix sort of eight bits at a time, lowest first.
 *
 * A pass counts the digits of each tile of entries, scans the counts in the
 * order (digit, tile), and moves every entry to its place: in a tile, rounds of
 * a block's width go in order; within a round a thread's place among those of
 * its digit follows from the lanes before it in its warp and the warps before
 * its own. The result is the one stable order whatever runs when.
 */
#include "kernels/cuda/cuda.cuh"

#define DIGITS THREADS /* so that a thread has a digit */
#define BITS   8
#define ROUNDS 8 /* of a tile */
#define TILE   (ROUNDS * THREADS)
#define RUN    4 /* numbers a thread scans */

/* An entry of key -1 sorts after all others. */
static __device__ __forceinline__ uint32_t
sort_key(int32_t key, uint32_t keys)
{
    return key < 0 ? keys : (uint32_t) key;
}

static __global__ void
count_digits(int64_t n, const int32_t *__restrict__ key, uint32_t keys, int shift, int32_t *__restrict__ counts)
{
    MOE_SHARED(int, [DIGITS], count);
    count[threadIdx.x] = 0;
    __syncthreads();
    for (int round = 0; round < ROUNDS; round++)
    {
        int64_t i = (int64_t) blockIdx.x * TILE + round * THREADS + threadIdx.x;
        if (i < n)
            atomicAdd(&count[(sort_key(key[i], keys) >> shift) % DIGITS], 1);
    }
    __syncthreads();
    counts[(int64_t) threadIdx.x * gridDim.x + blockIdx.x] = count[threadIdx.x];
}

/* The sum of the values of the threads before this one; *total is that of all. */
static __device__ __forceinline__ int
scan_block(int value, int *shared, int *total)
{
    int sum = value;
    for (int distance = 1; distance < WARP; distance *= 2)
    {
        int other = __shfl_up_sync(FULL, sum, distance);
        sum += LANE >= distance ? other : 0;
    }
    if (LANE == WARP - 1)
        shared[threadIdx.x / WARP] = sum;
    __syncthreads();
    int before = 0;
    *total = 0;
    for (int w = 0; w < WARPS; w++)
    {
        before += w < (int) (threadIdx.x / WARP) ? shared[w] : 0;
        *total += shared[w];
    }
    __syncthreads();
    return before + sum - value;
}

/* Scan each tile of THREADS * RUN numbers in place; sums receives the tiles' totals. */
static __global__ void
scan_tiles(int64_t n, int32_t *__restrict__ numbers, int32_t *__restrict__ sums)
{
    MOE_SHARED(int, [WARPS], shared);
    int64_t first = ((int64_t) blockIdx.x * THREADS + threadIdx.x) * RUN;
    int value[RUN];
    int own = 0;
    int total;
#pragma unroll
    for (int i = 0; i < RUN; i++)
    {
        value[i] = first + i < n ? numbers[first + i] : 0;
        own += value[i];
    }
    int before = scan_block(own, &shared[0], &total);
#pragma unroll
    for (int i = 0; i < RUN; i++)
    {
        if (first + i < n)
            numbers[first + i] = before;
        before += value[i];
    }
    if (threadIdx.x == 0)
        sums[blockIdx.x] = total;
}

/* One block scans n numbers in place. */
static __global__ void
scan_sums(int64_t n, int32_t *numbers)
{
    MOE_SHARED(int, [WARPS], shared);
    int carried = 0;
    for (int64_t first = 0; first < n; first += THREADS)
    {
        int64_t i = first + threadIdx.x;
        int total;
        int before = scan_block(i < n ? numbers[i] : 0, &shared[0], &total);
        if (i < n)
            numbers[i] = carried + before;
        carried += total;
    }
}

/* entry NULL: entries are numbered by their place, which is so in the first pass. key_out NULL: not wanted. */
static __global__ void
move_entries(int64_t n, const int32_t *__restrict__ key, const int32_t *__restrict__ entry, uint32_t keys, int shift,
             const int32_t *__restrict__ counts, const int32_t *__restrict__ sums, int32_t *__restrict__ key_out,
             int32_t *__restrict__ entry_out)
{
    MOE_SHARED(int, [DIGITS], next);
    MOE_SHARED(int, [WARPS][DIGITS], place);
    int warp = threadIdx.x / WARP;
    int64_t own = (int64_t) threadIdx.x * gridDim.x + blockIdx.x;
    next[threadIdx.x] = counts[own] + sums[own / (THREADS * RUN)];
    for (int round = 0; round < ROUNDS; round++)
    {
        int64_t i = (int64_t) blockIdx.x * TILE + round * THREADS + threadIdx.x;
        uint32_t value = i < n ? sort_key(key[i], keys) : 0;
        uint32_t digit = i < n ? (value >> shift) % DIGITS : DIGITS; /* that of no entry */
        uint32_t same = __match_any_sync(FULL, digit);
        int before = __popc(same & ((1u << LANE) - 1));
        for (int w = 0; w < WARPS; w++)
            place[w][threadIdx.x] = 0;
        __syncthreads();
        if (before == 0 && i < n)
            place[warp][digit] = __popc(same);
        __syncthreads();
        int sum = next[threadIdx.x];
        for (int w = 0; w < WARPS; w++)
        {
            int count = place[w][threadIdx.x];
            place[w][threadIdx.x] = sum;
            sum += count;
        }
        next[threadIdx.x] = sum;
        __syncthreads();
        if (i < n)
        {
            int to = place[warp][digit] + before;
            key_out[to] = (int32_t) value;
            entry_out[to] = entry == NULL ? (int32_t) i : entry[i];
        }
        __syncthreads();
    }
}

static __global__ void
find_offsets(int64_t n, const int32_t *__restrict__ key, int64_t keys, int64_t scale, int64_t *__restrict__ offset)
{
    FOR_THREADS(c, keys + 1)
    offset[c] = first_not_below(key, n, c) * scale;
}

/* Digits that the keys 0 ... keys have. */
static int
passes_for(int64_t keys)
{
    int passes = 1;
    while (passes < 4 && keys >> (passes * BITS) > 0)
        passes++;
    return passes;
}

static bool
run_pass(moe_cuda *device, int64_t n, const int32_t *key, const int32_t *entry, int64_t keys, int shift,
         int32_t *counts, int32_t *sums, int32_t *key_out, int32_t *entry_out)
{
    int64_t tiles = ceil_div(n, TILE);
    int64_t scans = ceil_div(tiles * DIGITS, THREADS * RUN);
    dim3 blocks((unsigned int) tiles);
    return MOE_LAUNCH(device, count_digits, blocks, THREADS, n, key, (uint32_t) keys, shift, counts) &&
           MOE_LAUNCH(device, scan_tiles, dim3((unsigned int) scans), THREADS, tiles * DIGITS, counts, sums) &&
           MOE_LAUNCH(device, scan_sums, 1, THREADS, scans, sums) &&
           MOE_LAUNCH(device, move_entries, blocks, THREADS, n, key, entry, (uint32_t) keys, shift, counts, sums,
                      key_out, entry_out);
}

bool
moe_cuda_sort(moe_cuda *device, int64_t n, const int32_t *key, int64_t keys, int32_t *sorted, int64_t *offset,
              int64_t scale)
{
    if (n > INT32_MAX || keys > INT32_MAX)
    {
        moe_cuda_host->fail(device->job, MOE_INVALID, "too many entries to sort: %lld by %lld keys", (long long) n,
                            (long long) keys);
        return false;
    }
    int64_t tiles = ceil_div(n, TILE);
    moe_scratch<int32_t> key_a(device, n), key_b(device, n), other(device, n);
    moe_scratch<int32_t> counts(device, tiles * DIGITS), sums(device, ceil_div(tiles * DIGITS, THREADS * RUN));
    if (n > 0 &&
        (key_a.data == NULL || key_b.data == NULL || other.data == NULL || counts.data == NULL || sums.data == NULL))
        return false;
    int passes = passes_for(keys);
    const int32_t *entry = NULL;
    for (int pass = 0; n > 0 && pass < passes; pass++)
    {
        int32_t *key_out = pass % 2 == 0 ? key_a.data : key_b.data;
        int32_t *entry_out = (passes - pass) % 2 == 1 ? sorted : other.data; /* the last pass ends in `sorted` */
        if (!run_pass(device, n, key, entry, keys, pass * BITS, counts.data, sums.data, key_out, entry_out))
            return false;
        key = key_out;
        entry = entry_out;
    }
    return MOE_LAUNCH(device, find_offsets, thread_blocks(device, keys + 1), THREADS, n, key, keys, scale, offset);
}

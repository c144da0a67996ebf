/*
 * mixture.cu: gates, the k largest of each row, and the choices sorted by group.
 *
 * A warp a row finds the k largest one after another: each round takes the
 * first, in the order (larger, then lower column, NaN last), of those that
 * come after the one before. After k rounds a number is chosen if it does
 * not come after the last. k is small and rows are short.
 */
#include "kernels/cuda/cuda.cuh"

typedef struct candidate
{
    float value;
    int column; /* -1: none */
} candidate;

static __device__ __forceinline__ bool
comes_before(const candidate &a, const candidate &b)
{
    if (a.column < 0 || b.column < 0)
        return b.column < 0 && a.column >= 0;
    if (isnan(a.value) || isnan(b.value))
        return isnan(a.value) == isnan(b.value) ? a.column < b.column : isnan(b.value);
    return a.value > b.value || (a.value == b.value && a.column < b.column);
}

/* The first of a row after `last` (of column -1: of all), on every lane. */
static __device__ __forceinline__ candidate
next_largest(const float *__restrict__ row, int64_t cols, const candidate &last)
{
    candidate best = {0, -1};
    for (int64_t j = LANE; j < cols; j += WARP)
    {
        candidate one = {row[j], (int) j};
        if ((last.column < 0 || comes_before(last, one)) && comes_before(one, best))
            best = one;
    }
    for (int bits = WARP / 2; bits > 0; bits /= 2)
    {
        candidate other;
        other.value = __shfl_xor_sync(FULL, best.value, bits);
        other.column = __shfl_xor_sync(FULL, best.column, bits);
        if (comes_before(other, best))
            best = other;
    }
    return best;
}

/* moe_random_normal of random.c, for the device. */
static __device__ double
normal_draw(uint64_t key, uint64_t counter)
{
    double radius = sqrt(-2.0 * log(1.0 - moe_random_uniform(key, 2 * counter)));
    return radius * cos(2.0 * 3.14159265358979323846 * moe_random_uniform(key, 2 * counter + 1));
}

static __global__ void
add_noise(int64_t count, float noise, uint64_t key, const float *__restrict__ x, float *__restrict__ out)
{
    FOR_THREADS(i, count)
    out[i] = x[i] + noise * (float) normal_draw(key, (uint64_t) i);
}

static __global__ void
gate_rows(int64_t rows, int64_t experts, int k, const float *__restrict__ score, float *__restrict__ gates)
{
    FOR_WARPS(i, rows)
    {
        const float *row = score + i * experts;
        candidate last = {0, -1};
        float high = 0;
        float total = 0;
        for (int n = 0; n < k; n++)
        {
            last = next_largest(row, experts, last);
            high = n == 0 ? last.value : high;
            total += expf(last.value - high);
        }
        for (int64_t e = LANE; e < experts; e += WARP)
        {
            candidate own = {row[e], (int) e};
            gates[i * experts + e] = comes_before(last, own) ? 0 : expf(own.value - high) / total;
        }
    }
}

void
moe_cuda_top_k_gate(moe_job *job, int64_t rows, int64_t experts, int k, float noise, uint64_t key, const float *logits,
                    float *gates)
{
    moe_cuda *device = moe_cuda_of(job);
    int64_t count = rows * experts;
    if (device == NULL || count == 0)
        return;
    moe_scratch<float> score(device, noise > 0 ? count : 0);
    if (noise > 0 && (score.data == NULL || !MOE_LAUNCH(device, add_noise, thread_blocks(device, count), THREADS, count,
                                                        noise, key, logits, score.data)))
        return;
    MOE_LAUNCH(device, gate_rows, warp_blocks(device, rows), THREADS, rows, experts, k, noise > 0 ? score.data : logits,
               gates);
}

static __global__ void
choose_columns(int64_t rows, int64_t cols, int k, const float *__restrict__ x, int32_t *__restrict__ chosen)
{
    FOR_WARPS(i, rows)
    {
        const float *row = x + i * cols;
        candidate last = {0, -1};
        for (int n = 0; n < k; n++)
            last = next_largest(row, cols, last);
        int32_t *next = chosen + i * k;
        for (int64_t first = 0; first < cols; first += WARP)
        {
            int64_t j = first + LANE;
            bool own = j < cols && !comes_before(last, candidate{row[j], (int) j});
            unsigned int all = __ballot_sync(FULL, own);
            if (own)
                next[__popc(all & ((1u << LANE) - 1))] = (int32_t) j;
            next += __popc(all);
        }
    }
}

void
moe_cuda_top_k(moe_job *job, int64_t rows, int64_t cols, int k, const float *x, int32_t *chosen)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows > 0 && k > 0)
        MOE_LAUNCH(device, choose_columns, warp_blocks(device, rows), THREADS, rows, cols, k, x, chosen);
}

static __global__ void
pick_numbers(int64_t count, int64_t cols, int k, const int32_t *__restrict__ chosen, const float *__restrict__ x,
             float *__restrict__ out)
{
    FOR_THREADS(i, count)
    out[i] = x[i / k * cols + chosen[i]];
}

void
moe_cuda_pick(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *x, float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows * k > 0)
        MOE_LAUNCH(device, pick_numbers, thread_blocks(device, rows * k), THREADS, rows * k, cols, k, chosen, x, out);
}

static __global__ void
pick_back(int64_t count, int64_t cols, int k, const int32_t *__restrict__ chosen, const float *__restrict__ gy,
          bool add, float *__restrict__ gx)
{
    FOR_THREADS(item, count)
    {
        int64_t row = item / cols;
        float total = 0;
        for (int64_t p = row * k; p < (row + 1) * k; p++)
            total += chosen[p] == item % cols ? gy[p] : 0;
        put(&gx[item], add, total);
    }
}

void
moe_cuda_pick_backward(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *gy,
                       bool add, float *gx)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows * cols > 0)
        MOE_LAUNCH(device, pick_back, thread_blocks(device, rows * cols), THREADS, rows * cols, cols, k, chosen, gy,
                   add, gx);
}

static __global__ void
place_choices(int64_t n, int k, const int32_t *__restrict__ sorted, int32_t *__restrict__ row,
              int32_t *__restrict__ place)
{
    FOR_THREADS(p, n)
    {
        row[p] = sorted[p] / k;
        place[sorted[p]] = (int32_t) p;
    }
}

void
moe_cuda_group(moe_job *job, int64_t rows, int k, int groups, const int32_t *chosen, int64_t *offset, int32_t *row,
               int32_t *place)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL)
        return;
    int64_t n = rows * k;
    moe_scratch<int32_t> sorted(device, n);
    if ((sorted.data == NULL && n > 0) || !moe_cuda_sort(device, n, chosen, groups, sorted.data, offset, 1))
        return;
    if (n > 0)
        MOE_LAUNCH(device, place_choices, thread_blocks(device, n), THREADS, n, k, sorted.data, row, place);
}

/*
 * reduce.cu: sums over rows, over columns and over all, and Adam, which needs one.
 *
 * A sum over many rows is made in chunks whose number depends on the shape
 * alone; a second kernel adds the chunks' results in their order.
 */
#include "kernels/cuda/cuda.cuh"

#define COLUMN_CHUNKS  256 /* at most, of a column sum */
#define LEAST_ROWS     64  /* of a chunk */
#define SQUARE_CHUNKS  512
#define LEAST_SQUARES  4096
#define COLUMN_LANES   32 /* columns side by side in a block */
#define COLUMN_STRANDS (THREADS / COLUMN_LANES)

/* A block sums a chunk of rows of 32 columns: eight strands of every eighth row, then the strands in order. */
static __global__ void
sum_chunks(int64_t rows, int64_t cols, int64_t each, const float *__restrict__ x, float *__restrict__ partial)
{
    MOE_SHARED(float, [COLUMN_STRANDS][COLUMN_LANES], strands);
    int lane = threadIdx.x % COLUMN_LANES;
    int strand = threadIdx.x / COLUMN_LANES;
    int64_t chunk = blockIdx.y;
    int64_t end = (chunk + 1) * each < rows ? (chunk + 1) * each : rows;
    for (int64_t tile = blockIdx.x; tile * COLUMN_LANES < cols; tile += gridDim.x)
    {
        int64_t j = tile * COLUMN_LANES + lane;
        float total = 0;
        for (int64_t i = chunk * each + strand; j < cols && i < end; i += COLUMN_STRANDS)
            total += x[i * cols + j];
        strands[strand][lane] = total;
        __syncthreads();
        if (strand == 0 && j < cols)
        {
            for (int s = 1; s < COLUMN_STRANDS; s++)
                total += strands[s][lane];
            partial[chunk * cols + j] = total;
        }
        __syncthreads();
    }
}

static __global__ void
fold_columns(int64_t chunks, int64_t cols, const float *__restrict__ partial, bool add, float *__restrict__ out)
{
    FOR_THREADS(j, cols)
    {
        float total = 0;
        for (int64_t c = 0; c < chunks; c++)
            total += partial[c * cols + j];
        put(&out[j], add, total);
    }
}

bool
moe_cuda_fold_columns(moe_cuda *device, int64_t chunks, int64_t cols, const float *partial, bool add, float *out)
{
    return MOE_LAUNCH(device, fold_columns, thread_blocks(device, cols), THREADS, chunks, cols, partial, add, out);
}

void
moe_cuda_column_sum(moe_job *job, int64_t rows, int64_t cols, const float *x, float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || rows == 0 || cols == 0)
        return;
    int64_t each = ceil_div(rows, COLUMN_CHUNKS);
    each = each < LEAST_ROWS ? LEAST_ROWS : each;
    int64_t chunks = ceil_div(rows, each);
    moe_scratch<float> partial(device, chunks * cols);
    int64_t tiles = ceil_div(cols, COLUMN_LANES);
    dim3 blocks((unsigned int) (tiles < 1024 ? tiles : 1024), (unsigned int) chunks);
    if (partial.data != NULL && MOE_LAUNCH(device, sum_chunks, blocks, THREADS, rows, cols, each, x, partial.data))
        moe_cuda_fold_columns(device, chunks, cols, partial.data, true, out);
}

static __global__ void
dot_rows(int64_t rows, int64_t cols, const float *__restrict__ a, const float *__restrict__ b, bool add,
         float *__restrict__ out)
{
    FOR_WARPS(i, rows)
    {
        float total = 0;
        for (int64_t j = LANE; j < cols; j += WARP)
            total += a[i * cols + j] * b[i * cols + j];
        total = warp_sum(total);
        if (LANE == 0)
            put(&out[i], add, total);
    }
}

void
moe_cuda_row_dot(moe_job *job, int64_t rows, int64_t cols, const float *a, const float *b, bool add, float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows > 0)
        MOE_LAUNCH(device, dot_rows, warp_blocks(device, rows), THREADS, rows, cols, a, b, add, out);
}

static __global__ void
square_chunks(int64_t count, int64_t each, const float *__restrict__ x, double *__restrict__ partial)
{
    MOE_SHARED(double, [WARPS], shared);
    int64_t begin = blockIdx.x * each;
    int64_t end = begin + each < count ? begin + each : count;
    double total = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += THREADS)
        total += (double) x[i] * x[i];
    total = block_sum(total, &shared[0]);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = total;
}

/* One block adds n numbers, each thread every 256th in order. */
template <typename T>
static __global__ void
fold_numbers(int64_t n, const double *__restrict__ partial, T *__restrict__ out)
{
    MOE_SHARED(double, [WARPS], shared);
    double total = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        total += partial[i];
    total = block_sum(total, &shared[0]);
    if (threadIdx.x == 0)
        *out = (T) total;
}

bool
moe_cuda_fold(moe_cuda *device, int64_t n, const double *partial, float *out)
{
    return MOE_LAUNCH(device, (fold_numbers<float>), 1, THREADS, n, partial, out);
}

void
moe_cuda_square_sum(moe_job *job, int64_t count, const float *x, double *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL)
        return;
    int64_t each = ceil_div(count, SQUARE_CHUNKS);
    each = each < LEAST_SQUARES ? LEAST_SQUARES : each;
    int64_t chunks = ceil_div(count, each);
    moe_scratch<double> partial(device, chunks);
    if (chunks > 0 && (partial.data == NULL || !MOE_LAUNCH(device, square_chunks, dim3((unsigned int) chunks), THREADS,
                                                           count, each, x, partial.data)))
        return;
    MOE_LAUNCH(device, (fold_numbers<double>), 1, THREADS, chunks, partial.data, out);
}

/* The formula is adam.c's. The norm lies on the device, so that each thread works the clipping out. */
static __global__ void
step_weights(int64_t count, moe_adam_rates rates, const double *__restrict__ square_sum, float *__restrict__ value,
             float *__restrict__ gradient, float *__restrict__ moment1, float *__restrict__ moment2)
{
    double norm = sqrt(*square_sum);
    bool finite = isfinite(norm);
    float clip = rates.clip_norm > 0 && norm > rates.clip_norm ? (float) (rates.clip_norm / norm) : 1.0f;
    FOR_THREADS(i, count)
    {
        float g = gradient[i] * clip;
        gradient[i] = 0;
        if (!finite)
            continue;
        float first = rates.beta1 * moment1[i] + (1 - rates.beta1) * g;
        float second = rates.beta2 * moment2[i] + (1 - rates.beta2) * g * g;
        moment1[i] = first;
        moment2[i] = second;
        value[i] = rates.shrink * value[i] - rates.rate * first / (sqrtf(second * rates.correction) + rates.epsilon);
    }
}

void
moe_cuda_adam(moe_job *job, int64_t count, const moe_adam_rates *rates, const double *square_sum, float *value,
              float *gradient, float *moment1, float *moment2)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && count > 0)
        MOE_LAUNCH(device, step_weights, thread_blocks(device, count), THREADS, count, *rates, square_sum, value,
                   gradient, moment1, moment2);
}

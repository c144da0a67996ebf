/*
 * rows.cu: normalisation and softmax, a warp a row.
 *
 * A row's numbers are read again for each pass over it: rows are short and stay
 * in the first-level cache. The gradients of gain and bias are sums over rows,
 * made in chunks of rows whose number depends on the shape alone (reduce.cu).
 * ReLU and dropout are fused in: what is normalised is written once.
 */
#include "kernels/cuda/cuda.cuh"

#define EPSILON     1e-5f
#define GAIN_CHUNKS 256 /* at most */
#define LEAST_ROWS  64  /* of a chunk */
#define LANES       32  /* columns side by side in a block */
#define STRANDS     (THREADS / LANES)

/* What follows the normalisation: nothing, or ReLU and dropout. */
typedef struct after
{
    bool relu;
    uint32_t dropped; /* draws that drop; 0: no dropout */
    float factor;
    uint64_t key;
} after;

static __device__ __forceinline__ float
apply(const after &then, int64_t place, float value)
{
    if (!then.relu)
        return value;
    value = value <= 0 ? 0 : value * then.factor;
    return then.dropped > 0 && moe_random_draw(then.key, (uint64_t) place) < then.dropped ? 0 : value;
}

static __global__ void
normalise(int64_t rows, int64_t cols, const float *__restrict__ x, const float *__restrict__ gain,
          const float *__restrict__ bias, after then, float *__restrict__ y, float *__restrict__ mean,
          float *__restrict__ deviation)
{
    FOR_WARPS(i, rows)
    {
        const float *row = x + i * cols;
        float center = 0;
        float variance = 0;
        for (int64_t j = LANE; j < cols; j += WARP)
            center += row[j];
        center = warp_sum(center) / (float) cols;
        for (int64_t j = LANE; j < cols; j += WARP)
            variance += (row[j] - center) * (row[j] - center);
        float inverse = 1 / sqrtf(warp_sum(variance) / (float) cols + EPSILON);
        for (int64_t j = LANE; j < cols; j += WARP)
            y[i * cols + j] = apply(then, i * cols + j, (row[j] - center) * inverse * gain[j] + bias[j]);
        if (LANE == 0)
        {
            mean[i] = center;
            deviation[i] = inverse;
        }
    }
}

static void
run_normalise(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
              const after &then, float *y, float *mean, float *deviation)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows > 0 && cols > 0)
        MOE_LAUNCH(device, normalise, warp_blocks(device, rows), THREADS, rows, cols, x, gain, bias, then, y, mean,
                   deviation);
}

void
moe_cuda_layer_norm(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                    float *y, float *mean, float *deviation)
{
    run_normalise(job, rows, cols, x, gain, bias, after{false, 0, 1, 0}, y, mean, deviation);
}

void
moe_cuda_layer_norm_relu(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                         float rate, uint64_t key, float *y, float *mean, float *deviation)
{
    after then = {true, rate > 0 ? moe_dropped_draws(rate) : 0, rate > 0 ? moe_dropout_factor(rate) : 1, key};
    run_normalise(job, rows, cols, x, gain, bias, then, y, mean, deviation);
}

/* The gradient that arrives at the normalisation; y is NULL where nothing follows it. */
static __device__ __forceinline__ float
arriving(const float *y, float factor, const float *gy, int64_t place)
{
    return y == NULL ? gy[place] : y[place] > 0 ? factor * gy[place] : 0;
}

/* Each lane reads of gy what it writes to gx, after the last pass that sums: gx may be gy. */
static __global__ void
normalise_back(int64_t rows, int64_t cols, const float *x, const float *gain, const float *mean, const float *deviation,
               const float *y, float factor, const float *gy, bool add, float *gx)
{
    FOR_WARPS(i, rows)
    {
        float sum_g = 0;
        float sum_gh = 0;
        for (int64_t j = LANE; j < cols; j += WARP)
        {
            float g = arriving(y, factor, gy, i * cols + j) * gain[j];
            sum_g += g;
            sum_gh += g * ((x[i * cols + j] - mean[i]) * deviation[i]);
        }
        float mean_g = warp_sum(sum_g) / (float) cols;
        float mean_gh = warp_sum(sum_gh) / (float) cols;
        for (int64_t j = LANE; j < cols; j += WARP)
        {
            float g = arriving(y, factor, gy, i * cols + j) * gain[j];
            float h = (x[i * cols + j] - mean[i]) * deviation[i];
            put(&gx[i * cols + j], add, deviation[i] * (g - mean_g - h * mean_gh));
        }
    }
}

/* A block sums a chunk of rows of 32 columns, for the gain and for the bias, in eight strands. */
static __global__ void
gain_chunks(int64_t rows, int64_t cols, int64_t each, const float *__restrict__ x, const float *__restrict__ mean,
            const float *__restrict__ deviation, const float *__restrict__ y, float factor,
            const float *__restrict__ gy, float *__restrict__ gains, float *__restrict__ biases)
{
    MOE_SHARED(float, [2][STRANDS][LANES], strands);
    int lane = threadIdx.x % LANES;
    int strand = threadIdx.x / LANES;
    int64_t chunk = blockIdx.y;
    int64_t end = (chunk + 1) * each < rows ? (chunk + 1) * each : rows;
    for (int64_t tile = blockIdx.x; tile * LANES < cols; tile += gridDim.x)
    {
        int64_t j = tile * LANES + lane;
        float gain = 0;
        float bias = 0;
        for (int64_t i = chunk * each + strand; j < cols && i < end; i += STRANDS)
        {
            float g = arriving(y, factor, gy, i * cols + j);
            gain += g * ((x[i * cols + j] - mean[i]) * deviation[i]);
            bias += g;
        }
        strands[0][strand][lane] = gain;
        strands[1][strand][lane] = bias;
        __syncthreads();
        if (strand == 0 && j < cols)
        {
            for (int s = 1; s < STRANDS; s++)
            {
                gain += strands[0][s][lane];
                bias += strands[1][s][lane];
            }
            gains[chunk * cols + j] = gain;
            biases[chunk * cols + j] = bias;
        }
        __syncthreads();
    }
}

/* Before gx is written, since that may be gy. */
static bool
sum_gains(moe_cuda *device, int64_t rows, int64_t cols, const float *x, const float *mean, const float *deviation,
          const float *y, float factor, const float *gy, float *ggain, float *gbias)
{
    int64_t each = ceil_div(rows, GAIN_CHUNKS);
    each = each < LEAST_ROWS ? LEAST_ROWS : each;
    int64_t chunks = ceil_div(rows, each);
    moe_scratch<float> partial(device, 2 * chunks * cols);
    int64_t tiles = ceil_div(cols, LANES);
    dim3 blocks((unsigned int) (tiles < 1024 ? tiles : 1024), (unsigned int) chunks);
    float *biases = partial.data + chunks * cols;
    return partial.data != NULL &&
           MOE_LAUNCH(device, gain_chunks, blocks, THREADS, rows, cols, each, x, mean, deviation, y, factor, gy,
                      partial.data, biases) &&
           (ggain == NULL || moe_cuda_fold_columns(device, chunks, cols, partial.data, true, ggain)) &&
           (gbias == NULL || moe_cuda_fold_columns(device, chunks, cols, biases, true, gbias));
}

void
moe_cuda_layer_norm_relu_backward(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                                  const float *mean, const float *deviation, const float *y, float factor,
                                  const float *gy, bool add, float *gx, float *ggain, float *gbias)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || rows == 0 || cols == 0)
        return;
    if ((ggain != NULL || gbias != NULL) &&
        !sum_gains(device, rows, cols, x, mean, deviation, y, factor, gy, ggain, gbias))
        return;
    if (gx != NULL)
        MOE_LAUNCH(device, normalise_back, warp_blocks(device, rows), THREADS, rows, cols, x, gain, mean, deviation, y,
                   factor, gy, add, gx);
}

void
moe_cuda_layer_norm_backward(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                             const float *mean, const float *deviation, const float *gy, bool add, float *gx,
                             float *ggain, float *gbias)
{
    moe_cuda_layer_norm_relu_backward(job, rows, cols, x, gain, mean, deviation, NULL, 1, gy, add, gx, ggain, gbias);
}

static __global__ void
softmax_rows(int64_t rows, int64_t cols, const float *__restrict__ x, float *__restrict__ y)
{
    FOR_WARPS(i, rows)
    {
        const float *row = x + i * cols;
        float high = -INFINITY;
        float total = 0;
        for (int64_t j = LANE; j < cols; j += WARP)
            high = fmaxf(high, row[j]);
        high = warp_max(high);
        for (int64_t j = LANE; j < cols; j += WARP)
            total += expf(row[j] - high);
        total = warp_sum(total);
        for (int64_t j = LANE; j < cols; j += WARP)
            y[i * cols + j] = expf(row[j] - high) / total;
    }
}

void
moe_cuda_softmax(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows > 0 && cols > 0)
        MOE_LAUNCH(device, softmax_rows, warp_blocks(device, rows), THREADS, rows, cols, x, y);
}

static __global__ void
softmax_rows_back(int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx)
{
    FOR_WARPS(i, rows)
    {
        float dot = 0;
        for (int64_t j = LANE; j < cols; j += WARP)
            dot += y[i * cols + j] * gy[i * cols + j];
        dot = warp_sum(dot);
        for (int64_t j = LANE; j < cols; j += WARP)
            put(&gx[i * cols + j], add, y[i * cols + j] * (gy[i * cols + j] - dot));
    }
}

void
moe_cuda_softmax_backward(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add,
                          float *gx)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows > 0 && cols > 0)
        MOE_LAUNCH(device, softmax_rows_back, warp_blocks(device, rows), THREADS, rows, cols, y, gy, add, gx);
}

#define MOST_STEPS 40
#define NO_STEP    1e-7f

/* max(x / 2 - t, 0); NaN stays NaN. */
static __device__ __forceinline__ float
above(float x, float high, float t)
{
    float d = (x - high) * 0.5f - t;
    return d <= 0 ? 0 : d;
}

/* Newton's steps for the threshold, as in kernels/cpu/entmax.c. */
static __global__ void
entmax_rows(int64_t rows, int64_t cols, const float *__restrict__ x, float *__restrict__ y)
{
    FOR_WARPS(i, rows)
    {
        const float *row = x + i * cols;
        float high = -INFINITY;
        float t = -1;
        for (int64_t j = LANE; j < cols; j += WARP)
            high = fmaxf(high, row[j]);
        high = warp_max(high);
        for (int step = 0; step < MOST_STEPS; step++)
        {
            float sum = 0;
            float squares = 0;
            for (int64_t j = LANE; j < cols; j += WARP)
            {
                float d = above(row[j], high, t);
                sum += d;
                squares += d * d;
            }
            float more = (warp_sum(squares) - 1) / (2 * warp_sum(sum));
            if (more <= NO_STEP)
                break;
            t += more;
        }
        for (int64_t j = LANE; j < cols; j += WARP)
        {
            float d = above(row[j], high, t);
            y[i * cols + j] = d * d;
        }
    }
}

void
moe_cuda_entmax(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows > 0 && cols > 0)
        MOE_LAUNCH(device, entmax_rows, warp_blocks(device, rows), THREADS, rows, cols, x, y);
}

static __global__ void
entmax_rows_back(int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx)
{
    FOR_WARPS(i, rows)
    {
        float sum = 0;
        float dot = 0;
        for (int64_t j = LANE; j < cols; j += WARP)
        {
            float root = sqrtf(y[i * cols + j]);
            sum += root;
            dot += root * gy[i * cols + j];
        }
        float mean = warp_sum(dot) / warp_sum(sum);
        for (int64_t j = LANE; j < cols; j += WARP)
            put(&gx[i * cols + j], add, sqrtf(y[i * cols + j]) * (gy[i * cols + j] - mean));
    }
}

void
moe_cuda_entmax_backward(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows > 0 && cols > 0)
        MOE_LAUNCH(device, entmax_rows_back, warp_blocks(device, rows), THREADS, rows, cols, y, gy, add, gx);
}

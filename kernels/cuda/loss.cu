/*
 * loss.cu: the losses and their derivatives, and the router's.
 *
 * Each row leaves its share of the value in double; one block then adds the
 * rows in a fixed order. Sums that every row's derivative needs (of the
 * weights, or the shares of the experts) stay on the device between kernels.
 */
#include "kernels/cuda/cuda.cuh"

/* *total = the sum of the weights, of all 1 where there are none. One block. */
static __global__ void
sum_weights(int64_t rows, const float *__restrict__ weight, double *__restrict__ total)
{
    MOE_SHARED(double, [WARPS], shared);
    double sum = 0;
    for (int64_t i = threadIdx.x; weight != NULL && i < rows; i += THREADS)
        sum += weight[i];
    sum = block_sum(sum, &shared[0]);
    if (threadIdx.x == 0)
        *total = weight == NULL ? (double) rows : sum;
}

static __device__ __forceinline__ double
share_of(const float *weight, double total, int64_t i)
{
    return total == 0 ? 0 : (weight == NULL ? 1 : weight[i]) / total;
}

static __global__ void
loss_rows(moe_loss_kind kind, int64_t rows, const float *__restrict__ x, const float *__restrict__ label,
          const float *__restrict__ weight, const double *__restrict__ total, double *__restrict__ values,
          float *__restrict__ gradient)
{
    FOR_THREADS(i, rows)
    {
        double w = share_of(weight, *total, i);
        double z = x[i];
        double d = z - label[i];
        double value = 0;
        double slope = 0;
        if (kind == MOE_LOSS_LOGISTIC)
        {
            value = log1p(exp(-fabs(z))) + fmax(z, 0.0) - z * label[i];
            slope = 1 / (1 + exp(-z)) - label[i];
        }
        else if (kind == MOE_LOSS_ABSOLUTE)
        {
            value = fabs(d);
            slope = (d > 0) - (d < 0);
        }
        else
        {
            value = d * d;
            slope = 2 * d;
        }
        values[i] = w * value;
        gradient[i] = (float) (w * slope);
    }
}

void
moe_cuda_loss(moe_job *job, moe_loss_kind kind, int64_t rows, const float *x, const float *label, const float *weight,
              float *value, float *gradient)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL)
        return;
    moe_scratch<double> total(device, 1), values(device, rows);
    if (total.data == NULL || (rows > 0 && values.data == NULL) ||
        !MOE_LAUNCH(device, sum_weights, 1, THREADS, rows, weight, total.data))
        return;
    if (rows > 0 && !MOE_LAUNCH(device, loss_rows, thread_blocks(device, rows), THREADS, kind, rows, x, label, weight,
                                total.data, values.data, gradient))
        return;
    moe_cuda_fold(device, rows, values.data, value);
}

/* Of a row, on every lane: its largest number, and the sum of exp of what the others lie below it. */
static __device__ __forceinline__ void
exp_sum(const float *__restrict__ row, int64_t cols, float *high, float *total)
{
    float largest = -INFINITY;
    float sum = 0;
    for (int64_t j = LANE; j < cols; j += WARP)
        largest = fmaxf(largest, row[j]);
    largest = warp_max(largest);
    for (int64_t j = LANE; j < cols; j += WARP)
        sum += expf(row[j] - largest);
    *high = largest;
    *total = warp_sum(sum);
}

static __global__ void
cross_entropy_rows(int64_t rows, int64_t classes, const float *__restrict__ logits, const int32_t *__restrict__ label,
                   const float *__restrict__ weight, const double *__restrict__ weights, double *__restrict__ values,
                   float *__restrict__ gradient)
{
    FOR_WARPS(i, rows)
    {
        const float *row = logits + i * classes;
        double w = share_of(weight, *weights, i);
        float high;
        float total;
        exp_sum(row, classes, &high, &total);
        for (int64_t c = LANE; c < classes; c += WARP)
            gradient[i * classes + c] = (float) (w * (expf(row[c] - high) / total - (c == label[i] ? 1 : 0)));
        if (LANE == 0)
            values[i] = w * ((double) high + log((double) total) - row[label[i]]);
    }
}

void
moe_cuda_cross_entropy(moe_job *job, int64_t rows, int64_t classes, const float *logits, const int32_t *label,
                       const float *weight, float *value, float *gradient)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL)
        return;
    moe_scratch<double> total(device, 1), values(device, rows);
    if (total.data == NULL || (rows > 0 && values.data == NULL) ||
        !MOE_LAUNCH(device, sum_weights, 1, THREADS, rows, weight, total.data))
        return;
    if (rows > 0 && !MOE_LAUNCH(device, cross_entropy_rows, warp_blocks(device, rows), THREADS, rows, classes, logits,
                                label, weight, total.data, values.data, gradient))
        return;
    moe_cuda_fold(device, rows, values.data, value);
}

/* The squares of log sum exp, as a mean. */
static __global__ void
z_rows(int64_t rows, int64_t experts, const float *__restrict__ logits, double *__restrict__ values,
       float *__restrict__ gradient)
{
    FOR_WARPS(i, rows)
    {
        const float *row = logits + i * experts;
        float high;
        float total;
        exp_sum(row, experts, &high, &total);
        double z = (double) high + log((double) total);
        for (int64_t e = LANE; e < experts; e += WARP)
            gradient[i * experts + e] = (float) (2 * z / (double) rows) * (expf(row[e] - high) / total);
        if (LANE == 0)
            values[i] = z * z / (double) rows;
    }
}

void
moe_cuda_z_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, float *value, float *gradient)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL)
        return;
    rows = experts > 0 ? rows : 0;
    moe_scratch<double> values(device, rows);
    if (rows > 0 && (values.data == NULL || !MOE_LAUNCH(device, z_rows, warp_blocks(device, rows), THREADS, rows,
                                                        experts, logits, values.data, gradient)))
        return;
    moe_cuda_fold(device, rows, values.data, value);
}

/* counts[e]: the rows whose largest gate, the first of equals, is e. Whole numbers, so that the order does not matter.
 */
static __global__ void
count_choices(int64_t rows, int64_t experts, const float *__restrict__ gates, int *__restrict__ counts)
{
    FOR_WARPS(i, rows)
    {
        float best = -INFINITY;
        int from = 0;
        for (int64_t e = LANE; e < experts; e += WARP)
        {
            if (gates[i * experts + e] > best)
            {
                best = gates[i * experts + e];
                from = (int) e;
            }
        }
        for (int bits = WARP / 2; bits > 0; bits /= 2)
        {
            float other = __shfl_xor_sync(FULL, best, bits);
            int other_from = __shfl_xor_sync(FULL, from, bits);
            if (other > best || (other == best && other_from < from))
            {
                best = other;
                from = other_from;
            }
        }
        if (LANE == 0)
            atomicAdd(&counts[from], 1);
    }
}

/* A share less what is expected of it is a small difference: in double. */
static __global__ void
balance_rows(int64_t rows, int64_t experts, const float *__restrict__ logits, const int *__restrict__ counts,
             double *__restrict__ values, float *__restrict__ gradient)
{
    FOR_WARPS(i, rows)
    {
        const float *row = logits + i * experts;
        float high;
        float unused;
        double total = 0;
        double expected = 0;
        exp_sum(row, experts, &high, &unused);
        for (int64_t e = LANE; e < experts; e += WARP)
            total += exp((double) row[e] - high);
        total = warp_sum(total);
        for (int64_t e = LANE; e < experts; e += WARP)
        {
            float likely = (float) (exp((double) row[e] - high) / total);
            gradient[i * experts + e] = likely;
            expected += counts[e] / (double) rows * likely;
        }
        expected = warp_sum(expected);
        for (int64_t e = LANE; e < experts; e += WARP)
            gradient[i * experts + e] = (float) (gradient[i * experts + e] * (counts[e] / (double) rows - expected) *
                                                 (double) experts / (double) rows);
        if (LANE == 0)
            values[i] = expected * (double) experts / (double) rows;
    }
}

void
moe_cuda_balance_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, const float *gates,
                      float *value, float *gradient)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL)
        return;
    rows = experts > 0 ? rows : 0;
    moe_scratch<double> values(device, rows);
    moe_scratch<int> counts(device, rows > 0 ? experts : 0);
    if (rows > 0 && (values.data == NULL || counts.data == NULL))
        return;
    if (rows > 0)
    {
        moe_cuda_zero(&device->base, counts.data, (size_t) experts * sizeof(int));
        if (!MOE_LAUNCH(device, count_choices, warp_blocks(device, rows), THREADS, rows, experts, gates, counts.data) ||
            !MOE_LAUNCH(device, balance_rows, warp_blocks(device, rows), THREADS, rows, experts, logits, counts.data,
                        values.data, gradient))
            return;
    }
    moe_cuda_fold(device, rows, values.data, value);
}

/*
 * segment.cu: runs of rows: softmax over them, running sums in the order of time, and windows of these.
 *
 * Softmax of many columns has a thread a column of a segment, so that neighbours
 * read side by side; of few columns (attention: one a head) a warp, whose lanes
 * take turns along the segment. A running sum is a chain of additions in
 * double in the order of the rows, a thread a column of a list: a window is a
 * difference of two of them, and must not depend on how the chain was cut.
 */
#include "kernels/cuda/cuda.cuh"

#define MANY_COLUMNS 16

/* The sum or the maximum over a segment's L lanes. */
template <int L>
static __device__ __forceinline__ float
lanes_sum(float value)
{
    return L == WARP ? warp_sum(value) : value;
}

template <int L>
static __device__ __forceinline__ float
lanes_max(float value)
{
    return L == WARP ? warp_max(value) : value;
}

/* L lanes (1 or a warp) a column of a segment. */
template <int L>
static __global__ void
softmax_segments(int64_t rows, const int64_t *__restrict__ offset, int64_t cols, const float *__restrict__ x,
                 float *__restrict__ y)
{
    FOR_THREADS(thread, rows * cols * L)
    {
        int64_t item = thread / L;
        int64_t j = item % cols;
        int64_t begin = offset[item / cols] + thread % L;
        int64_t end = offset[item / cols + 1];
        float high = -INFINITY;
        float total = 0;
        for (int64_t p = begin; p < end; p += L)
            high = fmaxf(high, x[p * cols + j]);
        high = lanes_max<L>(high);
        for (int64_t p = begin; p < end; p += L)
            total += expf(x[p * cols + j] - high);
        total = lanes_sum<L>(total);
        for (int64_t p = begin; p < end; p += L)
            y[p * cols + j] = expf(x[p * cols + j] - high) / total;
    }
}

void
moe_cuda_segment_softmax(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols, const float *x, float *y)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || rows * cols == 0)
        return;
    if (cols >= MANY_COLUMNS)
        MOE_LAUNCH(device, (softmax_segments<1>), thread_blocks(device, rows * cols), THREADS, rows, offset, cols, x,
                   y);
    else
        MOE_LAUNCH(device, (softmax_segments<WARP>), warp_blocks(device, rows * cols), THREADS, rows, offset, cols, x,
                   y);
}

template <int L>
static __global__ void
softmax_segments_back(int64_t rows, const int64_t *offset, int64_t cols, const float *y, const float *gy, bool add,
                      float *gx)
{
    FOR_THREADS(thread, rows * cols * L)
    {
        int64_t item = thread / L;
        int64_t j = item % cols;
        int64_t begin = offset[item / cols] + thread % L;
        int64_t end = offset[item / cols + 1];
        float dot = 0;
        for (int64_t p = begin; p < end; p += L)
            dot += y[p * cols + j] * gy[p * cols + j];
        dot = lanes_sum<L>(dot);
        for (int64_t p = begin; p < end; p += L)
            put(&gx[p * cols + j], add, y[p * cols + j] * (gy[p * cols + j] - dot));
    }
}

void
moe_cuda_segment_softmax_backward(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols, const float *y,
                                  const float *gy, bool add, float *gx)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || rows * cols == 0)
        return;
    if (cols >= MANY_COLUMNS)
        MOE_LAUNCH(device, (softmax_segments_back<1>), thread_blocks(device, rows * cols), THREADS, rows, offset, cols,
                   y, gy, add, gx);
    else
        MOE_LAUNCH(device, (softmax_segments_back<WARP>), warp_blocks(device, rows * cols), THREADS, rows, offset, cols,
                   y, gy, add, gx);
}

static __global__ void
sum_lists(int64_t lists, const int64_t *__restrict__ offset, int64_t cols, const float *__restrict__ decay,
          const float *__restrict__ x, double *__restrict__ out)
{
    FOR_THREADS(item, lists * cols)
    {
        int64_t j = item % cols;
        int64_t begin = offset[item / cols];
        int64_t end = offset[item / cols + 1];
        double total = 0;
        for (int64_t p = begin; p < end; p++)
        {
            total = x[p * cols + j] + (decay == NULL || p == begin ? 1 : decay[p]) * total;
            out[p * cols + j] = total;
        }
    }
}

void
moe_cuda_prefix_sum(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay,
                    const float *x, double *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && lists * cols > 0)
        MOE_LAUNCH(device, sum_lists, thread_blocks(device, lists * cols), THREADS, lists, offset, cols, decay, x, out);
}

static __global__ void
sum_lists_back(int64_t lists, const int64_t *__restrict__ offset, int64_t cols, const float *__restrict__ decay,
               const double *__restrict__ g, bool add, float *__restrict__ gx)
{
    FOR_THREADS(item, lists * cols)
    {
        int64_t j = item % cols;
        int64_t begin = offset[item / cols];
        int64_t end = offset[item / cols + 1];
        double total = 0;
        for (int64_t p = end - 1; p >= begin; p--)
        {
            total = g[p * cols + j] + (decay == NULL || p == end - 1 ? 1 : decay[p + 1]) * total;
            put(&gx[p * cols + j], add, (float) total);
        }
    }
}

void
moe_cuda_prefix_sum_backward(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay,
                             const double *g, bool add, float *gx)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && lists * cols > 0)
        MOE_LAUNCH(device, sum_lists_back, thread_blocks(device, lists * cols), THREADS, lists, offset, cols, decay, g,
                   add, gx);
}

static __global__ void
take_windows(int64_t n, int64_t cols, const int32_t *__restrict__ last, const int32_t *__restrict__ before,
             const float *__restrict__ factor, const float *__restrict__ fade, const double *__restrict__ sum,
             float *__restrict__ out)
{
    FOR_THREADS(item, n * cols)
    {
        int64_t i = item / cols;
        int64_t j = item % cols;
        double end = last[i] < 0 ? 0 : sum[last[i] * cols + j];
        double start = before[i] < 0 ? 0 : sum[before[i] * cols + j];
        out[item] = (float) ((factor == NULL ? 1 : factor[i]) * (end - (fade == NULL ? 1 : fade[i]) * start));
    }
}

void
moe_cuda_window_sum(moe_job *job, int64_t n, int64_t cols, const int32_t *last, const int32_t *before,
                    const float *factor, const float *fade, const double *sum, float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && n * cols > 0)
        MOE_LAUNCH(device, take_windows, thread_blocks(device, n * cols), THREADS, n, cols, last, before, factor, fade,
                   sum, out);
}

/* Window i gives the entries 2 i, of its end, and 2 i + 1, of its start. */
static __global__ void
list_ends(int64_t n, const int32_t *__restrict__ last, const int32_t *__restrict__ before, int32_t *__restrict__ key)
{
    FOR_THREADS(e, 2 * n)
    key[e] = e % 2 == 0 ? last[e / 2] : before[e / 2];
}

/* A thread a column of a place, which adds the place's entries in their order. */
static __global__ void
add_ends(int64_t places, int64_t cols, const int64_t *__restrict__ offset, const int32_t *__restrict__ entry,
         const float *__restrict__ factor, const float *__restrict__ fade, const float *__restrict__ gy,
         double *__restrict__ g)
{
    FOR_THREADS(item, places * cols)
    {
        int64_t place = item / cols;
        double total = 0;
        for (int64_t p = offset[place]; p < offset[place + 1]; p++)
        {
            int64_t i = entry[p] / 2;
            double gain = (factor == NULL ? 1.0 : factor[i]) * gy[i * cols + item % cols];
            total += entry[p] % 2 == 0 ? gain : -(fade == NULL ? 1.0 : fade[i]) * gain;
        }
        g[item] = total;
    }
}

void
moe_cuda_window_sum_backward(moe_job *job, int64_t n, int64_t cols, int64_t places, const int32_t *last,
                             const int32_t *before, const float *factor, const float *fade, const float *gy, double *g)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || places * cols == 0)
        return;
    moe_scratch<int32_t> key(device, 2 * n), entry(device, 2 * n);
    moe_scratch<int64_t> offset(device, places + 1);
    if (offset.data == NULL || (n > 0 && (key.data == NULL || entry.data == NULL)))
        return;
    if (n > 0 && !MOE_LAUNCH(device, list_ends, thread_blocks(device, 2 * n), THREADS, n, last, before, key.data))
        return;
    if (moe_cuda_sort(device, 2 * n, key.data, places, entry.data, offset.data, 1))
        MOE_LAUNCH(device, add_ends, thread_blocks(device, places * cols), THREADS, places, cols, offset.data,
                   entry.data, factor, fade, gy, g);
}

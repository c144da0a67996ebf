/*
 * reference_window.c: operations over runs of rows in their plainest form:
 * softmax over segments, running sums and the windows made of them.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/reference.h"

void
moe_reference_segment_softmax(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols, const float *x, float *y)
{
    for (int64_t i = 0; i < rows; i++)
    {
        for (int64_t j = 0; j < cols; j++)
        {
            double high = -INFINITY;
            double total = 0;
            for (int64_t p = offset[i]; p < offset[i + 1]; p++)
                high = fmax(high, x[p * cols + j]);
            for (int64_t p = offset[i]; p < offset[i + 1]; p++)
                total += exp(x[p * cols + j] - high);
            for (int64_t p = offset[i]; p < offset[i + 1]; p++)
                y[p * cols + j] = (float) (exp(x[p * cols + j] - high) / total);
        }
    }
}

void
moe_reference_segment_softmax_backward(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols, const float *y,
                                       const float *gy, bool add, float *gx)
{
    for (int64_t i = 0; i < rows; i++)
    {
        for (int64_t j = 0; j < cols; j++)
        {
            double dot = 0;
            for (int64_t p = offset[i]; p < offset[i + 1]; p++)
                dot += (double) y[p * cols + j] * gy[p * cols + j];
            for (int64_t p = offset[i]; p < offset[i + 1]; p++)
                moe_reference_put(&gx[p * cols + j], add, y[p * cols + j] * (gy[p * cols + j] - dot));
        }
    }
}

void
moe_reference_prefix_sum(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay,
                         const float *x, double *out)
{
    for (int64_t l = 0; l < lists; l++)
    {
        for (int64_t p = offset[l]; p < offset[l + 1]; p++)
        {
            for (int64_t j = 0; j < cols; j++)
            {
                double before = p == offset[l] ? 0 : out[(p - 1) * cols + j];
                double kept = p == offset[l] || decay == NULL ? 1 : decay[p];
                out[p * cols + j] = x[p * cols + j] + kept * before;
            }
        }
    }
}

void
moe_reference_prefix_sum_backward(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay,
                                  const double *g, bool add, float *gx)
{
    for (int64_t l = 0; l < lists; l++)
    {
        for (int64_t j = 0; j < cols; j++)
        {
            double total = 0;
            for (int64_t p = offset[l + 1] - 1; p >= offset[l]; p--)
            {
                double kept = p == offset[l + 1] - 1 || decay == NULL ? 1 : decay[p + 1];
                total = g[p * cols + j] + kept * total;
                moe_reference_put(&gx[p * cols + j], add, total);
            }
        }
    }
}

void
moe_reference_window_sum(moe_job *job, int64_t n, int64_t cols, const int32_t *last, const int32_t *before,
                         const float *factor, const float *fade, const double *sum, float *out)
{
    for (int64_t i = 0; i < n; i++)
    {
        for (int64_t j = 0; j < cols; j++)
        {
            double end = last[i] < 0 ? 0 : sum[last[i] * cols + j];
            double start = before[i] < 0 ? 0 : sum[before[i] * cols + j];
            out[i * cols + j] =
                (float) ((factor == NULL ? 1 : factor[i]) * (end - (fade == NULL ? 1 : fade[i]) * start));
        }
    }
}

void
moe_reference_window_sum_backward(moe_job *job, int64_t n, int64_t cols, int64_t places, const int32_t *last,
                                  const int32_t *before, const float *factor, const float *fade, const float *gy,
                                  double *g)
{
    memset(g, 0, (size_t) (places * cols) * sizeof(double));
    for (int64_t i = 0; i < n; i++)
    {
        for (int64_t j = 0; j < cols; j++)
        {
            double gain = (factor == NULL ? 1.0 : factor[i]) * gy[i * cols + j];
            if (last[i] >= 0)
                g[last[i] * cols + j] += gain;
            if (before[i] >= 0)
                g[before[i] * cols + j] -= (fade == NULL ? 1.0 : fade[i]) * gain;
        }
    }
}

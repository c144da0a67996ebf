/*
 * softmax.c: softmax of each row.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"

typedef struct rows_softmax
{
    int64_t cols;
    const float *x;
    const float *gy;
    bool add;
    float *out;
} rows_softmax;

static void
softmax_range(int64_t begin, int64_t end, void *arg)
{
    const rows_softmax *s = arg;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = s->x + i * s->cols;
        float *y = s->out + i * s->cols;
        float high = x[0];
        for (int64_t j = 1; j < s->cols; j++)
            high = x[j] > high ? x[j] : high;
        float sum = 0;
        for (int64_t j = 0; j < s->cols; j++)
            sum += y[j] = expf(x[j] - high);
        for (int64_t j = 0; j < s->cols; j++)
            y[j] /= sum;
    }
}

void
moe_cpu_softmax(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y)
{
    rows_softmax s = {.cols = cols, .x = x, .out = y};
    moe_parallel(job, cols == 0 ? 0 : rows, moe_row_grain(cols), softmax_range, &s);
}

static void
softmax_backward_range(int64_t begin, int64_t end, void *arg)
{
    const rows_softmax *s = arg;
    bool add = s->add;
    for (int64_t i = begin; i < end; i++)
    {
        const float *y = s->x + i * s->cols;
        const float *gy = s->gy + i * s->cols;
        float *gx = s->out + i * s->cols;
        float dot = moe_row_product(y, gy, s->cols);
        MOE_NO_DEPENDENCE
        for (int64_t j = 0; j < s->cols; j++)
        {
            float g = y[j] * (gy[j] - dot);
            gx[j] = add ? gx[j] + g : g;
        }
    }
}

void
moe_cpu_softmax_backward(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx)
{
    rows_softmax s = {.cols = cols, .x = y, .gy = gy, .add = add, .out = gx};
    moe_parallel(job, cols == 0 ? 0 : rows, moe_row_grain(cols), softmax_backward_range, &s);
}

/*
 * softmax.c: softmax of each row.
 */
#include <math.h>

#include "kernels/cpu/vector.h"

typedef struct rows_softmax
{
    int64_t cols;
    const float *x;
    const float *gy;
    bool add;
    float *out;
} rows_softmax;

MOE_INLINE void
softmax_row(const float *x, int64_t n, float *y)
{
    moe_exp_row(x, n, moe_row_largest(x, n), y);
    float sum = moe_row_sum(y, n);
    for (int64_t j = 0; j < n; j++)
        y[j] /= sum;
}

/* `held` numbers of whole rows, each in `width` lanes (a constant) or with lanes beside it. */
MOE_INLINE void
softmax_lanes(const rows_softmax *s, int64_t at, int64_t held, int64_t end, int width)
{
    moe_lanes x = moe_load_narrow(s->x, at, held, end, -INFINITY);
    moe_lanes y = moe_exp_lanes(x - moe_largest_lane(x, width));
    moe_store_narrow(s->out, at, held, end, y / moe_sum_lanes(y, width));
}

/* Numbers [at, end), in rows of `width` (a constant) numbers, of which a vector holds several. */
MOE_INLINE void
softmax_packed(const rows_softmax *s, int64_t at, int64_t end, int width)
{
    for (; at + MOE_LANES <= end; at += MOE_LANES)
    {
        __builtin_prefetch(s->x + at + MOE_FETCH_AHEAD);
        softmax_lanes(s, at, MOE_LANES, end, width);
    }
    if (at < end)
        softmax_lanes(s, at, end - at, end, width);
}

static void
softmax_range(int64_t begin, int64_t end, void *arg)
{
    const rows_softmax *s = arg;
    int64_t cols = s->cols;
    if (cols == 2)
        softmax_packed(s, begin * cols, end * cols, 2);
    else if (cols == 4)
        softmax_packed(s, begin * cols, end * cols, 4);
    else if (cols == 8 && MOE_LANES > 8)
        softmax_packed(s, begin * cols, end * cols, 8);
    else
        for (int64_t i = begin; i < end && cols <= MOE_LANES; i++)
            softmax_lanes(s, i * cols, cols, end * cols, MOE_LANES);
    if (cols > MOE_LANES)
        for (int64_t i = begin; i < end; i++)
            softmax_row(s->x + i * cols, cols, s->out + i * cols);
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

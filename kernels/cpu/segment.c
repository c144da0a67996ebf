/*
 * segment.c: softmax over segments of rows, as attention over the messages
 * into a node needs it.
 *
 * A segment is one run of numbers, whatever the number of columns: largest and
 * total are kept by column, and the exponential between runs over all of it.
 */
#include <math.h>

#include "kernels/cpu/sparse.h"

#define COLUMNS 64 /* whose totals are kept at a time */

typedef int32_t whole_lanes __attribute__((vector_size(MOE_LANES * sizeof(int32_t)), aligned(4), may_alias));

typedef struct segments
{
    moe_job *job;
    int64_t rows;
    const int64_t *offset;
    int64_t cols;
    const float *x;
    const float *gy;
    bool add;
    float *out;
} segments;

/*
 * Replace MOE_LANES numbers, none above 0, by their exponentials: 2^n times a polynomial in the rest,
 * |rest| <= log(2) / 2 (the coefficients are Moshier's, of the Cephes library).
 * 0 below the smallest normal number's logarithm.
 */
MOE_INLINE void
exponential(float *y)
{
    moe_lanes x = MOE_LANES_AT(y);
    const float lowest = -87.33654f;
    whole_lanes small = x < lowest; /* not NaN, which stays */
    x = (moe_lanes) (~small & (whole_lanes) x);
    moe_lanes shifted = x * 1.44269504f - 0.5f;
    whole_lanes n = __builtin_convertvector(shifted, whole_lanes); /* towards zero: to nearest, as x <= 0 */
    moe_lanes whole = __builtin_convertvector(n, moe_lanes);
    moe_lanes r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    moe_lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    moe_lanes result = p * (moe_lanes) ((n + 127) << 23);
    MOE_LANES_AT(y) = (moe_lanes) (~small & (whole_lanes) result);
}

MOE_INLINE void
exponentials(float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + MOE_LANES <= n; i += MOE_LANES)
        exponential(y + i);
    if (i == n)
        return;
    float rest[MOE_LANES] = {0};
    memcpy(rest, y + i, (size_t) (n - i) * sizeof(float));
    exponential(rest);
    memcpy(y + i, rest, (size_t) (n - i) * sizeof(float));
}

/* The same arithmetic for one column, along the run. */
MOE_INLINE void
softmax_run(const float *x, int64_t n, float *y)
{
    float high = -INFINITY;
    for (int64_t p = 0; p < n; p++)
        high = x[p] > high ? x[p] : high;
    for (int64_t p = 0; p < n; p++)
        y[p] = x[p] - high;
    exponentials(y, n);
    float share = 1 / moe_row_sum(y, n);
    for (int64_t p = 0; p < n; p++)
        y[p] *= share;
}

/* `width` columns (at most COLUMNS) of a segment of n rows that are `cols` apart. */
MOE_INLINE void
softmax_columns(const float *x, int64_t n, int64_t cols, int64_t width, float *y)
{
    float high[COLUMNS];
    float total[COLUMNS];
    for (int64_t j = 0; j < width; j++)
    {
        high[j] = -INFINITY;
        total[j] = 0;
    }
    for (int64_t p = 0; p < n; p++)
        for (int64_t j = 0; j < width; j++)
            high[j] = x[p * cols + j] > high[j] ? x[p * cols + j] : high[j];
    for (int64_t p = 0; p < n; p++)
        for (int64_t j = 0; j < width; j++)
            y[p * cols + j] = x[p * cols + j] - high[j];
    if (width == cols)
        exponentials(y, n * cols);
    for (int64_t p = 0; width < cols && p < n; p++)
        exponentials(y + p * cols, width);
    for (int64_t p = 0; p < n; p++)
        for (int64_t j = 0; j < width; j++)
            total[j] += y[p * cols + j];
    for (int64_t j = 0; j < width; j++)
        total[j] = 1 / total[j];
    for (int64_t p = 0; p < n; p++)
        for (int64_t j = 0; j < width; j++)
            y[p * cols + j] *= total[j];
}

static void
softmax_range(int64_t begin, int64_t end, void *arg)
{
    const segments *s = arg;
    int64_t cols = s->cols;
    if (moe_job_cancelled(s->job))
        return;
    int64_t last = moe_row_at(s->rows, s->offset, 0, end);
    for (int64_t i = moe_row_at(s->rows, s->offset, 0, begin); i < last; i++)
    {
        int64_t n = s->offset[i + 1] - s->offset[i];
        const float *x = s->x + s->offset[i] * cols;
        float *y = s->out + s->offset[i] * cols;
        if (cols == 1)
            softmax_run(x, n, y);
        for (int64_t j = 0; cols > 1 && j < cols; j += COLUMNS)
            softmax_columns(x + j, n, cols, cols - j < COLUMNS ? cols - j : COLUMNS, y + j);
    }
}

void
moe_cpu_segment_softmax(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols, const float *x, float *y)
{
    segments s = {.job = job, .rows = rows, .offset = offset, .cols = cols, .x = x, .out = y};
    moe_parallel(job, rows + offset[rows], moe_work_grain(4 * cols), softmax_range, &s);
}

/* gx may be gy: no iteration depends on another. */
MOE_INLINE void
gradient_columns(const segments *s, int64_t first, int64_t n, int64_t width)
{
    int64_t cols = s->cols;
    const float *y = s->x + first;
    const float *gy = s->gy + first;
    float *gx = s->out + first;
    float dot[COLUMNS] = {0};
    for (int64_t p = 0; p < n; p++)
        for (int64_t j = 0; j < width; j++)
            dot[j] += y[p * cols + j] * gy[p * cols + j];
    for (int64_t p = 0; p < n; p++)
    {
        MOE_NO_DEPENDENCE
        for (int64_t j = 0; j < width; j++)
        {
            float g = y[p * cols + j] * (gy[p * cols + j] - dot[j]);
            gx[p * cols + j] = s->add ? gx[p * cols + j] + g : g;
        }
    }
}

MOE_INLINE void
gradient_run(const segments *s, int64_t first, int64_t n)
{
    const float *y = s->x + first;
    const float *gy = s->gy + first;
    float *gx = s->out + first;
    float dot = moe_row_product(y, gy, n);
    MOE_NO_DEPENDENCE
    for (int64_t p = 0; p < n; p++)
    {
        float g = y[p] * (gy[p] - dot);
        gx[p] = s->add ? gx[p] + g : g;
    }
}

static void
softmax_gradient_range(int64_t begin, int64_t end, void *arg)
{
    const segments *s = arg;
    int64_t cols = s->cols;
    if (moe_job_cancelled(s->job))
        return;
    int64_t last = moe_row_at(s->rows, s->offset, 0, end);
    for (int64_t i = moe_row_at(s->rows, s->offset, 0, begin); i < last; i++)
    {
        int64_t n = s->offset[i + 1] - s->offset[i];
        if (cols == 1)
            gradient_run(s, s->offset[i], n);
        for (int64_t j = 0; cols > 1 && j < cols; j += COLUMNS)
            gradient_columns(s, s->offset[i] * cols + j, n, cols - j < COLUMNS ? cols - j : COLUMNS);
    }
}

void
moe_cpu_segment_softmax_backward(moe_job *job, int64_t rows, const int64_t *offset, int64_t cols, const float *y,
                                 const float *gy, bool add, float *gx)
{
    segments s = {.job = job, .rows = rows, .offset = offset, .cols = cols, .x = y, .gy = gy, .add = add, .out = gx};
    moe_parallel(job, rows + offset[rows], moe_work_grain(4 * cols), softmax_gradient_range, &s);
}

/*
 * segment.c: softmax over segments of rows, as attention over the messages
 * into a node needs it.
 *
 * A vector takes as many columns as it holds down their segment, three times: largest, exponentials and their total,
 * shares.
 */
#include <math.h>

#include "kernels/cpu/sparse.h"

#define COLUMNS        64 /* whose totals are kept at a time */
#define COLUMN_VECTORS 4

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

/* A segment of one column is a run. */
MOE_INLINE void
softmax_run(const float *x, int64_t n, float *y)
{
    if (n == 0)
        return;
    moe_exp_row(x, n, moe_row_largest(x, n), y);
    float share = 1 / moe_row_sum(y, n);
    for (int64_t p = 0; p < n; p++)
        y[p] *= share;
}

/*
 * `vectors` (a constant) of `width` columns each (MOE_LANES, or all where there are fewer) of a segment, from number
 * `first` on and before number `end`: largest and total are kept by lane. Of fewer, the lanes beside them come to
 * nothing.
 */
MOE_INLINE void
softmax_columns(int vectors, const float *x, int64_t first, int64_t end, int64_t cols, int64_t width, float *y)
{
    moe_lanes high[COLUMN_VECTORS];
    moe_lanes total[COLUMN_VECTORS];
    for (int v = 0; v < vectors; v++)
    {
        high[v] = (moe_lanes){0} - INFINITY;
        total[v] = (moe_lanes){0};
    }
    for (int64_t at = first; at < end; at += cols)
        for (int v = 0; v < vectors; v++)
            high[v] = MOE_LARGER(moe_load_narrow(x, at + v * MOE_LANES, width, end, 0), high[v]);
    for (int64_t at = first; at < end; at += cols)
        for (int v = 0; v < vectors; v++)
        {
            moe_lanes own = moe_exp_lanes(moe_load_narrow(x, at + v * MOE_LANES, width, end, 0) - high[v]);
            total[v] += own;
            moe_store_narrow(y, at + v * MOE_LANES, width, end, own);
        }
    /* In place, so that lanes beside a row, which are of later ones, must stay as they are. */
    for (int v = 0; v < vectors; v++)
        total[v] = moe_choose(MOE_LANE_NUMBERS < (int32_t) width, 1 / total[v], (moe_lanes){0} + 1);
    for (int64_t at = first; at < end; at += cols)
        for (int v = 0; v < vectors; v++)
        {
            int64_t from = at + v * MOE_LANES;
            int64_t held = end - from < MOE_LANES ? end - from : MOE_LANES;
            moe_lanes own = moe_load_narrow(y, from, width == MOE_LANES ? MOE_LANES : held, end, 0) * total[v];
            moe_store_narrow(y, from, width, end, own);
        }
}

/* A segment of more columns; the last few may be computed twice. */
MOE_INLINE void
softmax_wide(const segments *s, int64_t first, int64_t end)
{
    int64_t cols = s->cols;
    int64_t j = 0;
    for (; j + COLUMN_VECTORS * MOE_LANES <= cols; j += COLUMN_VECTORS * MOE_LANES)
        softmax_columns(COLUMN_VECTORS, s->x, first + j, end, cols, MOE_LANES, s->out);
    for (; j < cols; j += MOE_LANES)
        softmax_columns(1, s->x, first + (j < cols - MOE_LANES ? j : cols - MOE_LANES), end, cols, MOE_LANES, s->out);
}

static void
softmax_range(int64_t begin, int64_t stop, void *arg)
{
    const segments *s = arg;
    int64_t cols = s->cols;
    if (moe_job_cancelled(s->job))
        return;
    int64_t last = moe_row_at(s->rows, s->offset, 0, stop);
    for (int64_t i = moe_row_at(s->rows, s->offset, 0, begin); i < last; i++)
    {
        int64_t n = s->offset[i + 1] - s->offset[i];
        int64_t first = s->offset[i] * cols;
        int64_t end = s->offset[i + 1] * cols;
        if (cols == 1)
            softmax_run(s->x + first, n, s->out + first);
        else if (cols < MOE_LANES)
            softmax_columns(1, s->x, first, end, cols, cols, s->out);
        else
            softmax_wide(s, first, end);
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

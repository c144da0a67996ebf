/*
 * window.c: running sums over lists of rows, and windows as their differences.
 *
 * A running sum stands on the one before it, so a list is one chain; lists
 * share the threads, and where there are few, so do blocks of columns. What a
 * place holds depends on the places before it alone: later rows change no bit.
 */
#include "kernels/cpu/sparse.h"

#define MANY_LISTS    64
#define BLOCK_COLUMNS 16

typedef struct running
{
    moe_job *job;
    int64_t lists;
    const int64_t *offset;
    int64_t cols;
    int64_t width; /* columns of a block */
    const float *decay;
    const float *x;
    double *sum;
    const double *g;
    bool add;
    float *gx;
} running;

/* Columns [j, end) of one list, first row to last. */
MOE_INLINE void
run_forward(const running *r, int64_t from, int64_t to, int64_t j, int64_t end)
{
    int64_t cols = r->cols;
    for (int64_t p = from; p < to; p++)
    {
        const float *restrict x = r->x + p * cols;
        double *restrict sum = r->sum + p * cols;
        if (p == from)
        {
            for (int64_t c = j; c < end; c++)
                sum[c] = x[c];
            continue;
        }
        const double *restrict before = sum - cols;
        double kept = r->decay == NULL ? 1 : r->decay[p];
        for (int64_t c = j; c < end; c++)
            sum[c] = x[c] + kept * before[c];
    }
}

/* The same, last row to first. */
MOE_INLINE void
run_backward(const running *r, int64_t from, int64_t to, int64_t j, int64_t end)
{
    double total[BLOCK_COLUMNS] = {0};
    for (int64_t p = to - 1; p >= from; p--)
    {
        const double *g = r->g + p * r->cols + j;
        float *gx = r->gx + p * r->cols + j;
        double kept = p == to - 1 || r->decay == NULL ? 1 : r->decay[p + 1];
        for (int64_t c = 0; c < end - j; c++)
        {
            total[c] = g[c] + kept * total[c];
            gx[c] = r->add ? gx[c] + (float) total[c] : (float) total[c];
        }
    }
}

/* A range of the work of all blocks of columns, one block after another. */
static void
running_range(int64_t begin, int64_t end, void *arg)
{
    const running *r = arg;
    int64_t work = r->lists + r->offset[r->lists];
    if (moe_job_cancelled(r->job))
        return;
    for (int64_t block = begin / work; block * work < end; block++)
    {
        int64_t first = begin > block * work ? begin - block * work : 0;
        int64_t until = end - block * work < work ? end - block * work : work;
        int64_t last = moe_row_at(r->lists, r->offset, 0, until);
        int64_t column = block * r->width;
        int64_t stop = column + r->width < r->cols ? column + r->width : r->cols;
        for (int64_t l = moe_row_at(r->lists, r->offset, 0, first); l < last; l++)
        {
            if (r->sum != NULL)
                run_forward(r, r->offset[l], r->offset[l + 1], column, stop);
            for (int64_t j = column; r->sum == NULL && j < stop; j += BLOCK_COLUMNS)
                run_backward(r, r->offset[l], r->offset[l + 1], j, stop - j < BLOCK_COLUMNS ? stop : j + BLOCK_COLUMNS);
        }
    }
}

static void
run(running *r)
{
    r->width = r->lists < MANY_LISTS && r->cols > BLOCK_COLUMNS ? BLOCK_COLUMNS : r->cols;
    if (r->cols == 0)
        return;
    int64_t blocks = (r->cols + r->width - 1) / r->width;
    moe_parallel(r->job, blocks * (r->lists + r->offset[r->lists]), moe_work_grain(r->width), running_range, r);
}

void
moe_cpu_prefix_sum(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay, const float *x,
                   double *out)
{
    run(&(running){.job = job, .lists = lists, .offset = offset, .cols = cols, .decay = decay, .x = x, .sum = out});
}

void
moe_cpu_prefix_sum_backward(moe_job *job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay,
                            const double *g, bool add, float *gx)
{
    run(&(running){
        .job = job, .lists = lists, .offset = offset, .cols = cols, .decay = decay, .g = g, .add = add, .gx = gx});
}

typedef struct windows
{
    moe_job *job;
    int64_t cols;
    const int32_t *last;
    const int32_t *before;
    const float *factor;
    const float *fade;
    const double *sum;
    float *out;
} windows;

static void
window_range(int64_t begin, int64_t end, void *arg)
{
    const windows *w = arg;
    int64_t cols = w->cols;
    for (int64_t i = begin; i < end; i++)
    {
        double factor = w->factor == NULL ? 1 : w->factor[i];
        double fade = w->fade == NULL ? 1 : w->fade[i];
        const double *to = w->sum + (w->last[i] < 0 ? 0 : w->last[i] * cols);
        const double *from = w->sum + (w->before[i] < 0 ? 0 : w->before[i] * cols);
        float *restrict out = w->out + i * cols;
        if (w->last[i] < 0)
            for (int64_t j = 0; j < cols; j++)
                out[j] = w->before[i] < 0 ? 0 : (float) (-factor * fade * from[j]);
        else if (w->before[i] < 0)
            for (int64_t j = 0; j < cols; j++)
                out[j] = (float) (factor * to[j]);
        else
            for (int64_t j = 0; j < cols; j++)
                out[j] = (float) (factor * (to[j] - fade * from[j]));
    }
}

void
moe_cpu_window_sum(moe_job *job, int64_t n, int64_t cols, const int32_t *last, const int32_t *before,
                   const float *factor, const float *fade, const double *sum, float *out)
{
    windows w = {.job = job,
                 .cols = cols,
                 .last = last,
                 .before = before,
                 .factor = factor,
                 .fade = fade,
                 .sum = sum,
                 .out = out};
    moe_parallel(job, n, moe_row_grain(4 * cols), window_range, &w);
}

typedef struct place_sums
{
    moe_job *job;
    int64_t places;
    int64_t cols;
    const int64_t *offset;
    const int32_t *end; /* 2 i for the last place of window i, 2 i + 1 for the one before */
    const float *factor;
    const float *fade;
    const float *gy;
    double *g;
} place_sums;

static void
place_range(int64_t begin, int64_t end, void *arg)
{
    const place_sums *p = arg;
    int64_t cols = p->cols;
    if (moe_job_cancelled(p->job))
        return;
    int64_t last = moe_row_at(p->places, p->offset, 0, end);
    int64_t known = p->offset[p->places] - MOE_AHEAD;
    for (int64_t i = moe_row_at(p->places, p->offset, 0, begin); i < last; i++)
    {
        double *restrict g = p->g + i * cols;
        memset(g, 0, (size_t) cols * sizeof(double));
        for (int64_t k = p->offset[i]; k < p->offset[i + 1]; k++)
        {
            int32_t window = p->end[k] / 2;
            if (k < known)
                moe_fetch_row(p->gy, cols, p->end[k + MOE_AHEAD] / 2);
            const float *restrict gy = p->gy + window * cols;
            double weight = p->factor == NULL ? 1 : p->factor[window];
            if (p->end[k] % 2 == 1)
                weight *= p->fade == NULL ? -1 : -(double) p->fade[window];
            for (int64_t j = 0; j < cols; j++)
                g[j] += weight * gy[j];
        }
    }
}

/* The 2 n ends of windows as a matrix of two entries a row, whose transpose lists them by place. */
void
moe_cpu_window_sum_backward(moe_job *job, int64_t n, int64_t cols, int64_t places, const int32_t *last,
                            const int32_t *before, const float *factor, const float *fade, const float *gy, double *g)
{
    int32_t *index = moe_alloc(job, 2 * n, sizeof *index);
    int64_t *offset = moe_alloc(job, places + 1, sizeof *offset);
    int32_t *row = moe_alloc(job, 2 * n, sizeof *row);
    int32_t *end = moe_alloc(job, 2 * n, sizeof *end);
    if (index != NULL && offset != NULL && row != NULL && end != NULL)
    {
        for (int64_t i = 0; i < n; i++)
        {
            index[2 * i] = last[i];
            index[2 * i + 1] = before[i];
        }
        moe_sparse ends = {.rows = n, .entries = 2 * n, .width = 2, .index = index};
        moe_cpu_transpose(job, &ends, 1, places, offset, row, NULL, end);
    }
    if (moe_job_code(job) == MOE_OK)
    {
        place_sums p = {.job = job,
                        .places = places,
                        .cols = cols,
                        .offset = offset,
                        .end = end,
                        .factor = factor,
                        .fade = fade,
                        .gy = gy,
                        .g = g};
        moe_parallel(job, cols == 0 ? 0 : places + offset[places], moe_work_grain(2 * cols), place_range, &p);
    }
    moe_free(job, index);
    moe_free(job, offset);
    moe_free(job, row);
    moe_free(job, end);
}

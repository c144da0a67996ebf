/*
 * gather.c: rows picked by an index, and sums of such.
 *
 * A foreign key is a function, so messages from parents are gathers rather
 * than products with a matrix. Bound by the bytes moved: the rows wanted next
 * are fetched ahead, and a sum of several terms writes its result once.
 */
#include "kernels/cpu/sparse.h"

typedef struct row_gather
{
    int64_t cols;
    const int32_t *index;
    const float *x;
    bool add;
    float *out;
} row_gather;

static void
gather_range(int64_t begin, int64_t end, void *arg)
{
    const row_gather *g = arg;
    int64_t cols = g->cols;
    for (int64_t i = begin; i < end; i++)
    {
        if (i + MOE_AHEAD < end)
            moe_fetch_row(g->x, cols, g->index[i + MOE_AHEAD]);
        float *restrict out = g->out + i * cols;
        if (g->index[i] < 0)
        {
            if (!g->add)
                memset(out, 0, (size_t) cols * sizeof(float));
            continue;
        }
        const float *x = g->x + g->index[i] * cols;
        if (!g->add)
            memcpy(out, x, (size_t) cols * sizeof(float));
        for (int64_t j = 0; g->add && j < cols; j++)
            out[j] += x[j];
    }
}

void
moe_cpu_gather(moe_job *job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out)
{
    row_gather g = {.cols = cols, .index = index, .x = x, .add = add, .out = out};
    moe_parallel(job, cols == 0 ? 0 : n, moe_row_grain(cols), gather_range, &g);
}

typedef struct row_sum
{
    int64_t cols;
    int terms;
    const float *const *x;
    const int32_t *const *index;
    float *out;
} row_sum;

static void
sum_rows_range(int64_t begin, int64_t end, void *arg)
{
    const row_sum *s = arg;
    int64_t cols = s->cols;
    moe_strip strip;
    for (int64_t i = begin; i < end; i++)
    {
        float *out = s->out + i * cols;
        bool add = false;
        strip.n = 0;
        for (int t = 0; t < s->terms; t++)
        {
            const int32_t *index = s->index[t];
            int64_t row = index == NULL ? i : index[i];
            if (index != NULL && i + MOE_AHEAD < end)
                moe_fetch_row(s->x[t], cols, index[i + MOE_AHEAD]);
            if (row < 0)
                continue;
            if (strip.n == MOE_STRIP)
            {
                moe_add_strip(&strip, cols, add, out);
                add = true;
                strip.n = 0;
            }
            strip.row[strip.n] = s->x[t] + row * cols;
            strip.weight[strip.n++] = 1;
        }
        moe_add_strip(&strip, cols, add, out);
    }
}

void
moe_cpu_sum_rows(moe_job *job, int64_t n, int64_t cols, int terms, const float *const *x, const int32_t *const *index,
                 float *out)
{
    row_sum s = {.cols = cols, .terms = terms, .x = x, .index = index, .out = out};
    moe_parallel(job, cols == 0 ? 0 : n, moe_row_grain(cols), sum_rows_range, &s);
}

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
    bool stream;
    float *out;
} row_gather;

/* out = x or += x, of one row; stream is a constant. */
MOE_INLINE void
take_row(const float *x, int64_t cols, bool add, bool stream, float *restrict out)
{
    int64_t j = 0;
    for (; j + MOE_LANES <= cols; j += MOE_LANES)
    {
        moe_lanes value = moe_load(x + j);
        if (add)
            value += moe_load(out + j);
        moe_store(out + j, value, stream);
    }
    for (int64_t left = cols % MOE_LANES; left > 0; left--, j++)
        out[j] = add ? out[j] + x[j] : x[j];
}

/* Rows [begin, end) of the result; stream is a constant. */
MOE_INLINE void
gather_rows(const row_gather *g, int64_t begin, int64_t end, int64_t cols, bool stream)
{
    for (int64_t i = begin; i < end; i++)
    {
        float *out = g->out + i * cols;
        if (i + MOE_AHEAD < end)
            moe_fetch_row(g->x, cols, g->index[i + MOE_AHEAD]);
        if (g->index[i] >= 0)
            take_row(g->x + g->index[i] * cols, cols, g->add, stream, out);
        else if (!g->add)
            memset(out, 0, (size_t) cols * sizeof(float));
    }
    moe_end_stream(stream);
}

static void
gather_range(int64_t begin, int64_t end, void *arg)
{
    const row_gather *g = arg;
    if (g->stream)
        gather_rows(g, begin, end, g->cols, true);
    else
        MOE_AT_WIDTH(g->cols, gather_rows, g, begin, end, cols, false);
}

void
moe_cpu_gather(moe_job *job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out)
{
    row_gather g = {.cols = cols,
                    .index = index,
                    .x = x,
                    .add = add,
                    .stream = !add && moe_streams(out, n * cols, cols),
                    .out = out};
    moe_parallel(job, cols == 0 ? 0 : n, moe_row_grain(cols), gather_range, &g);
}

typedef struct row_sum
{
    int64_t cols;
    int terms;
    const float *const *x;
    const int32_t *const *index;
    bool stream;
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
            /* A row of each term is as many fetched as several of one. */
            if (index != NULL && i + MOE_AHEAD / 2 < end)
                moe_fetch_row(s->x[t], cols, index[i + MOE_AHEAD / 2]);
            if (row < 0)
                continue;
            if (strip.n == MOE_STRIP)
            {
                moe_add_strip(&strip, cols, add, false, out);
                add = true;
                strip.n = 0;
            }
            strip.row[strip.n] = s->x[t] + row * cols;
            strip.weight[strip.n++] = 1;
        }
        moe_add_strip(&strip, cols, add, s->stream && !add, out);
    }
    moe_end_stream(s->stream);
}

void
moe_cpu_sum_rows(moe_job *job, int64_t n, int64_t cols, int terms, const float *const *x, const int32_t *const *index,
                 float *out)
{
    row_sum s = {
        .cols = cols, .terms = terms, .x = x, .index = index, .stream = moe_streams(out, n * cols, cols), .out = out};
    moe_parallel(job, cols == 0 ? 0 : n, moe_row_grain(cols), sum_rows_range, &s);
}

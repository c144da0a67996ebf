/*
 * sparse.c: gather and destination-major sparse products.
 *
 * Bound by the bytes moved. A row of the result stays in the first-level cache
 * while its sources are added to it, four at a time, and the rows wanted next
 * are prefetched.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"

#define PREFETCH_AHEAD    8
#define CACHE_LINE_FLOATS 16
#define PREFETCH_FLOATS   256 /* of a row; the hardware follows from there */
#define GROUP             4
#define PARTS_TOGETHER    4 /* sums over the same sources in registers */
#define BLOCK_LANES       2

typedef struct sparse_product
{
    moe_job *job;
    int64_t cols;
    const moe_sparse *s;
    int parts;
    const int32_t *index;
    const float *x;
    bool add;
    float *out;
} sparse_product;

MOE_INLINE void
prefetch_row(const float *x, int64_t cols, int32_t row)
{
    if (row < 0)
        return;
    int64_t wanted = cols < PREFETCH_FLOATS ? cols : PREFETCH_FLOATS;
    for (int64_t j = 0; j < wanted; j += CACHE_LINE_FLOATS)
        __builtin_prefetch(x + row * cols + j);
}

MOE_MULTIVERSION static void
gather_range(int64_t begin, int64_t end, void *arg)
{
    const sparse_product *p = arg;
    int64_t cols = p->cols;
    for (int64_t i = begin; i < end; i++)
    {
        if (i + PREFETCH_AHEAD < end)
            prefetch_row(p->x, cols, p->index[i + PREFETCH_AHEAD]);
        float *restrict out = p->out + i * cols;
        if (p->index[i] < 0)
        {
            if (!p->add)
                memset(out, 0, (size_t) cols * sizeof(float));
            continue;
        }
        const float *x = p->x + p->index[i] * cols;
        if (!p->add)
            memcpy(out, x, (size_t) cols * sizeof(float));
        for (int64_t j = 0; p->add && j < cols; j++)
            out[j] += x[j];
    }
}

void
moe_cpu_gather(moe_job *job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out)
{
    if (cols == 0)
        return;
    sparse_product p = {.job = job, .cols = cols, .index = index, .x = x, .add = add, .out = out};
    moe_parallel(job, n, moe_row_grain(cols), gather_range, &p);
}

/* out += the weighted sum of up to GROUP rows. */
MOE_INLINE void
add_group(float *restrict out, int64_t cols, const float *const *row, const float *w, int n)
{
    const float *a = row[0], *b = row[1], *c = row[2], *d = row[3];
    if (n == GROUP)
    {
        for (int64_t j = 0; j < cols; j++)
            out[j] += (w[0] * a[j] + w[1] * b[j]) + (w[2] * c[j] + w[3] * d[j]);
        return;
    }
    for (int i = 0; i < n; i++)
    {
        a = row[i];
        for (int64_t j = 0; j < cols; j++)
            out[j] += w[i] * a[j];
    }
}

MOE_MULTIVERSION static void
aggregate_range(int64_t begin, int64_t end, void *arg)
{
    const sparse_product *p = arg;
    const moe_sparse *s = p->s;
    int64_t cols = p->cols;
    int64_t last = s->offset[end];
    if (moe_job_cancelled(p->job))
        return;
    for (int64_t i = begin; i < end; i++)
    {
        int64_t from = s->offset[i];
        int64_t to = s->offset[i + 1];
        float *out = p->out + i * cols;
        if (!p->add)
            memset(out, 0, (size_t) cols * sizeof(float));
        float share = s->reduce == MOE_MEAN && to > from ? 1.0f / (float) (to - from) : 1.0f;
        const float *row[GROUP] = {NULL};
        float w[GROUP] = {0};
        int n = 0;
        for (int64_t k = from; k < to; k++)
        {
            if (k + PREFETCH_AHEAD < last)
                prefetch_row(p->x, cols, s->index[k + PREFETCH_AHEAD]);
            if (s->index[k] < 0)
                continue;
            row[n] = p->x + s->index[k] * cols;
            w[n++] = s->weight == NULL ? share : share * s->weight[k];
            if (n < GROUP)
                continue;
            add_group(out, cols, row, w, GROUP);
            n = 0;
        }
        add_group(out, cols, row, w, n);
    }
}

void
moe_cpu_aggregate(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out)
{
    if (cols == 0)
        return;
    sparse_product p = {.job = job, .cols = cols, .s = s, .x = x, .add = add, .out = out};
    /* A quarter of the usual grain: rows have several sources, and not equally many. */
    int64_t grain = moe_row_grain(cols) / 4;
    moe_parallel(job, s->rows, grain, aggregate_range, &p);
}

/*
 * `parts` (a constant) weighted sums of BLOCK_LANES lanes of each row's
 * sources, which stay in registers; x and out stand at the block's column.
 */
MOE_INLINE void
sum_parts(int parts, const moe_sparse *s, int64_t i, const float *weight, int weight_stride, int64_t cols,
          const float *x, float *out)
{
    moe_lanes sum[PARTS_TOGETHER][BLOCK_LANES] = {0};
    for (int64_t k = s->offset[i]; k < s->offset[i + 1]; k++)
    {
        if (s->index[k] < 0)
            continue;
        const float *row = x + s->index[k] * cols;
        for (int b = 0; b < BLOCK_LANES; b++)
        {
            moe_lanes value = *(const moe_lanes *) (row + b * MOE_LANES);
            for (int p = 0; p < parts; p++)
                sum[p][b] += weight[k * weight_stride + p] * value;
        }
    }
    for (int p = 0; p < parts; p++)
        for (int b = 0; b < BLOCK_LANES; b++)
            *(moe_lanes *) (out + p * cols + b * MOE_LANES) = sum[p][b];
}

/* The same for one part and one column. */
MOE_INLINE float
sum_column(const moe_sparse *s, int64_t i, const float *weight, int weight_stride, int64_t cols, const float *x)
{
    float sum = 0;
    for (int64_t k = s->offset[i]; k < s->offset[i + 1]; k++)
        sum += s->index[k] < 0 ? 0 : weight[k * weight_stride] * x[s->index[k] * cols];
    return sum;
}

MOE_MULTIVERSION static void
aggregate_parts_range(int64_t begin, int64_t end, void *arg)
{
    const sparse_product *a = arg;
    const moe_sparse *s = a->s;
    int64_t cols = a->cols;
    int parts = a->parts;
    if (moe_job_cancelled(a->job))
        return;
    for (int64_t i = begin; i < end; i++)
    {
        float *out = a->out + i * parts * cols;
        int64_t j = 0;
        for (int64_t k = s->offset[i]; k < s->offset[i + 1]; k++)
            prefetch_row(a->x, cols, s->index[k]);
        for (; j + BLOCK_LANES * MOE_LANES <= cols; j += BLOCK_LANES * MOE_LANES)
        {
            int p = 0;
            for (; p + PARTS_TOGETHER <= parts; p += PARTS_TOGETHER)
                sum_parts(PARTS_TOGETHER, s, i, s->weight + p, parts, cols, a->x + j, out + p * cols + j);
            for (; p < parts; p++)
                sum_parts(1, s, i, s->weight + p, parts, cols, a->x + j, out + p * cols + j);
        }
        for (; j < cols; j++)
            for (int p = 0; p < parts; p++)
                out[p * cols + j] = sum_column(s, i, s->weight + p, parts, cols, a->x + j);
    }
}

void
moe_cpu_aggregate_parts(moe_job *job, const moe_sparse *s, int parts, int64_t cols, const float *x, float *out)
{
    sparse_product p = {.job = job, .cols = cols, .s = s, .parts = parts, .x = x, .out = out};
    moe_parallel(job, s->rows, moe_row_grain(cols * parts) / 4, aggregate_parts_range, &p);
}

typedef struct row_sum
{
    int64_t cols;
    int terms;
    const float *const *x;
    const int32_t *const *index;
    float *out;
} row_sum;

MOE_MULTIVERSION static void
sum_rows_range(int64_t begin, int64_t end, void *arg)
{
    const row_sum *s = arg;
    int64_t cols = s->cols;
    for (int64_t i = begin; i < end; i++)
    {
        float *restrict out = s->out + i * cols;
        bool any = false;
        for (int t = 0; t < s->terms; t++)
        {
            int64_t row = s->index[t] == NULL ? i : s->index[t][i];
            const float *x = s->x[t] + row * cols;
            if (row < 0)
                continue;
            if (!any)
                memcpy(out, x, (size_t) cols * sizeof(float));
            for (int64_t j = 0; any && j < cols; j++)
                out[j] += x[j];
            any = true;
        }
        if (!any)
            memset(out, 0, (size_t) cols * sizeof(float));
    }
}

void
moe_cpu_sum_rows(moe_job *job, int64_t n, int64_t cols, int terms, const float *const *x, const int32_t *const *index,
                 float *out)
{
    row_sum s = {.cols = cols, .terms = terms, .x = x, .index = index, .out = out};
    moe_parallel(job, cols == 0 ? 0 : n, moe_row_grain(cols), sum_rows_range, &s);
}

/* Counting sort of the entries by column; a few passes over integers, small beside the product itself. */
void
moe_cpu_transpose(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index,
                  float *weight, int32_t *entry)
{
    int64_t entries = s->offset == NULL ? s->rows : s->offset[s->rows];
    memset(offset, 0, (size_t) (columns + 1) * sizeof(int64_t));
    for (int64_t k = 0; k < entries; k++)
    {
        if (s->index[k] >= 0)
            offset[s->index[k] + 1]++;
    }
    for (int64_t c = 0; c < columns; c++)
        offset[c + 1] += offset[c];

    /* offset[c] now moves from the start to the end of column c ... */
    for (int64_t i = 0; i < s->rows; i++)
    {
        int64_t from = s->offset == NULL ? i : s->offset[i];
        int64_t to = s->offset == NULL ? i + 1 : s->offset[i + 1];
        float share = s->reduce == MOE_MEAN && to > from ? 1.0f / (float) (to - from) : 1.0f;
        for (int64_t k = from; k < to; k++)
        {
            if (s->index[k] < 0)
                continue;
            int64_t place = offset[s->index[k]]++ * parts;
            for (int p = 0; p < parts; p++)
            {
                index[place + p] = (int32_t) (i * parts + p);
                if (entry != NULL)
                    entry[place + p] = (int32_t) k;
                if (weight != NULL)
                    weight[place + p] = s->weight == NULL ? share : share * s->weight[k * parts + p];
            }
        }
    }
    /* ... which is the start of the next. */
    for (int64_t c = columns; c > 0; c--)
        offset[c] = offset[c - 1] * parts;
    offset[0] = 0;
}

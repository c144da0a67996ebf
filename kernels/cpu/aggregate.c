/*
 * aggregate.c: products of a sparse matrix by rows with a dense one.
 *
 * Bound by the bytes of the rows read. Those wanted next are fetched some
 * entries ahead, across the ends of rows; the sums of a block of columns stay
 * in registers while the sources of a row pass, and the result is written
 * once. A row of more than MOE_STRIP sources is summed a strip at a time, so
 * that each source is read from memory once though it takes several blocks.
 */
#include "kernels/cpu/sparse.h"

typedef struct typed_product
{
    moe_job *job;
    int terms;
    const moe_sparse *s;
    const float *const *x;
    int64_t rows;
    int64_t cols;
    bool add;
    float *out;
} typed_product;

/* The first row that begins at or after a point of the work of all terms together. */
MOE_INLINE int64_t
typed_row_at(const typed_product *p, int64_t work)
{
    if (p->terms == 1)
        return moe_row_at(p->rows, p->s->offset, p->s->width, work);
    int64_t low = 0;
    int64_t high = p->rows;
    while (low < high)
    {
        int64_t middle = low + (high - low) / 2;
        int64_t before = middle;
        for (int t = 0; t < p->terms; t++)
            before += moe_sparse_begin(&p->s[t], middle);
        if (before < work)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void
aggregate_range(int64_t begin, int64_t end, void *arg)
{
    const typed_product *p = arg;
    int64_t cols = p->cols;
    moe_strip strip;
    if (moe_job_cancelled(p->job))
        return;
    int64_t last = typed_row_at(p, end);
    for (int64_t i = typed_row_at(p, begin); i < last; i++)
    {
        float *out = p->out + i * cols;
        bool add = p->add;
        strip.n = 0;
        for (int t = 0; t < p->terms; t++)
        {
            const moe_sparse *s = &p->s[t];
            const float *x = p->x[t];
            int64_t from = moe_sparse_begin(s, i);
            int64_t to = moe_sparse_begin(s, i + 1);
            int64_t known = moe_sparse_begin(s, s->rows) - MOE_AHEAD;
            float share = s->reduce == MOE_MEAN && to > from ? 1.0f / (float) (to - from) : 1.0f;
            for (int64_t k = from; k < to; k++)
            {
                if (k < known)
                    moe_fetch_row(x, cols, s->index[k + MOE_AHEAD]);
                if (s->index[k] < 0)
                    continue;
                if (strip.n == MOE_STRIP)
                {
                    moe_add_strip(&strip, cols, add, out);
                    add = true;
                    strip.n = 0;
                }
                strip.row[strip.n] = x + s->index[k] * cols;
                strip.weight[strip.n++] = s->weight == NULL ? share : share * s->weight[k];
            }
        }
        if (strip.n > 0 || !add)
            moe_add_strip(&strip, cols, add, out);
    }
}

void
moe_cpu_aggregate_types(moe_job *job, int terms, const moe_sparse *s, const float *const *x, int64_t cols, bool add,
                        float *out)
{
    typed_product p = {
        .job = job, .terms = terms, .s = s, .x = x, .rows = s[0].rows, .cols = cols, .add = add, .out = out};
    int64_t work = p.rows;
    for (int t = 0; t < terms; t++)
        work += s[t].entries;
    moe_parallel(job, cols == 0 ? 0 : work, moe_work_grain(cols), aggregate_range, &p);
}

void
moe_cpu_aggregate(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out)
{
    moe_cpu_aggregate_types(job, 1, s, &x, cols, add, out);
}

typedef struct parts_product
{
    moe_job *job;
    const moe_sparse *s;
    int parts;
    int64_t cols;
    const float *x;
    float *out;
} parts_product;

/* Up to MOE_STRIP rows, each with the weights of all its parts. */
typedef struct parts_strip
{
    int n;
    const float *row[MOE_STRIP];
    const float *weight[MOE_STRIP];
} parts_strip;

/* Parts [p, p + parts) of `vectors` lanes of columns from column j on; parts and vectors are constants. */
MOE_INLINE void
add_parts_block(int parts, int vectors, const parts_strip *strip, int p, int64_t cols, int64_t j, bool add, float *out)
{
    moe_lanes sum[MOE_BLOCK_VECTORS];
    out += p * cols + j;
    for (int q = 0; q < parts; q++)
        for (int v = 0; v < vectors; v++)
            sum[q * vectors + v] = (moe_lanes){0};
    for (int i = 0; i < strip->n; i++)
    {
        const float *row = strip->row[i] + j;
        const float *weight = strip->weight[i] + p;
        for (int v = 0; v < vectors; v++)
        {
            moe_lanes value = MOE_LANES_AT(row + v * MOE_LANES);
            for (int q = 0; q < parts; q++)
                sum[q * vectors + v] += weight[q] * value;
        }
    }
    for (int q = 0; q < parts; q++)
        for (int v = 0; v < vectors; v++)
        {
            moe_lanes *to = (moe_lanes *) (out + q * cols + v * MOE_LANES);
            if (add)
                sum[q * vectors + v] += *to;
            *to = sum[q * vectors + v];
        }
}

/* All columns of parts [p, p + parts). */
MOE_INLINE void
add_parts(int parts, const parts_strip *strip, int p, int64_t cols, bool add, float *out)
{
    const int vectors = MOE_BLOCK_VECTORS / parts;
    int64_t j = 0;
    for (; j + vectors * MOE_LANES <= cols; j += vectors * MOE_LANES)
        add_parts_block(parts, vectors, strip, p, cols, j, add, out);
    for (; j + MOE_LANES <= cols; j += MOE_LANES)
        add_parts_block(parts, 1, strip, p, cols, j, add, out);
    for (; j < cols; j++)
    {
        for (int q = p; q < p + parts; q++)
        {
            float sum = 0;
            for (int i = 0; i < strip->n; i++)
                sum += strip->weight[i][q] * strip->row[i][j];
            out[q * cols + j] = add ? out[q * cols + j] + sum : sum;
        }
    }
}

MOE_INLINE void
add_parts_strip(const parts_strip *strip, int parts, int64_t cols, bool add, float *out)
{
    int p = 0;
    for (; p + 4 <= parts; p += 4)
        add_parts(4, strip, p, cols, add, out);
    if (p + 2 <= parts)
    {
        add_parts(2, strip, p, cols, add, out);
        p += 2;
    }
    if (p < parts)
        add_parts(1, strip, p, cols, add, out);
}

static void
aggregate_parts_range(int64_t begin, int64_t end, void *arg)
{
    const parts_product *a = arg;
    const moe_sparse *s = a->s;
    int64_t known = moe_sparse_begin(s, s->rows) - MOE_AHEAD;
    parts_strip strip;
    if (moe_job_cancelled(a->job))
        return;
    int64_t last = moe_row_at(s->rows, s->offset, s->width, end);
    for (int64_t i = moe_row_at(s->rows, s->offset, s->width, begin); i < last; i++)
    {
        float *out = a->out + i * a->parts * a->cols;
        bool add = false;
        int64_t to = moe_sparse_begin(s, i + 1);
        strip.n = 0;
        for (int64_t k = moe_sparse_begin(s, i); k < to; k++)
        {
            if (k < known)
                moe_fetch_row(a->x, a->cols, s->index[k + MOE_AHEAD]);
            if (s->index[k] < 0)
                continue;
            if (strip.n == MOE_STRIP)
            {
                add_parts_strip(&strip, a->parts, a->cols, add, out);
                add = true;
                strip.n = 0;
            }
            strip.row[strip.n] = a->x + s->index[k] * a->cols;
            strip.weight[strip.n++] = s->weight + k * a->parts;
        }
        if (strip.n > 0 || !add)
            add_parts_strip(&strip, a->parts, a->cols, add, out);
    }
}

void
moe_cpu_aggregate_parts(moe_job *job, const moe_sparse *s, int parts, int64_t cols, const float *x, float *out)
{
    parts_product a = {.job = job, .s = s, .parts = parts, .cols = cols, .x = x, .out = out};
    moe_parallel(job, cols == 0 ? 0 : moe_sparse_work(s), moe_work_grain(cols * parts), aggregate_parts_range, &a);
}

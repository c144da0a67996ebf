/*
 * aggregate.c: products of a sparse matrix by rows with a dense one.
 *
 * Bound by the bytes of the rows read. Those wanted next are fetched some
 * entries ahead, across the ends of rows; the sums of a block of columns stay
 * in registers while the sources of a row pass, and the result is written
 * once. A row of more than MOE_STRIP sources is summed a strip at a time, so
 * that each source is read from memory once though it takes several blocks.
 * Where a row is one block there is no need to note which sources make a
 * strip, which costs as much as to add them.
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

/* out = or += sum, which begins anew. */
MOE_INLINE void
put_block(int vectors, moe_lanes *sum, bool add, float *out)
{
    for (int v = 0; v < vectors; v++)
    {
        if (add)
            sum[v] += MOE_LANES_AT(out + v * MOE_LANES);
        MOE_LANES_AT(out + v * MOE_LANES) = sum[v];
        sum[v] = (moe_lanes){0};
    }
}

/* The work [begin, end) where rows are `vectors` (a constant) lanes; to the bit what strips give. */
MOE_INLINE void
aggregate_blocks(int vectors, const typed_product *p, int64_t begin, int64_t end)
{
    const int64_t cols = vectors * MOE_LANES;
    int64_t last = typed_row_at(p, end);
    for (int64_t i = typed_row_at(p, begin); i < last; i++)
    {
        float *out = p->out + i * cols;
        bool add = p->add;
        moe_lanes sum[MOE_BLOCK_VECTORS];
        int n = 0;
        for (int v = 0; v < vectors; v++)
            sum[v] = (moe_lanes){0};
        for (int t = 0; t < p->terms; t++)
        {
            const moe_sparse s = p->s[t];
            const float *x = p->x[t];
            int64_t from = moe_sparse_begin(&s, i);
            int64_t to = moe_sparse_begin(&s, i + 1);
            int64_t known = moe_sparse_begin(&s, s.rows) - MOE_AHEAD;
            float share = s.reduce == MOE_MEAN && to > from ? 1.0f / (float) (to - from) : 1.0f;
            for (int64_t k = from; k < to; k++)
            {
                /* An address that is none does no harm. */
                const float *ahead = x + s.index[k < known ? k + MOE_AHEAD : k] * cols;
                for (int v = 0; v < vectors; v += MOE_LINE_FLOATS / MOE_LANES)
                    __builtin_prefetch(ahead + v * MOE_LANES);
                if (s.index[k] < 0)
                    continue;
                if (n == MOE_STRIP)
                {
                    put_block(vectors, sum, add, out);
                    add = true;
                    n = 0;
                }
                n++;
                const float *row = x + s.index[k] * cols;
                float weight = s.weight == NULL ? share : share * s.weight[k];
                for (int v = 0; v < vectors; v++)
                    sum[v] += weight * MOE_LANES_AT(row + v * MOE_LANES);
            }
        }
        if (n > 0 || !add)
            put_block(vectors, sum, add, out);
    }
}

static void
aggregate_range(int64_t begin, int64_t end, void *arg)
{
    const typed_product *p = arg;
    int64_t cols = p->cols;
    moe_strip strip;
    if (moe_job_cancelled(p->job))
        return;
    if (cols == 8 * MOE_LANES)
    {
        aggregate_blocks(8, p, begin, end);
        return;
    }
    if (cols == 4 * MOE_LANES)
    {
        aggregate_blocks(4, p, begin, end);
        return;
    }
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
                    moe_add_strip(&strip, cols, add, false, out);
                    add = true;
                    strip.n = 0;
                }
                strip.row[strip.n] = x + s->index[k] * cols;
                strip.weight[strip.n++] = s->weight == NULL ? share : share * s->weight[k];
            }
        }
        if (strip.n > 0 || !add)
            moe_add_strip(&strip, cols, add, false, out);
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
    moe_sparse s;
    int parts;
    int64_t cols;
    const float *x;
    float *out;
} parts_product;

/*
 * Parts [p, p + parts) of `vectors` lanes of columns from column j on, over entries [from, to) of the matrix; parts and
 * vectors are constants.
 */
MOE_INLINE void
add_parts_block(int parts, int vectors, const parts_product *a, int64_t from, int64_t to, int p, int64_t j, bool add,
                float *out)
{
    moe_lanes sum[MOE_BLOCK_VECTORS];
    const int64_t cols = a->cols;
    const int64_t stride = a->parts;
    const int32_t *index = a->s.index;
    const float *x = a->x + j;
    const float *weight = a->s.weight + from * stride + p;
    out += p * cols + j;
    for (int q = 0; q < parts * vectors; q++)
        sum[q] = (moe_lanes){0};
    for (int64_t k = from; k < to; k++, weight += stride)
    {
        if (index[k] < 0)
            continue;
        const float *row = x + index[k] * cols;
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
            float *to_lanes = out + q * cols + v * MOE_LANES;
            if (add)
                sum[q * vectors + v] += MOE_LANES_AT(to_lanes);
            MOE_LANES_AT(to_lanes) = sum[q * vectors + v];
        }
}

/* Parts [p, p + parts) of column j. */
MOE_INLINE void
add_parts_column(int parts, const parts_product *a, int64_t from, int64_t to, int p, int64_t j, bool add, float *out)
{
    for (int q = p; q < p + parts; q++)
    {
        float sum = 0;
        for (int64_t k = from; k < to; k++)
            if (a->s.index[k] >= 0)
                sum += a->s.weight[k * a->parts + q] * a->x[a->s.index[k] * a->cols + j];
        out[q * a->cols + j] = add ? out[q * a->cols + j] + sum : sum;
    }
}

/* All columns of parts [p, p + parts). */
MOE_INLINE void
add_parts(int parts, const parts_product *a, int64_t from, int64_t to, int p, bool add, float *out)
{
    const int vectors = MOE_BLOCK_VECTORS / parts;
    int64_t j = 0;
    for (; j + vectors * MOE_LANES <= a->cols; j += vectors * MOE_LANES)
        add_parts_block(parts, vectors, a, from, to, p, j, add, out);
    if (vectors > 2 && j + 2 * MOE_LANES <= a->cols)
    {
        add_parts_block(parts, 2, a, from, to, p, j, add, out);
        j += 2 * MOE_LANES;
    }
    for (; j + MOE_LANES <= a->cols; j += MOE_LANES)
        add_parts_block(parts, 1, a, from, to, p, j, add, out);
    for (; j < a->cols; j++)
        add_parts_column(parts, a, from, to, p, j, add, out);
}

/* All parts, over entries [from, to). */
MOE_INLINE void
add_all_parts(const parts_product *a, int64_t from, int64_t to, bool add, float *out)
{
    int p = 0;
    for (; p + 4 <= a->parts; p += 4)
        add_parts(4, a, from, to, p, add, out);
    if (p + 2 <= a->parts)
    {
        add_parts(2, a, from, to, p, add, out);
        p += 2;
    }
    if (p < a->parts)
        add_parts(1, a, from, to, p, add, out);
}

/* Fetch the sources of entries [fetched, wanted); returns where the next begin. */
MOE_INLINE int64_t
fetch_until(const parts_product *a, int64_t fetched, int64_t wanted)
{
    for (; fetched < wanted; fetched++)
        moe_fetch_row(a->x, a->cols, a->s.index[fetched]);
    return fetched;
}

/* Rows [row, last). The product is a copy, which no store through a vector can change. */
MOE_INLINE void
add_parts_rows(const parts_product a, int64_t row, int64_t last)
{
    int64_t fetched = moe_sparse_begin(&a.s, row);
    int64_t known = moe_sparse_begin(&a.s, last);
    for (; row < last; row++)
    {
        float *out = a.out + row * a.parts * a.cols;
        int64_t from = moe_sparse_begin(&a.s, row);
        int64_t to = moe_sparse_begin(&a.s, row + 1);
        int64_t until = to - from > MOE_STRIP ? from + MOE_STRIP : to;
        fetched = fetch_until(&a, fetched, until + MOE_AHEAD < known ? until + MOE_AHEAD : known);
        add_all_parts(&a, from, until, false, out);
        while (until < to)
        {
            from = until;
            until = to - from > MOE_STRIP ? from + MOE_STRIP : to;
            fetched = fetch_until(&a, fetched, until + MOE_AHEAD < known ? until + MOE_AHEAD : known);
            add_all_parts(&a, from, until, true, out);
        }
    }
}

static void
aggregate_parts_range(int64_t begin, int64_t end, void *arg)
{
    parts_product a = *(const parts_product *) arg;
    if (moe_job_cancelled(a.job))
        return;
    int64_t row = moe_row_at(a.s.rows, a.s.offset, a.s.width, begin);
    int64_t last = moe_row_at(a.s.rows, a.s.offset, a.s.width, end);
    if (a.parts == 4)
    {
        a.parts = 4;
        add_parts_rows(a, row, last);
    }
    else if (a.parts == 2)
    {
        a.parts = 2;
        add_parts_rows(a, row, last);
    }
    else
        add_parts_rows(a, row, last);
}

void
moe_cpu_aggregate_parts(moe_job *job, const moe_sparse *s, int parts, int64_t cols, const float *x, float *out)
{
    parts_product a = {.job = job, .s = *s, .parts = parts, .cols = cols, .x = x, .out = out};
    moe_parallel(job, cols == 0 ? 0 : moe_sparse_work(s), moe_work_grain(cols * parts), aggregate_parts_range, &a);
}

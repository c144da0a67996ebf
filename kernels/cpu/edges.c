/*
 * edges.c: operations that answer or choose by entry: the largest source of a
 * row with the entry it came from, its backward, and products of the two ends
 * of each entry.
 *
 * Walked as in aggregate.c. The maximum keeps, in registers, the largest value
 * and, where it is asked for, the entry's number beside it, and takes both
 * under one mask.
 */
#include "kernels/cpu/sparse.h"

#define MAX_VECTORS 4 /* of values, as many of entry numbers */

typedef struct max_product
{
    moe_job *job;
    const moe_sparse *s;
    int64_t cols;
    const float *x;
    float *out;
    int32_t *argmax;
} max_product;

typedef struct max_strip
{
    moe_strip rows;
    int32_t entry[MOE_STRIP];
} max_strip;

/*
 * `vectors` lanes of columns; without `more`, the first row is the first candidate. vectors and numbered, whether there
 * is an argmax, are constants.
 */
MOE_INLINE void
max_block(int vectors, bool numbered, const max_strip *strip, bool more, float *out, int32_t *argmax, int64_t j)
{
    moe_lanes best[MAX_VECTORS];
    moe_whole_lanes from[MAX_VECTORS] = {{0}};
    for (int v = 0; v < vectors; v++)
    {
        int64_t at = j + v * MOE_LANES;
        if (more)
        {
            best[v] = MOE_LANES_AT(out + at);
            if (numbered)
                from[v] = *(const moe_whole_lanes *) (argmax + at);
        }
        else
        {
            best[v] = strip->rows.weight[0] * MOE_LANES_AT(strip->rows.row[0] + at);
            from[v] = (moe_whole_lanes){0} + strip->entry[0];
        }
    }
    for (int i = more ? 0 : 1; i < strip->rows.n; i++)
    {
        const float *row = strip->rows.row[i] + j;
        moe_whole_lanes entry = (moe_whole_lanes){0} + strip->entry[i];
        for (int v = 0; v < vectors; v++)
        {
            moe_lanes value = strip->rows.weight[i] * MOE_LANES_AT(row + v * MOE_LANES);
            if (numbered)
                moe_keep_larger(value, entry, &best[v], &from[v]);
            else
                best[v] = MOE_LARGER_NUMBER(value, best[v]);
        }
    }
    for (int v = 0; v < vectors; v++)
    {
        MOE_LANES_AT(out + j + v * MOE_LANES) = best[v];
        if (numbered)
            *(moe_whole_lanes *) (argmax + j + v * MOE_LANES) = from[v];
    }
}

MOE_INLINE void
max_strip_into(bool numbered, const max_strip *strip, int64_t cols, bool more, float *out, int32_t *argmax)
{
    int64_t j = 0;
    for (; j + MAX_VECTORS * MOE_LANES <= cols; j += MAX_VECTORS * MOE_LANES)
        max_block(MAX_VECTORS, numbered, strip, more, out, argmax, j);
    for (; j + MOE_LANES <= cols; j += MOE_LANES)
        max_block(1, numbered, strip, more, out, argmax, j);
    for (; j < cols; j++)
    {
        float best = more ? out[j] : strip->rows.weight[0] * strip->rows.row[0][j];
        int32_t from = more && numbered ? argmax[j] : strip->entry[0];
        for (int i = more ? 0 : 1; i < strip->rows.n; i++)
        {
            float value = strip->rows.weight[i] * strip->rows.row[i][j];
            bool wins = !(value <= best) && value == value;
            best = wins ? value : best;
            from = wins ? strip->entry[i] : from;
        }
        out[j] = best;
        if (numbered)
            argmax[j] = from;
    }
}

/*
 * The work [begin, end) where rows are `vectors` lanes: there is no need to note which sources make a strip. vectors
 * and numbered are constants.
 */
MOE_INLINE void
max_blocks(int vectors, bool numbered, const max_product *m, int64_t begin, int64_t end)
{
    const int64_t cols = vectors * MOE_LANES;
    const moe_sparse s = *m->s;
    int64_t known = moe_sparse_begin(&s, s.rows) - MOE_AHEAD;
    int64_t last = moe_row_at(s.rows, s.offset, s.width, end);
    for (int64_t i = moe_row_at(s.rows, s.offset, s.width, begin); i < last; i++)
    {
        moe_lanes best[MOE_BLOCK_VECTORS] = {{0}};
        moe_whole_lanes from[MOE_BLOCK_VECTORS];
        bool any = false;
        int64_t to = moe_sparse_begin(&s, i + 1);
        for (int v = 0; v < vectors; v++)
            from[v] = (moe_whole_lanes){0} - 1;
        for (int64_t k = moe_sparse_begin(&s, i); k < to; k++)
        {
            /* An address that is none does no harm. */
            const float *ahead = m->x + s.index[k < known ? k + MOE_AHEAD : k] * cols;
            for (int v = 0; v < vectors; v += MOE_LINE_FLOATS / MOE_LANES)
                __builtin_prefetch(ahead + v * MOE_LANES);
            if (s.index[k] < 0)
                continue;
            const float *row = m->x + s.index[k] * cols;
            float weight = s.weight == NULL ? 1 : s.weight[k];
            moe_whole_lanes entry = (moe_whole_lanes){0} + (int32_t) k;
            for (int v = 0; v < vectors; v++)
            {
                moe_lanes value = weight * MOE_LANES_AT(row + v * MOE_LANES);
                if (!any)
                {
                    best[v] = value;
                    from[v] = entry;
                }
                else if (numbered)
                    moe_keep_larger(value, entry, &best[v], &from[v]);
                else
                    best[v] = MOE_LARGER_NUMBER(value, best[v]);
            }
            any = true;
        }
        for (int v = 0; v < vectors; v++)
        {
            MOE_LANES_AT(m->out + i * cols + v * MOE_LANES) = best[v];
            if (numbered)
                *(moe_whole_lanes *) (m->argmax + i * cols + v * MOE_LANES) = from[v];
        }
    }
}

/* The same for any number of columns. */
MOE_INLINE void
max_range(bool numbered, const max_product *m, int64_t begin, int64_t end)
{
    const moe_sparse *s = m->s;
    int64_t cols = m->cols;
    int64_t known = moe_sparse_begin(s, s->rows) - MOE_AHEAD;
    max_strip strip;
    int64_t last = moe_row_at(s->rows, s->offset, s->width, end);
    for (int64_t i = moe_row_at(s->rows, s->offset, s->width, begin); i < last; i++)
    {
        float *out = m->out + i * cols;
        int32_t *argmax = numbered ? m->argmax + i * cols : NULL;
        bool more = false;
        int64_t to = moe_sparse_begin(s, i + 1);
        strip.rows.n = 0;
        for (int64_t k = moe_sparse_begin(s, i); k < to; k++)
        {
            if (k < known)
                moe_fetch_row(m->x, cols, s->index[k + MOE_AHEAD]);
            if (s->index[k] < 0)
                continue;
            if (strip.rows.n == MOE_STRIP)
            {
                max_strip_into(numbered, &strip, cols, more, out, argmax);
                more = true;
                strip.rows.n = 0;
            }
            strip.rows.row[strip.rows.n] = m->x + s->index[k] * cols;
            strip.entry[strip.rows.n] = (int32_t) k;
            strip.rows.weight[strip.rows.n++] = s->weight == NULL ? 1 : s->weight[k];
        }
        if (strip.rows.n > 0)
            max_strip_into(numbered, &strip, cols, more, out, argmax);
        else
        {
            memset(out, 0, (size_t) cols * sizeof(float));
            if (numbered)
                memset(argmax, 0xff, (size_t) cols * sizeof(int32_t));
        }
    }
}

static void
aggregate_max_range(int64_t begin, int64_t end, void *arg)
{
    const max_product *m = arg;
    if (moe_job_cancelled(m->job))
        return;
    /* Of one register of values and one of numbers each, sixteen of narrower ones are too many. */
    if (m->cols == 8 * MOE_LANES && MOE_LANES == 16 && m->argmax != NULL)
        max_blocks(8, true, m, begin, end);
    else if (m->cols == 8 * MOE_LANES && m->argmax == NULL)
        max_blocks(8, false, m, begin, end);
    else if (m->cols == 4 * MOE_LANES && m->argmax != NULL)
        max_blocks(4, true, m, begin, end);
    else if (m->cols == 4 * MOE_LANES)
        max_blocks(4, false, m, begin, end);
    else if (m->argmax != NULL)
        max_range(true, m, begin, end);
    else
        max_range(false, m, begin, end);
}

void
moe_cpu_aggregate_max(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, float *out, int32_t *argmax)
{
    max_product m = {.job = job, .s = s, .cols = cols, .x = x, .out = out, .argmax = argmax};
    moe_parallel(job, cols == 0 ? 0 : moe_sparse_work(s), moe_work_grain(cols), aggregate_max_range, &m);
}

typedef struct max_gradient
{
    moe_job *job;
    const moe_sparse *t;
    const int32_t *entry;
    int64_t cols;
    const int32_t *argmax;
    const float *gy;
    bool add;
    float *gx;
} max_gradient;

/* `vectors` (a constant) lanes of columns of one row, of the entries [from, to). */
MOE_INLINE void
max_gradient_block(int vectors, const max_gradient *m, int64_t from, int64_t to, int64_t j, bool add, float *gx)
{
    moe_lanes sum[MOE_BLOCK_VECTORS];
    for (int v = 0; v < vectors; v++)
        sum[v] = (moe_lanes){0};
    for (int64_t k = from; k < to; k++)
    {
        float weight = m->t->weight == NULL ? 1 : m->t->weight[k];
        const float *gy = m->gy + m->t->index[k] * m->cols + j;
        const int32_t *argmax = m->argmax + m->t->index[k] * m->cols + j;
        for (int v = 0; v < vectors; v++)
        {
            moe_whole_lanes mask = *(const moe_whole_lanes *) (argmax + v * MOE_LANES) == m->entry[k];
            moe_lanes part = weight * MOE_LANES_AT(gy + v * MOE_LANES);
            sum[v] += (moe_lanes) (mask & (moe_whole_lanes) part);
        }
    }
    for (int v = 0; v < vectors; v++)
    {
        if (add)
            sum[v] += MOE_LANES_AT(gx + j + v * MOE_LANES);
        MOE_LANES_AT(gx + j + v * MOE_LANES) = sum[v];
    }
}

MOE_INLINE void
max_gradient_strip(const max_gradient *m, int64_t from, int64_t to, bool add, float *gx)
{
    int64_t cols = m->cols;
    int64_t j = 0;
    for (int64_t k = from; k < to; k++)
    {
        moe_fetch_row(m->gy, cols, m->t->index[k]);
        moe_fetch_row((const float *) m->argmax, cols, m->t->index[k]);
    }
    for (; j + 4 * MOE_LANES <= cols; j += 4 * MOE_LANES)
        max_gradient_block(4, m, from, to, j, add, gx);
    for (; j + MOE_LANES <= cols; j += MOE_LANES)
        max_gradient_block(1, m, from, to, j, add, gx);
    for (; j < cols; j++)
    {
        float sum = 0;
        for (int64_t k = from; k < to; k++)
        {
            int64_t at = m->t->index[k] * cols + j;
            if (m->argmax[at] == m->entry[k])
                sum += (m->t->weight == NULL ? 1 : m->t->weight[k]) * m->gy[at];
        }
        gx[j] = add ? gx[j] + sum : sum;
    }
}

static void
max_gradient_range(int64_t begin, int64_t end, void *arg)
{
    const max_gradient *m = arg;
    const moe_sparse *t = m->t;
    if (moe_job_cancelled(m->job))
        return;
    int64_t last = moe_row_at(t->rows, t->offset, t->width, end);
    for (int64_t r = moe_row_at(t->rows, t->offset, t->width, begin); r < last; r++)
    {
        int64_t from = moe_sparse_begin(t, r);
        int64_t to = moe_sparse_begin(t, r + 1);
        bool add = m->add;
        do
        {
            int64_t until = to - from > MOE_STRIP ? from + MOE_STRIP : to;
            max_gradient_strip(m, from, until, add, m->gx + r * m->cols);
            add = true;
            from = until;
        } while (from < to);
    }
}

void
moe_cpu_aggregate_max_backward(moe_job *job, const moe_sparse *t, const int32_t *entry, int64_t cols,
                               const int32_t *argmax, const float *gy, bool add, float *gx)
{
    max_gradient m = {
        .job = job, .t = t, .entry = entry, .cols = cols, .argmax = argmax, .gy = gy, .add = add, .gx = gx};
    moe_parallel(job, cols == 0 ? 0 : moe_sparse_work(t), moe_work_grain(cols), max_gradient_range, &m);
}

typedef struct entry_product
{
    moe_job *job;
    const moe_sparse *s;
    int64_t cols;
    const float *a;
    const float *b;
    bool add;
    float *out;
} entry_product;

/* As moe_row_product, with four chains of sums where the row is long enough to wait for one. */
MOE_INLINE float
dot(const float *a, const float *b, int64_t n)
{
    moe_lanes sum[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * MOE_LANES <= n; i += 4 * MOE_LANES)
        for (int v = 0; v < 4; v++)
            sum[v] += MOE_LANES_AT(a + i + v * MOE_LANES) * MOE_LANES_AT(b + i + v * MOE_LANES);
    moe_lanes total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    return moe_add_lanes((const float *) &total) + moe_row_product(a + i, b + i, n - i);
}

static void
edge_dot_range(int64_t begin, int64_t end, void *arg)
{
    const entry_product *e = arg;
    const moe_sparse *s = e->s;
    int64_t cols = e->cols;
    int64_t known = moe_sparse_begin(s, s->rows) - MOE_AHEAD;
    if (moe_job_cancelled(e->job))
        return;
    int64_t last = moe_row_at(s->rows, s->offset, s->width, end);
    for (int64_t i = moe_row_at(s->rows, s->offset, s->width, begin); i < last; i++)
    {
        int64_t to = moe_sparse_begin(s, i + 1);
        for (int64_t k = moe_sparse_begin(s, i); k < to; k++)
        {
            if (k < known)
                moe_fetch_row(e->b, cols, s->index[k + MOE_AHEAD]);
            float product = s->index[k] < 0 ? 0 : dot(e->a + i * cols, e->b + s->index[k] * cols, cols);
            e->out[k] = e->add ? e->out[k] + product : product;
        }
    }
}

void
moe_cpu_edge_dot(moe_job *job, const moe_sparse *s, int64_t cols, const float *a, const float *b, bool add, float *out)
{
    entry_product e = {.job = job, .s = s, .cols = cols, .a = a, .b = b, .add = add, .out = out};
    moe_parallel(job, moe_sparse_work(s), moe_work_grain(cols), edge_dot_range, &e);
}

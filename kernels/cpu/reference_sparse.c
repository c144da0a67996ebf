/*
 * reference_sparse.c: the sparse operations in their plainest form.
 */
#include <math.h>

#include "kernels/cpu/reference.h"

void
moe_reference_gather(moe_job *job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out)
{
    for (int64_t i = 0; i < n; i++)
    {
        for (int64_t j = 0; j < cols; j++)
            moe_reference_put(&out[i * cols + j], add, index[i] < 0 ? 0 : x[index[i] * cols + j]);
    }
}

/* The sum of s x at row i, column j. */
static double
row_total(const moe_sparse *s, int64_t i, int64_t j, int64_t cols, const float *x)
{
    int64_t from = moe_sparse_begin(s, i);
    int64_t to = moe_sparse_begin(s, i + 1);
    double total = 0;
    for (int64_t k = from; k < to; k++)
    {
        if (s->index[k] >= 0)
            total += (s->weight == NULL ? 1.0 : s->weight[k]) * x[s->index[k] * cols + j];
    }
    return s->reduce == MOE_MEAN && to > from ? total / (double) (to - from) : total;
}

void
moe_reference_aggregate(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out)
{
    for (int64_t i = 0; i < s->rows; i++)
    {
        for (int64_t j = 0; j < cols; j++)
            moe_reference_put(&out[i * cols + j], add, row_total(s, i, j, cols, x));
    }
}

void
moe_reference_aggregate_types(moe_job *job, int terms, const moe_sparse *s, const float *const *x, int64_t cols,
                              bool add, float *out)
{
    for (int64_t i = 0; i < s[0].rows; i++)
    {
        for (int64_t j = 0; j < cols; j++)
        {
            double total = 0;
            for (int t = 0; t < terms; t++)
                total += row_total(&s[t], i, j, cols, x[t]);
            moe_reference_put(&out[i * cols + j], add, total);
        }
    }
}

void
moe_reference_aggregate_max(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, float *out,
                            int32_t *argmax)
{
    for (int64_t i = 0; i < s->rows; i++)
    {
        for (int64_t j = 0; j < cols; j++)
        {
            float best = 0;
            int32_t from = -1;
            for (int64_t k = moe_sparse_begin(s, i); k < moe_sparse_begin(s, i + 1); k++)
            {
                if (s->index[k] < 0)
                    continue;
                float value = (s->weight == NULL ? 1.0f : s->weight[k]) * x[s->index[k] * cols + j];
                if (from < 0 || value > best || (isnan(best) && !isnan(value)))
                {
                    best = value;
                    from = (int32_t) k;
                }
            }
            out[i * cols + j] = best;
            if (argmax != NULL)
                argmax[i * cols + j] = from;
        }
    }
}

void
moe_reference_aggregate_max_backward(moe_job *job, const moe_sparse *t, const int32_t *entry, int64_t cols,
                                     const int32_t *argmax, const float *gy, bool add, float *gx)
{
    for (int64_t r = 0; r < t->rows; r++)
    {
        for (int64_t j = 0; j < cols; j++)
        {
            double total = 0;
            for (int64_t k = moe_sparse_begin(t, r); k < moe_sparse_begin(t, r + 1); k++)
            {
                int64_t at = t->index[k] * cols + j;
                if (argmax[at] == entry[k])
                    total += (t->weight == NULL ? 1.0 : t->weight[k]) * gy[at];
            }
            moe_reference_put(&gx[r * cols + j], add, total);
        }
    }
}

void
moe_reference_edge_dot(moe_job *job, const moe_sparse *s, int64_t cols, const float *a, const float *b, bool add,
                       float *out)
{
    for (int64_t i = 0; i < s->rows; i++)
    {
        for (int64_t k = moe_sparse_begin(s, i); k < moe_sparse_begin(s, i + 1); k++)
        {
            double total = 0;
            for (int64_t j = 0; s->index[k] >= 0 && j < cols; j++)
                total += (double) a[i * cols + j] * b[s->index[k] * cols + j];
            moe_reference_put(&out[k], add, total);
        }
    }
}

void
moe_reference_aggregate_parts(moe_job *job, const moe_sparse *s, int parts, int64_t cols, const float *x, float *out)
{
    for (int64_t i = 0; i < s->rows; i++)
    {
        for (int64_t j = 0; j < parts * cols; j++)
        {
            double total = 0;
            for (int64_t k = moe_sparse_begin(s, i); k < moe_sparse_begin(s, i + 1); k++)
            {
                if (s->index[k] >= 0)
                    total += (double) s->weight[k * parts + j / cols] * x[s->index[k] * cols + j % cols];
            }
            out[i * parts * cols + j] = (float) total;
        }
    }
}

void
moe_reference_sum_rows(moe_job *job, int64_t n, int64_t cols, int terms, const float *const *x,
                       const int32_t *const *index, float *out)
{
    for (int64_t i = 0; i < n; i++)
    {
        for (int64_t j = 0; j < cols; j++)
        {
            double total = 0;
            for (int t = 0; t < terms; t++)
            {
                int64_t row = index[t] == NULL ? i : index[t][i];
                total += row < 0 ? 0 : x[t][row * cols + j];
            }
            out[i * cols + j] = (float) total;
        }
    }
}

void
moe_reference_transpose(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index,
                        float *weight, int32_t *entry)
{
    int64_t place = 0;
    for (int64_t c = 0; c < columns; c++)
    {
        offset[c] = place;
        for (int64_t i = 0; i < s->rows; i++)
        {
            int64_t from = moe_sparse_begin(s, i);
            int64_t to = moe_sparse_begin(s, i + 1);
            for (int64_t k = from; k < to; k++)
            {
                if (s->index[k] != c)
                    continue;
                for (int p = 0; p < parts; p++, place++)
                {
                    index[place] = (int32_t) (i * parts + p);
                    if (entry != NULL)
                        entry[place] = (int32_t) k;
                    if (weight != NULL)
                        weight[place] = (float) ((s->weight == NULL ? 1.0 : s->weight[k * parts + p]) /
                                                 (s->reduce == MOE_MEAN ? (double) (to - from) : 1.0));
                }
            }
        }
    }
    offset[columns] = place;
}

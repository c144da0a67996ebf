/*
 * dense_columns.c: relevance of columns, from sums over rows.
 *
 * With weights w, a column x and a label y the squared correlation is
 * cov(x, y)^2 / (var(x) var(y)); of classes c, with weight W_c and sum S_c of x,
 *
 *     (sum over c of S_c^2 / W_c - S^2 / W) / (sum of w x^2 - S^2 / W),
 *
 * which for two classes is the same number.
 */
#include "gnn/dense_columns.h"

#include <math.h>
#include <stdlib.h>

#define COLUMNS   16 /* of one chunk: a cache line of a row */
#define ROW_GRAIN 1024

typedef struct sums
{
    moe_job *job;
    const moe_dense_rows *rows;
    int classes;        /* 0: the label is a number */
    double total;       /* weight */
    double mean;        /* of the label */
    double variance;    /* of the label, times total */
    double *class_sum;  /* [width * classes] */
    const double *part; /* [classes] weight of each class */
    double *relevance;
} sums;

static inline double
weight_of(const moe_dense_rows *rows, int64_t i)
{
    return rows->weight == NULL ? 1 : rows->weight[i];
}

/* What column j has in common with the label, in the same units as its variance. */
static double
common(const sums *s, int64_t j, double sum, double product)
{
    if (s->classes == 0)
        return s->variance > 0 ? product * product / s->variance : 0;
    double between = -sum * sum / s->total;
    for (int c = 0; c < s->classes; c++)
        if (s->part[c] > 0)
            between += s->class_sum[j * s->classes + c] * s->class_sum[j * s->classes + c] / s->part[c];
    return between;
}

static void
relevance_range(int64_t begin, int64_t end, void *arg)
{
    const sums *s = arg;
    const moe_dense_rows *rows = s->rows;
    double sum[COLUMNS] = {0};
    double square[COLUMNS] = {0};
    double product[COLUMNS] = {0};
    for (int64_t i = 0; i < rows->n; i++)
    {
        const float *x = rows->x + i * rows->width;
        double w = weight_of(rows, i);
        if (i % ROW_GRAIN == 0 && moe_job_cancelled(s->job))
            return;
        for (int64_t j = begin; j < end; j++)
        {
            sum[j - begin] += w * x[j];
            square[j - begin] += w * x[j] * x[j];
            product[j - begin] += w * x[j] * (rows->label[i] - s->mean);
            if (s->classes > 0)
                s->class_sum[j * s->classes + (int) rows->label[i]] += w * x[j];
        }
    }
    for (int64_t j = begin; j < end; j++)
    {
        double total = square[j - begin];
        double variance = total - sum[j - begin] * sum[j - begin] / s->total;
        double share = common(s, j, sum[j - begin], product[j - begin]) / variance;
        /* A constant column's variance is what rounding leaves of it. */
        s->relevance[j] = variance > 1e-9 * total && share > 0 ? fmin(share, 1) : 0;
    }
}

moe_code
moe_dense_relevance(moe_job *job, const moe_dense_task *task, const moe_dense_rows *rows, double *relevance)
{
    sums s = {.job = job, .rows = rows, .relevance = relevance};
    s.classes = task->task == MOE_REGRESSION ? 0 : task->task == MOE_BINARY ? 2 : task->n_classes;
    double *part = moe_alloc(job, s.classes, sizeof *part);
    s.class_sum = moe_alloc(job, rows->width, (size_t) s.classes * sizeof *s.class_sum);
    if (part == NULL || s.class_sum == NULL)
        return moe_job_code(job);
    for (int64_t i = 0; i < rows->n; i++)
    {
        s.total += weight_of(rows, i);
        s.mean += weight_of(rows, i) * rows->label[i];
        if (s.classes > 0)
            part[(int) rows->label[i]] += weight_of(rows, i);
    }
    s.mean = s.total > 0 ? s.mean / s.total : 0;
    for (int64_t i = 0; i < rows->n; i++)
        s.variance += weight_of(rows, i) * (rows->label[i] - s.mean) * (rows->label[i] - s.mean);
    s.part = part;
    moe_parallel(job, rows->width, COLUMNS, relevance_range, &s);
    moe_free(job, part);
    moe_free(job, s.class_sum);
    return moe_job_check(job);
}

typedef struct ranked
{
    double relevance;
    int32_t column;
} ranked;

static int
by_relevance(const void *a, const void *b)
{
    const ranked *x = a;
    const ranked *y = b;
    if (x->relevance != y->relevance)
        return x->relevance > y->relevance ? -1 : 1;
    return x->column < y->column ? -1 : 1;
}

static int
by_column(const void *a, const void *b)
{
    int32_t x = *(const int32_t *) a;
    int32_t y = *(const int32_t *) b;
    return (x > y) - (x < y);
}

moe_code
moe_dense_best_columns(moe_job *job, const double *relevance, int width, int n, int32_t *columns)
{
    ranked *order = moe_alloc(job, width, sizeof *order);
    if (order == NULL)
        return moe_job_code(job);
    for (int j = 0; j < width; j++)
        order[j] = (ranked){relevance[j], j};
    qsort(order, width, sizeof *order, by_relevance);
    for (int j = 0; j < n; j++)
        columns[j] = order[j].column;
    qsort(columns, n, sizeof *columns, by_column);
    moe_free(job, order);
    return MOE_OK;
}

void
moe_dense_put_columns(moe_buffer *buffer, const int32_t *columns, int n)
{
    moe_put_i64(buffer, n);
    for (int j = 0; j < n; j++)
        moe_put_i32(buffer, columns[j]);
}

moe_code
moe_dense_get_columns(moe_reader *reader, int width, int most, int32_t *columns, int *n)
{
    int64_t count = moe_get_count(reader, sizeof(int32_t));
    moe_code code = moe_reader_code(reader);
    if (code == MOE_OK && (count < 1 || count > most || count > width))
        code = moe_fail(reader->job, MOE_CORRUPT, "a stored expert reads %lld of %d columns", (long long) count, width);
    for (int64_t j = 0; code == MOE_OK && j < count; j++)
    {
        columns[j] = moe_get_i32(reader);
        code = moe_reader_code(reader);
        if (code == MOE_OK && (columns[j] < (j == 0 ? 0 : columns[j - 1] + 1) || columns[j] >= width))
            code = moe_fail(reader->job, MOE_CORRUPT, "a stored expert reads column %d of %d", columns[j], width);
    }
    *n = code == MOE_OK ? (int) count : 0;
    return code;
}

typedef struct taking
{
    const moe_dense_rows *rows;
    const int32_t *columns;
    int n;
    float *out;
} taking;

static void
take_range(int64_t begin, int64_t end, void *arg)
{
    const taking *t = arg;
    for (int64_t i = begin; i < end; i++)
        for (int j = 0; j < t->n; j++)
            t->out[i * t->n + j] = t->rows->x[i * t->rows->width + t->columns[j]];
}

void
moe_dense_take_columns(moe_job *job, const moe_dense_rows *rows, const int32_t *columns, int n, float *out)
{
    taking t = {rows, columns, n, out};
    moe_parallel(job, rows->n, ROW_GRAIN, take_range, &t);
}

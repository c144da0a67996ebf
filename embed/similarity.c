/*
 * similarity.c: cosine, rank correlation, multiset overlap and nearest rows.
 *
 * Sums run in double and in the order of the numbers, so that results do not
 * depend on the number of threads.
 */
#include "embed/similarity.h"

#include <math.h>
#include <stdlib.h>

#define GRAIN 8 /* rows whose neighbours a thread looks for at a time */

static double
dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double) a[i] * b[i];
    return sum;
}

double
moe_cosine(const float *a, const float *b, int64_t n)
{
    double norms = sqrt(dot(a, a, n)) * sqrt(dot(b, b, n));

    return norms > 0 ? dot(a, b, n) / norms : 0;
}

typedef struct ranked
{
    double value;
    int64_t place;
} ranked;

static int
compare_ranked(const void *a, const void *b)
{
    const ranked *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* Ranks from 1, equal values sharing the mean of theirs. */
static void
rank_values(const double *x, int64_t n, ranked *work, double *rank)
{
    for (int64_t i = 0; i < n; i++)
        work[i] = (ranked){x[i], i};
    qsort(work, n, sizeof(*work), compare_ranked);
    for (int64_t i = 0, end; i < n; i = end)
    {
        for (end = i + 1; end < n && work[end].value == work[i].value;)
            end++;
        for (int64_t k = i; k < end; k++)
            rank[work[k].place] = (double) (i + end + 1) / 2;
    }
}

/* Pearson's correlation; NaN where one side is constant. */
static double
correlate(const double *x, const double *y, int64_t n)
{
    double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;

    for (int64_t i = 0; i < n; i++)
    {
        mean_x += x[i] / (double) n;
        mean_y += y[i] / (double) n;
    }
    for (int64_t i = 0; i < n; i++)
    {
        xx += (x[i] - mean_x) * (x[i] - mean_x);
        yy += (y[i] - mean_y) * (y[i] - mean_y);
        xy += (x[i] - mean_x) * (y[i] - mean_y);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

moe_code
moe_spearman(moe_job *job, const double *x, const double *y, int64_t n, double *out)
{
    ranked *work = moe_alloc(job, n, sizeof(*work));
    double *rank_x = moe_alloc(job, n, sizeof(*rank_x));
    double *rank_y = moe_alloc(job, n, sizeof(*rank_y));

    *out = NAN;
    if (work && rank_x && rank_y && n >= 3)
    {
        rank_values(x, n, work, rank_x);
        rank_values(y, n, work, rank_y);
        *out = correlate(rank_x, rank_y, n);
    }
    moe_free(job, work);
    moe_free(job, rank_x);
    moe_free(job, rank_y);
    return moe_job_code(job);
}

double
moe_multiset_jaccard(const int32_t *a, int64_t n, const int32_t *b, int64_t m)
{
    int64_t common = 0;

    for (int64_t i = 0, k = 0; i < n && k < m;)
    {
        common += a[i] == b[k];
        if (a[i] <= b[k])
            k += a[i++] == b[k];
        else
            k++;
    }
    return n + m > 0 ? (double) common / (double) (n + m) : 0;
}

typedef struct search
{
    moe_job *job;
    const float *x;
    int64_t n, width, stride, k;
    double *norm; /* [n] */
    double *near; /* [n, k] cosines of those found */
    int32_t *out;
} search;

/* Put row `other` among the k nearest of row i, if it belongs there; `found` are there already. */
static int64_t
keep_nearest(const search *s, int64_t i, int64_t other, double cosine, int64_t found)
{
    double *near = s->near + i * s->k;
    int32_t *row = s->out + i * s->k;
    int64_t at = found < s->k ? found : s->k - 1;

    if (found == s->k && !(cosine > near[at]))
        return found;
    for (; at > 0 && cosine > near[at - 1]; at--)
    {
        near[at] = near[at - 1];
        row[at] = row[at - 1];
    }
    near[at] = cosine;
    row[at] = (int32_t) other;
    return found < s->k ? found + 1 : found;
}

static void
search_rows(int64_t begin, int64_t end, void *arg)
{
    const search *s = arg;

    for (int64_t i = begin; i < end && !moe_job_cancelled(s->job); i++)
    {
        int64_t found = 0;

        for (int64_t other = 0; other < s->n; other++)
        {
            double norms = s->norm[i] * s->norm[other];

            if (other == i)
                continue;
            found = keep_nearest(s, i, other,
                                 norms > 0 ? dot(s->x + i * s->stride, s->x + other * s->stride, s->width) / norms : 0,
                                 found);
        }
    }
}

moe_code
moe_nearest_rows(moe_job *job, const float *x, int64_t n, int64_t width, int64_t stride, int64_t k, int32_t *out)
{
    search s = {.job = job, .x = x, .n = n, .width = width, .stride = stride, .k = k, .out = out};

    if (k < 1 || k >= n)
        return moe_fail(job, MOE_INVALID, "%lld nearest of %lld rows make no sense", (long long) k, (long long) n);
    s.norm = moe_alloc(job, n, sizeof(*s.norm));
    s.near = moe_alloc(job, n, k * sizeof(*s.near));
    if (s.norm && s.near)
    {
        for (int64_t i = 0; i < n; i++)
            s.norm[i] = sqrt(dot(x + i * stride, x + i * stride, width));
        moe_parallel(job, n, GRAIN, search_rows, &s);
    }
    moe_free(job, s.norm);
    moe_free(job, s.near);
    return moe_job_check(job);
}

double
moe_shared_rows(const int32_t *a, const int32_t *b, int64_t n, int64_t k)
{
    int64_t shared = 0;

    for (int64_t at = 0; at < n * k; at++)
        for (int64_t i = at / k * k; i < at / k * k + k; i++)
            shared += a[at] == b[i];
    return n * k > 0 ? (double) shared / (double) (n * k) : 0;
}

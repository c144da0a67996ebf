/*
 * level.c: what everyone's labels were of late.
 *
 * Counts and sums of each series run over the moments at which labels begin;
 * those of one moment are summed in the order in which they were given, so that rows do not matter. A mean is the
 * difference of two sums, which are kept in two parts each, so that it is exact beside labels of any size.
 */
#include "embed/level.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SPANS 5
#define SEEDS 1024 /* a chunk */
#define POLL  65536

static const int span[SPANS] = {1, 3, 12, 24, 40};

struct moe_level
{
    moe_job *job;
    int64_t window;
    int classes;
    int series;
    int64_t n;      /* moments at which labels begin */
    int64_t *time;  /* [n] ascending */
    int64_t *count; /* [n + 1] labels of the first moments */
    double *sum;    /* [n + 1, series, 2] of these, in two parts: what the first has lost in rounding is the second */
};

typedef struct told /* one label */
{
    int64_t time;
    int64_t order;
} told;

int
moe_level_columns(int classes)
{
    return moe_history_series(classes) * SPANS;
}

void
moe_level_name(int classes, int column, char *out, size_t size)
{
    char of[48] = "mean label", over[32] = "last window";

    if (classes >= 2)
        snprintf(of, sizeof of, "share of class %d", column / SPANS);
    if (column % SPANS > 0)
        snprintf(over, sizeof over, "last %d windows", span[column % SPANS]);
    snprintf(out, size, "everyone's %s, %s", of, over);
}

static int
by_time(const void *left, const void *right)
{
    const told *a = left, *b = right;

    if (a->time != b->time)
        return a->time < b->time ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

/* The labels that are some, by time; they mostly come so. *n says how many. */
static moe_code
sort_labels(const moe_level *l, const moe_past_labels *labels, told *all, int64_t *n)
{
    bool sorted = true;

    *n = 0;
    for (int64_t i = 0; i < labels->n; i++)
    {
        float label = labels->label[i];

        if (i % POLL == 0 && moe_job_check(l->job) != MOE_OK)
            return moe_job_code(l->job);
        if (isnan(label))
            continue;
        if (isinf(label) || (l->classes > 1 && !(label >= 0 && label < (float) l->classes && label == floorf(label))))
            return moe_fail(l->job, MOE_INVALID, "a past label is %g, of %d classes", label, l->classes);
        sorted = sorted && (*n == 0 || all[*n - 1].time <= labels->time[i]);
        all[(*n)++] = (told){labels->time[i], i};
    }
    if (!sorted)
        qsort(all, (size_t) *n, sizeof *all, by_time);
    return MOE_OK;
}

/* sum[0] + sum[1] grows by x (Neumaier's summation). */
static void
add(double *sum, double x)
{
    double total = sum[0] + x;

    sum[1] += fabs(sum[0]) >= fabs(x) ? (sum[0] - total) + x : (x - total) + sum[0];
    sum[0] = total;
}

static moe_code
allocate(moe_level *l, int64_t n)
{
    l->time = moe_alloc(l->job, n, sizeof *l->time);
    l->count = moe_alloc(l->job, n + 1, sizeof *l->count);
    l->sum = moe_alloc(l->job, n + 1, 2 * (size_t) l->series * sizeof *l->sum);
    return moe_job_check(l->job);
}

/* Counts and sums of n labels in order of time. */
static void
sum_up(moe_level *l, const moe_past_labels *labels, const told *all, int64_t n)
{
    int width = 2 * l->series;

    for (int64_t i = 0; i < n; i++)
    {
        float label = labels->label[all[i].order];

        if (i == 0 || all[i].time != all[i - 1].time)
        {
            l->time[l->n++] = all[i].time;
            l->count[l->n] = l->count[l->n - 1];
            for (int s = 0; s < width; s++)
                l->sum[l->n * width + s] = l->sum[(l->n - 1) * width + s];
        }
        l->count[l->n]++;
        for (int s = 0; s < l->series; s++)
            add(&l->sum[l->n * width + 2 * s], l->classes > 1 ? label == (float) s : (double) label);
    }
}

static moe_level *
create(moe_job *job, int64_t window, int classes)
{
    moe_level *l = moe_alloc(job, 1, sizeof *l);

    if (l)
        *l = (moe_level){.job = job, .window = window, .classes = classes, .series = moe_history_series(classes)};
    return l;
}

moe_code
moe_level_create(moe_job *job, const moe_past_labels *labels, int64_t window, int classes, moe_level **out)
{
    moe_level *l;
    told *all;
    int64_t n = 0;
    moe_code code;

    *out = NULL;
    if (labels->n < 0 || window < 1 || classes < 1)
        return moe_fail(job, MOE_INVALID, "the level of %" PRId64 " labels of windows of %" PRId64 " makes no sense",
                        labels->n, window);
    if (!(l = create(job, window, classes)))
        return moe_job_code(job);
    all = moe_alloc(job, labels->n, sizeof *all);
    code = all ? sort_labels(l, labels, all, &n) : moe_job_code(job);
    if (code == MOE_OK)
        code = allocate(l, n);
    if (code == MOE_OK)
        sum_up(l, labels, all, n);
    moe_free(job, all);
    if (code == MOE_OK)
        *out = l;
    else
        moe_level_destroy(l);
    return code;
}

void
moe_level_destroy(moe_level *level)
{
    if (!level)
        return;
    moe_free(level->job, level->time);
    moe_free(level->job, level->count);
    moe_free(level->job, level->sum);
    moe_free(level->job, level);
}

void
moe_level_write(const moe_level *l, moe_buffer *buffer)
{
    moe_put_i64(buffer, l->n);
    for (int64_t i = 0; i < l->n; i++)
    {
        moe_put_i64(buffer, l->time[i]);
        moe_put_i64(buffer, l->count[i + 1]);
        for (int s = 0; s < 2 * l->series; s++)
            moe_put_f64(buffer, l->sum[(i + 1) * 2 * l->series + s]);
    }
}

moe_code
moe_level_read(moe_job *job, moe_reader *reader, int64_t window, int classes, moe_level **out)
{
    moe_level *l = create(job, window, classes);
    int64_t n;
    bool fits = true;

    *out = NULL;
    if (!l)
        return moe_job_code(job);
    n = moe_get_count(reader, 16 + 16 * l->series);
    if (moe_reader_code(reader) != MOE_OK || allocate(l, n) != MOE_OK)
    {
        moe_level_destroy(l);
        return moe_job_code(job);
    }
    for (int64_t i = 0; i < n; i++, l->n++)
    {
        l->time[i] = moe_get_i64(reader);
        l->count[i + 1] = moe_get_i64(reader);
        fits = fits && l->count[i + 1] > l->count[i] && (i == 0 || l->time[i] > l->time[i - 1]);
        for (int s = 0; s < 2 * l->series; s++)
        {
            double sum = moe_get_f64(reader);

            l->sum[(i + 1) * 2 * l->series + s] = sum;
            fits = fits && isfinite(sum);
        }
    }
    if (moe_reader_code(reader) == MOE_OK && !fits)
        moe_fail(job, MOE_CORRUPT, "the stored level of the labels is damaged");
    if (moe_job_code(job) == MOE_OK)
        *out = l;
    else
        moe_level_destroy(l);
    return moe_job_code(job);
}

/* How many of the first n moments are not after one. */
static int64_t
count_until(const moe_level *l, int64_t n, int64_t moment)
{
    int64_t low = 0;

    while (low < n)
    {
        int64_t middle = low + (n - low) / 2;

        if (l->time[middle] <= moment)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

typedef struct computing
{
    const moe_level *level;
    const moe_moments *moments;
    float *out;
} computing;

/* The mean of a series over the labels of moments [since, known). */
static double
mean_between(const moe_level *l, int64_t since, int64_t known, int series)
{
    const double *from = &l->sum[(since * l->series + series) * 2], *to = &l->sum[(known * l->series + series) * 2];

    return ((to[0] - from[0]) + (to[1] - from[1])) / (double) (l->count[known] - l->count[since]);
}

static void
compute_seeds(int64_t begin, int64_t end, void *arg)
{
    const computing *c = arg;
    const moe_level *l = c->level;

    if (moe_job_cancelled(l->job))
        return;
    for (int64_t i = begin; i < end; i++)
    {
        int64_t horizon = c->moments->horizon ? c->moments->horizon[i] : c->moments->time[i];
        int64_t known = count_until(l, l->n, moe_windows_before(l->window, horizon, 1));
        float *out = c->out + i * l->series * SPANS;

        for (int k = 0; k < SPANS; k++)
        {
            int64_t since =
                known == 0 ? 0 : count_until(l, known, moe_windows_before(l->window, l->time[known - 1], span[k]));

            for (int s = 0; s < l->series; s++)
                out[s * SPANS + k] = known == 0 ? NAN : (float) mean_between(l, since, known, s);
        }
    }
}

moe_code
moe_level_compute(moe_level *level, const moe_moments *moments, float *out)
{
    computing c = {level, moments, out};

    moe_parallel(level->job, moments->n, SEEDS, compute_seeds, &c);
    return moe_job_check(level->job);
}

/*
 * level.c: what everyone's labels were of late.
 *
 * Labels stand by time, with running sums of each series; those of one time in
 * the order in which they were given, so that sums do not depend on rows.
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
    int64_t n;
    int64_t *time; /* [n] ascending */
    double *sum;   /* [n + 1, series] of the first labels */
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

/* The labels that are some, by time; they mostly come so. */
static moe_code
sort_labels(moe_level *l, const moe_past_labels *labels, told *all)
{
    bool sorted = true;

    for (int64_t i = 0; i < labels->n; i++)
    {
        float label = labels->label[i];

        if (i % POLL == 0 && moe_job_check(l->job) != MOE_OK)
            return moe_job_code(l->job);
        if (isnan(label))
            continue;
        if (isinf(label) || (l->classes > 1 && !(label >= 0 && label < (float) l->classes && label == floorf(label))))
            return moe_fail(l->job, MOE_INVALID, "a past label is %g, of %d classes", label, l->classes);
        sorted = sorted && (l->n == 0 || all[l->n - 1].time <= labels->time[i]);
        all[l->n++] = (told){labels->time[i], i};
    }
    if (!sorted)
        qsort(all, (size_t) l->n, sizeof *all, by_time);
    return MOE_OK;
}

static void
sum_up(moe_level *l, const moe_past_labels *labels, const told *all)
{
    for (int64_t i = 0; i < l->n; i++)
    {
        float label = labels->label[all[i].order];

        l->time[i] = all[i].time;
        for (int s = 0; s < l->series; s++)
            l->sum[(i + 1) * l->series + s] =
                l->sum[i * l->series + s] + (l->classes > 1 ? label == (float) s : (double) label);
    }
}

moe_code
moe_level_create(moe_job *job, const moe_past_labels *labels, int64_t window, int classes, moe_level **out)
{
    moe_level *l;
    told *all;
    moe_code code;

    *out = NULL;
    if (labels->n < 0 || window < 1 || classes < 1)
        return moe_fail(job, MOE_INVALID, "the level of %" PRId64 " labels of windows of %" PRId64 " makes no sense",
                        labels->n, window);
    if (!(l = moe_alloc(job, 1, sizeof *l)))
        return moe_job_code(job);
    *l = (moe_level){.job = job, .window = window, .classes = classes, .series = moe_history_series(classes)};
    all = moe_alloc(job, labels->n, sizeof *all);
    code = all ? sort_labels(l, labels, all) : moe_job_code(job);
    if (code == MOE_OK)
    {
        l->time = moe_alloc(job, l->n, sizeof *l->time);
        l->sum = moe_alloc(job, l->n + 1, (size_t) l->series * sizeof *l->sum);
        code = moe_job_check(job);
    }
    if (code == MOE_OK)
        sum_up(l, labels, all);
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
    moe_free(level->job, level->sum);
    moe_free(level->job, level);
}

/* time - k windows; the beginning of time if that lies before it. */
static int64_t
windows_before(const moe_level *l, int64_t time, int k)
{
    int64_t length, moment;

    if (__builtin_mul_overflow(l->window, (int64_t) k, &length) || __builtin_sub_overflow(time, length, &moment))
        return INT64_MIN;
    return moment;
}

/* How many of the first n labels have time <= moment. */
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
        int64_t known = count_until(l, l->n, windows_before(l, horizon, 1));
        float *out = c->out + i * l->series * SPANS;

        for (int k = 0; k < SPANS; k++)
        {
            int64_t since = known == 0 ? 0 : count_until(l, known, windows_before(l, l->time[known - 1], span[k]));

            for (int s = 0; s < l->series; s++)
                out[s * SPANS + k] = known == 0
                                         ? NAN
                                         : (float) ((l->sum[known * l->series + s] - l->sum[since * l->series + s]) /
                                                    (double) (known - since));
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

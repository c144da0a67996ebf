/*
 * aggregates_sort.c: events and seeds by owner, time and number.
 *
 * Runs of fixed length are sorted side by side, then merged pairwise, level by
 * level. All keys differ, so there is one result. What is in order already, as
 * the rows of a table mostly are, costs one look.
 */
#include "embed/aggregates_plan.h"

#include <stdlib.h>
#include <string.h>

#define RUN  4096
#define POLL 65536

typedef struct sorting
{
    moe_job *job;
    moe_agg_record *from, *to;
    int64_t n;
    int64_t width; /* of sorted runs */
} sorting;

static int
compare(const void *left, const void *right)
{
    const moe_agg_record *a = left, *b = right;

    if (a->owner != b->owner)
        return a->owner < b->owner ? -1 : 1;
    if (a->time != b->time)
        return a->time < b->time ? -1 : 1;
    return (a->item > b->item) - (a->item < b->item);
}

static void
sort_run(int64_t begin, int64_t end, void *arg)
{
    const sorting *s = arg;

    qsort(s->from + begin, (size_t) (end - begin), sizeof(*s->from), compare);
}

static int64_t
least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void
merge_pair(int64_t pair, int64_t unused, void *arg)
{
    const sorting *s = arg;
    int64_t a = pair * 2 * s->width;
    int64_t middle = least(a + s->width, s->n), end = least(a + 2 * s->width, s->n);
    int64_t b = middle;

    for (int64_t at = a; at < end; at++)
    {
        if (at % POLL == 0 && moe_job_cancelled(s->job))
            return;
        s->to[at] = b >= end || (a < middle && compare(&s->from[a], &s->from[b]) < 0) ? s->from[a++] : s->from[b++];
    }
}

static bool
in_order(const moe_agg_record *records, int64_t n)
{
    for (int64_t i = 1; i < n; i++)
        if (compare(&records[i - 1], &records[i]) > 0)
            return false;
    return true;
}

moe_code
moe_agg_sort(moe_job *job, moe_agg_record **records, int64_t n)
{
    sorting s = {.job = job, .from = *records, .n = n, .width = RUN};

    if (in_order(*records, n))
        return moe_job_check(job);
    if (!(s.to = moe_alloc(job, n, sizeof(*s.to))))
        return moe_job_code(job);
    moe_parallel(job, n, RUN, sort_run, &s);
    for (; s.width < n && moe_job_check(job) == MOE_OK; s.width *= 2)
    {
        moe_agg_record *done = s.from;

        moe_parallel(job, (n + 2 * s.width - 1) / (2 * s.width), 1, merge_pair, &s);
        s.from = s.to;
        s.to = done;
    }
    *records = s.from;
    moe_free(job, s.to);
    return moe_job_check(job);
}

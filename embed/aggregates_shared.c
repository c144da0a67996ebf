/*
 * aggregates_shared.c: what seeds that share an owner have in common is computed once.
 *
 * Drivers of one team meet in its results, customers of one shop in its sales:
 * a path leads many seeds to few owners, whose events are the most. What is
 * swept for an owner is a function of the owner, the horizon and its rows, so
 * it is kept for those who come to it as of the same moment: the next block of
 * a scan, or the next question while the rows serve. Other moments take its place.
 * The bytes are those that a sweep writes.
 */
#include "embed/aggregates_plan.h"
#include "kernels/memory.h"

#include <string.h>

#define SHARED_BYTES (INT64_C(4) << 20) /* of a path */
#define GRAIN        64

typedef struct copying
{
    const moe_aggregates *a;
    const moe_agg_path *path;
    const moe_agg_seeds *seeds;
    float *out;
} copying;

static bool
is_of(const moe_aggregates *a, const moe_agg_part *part, const moe_agg_path *path)
{
    return &a->paths[part->path] == path && part->stream >= 0;
}

/* Move a path's columns of one owner between a seed's row and what is kept. */
static void
move(const moe_aggregates *a, const moe_agg_path *path, float *row, float *kept, bool keep)
{
    for (int p = 0; p < a->n_parts; p++)
    {
        const moe_agg_part *part = &a->parts[p];

        if (!is_of(a, part, path))
            continue;
        if (keep)
            memcpy(kept, row + part->first, sizeof(float) * part->n);
        else
            memcpy(row + part->first, kept, sizeof(float) * part->n);
        kept += part->n;
    }
}

/* Room for the owners of a path; none where memory or what may be used of it has run out. */
static bool
make_room(moe_aggregates *a, const moe_agg_path *path, moe_agg_shared *shared)
{
    int64_t owners = a->tables[path->owner].n_rows;

    shared->width = 0;
    for (int p = 0; p < a->n_parts; p++)
        shared->width += is_of(a, &a->parts[p], path) ? a->parts[p].n : 0;
    if (shared->width == 0)
        return false;
    shared->capacity = SHARED_BYTES / (shared->width * (int64_t) sizeof(float));
    shared->capacity = owners < shared->capacity ? owners : shared->capacity;
    shared->place = moe_try_alloc(a->job, (size_t) owners * sizeof(int32_t));
    shared->owner = moe_try_alloc(a->job, (size_t) shared->capacity * sizeof(int32_t));
    shared->columns = moe_try_alloc(a->job, (size_t) (shared->capacity * shared->width) * sizeof(float));
    if (!shared->place || !shared->owner || !shared->columns)
    {
        moe_agg_forget_shared(a->job, shared);
        return false;
    }
    for (int64_t i = 0; i < owners; i++)
        shared->place[i] = -1;
    return true;
}

bool
moe_agg_is_shared(moe_aggregates *a, moe_agg_path *path, const moe_agg_seeds *seeds)
{
    moe_agg_shared *shared = &path->shared;

    if (path->kind == MOE_AGG_SELF || seeds->n == 0)
        return false;
    for (int64_t i = 1; i < seeds->n; i++)
        if (seeds->records[i].time != seeds->records[0].time)
            return false;
    if (!shared->place && !make_room(a, path, shared))
        return false;
    if (shared->horizon != seeds->records[0].time)
        while (shared->n > 0)
            shared->place[shared->owner[--shared->n]] = -1;
    shared->horizon = seeds->records[0].time;
    return true;
}

static void
copy_groups(int64_t begin, int64_t end, void *arg)
{
    const copying *c = arg;
    const moe_agg_seeds *seeds = c->seeds;

    for (int64_t i = seeds->group[begin]; i < seeds->group[end]; i++)
    {
        int32_t place = c->path->shared.place[seeds->records[i].owner];
        float *row = c->out + (int64_t) seeds->records[i].item * c->a->n_columns;

        if (place >= 0)
            move(c->a, c->path, row, c->path->shared.columns + place * c->path->shared.width, false);
    }
}

void
moe_agg_take_shared(moe_aggregates *a, const moe_agg_path *path, moe_agg_seeds *seeds, float *out)
{
    copying c = {a, path, seeds, out};
    int64_t groups = 0, n = 0;

    moe_parallel(a->job, seeds->n_groups, GRAIN, copy_groups, &c);
    for (int64_t g = 0; g < seeds->n_groups; g++)
    {
        int64_t begin = seeds->group[g], end = seeds->group[g + 1];

        if (path->shared.place[seeds->records[begin].owner] >= 0)
            continue;
        seeds->group[groups++] = n;
        for (int64_t i = begin; i < end; i++)
            seeds->records[n++] = seeds->records[i];
    }
    seeds->n = seeds->group[groups] = n;
    seeds->n_groups = groups;
}

void
moe_agg_keep_shared(moe_aggregates *a, moe_agg_path *path, const moe_agg_seeds *seeds, float *out)
{
    moe_agg_shared *shared = &path->shared;

    for (int64_t g = 0; g < seeds->n_groups && shared->n < shared->capacity; g++)
    {
        const moe_agg_record *seed = &seeds->records[seeds->group[g]];

        shared->owner[shared->n] = seed->owner;
        shared->place[seed->owner] = (int32_t) shared->n;
        move(a, path, out + (int64_t) seed->item * a->n_columns, shared->columns + shared->n++ * shared->width, true);
    }
}

void
moe_agg_forget_shared(moe_job *job, moe_agg_shared *shared)
{
    moe_free(job, shared->place);
    moe_free(job, shared->owner);
    moe_free(job, shared->columns);
    *shared = (moe_agg_shared){0};
}

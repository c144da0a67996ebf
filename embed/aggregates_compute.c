/*
 * aggregates_compute.c: seeds in, columns out.
 *
 * Path by path: which owner row it leads each seed to, then the seeds by owner
 * and horizon, then every part that starts there. Takes 68 bytes a seed at most.
 */
#include "embed/aggregates_plan.h"

#define GRAIN 512
#define POLL  1024
#define YEAR  365.2425

typedef struct computing
{
    moe_aggregates *a;
    const moe_moments *moments;
    const int64_t *horizon;
    const bool *disabled;
    float *out;
    int32_t *owner;     /* [n] the current path's, -1: none */
    moe_agg_seeds self; /* the path that leads nowhere else */
    const moe_agg_path *path;
    const moe_agg_part *part;
} computing;

static bool
visible(const moe_row_times *times, int64_t row, int64_t horizon)
{
    return moe_agg_row_time(times, row) <= horizon;
}

static void
fill_null(int64_t begin, int64_t end, void *arg)
{
    const computing *c = arg;
    int64_t columns = c->a->n_columns;

    for (int64_t i = begin * columns; i < end * columns; i++)
        c->out[i] = NAN;
}

/* The row that the latest visible child points at, for the seeds of one entity row. */
static void
follow_latest(const computing *c, const moe_agg_record *seeds, int64_t n)
{
    const moe_agg_stream *children = &c->path->children;
    int64_t at = children->offset[seeds->owner], end = children->offset[seeds->owner + 1];
    int32_t latest = -1;

    for (int64_t i = 0; i < n; i++)
    {
        for (; at < end && moe_agg_event_time(children, children->rows[at]) <= seeds[i].time; at++)
        {
            int32_t owner = children->middle[children->rows[at]];

            if (at % POLL == 0 && moe_job_cancelled(c->a->job))
                return;
            latest = owner >= 0 ? owner : latest;
        }
        c->owner[seeds[i].item] = latest;
    }
}

static void
follow_groups(int64_t begin, int64_t end, void *arg)
{
    const computing *c = arg;

    for (int64_t g = begin; g < end && !moe_job_cancelled(c->a->job); g++)
        follow_latest(c, c->self.records + c->self.group[g], c->self.group[g + 1] - c->self.group[g]);
}

/* What a key of the row itself points at, if both may be seen. */
static void
follow_key(int64_t begin, int64_t end, void *arg)
{
    const computing *c = arg;
    const moe_row_times *times = &c->a->tables[c->a->entity].times;
    const moe_row_times *parent_times = &c->a->tables[c->path->owner].times;

    for (int64_t i = begin; i < end; i++)
    {
        int32_t owner = c->a->keys[c->path->key].bound.parent_of[c->moments->row[i]];
        bool seen = owner >= 0 && visible(times, c->moments->row[i], c->horizon[i]) &&
                    visible(parent_times, owner, c->horizon[i]);

        c->owner[i] = seen ? owner : -1;
    }
}

static void
find_owners(computing *c)
{
    if (c->path->kind == MOE_AGG_LATEST)
        moe_parallel(c->a->job, c->self.n_groups, 8, follow_groups, c);
    else if (c->path->kind == MOE_AGG_KEY)
        moe_parallel(c->a->job, c->moments->n, GRAIN, follow_key, c);
    else
        for (int64_t i = 0; i < c->moments->n; i++)
            c->owner[i] = c->moments->row[i];
}

/* Seeds that have an owner, by owner and horizon. */
static moe_code
arrange(const computing *c, moe_agg_seeds *seeds)
{
    moe_job *job = c->a->job;

    *seeds = (moe_agg_seeds){0};
    seeds->records = moe_alloc(job, c->moments->n, sizeof(*seeds->records));
    seeds->group = moe_alloc(job, c->moments->n + 1, sizeof(*seeds->group));
    if (!seeds->records || !seeds->group)
        return moe_job_code(job);
    for (int64_t i = 0; i < c->moments->n; i++)
        if (c->owner[i] >= 0)
            seeds->records[seeds->n++] = (moe_agg_record){c->owner[i], (int32_t) i, c->horizon[i]};
    if (moe_agg_sort(job, &seeds->records, seeds->n) != MOE_OK)
        return moe_job_code(job);
    for (int64_t i = 0; i < seeds->n; i++)
        if (i == 0 || seeds->records[i].owner != seeds->records[i - 1].owner)
            seeds->group[seeds->n_groups++] = i;
    seeds->group[seeds->n_groups] = seeds->n;
    return MOE_OK;
}

static void
release(moe_job *job, moe_agg_seeds *seeds)
{
    moe_free(job, seeds->records);
    moe_free(job, seeds->group);
}

/* A row's own value as of a horizon; a date counts to the seed time. */
static double
own_value(const moe_agg_table *table, const moe_agg_value *value, int64_t row, int64_t horizon, int64_t time)
{
    const moe_agg_field *field = &table->fields[value->field];
    bool hidden = field->hidden_bit >= 0 && table->times.known_at[field->hidden_bit][row] > horizon;

    if (hidden)
        return value->kind == MOE_AGG_MISSING ? 1 : NAN;
    if (value->kind != MOE_AGG_DATE)
        return moe_agg_event_value(table, value, row);
    return moe_agg_missing(&field->column, row) ? NAN : moe_agg_days(field->column.time[row], time);
}

static void
compute_own(int64_t begin, int64_t end, void *arg)
{
    const computing *c = arg;
    const moe_aggregates *a = c->a;
    const moe_agg_table *table = &a->tables[c->path->owner];

    for (int64_t i = begin; i < end; i++)
    {
        float *out = c->out + i * a->n_columns;
        int32_t row = c->owner[i];

        if (row < 0 || !visible(&table->times, row, c->horizon[i]))
            continue;
        for (int k = c->part->first; k < c->part->first + c->part->n; k++)
            out[k] = moe_agg_float(
                own_value(table, moe_agg_value_of(a, &a->columns[k]), row, c->horizon[i], c->moments->time[i]));
    }
}

static void
compute_season(int64_t begin, int64_t end, void *arg)
{
    const computing *c = arg;
    const double turn = 2 * 3.14159265358979323846;

    for (int64_t i = begin; i < end; i++)
    {
        float *out = c->out + i * c->a->n_columns;
        double angle = turn * fmod(moe_agg_days(0, c->moments->time[i]) / YEAR, 1);

        for (int k = c->part->first; k < c->part->first + c->part->n; k++)
        {
            moe_agg_op op = c->a->columns[k].op;

            out[k] = (float) (op == MOE_AGG_SINE     ? sin(angle)
                              : op == MOE_AGG_COSINE ? cos(angle)
                                                     : moe_agg_days(c->horizon[i], c->moments->time[i]));
        }
    }
}

static bool
is_wanted(const computing *c, const moe_agg_part *part)
{
    bool wanted = part->n > 0;

    for (int t = 0; c->disabled && wanted && t < c->a->n_tables; t++)
        wanted = !c->disabled[t] || !moe_agg_part_needs(c->a, part, t);
    return wanted;
}

static moe_code
compute_part(computing *c, const moe_agg_part *part, const moe_agg_seeds *seeds)
{
    c->part = part;
    if (part->kind == MOE_AGG_PART_OWN)
        moe_parallel(c->a->job, c->moments->n, GRAIN, compute_own, c);
    else if (part->kind == MOE_AGG_PART_SEASON)
        moe_parallel(c->a->job, c->moments->n, GRAIN, compute_season, c);
    else
        return moe_agg_sweep(c->a, part, seeds, c->out);
    return moe_job_check(c->a->job);
}

/* All parts of the current path, for its seeds. */
static void
compute_parts(computing *c, moe_agg_path *path, moe_agg_seeds *seeds)
{
    moe_aggregates *a = c->a;
    bool shared = c->disabled == NULL && moe_agg_is_shared(a, path, seeds);

    if (shared)
        moe_agg_take_shared(a, path, seeds, c->out);
    for (int p = 0; p < a->n_parts && moe_job_check(a->job) == MOE_OK; p++)
        if (&a->paths[a->parts[p].path] == path && is_wanted(c, &a->parts[p]))
            compute_part(c, &a->parts[p], seeds);
    if (shared && moe_job_check(a->job) == MOE_OK)
        moe_agg_keep_shared(a, path, seeds, c->out);
}

static moe_code
compute_path(computing *c, int path)
{
    moe_aggregates *a = c->a;
    moe_agg_seeds seeds = {0};
    bool needed = false;

    for (int p = 0; p < a->n_parts; p++)
        needed |= a->parts[p].path == path && is_wanted(c, &a->parts[p]);
    if (!needed && a->paths[path].kind != MOE_AGG_SELF)
        return MOE_OK;
    c->path = &a->paths[path];
    find_owners(c);
    if (moe_job_check(a->job) == MOE_OK && arrange(c, &seeds) == MOE_OK)
        compute_parts(c, &a->paths[path], &seeds);
    /* The first path's seeds are kept: others start from them. */
    if (c->path->kind == MOE_AGG_SELF)
        c->self = seeds;
    else
        release(a->job, &seeds);
    return moe_job_code(a->job);
}

static moe_code
check_moments(moe_aggregates *a, const moe_moments *m)
{
    if (!a->bound)
        return moe_fail(a->job, MOE_INVALID, "aggregates are computed before they are bound to rows");
    if (m->n < 0 || m->n > INT32_MAX)
        return moe_fail(a->job, MOE_INVALID, "aggregates of %lld rows at once are too many", (long long) m->n);
    for (int64_t i = 0; i < m->n; i++)
        if (m->row[i] < 0 || m->row[i] >= a->tables[a->entity].n_rows)
            return moe_fail(a->job, MOE_INVALID, "aggregates are asked for row %d of %lld", (int) m->row[i],
                            (long long) a->tables[a->entity].n_rows);
        else if (m->horizon && m->horizon[i] > m->time[i])
            return moe_fail(a->job, MOE_INVALID, "a horizon lies behind its moment");
    return moe_job_check(a->job);
}

moe_code
moe_aggregates_compute(moe_aggregates *a, const moe_moments *moments, const bool *disabled, float *out)
{
    computing c = {.a = a, .moments = moments, .disabled = disabled, .out = out};

    if (check_moments(a, moments) != MOE_OK)
        return moe_job_code(a->job);
    c.horizon = moments->horizon ? moments->horizon : moments->time;
    if (!(c.owner = moe_alloc(a->job, moments->n, sizeof(*c.owner))))
        return moe_job_code(a->job);
    moe_parallel(a->job, moments->n, GRAIN, fill_null, &c);
    for (int path = 0; path < a->n_paths && moe_job_check(a->job) == MOE_OK; path++)
        compute_path(&c, path);
    release(a->job, &c.self);
    moe_free(a->job, c.owner);
    return moe_job_code(a->job);
}

/*
 * temporal.c: where the windows of seeds begin and end in lists that stand in
 * order of time, and how much a running sum has faded there.
 *
 * All of it is a function of the rows up to the horizon: places move when
 * rows are added to other lists, but not what stands at them.
 */
#include "gnn/temporal.h"

#include <math.h>

#define GRAIN 1024

/* Microseconds between two row times; infinite from a row without a time. */
static double
age_between(int64_t from, int64_t to)
{
    int64_t age;
    if (from == INT64_MIN)
        return INFINITY;
    return __builtin_sub_overflow(to, from, &age) ? (double) to - (double) from : (double) age;
}

static inline int64_t
time_at(const moe_temporal *t, int64_t place)
{
    const int64_t *time = moe_graph_table_at(t->graph, moe_graph_key_at(t->graph, t->key)->child)->time;
    return time == NULL ? INT64_MIN : time[t->child[place]];
}

typedef struct fading
{
    const moe_temporal *temporal;
    float *decay;
} fading;

/* A list's first place has nothing before it: its number is not read. */
static void
fade_lists(int64_t begin, int64_t end, void *arg)
{
    const fading *f = arg;
    const moe_temporal *t = f->temporal;
    for (int64_t list = begin; list < end; list++)
        for (int64_t p = t->lists.offset[list]; p < t->lists.offset[list + 1]; p++)
            f->decay[p] =
                p == t->lists.offset[list] ? 1 : (float) exp(-age_between(time_at(t, p - 1), time_at(t, p)) / t->decay);
}

moe_code
moe_temporal_lists(moe_arena *arena, const moe_graph *graph, int key, double decay, moe_temporal *out)
{
    moe_job *job = moe_arena_job(arena);
    if (key < 0 || key >= moe_graph_keys(graph))
        return moe_fail(job, MOE_INVALID, "foreign key number %d does not exist", key);
    if (!(decay >= 0) || isinf(decay))
        return moe_fail(job, MOE_INVALID, "the time in which rows fade must be a number of microseconds, not %g",
                        decay);
    *out = (moe_temporal){.graph = graph, .key = key, .decay = decay};
    moe_graph_lists(graph, key, &out->lists.offset, &out->child);
    out->lists.lists = moe_graph_table_at(graph, moe_graph_key_at(graph, key)->parent)->n_rows;
    if (decay == 0)
        return moe_job_check(job);
    fading f = {.temporal = out};
    out->lists.decay = f.decay = moe_arena_alloc(arena, out->lists.offset[out->lists.lists], sizeof *f.decay);
    if (f.decay == NULL)
        return moe_job_code(job);
    moe_parallel(job, out->lists.lists, GRAIN, fade_lists, &f);
    return moe_job_check(job);
}

typedef struct search
{
    const moe_temporal *temporal;
    const moe_window *window;
    const int32_t *parent;
    const int64_t *horizon;
    int32_t *count;
    int32_t *last;
    int32_t *before;
    float *factor;
    float *fade;
} search;

static void
search_windows(int64_t begin, int64_t end, void *arg)
{
    const search *s = arg;
    const moe_temporal *t = s->temporal;
    for (int64_t i = begin; i < end; i++)
    {
        int32_t parent = s->parent[i];
        int64_t visible = 0;
        int64_t outside = 0;
        int64_t start;
        if (parent >= 0)
            visible = moe_graph_visible_children(t->graph, t->key, parent, s->horizon[i]);
        if (visible > 0 && s->window->width > 0)
        {
            if (__builtin_sub_overflow(s->horizon[i], s->window->width, &start))
                start = INT64_MIN;
            outside = moe_graph_visible_children(t->graph, t->key, parent, start);
        }
        int64_t first = parent >= 0 ? t->lists.offset[parent] : 0;
        int64_t n = visible - outside;
        s->last[i] = visible > 0 ? (int32_t) (first + visible - 1) : -1;
        s->before[i] = outside > 0 ? (int32_t) (first + outside - 1) : -1;
        s->factor[i] = 1;
        s->fade[i] = 1;
        if (s->count != NULL)
            s->count[i] = (int32_t) n;
        if (s->window->reduce == MOE_MEAN)
            s->factor[i] = n > 0 ? 1 / (float) n : 0;
        if (t->decay > 0 && visible > 0)
            s->factor[i] = (float) exp(-age_between(time_at(t, s->last[i]), s->horizon[i]) / t->decay);
        if (t->decay > 0 && outside > 0)
            s->fade[i] = (float) exp(-age_between(time_at(t, s->before[i]), time_at(t, s->last[i])) / t->decay);
    }
}

static moe_code
check_seeds(moe_job *job, const moe_temporal *temporal, const moe_window *window, int64_t n, const int32_t *parent)
{
    if (window->width < 0)
        return moe_fail(job, MOE_INVALID, "a window's width must not be below 0");
    if (window->reduce == MOE_MEAN && temporal->decay > 0)
        return moe_fail(job, MOE_INVALID, "there is no mean of rows that fade");
    if (n < 0 || n > INT32_MAX)
        return moe_fail(job, MOE_LIMIT, "there can be at most 2^31 windows at a time");
    for (int64_t i = 0; i < n; i++)
        if (parent[i] < -1 || parent[i] >= temporal->lists.lists)
            return moe_fail(job, MOE_INVALID, "window %lld belongs to a row that does not exist", (long long) i);
    return MOE_OK;
}

moe_code
moe_temporal_windows(moe_arena *arena, const moe_temporal *temporal, const moe_window *window, int64_t n,
                     const int32_t *parent, const int64_t *horizon, int32_t *count, moe_windows *out)
{
    moe_job *job = moe_arena_job(arena);
    moe_code code = check_seeds(job, temporal, window, n, parent);
    if (code != MOE_OK)
        return code;
    search s = {.temporal = temporal, .window = window, .parent = parent, .horizon = horizon, .count = count};
    s.last = moe_arena_alloc(arena, n, sizeof *s.last);
    s.before = moe_arena_alloc(arena, n, sizeof *s.before);
    s.factor = moe_arena_alloc(arena, n, sizeof *s.factor);
    s.fade = moe_arena_alloc(arena, n, sizeof *s.fade);
    if (s.last == NULL || s.before == NULL || s.factor == NULL || s.fade == NULL)
        return moe_job_code(job);
    moe_parallel(job, n, GRAIN, search_windows, &s);
    *out = temporal->lists;
    out->n = n;
    out->last = s.last;
    out->before = s.before;
    out->factor = s.factor;
    out->fade = s.fade;
    return moe_job_check(job);
}

moe_var *
moe_temporal_aggregate(moe_tape *tape, const moe_temporal *temporal, moe_var *x, const moe_windows *windows)
{
    const moe_graph_key *key = moe_graph_key_at(temporal->graph, temporal->key);
    int64_t rows = moe_graph_table_at(temporal->graph, key->child)->n_rows;
    if (x != NULL && x->rows != rows)
    {
        moe_fail(moe_tape_job(tape), MOE_INVALID, "a matrix of %lld rows does not stand for the %lld rows of \"%s\"",
                 (long long) x->rows, (long long) rows, moe_graph_table_at(temporal->graph, key->child)->name);
        return NULL;
    }
    return moe_prefix_windows(tape, moe_gather(tape, x, temporal->child, windows->offset[windows->lists]), windows);
}

double *
moe_temporal_sums(moe_job *job, const moe_temporal *temporal, int64_t cols, const float *x)
{
    const moe_graph_key *key = moe_graph_key_at(temporal->graph, temporal->key);
    int64_t rows = moe_graph_table_at(temporal->graph, key->child)->n_rows;
    return moe_running_sums(job, &temporal->lists, temporal->child, rows, cols, x);
}

/*
 * aggregates_sweep.c: one walk over each owner's events computes a part's columns for all of its seeds.
 *
 * Seeds stand by owner and horizon. The walk takes events into running sums,
 * and when it reaches a seed's horizon writes the seed's columns: so work is
 * in proportion to events plus seeds, and what is written is a function of the
 * events up to the horizon alone. Of each value x_1 .. x_n that is not NULL:
 *   exponential   sum 2^(-(n-i)/h) x_i / sum 2^(-(n-i)/h), both kept by one multiplication an event
 *   window        what the walk has summed, less what a second walk has that follows at the window's far end
 * Values are summed in blocks that fit the stack.
 */
#include "embed/aggregates_plan.h"

#define POLL 1024

typedef struct sum
{
    double fast, fast_weight;
    double slow, slow_weight;
    double total, last;
    int64_t count;
    double behind[MOE_AGG_WINDOWS]; /* total and count of what has left the window */
    int64_t count_behind[MOE_AGG_WINDOWS];
} sum;

typedef struct output
{
    int column;
    moe_agg_op op;
    int window;
    int slot;
} output;

typedef struct sweep /* of one block */
{
    const moe_aggregates *a;
    const moe_agg_table *table;
    const moe_agg_stream *stream;
    const moe_agg_part *part;
    int width; /* slots a value: 2 where it is compared with siblings */
    const moe_agg_seeds *seeds;
    float *out;
    double fast, slow; /* weight of one event earlier */
    int64_t span[MOE_AGG_WINDOWS];
    bool follows[MOE_AGG_WINDOWS]; /* some column sums values over the window */
    int n_values;
    const moe_agg_value *values[MOE_AGG_BLOCK];
    int places[MOE_AGG_BLOCK]; /* of the values in the part's list */
    int n_outputs;
    output *outputs;
} sweep;

typedef struct walk /* over one owner's events */
{
    int64_t begin, at, end;
    int64_t behind[MOE_AGG_WINDOWS]; /* first event inside each window */
    int64_t first_time;              /* MOE_TIME_ALWAYS: none yet */
    int n_slots;
    sum sums[MOE_AGG_BLOCK];
} walk;

static void
read_event(const sweep *s, int32_t row, double *x)
{
    float compared[MOE_AGG_BLOCK];

    if (s->part->kind == MOE_AGG_PART_SIBLINGS)
    {
        moe_agg_compare(s->table, &s->a->keys[s->part->other], row, s->places, s->n_values, compared);
        for (int i = 0; i < 2 * s->n_values; i++)
            x[i] = compared[i];
    }
    else if (s->part->kind == MOE_AGG_PART_PARTNERS)
        moe_agg_partner(s->a, s->part, row, s->places, s->n_values, x);
    else
        for (int i = 0; i < s->n_values; i++)
            x[i] = moe_agg_event_value(s->table, s->values[i], row);
}

static void
take_event(const sweep *s, walk *w)
{
    int32_t row = s->stream->rows[w->at++];
    double x[MOE_AGG_BLOCK];

    read_event(s, row, x);
    for (int i = 0; i < w->n_slots; i++)
    {
        sum *v = &w->sums[i];

        if (isnan(x[i]))
            continue;
        v->fast = v->fast * s->fast + x[i];
        v->fast_weight = v->fast_weight * s->fast + 1;
        v->slow = v->slow * s->slow + x[i];
        v->slow_weight = v->slow_weight * s->slow + 1;
        v->total += x[i];
        v->last = x[i];
        v->count++;
    }
}

/* An event leaves a window. */
static void
leave_event(const sweep *s, walk *w, int window)
{
    int32_t row = s->stream->rows[w->behind[window]++];
    double x[MOE_AGG_BLOCK];

    if (!s->follows[window])
        return;
    read_event(s, row, x);
    for (int i = 0; i < w->n_slots; i++)
        if (!isnan(x[i]))
        {
            w->sums[i].behind[window] += x[i];
            w->sums[i].count_behind[window]++;
        }
}

static int64_t
time_at(const sweep *s, int64_t event)
{
    return moe_agg_event_time(s->stream, s->stream->rows[event]);
}

/* Go on to a horizon; false if the job was cancelled on the way. */
static bool
advance(const sweep *s, walk *w, int64_t horizon)
{
    for (int64_t time; w->at < w->end && (time = time_at(s, w->at)) <= horizon;)
    {
        if (w->at % POLL == 0 && moe_job_cancelled(s->a->job))
            return false;
        if (w->first_time == MOE_TIME_ALWAYS)
            w->first_time = time;
        take_event(s, w);
    }
    for (int i = 0; s->stream->timed && i < MOE_AGG_WINDOWS; i++)
    {
        int64_t far_end = horizon < INT64_MIN + s->span[i] ? INT64_MIN : horizon - s->span[i];

        while (w->behind[i] < w->at && time_at(s, w->behind[i]) <= far_end)
        {
            if (w->behind[i] % POLL == 0 && moe_job_cancelled(s->a->job))
                return false;
            leave_event(s, w, i);
        }
    }
    return true;
}

static double
divided(double sum, double count)
{
    return count > 0 ? sum / count : NAN;
}

static double
result(const sweep *s, const walk *w, const output *o, int64_t time)
{
    const sum *v = &w->sums[o->slot < 0 ? 0 : o->slot];
    int i = o->window;
    int64_t last;

    switch (o->op)
    {
        case MOE_AGG_COUNT:
            return (double) (w->at - w->begin);
        case MOE_AGG_COUNT_WINDOW:
            return (double) (w->at - w->behind[i]);
        case MOE_AGG_SINCE_LAST:
            last = w->at > w->begin ? time_at(s, w->at - 1) : MOE_TIME_ALWAYS;
            return last == MOE_TIME_ALWAYS ? NAN : moe_agg_days(last, time);
        case MOE_AGG_SINCE_FIRST:
            return w->first_time == MOE_TIME_ALWAYS ? NAN : moe_agg_days(w->first_time, time);
        case MOE_AGG_FAST:
            return divided(v->fast, v->fast_weight);
        case MOE_AGG_SLOW:
            return divided(v->slow, v->slow_weight);
        case MOE_AGG_MEAN:
            return divided(v->total, (double) v->count);
        case MOE_AGG_MEAN_WINDOW:
            return divided(v->total - v->behind[i], (double) (v->count - v->count_behind[i]));
        case MOE_AGG_SUM_WINDOW:
            return v->count > v->count_behind[i] ? v->total - v->behind[i] : 0;
        case MOE_AGG_LAST:
            return v->count > 0 ? v->last : NAN;
        default:
            return NAN;
    }
}

static void
sweep_owner(const sweep *s, const moe_agg_record *seeds, int64_t n)
{
    int64_t begin = s->stream->offset[seeds->owner];
    walk w;

    w.begin = w.at = begin;
    w.end = s->stream->offset[seeds->owner + 1];
    w.first_time = MOE_TIME_ALWAYS;
    w.n_slots = s->width * s->n_values;
    for (int i = 0; i < MOE_AGG_WINDOWS; i++)
        w.behind[i] = begin;
    for (int i = 0; i < w.n_slots || i == 0; i++)
        w.sums[i] = (sum){0};
    for (int64_t i = 0; i < n; i++)
    {
        float *out = s->out + (int64_t) seeds[i].item * s->a->n_columns;

        if (!advance(s, &w, seeds[i].time))
            return;
        for (int o = 0; o < s->n_outputs; o++)
            out[s->outputs[o].column] = moe_agg_float(result(s, &w, &s->outputs[o], seeds[i].time));
    }
}

static void
sweep_owners(int64_t begin, int64_t end, void *arg)
{
    const sweep *s = arg;

    for (int64_t g = begin; g < end && !moe_job_cancelled(s->a->job); g++)
        sweep_owner(s, s->seeds->records + s->seeds->group[g], s->seeds->group[g + 1] - s->seeds->group[g]);
}

/* Add a column to the block if its value is in it or there is room for it; false if not. */
static bool
admit(sweep *s, const moe_agg_column *column, int number)
{
    int at = 0;

    while (column->value >= 0 && at < s->n_values && s->places[at] != column->value / s->width)
        at++;
    if (column->value >= 0 && at == s->n_values)
    {
        if ((at + 1) * s->width > MOE_AGG_BLOCK)
            return false;
        s->places[s->n_values] = column->value / s->width;
        s->values[s->n_values++] = moe_agg_value_of(s->a, column);
    }
    s->outputs[s->n_outputs++] =
        (output){number, column->op, column->window, column->value < 0 ? -1 : s->width * at + column->value % s->width};
    if (column->op == MOE_AGG_MEAN_WINDOW || column->op == MOE_AGG_SUM_WINDOW)
        s->follows[column->window] = true;
    return true;
}

/* Sweep once for as many of the columns not yet done as one block holds; marks them. */
static void
sweep_block(sweep *s, const moe_agg_part *part, bool *done)
{
    int64_t groups = s->seeds->n_groups;

    s->n_values = s->n_outputs = 0;
    for (int i = 0; i < MOE_AGG_WINDOWS; i++)
        s->follows[i] = false;
    for (int c = 0; c < part->n; c++)
        done[c] = done[c] || admit(s, &s->a->columns[part->first + c], part->first + c);
    moe_parallel(s->a->job, groups, groups < 256 ? 1 : 8, sweep_owners, s);
}

static bool
all_done(const bool *done, int n)
{
    int i = 0;

    while (i < n && done[i])
        i++;
    return i == n;
}

moe_code
moe_agg_sweep(moe_aggregates *a, const moe_agg_part *part, const moe_agg_seeds *seeds, float *out)
{
    const moe_agg_stream *stream = &a->streams[part->stream];
    bool *done = moe_alloc(a->job, part->n, sizeof(*done));
    sweep s = {.a = a,
               .table = &a->tables[stream->source],
               .stream = stream,
               .part = part,
               .width = part->kind == MOE_AGG_PART_SIBLINGS ? 2 : 1,
               .seeds = seeds,
               .out = out,
               .fast = exp2(-1.0 / 6),
               .slow = exp2(-1.0 / 20)};

    for (int i = 0; i < MOE_AGG_WINDOWS; i++)
        if (__builtin_mul_overflow(a->window, (int64_t) moe_agg_window_spans[i], &s.span[i]))
            s.span[i] = INT64_MAX;
    s.outputs = moe_alloc(a->job, part->n, sizeof(*s.outputs));
    while (done && s.outputs && moe_job_check(a->job) == MOE_OK && !all_done(done, part->n))
        sweep_block(&s, part, done);
    moe_free(a->job, s.outputs);
    moe_free(a->job, done);
    return moe_job_check(a->job);
}

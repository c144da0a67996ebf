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
 *
 * Of owners that a path leads to, which may have any number of events, only the
 * latest are walked: with n up to the horizon all from k * (n / k - 1) on, k as
 * aggregates_plan.h has it. The place moves once in k events, so that seeds
 * still share walks, and is a function of n, so that a seed has what it would
 * have alone. Counts are of all events, by binary search.
 *
 * Events lie anywhere in their table: what will be read of the next few is
 * asked for before any of it is waited for.
 */
#include "embed/aggregates_plan.h"

#define POLL   1024
#define RECENT 512 /* events of a walk whose values are remembered until they leave a window */

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
    int latest; /* of as many events at least, and less than twice as many, are all walked; 0: of all */
} sweep;

typedef struct walk /* over one owner's events */
{
    int64_t begin, end;
    int64_t first, at;               /* walked: from first to before at */
    int64_t known;                   /* the end of those whose values are in `recent` */
    int64_t behind[MOE_AGG_WINDOWS]; /* first event inside each window, of those walked */
    int64_t inside[MOE_AGG_WINDOWS]; /* and of all */
    int n_slots;
    sum sums[MOE_AGG_BLOCK];
    float recent[RECENT][MOE_AGG_BLOCK]; /* values of event i: i % RECENT; where they are not plain values */
} walk;

/* Values of n events that are not plain values of the events' rows: comparisons, or what they knew of partners. */
static void
look_around(const sweep *s, int64_t event, int n, float (*x)[MOE_AGG_BLOCK])
{
    const int32_t *rows = s->stream->rows + event;

    if (s->part->kind == MOE_AGG_PART_SIBLINGS)
        moe_agg_compare(s->table, &s->a->keys[s->part->other], rows, n, s->places, s->n_values, x);
    else
        for (int i = 0; i < n; i++)
            moe_agg_partner(s->a, s->part, rows[i], s->places, s->n_values, x[i]);
}

/* The values of an event before w->known. */
static void
read_event(const sweep *s, const walk *w, int64_t event, double *x)
{
    float again[1][MOE_AGG_BLOCK];
    const float *values = w->recent[event % RECENT];

    if (s->part->kind == MOE_AGG_PART_EVENTS)
    {
        for (int i = 0; i < s->n_values; i++)
            x[i] = moe_agg_event_value(s->table, s->values[i], s->stream->rows[event]);
        return;
    }
    if (event < w->known - RECENT)
    {
        look_around(s, event, 1, again);
        values = again[0];
    }
    for (int i = 0; i < w->n_slots; i++)
        x[i] = values[i];
}

static void
take_event(const sweep *s, walk *w)
{
    double x[MOE_AGG_BLOCK];

    read_event(s, w, w->at++, x);
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

/* Have the plain values of the events up to `end` brought along. */
static void
ask_for_values(const sweep *s, int64_t begin, int64_t end)
{
    for (int i = 0; i < s->n_values; i++)
        for (int64_t event = begin; event < end; event++)
            __builtin_prefetch(moe_agg_event_place(s->table, s->values[i], s->stream->rows[event]));
}

/* Take the next events up to `end`, a few; those that are compared all at once. */
static void
take_events(const sweep *s, walk *w, int64_t end)
{
    int64_t next = w->at + MOE_AGG_AT_ONCE - w->at % MOE_AGG_AT_ONCE;

    w->known = next < end ? next : end;
    if (s->part->kind == MOE_AGG_PART_EVENTS)
        ask_for_values(s, w->at, w->known);
    else
        look_around(s, w->at, (int) (w->known - w->at), &w->recent[w->at % RECENT]);
    while (w->at < w->known)
        take_event(s, w);
}

/* An event leaves a window. */
static void
leave_event(const sweep *s, walk *w, int window)
{
    int64_t event = w->behind[window]++;
    double x[MOE_AGG_BLOCK];

    if (!s->follows[window])
        return;
    read_event(s, w, event, x);
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

/* The first of the events [begin, end) that is later than a time. */
static int64_t
find_later(const sweep *s, int64_t begin, int64_t end, int64_t time)
{
    while (begin < end)
    {
        int64_t middle = begin + (end - begin) / 2;

        if (time_at(s, middle) <= time)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

/* Begin to walk at an event. */
static void
start(walk *w, int64_t first)
{
    w->first = w->at = first;
    for (int i = 0; i < MOE_AGG_WINDOWS; i++)
        w->behind[i] = first;
    for (int i = 0; i < w->n_slots || i == 0; i++)
        w->sums[i] = (sum){0};
}

/* Where only the latest events count: begin anew if those before `end` begin later. */
static void
skip_early(const sweep *s, walk *w, int64_t end)
{
    int64_t blocks = (end - w->begin) / s->latest - 1;
    int64_t first = w->begin + (blocks > 0 ? blocks * s->latest : 0);

    if (first > w->first)
        start(w, first);
}

/* Go on to a horizon; false if the job was cancelled on the way. */
static bool
advance(const sweep *s, walk *w, int64_t horizon)
{
    int64_t end = find_later(s, w->at, w->end, horizon);

    if (s->latest > 0)
        skip_early(s, w, end);
    while (w->at < end)
    {
        if (moe_job_cancelled(s->a->job))
            return false;
        take_events(s, w, end);
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
        w->inside[i] = w->behind[i] > w->first ? w->behind[i] : find_later(s, w->begin, w->first, far_end);
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
    int64_t event;

    switch (o->op)
    {
        case MOE_AGG_COUNT:
            return (double) (w->at - w->begin);
        case MOE_AGG_COUNT_WINDOW:
            return (double) (w->at - w->inside[i]);
        case MOE_AGG_SINCE_LAST:
            event = w->at - 1;
            return event < w->begin || time_at(s, event) == MOE_TIME_ALWAYS ? NAN
                                                                            : moe_agg_days(time_at(s, event), time);
        case MOE_AGG_SINCE_FIRST:
            event = find_later(s, w->begin, w->at, MOE_TIME_ALWAYS);
            return event == w->at ? NAN : moe_agg_days(time_at(s, event), time);
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

    w.begin = begin;
    w.end = s->stream->offset[seeds->owner + 1];
    w.n_slots = s->width * s->n_values;
    start(&w, begin);
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
               .latest = a->paths[part->path].kind == MOE_AGG_SELF ? 0
                         : part->kind == MOE_AGG_PART_SIBLINGS     ? MOE_AGG_LATEST_COMPARED
                                                                   : MOE_AGG_LATEST_EVENTS,
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

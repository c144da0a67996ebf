/*
 * reader_order.c: the canonical order of a table's rows.
 *
 * By row time; rows of one moment stand in an order that only their content
 * decides: by a hash of what was known with the row, then by what became known
 * of it later, in the order in which it did. So what is not yet known to a seed
 * moves no row that the seed could tell from another.
 *
 * Rows mostly come in the order of their times, and times are mostly distinct.
 * So: if the rows do not stand in order, the few that came late are sorted and
 * merged with the others, or all are sorted if they are many; then hashes, for
 * those rows alone whose time is another's too; then a sort of each such run.
 * All steps are shared out to the job's threads; the order is total, so that
 * it is the same whatever their number.
 */
#include "postgres.h"

#include "extension/moe_ml.h"
#include "extension/reader_internal.h"
#include "extension/reader_radix.h"
#include "kernels/random.h"

#define GRAIN      65536
#define LATE_SHARE 8     /* at most one row in so many comes late */
#define LONG_RUN   65536 /* rows of one time that are worth a radix sort */

typedef struct ordering
{
    const moe_reading *reading;
    const moe_sink *time; /* NULL: all rows are always visible */
    moe_ranked *rows;     /* [n] by place; rank: the time, later the hash */
    uint8 *tie;           /* [n] by place: of the same time as the one before */
    uint64 *late[8];      /* [n] by row: hash of each group of late columns */
    int group;            /* being hashed */
    int32 *order;         /* [n] the result */
    _Atomic bool unsorted;
    _Atomic bool tied;
} ordering;

static inline int64
time_of(const ordering *o, int64 row)
{
    return o->time != NULL ? o->time->items[row].time : MOE_TIME_ALWAYS;
}

/* The time as an unsigned number of the same order. */
static inline uint64
rank_of_time(const ordering *o, int64 row)
{
    return (uint64) time_of(o, row) ^ (UINT64CONST(1) << 63);
}

/* The hash of what is known with a row. */
static uint64
row_hash(const moe_reading *reading, int64 row)
{
    uint64 hash = 0;

    for (int s = 0; s < reading->n_sinks; s++)
    {
        const moe_sink *sink = &reading->sinks[s];

        if (sink->group < 0 && sink->kind != SINK_KNOWN_AT && !sink->beside)
            hash = moe_key(hash, moe_sink_hash(sink, row));
    }
    return hash;
}

/* The hashes of one group of late columns. */
static void
hash_late(int64 begin, int64 end, void *arg)
{
    ordering *o = arg;

    for (int64 row = begin; row < end; row++)
    {
        uint64 hash = 0;

        for (int s = 0; s < o->reading->n_sinks; s++)
        {
            const moe_sink *sink = &o->reading->sinks[s];

            if (sink->group == o->group)
                hash = moe_key(hash, moe_sink_hash(sink, row));
        }
        o->late[o->group][row] = hash;
    }
}

/* Do the rows stand in the order of their times, and are any two of one time? */
static void
look_at_times(int64 begin, int64 end, void *arg)
{
    ordering *o = arg;
    bool unsorted = false;
    bool tied = false;

    for (int64 row = Max(begin, 1); row < end; row++)
    {
        int64 previous = time_of(o, row - 1);
        int64 time = time_of(o, row);

        unsorted |= time < previous;
        tied |= time == previous;
    }
    if (unsorted)
        o->unsorted = true;
    if (tied)
        o->tied = true;
}

static void
rank_by_time(int64 begin, int64 end, void *arg)
{
    ordering *o = arg;

    for (int64 row = begin; row < end; row++)
    {
        o->rows[row].rank = rank_of_time(o, row);
        o->rows[row].row = (int32) row;
    }
}

/*
 * Sort by time where all but one row in LATE_SHARE come in order: the others are set aside, sorted and merged.
 * False if there are more.
 */
static bool
merge_late_rows(ordering *o, moe_job *job, moe_ranked *room)
{
    int64 n = o->reading->n_rows;
    int64 n_late = 0;
    int64 at = 0;
    uint64 newest = 0;

    for (int64 row = 0; row < n; row++)
    {
        moe_ranked ranked = {rank_of_time(o, row), (int32) row};

        if (ranked.rank >= newest)
        {
            newest = ranked.rank;
            o->rows[at++] = ranked;
        }
        else if (n_late < n / LATE_SHARE)
            room[n_late++] = ranked;
        else
            return false;
    }
    moe_check(job, moe_radix_sort(job, room, room + n_late, n_late));
    for (int64 place = n - 1; n_late > 0; place--)
        o->rows[place] = at > 0 && o->rows[at - 1].rank > room[n_late - 1].rank ? o->rows[--at] : room[--n_late];
    return true;
}

static void
find_ties(int64 begin, int64 end, void *arg)
{
    ordering *o = arg;

    for (int64 at = Max(begin, 1); at < end; at++)
        o->tie[at] = o->rows[at].rank == o->rows[at - 1].rank;
}

/* The end of the run of equal times that begins at or before a place. */
static int64
run_end(const ordering *o, int64 at)
{
    int64 end = at + 1;

    while (end < o->reading->n_rows && o->tie[end])
        end++;
    return end;
}

/* Rank the rows of runs by their hash. */
static void
rank_by_hash(int64 begin, int64 end, void *arg)
{
    ordering *o = arg;

    for (int64 at = begin; at < end; at++)
    {
        if (o->tie[at] || (at + 1 < o->reading->n_rows && o->tie[at + 1]))
            o->rows[at].rank = row_hash(o->reading, o->rows[at].row);
    }
}

/* Something that became known of a row: one group of late columns. */
typedef struct moe_event
{
    int64 time;
    int group;
    uint64 hash;
} moe_event;

static int
compare_events(const moe_event *x, const moe_event *y)
{
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

/* What became known of a row, earliest first. */
static void
row_events(const ordering *o, int32 row, moe_event *events)
{
    const moe_reading *reading = o->reading;

    for (int g = 0; g < reading->n_hidden; g++)
    {
        moe_event event = {reading->sinks[reading->hidden_sink[g]].items[row].time, g, o->late[g][row]};
        int at = g;

        for (; at > 0 && compare_events(&events[at - 1], &event) > 0; at--)
            events[at] = events[at - 1];
        events[at] = event;
    }
}

/* The first difference decides, so that what comes after a horizon orders only rows that are alike up to it. */
static int
compare_late(const ordering *o, int32 x, int32 y)
{
    moe_event events_x[8], events_y[8];

    row_events(o, x, events_x);
    row_events(o, y, events_y);
    for (int i = 0; i < o->reading->n_hidden; i++)
    {
        int difference = compare_events(&events_x[i], &events_y[i]);

        if (difference != 0)
            return difference;
    }
    return 0;
}

static int
compare_rows(const void *a, const void *b, void *arg)
{
    const moe_ranked *x = a;
    const moe_ranked *y = b;
    int late;

    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    late = compare_late(arg, x->row, y->row);
    if (late != 0)
        return late;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Sort the short runs that begin in [begin, end). */
static void
sort_short_runs(int64 begin, int64 end, void *arg)
{
    ordering *o = arg;
    int64 at = o->tie[begin] ? run_end(o, begin) : begin; /* a run that began earlier is another chunk's */

    while (at < end)
    {
        int64 next = run_end(o, at);

        if (next - at > 1 && next - at < LONG_RUN)
            qsort_arg(o->rows + at, next - at, sizeof(moe_ranked), compare_rows, o);
        at = next;
    }
}

/* Sort [begin, end), which is sorted by hash, where hashes are equal. */
static void
sort_equal(ordering *o, int64 begin, int64 end)
{
    for (int64 at = begin; at < end;)
    {
        int64 next = at + 1;

        while (next < end && o->rows[next].rank == o->rows[at].rank)
            next++;
        if (next > at + 1)
            qsort_arg(o->rows + at, next - at, sizeof(moe_ranked), compare_rows, o);
        at = next;
    }
}

static void
sort_long_runs(ordering *o, moe_job *job, moe_ranked *room)
{
    for (int64 at = 0; at < o->reading->n_rows;)
    {
        int64 next = run_end(o, at);

        if (next - at >= LONG_RUN)
        {
            moe_check(job, moe_radix_sort(job, o->rows + at, room, next - at));
            sort_equal(o, at, next);
        }
        at = next;
    }
}

/* Sort the rows of each moment, which stand together. */
static void
sort_ties(ordering *o, moe_job *job, moe_ranked *room)
{
    int64 n = o->reading->n_rows;

    o->tie = moe_check_ptr(job, moe_alloc(job, n, 1));
    moe_parallel(job, n, GRAIN, find_ties, o);
    moe_parallel(job, n, GRAIN, rank_by_hash, o);
    for (o->group = 0; o->group < o->reading->n_hidden; o->group++)
    {
        o->late[o->group] = moe_check_ptr(job, moe_alloc(job, n, sizeof(uint64)));
        moe_parallel(job, n, GRAIN, hash_late, o);
    }
    moe_check(job, moe_job_check(job));
    moe_parallel(job, n, GRAIN, sort_short_runs, o);
    sort_long_runs(o, job, room);
    for (int g = 0; g < o->reading->n_hidden; g++)
        moe_free(job, o->late[g]);
    moe_free(job, o->tie);
    moe_check(job, moe_job_check(job));
}

static void
take_rows(int64 begin, int64 end, void *arg)
{
    const ordering *o = arg;

    for (int64 at = begin; at < end; at++)
        o->order[at] = o->rows[at].row;
}

int32 *
moe_reading_order(moe_reading *reading)
{
    moe_job *job = reading->data->job;
    int64 n = reading->n_rows;
    ordering o = {.reading = reading};
    moe_ranked *room;

    if (reading->row_time >= 0)
        o.time = &reading->sinks[reading->row_time];
    moe_parallel(job, n, GRAIN, look_at_times, &o);
    if (!o.unsorted && !o.tied)
        return NULL;
    o.rows = moe_check_ptr(job, moe_alloc(job, n, sizeof(moe_ranked)));
    room = moe_check_ptr(job, moe_alloc(job, n, sizeof(moe_ranked)));
    if (!o.unsorted || !merge_late_rows(&o, job, room))
    {
        moe_parallel(job, n, GRAIN, rank_by_time, &o);
        if (o.unsorted)
            moe_check(job, moe_radix_sort(job, o.rows, room, n));
    }
    sort_ties(&o, job, room);
    moe_free(job, room);
    o.order = moe_check_ptr(job, moe_alloc(job, n, sizeof(int32)));
    moe_parallel(job, n, GRAIN, take_rows, &o);
    moe_free(job, o.rows);
    return o.order;
}

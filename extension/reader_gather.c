/*
 * reader_gather.c: what was read, put into canonical order.
 *
 * Column after column is gathered from its array into a spare one, and its own
 * array is the next column's spare: so ordering a table needs the room of one
 * column more, and touches hardly any new memory. The job's threads share the
 * work.
 */
#include "postgres.h"

#include "extension/moe_ml.h"
#include "extension/reader_internal.h"
#include "kernels/random.h"

#define NULL_HASH UINT64_C(0x6e756c6c)
#define GRAIN     65536

void
moe_sink_reserve(moe_sink *sink, moe_job *job, int64 rows)
{
    sink->items = moe_check_ptr(job, moe_realloc(job, sink->items, rows + 1, sizeof(moe_item)));
    if (sink->null != NULL)
        sink->null = moe_check_ptr(job, moe_realloc(job, sink->null, rows, 1));
}

static inline bool
has_bytes(const moe_sink *sink)
{
    return sink->kind == SINK_STRING || sink->kind == SINK_VECTOR;
}

uint64
moe_sink_hash(const moe_sink *sink, int64 row)
{
    int64 begin, length;

    if (moe_sink_is_null(sink, row))
        return sink->kind == SINK_KEY ? 0 : NULL_HASH;
    if (sink->kind == SINK_KEY)
        return moe_key_column_hash(sink->key, sink->items[row].word);
    if (!has_bytes(sink))
        return sink->items[row].word;
    begin = sink->items[row].end;
    length = sink->items[row + 1].end - begin;
    if (sink->kind == SINK_STRING)
        return moe_hash_bytes(sink->bytes + begin, length, 1);
    return length == 0 ? 2 : moe_hash_bytes(sink->bytes + begin, length, 2);
}

/* One gathering, as the threads see it. */
typedef struct gathering
{
    const int32 *order;
    const void *from;
    void *to;
    const char *bytes; /* runs that `from` bounds */
    char *bytes_to;    /* runs that `to` bounds */
} gathering;

static void
gather_items(int64 begin, int64 end, void *arg)
{
    const gathering *g = arg;
    const uint64 *from = g->from;
    uint64 *to = g->to;

    for (int64 i = begin; i < end; i++)
        to[i] = from[g->order[i]];
}

static void
gather_nulls(int64 begin, int64 end, void *arg)
{
    const gathering *g = arg;
    const uint8 *from = g->from;
    uint8 *to = g->to;

    for (int64 i = begin; i < end; i++)
        to[i] = from[g->order[i]];
}

static void
gather_lengths(int64 begin, int64 end, void *arg)
{
    const gathering *g = arg;
    const int64 *from = g->from;
    int64 *to = g->to;

    for (int64 i = begin; i < end; i++)
        to[i + 1] = from[g->order[i] + 1] - from[g->order[i]];
}

static void
gather_bytes(int64 begin, int64 end, void *arg)
{
    const gathering *g = arg;
    const int64 *from = g->from;
    const int64 *to = g->to;

    for (int64 i = begin; i < end; i++)
    {
        int64 length = to[i + 1] - to[i];

        if (length > 0)
            memcpy(g->bytes_to + to[i], g->bytes + from[g->order[i]], length);
    }
}

/* Gather bounds, and the strings or vectors between them. */
static void
permute_runs(moe_sink *sink, moe_job *job, gathering *g, int64 n)
{
    int64 *to = g->to;

    moe_parallel(job, n, GRAIN, gather_lengths, g);
    to[0] = 0;
    for (int64 i = 0; i < n; i++)
        to[i + 1] += to[i];
    g->bytes = sink->bytes;
    g->bytes_to = moe_check_ptr(job, moe_alloc(job, sink->n_bytes, 1));
    moe_parallel(job, n, GRAIN, gather_bytes, g);
    moe_free(job, sink->bytes);
    sink->bytes = g->bytes_to;
}

static void
permute_nulls(moe_sink *sink, moe_job *job, const int32 *order, int64 n)
{
    gathering g = {.order = order, .from = sink->null, .to = moe_check_ptr(job, moe_alloc(job, n, 1))};

    moe_parallel(job, n, GRAIN, gather_nulls, &g);
    moe_free(job, sink->null);
    sink->null = g.to;
}

/* Free the room that was not needed. */
static void
give_back(moe_sink *sink, moe_job *job, int64 n)
{
    moe_sink_reserve(sink, job, n);
    if (sink->bytes != NULL)
        sink->bytes = moe_check_ptr(job, moe_realloc(job, sink->bytes, sink->n_bytes, 1));
}

/* Bytes between bounds become items of a vector. */
static void
bound_items(moe_sink *sink, int64 n)
{
    for (int64 i = 0; i <= n; i++)
        sink->items[i].end /= (int64) sizeof(float);
}

void
moe_sinks_permute(moe_sink *sinks, int n_sinks, moe_job *job, const int32 *order, int64 n)
{
    moe_item *spare = NULL;

    for (int s = 0; s < n_sinks; s++)
    {
        moe_sink *sink = &sinks[s];
        gathering g = {.order = order, .from = sink->items};

        if (order == NULL)
            give_back(sink, job, n);
        else
        {
            if (spare == NULL)
                spare = moe_check_ptr(job, moe_alloc(job, n + 1, sizeof(moe_item)));
            g.to = spare;
            if (has_bytes(sink))
                permute_runs(sink, job, &g, n);
            else
                moe_parallel(job, n, GRAIN, gather_items, &g);
            spare = moe_check_ptr(job, moe_realloc(job, sink->items, n + 1, sizeof(moe_item)));
            sink->items = g.to;
            if (sink->null != NULL)
                permute_nulls(sink, job, order, n);
        }
        if (sink->kind == SINK_VECTOR)
            bound_items(sink, n);
        moe_check(job, moe_job_check(job));
    }
    moe_free(job, spare);
}

/*
 * aggregates_streams.c: the events of an owner table, an owner's in order of (event time, row).
 *
 * Children whose values are known with their row stand like that in the
 * relation itself. Of grandchildren, and of values that become known later, a
 * list is made: 4 bytes an event and 8 an owner row, and 32 bytes an event
 * while it is sorted. An event that never comes to be is left out.
 */
#include "embed/aggregates_plan.h"

#define POLL 65536

/* The owner of a source row, or -1. */
static int32_t
owner_of(const moe_aggregates *a, const moe_agg_stream *stream, int64_t row)
{
    const int32_t *parent_of = a->keys[stream->key].bound.parent_of;
    int32_t middle;

    if (stream->below < 0 && stream->beyond < 0)
        return parent_of[row];
    middle = stream->middle[row];
    return middle < 0 ? -1 : parent_of[stream->below >= 0 ? middle : row];
}

static int64_t
collect(const moe_aggregates *a, const moe_agg_stream *stream, moe_agg_record *records)
{
    int64_t n = 0;

    for (int64_t row = 0; row < a->tables[stream->source].n_rows; row++)
    {
        int32_t owner = owner_of(a, stream, row);
        int64_t time;

        if (row % POLL == 0 && moe_job_check(a->job) != MOE_OK)
            return 0;
        if (owner < 0)
            continue;
        time = moe_agg_event_time(stream, (int32_t) row);
        if (time != MOE_TIME_NEVER)
            records[n++] = (moe_agg_record){owner, (int32_t) row, time};
    }
    return n;
}

static moe_code
build(moe_aggregates *a, moe_agg_stream *stream)
{
    int64_t owners = a->tables[a->keys[stream->key].parent].n_rows;
    moe_agg_record *records = moe_alloc(a->job, a->tables[stream->source].n_rows, sizeof(*records));
    int64_t n;

    if (!records)
        return moe_job_code(a->job);
    n = collect(a, stream, records);
    stream->own_offset = moe_alloc(a->job, owners + 1, sizeof(int64_t));
    stream->own_rows = moe_alloc(a->job, n, sizeof(int32_t));
    if (moe_job_check(a->job) == MOE_OK && moe_agg_sort(a->job, &records, n) == MOE_OK)
    {
        for (int64_t i = 0; i < n; i++)
        {
            stream->own_rows[i] = records[i].item;
            stream->own_offset[records[i].owner + 1]++;
        }
        for (int64_t i = 0; i < owners; i++)
            stream->own_offset[i + 1] += stream->own_offset[i];
    }
    moe_free(a->job, records);
    stream->offset = stream->own_offset;
    stream->rows = stream->own_rows;
    return moe_job_check(a->job);
}

/* Whether some row points at a younger one: only then is the order of a path's children not that of their rows. */
static bool
points_ahead(const moe_agg_stream *stream, int64_t n)
{
    for (int64_t row = 0; stream->middle_time && row < n; row++)
        if (stream->middle[row] >= 0 &&
            stream->middle_time[stream->middle[row]] > (stream->time ? stream->time[row] : MOE_TIME_ALWAYS))
            return true;
    return false;
}

moe_code
moe_agg_bind_stream(moe_aggregates *a, moe_agg_stream *stream)
{
    const moe_agg_table *source = &a->tables[stream->source];
    const moe_relation *relation = &a->keys[stream->key].bound;

    stream->middle_time = stream->known_at = NULL;
    stream->time = source->times.time;
    if (stream->below >= 0)
    {
        stream->middle_time = a->tables[a->keys[stream->below].parent].times.time;
        stream->middle = a->keys[stream->below].bound.parent_of;
    }
    if (stream->bit >= 0)
        stream->known_at = source->times.known_at[stream->bit];
    if (stream->beyond >= 0)
    {
        stream->middle_time = a->tables[a->keys[stream->beyond].parent].times.time;
        stream->middle = a->keys[stream->beyond].bound.parent_of;
        if (points_ahead(stream, source->n_rows))
            return build(a, stream);
        stream->middle_time = NULL;
    }
    if (stream->below >= 0 || stream->bit >= 0)
        return build(a, stream);
    stream->offset = relation->offset;
    stream->rows = relation->children;
    return MOE_OK;
}

void
moe_agg_unbind_stream(moe_job *job, moe_agg_stream *stream)
{
    moe_free(job, stream->own_offset);
    moe_free(job, stream->own_rows);
    stream->offset = stream->own_offset = NULL;
    stream->rows = stream->own_rows = NULL;
}

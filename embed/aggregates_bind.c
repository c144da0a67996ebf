/*
 * aggregates_bind.c: a plan over today's rows: checked, then given its events and codes.
 *
 * Codes take 1 byte a row and coded column; events: aggregates_streams.c.
 */
#include "embed/aggregates_plan.h"

#define GRAIN      16384
#define KEPT_BYTES (INT64_C(256) << 20) /* for what was compared with siblings, or known of partners */

static moe_code
refuse(moe_job *job, const char *table)
{
    return moe_fail(job, MOE_INVALID, "table \"%s\" is not as it was when the aggregates were fitted", table);
}

static moe_code
bind_table(moe_job *job, const moe_table *source, const moe_row_times *times, moe_agg_table *table)
{
    if (source->n_columns != table->n_fields || (times->time != NULL) != table->timed || source->n_rows < 0 ||
        source->n_rows >= INT32_MAX || times->n_hidden < 0 || times->n_hidden > MOE_HIDDEN_MAX)
        return refuse(job, table->name);
    table->n_rows = source->n_rows;
    table->times = *times;
    for (int f = 0; f < table->n_fields; f++)
    {
        const moe_column *column = &source->columns[f];
        moe_agg_field *field = &table->fields[f];

        if (column->storage != field->storage || column->hidden_bit != field->hidden_bit ||
            column->hidden_bit >= times->n_hidden)
            return refuse(job, table->name);
        field->column = *column;
    }
    return MOE_OK;
}

static moe_code
bind_keys(moe_aggregates *a, const moe_relational *db)
{
    for (int k = 0; k < a->n_keys; k++)
    {
        const moe_relation *relation = &db->relations[k];

        if (relation->child != a->keys[k].child || relation->parent != a->keys[k].parent)
            return moe_fail(a->job, MOE_INVALID, "foreign key \"%s\" is not as it was when the aggregates were fitted",
                            a->keys[k].name);
        a->keys[k].bound = *relation;
        a->keys[k].parent_time = db->times[relation->parent].time;
    }
    return MOE_OK;
}

static void
find_codes(int64_t begin, int64_t end, void *arg)
{
    moe_agg_field *field = arg;

    for (int64_t row = begin; row < end; row++)
    {
        int64_t found;

        if (moe_agg_missing(&field->column, row))
        {
            field->code[row] = MOE_AGG_CODE_NULL;
            continue;
        }
        found = moe_dictionary_find(&field->codes, &field->column, row);
        field->code[row] = found < 0 ? MOE_AGG_CODE_OTHER : (uint8_t) found;
    }
}

static moe_code
bind_codes(moe_job *job, moe_agg_table *table)
{
    for (int f = 0; f < table->n_fields; f++)
    {
        moe_agg_field *field = &table->fields[f];

        if (!field->coded)
            continue;
        if (!(field->code = moe_alloc(job, table->n_rows, 1)))
            return moe_job_code(job);
        moe_parallel(job, table->n_rows, GRAIN, find_codes, field);
        if (moe_job_check(job) != MOE_OK)
            return moe_job_code(job);
    }
    return MOE_OK;
}

static moe_code
bind_once(moe_aggregates *a, moe_agg_stream *stream)
{
    return stream->offset ? MOE_OK : moe_agg_bind_stream(a, stream);
}

/* What the columns there are aggregate, and what their paths go by. */
static moe_code
bind_streams(moe_aggregates *a)
{
    int64_t left = KEPT_BYTES;

    for (int p = 0; p < a->n_parts && moe_job_check(a->job) == MOE_OK; p++)
    {
        moe_agg_part *part = &a->parts[p];

        if (part->n > 0 && part->stream >= 0)
            bind_once(a, &a->streams[part->stream]);
        if (part->n > 0 && a->paths[part->path].kind == MOE_AGG_LATEST)
            bind_once(a, &a->paths[part->path].children);
        if (part->n > 0 && part->kind == MOE_AGG_PART_SIBLINGS)
            moe_agg_keep_compared(a->job, &a->tables[a->keys[part->other].child], &a->keys[part->other], &left);
        if (part->n > 0 && part->kind == MOE_AGG_PART_PARTNERS && part->beyond >= 0)
            moe_agg_keep_partners(a, part, &left);
    }
    /* Last: the order of events takes room only while it is made. */
    for (int p = 0; p < a->n_parts && moe_job_check(a->job) == MOE_OK; p++)
        if (a->parts[p].n > 0 && a->parts[p].kind == MOE_AGG_PART_SIBLINGS)
            moe_agg_pack(a->job, &a->tables[a->keys[a->parts[p].other].child]);
    return moe_job_code(a->job);
}

moe_code
moe_aggregates_bind(moe_aggregates *a, const moe_relational *db)
{
    moe_job *job = a->job;

    moe_agg_unbind(a);
    if (db->n_tables != a->n_tables || db->n_relations != a->n_keys)
        return moe_fail(job, MOE_INVALID, "aggregates fitted to %d tables and %d foreign keys meet %d and %d",
                        a->n_tables, a->n_keys, db->n_tables, db->n_relations);
    for (int t = 0; t < a->n_tables; t++)
        if (bind_table(job, &db->tables[t], &db->times[t], &a->tables[t]) != MOE_OK)
            return moe_job_code(job);
    if (bind_keys(a, db) != MOE_OK)
        return moe_job_code(job);
    for (int t = 0; t < a->n_tables; t++)
        if (bind_codes(job, &a->tables[t]) != MOE_OK)
            return moe_job_code(job);
    if (bind_streams(a) != MOE_OK)
        return moe_job_code(job);
    a->bound = true;
    return MOE_OK;
}

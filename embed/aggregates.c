/*
 * aggregates.c: the life of a moe_aggregates, and what it says of its columns.
 */
#include "embed/aggregates_plan.h"

moe_aggregates *
moe_agg_create(moe_job *job, int n_tables, int n_keys)
{
    moe_aggregates *a = moe_alloc(job, 1, sizeof(*a));

    if (!a)
        return NULL;
    a->job = job;
    moe_buffer_init(&a->names, job);
    a->tables = moe_alloc(job, n_tables, sizeof(*a->tables));
    a->keys = moe_alloc(job, n_keys, sizeof(*a->keys));
    if (!a->tables || !a->keys)
    {
        moe_aggregates_destroy(a);
        return NULL;
    }
    a->n_tables = n_tables;
    a->n_keys = n_keys;
    return a;
}

static void
free_table(moe_job *job, moe_agg_table *table)
{
    for (int f = 0; f < table->n_fields; f++)
    {
        moe_free(job, table->fields[f].name);
        moe_dictionary_free(job, &table->fields[f].codes);
    }
    for (int l = 0; l < MOE_AGG_LISTS; l++)
        moe_free(job, table->lists[l].value);
    moe_free(job, table->name);
    moe_free(job, table->fields);
    moe_free(job, table->values);
}

void
moe_agg_unbind(moe_aggregates *a)
{
    a->bound = false;
    for (int t = 0; t < a->n_tables; t++)
    {
        moe_free(a->job, a->tables[t].numbers);
        a->tables[t].numbers = NULL;
        for (int f = 0; f < a->tables[t].n_fields; f++)
        {
            moe_free(a->job, a->tables[t].fields[f].code);
            a->tables[t].fields[f].code = NULL;
        }
    }
    for (int s = 0; s < a->n_streams; s++)
        moe_agg_unbind_stream(a->job, &a->streams[s]);
    for (int k = 0; k < a->n_keys; k++)
    {
        moe_free(a->job, a->keys[k].compared);
        moe_free(a->job, a->keys[k].is_compared);
        a->keys[k].compared = NULL;
        a->keys[k].is_compared = NULL;
    }
    for (int p = 0; p < a->n_parts; p++)
    {
        moe_free(a->job, a->parts[p].kept);
        moe_free(a->job, a->parts[p].is_kept);
        a->parts[p].kept = NULL;
        a->parts[p].is_kept = NULL;
    }
    for (int p = 0; p < a->n_paths; p++)
    {
        moe_agg_unbind_stream(a->job, &a->paths[p].children);
        moe_agg_forget_shared(a->job, &a->paths[p].shared);
    }
}

void
moe_aggregates_destroy(moe_aggregates *a)
{
    if (!a)
        return;
    moe_agg_unbind(a);
    for (int t = 0; t < a->n_tables; t++)
        free_table(a->job, &a->tables[t]);
    for (int k = 0; k < a->n_keys; k++)
        moe_free(a->job, a->keys[k].name);
    moe_buffer_free(&a->names);
    moe_free(a->job, a->tables);
    moe_free(a->job, a->keys);
    moe_free(a->job, a->streams);
    moe_free(a->job, a->paths);
    moe_free(a->job, a->parts);
    moe_free(a->job, a->columns);
    moe_free(a->job, a);
}

int
moe_aggregates_columns(const moe_aggregates *a)
{
    return a->n_columns;
}

const char *
moe_aggregates_name(const moe_aggregates *a, int column)
{
    return (const char *) a->names.data + a->columns[column].name;
}

moe_aggregate_family
moe_aggregates_family_of(const moe_aggregates *a, int column)
{
    return a->parts[a->columns[column].part].family;
}

bool
moe_aggregates_is_of_row(const moe_aggregates *a, int column)
{
    const moe_agg_part *part = &a->parts[a->columns[column].part];

    return part->stream < 0 && a->paths[part->path].kind == MOE_AGG_SELF;
}

int
moe_aggregates_table(const moe_aggregates *a, int column)
{
    return moe_agg_part_table(a, &a->parts[a->columns[column].part]);
}

int
moe_aggregates_source(const moe_aggregates *a, int column)
{
    const moe_agg_value *value = moe_agg_value_of(a, &a->columns[column]);

    return value ? value->field : -1;
}

bool
moe_agg_part_needs(const moe_aggregates *a, const moe_agg_part *part, int table)
{
    const moe_agg_path *path = &a->paths[part->path];

    if (path->kind != MOE_AGG_SELF && path->owner == table)
        return true;
    if (path->kind == MOE_AGG_LATEST && a->keys[path->key].child == table)
        return true;
    if (part->stream < 0)
        return false;
    /* A grandchild's way leads over the children. */
    return a->streams[part->stream].source == table || a->keys[a->streams[part->stream].key].child == table ||
           (part->other >= 0 && a->keys[part->other].parent == table) ||
           (part->beyond >= 0 && a->keys[part->beyond].child == table);
}

bool
moe_aggregates_needs(const moe_aggregates *a, int column, int table)
{
    return moe_agg_part_needs(a, &a->parts[a->columns[column].part], table);
}

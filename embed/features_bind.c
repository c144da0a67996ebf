/*
 * features_bind.c: the inputs of every row, computed once on the job's threads.
 *
 * A row's dense inputs lie side by side, so that the encoder copies one run
 * per row; its category entries likewise. A bag column is a CSR of its own,
 * filled in two passes (count, fill), because a hidden column must be left out.
 */
#include "embed/spec.h"

#include <string.h>

#define GRAIN 2048

typedef struct binding
{
    const moe_features *features;
    const moe_features_table *table;
    const moe_spec *spec;
    const moe_column *column;
} binding;

static void
bind_dense(int64_t begin, int64_t end, void *arg)
{
    const binding *b = arg;
    int64_t width = b->table->dense_width;

    for (int64_t row = begin; row < end; row++)
        moe_spec_dense(b->spec, b->column, row, b->table->dense + row * width + b->spec->dense_at);
}

static int32_t
category_of(const moe_spec *spec, const moe_column *column, int64_t row)
{
    int64_t found;

    if (moe_column_missing(column, row))
        return moe_spec_category_null(spec);
    if (!(spec->parts & MOE_PART_CATEGORY))
        return -1; /* a bag's entry stands for NULL alone */
    found = moe_dictionary_find(&spec->dictionary, column, row);
    return found < 0 ? moe_spec_category_unknown(spec) : moe_spec_category_value(spec, found);
}

static void
bind_category(int64_t begin, int64_t end, void *arg)
{
    const binding *b = arg;
    int64_t n = b->table->n_categories;

    for (int64_t row = begin; row < end; row++)
        b->table->category[row * n + b->spec->category_at] = category_of(b->spec, b->column, row);
}

static void
count_bag(int64_t begin, int64_t end, void *arg)
{
    const binding *b = arg;
    uint64_t hash[MOE_BAG_MAX];

    for (int64_t row = begin; row < end; row++)
        b->spec->bag_offset[row + 1] = moe_spec_bag(b->spec, b->column, row, hash);
}

static void
fill_bag(int64_t begin, int64_t end, void *arg)
{
    const binding *b = arg;
    uint64_t hash[MOE_BAG_MAX];

    for (int64_t row = begin; row < end; row++)
    {
        int32_t *out = b->spec->bag_index + b->spec->bag_offset[row];
        int n = moe_spec_bag(b->spec, b->column, row, hash);

        for (int i = 0; i < n; i++)
            out[i] = (int32_t) (hash[i] & (uint64_t) (b->features->buckets - 1));
    }
}

static moe_code
bind_bag(moe_features *features, moe_spec *spec, binding *b, int64_t n_rows)
{
    moe_job *job = features->job;

    if (!(spec->bag_offset = moe_alloc(job, n_rows + 1, sizeof(int64_t))))
        return moe_job_code(job);
    moe_parallel(job, n_rows, GRAIN, count_bag, b);
    for (int64_t row = 0; row < n_rows; row++)
        spec->bag_offset[row + 1] += spec->bag_offset[row];
    if (!(spec->bag_index = moe_alloc(job, spec->bag_offset[n_rows], sizeof(int32_t))))
        return moe_job_code(job);
    moe_parallel(job, n_rows, GRAIN, fill_bag, b);
    return MOE_OK;
}

static void
unbind_table(moe_job *job, moe_features_table *table)
{
    for (int c = 0; c < table->n_columns; c++)
    {
        moe_spec *spec = &table->columns[c];

        moe_free(job, spec->bag_offset);
        moe_free(job, spec->bag_index);
        spec->bag_offset = NULL;
        spec->bag_index = NULL;
        spec->hidden_bit = -1;
    }
    moe_free(job, table->dense);
    moe_free(job, table->category);
    table->dense = NULL;
    table->category = NULL;
    table->n_rows = 0;
    table->bound = false;
    table->hides = false;
}

static moe_code
bind_column(moe_features *features, moe_features_table *table, moe_spec *spec, const moe_column *column, int64_t n_rows)
{
    binding b = {features, table, spec, column};

    spec->hidden_bit = spec->parts ? column->hidden_bit : -1;
    table->hides |= spec->hidden_bit >= 0;
    if (spec->dense_width > 0)
        moe_parallel(features->job, n_rows, GRAIN, bind_dense, &b);
    if (spec->category_at >= 0)
        moe_parallel(features->job, n_rows, GRAIN, bind_category, &b);
    if ((spec->parts & MOE_PARTS_BAG) && bind_bag(features, spec, &b, n_rows) != MOE_OK)
        return moe_job_code(features->job);
    return moe_job_check(features->job);
}

/* Whether a table is of the shape that was fitted. */
static moe_code
check_table(moe_job *job, const moe_features_table *table, const moe_table *source)
{
    if (source->n_columns != table->n_columns)
        return moe_fail(job, MOE_INVALID, "table \"%s\" has %d columns, but the model was trained on %d", source->name,
                        source->n_columns, table->n_columns);
    if (source->n_rows < 0 || source->n_rows >= INT32_MAX)
        return moe_fail(job, MOE_INVALID, "table \"%s\" has too many rows", source->name);
    for (int c = 0; c < source->n_columns; c++)
    {
        const moe_column *column = &source->columns[c];

        if (column->storage != table->columns[c].storage)
            return moe_fail(job, MOE_INVALID, "column \"%s\" of table \"%s\" has another type than in training",
                            column->name, source->name);
        if (column->hidden_bit < -1 || column->hidden_bit > 7)
            return moe_fail(job, MOE_INVALID, "column \"%s\" of table \"%s\" has hidden bit %d", column->name,
                            source->name, column->hidden_bit);
    }
    return MOE_OK;
}

/* Room for n rows of `width` items, which may be 0. */
static void *
alloc_rows(moe_job *job, int64_t n, int width, size_t size)
{
    return width > 0 ? moe_alloc(job, n, width * size) : moe_alloc(job, 0, size);
}

static moe_code
bind_table(moe_features *features, moe_features_table *table, const moe_table *source)
{
    moe_job *job = features->job;
    int64_t n;

    if (check_table(job, table, source) != MOE_OK)
        return moe_job_code(job);
    n = source->n_rows;
    table->dense = alloc_rows(job, n, table->dense_width, sizeof(float));
    table->category = alloc_rows(job, n, table->n_categories, sizeof(int32_t));
    if (!table->dense || !table->category)
        return moe_job_code(job);
    for (int c = 0; c < table->n_columns; c++)
        if (bind_column(features, table, &table->columns[c], &source->columns[c], n) != MOE_OK)
            return moe_job_code(job);
    table->n_rows = n;
    table->bound = true;
    return MOE_OK;
}

moe_code
moe_features_bind(moe_features *features, const moe_table *tables, int n_tables)
{
    moe_code code = MOE_OK;

    features->binding++;
    for (int t = 0; t < features->n_tables; t++)
        unbind_table(features->job, &features->tables[t]);
    if (n_tables != features->n_tables)
        return moe_fail(features->job, MOE_INVALID, "%d tables are given, but the model was trained on %d", n_tables,
                        features->n_tables);
    for (int t = 0; t < n_tables && code == MOE_OK; t++)
        code = bind_table(features, &features->tables[t], &tables[t]);
    if (code != MOE_OK)
        for (int t = 0; t < n_tables; t++)
            unbind_table(features->job, &features->tables[t]);
    return code;
}

/*
 * features_bind.c: the inputs of every row, computed once on the job's threads: all at once, or (but for bags) each
 * when it is first asked for, as a prediction for one key needs few of many.
 *
 * A row's dense inputs lie side by side, so that the encoder copies one run
 * per row; its category entries likewise. They are written chunk by chunk, all
 * columns of a chunk while it is in the cache. A bag column is a CSR of its
 * own, because a hidden column must be left out: its rows are hashed stripe by
 * stripe into a work area, and copied to their place once the sizes are known.
 */
#include "embed/spec.h"

#include <string.h>

#define GRAIN        1024
#define LISTED_GRAIN 128
#define STRIPE       65536 /* rows whose bags are hashed together */

typedef struct binding
{
    const moe_features *features;
    const moe_features_table *table;
    const moe_column *columns;
    const int32_t *listed; /* rows that are asked for */
    /* one bag column */
    const moe_spec *spec;
    const moe_column *column;
    int64_t first; /* row of the stripe */
    int32_t *work; /* [STRIPE * MOE_BAG_MAX] */
} binding;

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

/* The dense inputs and category entries of some rows. */
static void
bind_stretch(const moe_features_table *table, const moe_column *columns, int64_t begin, int64_t end)
{
    for (int c = 0; c < table->n_columns; c++)
    {
        const moe_spec *spec = &table->columns[c];
        const moe_column *column = &columns[c];

        if (spec->dense_width > 0)
            moe_spec_dense_rows(spec, column, begin, end, table->dense + begin * table->dense_width + spec->dense_at,
                                table->dense_width);
        for (int64_t row = begin; spec->category_at >= 0 && row < end; row++)
            table->category[row * table->n_categories + spec->category_at] = category_of(spec, column, row);
    }
}

static void
bind_rows(int64_t begin, int64_t end, void *arg)
{
    const binding *b = arg;

    if (!moe_job_cancelled(b->features->job)) /* all of a table's rows take too long to wait for */
        bind_stretch(b->table, b->columns, begin, end);
}

/* The same of rows that are asked for. */
static void
bind_listed(int64_t begin, int64_t end, void *arg)
{
    const binding *b = arg;

    for (int64_t i = begin; i < end; i++)
        bind_stretch(b->table, b->columns, b->listed[i], b->listed[i] + 1);
}

moe_code
moe_features_need(moe_features *features, int t, const int32_t *rows, int64_t n)
{
    moe_features_table *table = &features->tables[t];
    binding b = {.features = features, .table = table, .columns = table->source};
    int64_t missing = 0;
    int32_t *listed;

    if (table->ready == NULL)
        return MOE_OK;
    if (!(b.listed = listed = moe_alloc(features->job, n, sizeof(*listed))))
        return moe_job_code(features->job);
    for (int64_t i = 0; i < n; i++)
        if (!table->ready[rows[i]])
        {
            table->ready[rows[i]] = 1;
            listed[missing++] = rows[i];
        }
    moe_parallel(features->job, missing, LISTED_GRAIN, bind_listed, &b);
    moe_free(features->job, listed);
    return moe_job_check(features->job);
}

/* Hash the bags of some rows of the stripe; bag_offset[row + 1] becomes the bag's size. */
static void
hash_bags(int64_t begin, int64_t end, void *arg)
{
    const binding *b = arg;
    uint64_t hash[MOE_BAG_MAX];

    for (int64_t i = begin; i < end; i++)
    {
        int n = moe_spec_bag(b->spec, b->column, b->first + i, hash);

        b->spec->bag_offset[b->first + i + 1] = n;
        for (int k = 0; k < n; k++)
            b->work[i * MOE_BAG_MAX + k] = (int32_t) (hash[k] & (uint64_t) (b->features->buckets - 1));
    }
}

static void
copy_bags(int64_t begin, int64_t end, void *arg)
{
    const binding *b = arg;

    for (int64_t i = begin; i < end; i++)
    {
        int64_t at = b->spec->bag_offset[b->first + i];
        int64_t n = b->spec->bag_offset[b->first + i + 1] - at;

        if (n > 0)
            memcpy(b->spec->bag_index + at, b->work + i * MOE_BAG_MAX, n * sizeof(int32_t));
    }
}

/* Grow a bag column's buckets to `count`, by a quarter at least. */
static moe_code
reserve_bags(moe_job *job, moe_spec *spec, int64_t count, int64_t *capacity)
{
    int32_t *index;

    if (count <= *capacity)
        return MOE_OK;
    *capacity = count > *capacity + *capacity / 4 ? count : *capacity + *capacity / 4;
    if (!(index = moe_realloc(job, spec->bag_index, *capacity, sizeof(*index))))
        return moe_job_code(job);
    spec->bag_index = index;
    return MOE_OK;
}

static moe_code
bind_stripes(moe_features *features, moe_spec *spec, binding *b, int64_t n_rows)
{
    moe_job *job = features->job;
    int64_t capacity = 0;
    int32_t *index;

    for (b->first = 0; b->first < n_rows; b->first += STRIPE)
    {
        int64_t n = n_rows - b->first < STRIPE ? n_rows - b->first : STRIPE;

        moe_parallel(job, n, GRAIN, hash_bags, b);
        for (int64_t row = b->first; row < b->first + n; row++)
            spec->bag_offset[row + 1] += spec->bag_offset[row];
        if (reserve_bags(job, spec, spec->bag_offset[b->first + n], &capacity) != MOE_OK)
            return moe_job_code(job);
        moe_parallel(job, n, GRAIN, copy_bags, b);
        if (moe_job_check(job) != MOE_OK)
            return moe_job_code(job);
    }
    if (!(index = moe_realloc(job, spec->bag_index, spec->bag_offset[n_rows], sizeof(*index))))
        return moe_job_code(job);
    spec->bag_index = index;
    return MOE_OK;
}

static moe_code
bind_bag(moe_features *features, moe_spec *spec, binding *b, int64_t n_rows)
{
    moe_job *job = features->job;

    spec->bag_offset = moe_alloc(job, n_rows + 1, sizeof(int64_t));
    b->work = moe_alloc(job, (n_rows < STRIPE ? n_rows : STRIPE) * MOE_BAG_MAX, sizeof(int32_t));
    if (spec->bag_offset && b->work)
        bind_stripes(features, spec, b, n_rows);
    moe_free(job, b->work);
    return moe_job_code(job);
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
    moe_free(job, table->ready);
    table->dense = NULL;
    table->category = NULL;
    table->ready = NULL;
    table->n_rows = 0;
    table->bound = false;
    table->hides = false;
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
bind_table(moe_features *features, moe_features_table *table, const moe_table *source, bool as_asked)
{
    moe_job *job = features->job;
    binding b = {.features = features, .table = table, .columns = source->columns};
    int64_t n;

    if (check_table(job, table, source) != MOE_OK)
        return moe_job_code(job);
    n = source->n_rows;
    table->dense = alloc_rows(job, n, table->dense_width, sizeof(float));
    table->category = alloc_rows(job, n, table->n_categories, sizeof(int32_t));
    if (!table->dense || !table->category)
        return moe_job_code(job);
    for (int c = 0; c < table->n_columns; c++)
    {
        table->columns[c].hidden_bit = table->columns[c].parts ? source->columns[c].hidden_bit : -1;
        table->hides |= table->columns[c].hidden_bit >= 0;
    }
    table->source = source->columns;
    if (as_asked)
        table->ready = moe_alloc(job, n, 1);
    else
        moe_parallel(job, n, GRAIN, bind_rows, &b);
    if (moe_job_check(job) != MOE_OK)
        return moe_job_code(job);
    for (int c = 0; c < table->n_columns; c++)
    {
        b.spec = &table->columns[c];
        b.column = &source->columns[c];
        if ((b.spec->parts & MOE_PARTS_BAG) && bind_bag(features, &table->columns[c], &b, n) != MOE_OK)
            return moe_job_code(job);
    }
    if (moe_job_check(job) != MOE_OK)
        return moe_job_code(job);
    table->n_rows = n;
    table->bound = true;
    return MOE_OK;
}

static moe_code
bind(moe_features *features, const moe_table *tables, int n_tables, bool as_asked)
{
    moe_code code = MOE_OK;

    features->binding++;
    for (int t = 0; t < features->n_tables; t++)
        unbind_table(features->job, &features->tables[t]);
    if (n_tables != features->n_tables)
        return moe_fail(features->job, MOE_INVALID, "%d tables are given, but the model was trained on %d", n_tables,
                        features->n_tables);
    for (int t = 0; t < n_tables && code == MOE_OK; t++)
        code = bind_table(features, &features->tables[t], &tables[t], as_asked);
    if (code != MOE_OK)
        for (int t = 0; t < n_tables; t++)
            unbind_table(features->job, &features->tables[t]);
    return code;
}

moe_code
moe_features_bind(moe_features *features, const moe_table *tables, int n_tables)
{
    return bind(features, tables, n_tables, false);
}

moe_code
moe_features_bind_as_asked(moe_features *features, const moe_table *tables, int n_tables)
{
    return bind(features, tables, n_tables, true);
}

/*
 * features.c: the life of a moe_features, the layout of its inputs, and what it says of itself.
 *
 * Layout is a function of the specifications alone, so that stored and freshly
 * fitted ones give the same inputs and the same parameter shapes.
 */
#include "embed/spec.h"
#include "kernels/random.h"

#include <inttypes.h>
#include <stdio.h>

moe_features *
moe_features_create(moe_job *job, int n_tables)
{
    moe_features *features = moe_alloc(job, 1, sizeof(*features));

    if (!features)
        return NULL;
    features->job = job;
    features->tables = moe_alloc(job, n_tables, sizeof(*features->tables));
    if (!features->tables)
    {
        moe_free(job, features);
        return NULL;
    }
    features->n_tables = n_tables;
    return features;
}

void
moe_features_destroy(moe_features *features)
{
    if (!features)
        return;
    for (int t = 0; t < features->n_tables; t++)
    {
        moe_features_table *table = &features->tables[t];

        for (int c = 0; c < table->n_columns; c++)
        {
            moe_spec *spec = &table->columns[c];

            moe_free(features->job, spec->vector_mean);
            moe_free(features->job, spec->vector_inverse);
            moe_free(features->job, spec->bag_offset);
            moe_free(features->job, spec->bag_index);
            moe_dictionary_free(features->job, &spec->dictionary);
        }
        moe_free(features->job, table->dense);
        moe_free(features->job, table->category);
        moe_free(features->job, table->ready);
        moe_free(features->job, table->columns);
    }
    moe_free(features->job, features->tables);
    moe_free(features->job, features);
}

int32_t
moe_spec_category_null(const moe_spec *spec)
{
    return (int32_t) spec->category_row;
}

/* Without a NULL state of its own, NULL is an unknown value: both names mean the first row. */
int32_t
moe_spec_category_unknown(const moe_spec *spec)
{
    return (int32_t) (spec->category_row + (spec->missing ? 1 : 0));
}

int32_t
moe_spec_category_value(const moe_spec *spec, int64_t i)
{
    return (int32_t) (moe_spec_category_unknown(spec) + 1 + i);
}

/* Rows of the embedding parameter a column owns; a bag owns one, its NULL state, if it needs it. */
static int64_t
category_rows(const moe_spec *spec)
{
    if (spec->parts & MOE_PART_CATEGORY)
        return spec->dictionary.n + (spec->missing ? 2 : 1);
    return (spec->parts & MOE_PARTS_BAG) && spec->missing ? 1 : 0;
}

static void
describe(moe_spec *spec)
{
    char *out = spec->description;
    size_t size = sizeof(spec->description);
    const char *and_numeric = spec->parts & MOE_PART_NUMERIC ? " and numeric" : "";

    if (spec->ignored != MOE_USED)
        snprintf(out, size, "%s",
                 spec->ignored == MOE_IGNORED_NO_ROWS    ? "no rows: ignored"
                 : spec->ignored == MOE_IGNORED_ALL_NULL ? "all NULL: ignored"
                                                         : "constant: ignored");
    else if (spec->parts & MOE_PART_CATEGORY)
        snprintf(out, size, "category (%" PRId64 " values)%s", spec->n_distinct, and_numeric);
    else if (spec->parts & MOE_PART_HASHED)
        snprintf(out, size, "category (%" PRId64 " values, hashed)%s", spec->n_distinct, and_numeric);
    else if (spec->parts & MOE_PART_TEXT)
        snprintf(out, size, "text (hashed)");
    else if (spec->parts & MOE_PART_NUMERIC)
        snprintf(out, size, spec->scaling.log ? "numeric (logarithmic)" : "numeric");
    else if (spec->parts & MOE_PART_BOOL)
        snprintf(out, size, "bool");
    else if (spec->parts & MOE_PART_TIME)
        snprintf(out, size, "timestamp");
    else if (spec->vector_length > 0)
        snprintf(out, size, "vector (%d)", spec->vector_length);
    else
        snprintf(out, size, "vector (pooled)");
}

/* Give a column its place in the table's inputs. */
static moe_code
place_column(moe_features *features, moe_features_table *table, moe_spec *spec, uint64_t hash_key)
{
    int64_t rows = category_rows(spec);

    spec->hash_key = hash_key;
    spec->hidden_bit = -1;
    spec->dense_at = table->dense_width;
    spec->dense_width = spec->parts & MOE_PARTS_DENSE ? moe_spec_values(spec) + (spec->missing ? 1 : 0) : 0;
    spec->category_at = rows > 0 ? table->n_categories++ : -1;
    spec->category_row = table->category_rows;
    if (spec->dense_width > INT32_MAX / 2 - table->dense_width || rows > INT32_MAX / 2 - table->category_rows)
        return moe_fail(features->job, MOE_INVALID, "a table's columns need too many inputs");
    table->dense_width += spec->dense_width;
    table->category_rows += rows;
    if (spec->parts & MOE_PARTS_BAG)
        table->n_bags++;
    describe(spec);
    return MOE_OK;
}

moe_code
moe_features_layout(moe_features *features)
{
    for (int t = 0; t < features->n_tables; t++)
    {
        moe_features_table *table = &features->tables[t];
        uint64_t key = moe_key(UINT64_C(0x6d6f655f656d6264), t);

        for (int c = 0; c < table->n_columns; c++)
            if (place_column(features, table, &table->columns[c], moe_key(key, c)) != MOE_OK)
                return moe_job_code(features->job);
    }
    return MOE_OK;
}

int
moe_features_tables(const moe_features *features)
{
    return features->n_tables;
}

int
moe_features_columns(const moe_features *features, int table)
{
    return features->tables[table].n_columns;
}

bool
moe_features_uses(const moe_features *features, int table, int column)
{
    return features->tables[table].columns[column].parts != 0;
}

void
moe_features_hide(moe_features *features, const bool *const *hidden)
{
    features->hidden = hidden;
}

const char *
moe_features_describe(const moe_features *features, int table, int column)
{
    return features->tables[table].columns[column].description;
}

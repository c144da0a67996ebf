/*
 * features_store.c: specifications as bytes, and back.
 *
 * What can be derived (places, widths, descriptions) is not stored. Stored
 * bytes are not trusted: every enumeration, count, range and order that the
 * rest of embed/ relies on is checked here.
 */
#include "embed/spec.h"

#include <math.h>

#define FORMAT 1

static void
write_scaling(const moe_scaling *scaling, moe_buffer *buffer)
{
    moe_put_u8(buffer, scaling->log);
    moe_put_f64(buffer, scaling->center);
    moe_put_f64(buffer, scaling->spread);
    moe_put_f64(buffer, scaling->mean);
    moe_put_f64(buffer, scaling->inverse);
    moe_put_u8(buffer, (uint8_t) scaling->n_bins);
    for (int i = 0; scaling->n_bins > 0 && i <= scaling->n_bins; i++)
        moe_put_f64(buffer, scaling->edge[i]);
}

static void
write_column(const moe_spec *spec, moe_buffer *buffer)
{
    moe_put_u8(buffer, spec->storage);
    moe_put_u8(buffer, spec->ignored);
    moe_put_u8(buffer, (uint8_t) spec->parts);
    moe_put_u8(buffer, spec->missing);
    if (spec->parts & MOE_PART_NUMERIC)
        write_scaling(&spec->scaling, buffer);
    if (spec->parts & MOE_PART_TIME)
    {
        moe_put_i64(buffer, spec->time_low);
        moe_put_i64(buffer, spec->time_high);
        moe_put_u8(buffer, (uint8_t) spec->time_components);
    }
    if (spec->parts & MOE_PART_VECTOR)
    {
        moe_put_i32(buffer, spec->vector_length);
        for (int i = 0; i < moe_spec_values(spec); i++)
        {
            moe_put_f64(buffer, spec->vector_mean[i]);
            moe_put_f64(buffer, spec->vector_inverse[i]);
        }
    }
    if (spec->parts & (MOE_PART_CATEGORY | MOE_PART_HASHED))
        moe_put_i64(buffer, spec->n_distinct);
    if (spec->parts & MOE_PART_CATEGORY)
        moe_dictionary_write(&spec->dictionary, spec->storage == MOE_STORE_STRING, buffer);
}

void
moe_features_write(const moe_features *features, moe_buffer *buffer)
{
    moe_put_i32(buffer, FORMAT);
    moe_put_i32(buffer, features->buckets);
    moe_put_i64(buffer, features->n_tables);
    for (int t = 0; t < features->n_tables; t++)
    {
        const moe_features_table *table = &features->tables[t];

        moe_put_i64(buffer, table->n_columns);
        for (int c = 0; c < table->n_columns; c++)
            write_column(&table->columns[c], buffer);
    }
}

static void
require(moe_reader *reader, bool valid)
{
    if (!valid)
        moe_fail(reader->job, MOE_CORRUPT, "stored column encodings do not read back");
}

/* A finite double within [-limit, limit]. */
static double
read_number(moe_reader *reader, double limit)
{
    double x = moe_get_f64(reader);
    bool valid = isfinite(x) && fabs(x) <= limit;

    require(reader, valid);
    return valid ? x : 0;
}

static void
read_scaling(moe_reader *reader, moe_scaling *scaling)
{
    scaling->log = moe_get_u8(reader) != 0;
    scaling->center = read_number(reader, 1e150);
    scaling->spread = read_number(reader, 1e150);
    scaling->mean = read_number(reader, 1e150);
    scaling->inverse = read_number(reader, 1e150);
    scaling->n_bins = moe_get_u8(reader);
    require(reader, scaling->spread > 1e-150 && scaling->inverse >= 0 && scaling->n_bins <= MOE_BINS);
    for (int i = 0; scaling->n_bins > 0 && i <= scaling->n_bins && moe_job_code(reader->job) == MOE_OK; i++)
    {
        scaling->edge[i] = read_number(reader, 1e150);
        require(reader, i == 0 || scaling->edge[i] > scaling->edge[i - 1]);
    }
}

static void
read_time(moe_reader *reader, moe_spec *spec)
{
    spec->time_low = moe_get_i64(reader);
    spec->time_high = moe_get_i64(reader);
    spec->time_components = moe_get_u8(reader);
    require(reader, spec->time_low <= spec->time_high && spec->time_components < 1 << MOE_TIME_COMPONENTS);
}

static void
read_vector(moe_reader *reader, moe_spec *spec)
{
    int width;

    spec->vector_length = moe_get_i32(reader);
    require(reader, spec->vector_length >= 0 && spec->vector_length <= MOE_VECTOR_MAX);
    if (moe_job_code(reader->job) != MOE_OK)
        return;
    width = moe_spec_values(spec);
    spec->vector_mean = moe_alloc(reader->job, width, sizeof(double));
    spec->vector_inverse = moe_alloc(reader->job, width, sizeof(double));
    for (int i = 0; i < width && moe_job_code(reader->job) == MOE_OK; i++)
    {
        spec->vector_mean[i] = read_number(reader, 1e150);
        spec->vector_inverse[i] = read_number(reader, 1e150);
        require(reader, spec->vector_inverse[i] >= 0);
    }
}

/* Whether the parts go together, and with the storage: each combination that fitting makes. */
static bool
parts_fit(const moe_spec *spec)
{
    bool number = spec->storage == MOE_STORE_NUMBER || spec->storage == MOE_STORE_BOOL;

    switch (spec->parts)
    {
        case 0:
            return spec->ignored != MOE_USED;
        case MOE_PART_NUMERIC:
            return number || spec->storage == MOE_STORE_TIME;
        case MOE_PART_CATEGORY | MOE_PART_NUMERIC:
            return spec->storage == MOE_STORE_NUMBER;
        case MOE_PART_CATEGORY:
        case MOE_PART_HASHED:
            return spec->storage != MOE_STORE_VECTOR;
        case MOE_PART_BOOL:
            return number;
        case MOE_PART_TIME:
            return spec->storage == MOE_STORE_TIME;
        case MOE_PART_VECTOR:
            return spec->storage == MOE_STORE_VECTOR;
        case MOE_PART_TEXT:
            return spec->storage == MOE_STORE_STRING;
        default:
            return false;
    }
}

static void
read_column(moe_reader *reader, moe_spec *spec)
{
    int storage = moe_get_u8(reader);
    int ignored = moe_get_u8(reader);
    int parts = moe_get_u8(reader);
    int missing = moe_get_u8(reader);

    require(reader, storage <= MOE_STORE_VECTOR && ignored <= MOE_IGNORED_CONSTANT && missing <= 1);
    if (moe_job_code(reader->job) != MOE_OK)
        return;
    spec->storage = (moe_storage) storage;
    spec->ignored = (moe_ignored) ignored;
    spec->parts = parts;
    spec->missing = missing != 0;
    require(reader, parts_fit(spec) && (parts == 0 || ignored == MOE_USED));
    if (moe_job_code(reader->job) != MOE_OK)
    {
        spec->parts = 0;
        return;
    }
    if (parts & MOE_PART_NUMERIC)
        read_scaling(reader, &spec->scaling);
    if (parts & MOE_PART_TIME)
        read_time(reader, spec);
    if (parts & MOE_PART_VECTOR)
        read_vector(reader, spec);
    if (parts & (MOE_PART_CATEGORY | MOE_PART_HASHED))
        spec->n_distinct = moe_get_i64(reader);
    if (parts & MOE_PART_CATEGORY)
        moe_dictionary_read(reader, storage == MOE_STORE_STRING, &spec->dictionary);
    require(reader, spec->n_distinct >= spec->dictionary.n);
}

static void
read_table(moe_reader *reader, moe_features_table *table)
{
    int64_t n = moe_get_count(reader, 4);

    require(reader, n <= INT16_MAX);
    if (moe_job_code(reader->job) != MOE_OK || !(table->columns = moe_alloc(reader->job, n, sizeof(*table->columns))))
        return;
    table->n_columns = (int) n;
    for (int c = 0; c < n && moe_job_code(reader->job) == MOE_OK; c++)
        read_column(reader, &table->columns[c]);
}

/* The hash table's size: a power of two in range, or 0, which no column may contradict. */
static void
check_buckets(moe_reader *reader, const moe_features *features)
{
    int buckets = features->buckets;

    require(reader, buckets == 0 || (buckets >= MOE_HASH_BUCKETS_MIN && buckets <= MOE_HASH_BUCKETS_MAX &&
                                     (buckets & (buckets - 1)) == 0));
    for (int t = 0; t < features->n_tables; t++)
        for (int c = 0; c < features->tables[t].n_columns; c++)
            require(reader, buckets > 0 || !(features->tables[t].columns[c].parts & MOE_PARTS_BAG));
}

moe_code
moe_features_read(moe_job *job, moe_reader *reader, moe_features **out)
{
    moe_features *features;
    int buckets;
    int64_t n;

    *out = NULL;
    require(reader, moe_get_i32(reader) == FORMAT);
    buckets = moe_get_i32(reader);
    n = moe_get_count(reader, sizeof(int64_t));
    require(reader, n <= INT16_MAX);
    if (moe_job_code(reader->job) != MOE_OK || !(features = moe_features_create(job, (int) n)))
        return moe_job_code(job);
    features->buckets = buckets;
    for (int t = 0; t < n && moe_job_code(reader->job) == MOE_OK; t++)
        read_table(reader, &features->tables[t]);
    check_buckets(reader, features);
    if (moe_job_code(reader->job) == MOE_OK && moe_features_layout(features) == MOE_OK)
        *out = features;
    else
        moe_features_destroy(features);
    return moe_job_code(job);
}

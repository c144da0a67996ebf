/*
 * features_fit.c: how each column is encoded, decided from the fit rows alone.
 *
 * AUTO, on the rows visible at the end of training:
 *   BOOL     bool
 *   TIME     timestamp
 *   VECTOR   the items, if all rows have the same length up to MOE_VECTOR_MAX; else pooled
 *   NUMBER   not integral: numeric. Integral: category and numeric where at most
 *            CATEGORY_FEW values occur, each more than CATEGORY_RARE times (a code or
 *            a small count: its order may matter or not); else numeric
 *   STRING   values that repeat (twice on average) are a category: with a
 *            dictionary if they are at most CATEGORY_FEW, or at most CATEGORY_MANY
 *            and none is rarer than CATEGORY_RARE; else hashed into the shared
 *            table (Unified Embedding, Coleman et al. 2023). Others are text.
 * All-NULL and constant columns are ignored, declared or not: nothing can be
 * learned from them. In a dictionary, values that occur once stand for the
 * unknown ones (unless hardly any value repeats), so that this state is trained.
 *
 * Every loop here ends at fit_rows: later rows cannot change a bit.
 */
#include "embed/spec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CATEGORY_RARE 4
#define CATEGORY_FEW  1000
#define CATEGORY_MANY 4096
#define REPEATS       2      /* mean occurrences from which values count as repeating */
#define SAMPLE        131072 /* values quantiles are taken from */
#define HEAVY_TAIL    8.0    /* spreads from the median to an extreme that ask for the logarithm */

#define TINY 1e-140 /* a deviation below it is none: its inverse could overflow a product */

typedef struct fitting
{
    moe_job *job;
    const moe_table *table;
    const moe_column *column;
    int64_t n; /* fit rows */
    moe_spec *spec;
} fitting;

static double
quantile(const double *sorted, int64_t n, double q)
{
    double at = q * (double) (n - 1);
    int64_t low = (int64_t) at;

    return low + 1 < n ? sorted[low] + (at - (double) low) * (sorted[low + 1] - sorted[low]) : sorted[n - 1];
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *) a;
    double y = *(const double *) b;

    return x < y ? -1 : x > y;
}

/* Mean and inverse deviation of values; inverse 0 where they do not vary. */
static void
moments(const double *values, int64_t n, double *mean, double *inverse)
{
    double sum = 0, squares = 0, deviation;

    for (int64_t i = 0; i < n; i++)
        sum += values[i];
    *mean = sum / (double) n;
    for (int64_t i = 0; i < n; i++)
        squares += (values[i] - *mean) * (values[i] - *mean);
    deviation = sqrt(squares / (double) n);
    *inverse = deviation > TINY && deviation > 1e-12 * fabs(*mean) ? 1 / deviation : 0;
}

/* Distinct quartiles as bin edges, if at least two remain. */
static void
fit_bins(moe_scaling *scaling, const double *sorted, int64_t n)
{
    int edges = 0;

    for (int i = 0; i <= MOE_BINS; i++)
    {
        double edge = quantile(sorted, n, (double) i / MOE_BINS);

        if (edges == 0 || edge > scaling->edge[edges - 1])
            scaling->edge[edges++] = edge;
    }
    scaling->n_bins = edges > 2 ? edges - 1 : 0; /* one bin is the linear value again */
}

/*
 * Choose the logarithm where an extreme lies more than HEAVY_TAIL spreads
 * from the median; the spread is what a normal column's deviation would be,
 * from the 5 % and 95 % quantiles. Counts, amounts and durations are like this.
 */
static void
fit_tails(moe_scaling *scaling, const double *sorted, int64_t n, double deviation)
{
    double center = quantile(sorted, n, 0.5);
    double spread = (quantile(sorted, n, 0.95) - quantile(sorted, n, 0.05)) / 3.29;
    double reach = fmax(sorted[n - 1] - center, center - sorted[0]);

    if (!(spread > 0))
        spread = deviation;
    scaling->log = spread > TINY && reach > HEAVY_TAIL * spread;
    scaling->center = scaling->log ? center : 0;
    scaling->spread = scaling->log ? spread : 1;
}

/* Numbers of the column's fit rows that are not missing; NULL on failure. */
static double *
gather_numbers(const fitting *fit, int64_t *n)
{
    double *values = moe_alloc(fit->job, fit->n, sizeof(*values));

    *n = 0;
    for (int64_t row = 0; values && row < fit->n; row++)
        if (!moe_column_missing(fit->column, row))
            values[(*n)++] = moe_column_number(fit->column, row);
    return values;
}

/* Sorted values to take quantiles from: all, or evenly spaced ones. */
static double *
sorted_sample(moe_job *job, const double *values, int64_t n, int64_t *n_sample)
{
    int64_t stride = (n + SAMPLE - 1) / SAMPLE;
    double *sample = moe_alloc(job, n / stride + 1, sizeof(*sample));

    *n_sample = 0;
    for (int64_t i = 0; sample && i < n; i += stride)
        sample[(*n_sample)++] = values[i];
    if (sample)
        qsort(sample, *n_sample, sizeof(*sample), compare_doubles);
    return sample;
}

static moe_code
fit_numeric(const fitting *fit, bool bins)
{
    moe_scaling *scaling = &fit->spec->scaling;
    int64_t n, n_sample = 0;
    double *values = gather_numbers(fit, &n);
    double *sample = values ? sorted_sample(fit->job, values, n, &n_sample) : NULL;
    double mean, inverse;

    fit->spec->parts |= MOE_PART_NUMERIC;
    if (sample)
    {
        moments(values, n, &mean, &inverse);
        fit_tails(scaling, sample, n_sample, inverse > 0 ? 1 / inverse : 0);
        if (bins)
            fit_bins(scaling, sample, n_sample);
        for (int64_t i = 0; scaling->log && i < n; i++)
        {
            double z = (values[i] - scaling->center) / scaling->spread;

            values[i] = copysign(log1p(fabs(z)), z);
        }
        moments(values, n, &scaling->mean, &scaling->inverse);
    }
    moe_free(fit->job, sample);
    moe_free(fit->job, values);
    return moe_job_code(fit->job);
}

static void
fit_time(const fitting *fit)
{
    moe_spec *spec = fit->spec;
    const moe_column *column = fit->column;
    int first[MOE_TIME_COMPONENTS];
    int component[MOE_TIME_COMPONENTS];
    bool any = false;

    spec->parts |= MOE_PART_TIME;
    for (int64_t row = 0; row < fit->n; row++)
    {
        int64_t time = column->time[row];

        if (moe_column_missing(column, row))
            continue;
        spec->time_low = !any || time < spec->time_low ? time : spec->time_low;
        spec->time_high = !any || time > spec->time_high ? time : spec->time_high;
        moe_time_components(time, any ? component : first);
        for (int i = 0; any && i < MOE_TIME_COMPONENTS; i++)
            spec->time_components |= (component[i] != first[i]) << i;
        any = true;
    }
}

/* The length all vectors of the fit rows have, or 0: they differ, or are too long. */
static int
common_length(const fitting *fit)
{
    const moe_column *column = fit->column;
    int64_t common = -1;

    for (int64_t row = 0; row < fit->n; row++)
    {
        int64_t length = column->offset[row + 1] - column->offset[row];

        if (moe_column_missing(column, row))
            continue;
        if (common >= 0 && length != common)
            return 0;
        common = length;
    }
    return common > 0 && common <= MOE_VECTOR_MAX ? (int) common : 0;
}

/* A vector's fitted numbers: its items (0 where not finite), or the pooled statistics. */
static void
vector_numbers(const fitting *fit, int64_t row, double *out)
{
    const float *items = fit->column->items + fit->column->offset[row];

    if (fit->spec->vector_length == 0)
        moe_pool_vector(items, fit->column->offset[row + 1] - fit->column->offset[row], out);
    for (int i = 0; i < fit->spec->vector_length; i++)
        out[i] = isfinite(items[i]) ? items[i] : 0;
}

/* Mean and deviation of every number (Welford's running update: one pass, no cancellation). */
static moe_code
fit_vector(const fitting *fit)
{
    moe_spec *spec = fit->spec;
    moe_job *job = fit->job;
    int width;
    int64_t n = 0;
    double *number;

    spec->parts |= MOE_PART_VECTOR;
    spec->vector_length = common_length(fit);
    width = moe_spec_values(spec);
    spec->vector_mean = moe_alloc(job, width, sizeof(double));
    spec->vector_inverse = moe_alloc(job, width, sizeof(double));
    number = moe_alloc(job, width, sizeof(double));
    if (!spec->vector_mean || !spec->vector_inverse || !number)
        return moe_job_code(job);
    for (int64_t row = 0; row < fit->n; row++)
    {
        if (moe_column_missing(fit->column, row))
            continue;
        vector_numbers(fit, row, number);
        n++;
        for (int i = 0; i < width; i++)
        {
            double delta = number[i] - spec->vector_mean[i];

            spec->vector_mean[i] += delta / (double) n;
            spec->vector_inverse[i] += delta * (number[i] - spec->vector_mean[i]);
        }
    }
    for (int i = 0; i < width; i++)
    {
        double deviation = sqrt(spec->vector_inverse[i] / (double) n);

        spec->vector_inverse[i] = deviation > TINY && deviation > 1e-7 * fabs(spec->vector_mean[i]) ? 1 / deviation : 0;
    }
    moe_free(job, number);
    return MOE_OK;
}

/* A category of counted values: with a dictionary if there are few enough, else hashed. */
static moe_code
fit_category(const fitting *fit, const moe_tally *tally, bool hashed)
{
    moe_spec *spec = fit->spec;
    bool repeats = tally->total >= REPEATS * tally->n;

    spec->n_distinct = tally->n;
    spec->parts |= hashed ? MOE_PART_HASHED : MOE_PART_CATEGORY;
    if (hashed)
        return MOE_OK;
    return moe_dictionary_build(fit->job, fit->column, tally, repeats ? 2 : 1, &spec->dictionary);
}

static moe_code
fit_declared_category(const fitting *fit)
{
    moe_tally tally;

    if (moe_tally_column(fit->job, fit->column, fit->n, INT64_MAX, &tally) == MOE_OK)
        fit_category(fit, &tally, tally.n > CATEGORY_MANY);
    moe_tally_free(fit->job, &tally);
    return moe_job_code(fit->job);
}

static moe_code
fit_auto_number(const fitting *fit)
{
    moe_tally tally = {0};
    bool category = false;

    if (fit->column->integral)
    {
        if (moe_tally_column(fit->job, fit->column, fit->n, CATEGORY_FEW, &tally) != MOE_OK)
            return moe_job_code(fit->job);
        category = !tally.overflow && tally.rarest > CATEGORY_RARE;
    }
    if (category)
        fit_category(fit, &tally, false);
    moe_tally_free(fit->job, &tally);
    /* Two values need no second description by size. */
    if (!category || fit->spec->n_distinct > 2)
        return fit_numeric(fit, !category);
    return moe_job_code(fit->job);
}

static moe_code
fit_auto_string(const fitting *fit)
{
    moe_tally tally;

    if (moe_tally_column(fit->job, fit->column, fit->n, INT64_MAX, &tally) != MOE_OK)
        return moe_job_code(fit->job);
    if (tally.n <= CATEGORY_MANY && tally.rarest > CATEGORY_RARE)
        fit_category(fit, &tally, false);
    else if (tally.total >= REPEATS * tally.n)
        fit_category(fit, &tally, tally.n > CATEGORY_FEW);
    else
        fit->spec->parts |= MOE_PART_TEXT;
    moe_tally_free(fit->job, &tally);
    return moe_job_code(fit->job);
}

static const char *
encoding_name(moe_encoding encoding)
{
    static const char *const names[] = {"auto", "numeric", "category", "timestamp", "bool", "text", "vector"};

    return encoding <= MOE_ENCODE_VECTOR ? names[encoding] : "unknown";
}

/* Whether values of a storage can be encoded so. */
static bool
encoding_fits(moe_storage storage, moe_encoding encoding)
{
    switch (encoding)
    {
        case MOE_ENCODE_AUTO:
            return true;
        case MOE_ENCODE_NUMERIC:
            return storage == MOE_STORE_NUMBER || storage == MOE_STORE_BOOL || storage == MOE_STORE_TIME;
        case MOE_ENCODE_CATEGORY:
            return storage != MOE_STORE_VECTOR;
        case MOE_ENCODE_TIME:
            return storage == MOE_STORE_TIME;
        case MOE_ENCODE_BOOL:
            return storage == MOE_STORE_BOOL || storage == MOE_STORE_NUMBER;
        case MOE_ENCODE_TEXT:
            return storage == MOE_STORE_STRING;
        case MOE_ENCODE_VECTOR:
            return storage == MOE_STORE_VECTOR;
    }
    return false;
}

/* Decide by storage. */
static moe_code
fit_auto(const fitting *fit)
{
    switch (fit->column->storage)
    {
        case MOE_STORE_NUMBER:
            return fit_auto_number(fit);
        case MOE_STORE_BOOL:
            fit->spec->parts |= MOE_PART_BOOL;
            return MOE_OK;
        case MOE_STORE_TIME:
            fit_time(fit);
            return MOE_OK;
        case MOE_STORE_STRING:
            return fit_auto_string(fit);
        default:
            return fit_vector(fit);
    }
}

static moe_code
fit_encoding(const fitting *fit)
{
    switch (fit->column->encoding)
    {
        case MOE_ENCODE_NUMERIC:
            return fit_numeric(fit, true);
        case MOE_ENCODE_CATEGORY:
            return fit_declared_category(fit);
        case MOE_ENCODE_BOOL:
            fit->spec->parts |= MOE_PART_BOOL;
            return MOE_OK;
        case MOE_ENCODE_TEXT:
            fit->spec->parts |= MOE_PART_TEXT;
            return MOE_OK;
        default: /* of one storage only, which encodes so by itself */
            return fit_auto(fit);
    }
}

/* Whether two rows, neither missing, show the same value. */
static bool
rows_equal(const moe_column *column, int64_t a, int64_t b)
{
    int64_t length = 0;
    size_t size = column->storage == MOE_STORE_VECTOR ? sizeof(float) : 1;
    const char *bytes = column->storage == MOE_STORE_VECTOR ? (const char *) column->items : column->bytes;

    if (column->storage == MOE_STORE_TIME)
        return column->time[a] == column->time[b];
    if (column->storage == MOE_STORE_NUMBER || column->storage == MOE_STORE_BOOL)
        return column->number[a] == column->number[b];
    length = column->offset[a + 1] - column->offset[a];
    return length == column->offset[b + 1] - column->offset[b] &&
           (length == 0 ||
            memcmp(bytes + column->offset[a] * size, bytes + column->offset[b] * size, length * size) == 0);
}

/* Whether there is anything to learn from; sets spec->missing. */
static moe_ignored
judge(const fitting *fit)
{
    int64_t first = -1, nulls = 0;
    bool varies = false;

    if (fit->n == 0)
        return MOE_IGNORED_NO_ROWS;
    for (int64_t row = 0; row < fit->n; row++)
        if (moe_column_missing(fit->column, row))
            nulls++;
        else if (first < 0)
            first = row;
        else if (!varies)
            varies = !rows_equal(fit->column, first, row);
    if (nulls == fit->n)
        return MOE_IGNORED_ALL_NULL;
    fit->spec->missing = nulls > 0 || fit->column->hidden_bit >= 0;
    return varies || fit->spec->missing ? MOE_USED : MOE_IGNORED_CONSTANT;
}

static moe_code
fit_column(const fitting *fit)
{
    const moe_column *column = fit->column;

    if (column->storage > MOE_STORE_VECTOR || column->hidden_bit < -1 || column->hidden_bit > 7)
        return moe_fail(fit->job, MOE_INVALID, "column \"%s\" of table \"%s\" is not described properly", column->name,
                        fit->table->name);
    if (!encoding_fits(column->storage, column->encoding))
        return moe_fail(fit->job, MOE_INVALID, "column \"%s\" of table \"%s\" cannot be encoded as %s", column->name,
                        fit->table->name, encoding_name(column->encoding));
    fit->spec->storage = column->storage;
    fit->spec->ignored = judge(fit);
    if (fit->spec->ignored == MOE_USED && fit_encoding(fit) != MOE_OK)
        return moe_job_code(fit->job);
    return moe_job_check(fit->job);
}

/* Mark the buckets a column's fit rows fall into; returns how many are marked now, enough to need all room ends it. */
static int
mark_buckets(moe_job *job, const moe_spec *spec, const moe_column *column, int64_t n, uint8_t *used, int n_used)
{
    uint64_t hash[MOE_BAG_MAX];

    for (int64_t row = 0; row < n && 4 * n_used <= MOE_HASH_BUCKETS_MAX; row++)
    {
        int k = moe_spec_bag(spec, column, row, hash);

        for (int i = 0; i < k; i++)
        {
            uint8_t *bucket = &used[hash[i] & (MOE_HASH_BUCKETS_MAX - 1)];

            n_used += !*bucket;
            *bucket = 1;
        }
        if (row % 65536 == 0 && moe_job_check(job) != MOE_OK)
            break;
    }
    return n_used;
}

/*
 * Size the shared hash table: twice the buckets that the fit rows use, as a
 * power of two, so that a small database does not train a large table.
 */
static moe_code
fit_buckets(moe_features *features, const moe_table *tables, const int64_t *fit_rows)
{
    uint8_t *used = moe_alloc(features->job, MOE_HASH_BUCKETS_MAX, 1);
    bool needed = false;
    int n = 0;

    if (!used)
        return moe_job_code(features->job);
    for (int t = 0; t < features->n_tables; t++)
        for (int c = 0; c < features->tables[t].n_columns; c++)
        {
            const moe_spec *spec = &features->tables[t].columns[c];

            if (!(spec->parts & MOE_PARTS_BAG))
                continue;
            needed = true;
            n = mark_buckets(features->job, spec, &tables[t].columns[c], fit_rows[t], used, n);
        }
    features->buckets = needed ? MOE_HASH_BUCKETS_MIN : 0;
    while (needed && features->buckets < 2 * n && features->buckets < MOE_HASH_BUCKETS_MAX)
        features->buckets *= 2;
    moe_free(features->job, used);
    return moe_job_check(features->job);
}

static moe_code
fit_table(moe_job *job, const moe_table *source, int64_t fit_rows, moe_features_table *table)
{
    if (source->n_rows < 0 || source->n_rows >= INT32_MAX || fit_rows < 0 || fit_rows > source->n_rows ||
        source->n_columns < 0)
        return moe_fail(job, MOE_INVALID, "table \"%s\" cannot be fitted to %lld of its %lld rows", source->name,
                        (long long) fit_rows, (long long) source->n_rows);
    if (!(table->columns = moe_alloc(job, source->n_columns, sizeof(*table->columns))))
        return moe_job_code(job);
    table->n_columns = source->n_columns;
    for (int c = 0; c < source->n_columns; c++)
    {
        fitting fit = {job, source, &source->columns[c], fit_rows, &table->columns[c]};

        if (fit_column(&fit) != MOE_OK)
            return moe_job_code(job);
    }
    return MOE_OK;
}

moe_code
moe_features_fit(moe_job *job, const moe_table *tables, int n_tables, const int64_t *fit_rows, moe_features **out)
{
    moe_features *features = moe_features_create(job, n_tables);
    moe_code code = features ? MOE_OK : moe_job_code(job);

    *out = NULL;
    for (int t = 0; t < n_tables && code == MOE_OK; t++)
        code = fit_table(job, &tables[t], fit_rows[t], &features->tables[t]);
    if (code == MOE_OK)
        code = moe_features_layout(features);
    if (code == MOE_OK)
        code = fit_buckets(features, tables, fit_rows);
    if (code == MOE_OK)
        *out = features;
    else
        moe_features_destroy(features);
    return code;
}

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
#include "embed/features_measure.h"
#include "embed/spec.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CATEGORY_RARE 4
#define CATEGORY_FEW  1000
#define CATEGORY_MANY 4096
#define REPEATS       2      /* mean occurrences from which values count as repeating */
#define SAMPLE        131072 /* values quantiles are taken from */
#define HEAVY_TAIL    8.0    /* spreads from the median to an extreme that ask for the logarithm */

#define MARK_ROWS  1048576
#define MARK_GRAIN 8192

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

/* 1 / deviation, 0 where values do not vary. */
static double
inverse_of(double deviation, double mean)
{
    return deviation > TINY && deviation > 1e-12 * fabs(mean) ? 1 / deviation : 0;
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

static moe_code
fit_numeric(const fitting *fit, bool bins)
{
    moe_scaling *scaling = &fit->spec->scaling;
    int64_t n_sample = 0;
    double *sample = moe_measure_sample(fit->job, fit->column, fit->n, SAMPLE, &n_sample);
    double mean, deviation;

    fit->spec->parts |= MOE_PART_NUMERIC;
    if (sample && moe_measure_moments(fit->job, fit->column, fit->n, NULL, &mean, &deviation) == MOE_OK)
    {
        qsort(sample, n_sample, sizeof(*sample), compare_doubles);
        fit_tails(scaling, sample, n_sample, inverse_of(deviation, mean) > 0 ? deviation : 0);
        if (bins)
            fit_bins(scaling, sample, n_sample);
        if (scaling->log)
            moe_measure_moments(fit->job, fit->column, fit->n, scaling, &mean, &deviation);
        scaling->mean = mean;
        scaling->inverse = inverse_of(deviation, mean);
    }
    moe_free(fit->job, sample);
    return moe_job_code(fit->job);
}

static moe_code
fit_time(const fitting *fit)
{
    moe_spec *spec = fit->spec;

    spec->parts |= MOE_PART_TIME;
    return moe_measure_times(fit->job, fit->column, fit->n, &spec->time_low, &spec->time_high, &spec->time_components);
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

/* A category of more values than any dictionary takes. */
static moe_code
fit_hashed(const fitting *fit, int64_t n_distinct)
{
    fit->spec->n_distinct = n_distinct;
    fit->spec->parts |= MOE_PART_HASHED;
    return MOE_OK;
}

static moe_code
fit_declared_category(const fitting *fit)
{
    int64_t total, distinct;
    moe_tally tally;

    if (moe_tally_column(fit->job, fit->column, fit->n, CATEGORY_MANY, &tally) != MOE_OK)
        return moe_job_code(fit->job);
    if (!tally.overflow)
        fit_category(fit, &tally, false);
    else if (moe_count_distinct(fit->job, fit->column, fit->n, &total, &distinct) == MOE_OK)
        fit_hashed(fit, distinct);
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
    int64_t total, distinct;
    moe_tally tally;

    if (moe_tally_column(fit->job, fit->column, fit->n, CATEGORY_MANY, &tally) != MOE_OK)
        return moe_job_code(fit->job);
    total = tally.total;
    distinct = tally.n;
    if (tally.overflow && moe_count_distinct(fit->job, fit->column, fit->n, &total, &distinct) != MOE_OK)
        return moe_job_code(fit->job);
    if (!tally.overflow && tally.rarest > CATEGORY_RARE)
        fit_category(fit, &tally, false);
    else if (total < REPEATS * distinct)
        fit->spec->parts |= MOE_PART_TEXT;
    else if (tally.overflow)
        fit_hashed(fit, distinct);
    else
        fit_category(fit, &tally, tally.n > CATEGORY_FEW);
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
            return fit_time(fit);
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

/* Whether there is anything to learn from; sets spec->missing. */
static moe_ignored
judge(const fitting *fit)
{
    moe_measured measured;

    if (fit->n == 0 || moe_measure_presence(fit->job, fit->column, fit->n, &measured) != MOE_OK)
        return MOE_IGNORED_NO_ROWS;
    if (measured.first < 0)
        return MOE_IGNORED_ALL_NULL;
    fit->spec->missing = measured.missing > 0 || fit->column->hidden_bit >= 0;
    return measured.varies || fit->spec->missing ? MOE_USED : MOE_IGNORED_CONSTANT;
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

typedef struct marking
{
    const moe_spec *spec;
    const moe_column *column;
    int64_t first;
    _Atomic uint8_t *used;
} marking;

static void
mark_rows(int64_t begin, int64_t end, void *arg)
{
    const marking *m = arg;
    uint64_t hash[MOE_BAG_MAX];

    for (int64_t row = m->first + begin; row < m->first + end; row++)
    {
        int k = moe_spec_bag(m->spec, m->column, row, hash);

        for (int i = 0; i < k; i++)
            atomic_store_explicit(&m->used[hash[i] & (MOE_HASH_BUCKETS_MAX - 1)], 1, memory_order_relaxed);
    }
}

static int
count_marks(const marking *m)
{
    int n = 0;

    for (int i = 0; i < MOE_HASH_BUCKETS_MAX; i++)
        n += m->used[i];
    return n;
}

/* Mark the buckets a column's fit rows fall into; enough to need all room ends it. Returns how many are marked now. */
static int
mark_buckets(moe_job *job, marking *m, int64_t n)
{
    int n_used = count_marks(m);

    for (m->first = 0; m->first < n && 4 * n_used <= MOE_HASH_BUCKETS_MAX; m->first += MARK_ROWS)
    {
        moe_parallel(job, n - m->first < MARK_ROWS ? n - m->first : MARK_ROWS, MARK_GRAIN, mark_rows, m);
        n_used = count_marks(m);
        if (moe_job_check(job) != MOE_OK)
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
    _Atomic uint8_t *used = moe_alloc(features->job, MOE_HASH_BUCKETS_MAX, 1);
    bool needed = false;
    int n = 0;

    if (!used)
        return moe_job_code(features->job);
    for (int t = 0; t < features->n_tables; t++)
        for (int c = 0; c < features->tables[t].n_columns; c++)
        {
            marking m = {&features->tables[t].columns[c], &tables[t].columns[c], 0, used};

            if (!(m.spec->parts & MOE_PARTS_BAG))
                continue;
            needed = true;
            n = mark_buckets(features->job, &m, fit_rows[t]);
        }
    features->buckets = needed ? MOE_HASH_BUCKETS_MIN : 0;
    while (needed && features->buckets < 2 * n && features->buckets < MOE_HASH_BUCKETS_MAX)
        features->buckets *= 2;
    moe_free(features->job, (void *) used);
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

/*
 * aggregates_fit.c: what is worth aggregating of each column, decided from the fit rows alone.
 *
 *   NUMBER, BOOL  the number, unless declared a category
 *   STRING        frequent codes, unless declared text
 *   integral      frequent codes too, where declared a category or frequent enough to look like one
 *   TIME          days from the row time (in streams), days to the seed time (of own rows)
 *   any           whether it is NULL, if some fit rows are and some are not
 * What does not vary in the fit rows is left out. A frequent code is one of
 * the MOE_AGG_CODES most frequent ones that occurs twice and in one of
 * CODE_SHARE fit rows (of an undeclared integer, of NUMBER_SHARE: ranks and
 * quantities, of which each occurs now and then, are no codes); of a column of
 * two values, only the more frequent one.
 */
#include "embed/aggregates_plan.h"

#include <stdlib.h>
#include <string.h>

#define CODE_SHARE   100 /* one in so many rows */
#define NUMBER_SHARE 20
#define POLL         65536

typedef struct measured
{
    int64_t nulls;
    bool number_varies; /* or the time */
    bool days_vary;
} measured;

/* The value and, of a time, its distance from the row time, for telling whether they vary. */
static double
days_of(const moe_column *column, const moe_row_times *times, int64_t row)
{
    int64_t time = moe_agg_row_time(times, row);

    return time == MOE_TIME_ALWAYS ? NAN : moe_agg_days(time, column->time[row]);
}

static moe_code
measure(moe_job *job, const moe_column *column, const moe_row_times *times, int64_t n, measured *m)
{
    bool numeric = column->storage == MOE_STORE_NUMBER || column->storage == MOE_STORE_BOOL;
    int64_t first = -1;
    double first_days = NAN;

    *m = (measured){0};
    for (int64_t row = 0; row < n; row++)
    {
        if (row % POLL == 0 && moe_job_check(job) != MOE_OK)
            return moe_job_code(job);
        if (moe_agg_missing(column, row))
        {
            m->nulls++;
            continue;
        }
        first = first < 0 ? row : first;
        if (numeric)
            m->number_varies |= column->number[row] != column->number[first];
        else if (column->storage == MOE_STORE_TIME)
        {
            double days = days_of(column, times, row);

            m->number_varies |= column->time[row] != column->time[first];
            m->days_vary |= days != first_days && !isnan(days) && !isnan(first_days);
            first_days = isnan(first_days) ? days : first_days;
        }
    }
    return MOE_OK;
}

typedef struct frequent
{
    int64_t count;
    int32_t row;
} frequent;

static int
more_frequent(const void *left, const void *right)
{
    const frequent *a = left, *b = right;

    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

/* Keep the most frequent of the tally's values alone. */
static moe_code
keep_frequent(moe_job *job, moe_tally *tally, int64_t n, int64_t share)
{
    frequent *all = moe_alloc(job, tally->n, sizeof(*all));
    int64_t most = tally->n == 2 ? 1 : MOE_AGG_CODES;
    int64_t kept = 0;

    if (!all)
        return moe_job_code(job);
    for (int64_t i = 0; i < tally->n; i++)
        all[i] = (frequent){tally->count[i], tally->row[i]};
    qsort(all, (size_t) tally->n, sizeof(*all), more_frequent);
    for (; kept < tally->n && kept < most && all[kept].count >= 2 && all[kept].count >= n / share + (n % share > 0);
         kept++)
    {
        tally->row[kept] = all[kept].row;
        tally->count[kept] = all[kept].count;
    }
    tally->n = kept;
    moe_free(job, all);
    return MOE_OK;
}

static moe_code
fit_codes(moe_job *job, const moe_column *column, int64_t n, moe_agg_field *field)
{
    bool number = column->storage == MOE_STORE_NUMBER && column->encoding != MOE_ENCODE_CATEGORY;
    moe_tally tally;

    if (moe_tally_column(job, column, n, MOE_TALLY_MAX, &tally) != MOE_OK)
        return moe_job_code(job);
    if (!tally.overflow && tally.n >= 2 &&
        keep_frequent(job, &tally, n, number ? NUMBER_SHARE : CODE_SHARE) == MOE_OK && tally.n > 0)
    {
        field->kinds |= 1 << MOE_AGG_CODE;
        moe_dictionary_build(job, column, &tally, 0, &field->codes);
    }
    moe_tally_free(job, &tally);
    return moe_job_code(job);
}

/* Whether a column is to be looked through for frequent values. */
static bool
may_have_codes(const moe_column *column)
{
    if (column->storage == MOE_STORE_STRING)
        return column->encoding != MOE_ENCODE_TEXT;
    if (column->storage != MOE_STORE_NUMBER)
        return false;
    return column->encoding == MOE_ENCODE_CATEGORY || (column->integral && column->encoding == MOE_ENCODE_AUTO);
}

/* Of an undeclared number of two values, the code would say what the number says. */
static bool
is_binary(moe_job *job, const moe_column *column, int64_t n)
{
    moe_tally tally;
    bool binary;

    if (column->encoding == MOE_ENCODE_CATEGORY || column->storage != MOE_STORE_NUMBER)
        return false;
    if (moe_tally_column(job, column, n, 2, &tally) != MOE_OK)
        return false;
    binary = !tally.overflow;
    moe_tally_free(job, &tally);
    return binary;
}

static moe_code
fit_field(moe_job *job, const moe_column *column, const moe_row_times *times, int64_t n, moe_agg_field *field)
{
    measured m;

    if (measure(job, column, times, n, &m) != MOE_OK)
        return moe_job_code(job);
    if (m.nulls < n && (m.nulls > 0 || column->hidden_bit >= 0))
        field->kinds |= 1 << MOE_AGG_MISSING;
    if (column->storage == MOE_STORE_TIME)
        field->kinds |= (m.number_varies ? 1 << MOE_AGG_DATE : 0) | (m.days_vary ? 1 << MOE_AGG_DAYS : 0);
    else if (m.number_varies && column->encoding != MOE_ENCODE_CATEGORY)
        field->kinds |= 1 << MOE_AGG_NUMBER;
    if (m.nulls == n || !may_have_codes(column) || is_binary(job, column, n))
        return moe_job_code(job);
    return fit_codes(job, column, n, field);
}

static char *
copy_name(moe_job *job, const char *name)
{
    size_t length = name ? strlen(name) : 0;
    char *copy = moe_alloc(job, (int64_t) length + 1, 1);

    if (copy && length > 0)
        memcpy(copy, name, length);
    return copy;
}

static moe_code
fit_table(moe_job *job, const moe_table *source, const moe_row_times *times, int64_t n, moe_agg_table *table)
{
    if (source->n_rows < 0 || source->n_rows >= INT32_MAX || n < 0 || n > source->n_rows || source->n_columns < 0)
        return moe_fail(job, MOE_INVALID, "table \"%s\" cannot be fitted to %lld of its %lld rows", source->name,
                        (long long) n, (long long) source->n_rows);
    table->name = copy_name(job, source->name);
    table->timed = times->time != NULL;
    table->filled = n > 0;
    if (!table->name || !(table->fields = moe_alloc(job, source->n_columns, sizeof(*table->fields))))
        return moe_job_code(job);
    table->n_fields = source->n_columns;
    for (int c = 0; c < source->n_columns; c++)
    {
        const moe_column *column = &source->columns[c];
        moe_agg_field *field = &table->fields[c];

        if (column->storage > MOE_STORE_VECTOR || column->hidden_bit < -1 || column->hidden_bit >= times->n_hidden)
            return moe_fail(job, MOE_INVALID, "column \"%s\" of table \"%s\" is not described properly", column->name,
                            source->name);
        field->storage = column->storage;
        field->hidden_bit = column->hidden_bit;
        if (!(field->name = copy_name(job, column->name)) || fit_field(job, column, times, n, field) != MOE_OK)
            return moe_job_code(job);
    }
    return MOE_OK;
}

static moe_code
fit_keys(moe_job *job, const moe_relational *db, moe_aggregates *a)
{
    for (int k = 0; k < db->n_relations; k++)
    {
        const moe_relation *relation = &db->relations[k];

        if (relation->child < 0 || relation->child >= db->n_tables || relation->parent < 0 ||
            relation->parent >= db->n_tables)
            return moe_fail(job, MOE_INVALID, "relation %d is between tables that are not there", k);
        a->keys[k].child = relation->child;
        a->keys[k].parent = relation->parent;
        if (!(a->keys[k].name = copy_name(job, relation->name)))
            return moe_job_code(job);
    }
    return MOE_OK;
}

static moe_code
check_request(moe_job *job, const moe_relational *db, int entity, int64_t window, int max_columns)
{
    if (entity < 0 || entity >= db->n_tables)
        return moe_fail(job, MOE_INVALID, "there is no table %d to aggregate for", entity);
    if (db->n_relations < 0 || db->n_relations > MOE_AGG_KEYS_MAX)
        return moe_fail(job, MOE_INVALID, "aggregates are over at most %d foreign keys, not %d", MOE_AGG_KEYS_MAX,
                        db->n_relations);
    if (window < 0 || max_columns < 0 || max_columns > INT16_MAX)
        return moe_fail(job, MOE_INVALID, "aggregates over windows of %lld microseconds in %d columns make no sense",
                        (long long) window, max_columns);
    return MOE_OK;
}

moe_code
moe_aggregates_fit(moe_job *job, const moe_relational *db, int entity, const int64_t *fit_rows, int64_t window,
                   int max_columns, moe_aggregates **out)
{
    moe_aggregates *a;

    *out = NULL;
    if (check_request(job, db, entity, window, max_columns) != MOE_OK)
        return moe_job_code(job);
    if (!(a = moe_agg_create(job, db->n_tables, db->n_relations)))
        return moe_job_code(job);
    a->entity = entity;
    a->window = window > 0 ? window : MOE_AGG_DAY;
    a->max_columns = max_columns;
    for (int t = 0; t < db->n_tables && moe_job_check(job) == MOE_OK; t++)
        fit_table(job, &db->tables[t], &db->times[t], fit_rows[t], &a->tables[t]);
    if (moe_job_check(job) == MOE_OK && fit_keys(job, db, a) == MOE_OK && moe_agg_layout(a) == MOE_OK)
        *out = a;
    else
        moe_aggregates_destroy(a);
    return moe_job_code(job);
}

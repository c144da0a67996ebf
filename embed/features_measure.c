/*
 * features_measure.c: passes over the rows of one column.
 *
 * Rows are cut into chunks of a fixed size; every chunk leaves its part of the
 * result in a place of its own, and the parts are put together in order. So a
 * table of any size is read by all threads, a sum has the same bits for any
 * number of them, and no column is copied to be measured.
 */
#include "embed/features_measure.h"

#include <math.h>
#include <string.h>

#define CHUNK 65536

/* What one chunk found. */
typedef struct part
{
    int64_t count;
    double sum;
    int64_t low, high;
    int varying;
} part;

typedef struct pass
{
    const moe_column *column;
    int64_t first; /* row to compare with */
    const moe_scaling *scaling;
    double mean;
    int first_component[MOE_TIME_COMPONENTS];
    double *sample;
    int64_t stride;
    part *parts;
} pass;

/* Run a pass over all chunks; the parts are the caller's to free. */
static moe_code
run(moe_job *job, pass *p, int64_t n, moe_range_fn fn)
{
    if (!p->parts && !(p->parts = moe_alloc(job, (n + CHUNK - 1) / CHUNK, sizeof(*p->parts))))
        return moe_job_code(job);
    moe_parallel(job, n, CHUNK, fn, p);
    return moe_job_check(job);
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

/* count: missing rows; varying: whether a value differs from the first row's. */
static void
look(int64_t begin, int64_t end, void *arg)
{
    const pass *p = arg;
    part *out = &p->parts[begin / CHUNK];

    for (int64_t row = begin; row < end; row++)
        if (moe_column_missing(p->column, row))
            out->count++;
        else if (!out->varying)
            out->varying = !rows_equal(p->column, p->first, row);
}

moe_code
moe_measure_presence(moe_job *job, const moe_column *column, int64_t n, moe_measured *out)
{
    pass p = {.column = column};

    *out = (moe_measured){.first = -1, .missing = n};
    while (p.first < n && moe_column_missing(column, p.first))
        p.first++;
    if (p.first == n)
        return MOE_OK;
    out->first = p.first;
    out->missing = 0;
    if (run(job, &p, n, look) == MOE_OK)
        for (int64_t c = 0; c * CHUNK < n; c++)
        {
            out->missing += p.parts[c].count;
            out->varies |= p.parts[c].varying != 0;
        }
    moe_free(job, p.parts);
    return moe_job_code(job);
}

static inline double
value_of(const pass *p, int64_t row)
{
    double value = moe_column_number(p->column, row);

    return p->scaling ? moe_log_scale(p->scaling, value) : value;
}

static void
add_values(int64_t begin, int64_t end, void *arg)
{
    const pass *p = arg;
    part *out = &p->parts[begin / CHUNK];

    out->count = 0;
    out->sum = 0;
    for (int64_t row = begin; row < end; row++)
        if (!moe_column_missing(p->column, row))
        {
            out->sum += value_of(p, row);
            out->count++;
        }
}

static void
add_squares(int64_t begin, int64_t end, void *arg)
{
    const pass *p = arg;
    part *out = &p->parts[begin / CHUNK];

    out->sum = 0;
    for (int64_t row = begin; row < end; row++)
        if (!moe_column_missing(p->column, row))
        {
            double distance = value_of(p, row) - p->mean;

            out->sum += distance * distance;
        }
}

/* The parts' sums and counts, in order. */
static double
total(const pass *p, int64_t n, int64_t *count)
{
    double sum = 0;

    *count = 0;
    for (int64_t c = 0; c * CHUNK < n; c++)
    {
        sum += p->parts[c].sum;
        *count += p->parts[c].count;
    }
    return sum;
}

moe_code
moe_measure_moments(moe_job *job, const moe_column *column, int64_t n, const moe_scaling *scaling, double *mean,
                    double *deviation)
{
    pass p = {.column = column, .scaling = scaling};
    int64_t count;

    *mean = *deviation = 0;
    if (run(job, &p, n, add_values) == MOE_OK)
    {
        double sum = total(&p, n, &count);

        p.mean = *mean = count > 0 ? sum / (double) count : 0;
        run(job, &p, n, add_squares);
        *deviation = count > 0 ? sqrt(total(&p, n, &count) / (double) count) : 0;
    }
    moe_free(job, p.parts);
    return moe_job_code(job);
}

static void
count_values(int64_t begin, int64_t end, void *arg)
{
    const pass *p = arg;
    part *out = &p->parts[begin / CHUNK];

    for (int64_t row = begin; row < end; row++)
        out->count += !moe_column_missing(p->column, row);
}

/* Take every stride-th value; low: how many come before the chunk. */
static void
take_values(int64_t begin, int64_t end, void *arg)
{
    const pass *p = arg;
    int64_t at = p->parts[begin / CHUNK].low;

    for (int64_t row = begin; row < end; row++)
    {
        if (moe_column_missing(p->column, row))
            continue;
        if (at % p->stride == 0)
            p->sample[at / p->stride] = moe_column_number(p->column, row);
        at++;
    }
}

double *
moe_measure_sample(moe_job *job, const moe_column *column, int64_t n, int64_t limit, int64_t *n_sample)
{
    pass p = {.column = column};
    int64_t count = 0;

    *n_sample = 0;
    if (run(job, &p, n, count_values) == MOE_OK)
    {
        for (int64_t c = 0; c * CHUNK < n; c++)
        {
            p.parts[c].low = count;
            count += p.parts[c].count;
        }
        p.stride = count > limit ? (count + limit - 1) / limit : 1;
        *n_sample = (count + p.stride - 1) / p.stride;
        if ((p.sample = moe_alloc(job, *n_sample, sizeof(*p.sample))))
            run(job, &p, n, take_values);
    }
    moe_free(job, p.parts);
    return p.sample;
}

static void
look_at_times(int64_t begin, int64_t end, void *arg)
{
    const pass *p = arg;
    part *out = &p->parts[begin / CHUNK];
    int component[MOE_TIME_COMPONENTS];

    out->low = INT64_MAX;
    out->high = INT64_MIN;
    for (int64_t row = begin; row < end; row++)
    {
        int64_t time = p->column->time[row];

        if (moe_column_missing(p->column, row))
            continue;
        out->low = time < out->low ? time : out->low;
        out->high = time > out->high ? time : out->high;
        moe_time_components(time, component);
        for (int i = 0; i < MOE_TIME_COMPONENTS; i++)
            out->varying |= (component[i] != p->first_component[i]) << i;
    }
}

moe_code
moe_measure_times(moe_job *job, const moe_column *column, int64_t n, int64_t *low, int64_t *high, int *varying)
{
    pass p = {.column = column};

    *low = *high = 0;
    *varying = 0;
    while (p.first < n && moe_column_missing(column, p.first))
        p.first++;
    if (p.first == n)
        return MOE_OK;
    *low = *high = column->time[p.first];
    moe_time_components(*low, p.first_component);
    if (run(job, &p, n, look_at_times) == MOE_OK)
        for (int64_t c = 0; c * CHUNK < n; c++)
        {
            *low = p.parts[c].low < *low ? p.parts[c].low : *low;
            *high = p.parts[c].high > *high ? p.parts[c].high : *high;
            *varying |= p.parts[c].varying;
        }
    moe_free(job, p.parts);
    return moe_job_code(job);
}
